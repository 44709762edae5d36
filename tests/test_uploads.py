"""Pictures come in one way: looked at first, under a key of ours, known to their owner whatever happens in between."""

import io
from pathlib import PurePosixPath
from uuid import UUID

import numpy as np
import pytest
from PIL import Image

from pipeline import renditions, uploads
from pipeline.context import Context
from pipeline.errors import BadImage
from pipeline.events import ImageEvent
from pipeline.ingest import accept, sweep
from pipeline.samples import cover_jpeg
from pipeline.sources import Batch
from pipeline.sources.local import LocalFile
from pipeline.stores.catalog import Document
from pipeline.uploads import Given, clean_name, take_in, take_in_all

ANN, BOB = Given("ann"), Given("bob")


def stored(context: Context) -> dict[str, bytes]:
    bucket = context.settings.require("s3_bucket")
    return {one.key: context.objects.get(bucket, one.key) for page in context.objects.pages(bucket) for one in page}


def document(context: Context, one: UUID) -> Document:
    return context.catalog.find([one])[one]


def test_an_upload_is_stored_under_our_name_and_described(context: Context) -> None:
    data = cover_jpeg(1)
    one = take_in(context, data, "C:\\photos\\my cat.png", Given("ann", " jazz ", private=True))
    found = document(context, one)
    [(key, content)] = stored(context).items()
    folder, name = key.split("/")
    assert (folder, content, found["key"]) == ("uploads", data, key)
    # By content, whatever it was called.
    assert UUID(name.removesuffix(".jpg"))
    facts = ("original_filename", "owner", "private", "labels", "status", "bytes", "format", "source")
    assert [found[fact] for fact in facts] == [
        *("my cat.png", "ann", True, ["jazz"]),
        *("pending", len(data), "JPEG", "upload"),
    ]
    assert (found["width"], found["height"]) == Image.open(io.BytesIO(data)).size
    bucket = context.settings.sleeve_bucket
    for kind in renditions.SIDES:
        assert context.objects.exists(bucket, f"renditions/{kind}/{one}.webp")


def test_the_same_picture_again_is_the_same_image_and_anothers_is_another(context: Context) -> None:
    one = take_in(context, cover_jpeg(1), "a.jpg", ANN)
    assert take_in(context, cover_jpeg(1), "b.jpg", Given("ann", "jazz")) == one
    other = take_in(context, cover_jpeg(1), "a.jpg", Given("bob", private=True))
    assert other != one
    assert context.catalog.images.count_documents({}) == 2
    assert (document(context, one)["owner"], document(context, one)["private"]) == ("ann", False)
    assert document(context, one)["labels"] == ["jazz"]
    assert (document(context, other)["owner"], document(context, other)["private"]) == ("bob", True)


@pytest.mark.parametrize("told_by", ["event", "sweep"])
def test_an_upload_that_is_killed_half_way_keeps_its_owner_and_its_secret(
    context: Context, told_by: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(uploads, "_register", lambda *_: 1 / 0)  # the process dies after the object was stored
        with pytest.raises(ZeroDivisionError):
            take_in(context, cover_jpeg(1), "a.jpg", Given("ann", private=True))
    bucket = context.settings.require("s3_bucket")
    [key] = stored(context)
    if told_by == "event":
        head = context.objects.head(bucket, key)
        assert head
        accept(context, Batch([ImageEvent(bucket, key, head.etag)]))
    else:
        list(sweep(context))
    [found] = context.catalog.images.find()
    assert (found["owner"], found["private"]) == ("ann", True)
    assert take_in(context, cover_jpeg(1), "a.jpg", Given("ann", private=True)) == found["_id"]


def test_what_its_owner_made_public_stays_public_when_the_bucket_tells_of_it_again(context: Context) -> None:
    one = take_in(context, cover_jpeg(1), "a.jpg", Given("ann", private=True))
    context.catalog.images.update_one({"_id": one}, {"$set": {"private": False}})
    found = document(context, one)
    accept(context, Batch([ImageEvent(found["bucket"], found["key"], found["version"])]))
    assert document(context, one)["private"] is False


def broken(kind: str) -> bytes:
    pixels = np.random.default_rng(1).integers(0, 255, (300, 300, 3), np.uint8)
    made = io.BytesIO()
    Image.fromarray(pixels).save(made, kind)
    return made.getvalue()[: made.tell() * 2 // 3]


def bomb() -> bytes:
    """A few kilobytes of PNG that decode to a gigabyte."""
    made = io.BytesIO()
    Image.new("1", (90_000, 90_000)).save(made, "PNG")
    return made.getvalue()


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (b"", "empty file"),
        (b"<html><script>alert(1)</script></html>", "not an image"),
        (b"GIF89a" + bytes(100), "GIF is not accepted; send JPEG, PNG or WebP"),
        (b"%PDF-1.7", "PDF is not accepted"),
        (b"<svg xmlns='http://www.w3.org/2000/svg' onload='alert(1)'/>", "not an image"),
        (broken("JPEG"), "truncated or damaged"),
        (broken("PNG"), "truncated or damaged"),
        (broken("WEBP"), "broken header"),
        (bomb(), "more than 50000000 pixels"),
    ],
    ids=["empty", "html", "gif", "pdf", "svg", "jpeg", "png", "webp", "bomb"],
)
def test_what_cannot_be_used_leaves_no_trace(context: Context, data: bytes, said: str) -> None:
    with pytest.raises(BadImage, match=said):
        take_in(context, data, "holiday.jpg", ANN)
    [(_, reason)] = take_in_all(context, [LocalFile(PurePosixPath("holiday.jpg"), lambda: data)], ANN)
    assert isinstance(reason, str)
    assert said in reason
    assert stored(context) == {}
    assert context.catalog.images.count_documents({}) == 0


def test_of_many_the_good_come_in_and_each_of_the_others_says_why(context: Context) -> None:
    files = [
        LocalFile(PurePosixPath("jazz/1.jpg"), lambda: cover_jpeg(1)),
        LocalFile(PurePosixPath("jazz/again.jpg"), lambda: cover_jpeg(1)),
        LocalFile(PurePosixPath("notes.jpg"), lambda: b"hello"),
        LocalFile(PurePosixPath("../2.jpg"), lambda: cover_jpeg(2), "its path leads out"),
        LocalFile(PurePosixPath("3.jpg"), lambda: cover_jpeg(3)),
    ]
    found = list(take_in_all(context, files, ANN))
    assert [file for file, _ in found] == files
    outcomes = [outcome for _, outcome in found]
    assert outcomes[0] == outcomes[1]
    assert outcomes[2:4] == ["not an image (JPEG, PNG or WebP expected)", "its path leads out"]
    assert {one["_id"]: one["labels"] for one in context.catalog.images.find()} == {
        outcomes[0]: ["jazz"],
        outcomes[4]: [],
    }
    [(_, one)] = take_in_all(context, files[:1], Given("bob", "blues"))
    assert document(context, one)["labels"] == ["blues"]


@pytest.mark.parametrize("killed_at", [None, "objects", "catalog"])
def test_what_is_removed_does_not_come_back(
    context: Context, killed_at: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    one, stays = (take_in(context, cover_jpeg(number), "a.jpg", ANN) for number in (1, 2))
    if killed_at:
        # The process dies before one of its writes; whoever asked still sees the image, and asks again.
        with monkeypatch.context() as patch:
            patch.setattr(getattr(context, killed_at), "delete", lambda *_: 1 / 0)
            with pytest.raises(ZeroDivisionError):
                uploads.remove(context, document(context, one), "ann")
        assert document(context, one)["status"] != "deleted"
    uploads.remove(context, document(context, one), "ann")
    list(sweep(context))
    assert (document(context, one)["status"], document(context, one)["reason"]) == ("deleted", "deleted by ann")
    assert list(stored(context)) == [document(context, stays)["key"]]
    bucket = context.settings.sleeve_bucket
    kept = [stored.key for page in context.objects.pages(bucket, "renditions/") for stored in page]
    assert all(str(stays) in key for key in kept)
    assert len(kept) == 2
    # Unless its owner brings it back.
    assert take_in(context, cover_jpeg(1), "a.jpg", ANN) == one
    assert document(context, one)["status"] == "pending"


def test_removing_an_image_spares_what_replaced_it_in_the_bucket(context: Context) -> None:
    bucket = context.settings.require("s3_bucket")
    etags = []
    for number in (1, 2):
        etags.append(context.objects.put(bucket, "cover.jpg", cover_jpeg(number)))
        accept(context, Batch([ImageEvent(bucket, "cover.jpg", etags[-1])]))
    [old] = context.catalog.images.find({"version": etags[0]})
    uploads.remove(context, old, "ada")
    assert stored(context) == {"cover.jpg": cover_jpeg(2)}


@pytest.mark.parametrize(
    ("given", "kept"),
    [
        ("../../etc/passwd", "passwd"),
        ("C:\\photos\\cat.jpg", "cat.jpg"),
        ('<img src=x onerror="alert(1)">.jpg', '<img src=x onerror="alert(1)">.jpg'),
        ("a\r\nSet-Cookie: x=1\0.jpg", "aSet-Cookie: x=1.jpg"),
        ("gpj\u202e.exe", "gpj.exe"),
        ("猫 è.jpg", "猫 è.jpg"),
        ("x" * 500 + ".jpg", "x" * 196 + ".jpg"),
        ("\ud83d.jpg", ".jpg"),
        ("", None),
        ("a/", None),
        (None, None),
    ],
)
def test_of_a_file_name_only_what_people_can_see_is_kept(given: str | None, kept: str | None) -> None:
    assert clean_name(given) == kept

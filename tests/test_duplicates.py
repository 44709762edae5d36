"""Near-duplicates on real servers: what is grouped, what is not, and that groups follow the collection."""

import json
import random
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise
from uuid import UUID

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from pipeline import duplicates
from pipeline.context import Context
from pipeline.events import ImageEvent, image_id
from pipeline.ingest import accept
from pipeline.samples import cover, cover_jpeg, snapshot
from pipeline.samples.names import record
from pipeline.sources import Batch
from pipeline.stores.catalog import Catalog
from tests.steps import index_all
from tests.test_cli import sleeve

Pixels = NDArray[np.uint8]
Groups = set[frozenset[str]]


def jpeg(pixels: Pixels, quality: int = 85) -> bytes:
    return cv2.imencode(".jpg", pixels, [cv2.IMWRITE_JPEG_QUALITY, quality])[1].tobytes()


def trimmed(pixels: Pixels, share: float) -> Pixels:
    """Without `share` of the width at every side."""
    cut = round(share * pixels.shape[0])
    return pixels[cut:-cut, cut:-cut]


def add(context: Context, pictures: dict[str, bytes], label: str | None = None) -> dict[str, UUID]:
    """Put pictures into the bucket and make them searchable; returns their ids by name."""
    bucket, ids = context.settings.require("s3_bucket"), {}
    events = []
    for name, picture in pictures.items():
        etag = context.objects.put(bucket, name, picture, "image/jpeg")
        events.append(ImageEvent(bucket, name, etag=etag, label=label))
        ids[name] = image_id(bucket, name, etag)
    accept(context, Batch(events))
    index_all(context, "+".join(pictures)[:50])
    return ids


def find(context: Context) -> int:
    """A pass of the find_duplicates DAG; returns how many images were searched for."""
    done = [duplicates.compare(context, shard) for shard in duplicates.plan(context)]
    duplicates.regroup(context)
    return sum(counts["images"] for counts in done)


def groups(context: Context) -> Groups:
    """Groups as the file names of their images."""
    found = duplicates.every_group(context.catalog)
    return {frozenset(image["original_filename"] for image in group["images"]) for group in found}


def series() -> list[int]:
    """Covers of one series: the same logo and layout, other pictures and titles."""
    first = next(number for number in range(100, 500) if record(number).series is not None)
    same = record(first).series
    return [number for number in range(100, 2000) if record(number).series == same][:5]


def test_copies_are_grouped_and_what_only_shares_something_is_not(context: Context) -> None:
    pictures: dict[str, bytes] = {}
    copies = {
        "encoded": lambda pixels: jpeg(pixels, 40),
        "small": lambda pixels: jpeg(cv2.resize(pixels, (320, 320), interpolation=cv2.INTER_AREA)),
        "trimmed": lambda pixels: jpeg(trimmed(pixels, 0.03)),
        "mirrored": lambda pixels: jpeg(cv2.flip(pixels, 1)),
        "turned": lambda pixels: jpeg(cv2.flip(cv2.resize(pixels, (600, 600), interpolation=cv2.INTER_AREA), 1)),
    }
    expected: Groups = set()
    for number, names in enumerate(
        [["encoded"], ["small", "trimmed"], ["mirrored"], ["trimmed", "mirrored", "turned"]]
    ):
        of_cover = {f"{number}.jpg": cover_jpeg(number)}
        of_cover |= {f"{number}-{name}.jpg": copies[name](cover(number)) for name in names}
        pictures |= of_cover
        expected.add(frozenset(of_cover))
    # None of these is a copy of anything: other covers of a series, a quarter of a cover, a photo of one on a table,
    # one beside another, and two that share a margin.
    pictures |= {f"series-{number}.jpg": cover_jpeg(number) for number in series()}
    pictures |= {"lone.jpg": cover_jpeg(10), "quarter.jpg": jpeg(cover(10)[:400, :400])}
    pictures |= {"table.jpg": jpeg(snapshot(cover(10), 4)), "two.jpg": jpeg(np.hstack([cover(10), cover(11)]))}
    for number in (12, 13):
        pictures[f"margin-{number}.jpg"] = jpeg(np.hstack([cover(14)[:, :300], cover(number)[:, 300:]]))
    ids = add(context, pictures)
    assert find(context) == len(pictures)
    assert groups(context) == expected

    mirrored = [pair["mirrored"] for pair in context.catalog.pairs([ids["2.jpg"]])]
    assert mirrored == [True]
    [plain] = list(context.catalog.pairs([ids["0.jpg"]]))
    assert plain["images"] == sorted([ids["0.jpg"], ids["0-encoded.jpg"]])
    assert (plain["mirrored"], plain["inliers"] > 50, 0.5 <= plain["score"] <= 1) == (False, True, True)
    [document] = [one for one in context.catalog.members([min(plain["images"])]) if one["_id"] == ids["0.jpg"]]
    assert document["group"] == min(plain["images"])


def test_groups_grow_merge_and_shrink_with_the_collection(context: Context) -> None:
    # The left and the right of a cover have too little in common, but both are nearly the whole one.
    whole = cover(3)
    left, right = whole[:, :624], whole[:, 176:]
    ids = add(context, {"left.jpg": jpeg(left), "right.jpg": jpeg(right), "left-2.jpg": jpeg(left, 60)})
    assert find(context) == 3
    assert groups(context) == {frozenset({"left.jpg", "left-2.jpg"})}
    ids |= add(context, {"whole.jpg": jpeg(whole)})
    # Only what is new is searched for.
    assert find(context) == 1
    assert groups(context) == {frozenset({"left.jpg", "left-2.jpg", "right.jpg", "whole.jpg"})}
    assert {document["group"] for document in context.catalog.find(ids.values()).values()} == {min(ids.values())}

    context.catalog.delete([ids["whole.jpg"]], "test")
    # At once for whoever looks, and in two again after the next pass.
    assert groups(context) == {frozenset({"left.jpg", "left-2.jpg", "right.jpg"})}
    assert find(context) == 0
    assert groups(context) == {frozenset({"left.jpg", "left-2.jpg"})}
    context.catalog.delete([ids["left.jpg"]], "test")
    assert groups(context) == set()
    find(context)
    assert context.catalog.grouped() == {}
    assert list(context.catalog.pairs()) == []


def test_exact_copies_belong_to_the_group(context: Context) -> None:
    ids = add(context, {"a.jpg": cover_jpeg(1), "b.jpg": jpeg(cover(1), 50), "c.jpg": cover_jpeg(2)})
    ids |= add(context, {"a-again.jpg": cover_jpeg(1), "c-again.jpg": cover_jpeg(2)})
    find(context)
    assert groups(context) == {frozenset({"a.jpg", "b.jpg", "a-again.jpg"}), frozenset({"c.jpg", "c-again.jpg"})}
    # Without the original, its copy is one.
    context.catalog.delete([ids["a.jpg"]], "test")
    index_all(context, "after")
    assert find(context) == 1
    assert groups(context) == {frozenset({"b.jpg", "a-again.jpg"}), frozenset({"c.jpg", "c-again.jpg"})}


def test_killed_anywhere_and_repeated_it_says_the_same(context: Context, monkeypatch: pytest.MonkeyPatch) -> None:
    pictures = {f"{number}-{quality}.jpg": jpeg(cover(number), quality) for number in range(3) for quality in (90, 60)}
    add(context, pictures)
    monkeypatch.setattr(duplicates, "BATCH", 1)
    expected = {frozenset({f"{number}-90.jpg", f"{number}-60.jpg"}) for number in range(3)}
    searched = duplicates._pairs
    for steps in range(len(pictures)):
        left = [steps]

        def dying(*arguments: object, left: list[int] = left) -> Iterator[dict]:
            if left[0] == 0:
                raise KeyboardInterrupt
            left[0] -= 1
            return searched(*arguments)

        monkeypatch.setattr(duplicates, "_pairs", dying)
        context.catalog.compare_again()
        with pytest.raises(KeyboardInterrupt):
            find(context)
        monkeypatch.setattr(duplicates, "_pairs", searched)
        # What was done before stays done.
        assert find(context) == len(pictures) - steps
        assert groups(context) == expected


def test_an_image_whose_pairs_were_not_stored_is_searched_for_again(
    context: Context, monkeypatch: pytest.MonkeyPatch
) -> None:
    add(context, {"a.jpg": cover_jpeg(1), "b.jpg": jpeg(cover(1), 50)})

    def away(*_: object, **__: object) -> None:
        raise ConnectionError

    with monkeypatch.context() as broken:
        broken.setattr(context.catalog._pairs, "bulk_write", away)
        with pytest.raises(ConnectionError):
            find(context)
    assert find(context) == 2
    assert groups(context) == {frozenset({"a.jpg", "b.jpg"})}


def test_shards_share_all_images_among_them(
    catalog: Catalog, context: Context, monkeypatch: pytest.MonkeyPatch
) -> None:
    events = [ImageEvent("b", str(number), etag="e") for number in range(40)]
    catalog.register(events)
    catalog.images.update_many({}, {"$set": {"status": "indexed"}})
    every = [image_id("b", event.key, "e") for event in events]
    monkeypatch.setattr(duplicates, "SHARD_IMAGES", 4)
    shards = duplicates.plan(context)
    assert len(shards) == 10
    in_shards = [one for shard in shards for one in catalog.to_compare(*duplicates._ids(shard))]
    assert sorted(in_shards) == sorted(every)
    catalog.compared([], every[:35])
    assert len(duplicates.plan(context)) == 2
    monkeypatch.setattr(duplicates, "MAX_SHARDS", 1)
    assert duplicates.plan(context) == [{"shard": 0, "of": 1}]
    # What an index loses and gets again is compared again.
    catalog.images.update_one({"_id": every[0]}, {"$set": {"status": "featured", "segment": "s"}})
    catalog.indexed(["s"])
    assert every[0] in catalog.to_compare(UUID(int=0), UUID(int=(1 << 128) - 1))


def linked(catalog: Catalog, links: list[tuple[UUID, UUID]]) -> None:
    pairs = [
        {"images": sorted(pair), "score": 0.9, "inliers": 50, "mirrored": False} for pair in links if pair[0] != pair[1]
    ]
    catalog.compared(pairs, [])


def reached(start: UUID, links: list[tuple[UUID, UUID]]) -> set[UUID]:
    """Everything that links lead to, found by spreading out until nothing is new."""
    found, size = {start}, 0
    while size < len(found):
        size = len(found)
        found |= {one for pair in links if found & set(pair) for one in pair}
    return found


def test_groups_derived_at_once_while_pairs_come_and_images_go(catalog: Catalog, context: Context) -> None:
    chance = random.Random(5)
    catalog.register([ImageEvent("b", str(number), etag="e") for number in range(60)])
    catalog.images.update_many({}, {"$set": {"status": "indexed"}})
    ids = [image_id("b", str(number), "e") for number in range(60)]
    links = [(chance.choice(ids), chance.choice(ids)) for _ in range(50)]
    gone = set(ids[::12])

    def work(number: int) -> None:
        linked(catalog, links[number::5])
        catalog.delete([ids[number * 12]], "test")
        duplicates.regroup(context)

    with ThreadPoolExecutor(5) as threads:
        list(threads.map(work, range(5)))
    living = [pair for pair in links if pair[0] != pair[1] and not gone & set(pair)]
    for one, document in catalog.find(ids).items():
        members = reached(one, living)
        expected = (min(members), len(members) if one == min(members) else None) if len(members) > 1 else (None, None)
        assert (document.get("group"), document.get("group_size")) == expected


def test_groups_that_another_pass_has_overtaken_are_put_right(
    catalog: Catalog, context: Context, monkeypatch: pytest.MonkeyPatch
) -> None:
    catalog.register([ImageEvent("b", str(number), etag="e") for number in range(4)])
    catalog.images.update_many({}, {"$set": {"status": "indexed"}})
    one, two, three, four = sorted(image_id("b", str(number), "e") for number in range(4))
    linked(catalog, [(one, two), (three, four)])
    write = catalog.set_groups

    def late(groups: dict) -> None:
        # Between reading and writing, another pass links all but one, which is deleted.
        monkeypatch.setattr(catalog, "set_groups", write)
        linked(catalog, [(two, three)])
        catalog.delete([four], "test")
        duplicates.regroup(context)
        write(groups)

    monkeypatch.setattr(catalog, "set_groups", late)
    duplicates.regroup(context)
    assert catalog.grouped() == {one: (one, 3), two: (one, None), three: (one, None)}


def test_pages_of_groups_are_whole_and_largest_first(catalog: Catalog, context: Context) -> None:
    catalog.register([ImageEvent("b", str(number), etag="e") for number in range(60)])
    catalog.images.update_many({}, {"$set": {"status": "indexed"}})
    ids = sorted(image_id("b", str(number), "e") for number in range(60))
    sizes = [2, 5, 2, 3, 2, 4, 2, 2, 3]
    rest = iter(ids)
    wanted = [[next(rest) for _ in range(size)] for size in sizes]
    linked(catalog, [pair for members in wanted for pair in pairwise(members)])
    duplicates.regroup(context)
    after, seen = None, []
    while True:
        after, page = duplicates.groups(catalog, 2, after)
        assert len(page) <= 2
        seen += [[UUID(image["id"]) for image in group["images"]] for group in page]
        if after is None:
            break
    assert seen == sorted(wanted, key=lambda members: (-len(members), members[0]))


def test_the_command_lists_groups_and_looks_again(environment: Context) -> None:
    assert "No near-duplicates" in sleeve("duplicates").stdout
    add(environment, {"a.jpg": cover_jpeg(1), "a-small.jpg": jpeg(cover(1, 400))}, label="soul")
    add(environment, {"b.jpg": cover_jpeg(2), "b-copy.jpg": cover_jpeg(2), "c.jpg": cover_jpeg(3)}, label="jazz")
    assert "No near-duplicates" in sleeve("duplicates").stdout
    done = sleeve("duplicates", "--rerun", "--json")
    assert done.returncode == 0, done.stderr
    listed = json.loads(done.stdout)["groups"]
    names = {frozenset(image["original_filename"] for image in group["images"]) for group in listed}
    assert names == {frozenset({"a.jpg", "a-small.jpg"}), frozenset({"b.jpg", "b-copy.jpg"})}
    [soul] = json.loads(sleeve("duplicates", "--label", "soul", "--json").stdout)["groups"]
    assert [image["labels"] for image in soul["images"]] == [["soul"], ["soul"]]
    assert all(image["score"] >= 0.5 for image in soul["images"])
    table = sleeve("duplicates").stdout
    assert ("a-small.jpg" in table, "same bytes" in table, "c.jpg" in table) == (True, True, False)


def test_what_is_private_is_in_no_group_that_others_see(catalog: Catalog) -> None:
    events = [ImageEvent("i", key, etag="e", owner="ann", private=key in "bcd") for key in "abcdef"]
    catalog.register(events)
    a, b, c, d, e, f = (image_id("i", event.key, "e") for event in events)
    catalog.images.update_one({"_id": e}, {"$set": {"duplicate_of": c}})
    pair = {"inliers": 100, "mirrored": False}
    pairs = [{"images": sorted(both), "score": score, **pair} for both, score in (([a, b], 0.9), ([a, e], 0.6))]
    catalog.compared(pairs, [])
    catalog.set_groups({a: (a, 4), b: (a, None), c: (a, None), e: (a, None), d: (d, 2), f: (d, None)})

    def seen(user: str | None) -> dict[str, list[tuple[str, float | None, str | None]]]:
        _, page = duplicates.groups(catalog, 10, visible_to=user)
        assert all(group["size"] == len(group["images"]) for group in page)
        return {
            group["group"]: sorted((one["id"], one["score"], one["copy_of"]) for one in group["images"])
            for group in page
        }

    everything = [(str(a), 0.9, None), (str(b), 0.9, None), (str(c), None, None), (str(e), 0.6, str(c))]
    for user in ("ann", None):
        assert seen(user) == {str(a): sorted(everything), str(d): sorted([(str(d), None, None), (str(f), None, None)])}
    # Neither the evidence nor what a copy is a copy of gives anything away; one image alone is no group.
    assert seen("bob") == {str(a): sorted([(str(a), 0.6, None), (str(e), 0.6, None)])}

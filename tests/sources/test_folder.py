"""A folder of pictures: what is taken, what is not, and going on after an interruption."""

import os
from pathlib import Path

import pytest

from pipeline.errors import BadSource, MissingSetting
from pipeline.settings import Settings
from pipeline.sources import Batch, Source, open_source
from pipeline.sources.folder import folder_files
from pipeline.stores.catalog import Catalog
from pipeline.stores.objects import Objects

MAX = 1000


def fill(root: Path, *names: str) -> None:
    for name in names:
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(f"content of {name}".encode())


def names(root: Path, after: str = "") -> list[str]:
    return [str(file.name) for file in folder_files(root, MAX)(after)]


@pytest.fixture
def root(tmp_path: Path) -> Path:
    root = tmp_path / "album"
    root.mkdir()
    return root


@pytest.fixture
def opened(root: Path, settings: Settings, catalog: Catalog, objects: Objects) -> "Opened":
    return Opened(root, settings, catalog, objects)


class Opened:
    """Opens the folder again and again, as one import after another would."""

    def __init__(self, root: Path, settings: Settings, catalog: Catalog, objects: Objects) -> None:
        self.root, self.settings, self.catalog, self.objects = root, settings, catalog, objects
        self.bucket = settings.require("s3_bucket")

    def source(self) -> Source:
        return open_source(str(self.root), self.settings, self.catalog, self.objects)

    def keys(self) -> set[str]:
        return {stored.key for page in self.objects.pages(self.bucket) for stored in page}


def test_pictures_in_the_order_of_their_paths(root: Path) -> None:
    fill(root, "b.jpg", "a/z.jpg", "a.png", "a/b/c.webp", "a-b/x.JPEG", "Z.tiff")
    assert names(root) == ["Z.tiff", "a/b/c.webp", "a/z.jpg", "a-b/x.JPEG", "a.png", "b.jpg"]


def test_goes_on_after_any_name(root: Path) -> None:
    fill(root, "b.jpg", "a/z.jpg", "a.png", "a/b/c.webp", "a-b/x.JPEG", "a b.jpg", "é.jpg", "c/猫/1.jpg", "a/b.jpg")
    (root / os.fsdecode(b"latin-\xe9.jpg")).write_bytes(b"x")
    whole = names(root)
    for number, name in enumerate(whole):
        assert names(root, name) == whole[number + 1 :]


def test_what_is_no_picture_is_passed_over(root: Path) -> None:
    fill(root, "a.jpg", "notes.txt", ".hidden.jpg", ".git/b.jpg", "__MACOSX/c.jpg", "d/.DS_Store", "noextension", "jpg")
    assert names(root) == ["a.jpg"]


def test_links_are_not_followed(root: Path, tmp_path: Path) -> None:
    fill(tmp_path, "outside/secret.jpg")
    fill(root, "a.jpg")
    (root / "link.jpg").symlink_to(tmp_path / "outside" / "secret.jpg")
    (root / "folder").symlink_to(tmp_path / "outside")
    (root / "loop").symlink_to(root)
    (root / "nowhere.jpg").symlink_to(tmp_path / "none")
    os.mkfifo(root / "pipe.jpg")
    assert names(root) == ["a.jpg"]


def test_too_large_file_is_not_read(root: Path) -> None:
    fill(root, "a.jpg")
    (root / "b.jpg").write_bytes(bytes(MAX))
    (root / "c.jpg").write_bytes(bytes(MAX + 1))
    reasons = {str(file.name): file.reason for file in folder_files(root, MAX)("")}
    assert reasons == {"a.jpg": None, "b.jpg": None, "c.jpg": "larger than 1000 bytes (1001 bytes)"}


def test_uploaded_with_label_and_name(root: Path, opened: Opened) -> None:
    fill(root, "top.jpg", "cats/grey/tom.webp")
    source = opened.source()
    assert source.backlog() == 2
    batch = source.drain(10)
    assert batch.taken == 2
    tom, top = batch.events
    assert (tom.label, tom.original_filename, tom.source, tom.reason) == ("grey", "tom.webp", "album", None)
    assert (top.label, top.original_filename) == (None, "top.jpg")
    assert tom.bucket == top.bucket == opened.bucket
    data, etag = opened.objects.fetch(tom.bucket, tom.key, MAX)
    assert (data, etag) == (b"content of cats/grey/tom.webp", tom.etag)
    assert tom.key.endswith(".webp")
    answer = opened.objects.client(tom.bucket).head_object(Bucket=tom.bucket, Key=tom.key)
    assert answer["ContentType"] == "image/webp"
    assert source.drain(10).taken == 0


def test_names_that_are_no_utf8(root: Path, opened: Opened) -> None:
    """Disks and archives of the nineties have them; one such name must not end an import."""
    (root / os.fsdecode(b"caf\xe9")).mkdir()
    (root / os.fsdecode(b"caf\xe9/gar\xe7on.jpg")).write_bytes(b"x")
    fill(root, "z.jpg")
    source = opened.source()
    batch = source.drain(1)
    assert [(event.label, event.original_filename) for event in batch.events] == [(r"caf\xe9", r"gar\xe7on.jpg")]
    assert opened.catalog.register(batch.events) == 1
    source.commit(batch)
    assert [event.original_filename for event in opened.source().drain(9).events] == ["z.jpg"]


def test_unreadable_and_too_large_files_carry_their_reason(
    root: Path, opened: Opened, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(settings, "max_image_bytes", MAX)
    fill(root, *(f"{number}.jpg" for number in range(6)))
    (root / "2.jpg").write_bytes(bytes(MAX + 1))
    source = opened.source()
    first = source.drain(1)
    # The folder has been listed by now; this file goes before it is looked at.
    (root / "4.jpg").unlink()
    events = {event.original_filename: event for event in [*first.events, *source.drain(10).events]}
    assert list(events) == [f"{number}.jpg" for number in range(6)]
    assert events["2.jpg"].reason == "larger than 1000 bytes (1001 bytes)"
    assert events["4.jpg"].reason == "cannot be read: No such file or directory"
    assert all(events[f"{number}.jpg"].reason is None for number in (0, 1, 3, 5))
    assert all(events[f"{number}.jpg"].etag for number in (0, 1, 3, 5))
    assert events["2.jpg"].etag is None
    assert opened.catalog.register(list(events.values())) == 6
    assert {d["original_filename"] for d in opened.catalog.quarantined(10)} == {"2.jpg", "4.jpg"}


def test_interrupted_pass_goes_on_and_the_next_looks_at_everything(root: Path, opened: Opened) -> None:
    fill(root, *(f"{number:02}.jpg" for number in range(25)))
    source = opened.source()
    taken = source.drain(10)
    source.commit(taken)
    lost = source.drain(10)  # not committed: the process dies here
    again = opened.source()
    assert again.backlog() == 15
    assert again.drain(10).events == lost.events
    again.commit(lost)
    rest = again.drain(10)
    assert [event.original_filename for event in rest.events] == [f"{number}.jpg" for number in range(20, 25)]
    again.commit(rest)
    end = again.drain(10)
    assert end.taken == 0
    again.commit(end)
    uploaded = opened.keys()
    assert len(uploaded) == 25
    whole = opened.source().drain(100)
    assert whole.events == [*taken.events, *lost.events, *rest.events]
    assert opened.keys() == uploaded


def test_second_import_uploads_nothing(root: Path, opened: Opened, monkeypatch: pytest.MonkeyPatch) -> None:
    fill(root, "a.jpg", "b.jpg")
    first = opened.source().drain(9)
    monkeypatch.setattr(Objects, "put", None)
    assert opened.source().drain(9).events == first.events


def test_changed_content_gets_another_key(root: Path, opened: Opened) -> None:
    fill(root, "a.jpg")
    before = opened.source().drain(9).events[0]
    (root / "a.jpg").write_bytes(b"retouched")
    after = opened.source().drain(9).events[0]
    assert after.key != before.key
    assert opened.keys() == {before.key, after.key}


def test_same_content_under_two_names_stays_two_images(root: Path, opened: Opened) -> None:
    fill(root, "a.jpg")
    (root / "b.jpg").write_bytes((root / "a.jpg").read_bytes())
    assert len({event.key for event in opened.source().drain(9).events}) == 2


def test_limit_is_kept(root: Path, opened: Opened) -> None:
    fill(root, *(f"{number:02}.jpg" for number in range(20)))
    source = opened.source()
    assert [source.drain(limit).taken for limit in (1, 8, 9, 5, 5)] == [1, 8, 9, 2, 0]


def test_empty_folder(opened: Opened) -> None:
    source = opened.source()
    assert source.backlog() == 0
    assert source.drain(5) == Batch([])


@pytest.mark.parametrize(("name", "reason"), [("none", "there is no"), ("a.jpg", "neither a folder nor")])
def test_refused(root: Path, opened: Opened, name: str, reason: str) -> None:
    fill(root, "a.jpg")
    with pytest.raises(BadSource, match=reason):
        open_source(str(root / name), opened.settings, opened.catalog, opened.objects)


def test_import_needs_a_bucket(root: Path, opened: Opened, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(opened.settings, "s3_bucket", None)
    with pytest.raises(MissingSetting, match="S3_BUCKET"):
        opened.source()

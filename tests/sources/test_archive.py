"""Archives that are well and archives that lie."""

import gzip
import io
import random
import stat
import struct
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest

from pipeline.errors import BadSource
from pipeline.settings import Settings
from pipeline.sources import open_source
from pipeline.sources.archive import archive_files
from pipeline.stores.catalog import Catalog
from pipeline.stores.objects import Objects

ROOT = Path(__file__).resolve().parents[2]
MAX, TOTAL = 10_000, 1_000_000
TAR_MODES = {"a.tar": "w", "a.tar.gz": "w:gz", "a.tgz": "w:gz", "a.tar.bz2": "w:bz2", "a.tar.xz": "w:xz"}
LEADS_OUT = "its path leads out of the archive"
NO_FILE = "a link or device, not a file"


def content(name: str) -> bytes:
    return random.Random(name).randbytes(500)


def make_zip(path: Path, *names: str, method: int = zipfile.ZIP_DEFLATED) -> Path:
    with zipfile.ZipFile(path, "w", method) as archive:
        for name in names:
            archive.writestr(name, content(name))
    return path


def make_tar(path: Path, *names: str, mode: str | None = None) -> Path:
    with tarfile.open(path, mode or TAR_MODES[path.name]) as archive:
        for name in names:
            add(archive, name)
    return path


def add(archive: tarfile.TarFile, name: str, kind: bytes = tarfile.REGTYPE, target: str = "") -> None:
    entry = tarfile.TarInfo(name)
    entry.type, entry.linkname = kind, target
    data = content(name) if kind == tarfile.REGTYPE else b""
    entry.size = len(data)
    archive.addfile(entry, io.BytesIO(data))


def make(path: Path, *names: str) -> Path:
    return make_zip(path, *names) if path.suffix == ".zip" else make_tar(path, *names)


def read(path: Path, after: str = "", max_bytes: int = MAX, max_total: int = TOTAL) -> dict[str, str | bytes]:
    """By name: the bytes, or the reason why not."""
    files = archive_files(path, max_bytes, max_total)(after)
    return {str(file.name): file.reason or file.read() for file in files}


@pytest.mark.parametrize("name", ["a.zip", "A.ZIP", *TAR_MODES])
def test_pictures_come_out_and_nothing_else(tmp_path: Path, name: str) -> None:
    wanted = ["b.jpg", "a/x.PNG", "a/deep/er/猫.webp", "./c.jpg"]
    others = ["notes.txt", "__MACOSX/._b.jpg", ".hidden/d.jpg", "inner.zip", "inner.tar.gz", "a/"]
    path = tmp_path / name
    make(path, *wanted, *others) if name in TAR_MODES else make_zip(path, *wanted, *others)
    found = read(path)
    assert list(found) == ["b.jpg", "a/x.PNG", "a/deep/er/猫.webp", "c.jpg"]
    assert list(found.values()) == [content(name) for name in wanted]


@pytest.mark.parametrize("name", ["a.zip", "a.tar", "a.tar.gz"])
def test_goes_on_after_a_name(tmp_path: Path, name: str) -> None:
    names = [f"{number}/p.jpg" for number in (3, 1, 2)]
    path = make(tmp_path / name, *names)
    assert list(read(path, after="1/p.jpg")) == ["2/p.jpg"]
    assert read(path, after="2/p.jpg") == {}


@pytest.mark.parametrize("archive", ["a.zip", "a.tar"])
@pytest.mark.parametrize(
    "name",
    ["../out.jpg", "a/../../out.jpg", "/etc/out.jpg", "C:/out.jpg", "C:\\out.jpg", "..\\out.jpg", "\\\\host\\x.jpg"],
)
def test_paths_that_lead_out(tmp_path: Path, archive: str, name: str) -> None:
    found = read(make(tmp_path / archive, "good.jpg", name, "after.jpg"))
    assert list(found.values()) == [content("good.jpg"), LEADS_OUT, content("after.jpg")]


def test_backslashes_are_folders(tmp_path: Path) -> None:
    assert read(make_zip(tmp_path / "a.zip", "cats\\tom.jpg")) == {"cats/tom.jpg": content("cats\\tom.jpg")}


@pytest.mark.parametrize(
    "kind",
    [tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.CHRTYPE, tarfile.BLKTYPE, tarfile.FIFOTYPE],
    ids=lambda k: k.decode(),
)
def test_links_and_devices_in_a_tar(tmp_path: Path, kind: bytes) -> None:
    path = tmp_path / "a.tar"
    with tarfile.open(path, "w") as archive:
        add(archive, "good.jpg")
        add(archive, "odd.jpg", kind, "/etc/passwd" if kind == tarfile.SYMTYPE else "good.jpg")
        add(archive, "after.jpg")
    assert read(path) == {"good.jpg": content("good.jpg"), "odd.jpg": NO_FILE, "after.jpg": content("after.jpg")}


@pytest.mark.parametrize("mode", [stat.S_IFLNK, stat.S_IFCHR, stat.S_IFIFO])
def test_links_and_devices_in_a_zip(tmp_path: Path, mode: int) -> None:
    path = make_zip(tmp_path / "a.zip", "good.jpg")
    with zipfile.ZipFile(path, "a") as archive:
        entry = zipfile.ZipInfo("odd.jpg")
        entry.create_system, entry.external_attr = 3, (mode | 0o777) << 16
        archive.writestr(entry, "/etc/passwd")
        plain = zipfile.ZipInfo("after.jpg")
        plain.create_system, plain.external_attr = 3, (stat.S_IFREG | 0o644) << 16
        archive.writestr(plain, content("after.jpg"))
    assert read(path) == {"good.jpg": content("good.jpg"), "odd.jpg": NO_FILE, "after.jpg": content("after.jpg")}


def central_directory(data: bytes, name: str) -> int:
    """Where the entry's record in the central directory begins."""
    return data.rindex(name.encode()) - 46


def test_encrypted_entry(tmp_path: Path) -> None:
    path = make_zip(tmp_path / "a.zip", "good.jpg", "locked.jpg", "after.jpg")
    data = bytearray(path.read_bytes())
    data[central_directory(data, "locked.jpg") + 8] |= 1
    path.write_bytes(data)
    found = read(path)
    assert found["locked.jpg"] == "encrypted"
    assert (found["good.jpg"], found["after.jpg"]) == (content("good.jpg"), content("after.jpg"))


METHODS = {
    "stored": zipfile.ZIP_STORED,
    "deflate": zipfile.ZIP_DEFLATED,
    "bzip2": zipfile.ZIP_BZIP2,
    "lzma": zipfile.ZIP_LZMA,
}


@pytest.mark.parametrize("method", METHODS)
def test_damaged_entry(tmp_path: Path, method: str) -> None:
    path = make_zip(tmp_path / "a.zip", "good.jpg", "bad.jpg", "after.jpg", method=METHODS[method])
    data = bytearray(path.read_bytes())
    start = data.index(b"bad.jpg")
    for position in range(start + 107, start + 407, 10):
        data[position] ^= 0xFF
    path.write_bytes(data)
    found = read(path)
    assert str(found["bad.jpg"]).startswith("damaged in the archive")
    assert (found["good.jpg"], found["after.jpg"]) == (content("good.jpg"), content("after.jpg"))


def test_unknown_compression(tmp_path: Path) -> None:
    path = make_zip(tmp_path / "a.zip", "good.jpg", "odd.jpg")
    data = bytearray(path.read_bytes())
    start = central_directory(data, "odd.jpg")
    data[start + 10 : start + 12] = struct.pack("<H", 97)
    path.write_bytes(data)
    found = read(path)
    assert found["good.jpg"] == content("good.jpg")
    assert str(found["odd.jpg"]).startswith("damaged in the archive")


@pytest.mark.parametrize("name", ["a.zip", "a.tar", "a.tar.gz"])
def test_entry_larger_than_allowed(tmp_path: Path, name: str) -> None:
    path = make(tmp_path / name, "a.jpg", "b.jpg")
    assert read(path, max_bytes=500) == {"a.jpg": content("a.jpg"), "b.jpg": content("b.jpg")}
    assert set(read(path, max_bytes=499).values()) == {"larger than 499 bytes"}


@pytest.mark.parametrize("name", ["a.zip", "a.tar", "a.tar.gz"])
def test_more_in_all_than_allowed(tmp_path: Path, name: str) -> None:
    """Entries that are passed over have to be unpacked too, and count."""
    path = make(tmp_path / name, *(f"{number}.txt" for number in range(100)), "a.jpg")
    assert list(read(path, max_total=200_000)) == ["a.jpg"]
    with pytest.raises(BadSource, match=rf"{name}: unpacks to more than 30000 bytes; split it"):
        read(path, max_total=30_000)


def test_header_that_says_less_than_there_is(tmp_path: Path) -> None:
    """Declared as 10 bytes, so that the sum passes; a megabyte behind it."""
    path = tmp_path / "a.zip"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("liar.jpg", bytes(1 << 20))
        archive.writestr("after.jpg", content("after.jpg"))
    data = bytearray(path.read_bytes())
    start = central_directory(data, "liar.jpg")
    data[start + 24 : start + 28] = struct.pack("<I", 10)
    path.write_bytes(data)
    found = read(path, max_total=20_000)
    assert str(found["liar.jpg"]).startswith("damaged in the archive")
    assert found["after.jpg"] == content("after.jpg")


def tar_header(size: int, kind: bytes) -> bytes:
    header = bytearray(tarfile.TarInfo("x.jpg").tobuf(tarfile.GNU_FORMAT))
    header[124:136], header[156:157], header[148:156] = tarfile.itn(size, 12, tarfile.GNU_FORMAT), kind, b" " * 8
    header[148:155] = b"%06o\0" % sum(header)
    return bytes(header)


@pytest.mark.parametrize("size", [-512, -1024, -(1 << 40)])
def test_negative_size_ends_and_does_not_loop(tmp_path: Path, size: int) -> None:
    path = tmp_path / "a.tar"
    path.write_bytes(make_tar(path, "good.jpg").read_bytes()[:1024] + tar_header(size, b"0") + bytes(10_240))
    with pytest.raises(BadSource, match="damaged"):
        read(path)


def test_nested_extended_headers(tmp_path: Path) -> None:
    path = tmp_path / "a.tar"
    path.write_bytes((tar_header(12, b"x") + b"12 comment=\n".ljust(512, b"\0")) * 3000)
    with pytest.raises(BadSource, match="damaged"):
        read(path)


# The peak is the process's own; ru_maxrss would begin with that of the test runner that forked it.
MEASURE = r"""
import re, sys
from pathlib import Path
from pipeline.errors import BadSource
from pipeline.sources.archive import archive_files
try:
    print(sum(1 for _ in archive_files(Path(sys.argv[1]), 64 << 20, int(sys.argv[2]))("")))
except BadSource:
    print("refused")
print(re.search(r"VmHWM:\s+(\d+)", Path("/proc/self/status").read_text())[1])
"""


def peak(path: Path, max_total: int) -> tuple[str, int]:
    """(answer, peak memory in bytes) of reading the archive in a process of its own."""
    command = [sys.executable, "-c", MEASURE, str(path), str(max_total)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=120, check=True)
    answer, kilobytes = done.stdout.split()
    return answer, int(kilobytes) << 10


def write_gz(path: Path, head: bytes, block: bytes, times: int) -> Path:
    with gzip.open(path, "wb", 1) as file:
        file.write(head)
        for _ in range(times):
            file.write(block)
    assert path.stat().st_size < 5 << 20
    return path


@pytest.mark.parametrize("kind", [b"x", b"g", b"L", b"K"], ids=["pax", "global", "long name", "long link"])
def test_giant_extended_header_is_not_taken_into_memory(tmp_path: Path, kind: bytes) -> None:
    path = write_gz(tmp_path / "a.tar.gz", tar_header(1 << 30, kind), b"a" * (1 << 24), 16)
    answer, memory = peak(path, 64 << 30)
    assert answer == "refused"
    assert memory < 150 << 20


def test_endless_empty_entries_cost_no_memory_and_count(tmp_path: Path) -> None:
    """Headers alone: 60,000 folders in 270 KB."""
    path = write_gz(tmp_path / "a.tar.gz", b"", tar_header(0, b"5") * 1000, 60)
    answer, memory = peak(path, 64 << 30)
    assert answer == "0"
    assert memory < 100 << 20
    with pytest.raises(BadSource, match="unpacks to more"):
        read(path, max_total=10 << 20)


def test_picture_that_unpacks_to_gigabytes(tmp_path: Path) -> None:
    path = write_gz(tmp_path / "a.tar.gz", tar_header(1 << 28, b"0"), bytes(1 << 24), 16)
    answer, memory = peak(path, 64 << 30)
    assert answer == "1"
    assert memory < 220 << 20
    assert read(path, max_total=1 << 30) == {"x.jpg": f"larger than {MAX} bytes"}


@pytest.mark.parametrize("name", ["a.zip", *TAR_MODES])
@pytest.mark.parametrize("damage", ["text", "empty", "cut", "header"])
def test_damaged_archive(tmp_path: Path, name: str, damage: str) -> None:
    path = make(tmp_path / name, *(f"{number}.jpg" for number in range(20)))
    data = path.read_bytes()
    changed = {
        "text": b"hello, I am no archive " * 50,
        "empty": b"",
        "cut": data[: len(data) // 2 + 100],
        "header": b"\xff" * 40 + data[40:] if name != "a.zip" else data[:-40] + b"\xff" * 40,
    }
    path.write_bytes(changed[damage])
    with pytest.raises(BadSource, match=rf"{name} is damaged or no archive"):
        read(path)


@pytest.mark.parametrize("spoil", [b"\xff" * 512, b"\xff" * 100], ids=["block", "part"])
def test_damaged_header_in_a_tar_is_not_taken_for_its_end(tmp_path: Path, spoil: bytes) -> None:
    path = make_tar(tmp_path / "a.tar", "a.jpg", "b.jpg", "c.jpg")
    data = bytearray(path.read_bytes())
    data[1024 : 1024 + len(spoil)] = spoil
    path.write_bytes(data)
    with pytest.raises(BadSource, match=r"at byte 1024"):
        read(path)


def test_tar_cut_inside_a_header(tmp_path: Path) -> None:
    path = make_tar(tmp_path / "a.tar", "a.jpg", "b.jpg")
    path.write_bytes(path.read_bytes()[:1300])
    with pytest.raises(BadSource, match="damaged"):
        read(path)


def test_tar_without_end_mark(tmp_path: Path) -> None:
    """Some writers leave the two blocks of zeros out."""
    path = make_tar(tmp_path / "a.tar", "a.jpg", "b.jpg")
    path.write_bytes(path.read_bytes()[:2048])
    assert list(read(path)) == ["a.jpg", "b.jpg"]


def mutate(data: bytes, chance: random.Random) -> bytes:
    changed = bytearray(data)
    if chance.random() < 0.2:
        return bytes(changed[: chance.randrange(len(changed))])
    for _ in range(chance.choice([1, 1, 3, 8])):
        # Structure is at the ends: central directory, headers.
        span = chance.choice([len(changed), 512, -400])
        start, stop = (len(changed) + span, len(changed)) if span < 0 else (0, span)
        changed[chance.randrange(max(0, start), min(stop, len(changed)))] = chance.randrange(256)
    return bytes(changed)


@pytest.mark.parametrize("seed", range(2))
@pytest.mark.parametrize("name", ["a.zip", "a.tar", "a.tar.gz", "a.tar.bz2", "a.tar.xz"])
def test_mutated_archives_are_read_or_refused(tmp_path: Path, name: str, seed: int) -> None:
    chance = random.Random(f"{name} {seed}")
    method = list(METHODS.values())[seed * 2 : seed * 2 + 2]
    whole = make(tmp_path / name, *(f"é{number}.jpg" for number in range(3))) if name != "a.zip" else None
    for number in range(150):
        path = whole or make_zip(tmp_path / name, "é0.jpg", "é1.jpg", method=method[number % 2])
        original = path.read_bytes()
        path.write_bytes(mutate(original, chance))
        try:
            found = read(path)
        except BadSource as error:
            reason: str | bytes = str(error)
            found = {"": reason}
        finally:
            path.write_bytes(original)
        assert all(isinstance(value, str | bytes) for value in found.values())
    assert len(read(path)) >= 2


def test_names_that_are_no_utf8(tmp_path: Path) -> None:
    path = tmp_path / "a.tar"
    with tarfile.open(path, "w", format=tarfile.GNU_FORMAT, encoding="latin-1") as archive:
        add(archive, "café.jpg")
    assert list(read(path)) == [r"caf\xe9.jpg"]


def test_import_of_an_archive(tmp_path: Path, settings: Settings, catalog: Catalog, objects: Objects) -> None:
    path = make_zip(tmp_path / "album.zip", *(f"cats/{number}.jpg" for number in range(12)), "../out.jpg", "z.jpg")
    source = open_source(str(path), settings, catalog, objects)
    first = source.drain(10)
    source.commit(first)
    events = [*first.events, *open_source(str(path), settings, catalog, objects).drain(10).events]
    assert [event.original_filename for event in events] == [*(f"{n}.jpg" for n in range(12)), "out.jpg", "z.jpg"]
    assert {event.label for event in events[:12]} == {"cats"}
    assert {event.source for event in events} == {"album.zip"}
    assert [event.reason for event in events[12:]] == [LEADS_OUT, None]
    assert objects.get(events[5].bucket, events[5].key) == content("cats/5.jpg")


def test_changed_archive_starts_from_its_beginning(
    tmp_path: Path, settings: Settings, catalog: Catalog, objects: Objects
) -> None:
    path = make_zip(tmp_path / "a.zip", "a.jpg", "b.jpg")
    source = open_source(str(path), settings, catalog, objects)
    source.commit(source.drain(2))
    make_zip(path, "0.jpg", "a.jpg", "b.jpg")
    assert open_source(str(path), settings, catalog, objects).drain(9).taken == 3

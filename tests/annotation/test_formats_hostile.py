"""Annotation files that lie: nothing leaves the archive, nothing fills memory, and the message says what is wrong."""

import io
import json
import stat
import struct
import tracemalloc
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pipeline.annotation.formats import FORMATS, Box, Format, Labelled, Problem, coco, entries, read, write
from pipeline.errors import BadSource

ID = "00000000-0000-4000-8000-000000000001"
RECORD = Labelled(ID, "a.jpg", 800, 600, ("rock",), (Box("cover", 0.25, 0.5, 0.5, 0.25),))
GOOD = "<annotation><filename>good.jpg</filename></annotation>"


@contextmanager
def memory_below(limit: int) -> Iterator[None]:
    tracemalloc.start()
    try:
        yield
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < limit


def voc_zip(path: Path, *bad: tuple[zipfile.ZipInfo | str, str | bytes]) -> Path:
    """A good file after the bad ones."""
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in [*bad, ("good.xml", GOOD)]:
            archive.writestr(name, content, zipfile.ZIP_DEFLATED)
    return path


def the_good_one_and_why(path: Path) -> str:
    problem, record = read("voc", path)
    assert isinstance(problem, Problem)
    assert record == Labelled(None, "good.jpg")
    return problem.what


@pytest.mark.parametrize("name", ["../a.xml", "/etc/a.xml", "x/../../a.xml", "C:\\a.xml", "..\\a.xml"])
def test_a_path_that_leads_out_is_refused_and_the_rest_goes_on(name: str, tmp_path: Path) -> None:
    assert the_good_one_and_why(voc_zip(tmp_path / "e.zip", (name, GOOD))) == "its path leads out of the archive"


def test_a_link_is_refused(tmp_path: Path) -> None:
    link = zipfile.ZipInfo("a.xml")
    link.external_attr = (stat.S_IFLNK | 0o777) << 16
    assert the_good_one_and_why(voc_zip(tmp_path / "e.zip", (link, "/etc/passwd"))) == "a link or device, not a file"


def test_a_bomb_is_refused_by_its_ratio(tmp_path: Path) -> None:
    path = voc_zip(tmp_path / "e.zip", ("a.xml", b" " * 30_000_000))
    with memory_below(1_000_000):
        assert the_good_one_and_why(path) == "unpacks to more than 300 times its size, as no annotations do"


def test_one_huge_file_is_refused(tmp_path: Path) -> None:
    noise = "".join(f"<object>{number * 7919 % 1000003}</object>" for number in range(250_000))
    path = voc_zip(tmp_path / "e.zip", ("a.xml", f"<annotation>{noise}</annotation>"))
    assert the_good_one_and_why(path).startswith("larger than 4194304 bytes")


def test_an_encrypted_file_is_refused(tmp_path: Path) -> None:
    path = voc_zip(tmp_path / "e.zip", ("a.xml", GOOD))
    data = bytearray(path.read_bytes())
    directory = data.index(b"PK\x01\x02")
    data[directory + 8] |= 1
    path.write_bytes(data)
    assert the_good_one_and_why(path) == "encrypted; unlock it first"


def test_a_damaged_file_is_reported_and_the_rest_goes_on(tmp_path: Path) -> None:
    path = voc_zip(tmp_path / "e.zip", ("a.xml", GOOD * 50))
    data = bytearray(path.read_bytes())
    data[50] ^= 0xFF
    path.write_bytes(data)
    assert the_good_one_and_why(path).startswith("damaged: ")


def test_too_many_files_are_refused_before_the_directory_is_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = voc_zip(tmp_path / "e.zip", *((f"{number}.xml", GOOD) for number in range(50)))
    monkeypatch.setattr(entries, "MAX_ENTRIES", 50)
    with pytest.raises(BadSource, match="more than 50 files"):
        list(read("voc", path))
    # The count can lie; the size of the directory is what zipfile goes by.
    data = bytearray(path.read_bytes())
    end = data.rindex(b"PK\x05\x06")
    struct.pack_into("<HH", data, end + 8, 1, 1)
    path.write_bytes(data)
    monkeypatch.setattr(entries, "MAX_DIRECTORY_BYTES", 1000)
    with pytest.raises(BadSource, match="split it"):
        list(read("voc", path))


def test_what_unpacks_to_too_much_in_all_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = voc_zip(tmp_path / "e.zip", ("a.xml", GOOD), ("picture.jpg", b"x" * 1000))
    monkeypatch.setattr(entries, "MAX_TOTAL_BYTES", 2 * len(GOOD))
    assert len(list(read("voc", path))) == 2
    monkeypatch.setattr(entries, "MAX_TOTAL_BYTES", 2 * len(GOOD) - 1)
    with pytest.raises(BadSource, match="unpack to more than"):
        list(read("voc", path))


ENTITIES = {
    "laughs": '<!DOCTYPE a [<!ENTITY a "ha"><!ENTITY b "&a;&a;&a;">]><annotation><filename>&b;</filename></annotation>',
    "file": '<!DOCTYPE a [<!ENTITY a SYSTEM "file:///etc/passwd">]><annotation><filename>&a;</filename></annotation>',
    "parameter": '<!DOCTYPE a [<!ENTITY % a SYSTEM "http://127.0.0.1/x">%a;]><annotation/>',
}


@pytest.mark.parametrize("document", ENTITIES.values(), ids=ENTITIES.keys())
def test_xml_entities_are_refused(document: str, tmp_path: Path) -> None:
    assert "declares the XML entity 'a'" in the_good_one_and_why(voc_zip(tmp_path / "e.zip", ("a.xml", document)))


@pytest.mark.parametrize(
    ("document", "said"),
    [
        ("<annotation><object><name>" + "<a>" * 100_000 + "</a>" * 100_000 + "</name></object></annotation>", "nested"),
        ('<?xml version="1.0" encoding="no-such"?><annotation/>', "no readable XML"),
        ("", "no readable XML"),
        ("\x00\x01", "no readable XML"),
    ],
)
def test_strange_xml_is_reported(document: str, said: str, tmp_path: Path) -> None:
    path = voc_zip(tmp_path / "e.zip", ("a.xml", document))
    problems = [item for item in read("voc", path) if isinstance(item, Problem)]
    assert [said in problem.what for problem in problems] == [True]


def outcome(format: Format, path: Path) -> list[Labelled | Problem] | BadSource:
    try:
        return list(read(format, path))
    except BadSource as error:
        return error


COCO = {
    "cut off": ('{"images": [{"id": 1,', "annotations.json is no readable JSON"),
    "no JSON": ("{images: 1}", "annotations.json is no readable JSON"),
    "deep": ('{"images": ' + "[" * 300_000, "nested deeper than any annotations are"),
    "deep maps": ('{"images": [' + '{"a":' * 300_000, "nested deeper than any annotations are"),
    "long text": ('{"images": [{"id": 1, "file_name": "' + "x" * 900_000 + '"}]}', "more than 262144 bytes"),
    "long list": ('{"images": [{"id": 1, "labels": [' + "1.5," * 200_000 + "1]}]}", "more than 262144 bytes"),
    "not UTF-8": (b'{"images": [{"id": 1, "file_name": "\xff\xfe"}]}', "annotations.json is no readable JSON"),
}


@pytest.mark.parametrize(("document", "said"), COCO.values(), ids=COCO.keys())
def test_json_that_cannot_be_used_is_refused_in_bounded_memory(
    document: str | bytes, said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "annotations.json"
    path.write_bytes(document if isinstance(document, bytes) else document.encode())
    monkeypatch.setattr(coco, "MAX_ELEMENT_BYTES", 1 << 18)
    with memory_below(20_000_000), pytest.raises(BadSource, match=said):
        list(read("coco", path))


JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-3, 3)
    | st.floats()
    | st.sampled_from(["", "1", "\ud800", "x\x00", "1e999"]),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(
            st.sampled_from(
                [
                    "id",
                    "image_id",
                    "category_id",
                    "file_name",
                    "bbox",
                    "name",
                    "labels",
                    "width",
                    "segmentation",
                    "item",
                    "a.b",
                ]
            ),
            inner,
            max_size=6,
        )
    ),
    max_leaves=20,
)
DOCUMENTS = st.dictionaries(
    st.sampled_from(["images", "annotations", "categories", "images.item", "images.item.x"]),
    JSON | st.lists(JSON, max_size=4),
)


@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(document=DOCUMENTS)
def test_any_json_is_understood_or_reported(document: object, tmp_path: Path) -> None:
    path = tmp_path / "annotations.json"
    path.write_text(json.dumps(document))
    items = outcome("coco", path)
    # NaN and Infinity, which Python writes, are no JSON.
    assert "is no readable JSON" in str(items) if isinstance(items, BadSource) else items


def exported(format: Format) -> bytes:
    out = io.BytesIO()
    write(format, [RECORD], out)
    return out.getvalue()


@pytest.mark.parametrize("format", FORMATS)
@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(changes=st.lists(st.tuples(st.floats(0, 1, exclude_max=True), st.integers(0, 255)), min_size=1, max_size=4))
def test_a_damaged_zip_is_reported_and_never_more(
    format: Format, changes: list[tuple[float, int]], tmp_path: Path
) -> None:
    data = bytearray(exported(format))
    for position, value in changes:
        data[int(position * len(data))] = value
    path = tmp_path / "e.zip"
    path.write_bytes(data)
    # Anything but BadSource would come through, and that the rest was read shows in what there is to say about it.
    items = outcome(format, path)
    assert str(items) if isinstance(items, BadSource) else items


@pytest.mark.parametrize("format", FORMATS)
def test_half_an_upload_is_refused(format: Format, tmp_path: Path) -> None:
    path = tmp_path / "e.zip"
    data = exported(format)
    path.write_bytes(data[: len(data) // 2])
    with pytest.raises(BadSource, match="was it uploaded as a whole"):
        list(read(format, path))


def test_yaml_that_refers_to_itself_is_harmless(tmp_path: Path) -> None:
    laughs = "".join(
        f"{name}: &{name} [{', '.join([f'*{before}'] * 9)}]\n"
        for before, name in zip("abcdefghi", "bcdefghij", strict=True)
    )
    path = tmp_path / "e.zip"
    for names in ("*j", "&x [*x, cat]", "[" * 400):
        with zipfile.ZipFile(path, "w") as archive:
            archive.writestr("data.yaml", f"a: &a [ha, ha]\n{laughs}names: {names}\n")
            archive.writestr("labels/a.txt", "")
        with memory_below(20_000_000):
            items = outcome("yolo", path)
        assert "data.yaml" in str(items) if isinstance(items, BadSource) else items == [Labelled(None, "a")]


def test_a_table_without_line_ends_is_read_in_bounded_memory(tmp_path: Path) -> None:
    path = tmp_path / "t.csv"
    path.write_text("file_name,label\n" + "x" * 40_000_000 + '\na.jpg,cat\n"' + "y" * 3_000_000)
    with memory_below(40_000_000):
        items = list(read("csv", path))
    assert Labelled(None, "a.jpg", labels=("cat",)) in items
    assert {item.what for item in items if isinstance(item, Problem)} == {"field larger than field limit (131072)"}


def test_labels_as_long_as_a_book_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "t.csv"
    path.write_text(f"file_name,label\na.jpg,{'x' * 1001}\na.jpg,{'x' * 1000}\n")
    problem, record = read("csv", path)
    assert problem == Problem("t.csv, line 2", "the label has 1001 characters; 1000 are allowed")
    assert record == Labelled(None, "a.jpg", labels=("x" * 1000,))

"""What is exported comes back, to strangers' programs it looks as their format should, and memory stays flat."""

import csv
import io
import json
import tracemalloc
import zipfile
from collections.abc import Iterator
from pathlib import Path
from uuid import UUID
from xml.etree import ElementTree

import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pipeline.annotation.formats import FORMATS, Box, Format, Labelled, Problem, detect, read, write
from pipeline.errors import BadSource

# A surrogate is no character; the control characters cannot be in XML in any spelling.
CHARACTERS = st.characters(
    exclude_categories=("Cs", "Cc"), exclude_characters="\ufffe\uffff", include_characters="\t\n\r\x85"
)
NASTY = [
    "=SUM(A1)", "+1", "-x", "@me", "'", "'=1", "''tis", "a,b;c", '"quoted"', "<b>&amp;</b>", "]]>", "two\nlines",
    "a\r\nb", "a\rb", "yes", "1.0", "null", "# no", "Plattenhülle", "表紙", "👩‍👧", "\u2028x\u2028y", "＝1",
]  # fmt: skip
TEXTS = st.one_of(st.sampled_from(NASTY), st.text(CHARACTERS, min_size=1, max_size=20))
LABELS = TEXTS.map(str.strip).filter(bool)
NAMES = st.tuples(TEXTS, st.sampled_from((".jpg", ".PNG", ".webp", "", ".<b>"))).map("".join)


@st.composite
def boxes(draw: st.DrawFn) -> Box:
    x, y = draw(st.floats(0, 0.95)), draw(st.floats(0, 0.95))
    # Two pixels or more of the smallest picture here: what is thinner, VOC's whole pixels have to widen.
    return Box(draw(LABELS), x, y, draw(st.floats(0.02, 1 - x)), draw(st.floats(0.02, 1 - y)))


@st.composite
def images(draw: st.DrawFn) -> Labelled:
    sized = draw(st.booleans())
    return Labelled(
        str(draw(st.uuids())),
        draw(NAMES),
        draw(st.integers(100, 50_000)) if sized else None,
        draw(st.integers(100, 50_000)) if sized else None,
        tuple(draw(st.lists(LABELS, max_size=4, unique=True))),
        tuple(draw(st.lists(boxes(), max_size=4))) if sized else (),
    )


COLLECTIONS = st.lists(images(), min_size=1, max_size=5, unique_by=lambda image: image.image_id)


class Upload(io.RawIOBase):
    """A stream as that of an S3 upload: no seek, no tell."""

    def __init__(self) -> None:
        self.data = bytearray()

    def writable(self) -> bool:
        return True

    def write(self, data: bytes, /) -> int:  # type: ignore[override]
        self.data += data
        return len(data)


def exported(format: Format, records: list[Labelled], path: Path, names: tuple[str, ...] = ()) -> zipfile.ZipFile:
    upload = Upload()
    write(format, iter(records), upload, names)
    path.write_bytes(upload.data)
    return zipfile.ZipFile(path)


def assert_near(read_back: Box, written: Box, image: Labelled, pixels: float) -> None:
    """Each edge within `pixels`; beyond what arithmetic on floats loses."""
    for got, asked, length in (
        (read_back.x, written.x, image.width),
        (read_back.y, written.y, image.height),
        (read_back.x + read_back.width, written.x + written.width, image.width),
        (read_back.y + read_back.height, written.y + written.height, image.height),
    ):
        assert length is not None
        assert abs(got - asked) <= pixels / length + 1e-9


# How far an edge may move: VOC has whole pixels, so half of one; the others have decimals.
@pytest.mark.parametrize(("format", "pixels"), [("coco", 0.0), ("voc", 0.5), ("yolo", 0.0), ("csv", 0.0)])
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(records=COLLECTIONS)
def test_what_is_written_is_read_back(format: Format, pixels: float, records: list[Labelled], tmp_path: Path) -> None:
    path = tmp_path / "export.zip"
    exported(format, records, path).close()
    assert detect(path) == format
    found = {item.image_id: item for item in read(format, path) if isinstance(item, Labelled)}
    assert not [item for item in read(format, path) if isinstance(item, Problem)]
    assert found.keys() == {record.image_id for record in records}
    for record in records:
        back = found[record.image_id]
        assert (back.file_name, back.width, back.height, back.labels) == (
            record.file_name, record.width, record.height, record.labels,
        )  # fmt: skip
        assert [box.label for box in back.boxes] == [box.label for box in record.boxes]
        for read_back, written in zip(back.boxes, record.boxes, strict=True):
            assert_near(read_back, written, record, pixels)


ID = "00000000-0000-4000-8000-000000000001"
OTHER = "00000000-0000-4000-8000-000000000002"
RECORDS = [
    Labelled(ID, "../Käse.JPG", 800, 600, ("rock", "=cmd|' /C calc'!A0"), (Box("cover", 0.25, 0.5, 0.5, 0.25),)),
    Labelled(OTHER, "plain.png", 100, 100, (), (Box("late", 0.1, 0.1, 0.2, 0.2), Box("cover", 0, 0, 1, 1))),
]
FILES = {
    "coco": {"annotations.json"},
    "voc": {f"Annotations/{ID}.xml", f"Annotations/{OTHER}.xml"},
    "yolo": {f"labels/{ID}.txt", f"labels/{OTHER}.txt", "train.txt", "images.jsonl", "data.yaml"},
    "csv": {"annotations.csv"},
}


@pytest.mark.parametrize("format", FORMATS)
def test_names_of_files_are_ids_and_equal_exports_have_equal_bytes(format: Format, tmp_path: Path) -> None:
    first, second = tmp_path / "a.zip", tmp_path / "b.zip"
    with exported(format, RECORDS, first) as archive:
        assert set(archive.namelist()) == FILES[format]
        assert archive.testzip() is None
    exported(format, RECORDS, second).close()
    assert first.read_bytes() == second.read_bytes()


def test_coco_has_the_standard_shape(tmp_path: Path) -> None:
    with exported("coco", RECORDS, tmp_path / "e.zip", ("sticker", "cover")) as archive:
        document = json.loads(archive.read("annotations.json"))
    assert [(image["id"], image["file_name"], image["width"], image["height"]) for image in document["images"]] == [
        (1, f"{ID}.jpg", 800, 600),
        (2, f"{OTHER}.png", 100, 100),
    ]
    names = {category["id"]: category["name"] for category in document["categories"]}
    assert list(names.values())[:2] == ["sticker", "cover"]
    assert set(names.values()) == {"sticker", "cover", "rock", "=cmd|' /C calc'!A0", "late"}
    first, late, whole = document["annotations"]
    assert (first["image_id"], names[first["category_id"]], first["bbox"], first["area"], first["iscrowd"]) == (
        1, "cover", [200, 300, 400, 150], 60_000, 0,
    )  # fmt: skip
    assert names[late["category_id"]] == "late"
    assert whole["bbox"] == [0, 0, 100, 100]
    assert len({annotation["id"] for annotation in document["annotations"]}) == 3


def test_voc_has_the_standard_shape(tmp_path: Path) -> None:
    with exported("voc", RECORDS, tmp_path / "e.zip") as archive:
        root = ElementTree.fromstring(archive.read(f"Annotations/{ID}.xml"))
    assert root.findtext("filename") == f"{ID}.jpg"
    assert [root.findtext(f"size/{side}") for side in ("width", "height", "depth")] == ["800", "600", "3"]
    assert root.findtext("object/name") == "cover"
    edges = [root.findtext(f"object/bndbox/{edge}") for edge in ("xmin", "ymin", "xmax", "ymax")]
    assert edges == ["200", "300", "600", "450"]


def test_a_box_thinner_than_a_pixel_keeps_an_area_in_voc(tmp_path: Path) -> None:
    thin = Labelled(ID, "a.jpg", 100, 100, (), (Box("edge", 0.9999, 0.5, 0.0001, 0.5),))
    exported("voc", [thin], tmp_path / "e.zip").close()
    (back,) = read("voc", tmp_path / "e.zip")
    assert isinstance(back, Labelled)
    assert back.boxes == (Box("edge", 0.99, 0.5, 0.01, 0.5),)


def test_yolo_has_the_layout_of_ultralytics(tmp_path: Path) -> None:
    with exported("yolo", RECORDS, tmp_path / "e.zip", ("sticker", "cover")) as archive:
        dataset = yaml.safe_load(archive.read("data.yaml"))
        assert {key: dataset["names"][key] for key in (0, 1)} == {0: "sticker", 1: "cover"}
        assert archive.read(dataset["train"]).decode().split() == [f"./images/{ID}.jpg", f"./images/{OTHER}.png"]
        (line,) = archive.read(f"labels/{ID}.txt").decode().splitlines()
    assert [float(value) for value in line.split()] == [1, 0.5, 0.625, 0.5, 0.25]


def test_a_spreadsheet_finds_no_formula_in_the_table(tmp_path: Path) -> None:
    nasty = [text for text in NASTY if text.strip() == text]
    record = Labelled(ID, "=1.jpg", 10, 10, tuple(nasty), (Box("@x", 0, 0, 1, 1),))
    with exported("csv", [record], tmp_path / "e.zip") as archive:
        table = archive.read("annotations.csv").decode()
    rows = list(csv.DictReader(io.StringIO(table, newline="")))
    assert [row["label"] for row in rows if row["label"] in nasty] == [
        text for text in nasty if text[0] not in "=+-@＝" and text != "'=1"
    ]
    assert not [cell for row in rows for cell in row.values() if cell.startswith(("=", "+", "-", "@", "＝"))]
    assert "\r\n" in table
    assert {row["file_name"] for row in rows} == {f"{ID}.jpg"}


def test_labels_are_numbered_as_given_and_others_follow(tmp_path: Path) -> None:
    with exported("yolo", RECORDS, tmp_path / "e.zip", ("cover",)) as archive:
        names = yaml.safe_load(archive.read("data.yaml"))["names"]
    assert names[0] == "cover"
    assert sorted(names) == list(range(len(names)))


@pytest.mark.parametrize("format", FORMATS)
def test_only_images_of_the_collection_are_exported(format: Format) -> None:
    with pytest.raises(ValueError, match=r"a\.jpg has no id"):
        write(format, [Labelled(None, "a.jpg")], io.BytesIO())
    with pytest.raises(ValueError, match="badly formed"):
        write(format, [Labelled("../../etc/passwd", "a.jpg")], io.BytesIO())


@pytest.mark.parametrize("format", ["coco", "voc"])
def test_pixels_need_a_size(format: Format) -> None:
    with pytest.raises(ValueError, match=f"image {ID} has boxes but no width and height"):
        write(format, [Labelled(ID, "a.jpg", boxes=(Box("x", 0, 0, 1, 1),))], io.BytesIO())


@pytest.mark.parametrize("format", FORMATS)
def test_an_empty_collection_is_a_whole_export(format: Format, tmp_path: Path) -> None:
    with exported(format, [], tmp_path / "e.zip") as archive:
        assert archive.testzip() is None
    if format == "voc":  # a zip without files; there is nothing to know it by
        with pytest.raises(BadSource, match="no XML file"):
            list(read("voc", tmp_path / "e.zip"))
    else:
        assert detect(tmp_path / "e.zip") == format


class Nowhere(io.RawIOBase):
    def writable(self) -> bool:
        return True

    def write(self, data: bytes, /) -> int:  # type: ignore[override]
        return len(data)


def many(count: int) -> Iterator[Labelled]:
    for number in range(count):
        yield Labelled(str(UUID(int=number)), f"{number}.jpg", 800, 600, ("rock",), (Box("cover", 0.1, 0.2, 0.3, 0.4),))


@pytest.mark.parametrize("format", FORMATS)
def test_memory_does_not_grow_with_the_images(format: Format) -> None:
    """10,000 entries in zipfile's own list would be 5 MB."""
    tracemalloc.start()
    try:
        write(format, many(10_000), Nowhere())
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 1_000_000

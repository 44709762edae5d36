"""What other people's tools write is read: FiftyOne's and supervision's own output, and the habits of others."""

import json
import zipfile
from collections.abc import Mapping
from pathlib import Path

import pytest

from pipeline.annotation.formats import Box, Format, Labelled, Problem, detect, read
from pipeline.errors import BadSource

DATA = Path(__file__).parents[1] / "data" / "annotations"
ASKED = json.loads((DATA / "asked.json").read_text("utf-8"))


def packed(path: Path, files: Mapping[str, str | bytes]) -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    return path


def understood(format: Format, path: Path) -> tuple[list[Labelled], list[Problem]]:
    assert detect(path) == format
    items = list(read(format, path))
    records = [item for item in items if isinstance(item, Labelled)]
    return records, [item for item in items if isinstance(item, Problem)]


# Pixels by which an edge may be off. FiftyOne cuts VOC's to whole pixels; supervision rounds them and counts from 1.
# YOLO's numbers have six and five decimals, of pictures up to 1200 pixels wide.
@pytest.mark.parametrize(
    ("folder", "format", "pixels", "knows_size", "knows_suffix"),
    [
        ("fiftyone-coco", "coco", 1e-6, True, True),
        ("fiftyone-voc", "voc", 1.0, True, True),
        ("fiftyone-yolo", "yolo", 0.001, False, False),
        ("fiftyone-yolov4", "yolo", 0.001, False, True),
        ("supervision-coco", "coco", 1e-6, True, True),
        ("supervision-voc", "voc", 1.501, True, True),
        ("supervision-yolo", "yolo", 0.01, False, False),
    ],
)
def test_what_another_library_was_asked_to_write_is_read(
    folder: str, format: Format, pixels: float, knows_size: bool, knows_suffix: bool, tmp_path: Path
) -> None:
    files = {str(path.relative_to(DATA / folder)): path for path in (DATA / folder).rglob("*") if path.is_file()}
    path = packed(tmp_path / "e.zip", {name: file.read_bytes() for name, file in files.items()})
    records, problems = understood(format, path)
    assert problems == []
    # supervision has no folders.
    found = {record.file_name.removeprefix("side b/").removeprefix("data/side b/").removeprefix("data/"): record
             for record in records}  # fmt: skip
    names = {image["name"].removeprefix("side b/"): image for image in ASKED}
    assert set(found) == {name if knows_suffix else name.rpartition(".")[0] for name in names}
    for name, image in names.items():
        record = found[name if knows_suffix else name.rpartition(".")[0]]
        assert (record.image_id, record.labels) == (None, ())
        assert (record.width, record.height) == ((image["width"], image["height"]) if knows_size else (None, None))
        assert [box.label for box in record.boxes] == [label for label, *_ in image["boxes"]]
        for box, (_, x, y, width, height) in zip(record.boxes, image["boxes"], strict=True):
            for got, asked, length in ((box.x, x, image["width"]), (box.y, y, image["height"]),
                                       (box.x + box.width, x + width, image["width"]),
                                       (box.y + box.height, y + height, image["height"])):  # fmt: skip
                assert abs(got - asked) * length <= pixels


def test_coco_as_others_write_it(tmp_path: Path) -> None:
    document = {
        "info": {"year": 2014},
        # Before the images, as COCO's own files have it now and then; ids with gaps, as text and with decimals.
        "annotations": [
            {"id": 1, "image_id": "9", "category_id": 90.0, "bbox": ["10", 20, 30.5, 40], "iscrowd": 1,
             "segmentation": {"counts": [1, 2, 3], "size": [100, 200]}},
            {"id": 2, "image_id": 9.0, "category_id": 7, "bbox": [0, 0, 100, 50], "segmentation": [[0, 0, 9, 9, 0, 9]]},
            {"id": 3, "image_id": 9, "category_id": 7},
            {"id": 4, "image_id": 9, "category_id": 8, "bbox": [0, 0, 1, 1]},
            {"id": 5, "image_id": 10, "category_id": 7, "bbox": [0, 0, 1, 1]},
            {"id": 6, "image_id": 9, "category_id": 7, "segmentation": [[0, 0, 9, 9, 0, 9]]},
            {"id": 7, "image_id": 9, "category_id": 7, "bbox": [190, 0, 40, 50]},
            {"id": 8, "image_id": 9, "category_id": 7, "bbox": [300, 0, 40, 50]},
            {"id": 9, "image_id": 9, "category_id": 7, "bbox": [0, 0, 0, 50]},
            {"id": 10, "image_id": 9, "category_id": 7, "bbox": [0, 0, "wide", 50]},
            "no object",
        ],
        "images": [{"id": 9, "file_name": "train2014\\COCO_9.jpg", "width": "200", "height": 100.0}, {"id": 10}],
        "categories": [{"id": 90, "name": "toothbrush"}, {"id": "7", "name": " car "}, {"id": 8, "name": ""}],
    }  # fmt: skip
    path = tmp_path / "instances.json"
    path.write_text(json.dumps(document))
    records, problems = understood("coco", path)
    (record,) = records
    assert record == Labelled(None, "train2014/COCO_9.jpg", 200, 100, ("car",), record.boxes)
    assert [box.label for box in record.boxes] == ["toothbrush", "car", "car"]
    places = [(box.x, box.y, box.width, box.height) for box in record.boxes]
    assert places == [
        pytest.approx(place) for place in ((0.05, 0.2, 0.1525, 0.4), (0, 0, 0.5, 0.5), (0.95, 0, 0.05, 0.5))
    ]
    assert [(problem.where.rpartition(", ")[2], problem.what) for problem in problems] == [
        ("categories[2]", "the label is missing"),
        ("images[1]", "the image has no file_name or no id"),
        ("annotations[3]", "there is no category with the id 8"),
        ("annotations[4]", "there is no image with the id 10"),
        ("annotations[5]", "bbox is not [x, y, width, height]"),
        ("annotations[6]", "the box of 'car' reached out of the picture and was clipped"),
        ("annotations[7]", "the box of 'car' lies outside of the picture"),
        ("annotations[8]", "the box of 'car' has no area"),
        ("annotations[9]", "bbox is 'wide', not a number"),
        ("annotations[10]", "there is no image with the id "),
    ]


def test_several_coco_documents_in_one_zip_do_not_mix(tmp_path: Path) -> None:
    def document(name: str, label: str) -> str:
        return json.dumps({
            "images": [{"id": 1, "file_name": name}],
            "annotations": [{"image_id": 1, "category_id": 1}],
            "categories": [{"id": 1, "name": label}],
        })  # fmt: skip

    path = packed(tmp_path / "e.zip", {
        "annotations/train.json": document("a.jpg", "cat"), "annotations/val.json": document("a.jpg", "dog"),
        "__MACOSX/annotations/._train.json": b"\x00\x05", "images/a.jpg": b"never opened",
    })  # fmt: skip
    records, problems = understood("coco", path)
    assert [(record.file_name, record.labels) for record in records] == [("a.jpg", ("cat",)), ("a.jpg", ("dog",))]
    assert problems == []


VOC = """<?xml version="1.0" encoding="ISO-8859-1"?>
<annotation verified="yes">
  <folder>x</folder><filename>K\xe4se.jpg</filename><path>C:\\x\\K\xe4se.jpg</path><owner><name>me</name></owner>
  <size><width>200</width><height>100.0</height><depth>3</depth></size>
  <object><name>
     person </name><pose>Left</pose><bndbox><ymax>90.5</ymax><xmax>101</xmax><ymin>1</ymin><xmin>1</xmin></bndbox>
     <part><name>head</name><bndbox><xmin>2</xmin><ymin>2</ymin><xmax>3</xmax><ymax>3</ymax></bndbox></part></object>
  <object><name>outdoor</name></object>
  <object><bndbox><xmin>1</xmin><ymin>1</ymin><xmax>2</xmax><ymax>2</ymax></bndbox></object>
  <object><name>cut</name><bndbox><xmin>1</xmin><ymin>1</ymin><xmax>2</xmax></bndbox></object>
</annotation>"""


def test_voc_as_others_write_it(tmp_path: Path) -> None:
    path = packed(tmp_path / "e.zip", {
        "VOC2012/Annotations/deep/1.xml": VOC.encode("latin-1"),
        "VOC2012/Annotations/nameless.xml": "<annotation><object><name>x</name><bndbox><xmin>1</xmin><ymin>1</ymin>"
        "<xmax>2</xmax><ymax>2</ymax></bndbox></object></annotation>",
        "VOC2012/Annotations/other.xml": "<svg/>",
        "VOC2012/Annotations/broken.xml": "<annotation><filename>",
        "VOC2012/ImageSets/Main/train.txt": "1\n",
    })  # fmt: skip
    records, problems = understood("voc", path)
    assert records == [
        Labelled(None, "Käse.jpg", 200, 100, ("outdoor",), (Box("person", 0.005, 0.01, 0.5, 0.895),)),
        Labelled(None, "nameless"),
    ]
    assert [(problem.where.rpartition("/")[2], problem.what) for problem in problems] == [
        ("1.xml, object 3", "the label is missing"),
        ("1.xml, object 4", "ymax is 'None', not a number"),
        ("nameless.xml, object 1", "the box of 'x' is in pixels, but the picture's width and height are not given"),
        ("other.xml", "the XML is <svg>, not <annotation>"),
        ("broken.xml", "no readable XML: no element found: line 1, column 22"),
    ]


def test_yolo_as_others_write_it(tmp_path: Path) -> None:
    path = packed(tmp_path / "e.zip", {
        "set/data.yaml": "nc: 3\nnames: [yes, 1.0, 'c,at']\ntrain: ../train/images\n",
        "set/train/images/a.b.jpeg": b"never opened",
        "set/train/labels/a.b.txt": "2 0.5 0.5 0.5 0.5 0.93\r\n1 0.1 0.1 0.3 0.1 0.3 0.4 0.1 0.4\n\n",
        "set/valid/labels/a.b.txt": "0 0.5 0.5 1.005 1\n3 .5 .5 .5 .5\n0 .5 .5 .5\n0 x .5 .5 .5\n0 .5 .5 nan .5\n",
        "set/README.roboflow.txt": "Thank you\n",
    })  # fmt: skip
    records, problems = understood("yolo", path)
    first, second = records
    assert (first.file_name, second.file_name) == ("a.b.jpeg", "a.b.jpeg")
    assert first.boxes[0] == Box("c,at", 0.25, 0.25, 0.5, 0.5)
    outline = first.boxes[1]
    assert (outline.label, outline.x, outline.y) == ("1.0", 0.1, 0.1)
    assert (outline.width, outline.height) == pytest.approx((0.2, 0.3))
    assert second.boxes == (Box("yes", 0, 0, 1, 1),)
    assert [(problem.where, problem.what) for problem in problems] == [
        ("set/valid/labels/a.b.txt, line 2", "there is no class with the number 3"),
        ("set/valid/labels/a.b.txt, line 3", "a line has a class and 4 numbers, or an outline; this has 3 numbers"),
        ("set/valid/labels/a.b.txt, line 4", "a coordinate is 'x', not a number"),
        ("set/valid/labels/a.b.txt, line 5", "a coordinate is 'nan', not a number"),
    ]


def test_yolo_with_classes_txt_and_nothing_else(tmp_path: Path) -> None:
    path = packed(
        tmp_path / "e.zip", {"classes.txt": "cat\r\ndog\r\n", "x/one.txt": "1 0.5 0.5 0.5 0.5", "two.txt": ""}
    )
    records, problems = understood("yolo", path)
    assert records == [
        Labelled(None, "x/one", boxes=(Box("dog", 0.25, 0.25, 0.5, 0.5),)),
        Labelled(None, "two"),
    ]
    assert problems == []


@pytest.mark.parametrize(
    ("files", "said"),
    [
        ({"labels/a.txt": "0 .5 .5 .5 .5"}, "Nothing says what the class numbers mean"),
        ({"labels/a.txt": "", "data.yaml": "names: {a: b}"}, "data.yaml: the names of the classes cannot be read"),
        ({"labels/a.txt": "", "data.yaml": "names: cat"}, "data.yaml: `names` must be a list of names"),
        ({"labels/a.txt": "", "data.yaml": "names: [a\n"}, "data.yaml is no readable YAML"),
        ({"labels/a.txt": "", "data.yaml": "kpt_shape: [17, 3]\nnames: [a]\n"}, "data.yaml describes key points"),
    ],
)
def test_yolo_without_usable_class_names_says_so(files: dict[str, str], said: str, tmp_path: Path) -> None:
    with pytest.raises(BadSource, match=said):
        list(read("yolo", packed(tmp_path / "e.zip", files)))


def test_our_yolo_export_after_others_worked_on_it(tmp_path: Path) -> None:
    known, gone = "00000000-0000-4000-8000-000000000001", "00000000-0000-4000-8000-000000000002"
    details = [
        {"file_name": f"{name}.jpg", "original_file_name": "a.jpg", "labels": ["rock", 7, None, {}]}
        for name in (known, gone)
    ]
    path = packed(tmp_path / "e.zip", {
        "back/data.yaml": "names: {0: cat}",
        "back/images.jsonl": "\n".join([*map(json.dumps, details), "[1]", "{"]),
        f"back/labels/{known}.txt": "0 .5 .5 1 1",
        "back/labels/new.txt": "0 .5 .5 1 1",
    })  # fmt: skip
    records, problems = understood("yolo", path)
    whole = (Box("cat", 0, 0, 1, 1),)
    assert records == [
        Labelled(known, "a.jpg", labels=("rock", "7"), boxes=whole),
        Labelled(None, "new", boxes=whole),
    ]
    assert [(problem.where, problem.what) for problem in problems] == [
        ("back/images.jsonl, line 2", f"there is no label file for '{gone}.jpg'"),
        ("back/images.jsonl, line 3", "there is no label file for ''"),
        ("back/images.jsonl, line 4", "there is no label file for ''"),
    ]


TABLES = {
    "tensorflow": "\ufefffilename,width,height,class,xmin,ymin,xmax,ymax\r\n"
    "a.jpg,200,100,cat,20,10,120,60\r\nb.jpg,10,10,dog,0,0,10,10\r\na.jpg,200,100,'tis,0,0,200,100\r\n",
    "excel": 'height;width;Label;notes;Image;x;y;box_width;box_height\n100;200;cat;"a;b\nc";a.jpg;0.1;0.1;0.5;0.5\n'
    "10;10;dog;;b.jpg;0;0;1;1\n\n100;200;'tis;;a.jpg;0;0;1;1\n",
}


@pytest.mark.parametrize("table", TABLES.values(), ids=TABLES.keys())
def test_csv_as_others_write_it(table: str, tmp_path: Path) -> None:
    path = tmp_path / "table.csv"
    path.write_text(table, newline="", encoding="utf-8")
    records, problems = understood("csv", path)
    assert records == [
        Labelled(None, "a.jpg", 200, 100, (), (Box("cat", 0.1, 0.1, 0.5, 0.5), Box("'tis", 0, 0, 1, 1))),
        Labelled(None, "b.jpg", 10, 10, (), (Box("dog", 0, 0, 1, 1),)),
    ]
    assert problems == []


def test_bad_rows_of_a_table_do_not_stop_the_others(tmp_path: Path) -> None:
    path = tmp_path / "table.csv"
    path.write_text(
        "file_name,label,x,y,box_width,box_height\na.jpg,cat,,,,\n,dog,,,,\na.jpg,cat,0.5,0.5,,\na.jpg,,0,0,1,1\n"
        "a.jpg,x,y,0,0,0,1,1\nshort.jpg\na.jpg,dog,0,0,1,1\n"
    )
    records, problems = understood("csv", path)
    assert records == [
        Labelled(None, "a.jpg", labels=("cat",), boxes=(Box("dog", 0, 0, 1, 1),)),
        Labelled(None, "short.jpg"),
    ]
    assert [(problem.where, problem.what) for problem in problems] == [
        ("table.csv, line 3", "the row names no picture"),
        ("table.csv, line 4", "box_width is '', not a number"),
        ("table.csv, line 5", "the label is missing"),
        ("table.csv, line 6", "8 cells under 6 columns; is a comma or a quote not quoted?"),
    ]


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"a,b\n1,2\n", "table.csv: the first line must name the columns"),
        ("file_name,label\nKäse.jpg,x\n".encode("latin-1"), "table.csv is not in UTF-8"),
    ],
)
def test_tables_that_cannot_be_read_say_why(content: bytes, said: str, tmp_path: Path) -> None:
    path = tmp_path / "table.csv"
    path.write_bytes(content)
    with pytest.raises(BadSource, match=said):
        list(read("csv", path))


@pytest.mark.parametrize(
    ("content", "said"),
    [(b"", "neither a zip nor"), (b"\x89PNG\r\n", "neither a zip nor"), (b"PK\x03\x04 and no more", "damaged")],
)
def test_what_is_none_of_the_formats_is_said(content: bytes, said: str, tmp_path: Path) -> None:
    path = tmp_path / "upload"
    path.write_bytes(content)
    with pytest.raises(BadSource, match=said):
        detect(path)
    with pytest.raises(BadSource, match="no annotations in it"):
        detect(packed(tmp_path / "p.zip", {"a.jpg": b""}))


def test_only_a_name_written_as_we_write_ids_is_an_id(tmp_path: Path) -> None:
    names = ["d41d8cd98f00b204e9800998ecf8427e.jpg", "x/00000000-0000-4000-8000-00000000000A.jpg", "{0}.jpg"]
    path = tmp_path / "t.csv"
    path.write_text("file_name,label\n" + "".join(f"{name},x\n" for name in names))
    found = [item.image_id for item in read("csv", path) if isinstance(item, Labelled)]
    assert found == [None, "00000000-0000-4000-8000-00000000000a", None]

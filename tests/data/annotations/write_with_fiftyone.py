"""Let FiftyOne write asked.json as COCO, VOC and YOLO: `python write_with_fiftyone.py <pictures> <out>`.

Run once, in an environment of its own with fiftyone 1.22.1 (it is no dependency of Sleeve). `pictures` holds
the five pictures of asked.json, sample covers resized to the sizes that stand there. Of `out`, all but the pictures is
kept here.
"""

import json
import sys
from pathlib import Path

import fiftyone as fo
from fiftyone.utils.coco import COCODetectionDatasetExporter
from fiftyone.utils.data import LabeledImageDatasetExporter
from fiftyone.utils.voc import VOCDetectionDatasetExporter
from fiftyone.utils.yolo import YOLOv4DatasetExporter, YOLOv5DatasetExporter

ASKED = json.loads(Path(__file__).with_name("asked.json").read_text("utf-8"))


def export(exporter: LabeledImageDatasetExporter, pictures: Path) -> None:
    with exporter:
        for image in ASKED:
            found = [fo.Detection(label=label, bounding_box=place) for label, *place in image["boxes"]]
            size = fo.ImageMetadata(width=image["width"], height=image["height"], num_channels=3)
            exporter.export_sample(str(pictures / image["name"]), fo.Detections(detections=found), size)


def main() -> None:
    pictures, out = (Path(argument).resolve() for argument in sys.argv[1:])
    how = {"export_media": True, "rel_dir": str(pictures)}
    export(COCODetectionDatasetExporter(str(out / "fiftyone-coco"), **how), pictures)
    export(VOCDetectionDatasetExporter(str(out / "fiftyone-voc"), **how), pictures)
    export(YOLOv5DatasetExporter(str(out / "fiftyone-yolo"), **how), pictures)
    export(YOLOv4DatasetExporter(str(out / "fiftyone-yolov4"), **how), pictures)


main()

"""Let supervision write asked.json as COCO, VOC and YOLO: `python write_with_supervision.py <pictures> <out>`.

Run once, in an environment of its own with supervision 0.31.2 (it is no dependency of Sleeve). `pictures` holds
the five pictures of asked.json, sample covers resized to the sizes that stand there. Of `out`, all but the pictures is
kept here.
"""

import json
import sys
from pathlib import Path

import numpy as np
import supervision as sv

ASKED = json.loads(Path(__file__).with_name("asked.json").read_text("utf-8"))


def main() -> None:
    pictures, out = (Path(argument).resolve() for argument in sys.argv[1:])
    classes = sorted({label for image in ASKED for label, *_ in image["boxes"]})
    found = {}
    for image in ASKED:
        places = [
            [x * image["width"], y * image["height"], (x + w) * image["width"], (y + h) * image["height"]]
            for _, x, y, w, h in image["boxes"]
        ]
        numbers = np.array([classes.index(label) for label, *_ in image["boxes"]], dtype=int)
        found[str(pictures / image["name"])] = (
            sv.Detections(xyxy=np.array(places), class_id=numbers) if places else sv.Detections.empty()
        )
    dataset = sv.DetectionDataset(classes=classes, images=list(found), annotations=found)
    dataset.as_coco(annotations_path=str(out / "supervision-coco" / "annotations.json"))
    dataset.as_pascal_voc(annotations_directory_path=str(out / "supervision-voc"))
    folder = out / "supervision-yolo"
    dataset.as_yolo(annotations_directory_path=str(folder / "labels"), data_yaml_path=str(folder / "data.yaml"))


main()

"""Sleeve's library: everything the DAGs, the REST API and the command line do, without Airflow.

OpenCV reads its pixel limit once, when it is loaded, so the limit has to stand in the environment before the first
``import cv2`` of the process; every module that needs cv2 is inside this package, so this is the place.
"""

import os

# Twice the widest picture that pipeline.images.probe lets through: a second wall, not the first one.
os.environ.setdefault("OPENCV_IO_MAX_IMAGE_PIXELS", str(100_000_000))

"""Sleeve's library: everything the DAGs, the REST API and the command line do, without Airflow.

OpenCV and OpenBLAS read these once, when they are loaded, so they have to stand in the environment before the first
``import cv2`` or ``import numpy`` of the process; every module that needs them is inside this package, so this is the
place.
"""

import os

# Twice the widest picture that pipeline.images.probe lets through: a second wall, not the first one.
os.environ.setdefault("OPENCV_IO_MAX_IMAGE_PIXELS", str(100_000_000))
# Queries and mapped tasks run beside each other, one core each. A product of matrices that takes all cores for itself
# would only wait for them.
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

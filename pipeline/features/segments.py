"""Segments: immutable files with the features of some hundred pictures.

A segment is a safetensors file (https://huggingface.co/docs/safetensors) named by the SHA-256 of its bytes, and the
same pictures in the same order give the same bytes. So a retried extraction overwrites itself, and a copy can be
checked.

Tensors, for m images with n descriptors in all:
    descriptors  uint8 (n, 128)
    keypoints    float16 (n, 4)     rounding moves a point by at most 1/8 pixel of a 512 pixel picture
    offsets      int64 (m + 1,)     image i owns the rows offsets[i]:offsets[i + 1]
    frames       float32 (m, 2)
    ids          uint8 (m, 16)      UUID bytes
"""

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any
from uuid import UUID

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file

from pipeline.errors import BrokenGeneration
from pipeline.features.content import write_by_content
from pipeline.features.sift import CONTRAST_THRESHOLD, Features

FORMAT = {"format": 1, "descriptor": "rootsift-512", "contrast_threshold": CONTRAST_THRESHOLD}


class SegmentInfo(BaseModel, frozen=True):
    """What a manifest says about a segment; `name` is the SHA-256 of the file in hex."""

    name: str
    bytes: int
    images: int
    descriptors: int


def segment_key(name: str) -> str:
    """Key of a segment in the sleeve bucket."""
    return f"segments/{name}.safetensors"


def write_segment(folder: Path, items: Iterable[tuple[UUID, Features]]) -> SegmentInfo:
    """Write one segment to `folder`/<name>.safetensors, which exists either whole or not at all."""
    pairs = list(items)
    ids = np.frombuffer(b"".join(one.bytes for one, _ in pairs), np.uint8).reshape(-1, 16)
    counts = [len(features) for _, features in pairs]
    tensors = {
        "descriptors": _stack([features.descriptors for _, features in pairs], 128, np.uint8),
        "keypoints": _stack([features.keypoints for _, features in pairs], 4, np.float16),
        "offsets": np.concatenate([[0], np.cumsum(counts, dtype=np.int64)]).astype(np.int64),
        "frames": np.array([features.frame for _, features in pairs], np.float32).reshape(-1, 2),
        "ids": ids,
    }
    metadata = {"sleeve": json.dumps(FORMAT, sort_keys=True)}
    name, size = write_by_content(folder, ".safetensors", lambda path: save_file(tensors, path, metadata=metadata))
    return SegmentInfo(name=name, bytes=size, images=len(pairs), descriptors=sum(counts))


def _stack(parts: list[NDArray[np.generic]], width: int, dtype: type[np.generic]) -> NDArray[np.generic]:
    return np.concatenate([np.empty((0, width), dtype), *[part.astype(dtype) for part in parts]])


class Segment:
    """An open segment. Descriptors stay on disk (mapped), only what is asked for is copied. Safe for many threads."""

    def __init__(self, path: Path) -> None:
        try:
            file: Any = safe_open(str(path), framework="np")
        except (OSError, SafetensorError) as error:
            raise BrokenGeneration(f"cannot read the segment {path.name}: {error}") from error
        written = json.loads((file.metadata() or {}).get("sleeve", "{}"))
        if (written.get("format"), written.get("descriptor")) != (FORMAT["format"], FORMAT["descriptor"]):
            raise BrokenGeneration(f"the segment {path.name} has the format {written}, this version reads {FORMAT}")
        self.path = path
        self.offsets: NDArray[np.int64] = file.get_tensor("offsets")
        self._frames: NDArray[np.float32] = file.get_tensor("frames")
        self.id_bytes: NDArray[np.uint8] = file.get_tensor("ids")
        self._descriptors = file.get_slice("descriptors")
        self._keypoints = file.get_slice("keypoints")

    def __len__(self) -> int:
        """Number of images."""
        return len(self.id_bytes)

    @property
    def info(self) -> SegmentInfo:
        return SegmentInfo(
            name=self.path.stem,
            bytes=self.path.stat().st_size,
            images=len(self),
            descriptors=int(self.offsets[-1]),
        )

    @property
    def ids(self) -> list[UUID]:
        return [UUID(bytes=row.tobytes()) for row in self.id_bytes]

    def image(self, row: int) -> Features:
        """Features of the image in this row."""
        start, stop = int(self.offsets[row]), int(self.offsets[row + 1])
        width, height = self._frames[row].tolist()
        return Features(self.keypoints(row), self._descriptors[start:stop], (width, height))

    def keypoints(self, row: int) -> NDArray[np.float32]:
        """Keypoints of the image in this row, as in Features."""
        keypoints = self._keypoints[int(self.offsets[row]) : int(self.offsets[row + 1])]
        return np.asarray(keypoints, np.float32)

    def descriptors(self, start: int, stop: int) -> NDArray[np.uint8]:
        """Rows start:stop of all descriptors in the segment, (stop - start, 128) uint8."""
        rows: NDArray[np.uint8] = self._descriptors[start:stop]
        return rows

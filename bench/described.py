"""Describe many pictures on all cores, one thread each, into segments as the extraction of the pipeline writes them."""

import os
from collections import deque
from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path
from uuid import UUID, uuid5

import cv2
import numpy as np
from numpy.typing import NDArray

from bench.rivals import small_service_descriptors
from pipeline.errors import BadImage
from pipeline.events import NAMESPACE
from pipeline.features.photo import Photo
from pipeline.features.segments import SegmentInfo, write_segment
from pipeline.settings import Settings
from pipeline.sources.archive import archive_files, is_archive
from pipeline.sources.folder import folder_files

# What one task of a worker describes.
CHUNK_IMAGES = 250
CHUNK_BYTES = 64 << 20

Picture = tuple[str, bytes]
"""Name and content of a file."""


@dataclass(frozen=True)
class Described:
    """Some pictures that became a segment."""

    segment: SegmentInfo
    names: list[str]
    """Of the images of the segment, in its order."""
    refused: dict[str, str]
    """Names of pictures that cannot be used, and why."""
    rival: list[NDArray[np.uint8]]
    """For each image the descriptors that `bench.rivals` compares with."""


def image_id(name: str) -> UUID:
    """The id under which a benchmark's picture is indexed."""
    return uuid5(NAMESPACE, f"bench:{name}")


def pictures_of(source: Path, settings: Settings) -> Iterator[Picture]:
    """The pictures of a folder, or of a zip or tar archive, which is read in place. Raises BadSource.

    What the limits of an import would refuse is left out.
    """
    if is_archive(source):
        files = archive_files(source, settings.max_image_bytes, settings.max_archive_bytes)
    else:
        files = folder_files(source, settings.max_image_bytes)
    for file in files(""):
        if file.reason is None:
            yield str(file.name), file.read()


def describe(chunks: Iterable[list[Picture]], settings: Settings, folder: Path) -> Iterator[Described]:
    """Write a segment of each chunk of pictures to `folder`; they come in the order of the chunks."""
    with ProcessPoolExecutor(os.cpu_count(), get_context("spawn"), cv2.setNumThreads, (1,)) as pool:
        waiting: deque[Future[Described]] = deque()
        for chunk in chunks:
            waiting.append(pool.submit(_describe, chunk, settings, folder))
            # As many as keep the workers busy: pictures that wait are in memory.
            if len(waiting) > 2 * (os.cpu_count() or 1):
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()


def in_chunks(pictures: Iterable[Picture]) -> Iterator[list[Picture]]:
    """Pictures in portions that are worth the trip to another process."""
    chunk: list[Picture] = []
    size = 0
    for name, data in pictures:
        chunk.append((name, data))
        size += len(data)
        if len(chunk) == CHUNK_IMAGES or size >= CHUNK_BYTES:
            yield chunk
            chunk, size = [], 0
    if chunk:
        yield chunk


def _describe(pictures: list[Picture], settings: Settings, folder: Path) -> Described:
    items, names, refused, rival = [], [], {}, []
    for name, data in pictures:
        try:
            features = Photo(data, settings).features
        except BadImage as error:
            refused[name] = error.reason
            continue
        items.append((image_id(name), features))
        names.append(name)
        rival.append(small_service_descriptors(data).astype(np.uint8))
    return Described(write_segment(folder, items), names, refused, rival)

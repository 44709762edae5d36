"""What else one could do: votes of nearest neighbours, and nothing after them.

The rival is the recipe of small services: the picture stretched to 512 x 384, at most a hundred SIFT features, the
exact nearest neighbour of each, and the image that most of them belong to, if there are five. The others put Sleeve's
own descriptors in its place, searched exactly or through Faiss alone.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import cv2
import faiss
import numpy as np
from numpy.typing import NDArray

from pipeline.images.decode import imdecode
from pipeline.index.rules import GRAPH_LISTS, Choice

RIVAL_SIZE = (512, 384)
RIVAL_FEATURES = 100
MIN_VOTES = 5
TRAINING_ROWS_PER_LIST = 40
ADD_ROWS = 1 << 18
ID_BYTES = 8

Descriptors = NDArray[np.float32]


@dataclass(frozen=True)
class Voting:
    """Nearest neighbours vote, and the image with most votes is the answer."""

    index: Any
    """Faiss index over the descriptors of all images."""
    owners: NDArray[np.int32]
    """By Faiss id: which image the descriptor belongs to."""
    describe: Callable[[bytes], Descriptors]
    """Descriptors of a query, (n, 128)."""

    def answer(self, photo: bytes) -> list[tuple[int, float]]:
        """Images with at least MIN_VOTES votes, best first, and their share of the descriptors in percent."""
        descriptors = self.describe(photo)
        if not len(descriptors):
            return []
        _, nearest = self.index.search(descriptors, 1)
        votes = np.bincount(self.owners[nearest[nearest >= 0]])
        enough = np.flatnonzero(votes >= MIN_VOTES)
        best = enough[np.argsort(-votes[enough], kind="stable")]
        return [(int(image), float(votes[image] * 100 / len(descriptors))) for image in best]

    @property
    def bytes(self) -> int:
        """Resident size: codes, ids of inverted lists, owners."""
        inverted = isinstance(self.index, faiss.IndexIVF)
        each = self.index.code_size + ID_BYTES if inverted else self.index.sa_code_size()
        return int(len(self.owners) * each) + self.owners.nbytes


def small_service_descriptors(photo: bytes) -> Descriptors:
    """Plain SIFT of a stretched picture, (n, 128). Values are whole numbers up to 255. Raises BadImage."""
    gray = cv2.resize(imdecode(photo, cv2.IMREAD_GRAYSCALE), RIVAL_SIZE)
    _, found = cv2.SIFT.create(nfeatures=RIVAL_FEATURES).detectAndCompute(gray, None)
    return np.empty((0, 128), np.float32) if found is None else np.asarray(found[:RIVAL_FEATURES], np.float32)


def exact(images: Sequence[NDArray[np.uint8]], describe: Callable[[bytes], Descriptors]) -> Voting:
    """Every descriptor of a query is compared with all descriptors of `images`, each (n, 128)."""
    return _filled(faiss.IndexFlatL2(128), images, describe)


def bare_faiss(choice: Choice, images: Sequence[NDArray[np.uint8]], describe: Callable[[bytes], Descriptors]) -> Voting:
    """The same kind of index as Sleeve chose, from Faiss's own factory."""
    index: Any = faiss.index_factory(128, _recipe(choice))
    if choice.codes != "exact":
        rows = np.concatenate(images)
        some = min(len(rows), TRAINING_ROWS_PER_LIST * choice.lists)
        index.train(rows[np.random.default_rng(1).choice(len(rows), some, replace=False)].astype(np.float32))
        index.nprobe = choice.probes
    return _filled(index, images, describe)


def _recipe(choice: Choice) -> str:
    if choice.codes == "exact":
        return "Flat"
    lists = f"IVF{choice.lists}_HNSW32" if choice.lists >= GRAPH_LISTS else f"IVF{choice.lists}"
    return f"{lists},{ {'sq8': 'SQ8', 'rabitq': 'RaBitQ', 'pq': 'PQ32x4fsr'}[choice.codes] }"


def _filled(index: Any, images: Sequence[NDArray[np.uint8]], describe: Callable[[bytes], Descriptors]) -> Voting:
    rows = np.concatenate(images)
    for start in range(0, len(rows), ADD_ROWS):
        index.add(rows[start : start + ADD_ROWS].astype(np.float32))
    return Voting(index, np.repeat(np.arange(len(images), dtype=np.int32), [len(one) for one in images]), describe)

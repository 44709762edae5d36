"""First stage of a search: every descriptor of the query votes for the images that its neighbours belong to.

A vote weighs 1 - d / d_8, with d the squared distance of the neighbour and d_8 that of the eighth: a descriptor that
resembles everything says little. (The adaptive criterion of Jégou, Douze and Schmid, Exploiting descriptor distances
for precise image search, 2011.) An image's votes are divided by the square root of its number of indexed descriptors,
since an image with many of them gets more votes by chance.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import faiss
import numpy as np
from numpy.typing import NDArray

NEIGHBOURS = 8


def neighbours(
    trained: Any | None,
    parts: Sequence[Any],
    probes: int,
    descriptors: NDArray[np.uint8],
    allowed: NDArray[np.bool_] | None = None,
) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """The nearest indexed descriptors of each query descriptor, over all parts together.

    `parts` are Faiss indexes, `trained` the one whose quantizer they share (None for exact search); `descriptors` is
    (n, 128). `allowed`, indexed by Faiss id, leaves out all others. Returns squared distances (n, NEIGHBOURS) in
    ascending order and Faiss ids of the same shape; where there are not that many the distance is infinite and the id
    -1.
    """
    queries = np.ascontiguousarray(descriptors, np.float32)
    parameters: Any = faiss.SearchParameters() if trained is None else faiss.SearchParametersIVF()
    if allowed is not None:
        bits = np.packbits(allowed, bitorder="little")
        # The selector only points to the bits, so they must live on.
        parameters.sel = faiss.IDSelectorBitmap(len(bits), faiss.swig_ptr(bits))
    if trained is None:
        found = [part.search(queries, NEIGHBOURS, params=parameters) for part in parts]
    else:
        # The lists to look into are the same in all parts.
        lists = trained.quantizer.search(queries, probes)
        parameters.nprobe = probes
        found = [_in_lists(part, queries, lists, parameters) for part in parts]
    distances = np.concatenate([distance for distance, _ in found], axis=1)
    ids = np.concatenate([one for _, one in found], axis=1)
    distances[ids < 0] = np.inf
    # Ties are broken by id, so that the same descriptors answer alike however they are split into parts.
    best = np.lexsort((ids, distances), axis=1)[:, :NEIGHBOURS]
    return np.take_along_axis(distances, best, axis=1), np.take_along_axis(ids, best, axis=1)


def _in_lists(
    part: Any, queries: NDArray[np.float32], lists: tuple[Any, Any], parameters: Any
) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """`part.search_preassigned`, which in Python takes no parameters (faiss 1.15)."""
    near = np.empty((len(queries), NEIGHBOURS), np.float32)
    ids = np.empty((len(queries), NEIGHBOURS), np.int64)
    arrays = [faiss.swig_ptr(array) for array in (queries, lists[1], lists[0], near, ids)]
    part.search_preassigned_c(len(queries), arrays[0], NEIGHBOURS, *arrays[1:], False, parameters)
    return near, ids


@dataclass(frozen=True, eq=False)
class Votes:
    """Images with at least one vote, best first, and the matches that the votes came from."""

    numbers: NDArray[np.int64]
    """(images,): image numbers."""
    totals: NDArray[np.float64]
    """(images,): their votes."""
    _images: NDArray[np.int64]
    _rows: NDArray[np.int64]

    def matches(self, number: int) -> tuple[NDArray[np.intp], NDArray[np.int64]]:
        """Rows of the query and rows of the image that the first stage thinks alike."""
        query_rows, slots = np.nonzero(self._images == number)
        return query_rows, self._rows[query_rows, slots]


def votes(distances: NDArray[np.float32], ids: NDArray[np.int64], starts: NDArray[np.int64]) -> Votes:
    """Count the votes. `distances` and `ids` are as `neighbours` returns them; image i owns the ids
    starts[i]:starts[i + 1]."""
    images = np.searchsorted(starts, ids, side="right") - 1
    last = np.where(np.isfinite(distances), distances, 0).max(axis=1, keepdims=True)
    weights = 1 - distances / np.maximum(last, 1)
    # Repeated texture would vote many times for one image: only the nearest neighbour in each image counts.
    repeated = np.tril(images[:, :, None] == images[:, None, :], k=-1).any(axis=2)
    counted = (ids >= 0) & (weights > 0) & ~repeated
    numbers, slots = np.unique(images[counted], return_inverse=True)
    sizes = starts[numbers + 1] - starts[numbers]
    total = np.bincount(slots, weights[counted], minlength=len(numbers)) / np.sqrt(sizes)
    order = np.lexsort((numbers, -total))
    images[ids < 0] = -1
    return Votes(numbers[order], total[order], images, ids - starts[np.maximum(images, 0)])

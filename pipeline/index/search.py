"""First stage of a search: every descriptor of the query votes for the images that its neighbours belong to.

A vote weighs 1 - d / d_8, with d the squared distance of the neighbour and d_8 that of the eighth: a descriptor that
resembles everything says little. (The adaptive criterion of Jégou, Douze and Schmid, Exploiting descriptor distances
for precise image search, 2011.) An image's votes are divided by the square root of its number of indexed descriptors,
since an image with many of them gets more votes by chance.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

NEIGHBOURS = 8


def neighbours(parts: Sequence[Any], descriptors: NDArray[np.uint8]) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """The nearest indexed descriptors of each query descriptor, over all parts together.

    `parts` are Faiss indexes, `descriptors` (n, 128). Returns squared distances (n, NEIGHBOURS) in ascending order and
    Faiss ids of the same shape; where there are not that many the distance is infinite and the id -1.
    """
    queries = descriptors.astype(np.float32)
    found = [part.search(queries, NEIGHBOURS) for part in parts]
    distances = np.concatenate([distance for distance, _ in found], axis=1)
    ids = np.concatenate([one for _, one in found], axis=1)
    distances[ids < 0] = np.inf
    # Ties are broken by id, so that the same descriptors answer alike however they are split into parts.
    best = np.lexsort((ids, distances), axis=1)[:, :NEIGHBOURS]
    return np.take_along_axis(distances, best, axis=1), np.take_along_axis(ids, best, axis=1)


def votes(
    distances: NDArray[np.float32], ids: NDArray[np.int64], starts: NDArray[np.int64]
) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """Image numbers with at least a vote, best first, and their votes.

    `distances` and `ids` are as `neighbours` returns them. Image i owns the ids starts[i]:starts[i + 1].
    """
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
    return numbers[order], total[order]

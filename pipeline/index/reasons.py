"""Why a generation should be rebuilt: each reason is one sentence with its numbers, and stands in the manifest."""

import numpy as np

from pipeline.index.build import imbalance, unpack
from pipeline.index.manifest import Counts, Manifest
from pipeline.index.rules import Choice

# Share of deleted images that is worth a compaction.
MAX_DEAD = 0.1
# How many times what it was trained on a collection may become.
MAX_GROWTH = 4
# How many times as uneven as at training the lists may become: searches get slower in proportion.
MAX_IMBALANCE = 1.5
# How many times as far from their lists as at training new descriptors may lie. Few of them say nothing.
MAX_DRIFT = 1.2
DRIFT_DESCRIPTORS = 20_000


def growth(current: Manifest, grown: Counts, choice: Choice, retraining_interval: int) -> str | None:
    """Whether the collection has outgrown its index, when it has grown to `grown` and `choice` would be made for it."""
    since = grown.images - current.rebuilt.images
    made = current.choice
    if since >= retraining_interval:
        return f"{since} images since the last rebuild, RETRAINING_INTERVAL is {retraining_interval}"
    if (choice.codes, choice.per_image) != (made.codes, made.per_image):
        return (
            f"{grown.images} images are better served by {choice.codes} of {choice.per_image} descriptors an image "
            f"than by {made.codes} of {made.per_image}"
        )
    if current.trained and grown.descriptors > MAX_GROWTH * current.rebuilt.descriptors:
        return f"{grown.descriptors} descriptors, trained when there were {current.rebuilt.descriptors}"
    return None


def decay(current: Manifest, living: int) -> str | None:
    """Whether the index has become worse than a new one would be. `living` images of it are not deleted."""
    dead = current.counts.images - living
    if dead > MAX_DEAD * current.counts.images:
        return f"{dead} of {current.counts.images} images are deleted"
    return _uneven(current) or _drifted(current)


def _uneven(current: Manifest) -> str | None:
    if current.trained is None:
        return None
    now, before = imbalance([unpack(part.list_sizes) for part in current.parts]), current.trained.imbalance
    if now > MAX_IMBALANCE * before:
        return f"lists are {now:.2f} times as costly to scan as even ones, {before:.2f} times when they were trained"
    return None


def _drifted(current: Manifest) -> str | None:
    """New descriptors may be unlike those that the lists were made for: a sign that recall decays."""
    added = [part for part in current.parts if part.first_image >= current.rebuilt.images]
    descriptors = sum(part.descriptors for part in added)
    if current.trained is None or descriptors < DRIFT_DESCRIPTORS:
        return None
    error = float(np.average([part.error for part in added], weights=[part.descriptors for part in added]))
    if error > MAX_DRIFT * current.trained.error:
        return (
            f"{descriptors} new descriptors lie {error:.0f} (squared) from their lists on average, "
            f"those at training {current.trained.error:.0f}"
        )
    return None

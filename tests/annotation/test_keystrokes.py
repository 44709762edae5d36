"""What suggestions save: a simulated annotator works through the real queue, with pictures that are really indexed.

The keys are those of the Annotate page: 1 to 9 pick one of the nine most used labels; `/` and some letters look for
labels with a word that begins like that, the most used first, and Enter takes the first; Space saves and goes on, and
where nothing was picked it accepts the first suggestion. So by hand one of the nine costs two keys, any other label at
least four, and a suggestion costs one: with nine labels or fewer it could save half at best.
"""

import json
import logging
import random
from collections import Counter
from uuid import UUID

import cv2
import numpy as np
from numpy.typing import NDArray

from pipeline.annotation import decisions, queue
from pipeline.annotation.said import Said
from pipeline.annotation.suggestions import suggest
from pipeline.context import Context
from pipeline.events import ImageEvent
from pipeline.index.reader import Reader
from pipeline.samples import cover, cover_title, snapshot
from pipeline.stores.catalog import Filter

from .conftest import ANN, Collect

log = logging.getLogger(__name__)

COVERS, KNOWN_RECORDS = 20, 60


class OnlyLabelling(random.Random):
    """No second opinions in between."""

    def random(self) -> float:
        return 1.0


def jpeg(pixels: NDArray[np.uint8], quality: int = 85) -> bytes:
    return cv2.imencode(".jpg", pixels, [cv2.IMWRITE_JPEG_QUALITY, quality])[1].tobytes()


def pictures(number: int) -> list[bytes]:
    """A cover as a collection may have it: the scan, a small one, two snapshots, one trimmed and mirrored."""
    scan = cover(number)
    small = cv2.resize(scan, (400, 400), interpolation=cv2.INTER_AREA)
    snapshots = [jpeg(snapshot(scan, seed=7 * number + one)) for one in range(2)]
    return [jpeg(scan), jpeg(small, 60), *snapshots, jpeg(cv2.flip(scan[40:-40, 40:-40], 1))]


def keys_to_pick(label: str, used: Counter[str]) -> int:
    """Keys that choose a label from those that are known, before Space."""
    ordered = sorted(used, key=lambda one: (-used[one], one))
    if label in ordered[:9]:
        return 1
    for letters in range(1, len(label) + 1):
        typed = label[:letters].casefold()
        if next(one for one in ordered if f" {typed}" in f" {one.casefold()}") == label:
            break
    return 1 + letters + 1


def test_suggestions_save_at_least_half_of_the_keys(context: Context, reader: Reader, collect: Collect) -> None:
    # Which records there are is known, from elsewhere; of these pictures none is labelled.
    known = [cover_title(number) for number in range(KNOWN_RECORDS)]
    elsewhere = [ImageEvent("elsewhere", f"{title}.jpg", "etag", label=title) for title in known]
    context.catalog.register(elsewhere)
    wanted: dict[UUID, str] = {}
    files = {f"{number}-{one}.jpg": data for number in range(COVERS) for one, data in enumerate(pictures(number))}
    for name, image in collect(files).items():
        wanted[image] = cover_title(int(name.split("-")[0]))
    used, keys_with, keys_without, accepted = Counter(known), 0, 0, 0
    while task := queue.next_image(context, ANN, Filter(visible_to="ann"), "label", chance=OnlyLabelling()):
        image = task.image["_id"]
        label = wanted.pop(image)
        by_hand = keys_to_pick(label, used) + 1
        suggestions = suggest(context, reader, image, visible_to="ann")
        agrees = bool(suggestions) and suggestions[0].label == label
        keys_without += by_hand
        keys_with += 1 if agrees else by_hand
        accepted += agrees
        used[label] += 1
        decisions.label(context, ANN, image, task.image["revision"], Said([label], suggested=agrees))
    assert not wanted, "the queue did not offer every picture"
    told = {"with": keys_with, "without": keys_without, "accepted": accepted}
    log.info("keystrokes: %s", json.dumps(told))
    assert keys_with <= keys_without / 2, told

"""Recall of a generation, measured before it is published: does it find deformed copies of its own images?"""

import os
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from math import sqrt
from uuid import UUID

import numpy as np

from pipeline.errors import NoFeatures
from pipeline.features.sift import Features, extract
from pipeline.images.decode import decode_color, decode_gray
from pipeline.images.probe import probe
from pipeline.index.alike import show_the_same
from pipeline.index.files import Files
from pipeline.index.manifest import Manifest, Recall
from pipeline.index.opened import OpenGeneration, one_thread
from pipeline.index.recognise import Wanted, recognise
from pipeline.index.verify import verify
from pipeline.samples import snapshot_jpeg

# Photos that even beside their own image have fewer inliers show too little to be recognised by any index.
RECOGNISABLE = 20
PHOTOGRAPHED_SIDE = 1024


def evaluate(
    manifest: Manifest,
    files: Files,
    fetch_original: Callable[[UUID], bytes | None],
    sample: int,
    seed: int,
) -> Recall:
    """Photograph a sample of the indexed images anew (simulated) and search for them at rank 1.

    Half of the sample is from the newest part, since that is what could be wrong. `fetch_original` returns the bytes
    of an image, None when it has been deleted. Where a collection has an image and a near-duplicate of it, finding
    either is right: nobody could tell which of them was photographed.
    """
    opened = OpenGeneration.open(manifest, files)

    def ask(number: int) -> bool | None:
        """Whether the image is found; None where its photo shows too little, or where it is gone."""
        one_thread()
        image_id = opened.image_id(number)
        data = fetch_original(image_id)
        photo = _describe(photograph(data, seed + number), manifest.settings) if data else None
        geometry = verify(photo, opened.features(number)) if photo else None
        if not photo or geometry is None or geometry.inliers < RECOGNISABLE:
            return None
        for match in recognise(opened, photo, Wanted(top_n=1)):
            found = opened.number(match.image_id)
            assert found is not None  # it comes out of this very generation
            return found == number or show_the_same(opened.features(found), opened.features(number))
        return False

    with ThreadPoolExecutor(os.cpu_count()) as pool:
        answers = list(pool.map(ask, _sample(manifest, sample, seed)))
    queries = sum(answer is not None for answer in answers)
    # With nothing to look for nothing is lost.
    recall = sum(answer is True for answer in answers) / queries if queries else 1.0
    return Recall(recall_at_1=recall, queries=queries, unrecognisable=len(answers) - queries)


def _sample(manifest: Manifest, size: int, seed: int) -> list[int]:
    """Image numbers without repeats: half from the newest part, the others from all images."""
    rng = np.random.default_rng(seed)
    images = np.arange(manifest.counts.images)
    newest = images[manifest.parts[-1].first_image :] if manifest.parts else images
    chosen = rng.choice(newest, min(size // 2, len(newest)), replace=False)
    others = np.setdiff1d(images, chosen)
    rest = rng.choice(others, min(size - len(chosen), len(others)), replace=False)
    return sorted([*chosen.tolist(), *rest.tolist()])


def photograph(data: bytes, seed: int) -> bytes:
    """A simulated phone photo, as JPEG, of an encoded picture of the collection. Raises BadImage."""
    # Its size was limited when it came in; a phone's camera sees no more than this of it.
    found = probe(data, len(data), sys.maxsize)
    return snapshot_jpeg(decode_color(data, found, PHOTOGRAPHED_SIDE), seed)


def _describe(photo: bytes, settings: dict[str, int]) -> Features | None:
    gray = decode_gray(photo, probe(photo, len(photo), sys.maxsize), settings["image_side"])
    try:
        return extract(gray, settings["num_features"])
    except NoFeatures:
        return None


def passes(new: Recall | None, parent: Recall | None, margin: float = 0.05) -> bool:
    """The gate: recall may fall by at most `margin` below the parent's, and by what chance makes of so few queries.

    Chance is two standard errors of the difference of two proportions. Without it one miss among 16 queries would
    block a publish. A generation that was not measured does not pass.
    """
    if new is None:
        return False
    if parent is None or not new.queries or not parent.queries:
        return True
    right = new.recall_at_1 * new.queries + parent.recall_at_1 * parent.queries
    pooled = right / (new.queries + parent.queries)
    error = sqrt(pooled * (1 - pooled) * (1 / new.queries + 1 / parent.queries))
    return new.recall_at_1 + margin + 2 * error >= parent.recall_at_1

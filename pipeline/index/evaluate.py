"""Recall of a generation, measured before it is published: does it find deformed copies of its own images?"""

from collections.abc import Callable
from math import sqrt
from uuid import UUID

import numpy as np

from pipeline.errors import NoFeatures
from pipeline.features.sift import Features, extract
from pipeline.images.decode import decode_color, decode_gray
from pipeline.images.probe import Probe
from pipeline.index.files import Files
from pipeline.index.manifest import Manifest, Recall
from pipeline.index.reader import OpenGeneration
from pipeline.index.verify import score, verify
from pipeline.samples import snapshot
from pipeline.samples.raster import jpeg

# The default SIMILARITY_THRESHOLD: photos below it would not be answered by any index.
RECOGNISABLE = 0.5
JPEG_QUALITY = 80


def evaluate(
    manifest: Manifest,
    files: Files,
    fetch_original: Callable[[UUID], bytes | None],
    same: Callable[[UUID, UUID], bool],
    sample: int,
    seed: int,
) -> Recall:
    """Photograph a sample of the indexed images anew (simulated) and search for them at rank 1.

    Half of the sample is from the newest part, since that is what could be wrong. `fetch_original` returns the bytes
    of an image, None when it has been deleted. `same` tells whether two images have the same content: finding either is
    right.
    """
    opened = OpenGeneration(manifest, files)
    right = queries = unrecognisable = 0
    for number in _sample(manifest, sample, seed):
        image_id = opened.image_id(number)
        data = fetch_original(image_id)
        if data is None:
            continue
        photo = _photo(data, seed + number, manifest.settings)
        geometry = verify(photo, opened.features(number)) if photo else None
        if photo is None or geometry is None or score(geometry.inliers) < RECOGNISABLE:
            unrecognisable += 1
            continue
        queries += 1
        found = [match.image_id for match in opened.search(photo, 1, 0.0)]
        right += bool(found) and (found[0] == image_id or same(found[0], image_id))
    # With nothing to look for nothing is lost.
    return Recall(recall_at_1=right / queries if queries else 1.0, queries=queries, unrecognisable=unrecognisable)


def _sample(manifest: Manifest, size: int, seed: int) -> list[int]:
    """Image numbers without repeats: half from the newest part, the others from all images."""
    rng = np.random.default_rng(seed)
    images = np.arange(manifest.counts.images)
    newest = images[manifest.parts[-1].first_image :] if manifest.parts else images
    chosen = rng.choice(newest, min(size // 2, len(newest)), replace=False)
    others = np.setdiff1d(images, chosen)
    rest = rng.choice(others, min(size - len(chosen), len(others)), replace=False)
    return sorted([*chosen.tolist(), *rest.tolist()])


def _photo(data: bytes, seed: int, settings: dict[str, int]) -> Features | None:
    """Features of a simulated phone photo of a picture, None where there are none."""
    photo = snapshot(decode_color(data), seed)
    height, width = photo.shape[:2]
    gray = decode_gray(jpeg(photo, JPEG_QUALITY), Probe("JPEG", width, height), settings["image_side"])
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

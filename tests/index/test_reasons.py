from datetime import UTC, datetime
from typing import Any

import numpy as np
import pytest

from pipeline.index import reasons
from pipeline.index.build import Part, Trained, pack
from pipeline.index.manifest import Counts, Manifest
from pipeline.index.rules import EXACT_LIMIT, PER_IMAGE, Choice, choose

EVEN = np.full(64, 1000, np.uint32)
UNEVEN = np.array([8000] * 8 + [0] * 56, np.uint32)


def counts(images: int) -> Counts:
    return Counts(images=images, descriptors=images * 500)


def choice(images: int) -> Choice:
    return choose(images, 500, 1 << 40, 1e9)


def part(first_image: int, images: int, sizes: np.ndarray = EVEN, error: float = 100.0) -> Part:
    place = {"first_image": first_image, "images": images, "first_descriptor": 0, "descriptors": images * 500}
    return Part(name="p", bytes=1, role="base", error=error, list_sizes=pack(sizes), segments=[], **place)


def manifest(images: int, rebuilt: int, *later: Part, base: np.ndarray = EVEN) -> Manifest:
    """A generation of `images` images, `rebuilt` of them there when it was trained."""
    fields: dict[str, Any] = {"id": "g", "parent": None, "created_at": datetime.now(UTC), "kind": "append"}
    made = choice(rebuilt)
    trained = Trained(name="t", bytes=1, lists=64, error=100.0, imbalance=1.2) if made.lists else None
    return Manifest(
        **fields,
        reason="",
        base="g",
        segments=[],
        parts=[part(0, rebuilt, base), *later],
        trained=trained,
        choice=made,
        rebuilt=counts(rebuilt),
        counts=counts(images),
        settings={},
    )


def growth(images: int, rebuilt: int, interval: int = 50_000) -> str | None:
    grown = counts(images)
    return reasons.growth(manifest(rebuilt, rebuilt), grown, choice(images), interval)


def test_retraining_is_due_after_so_many_images() -> None:
    assert growth(299, 200, 100) is None
    assert growth(300, 200, 100) == "100 images since the last rebuild, RETRAINING_INTERVAL is 100"


def test_outgrowing_exact_search_is_a_reason() -> None:
    most = EXACT_LIMIT // PER_IMAGE
    assert growth(most, 10) is None
    assert "better served by sq8" in (growth(most + 1, 10) or "")


def test_four_times_what_was_trained_on_is_a_reason() -> None:
    assert growth(800, 200) is None
    assert growth(801, 200) == "400500 descriptors, trained when there were 100000"


def test_more_than_a_tenth_deleted_is_a_reason() -> None:
    assert reasons.decay(manifest(200, 200), 180) is None
    assert reasons.decay(manifest(200, 200), 179) == "21 of 200 images are deleted"


def test_lists_much_more_uneven_than_at_training_are_a_reason() -> None:
    assert reasons.decay(manifest(210, 200, part(200, 10, EVEN)), 210) is None
    # Eight full lists more, of as many descriptors as all the others hold: 64 * (8 * 9000^2 + 56 * 1000^2) / 128000^2.
    reason = reasons.decay(manifest(210, 200, part(200, 10, UNEVEN)), 210)
    assert reason is not None
    assert "2.75 times as costly" in reason
    assert "1.20 times when they were trained" in reason


@pytest.mark.parametrize(("images", "error", "due"), [(50, 130.0, True), (50, 119.0, False), (30, 500.0, False)])
def test_enough_new_descriptors_far_from_their_lists_are_a_reason(images: int, error: float, due: bool) -> None:
    reason = reasons.decay(manifest(200 + images, 200, part(200, images, EVEN, error)), 200 + images)
    assert (reason is not None) == due
    if reason:
        assert "25000 new descriptors" in reason
        assert "130" in reason


def test_exact_search_neither_drifts_nor_gets_uneven() -> None:
    exact = manifest(60, 10, part(10, 50, UNEVEN, 1e9))
    assert exact.trained is None
    assert reasons.decay(exact, 60) is None

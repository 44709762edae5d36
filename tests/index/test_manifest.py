from datetime import UTC, datetime

from pipeline.features.segments import SegmentInfo
from pipeline.index.build import PART_LIMIT, Part, Role, Trained
from pipeline.index.evaluate import passes
from pipeline.index.manifest import Counts, Manifest, Recall, new_id, plan
from pipeline.index.rules import EXACT_LIMIT, choose


def segment(images: int, descriptors: int) -> SegmentInfo:
    return SegmentInfo(name=f"{images}-{descriptors}", bytes=1, images=images, descriptors=descriptors)


def part(role: Role) -> Part:
    place = {"first_image": 0, "images": 1, "first_descriptor": 0, "descriptors": 1, "segments": []}
    return Part(name="p", bytes=1, role=role, error=0.0, list_sizes="", **place)


def manifest(images: int, descriptors: int, rebuilt: Counts, deltas: int = 0, trained: bool = True) -> Manifest:
    return Manifest(
        id=new_id(),
        parent=None,
        created_at=datetime.now(UTC),
        kind="append",
        reason="",
        segments=[segment(images, descriptors)],
        parts=[part("base"), *[part("delta")] * deltas],
        trained=Trained(name="t", bytes=1, lists=1, error=1.0, imbalance=1.0) if trained else None,
        choice=choose(images, descriptors / images, 1 << 40, 1e9),
        rebuilt=rebuilt,
        counts=Counts(images=images, descriptors=descriptors),
        settings={},
    )


def small(deltas: int = 0) -> Manifest:
    return manifest(200, 100_000, Counts(images=200, descriptors=100_000), deltas)


def test_the_first_generation_is_a_rebuild() -> None:
    assert plan(None, [segment(1, 500)], 50_000).kind == "rebuild"


def test_a_few_images_are_appended() -> None:
    step = plan(small(), [segment(10, 5_000)], 50_000)
    assert (step.kind, step.fold) == ("append", False)


def test_retraining_is_due_after_so_many_images() -> None:
    assert plan(small(), [segment(99, 500)], 100).kind == "append"
    step = plan(small(), [segment(100, 500)], 100)
    assert step.kind == "rebuild"
    assert "RETRAINING_INTERVAL" in step.reason


def test_outgrowing_exact_search_is_a_rebuild() -> None:
    exact = manifest(10, EXACT_LIMIT - 100, Counts(images=10, descriptors=EXACT_LIMIT - 100), trained=False)
    assert plan(exact, [segment(1, 100)], 50_000).kind == "append"
    assert plan(exact, [segment(1, 101)], 50_000).kind == "rebuild"


def test_four_times_what_was_trained_on_is_a_rebuild() -> None:
    assert plan(small(), [segment(600, 300_000)], 50_000).kind == "append"
    assert plan(small(), [segment(600, 300_001)], 50_000).kind == "rebuild"


def test_the_ninth_delta_is_folded_with_the_others() -> None:
    assert not plan(small(deltas=7), [segment(1, 500)], 50_000).fold
    assert plan(small(deltas=8), [segment(1, 500)], 50_000).fold


def test_a_large_append_takes_the_deltas_before_it_along() -> None:
    large = manifest(5_000, 2_500_000, Counts(images=5_000, descriptors=2_500_000), deltas=1)
    assert plan(large, [segment(2_000, PART_LIMIT)], 50_000).fold


def test_ids_sort_by_time() -> None:
    made = [new_id() for _ in range(50)]
    assert len(set(made)) == 50
    assert sorted(made, key=lambda one: one[:21]) == made


def measured(recall: float, queries: int) -> Recall:
    return Recall(recall_at_1=recall, queries=queries, unrecognisable=0)


def test_the_gate_lets_chance_pass_and_stops_a_fall() -> None:
    parent = measured(1.0, 100)
    assert passes(measured(0.96, 100), parent)
    assert passes(measured(15 / 16, 16), parent)
    assert not passes(measured(0.8, 100), parent)
    assert not passes(measured(8 / 16, 16), parent)
    assert passes(measured(0.3, 100), None)
    assert not passes(None, parent)

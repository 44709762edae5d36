from pathlib import Path
from uuid import UUID

import faiss
import numpy as np
import pytest
from numpy.typing import NDArray

from pipeline.errors import BrokenGeneration
from pipeline.features.segments import Segment, write_segment
from pipeline.features.sift import Features
from pipeline.index import build, search
from pipeline.index.rules import Choice, Codes

KINDS: list[Codes] = ["exact", "sq8", "rabitq", "pq"]
TRAINED: list[Codes] = ["sq8", "rabitq", "pq"]
LISTS = 16


def choice(codes: Codes, per_image: int = 500, probes: int = LISTS) -> Choice:
    lists = 0 if codes == "exact" else LISTS
    costs = {"memory_bytes": 0, "latency_ms": 0.0, "reason": "", "descriptors": 0}
    return Choice(codes=codes, per_image=per_image, lists=lists, probes=probes if lists else 0, **costs)


def random_segment(folder: Path, images: int, rows: int, seed: int) -> Path:
    rng = np.random.default_rng(seed)
    items = []
    for _ in range(images):
        descriptors = rng.gamma(0.5, 60, (rows, 128)).clip(0, 255).astype(np.uint8)
        keypoints = rng.random((rows, 4), np.float32)
        items.append((UUID(bytes=rng.bytes(16)), Features(keypoints, descriptors, (1.0, 1.0))))
    return folder / f"{write_segment(folder, items).name}.safetensors"


class Built:
    """Parts over segments, and how to search them."""

    def __init__(self, kind: Choice, segments: list[Path], limit: int, folder: Path) -> None:
        self.folder, self.kind, self.trained = folder, kind, None
        if kind.lists:
            self.trained = folder / f"{build.train_on(kind, segments, folder, 1).name}.faiss"
        paths = {path.stem: path for path in segments}
        self.parts = [
            build.build_part(kind, self.trained, [paths[name] for name in span.segments], span, "base", folder, 1)
            for span in build.spans(segments, kind.per_image, 0, 0, limit)
        ]

    def path(self, part: build.Part) -> Path:
        return self.folder / f"{part.name}.faiss"

    def answer(self, queries: NDArray[np.uint8]) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
        trained = build.open_trained(self.trained) if self.trained else None
        parts = [build.open_part(self.path(part), trained) for part in self.parts]
        return search.neighbours(trained, parts, self.kind.probes, queries)

    def merged(self) -> "Built":
        whole = object.__new__(Built)
        whole.folder, whole.kind, whole.trained = self.folder, self.kind, self.trained
        paths = [self.path(part) for part in self.parts]
        whole.parts = [build.merge(self.trained, self.parts, paths, self.folder)]
        return whole


def nearest_by_hand(queries: NDArray[np.uint8], rows: NDArray[np.uint8]) -> NDArray[np.int64]:
    """Squared distances of the eight nearest rows, in integers."""
    difference = queries[:, None].astype(np.int64) - rows[None].astype(np.int64)
    return np.sort((difference**2).sum(axis=2), axis=1)[:, :8]


@pytest.mark.parametrize("codes", ["exact", "sq8"])
def test_plain_codes_answer_with_true_distances_and_ids(tmp_path: Path, codes: Codes) -> None:
    # When all lists are looked into, nothing may differ from brute force.
    paths = [random_segment(tmp_path, 20, 15, seed) for seed in (1, 2)]
    built = Built(choice(codes), paths, 300, tmp_path)
    rows = np.concatenate([Segment(path).descriptors(0, 300) for path in paths])

    distances, ids = built.answer(rows[::40])

    assert len(built.parts) == 2
    assert np.array_equal(distances, nearest_by_hand(rows[::40], rows))
    assert ids[:, 0].tolist() == list(range(0, 600, 40))


@pytest.mark.parametrize("codes", TRAINED)
def test_only_the_strongest_descriptors_of_an_image_are_indexed(tmp_path: Path, codes: Codes) -> None:
    paths = [random_segment(tmp_path, 20, rows, seed) for rows, seed in ((15, 1), (5, 2), (30, 3))]
    built = Built(choice(codes, per_image=10), paths, 10_000, tmp_path)
    (part,) = built.parts
    assert (part.images, part.descriptors) == (60, 20 * 10 + 20 * 5 + 20 * 10)
    # Descriptor 3 of image 41: behind 200 + 100 and one image of ten. Descriptor 12 of image 40 is too weak.
    third = Segment(paths[2])
    near, ids = built.answer(np.array([third.image(1).descriptors[3], third.image(0).descriptors[12]]))
    assert ids[0, 0] == 313
    assert near[1, 0] > 4 * near[0, 0]


@pytest.mark.parametrize("codes", KINDS)
def test_merged_parts_answer_as_the_parts_did_with_the_same_ids(tmp_path: Path, codes: Codes) -> None:
    paths = [random_segment(tmp_path, 20, rows, seed) for rows, seed in ((15, 1), (5, 2), (30, 3), (15, 4))]
    built = Built(choice(codes, probes=4), paths, 400, tmp_path)
    whole = built.merged()
    assert len(built.parts) == 3
    assert whole.parts[0].segments == [path.stem for path in paths]
    assert whole.parts[0].descriptors == sum(part.descriptors for part in built.parts)
    rows = np.concatenate([Segment(path).descriptors(0, 100) for path in paths])

    distances, ids = built.answer(rows)
    merged_distances, merged_ids = whole.answer(rows)

    # Packed distances are rounded: equal ones may come in another order.
    assert merged_distances == pytest.approx(distances, rel=1e-4)
    assert (merged_ids == ids).mean() > 0.99
    assert whole.parts[0].list_sizes == build.pack(sum(build.unpack(part.list_sizes) for part in built.parts))


def test_a_packed_list_that_is_full_to_the_brim_can_be_joined_with_another(tmp_path: Path) -> None:
    # With 1,024 codes Faiss itself writes past the end of the list here.
    paths = [random_segment(tmp_path, images, rows, seed) for images, rows, seed in ((64, 16, 1), (32, 16, 2))]
    built = Built(choice("pq").model_copy(update={"lists": 1, "probes": 1}), paths, 1024, tmp_path)
    whole = built.merged()
    segments = [Segment(path) for path in paths]
    rows = np.concatenate([one.descriptors(0, one.info.descriptors) for one in segments])[::7]

    distances, ids = built.answer(rows)
    merged_distances, merged_ids = whole.answer(rows)

    assert [part.descriptors for part in built.parts] == [1024, 512]
    assert merged_distances == pytest.approx(distances, rel=1e-4)
    assert (merged_ids == ids).mean() > 0.99


@pytest.mark.parametrize("codes", TRAINED)
def test_finding_lists_once_for_all_parts_answers_like_a_plain_search(tmp_path: Path, codes: Codes) -> None:
    paths = [random_segment(tmp_path, 20, 15, seed) for seed in (1, 2)]
    built = Built(choice(codes, probes=4), paths, 300, tmp_path)
    trained = build.open_trained(built.trained)
    queries = Segment(paths[0]).descriptors(0, 100).astype(np.float32)
    list_distances, lists = trained.quantizer.search(queries, 4)
    for part in built.parts:
        opened = build.open_part(built.path(part), trained)
        plain = opened.search(queries, 8)
        assigned = opened.search_preassigned(queries, 8, lists, list_distances)
        assert np.array_equal(plain[0], assigned[0])
        assert np.array_equal(plain[1], assigned[1])


@pytest.mark.parametrize("codes", TRAINED)
def test_a_part_keeps_the_quantizer_alive_and_holds_none(tmp_path: Path, codes: Codes) -> None:
    built = Built(choice(codes), [random_segment(tmp_path, 20, 15, 1)], 300, tmp_path)
    opened = build.open_part(built.path(built.parts[0]), build.open_trained(built.trained))
    rows = Segment(tmp_path / f"{built.parts[0].segments[0]}.safetensors").descriptors(0, 300).astype(np.float32)
    assert (opened.search(rows, 1)[1].ravel() == np.arange(300)).mean() > 0.95
    alone = build._read(built.path(built.parts[0]), 0)
    assert alone.quantizer.ntotal == 0


def test_a_graph_finds_the_lists_of_large_collections(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(build, "GRAPH_LISTS", LISTS)
    paths = [random_segment(tmp_path, 20, 15, seed) for seed in (1, 2)]
    built = Built(choice("pq", probes=4), paths, 300, tmp_path)
    assert isinstance(faiss.downcast_index(build.open_trained(built.trained).quantizer), faiss.IndexHNSWFlat)
    rows = Segment(paths[1]).descriptors(0, 300)
    assert (built.answer(rows)[1][:, 0] == np.arange(300, 600)).mean() > 0.95
    assert len(built.merged().parts) == 1


@pytest.mark.parametrize("codes", TRAINED)
def test_the_same_segments_give_the_same_bytes(tmp_path: Path, codes: Codes) -> None:
    paths = [random_segment(tmp_path, 30, 100, seed) for seed in (1, 2)]
    assert Built(choice(codes), paths, 10_000, tmp_path).parts == Built(choice(codes), paths, 10_000, tmp_path).parts


def test_spans_hold_at_most_so_many_descriptors_or_one_segment(tmp_path: Path) -> None:
    paths = [random_segment(tmp_path, 10, 10, seed) for seed in range(4)] + [random_segment(tmp_path, 10, 40, 5)]
    found = build.spans(paths, 30, 7, 1000, 250)
    assert [(one.first_image, one.images, one.first_descriptor, one.descriptors) for one in found] == [
        (7, 20, 1000, 200),
        (27, 20, 1200, 200),
        (47, 10, 1400, 300),
    ]
    assert [name for one in found for name in one.segments] == [path.stem for path in paths]


def test_a_part_that_is_not_one_is_named(tmp_path: Path) -> None:
    path = tmp_path / "part.faiss"
    path.write_bytes(b"this is no index")
    with pytest.raises(BrokenGeneration, match=r"part\.faiss"):
        build.open_part(path, None)


def test_imbalance_is_the_price_of_uneven_lists() -> None:
    even, half = np.array([5, 5, 5, 5], np.uint32), np.array([10, 10, 0, 0], np.uint32)
    assert build.imbalance([even]) == 1.0
    assert build.imbalance([half]) == 2.0
    # Together they may be even again: what counts is the sum over all parts.
    assert build.imbalance([half, half[::-1]]) == 1.0
    assert build.imbalance([]) == 1.0
    assert np.array_equal(build.unpack(build.pack(half)), half)


def test_descriptors_unlike_those_of_the_training_lie_further_from_their_lists(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    centres = rng.integers(0, 200, (LISTS, 128))
    known = (centres[rng.integers(0, LISTS, 4000)] + rng.integers(0, 20, (4000, 128))).astype(np.uint8)
    index = build.train(choice("sq8"), known, 1)
    _, like = build.add(index, [known], 0)
    _, unlike = build.add(index, [rng.integers(0, 200, (4000, 128)).astype(np.uint8)], 4000)
    assert unlike > 3 * like

"""A small collection grows in its work folder, and is served over HTTP."""

from itertools import pairwise
from pathlib import Path

import cv2
import pytest
from rich.progress import Progress

from bench import growth, search
from bench.collection import Collection
from pipeline.settings import Settings
from tests.bench.conftest import IMAGES

SIMULATED = 50


@pytest.fixture(autouse=True)
def few_queries(monkeypatch: pytest.MonkeyPatch) -> None:
    for module in (growth, search):
        monkeypatch.setattr(module, "QUERIES", 4)
        monkeypatch.setattr(module, "WARM_UP", 1)


@pytest.fixture(scope="module")
def collection(tmp_path_factory: pytest.TempPathFactory) -> Collection:
    return Collection(tmp_path_factory.mktemp("work"), IMAGES + SIMULATED, Settings(), real=IMAGES)


def test_every_step_holds_the_one_before_and_finds_what_is_planted(
    collection: Collection, tmp_path: Path, bars: Progress
) -> None:
    found = growth.run(collection, tmp_path / "growth.png", bars)
    assert [step["images"] for step in found["steps"]] == [20, 40, 80]
    assert found["simulated"] == SIMULATED
    for step in found["steps"]:
        assert step["first_stage_recall_at_1"] == 1
        assert step["recall_at_1"] >= 0.9
        assert step["bytes_per_image"] > 100
    assert cv2.imread(str(tmp_path / "growth.png")) is not None
    steps = [*growth.grow(collection, bars)]
    for before, after in pairwise(steps):
        assert after.manifest.parts[: len(before.manifest.parts)] == before.manifest.parts
        assert before.cost.seconds < after.cost.seconds


def test_search_uses_what_growth_built_and_measures_bare_sift_beside_it(collection: Collection, bars: Progress) -> None:
    [*_, built] = growth.grow(collection, bars)
    files = {path: path.stat().st_mtime_ns for path in collection.work.rglob("*.faiss")}
    found = search.run(collection, bars)
    assert {path: path.stat().st_mtime_ns for path in collection.work.rglob("*.faiss")} == files
    assert found["build_seconds"] == round(built.cost.seconds, 1)
    assert found["ratio"] == pytest.approx(found["p50_ms"] / found["bare_sift_ms"], rel=0.02)
    assert found["recall_at_1"] >= 0.9
    assert (found["images"], found["simulated"]) == (IMAGES + SIMULATED, SIMULATED)
    assert 0 < found["server_mb"]["before_opening"] < found["server_mb"]["after_all_queries"]

"""The benchmark of quality, on a tiny set, with the real code."""

import json
import zipfile
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from rich.progress import Progress

from bench import quality
from bench.quality import Asked, run, summary
from pipeline.samples import cover_jpeg
from pipeline.settings import Settings
from tests.bench.conftest import IMAGES, QUERIES, SHEETS, STRANGERS

PROMISED = {"recall_at_1", "mrr", "false_accept", "no_answer", "p50_ms", "p95_ms", "bytes_per_image"}
DISTRACTORS = 4


@pytest.fixture(scope="module")
def measured(tiny_set: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """A whole run with distractors and a plot, as JSON gives it back. One query has a wrong ground truth."""
    folder = tmp_path_factory.mktemp("quality")
    with zipfile.ZipFile(folder / "more.zip", "w") as archive:
        for number in range(DISTRACTORS):
            archive.writestr(f"covers/{number}.jpg", cover_jpeg(500 + number, 512))
        archive.writestr("covers/broken.jpg", cover_jpeg(600, 512)[:2000])
    truth = json.loads((tiny_set / "groundtruth.json").read_text())
    (folder / "set").mkdir()
    for name in ("database", "queries", "negatives"):
        (folder / "set" / name).symlink_to(tiny_set / name)
    first = next(iter(truth["queries"]))
    truth["queries"][first] = [next(path for path in truth["database"] if path not in truth["queries"][first])]
    (folder / "set" / "groundtruth.json").write_text(json.dumps(truth))
    with pytest.MonkeyPatch.context() as patch, Progress(disable=True) as bars:
        patch.setattr(quality, "SWEEP_CODES", ("pq",))
        patch.setattr(quality, "SWEEP_PROBES", (1, 8))
        patch.setattr(quality, "SWEEP_QUERIES", 2)
        found = run(folder / "set", folder / "more.zip", Settings(), folder / "work", folder / "plot.png", bars)
    found["plot"] = str(folder / "plot.png")
    return dict(json.loads(json.dumps(found)))


def test_all_promised_numbers_are_there_and_the_rivals_beside_them(measured: dict[str, Any]) -> None:
    systems = [measured, measured["rival"], measured["others"]["bare_faiss"], measured["others"]["brute_force"]]
    for one in systems:
        assert one.keys() >= PROMISED
        assert 0 < one["p50_ms"] <= one["p95_ms"]
        assert all(0 <= one[share] <= 1 for share in ("recall_at_1", "mrr", "no_answer", "false_accept"))
    assert (measured["queries"], measured["negatives"]) == (QUERIES + SHEETS, STRANGERS)
    assert [(row["codes"], row["probes"]) for row in measured["sweep"]] == [("pq", 1), ("pq", 8)]
    plot = cv2.imread(measured["plot"])
    assert plot is not None
    assert len(np.unique(plot)) > 10


def test_distractors_are_indexed_and_what_cannot_be_used_is_named(measured: dict[str, Any]) -> None:
    assert measured["images"] == IMAGES + DISTRACTORS
    assert list(measured["refused"]) == ["/covers/broken.jpg"]
    # A hundred SIFT descriptors of 128 floats each, and whose they are.
    assert measured["rival"]["bytes_per_image"] == pytest.approx(100 * (512 + 4), rel=0.02)


def test_snapshots_are_found_and_a_wrong_truth_is_listed_as_a_mistake(measured: dict[str, Any]) -> None:
    assert measured["false_accept"] == 0
    wrong = [one for one in measured["mistakes"] if one["got"]]
    # All other snapshots with an answer have the right one.
    assert [one["query"] for one in wrong] == ["queries/cover_000000.jpg"]
    assert Path(wrong[0]["got"]).stem == "cover_000000"
    assert wrong[0]["got"] not in wrong[0]["expected"]
    assert 0.5 <= wrong[0]["score"] <= 1


def test_the_summary_is_what_one_computes_by_hand() -> None:
    asked = [
        Asked("q1", ["a"], [("a", 0.9)], 10),
        Asked("q2", ["a"], [("b", 0.9), ("a", 0.8)], 20),
        Asked("q3", ["a"], [], 30),
        Asked("q4", ["a", "b"], [("b", 0.9), ("c", 0.6)], 40),
        Asked("n1", [], [], 50),
        Asked("n2", [], [("c", 0.7)], 60),
    ]
    found = summary(asked)
    assert (found["recall_at_1"], found["mrr"]) == (0.5, (1 + 0.5 + 0 + 1) / 4)
    assert (found["no_answer"], found["false_accept"], found["found_of_several"]) == (0.25, 0.5, 0.5)
    assert found["p50_ms"] == 35
    assert found["mistakes"] == [
        {"query": "q2", "expected": ["a"], "got": "b", "score": 0.9},
        {"query": "q3", "expected": ["a"], "got": None, "score": None},
        {"query": "n2", "expected": [], "got": "c", "score": 0.7},
    ]
    assert summary(asked[:4])["false_accept"] is None

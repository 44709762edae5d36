"""Benchmark sets: what is written can be read, and what is wrong in one is named."""

import json
from pathlib import Path

import cv2
import numpy as np
import pytest

from bench.sets import contact_sheet, read_set, write_set
from pipeline.errors import BadSource
from pipeline.samples import cover
from tests.bench.conftest import IMAGES, QUERIES, SHEETS, STRANGERS


def test_a_written_set_is_complete_and_its_negatives_are_strangers(tiny_set: Path) -> None:
    found = read_set(tiny_set)
    assert len(found.database) == len(set(found.database)) == IMAGES
    assert sorted(map(len, found.queries.values())) == [1] * QUERIES + [12] * SHEETS
    assert len(found.negatives) == STRANGERS
    numbers = {Path(path).stem for path in found.database}
    assert not numbers & {Path(path).stem for path in found.negatives}
    for query, [relevant] in ((query, paths) for query, paths in found.queries.items() if len(paths) == 1):
        assert Path(query).stem == Path(relevant).stem
    assert cv2.imdecode(np.frombuffer(found.read(found.negatives[0]), np.uint8), cv2.IMREAD_COLOR).shape[2] == 3


def test_writing_again_makes_only_what_is_missing(tiny_set: Path) -> None:
    before = {path: path.stat().st_mtime_ns for path in tiny_set.rglob("*.jpg")}
    gone = sorted(before)[3]
    content = gone.read_bytes()
    gone.unlink()
    assert sum(1 for _ in write_set(tiny_set, IMAGES, QUERIES, STRANGERS, SHEETS)) == len(before)
    after = {path: path.stat().st_mtime_ns for path in tiny_set.rglob("*.jpg")}
    assert {path for path in after if after[path] != before[path]} == {gone}
    assert gone.read_bytes() == content


@pytest.fixture
def small(tmp_path: Path) -> Path:
    """A correct set whose pictures are empty files."""
    for name in ("a.jpg", "b.jpg", "q.jpg", "n.jpg"):
        (tmp_path / name).touch()
    return tmp_path


GOOD = {"database": ["a.jpg", "b.jpg"], "queries": {"q.jpg": ["a.jpg"]}, "negatives": ["n.jpg"]}


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"database": ["a.jpg", "gone.jpg"]}, ["database[1]", "'gone.jpg'", "no such file"]),
        ({"queries": {"gone.jpg": ["a.jpg"]}}, ["queries", "'gone.jpg'", "no such file"]),
        ({"queries": {"q.jpg": ["a.jpg", "n.jpg"]}}, ["queries['q.jpg'][1]", "'n.jpg'", "not in database"]),
        ({"queries": {"q.jpg": []}}, ["queries['q.jpg']", "negatives"]),
        ({"negatives": ["../../etc/passwd"]}, ["negatives[0]", "leads out"]),
        ({"negatives": "n.jpg"}, ["negatives"]),
        ({"database": [], "queries": {}}, ["must not be empty"]),
    ],
)
def test_what_is_wrong_in_a_set_is_named_with_its_file_and_key(small: Path, change: object, named: list[str]) -> None:
    file = small / "groundtruth.json"
    file.write_text(json.dumps({**GOOD, **change}))  # type: ignore[dict-item]
    with pytest.raises(BadSource) as error:
        read_set(small)
    for part in [str(file), *named]:
        assert part in str(error.value)


def test_negatives_may_be_left_out_and_a_folder_without_a_set_says_how_to_make_one(small: Path) -> None:
    with pytest.raises(BadSource, match="sleeve bench covers"):
        read_set(small)
    (small / "groundtruth.json").write_text(json.dumps({key: GOOD[key] for key in ("database", "queries")}))
    assert read_set(small).negatives == []
    (small / "groundtruth.json").write_text("[1]")
    with pytest.raises(BadSource, match="not a JSON object"):
        read_set(small)


def test_a_contact_sheet_shows_every_cover_in_its_place() -> None:
    covers = [cover(number, 256) for number in range(12)]
    sheet = contact_sheet(covers)
    assert sheet.shape == (1200, 1600, 3)
    for row in range(3):
        for column in range(4):
            # A tile of the grid, its margin cut off, is most like the cover that belongs there.
            tile = sheet[400 * row + 20 : 400 * row + 370, 400 * column + 40 : 400 * column + 370]
            small = cv2.resize(tile, (32, 32), interpolation=cv2.INTER_AREA).astype(int)
            far = [np.abs(cv2.resize(one, (32, 32), interpolation=cv2.INTER_AREA) - small).mean() for one in covers]
            assert int(np.argmin(far)) == 4 * row + column

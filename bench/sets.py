"""Benchmark sets: a folder of pictures with a `groundtruth.json` that says what should find what.

    {"database": [path...], "queries": {path: [relevant path...]}, "negatives": [path...]}

Paths are relative to the folder. Negatives, which may be left out, show nothing of the database.
"""

import json
import os
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path, PurePosixPath

import cv2
import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ValidationError

from pipeline.errors import BadSource
from pipeline.samples import cover, snapshot_jpeg, write_covers

GROUND_TRUTH = "groundtruth.json"
# Covers from this number on are in no set's database.
FIRST_STRANGER = 10_000_000
# A sheet in pixels, and the pictures on it.
SHEET_WIDTH, SHEET_HEIGHT = 1600, 1200
SHEET_COLUMNS, SHEET_ROWS = 4, 3
TILE, GAP, PAPER = 370, 24, 226


class BenchmarkSet(BaseModel, frozen=True):
    """What `groundtruth.json` says; every path in it is a file below `folder`."""

    folder: Path
    database: list[str]
    queries: dict[str, list[str]]
    negatives: list[str] = []

    def read(self, path: str) -> bytes:
        """The bytes of one of its pictures."""
        return (self.folder / path).read_bytes()


def read_set(folder: Path) -> BenchmarkSet:
    """Read and check a benchmark set. Raises BadSource, which names the file, the key and what is wrong there."""
    file = folder / GROUND_TRUTH
    try:
        found = BenchmarkSet.model_validate({"folder": folder, **json.loads(file.read_bytes())})
    except OSError as error:
        raise BadSource(f"{file} cannot be read ({error.strerror}); `sleeve bench covers` makes such a set") from None
    except ValidationError as error:
        first = error.errors()[0]
        raise BadSource(f"{file}: {'.'.join(map(str, first['loc']))}: {first['msg']}") from None
    except (ValueError, TypeError) as error:
        raise BadSource(f"{file} is not a JSON object: {error}") from None
    for problem in _problems(found):
        raise BadSource(f"{file}: {problem}")
    return found


def _problems(found: BenchmarkSet) -> Iterator[str]:
    if not found.database or not found.queries:
        yield "database and queries must not be empty"
    named = {f"database[{number}]": path for number, path in enumerate(found.database)}
    named |= {f"the key {path!r} of queries": path for path in found.queries}
    named |= {f"negatives[{number}]": path for number, path in enumerate(found.negatives)}
    for place, path in named.items():
        if PurePosixPath(path).is_absolute() or ".." in PurePosixPath(path).parts:
            yield f"{place} is {path!r}, which leads out of the folder"
        elif not (found.folder / path).is_file():
            yield f"{place} is {path!r}, but there is no such file in {found.folder}"
    database = set(found.database)
    for query, relevant in found.queries.items():
        if not relevant:
            yield f"queries[{query!r}] is empty; what shows nothing of the database belongs into negatives"
        for number, path in enumerate(relevant):
            if path not in database:
                yield f"queries[{query!r}][{number}] is {path!r}, which is not in database"


@dataclass(frozen=True)
class Shot:
    """A photo to be taken: of one cover, or of a sheet of many."""

    path: Path
    covers: tuple[int, ...]


def write_set(folder: Path, images: int, queries: int, strangers: int, sheets: int) -> Iterator[Path]:
    """Write a set of sample covers; yields each picture's path once it is there. `groundtruth.json` comes last.

    Queries are snapshots of covers spread evenly over the database; `sheets` more show twelve of them at once;
    `strangers` are snapshots of covers that are not in it. What is there already is left alone.
    """
    database = {}
    for path in write_covers(folder / "database", images):
        database[int(path.stem.removeprefix("cover_"))] = path.relative_to(folder).as_posix()
        yield path
    spread = [number * images // max(queries, 1) for number in range(min(queries, images))]
    single = [Shot(folder / f"queries/cover_{number:06d}.jpg", (number,)) for number in spread]
    several = [Shot(folder / f"queries/sheet_{number:03d}.jpg", _on_sheet(number, images)) for number in range(sheets)]
    numbers = range(FIRST_STRANGER, FIRST_STRANGER + strangers)
    negative = [Shot(folder / f"negatives/cover_{number}.jpg", (number,)) for number in numbers]
    yield from take([*single, *several, *negative])

    def name(shot: Shot) -> str:
        return shot.path.relative_to(folder).as_posix()

    truth = {
        "database": [database[number] for number in sorted(database)],
        "queries": {name(shot): [database[number] for number in shot.covers] for shot in (*single, *several)},
        "negatives": [name(shot) for shot in negative],
    }
    _write_whole(folder / GROUND_TRUTH, json.dumps(truth, indent=1).encode())


def _on_sheet(number: int, images: int) -> tuple[int, ...]:
    """Which covers are on this sheet."""
    some = min(SHEET_COLUMNS * SHEET_ROWS, images)
    return tuple(np.random.default_rng(number).choice(images, some, replace=False).tolist())


def contact_sheet(covers: Sequence[NDArray[np.uint8]]) -> NDArray[np.uint8]:
    """Up to twelve square pictures (BGR) on one table, four in a row: BGR uint8 (1200, 1600, 3)."""
    sheet = np.full((SHEET_HEIGHT, SHEET_WIDTH, 3), PAPER, np.uint8)
    for place, picture in enumerate(covers):
        row, column = divmod(place, SHEET_COLUMNS)
        top, left = GAP // 2 + row * (TILE + GAP), GAP + column * (TILE + GAP)
        sheet[top : top + TILE, left : left + TILE] = cv2.resize(picture, (TILE, TILE), interpolation=cv2.INTER_AREA)
    return sheet


def take(shots: Sequence[Shot]) -> Iterator[Path]:
    """Take the photos that are missing, on all cores; yields the path of each that is there."""
    missing = [shot for shot in shots if not shot.path.exists()]
    yield from (shot.path for shot in shots if shot.path.exists())
    # spawn: a forked child would inherit the locks of whatever threads the caller runs
    with ProcessPoolExecutor(os.cpu_count(), get_context("spawn"), cv2.setNumThreads, (1,)) as pool:
        for job in as_completed([pool.submit(_photograph, shot) for shot in missing]):
            yield job.result()


def _photograph(shot: Shot) -> Path:
    pictures = [cover(number) for number in shot.covers]
    if len(pictures) == 1:
        photo = snapshot_jpeg(pictures[0], seed=shot.covers[0])
    else:
        # Who photographs twelve covers at once steps back, and takes care; 3 megapixels are a quarter of a phone's.
        photo = snapshot_jpeg(contact_sheet(pictures), seed=shot.covers[0], strength=0.5, longer=1920)
    _write_whole(shot.path, photo)
    return shot.path


def _write_whole(path: Path, data: bytes) -> None:
    """The file is there either whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f".{path.name}.{os.getpid()}.part")
    part.write_bytes(data)
    part.replace(path)

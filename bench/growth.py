"""What does a collection cost as it grows? Building, memory, queries and recall at a quarter, half and all of it."""

import os
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from uuid import UUID

import numpy as np
from rich.progress import Progress

from bench.collection import Collection
from bench.growing import Step, grow, open_step
from bench.indexed import bytes_per_image
from bench.sets import Shot, take
from pipeline.features.photo import Photo
from pipeline.features.sift import Features
from pipeline.index.opened import one_thread
from pipeline.index.recognise import GLANCE_DESCRIPTORS, Wanted, recognise

QUERIES = 200
WARM_UP = 10


@dataclass(frozen=True)
class Planted:
    """A snapshot of a cover of the collection."""

    image_id: UUID
    photo: bytes


def run(collection: Collection, plot: Path | None, bars: Progress) -> dict[str, Any]:
    """Grow the collection in its work folder, and search it at every step. Raises IndexTooLarge."""
    steps = []
    for step in grow(collection, bars):
        # All of these are in the collection at its first step.
        queries = plant(collection, min(collection.real, collection.sizes[0]), QUERIES)
        steps.append(_searched(collection, step, queries))
    choice = step.manifest.choice
    result = {
        "images": collection.images,
        "simulated": collection.images - collection.real,
        "index": choice.model_dump(),
        "build_threads": os.cpu_count(),
        "steps": steps,
    }
    if plot:
        from bench.plots import draw_growth

        draw_growth(result, plot)
    return result


def plant(collection: Collection, covers: int, count: int) -> list[Planted]:
    """Snapshots of `count` of the first `covers` covers, spread over them."""
    numbers = sorted({number * covers // count for number in range(count)})
    shots = [Shot(collection.work / f"queries/cover_{number:06d}.jpg", (number,)) for number in numbers]
    for _ in take(shots):
        pass
    return [Planted(collection.image_id(shot.covers[0]), shot.path.read_bytes()) for shot in shots]


def _searched(collection: Collection, step: Step, queries: Sequence[Planted]) -> dict[str, Any]:
    """What a step costs, and how well it answers, on one core."""
    opened = open_step(collection, step)
    settings = collection.settings
    one_thread()
    wanted = Wanted(1, settings.similarity_threshold)

    def search(photo: bytes) -> UUID | None:
        found = recognise(opened, Photo(photo, settings), wanted)
        return found[0].image_id if found else None

    def vote(voters: Features) -> UUID | None:
        votes = opened.votes(voters)
        return opened.image_id(int(votes.numbers[0])) if len(votes.numbers) else None

    voters = [Photo(query.photo, settings).features.take(slice(GLANCE_DESCRIPTORS)) for query in queries]
    first_ms, first_recall = _ask(vote, voters, queries)
    search_ms, search_recall = _ask(search, [query.photo for query in queries], queries)
    return {
        "images": step.images,
        "build_seconds": round(step.cost.seconds, 1),
        "peak_build_mb": round(step.cost.peak_mb),
        "index_mb": round(bytes_per_image(step.manifest) * step.images / 1e6),
        "bytes_per_image": bytes_per_image(step.manifest),
        "first_stage_p50_ms": first_ms,
        "first_stage_recall_at_1": first_recall,
        "search_p50_ms": search_ms,
        "recall_at_1": search_recall,
        "queries": len(queries),
    }


def _ask(answer: Callable[[Any], UUID | None], asked: Sequence[Any], queries: Sequence[Planted]) -> tuple[float, float]:
    """Median of the milliseconds of an answer, and the share of right ones."""
    for one in asked[:WARM_UP]:
        answer(one)
    milliseconds, right = [], 0
    for one, query in zip(asked, queries, strict=True):
        began = time.perf_counter()
        found = answer(one)
        milliseconds.append((time.perf_counter() - began) * 1000)
        right += found == query.image_id
    return round(float(np.median(milliseconds)), 1), round(right / len(queries), 4)

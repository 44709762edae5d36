"""Index a collection as it grows: at a quarter of its size, at half of it, as a whole.

The rule table chooses once, for the whole; one sample of the whole is trained on; every block of images becomes a part;
the parts of each stretch are joined. So the index at half of the size is the one at a quarter and what was added since.

    WORK/<images>/trained  parts  plan.json  step-<images>.json
"""

import os
import resource
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from itertools import pairwise
from math import ceil
from multiprocessing import get_context
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel
from rich.progress import Progress

from bench.collection import Block, Collection
from bench.indexed import choose_for, manifest_of, open_index
from bench.simulated import SimulatedSegment
from pipeline.features.segments import Segment
from pipeline.index import build
from pipeline.index.build import Part, Span, Trained, part_key, trained_key
from pipeline.index.manifest import Manifest
from pipeline.index.opened import OpenGeneration
from pipeline.index.rules import Choice

THREADS = os.cpu_count() or 1

T = TypeVar("T")
Saved = TypeVar("Saved", bound=BaseModel)


class Cost(BaseModel, frozen=True):
    """Of building, since the start."""

    seconds: float = 0
    peak_mb: float = 0
    """Most memory that the building process ever had."""


class Planned(BaseModel, frozen=True):
    """What was decided, and trained, before the first part."""

    choice: Choice
    trained: Trained | None
    cost: Cost


class Step(BaseModel, frozen=True):
    """The index when it had so many images."""

    images: int
    manifest: Manifest
    cost: Cost


def grow(collection: Collection, bars: Progress) -> Iterator[Step]:
    """Build what is not there yet, and yield the index at each of `collection.sizes`. Raises IndexTooLarge."""
    collection.describe(bars)
    choice = choose_for([segment.info for segment in collection.segments(collection.images)], collection.settings)
    folder = _folder(collection)
    folder.mkdir(parents=True, exist_ok=True)
    bar = bars.add_task("indexing", total=collection.images)
    with Builder() as builder:
        planned = _load(Planned, folder / "plan.json")
        if planned is None or planned.choice != choice:
            trained = builder.run(_train, collection, choice)
            planned = _save(Planned(choice=choice, trained=trained, cost=builder.cost), folder / "plan.json")
            for old in folder.glob("step-*.json"):
                old.unlink()
        builder.cost = planned.cost
        parts: list[Part] = []
        for start, stop in pairwise([0, *collection.sizes]):
            file = _step_file(collection, stop)
            step = _load(Step, file)
            if step is None:
                parts = [
                    *parts,
                    _stretch(builder, collection, planned, parts, (start, stop), lambda done: bars.advance(bar, done)),
                ]
                infos = [segment.info for segment in collection.segments(stop)]
                manifest = manifest_of(infos, choice, planned.trained, parts)
                step = _save(Step(images=stop, manifest=manifest, cost=builder.cost), file)
            parts, builder.cost = step.manifest.parts, step.cost
            bars.update(bar, completed=stop)
            yield step


def last_step(collection: Collection) -> Step:
    """The whole collection, which has been indexed."""
    return Step.model_validate_json(_step_file(collection, collection.images).read_bytes())


def open_step(collection: Collection, step: Step) -> OpenGeneration:
    """The index of a step, opened for searching."""
    return open_index(step.manifest, collection.segments(step.images), _folder(collection))


class Builder:
    """Runs tasks one after another in a process of its own, and adds up what they cost."""

    def __init__(self) -> None:
        self.cost = Cost()
        self._process = ProcessPoolExecutor(1, get_context("spawn"))

    def __enter__(self) -> "Builder":
        return self

    def __exit__(self, *_: object) -> None:
        self._process.shutdown(cancel_futures=True)

    def run(self, task: Callable[..., T], *args: Any) -> T:
        result, seconds, peak_mb = self._process.submit(_measured, task, args).result()
        self.cost = Cost(seconds=self.cost.seconds + seconds, peak_mb=max(self.cost.peak_mb, peak_mb))
        return result


def _measured(task: Callable[..., T], args: tuple[Any, ...]) -> tuple[T, float, float]:
    began = time.monotonic()
    result = task(*args)
    # Linux counts in KiB.
    return result, time.monotonic() - began, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def _train(collection: Collection, choice: Choice) -> Trained | None:
    if choice.codes == "exact":
        return None
    sample = _sample(collection.segments(collection.images), build.sample_size(choice))
    return build.train_on_sample(choice, sample, _folder(collection) / "trained", THREADS)


def _sample(segments: Sequence[Segment], size: int) -> NDArray[np.uint8]:
    """`size` descriptors (fewer if there are fewer) in random order: all of some images from the whole collection."""
    starts = np.cumsum([0, *map(len, segments)])
    images, descriptors = int(starts[-1]), sum(int(segment.offsets[-1]) for segment in segments)
    rng = np.random.default_rng(build.SEED)
    some = rng.choice(images, min(images, ceil(size * images / descriptors)), replace=False)
    places = np.searchsorted(starts, some, side="right") - 1
    rows = [
        segments[place].image(number - int(starts[place])).descriptors
        for place, number in zip(places.tolist(), some.tolist(), strict=True)
    ]
    sample = np.concatenate(rows)
    rng.shuffle(sample)
    return sample[:size]


def _stretch(
    builder: Builder,
    collection: Collection,
    planned: Planned,
    before: Sequence[Part],
    images: tuple[int, int],
    advance: Callable[[int], object],
) -> Part:
    """One part for the images of a stretch, which follow those of the parts `before`."""
    parts: list[Part] = []
    for block in collection.blocks:
        if images[0] <= block.first < images[1]:
            first = sum(part.descriptors for part in (*before, *parts))
            parts.append(builder.run(_build_part, collection, planned, block, first))
            advance(block.images)
    return builder.run(_join, collection, planned, parts) if len(parts) > 1 else parts[0]


def _build_part(collection: Collection, planned: Planned, block: Block, first_descriptor: int) -> Part:
    folder, choice = _folder(collection), planned.choice
    segment = collection.segment(block)
    span = Span(
        first_image=block.first,
        images=len(segment),
        first_descriptor=first_descriptor,
        descriptors=int(np.minimum(np.diff(segment.offsets), choice.per_image).sum()),
        segments=[segment.info.name],
    )
    empty = folder / trained_key(planned.trained.name) if planned.trained else None
    if not isinstance(segment, SimulatedSegment):
        return build.build_part(choice, empty, [segment.path], span, "base", folder / "parts", THREADS)
    blocks = segment.strongest(choice.per_image)
    return build.build_part_of(choice, empty, blocks, span, "base", folder / "parts", THREADS)


def _join(collection: Collection, planned: Planned, parts: Sequence[Part]) -> Part:
    folder = _folder(collection)
    empty = folder / trained_key(planned.trained.name) if planned.trained else None
    paths = [folder / part_key(part.name) for part in parts]
    joined = build.merge(empty, parts, paths, folder / "parts")
    for path in paths:
        path.unlink()
    return joined


def _folder(collection: Collection) -> Path:
    return collection.work / str(collection.images)


def _step_file(collection: Collection, images: int) -> Path:
    return _folder(collection) / f"step-{images}.json"


def _load(kind: type[Saved], path: Path) -> Saved | None:
    return kind.model_validate_json(path.read_bytes()) if path.exists() else None


def _save(one: Saved, path: Path) -> Saved:
    part = path.with_suffix(".part")
    part.write_text(one.model_dump_json(indent=1))
    part.replace(path)
    return one

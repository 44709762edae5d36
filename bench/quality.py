"""How good are the answers? A benchmark set, searched as the API does, and by what else one could do.

All pictures of the database and the distractors are described and indexed by the pipeline's own functions, in a folder,
without servers; every query and every negative goes through `recognise` at the default threshold.
"""

import os
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Any
from uuid import UUID

import numpy as np
from numpy.typing import NDArray
from rich.progress import Progress

from bench import described, rivals
from bench.indexed import bytes_per_image, choose_for, index, open_index, open_segments
from bench.sets import BenchmarkSet, read_set
from pipeline.errors import BadImage
from pipeline.features.photo import Photo
from pipeline.features.segments import SegmentInfo
from pipeline.index.manifest import Manifest
from pipeline.index.opened import OpenGeneration, one_thread
from pipeline.index.recognise import GLANCE_DESCRIPTORS, Wanted, recognise
from pipeline.index.rules import Codes, lists_for
from pipeline.settings import Settings

MAX_MISTAKES = 50
# Comparing with every descriptor takes seconds for each query of a large set.
EXACT_QUERIES, EXACT_NEGATIVES = 50, 25
SWEEP_CODES: tuple[Codes, ...] = ("sq8", "rabitq", "pq")
SWEEP_PROBES = (1, 2, 4, 8, 16)
SWEEP_QUERIES = 200

Answers = list[tuple[str, float]]
"""Names of images, best first, with scores."""
System = Callable[[bytes, int], Answers]
"""Answers a photo with the at most so many images that it shows."""


@dataclass(frozen=True)
class Collection:
    """The pictures of a set and its distractors, described."""

    segments: list[SegmentInfo]
    names: list[str]
    """In the order in which the images are numbered."""
    rival: list[NDArray[np.uint8]]
    refused: dict[str, str]


def run(
    folder: Path, distractors: Path | None, settings: Settings, work: Path, plot: Path | None, bars: Progress
) -> dict[str, Any]:
    """Measure a benchmark set. Segments and index go to `work`. Raises BadSource or IndexTooLarge."""
    truth = read_set(folder)
    collection = _describe(truth, distractors, settings, work, bars)
    choice = choose_for(collection.segments, settings)
    manifest = index(collection.segments, choice, work, os.cpu_count() or 1)
    opened = open_index(manifest, open_segments(manifest, work), work)
    one_thread()
    result: dict[str, Any] = {
        "queries": len(truth.queries),
        "negatives": len(truth.negatives),
        "images": len(collection.names),
        "refused": collection.refused,
        "index": manifest.choice.model_dump(),
        **ask(sleeve(opened, collection.names, settings), truth, settings, bars, "Sleeve"),
        "bytes_per_image": bytes_per_image(manifest),
    }
    rival = rivals.exact(collection.rival, rivals.small_service_descriptors)
    result["rival"] = _vote(rival, collection.names, truth, settings, bars, "rival")
    del rival
    result["others"] = _others(opened, collection.names, truth, settings, bars)
    if plot:
        from bench.plots import draw_quality

        result["sweep"] = _sweep(manifest, collection.names, truth, settings, work, bars)
        draw_quality(result, plot)
    return result


def _describe(
    truth: BenchmarkSet, distractors: Path | None, settings: Settings, work: Path, bars: Progress
) -> Collection:
    """Describe the database and the distractors, whose names begin with a slash to keep them apart."""
    bar = bars.add_task("describing", total=len(truth.database) if distractors is None else None)
    database = ((path, truth.read(path)) for path in truth.database)
    others = ((f"/{name}", data) for name, data in described.pictures_of(distractors, settings)) if distractors else ()
    found = Collection([], [], [], {})
    for one in described.describe(described.in_chunks(chain(database, others)), settings, work / "segments"):
        found.segments.append(one.segment)
        found.names.extend(one.names)
        found.rival.extend(one.rival)
        found.refused.update(one.refused)
        bars.advance(bar, len(one.names))
    return found


def sleeve(opened: OpenGeneration, names: Sequence[str], settings: Settings) -> System:
    """The search of the API, without its HTTP."""
    by_id: dict[UUID, str] = {described.image_id(name): name for name in names}

    def answer(photo: bytes, top_n: int) -> Answers:
        matches = recognise(opened, Photo(photo, settings), Wanted(top_n, settings.similarity_threshold))
        return [(by_id[match.image_id], match.score) for match in matches]

    return answer


def voting(voters: rivals.Voting, names: Sequence[str]) -> System:
    """A search by votes alone."""
    return lambda photo, top_n: [(names[image], score) for image, score in voters.answer(photo)[:top_n]]


@dataclass(frozen=True)
class Asked:
    """A picture of the set that was searched for."""

    path: str
    relevant: list[str]
    """Empty for a negative."""
    answers: Answers
    milliseconds: float

    @property
    def rank(self) -> int | None:
        """Of the first right answer, from 1 on; None where there is none."""
        return next((rank for rank, (name, _) in enumerate(self.answers, 1) if name in self.relevant), None)

    @property
    def right(self) -> bool:
        """Whether the first answer is right; for a negative, that there is none."""
        return self.rank == 1 if self.relevant else not self.answers


def ask(system: System, truth: BenchmarkSet, settings: Settings, bars: Progress, name: str) -> dict[str, Any]:
    """Ask all queries and negatives of a set, one after another, and sum up."""
    everything = {**truth.queries, **{path: [] for path in truth.negatives}}
    bar = bars.add_task(f"asking {name}", total=len(everything))
    asked = []
    for path, relevant in everything.items():
        photo = truth.read(path)
        began = time.perf_counter()
        try:
            answers = system(photo, max(settings.top_n, len(relevant)))
        except BadImage:
            answers = []  # a photo without features is one without answers
        asked.append(Asked(path, relevant, answers, (time.perf_counter() - began) * 1000))
        bars.advance(bar)
    return summary(asked)


def summary(asked: Sequence[Asked]) -> dict[str, Any]:
    """Recall, false accepts and latency; at most MAX_MISTAKES of what went wrong, queries first."""
    queries = [one for one in asked if one.relevant]
    negatives = [one for one in asked if not one.relevant]
    several = [one for one in queries if len(one.relevant) > 1]
    wrong = [one for one in asked if not one.right]
    p50, p95 = np.percentile([one.milliseconds for one in asked], [50, 95])
    return {
        "recall_at_1": _mean([one.right for one in queries]),
        "mrr": _mean([1 / one.rank if one.rank else 0 for one in queries]),
        "no_answer": _mean([not one.answers for one in queries]),
        "false_accept": _mean([not one.right for one in negatives]),
        # Of what a query shows, where that is several images: the share that is answered.
        "found_of_several": _mean(
            [len({name for name, _ in one.answers} & {*one.relevant}) / len(one.relevant) for one in several]
        ),
        "p50_ms": round(float(p50), 1),
        "p95_ms": round(float(p95), 1),
        "mistakes": [_mistake(one) for one in wrong[:MAX_MISTAKES]],
    }


def _mean(values: Sequence[float]) -> float | None:
    return round(float(np.mean(values)), 4) if values else None


def _mistake(one: Asked) -> dict[str, Any]:
    got, score = one.answers[0] if one.answers else (None, None)
    return {"query": one.path, "expected": one.relevant[:1], "got": got, "score": score}


def _vote(
    voters: rivals.Voting, names: Sequence[str], truth: BenchmarkSet, settings: Settings, bars: Progress, name: str
) -> dict[str, Any]:
    found = ask(voting(voters, names), truth, settings, bars, name)
    del found["mistakes"]  # too many to look at
    return {**found, "queries": len(truth.queries), "bytes_per_image": round(voters.bytes / len(names))}


def _others(
    opened: OpenGeneration, names: Sequence[str], truth: BenchmarkSet, settings: Settings, bars: Progress
) -> dict[str, Any]:
    """Votes of the descriptors that Sleeve itself indexes, without what comes after its first stage."""
    choice = opened.manifest.choice
    images = [opened.features(number).descriptors[: choice.per_image] for number in range(len(opened))]

    def describe(photo: bytes) -> rivals.Descriptors:
        return Photo(photo, settings).features.descriptors[:GLANCE_DESCRIPTORS].astype(np.float32)

    bare = _vote(rivals.bare_faiss(choice, images, describe), names, truth, settings, bars, "bare Faiss")
    some = _some(truth, EXACT_QUERIES, EXACT_NEGATIVES)
    exact = _vote(rivals.exact(images, describe), names, some, settings, bars, "brute force")
    return {"bare_faiss": bare, "brute_force": exact}


def _some(truth: BenchmarkSet, queries: int, negatives: int) -> BenchmarkSet:
    """A smaller set, its queries and negatives spread over those of the whole."""
    paths, strangers = list(truth.queries), truth.negatives
    chosen = paths[:: -(-len(paths) // queries)]
    others = strangers[:: -(-len(strangers) // negatives)] if negatives and strangers else []
    return truth.model_copy(update={"queries": {path: truth.queries[path] for path in chosen}, "negatives": others})


def _sweep(
    manifest: Manifest, names: Sequence[str], truth: BenchmarkSet, settings: Settings, work: Path, bars: Progress
) -> list[dict[str, Any]]:
    """Recall and latency of every kind of index, with few and with many probes."""
    segments, some, rows = open_segments(manifest, work), _some(truth, SWEEP_QUERIES, 0), []
    lists = lists_for(manifest.choice.descriptors)
    for codes in SWEEP_CODES:
        choice = manifest.choice.model_copy(update={"codes": codes, "lists": lists})
        built = index(manifest.segments, choice, work, os.cpu_count() or 1)
        for probes in SWEEP_PROBES:
            looked = built.model_copy(update={"choice": choice.model_copy(update={"probes": probes})})
            system = sleeve(open_index(looked, segments, work), names, settings)
            one_thread()
            found = ask(system, some, settings, bars, f"{codes}, {probes} probes")
            kept = {key: found[key] for key in ("recall_at_1", "p50_ms", "p95_ms")}
            rows.append({"codes": codes, "probes": probes, **kept, "bytes_per_image": bytes_per_image(built)})
    return rows

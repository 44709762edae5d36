"""Fit the weights of pipeline.index.score on photos that no benchmark and no test uses.

    python -m bench.calibrate --plot calibration.png

Covers are photographed, on better and worse days and a third of them stretched afterwards. Some are in a collection
and some are not, and every image that a search verifies is an example: right or wrong. A logistic regression on the
evidence gives the weights. A search takes several looks, each a chance to be wrong, so at last the bias is lowered
until all but STRANGERS_ACCEPTED of the photos of strangers stay below 0.5 at every look.
"""

import os
import tempfile
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path
from typing import Annotated, TypeVar
from uuid import UUID

import cv2
import numpy as np
import typer
from numpy.typing import NDArray
from rich.progress import track

from bench.indexed import choose_for, index, open_index, open_segments
from pipeline.features.photo import Photo
from pipeline.features.segments import write_segment
from pipeline.features.sift import Features
from pipeline.index.opened import OpenGeneration
from pipeline.index.recognise import Wanted, recognise
from pipeline.index.score import evidence
from pipeline.samples import cover, cover_jpeg, snapshot
from pipeline.settings import Settings

# Far from the covers that benchmarks and tests use.
COLLECTION = range(40_000, 43_000)
SHOWN = range(40_000, 40_600)
STRANGERS = range(50_000, 50_400)
STRENGTHS = (0.5, 1.0, 1.0, 1.5, 2.0)
STRANGERS_ACCEPTED = 0.0025
RIDGE = 1e-3

T = TypeVar("T")


@dataclass(frozen=True)
class Examples:
    """What searches saw of images that they verified."""

    evidence: NDArray[np.float64]
    """(n, 6), see pipeline.index.score.evidence."""
    right: NDArray[np.bool_]
    photo: NDArray[np.int64]
    """Number of the cover that was photographed."""


def main(plot: Annotated[Path | None, typer.Option(help="Draw how well the score holds, here")] = None) -> None:
    """Print the weights and what they make of the examples."""
    settings = Settings.of({})
    with tempfile.TemporaryDirectory(prefix="sleeve-calibrate-") as home:
        opened = _collection(settings, Path(home))
        examples = _examples(opened, settings)
    weights, bias = fit(examples.evidence, examples.right)
    strange = np.isin(examples.photo, STRANGERS)
    bias -= _excess(examples.evidence[strange] @ weights + bias, examples.photo[strange])
    scores = 1 / (1 + np.exp(-(examples.evidence @ weights + bias)))
    typer.echo(f"WEIGHTS = np.array({weights.round(2).tolist()})\nBIAS = {bias:.2f}")
    found, accepted = (len(set(examples.photo[rows & (scores >= 0.5)])) for rows in (examples.right, strange))
    typer.echo(f"{found} of {len(SHOWN)} shown recognised, {accepted} of {len(STRANGERS)} strangers accepted")
    if plot:
        _draw(scores, examples.right, plot)


def _collection(settings: Settings, home: Path) -> OpenGeneration:
    segments = []
    for start in range(0, len(COLLECTION), settings.shard_images):
        numbers = COLLECTION[start : start + settings.shard_images]
        described = zip((UUID(int=one) for one in numbers), _on_all_cores(_describe, numbers), strict=True)
        segments.append(write_segment(home / "segments", described))
    manifest = index(segments, choose_for(segments, settings), home, os.cpu_count() or 1)
    return open_index(manifest, open_segments(manifest, home), home)


def _examples(opened: OpenGeneration, settings: Settings) -> Examples:
    rows, right, photos = [], [], []
    numbers = [*SHOWN, *STRANGERS]
    for number, data in zip(numbers, _on_all_cores(_photograph, numbers), strict=True):
        photo = Photo(data, settings)
        for features in (photo.features, photo.closer):
            for match in recognise(opened, features, Wanted(top_n=100, threshold=0.0)):
                rows.append(evidence(match.geometry, match.votes))
                right.append(match.image_id.int == number)
                photos.append(number)
    return Examples(np.array(rows), np.array(right), np.array(photos))


def _describe(number: int) -> Features:
    return Photo(cover_jpeg(number), Settings.of({})).features


def _photograph(number: int) -> bytes:
    photo = snapshot(cover(number), number, STRENGTHS[number % len(STRENGTHS)])
    if number % 3 == 0:
        height, width = photo.shape[:2]
        stretch = float(np.exp(np.random.default_rng(number).uniform(-0.25, 0.25)))
        photo = np.asarray(cv2.resize(photo, (round(width * stretch), round(height / stretch))), np.uint8)
    return cv2.imencode(".jpg", photo)[1].tobytes()


def _on_all_cores(work: Callable[[int], T], numbers: Sequence[int]) -> Iterator[T]:
    # spawn: a forked child would inherit the locks of whatever threads run here
    with ProcessPoolExecutor(os.cpu_count(), get_context("spawn"), cv2.setNumThreads, (1,)) as pool:
        yield from track(pool.map(work, numbers, chunksize=8), work.__name__[1:], len(numbers), transient=True)


def fit(rows: NDArray[np.float64], right: NDArray[np.bool_]) -> tuple[NDArray[np.float64], float]:
    """Weights (columns,) and bias of a logistic regression with a small ridge penalty, by Newton's method."""
    centre, scale = rows.mean(axis=0), rows.std(axis=0)
    inputs = np.c_[(rows - centre) / scale, np.ones(len(rows))]
    penalty = RIDGE * len(rows) * np.diag([*np.ones(rows.shape[1]), 0])
    weights = np.zeros(inputs.shape[1])
    for _ in range(50):
        chance = 1 / (1 + np.exp(-inputs @ weights))
        slope = inputs.T @ (chance - right) + penalty @ weights
        weights -= np.linalg.solve((inputs.T * (chance * (1 - chance))) @ inputs + penalty, slope)
    return weights[:-1] / scale, float(weights[-1] - (weights[:-1] / scale) @ centre)


def _excess(logits: NDArray[np.float64], photos: NDArray[np.int64]) -> float:
    """By how much the bias must fall."""
    surest = sorted(float(logits[photos == number].max(initial=-np.inf)) for number in STRANGERS)
    return max(0.0, surest[len(surest) - 1 - int(STRANGERS_ACCEPTED * len(surest))])


def _draw(scores: NDArray[np.float64], right: NDArray[np.bool_], path: Path) -> None:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(10, 4), layout="constrained")
    often, how = figure.subplots(1, 2)
    edges = np.linspace(0, 1, 11)
    often.hist([scores[right], scores[~right]], bins=edges.tolist(), label=["right", "wrong"], log=True)
    often.set(xlabel="score", ylabel="verified images", title="What got which score")
    often.legend()
    bins = np.clip(np.digitize(scores, edges) - 1, 0, 9)
    shares = [right[bins == one].mean() if (bins == one).any() else np.nan for one in range(10)]
    how.plot([0, 1], [0, 1], "--", color="grey")
    how.plot(edges[:-1] + 0.05, shares, "o-")
    how.set(xlabel="score", ylabel="share that was right", title="Does 0.8 mean eight in ten?")
    figure.savefig(path, dpi=120)


if __name__ == "__main__":
    typer.run(main)

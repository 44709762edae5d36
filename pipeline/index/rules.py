"""How a collection is indexed: a table of kinds, most accurate first, and what each costs in memory and time.

The memory budget is a limit, the latency budget a wish: the most accurate kind that fits both is taken, else the
fastest that fits the memory.
"""

from bisect import bisect_right
from dataclasses import dataclass
from math import ceil, inf, log2, sqrt
from typing import Literal

from pydantic import BaseModel

from pipeline.errors import IndexTooLarge

Codes = Literal["exact", "sq8", "rabitq", "pq"]

# Descriptors of one query, which the expected latency is for.
QUERY_DESCRIPTORS = 250
# Descriptors of an image that are indexed: of 400 snapshots of 10,000 covers these find as many as all 500 do, all, and
# the 200 best find 2 % fewer.
PER_IMAGE = 240
# Up to so many descriptors an inverted file has nothing to gain.
EXACT_LIMIT = 40_000
MAX_LISTS = 1 << 16
# Finding the nearest of so many lists one after another takes longer than walking a graph of them.
GRAPH_LISTS = 4096

# Finding the nearest lists of one descriptor: for each list, one after another; through a graph of GRAPH_LISTS.
FLAT_NS = 8.8
GRAPH_US = 35.0
# How much more is scanned than if all lists were alike: full lists are also looked into more often.
IMBALANCE = 2.0
# A centroid and its links in the graph; an image's id, frame and places.
LIST_BYTES = 128 * 4 + 64 * 4 + 200
IMAGE_BYTES = 64


class Choice(BaseModel, frozen=True):
    """How the descriptors of a generation are stored and searched."""

    codes: Codes
    descriptors: int
    """How many it was made for."""
    per_image: int
    """Descriptors of an image that are indexed: its best. Verification uses all of them."""
    lists: int
    """Inverted lists; 0 for exact search."""
    probes: int
    """Lists that are looked into for each descriptor of a query."""
    memory_bytes: int
    """Resident when served."""
    latency_ms: float
    """Expected time of the first stage of a search for QUERY_DESCRIPTORS descriptors, on one core."""
    reason: str


@dataclass(frozen=True)
class _Row:
    codes: Codes
    probes: int
    descriptor_bytes: int
    """Code and id."""
    scan_ns: float
    """To compare one descriptor of a query with one code."""
    pair_us: float
    """To begin with one list for one descriptor of a query: look-up tables, rotation."""
    most: float = inf
    """Descriptors."""


_TABLE = (
    _Row("exact", 0, 136, 5.3, 0.0, EXACT_LIMIT),
    _Row("sq8", 16, 136, 5.7, 1.5),
    _Row("rabitq", 8, 32, 8.4, 0.4),
    _Row("pq", 8, 24, 0.9, 1.1),
)


def lists_for(descriptors: int) -> int:
    """Number of inverted lists, a power of two: about the square root of the descriptors, which balances finding the
    lists and scanning them; four times that from two millions on, where a graph finds them."""
    wanted = sqrt(max(descriptors, 1)) * (4 if descriptors >= 2_000_000 else 1)
    return min(1 << int(log2(wanted)), MAX_LISTS)


def choose(images: int, descriptors_per_image: float, memory_budget_bytes: int, latency_budget_ms: float) -> Choice:
    """The row of the table to take; its reason says which budget refused those before it.

    Raises IndexTooLarge, with what to do, where not even the smallest fits the memory.
    """
    fitting: list[Choice] = []
    refusals: list[str] = []
    for row in _TABLE:
        one = _cost(row, images, descriptors_per_image)
        why = _too_large(row, one, memory_budget_bytes)
        if why is None:
            fitting.append(one)
            if one.latency_ms <= latency_budget_ms:
                return _because(one, images, refusals)
            why = f"{one.latency_ms:.0f} ms, SEARCH_BUDGET_MS is {latency_budget_ms:g}"
        refusals.append(f"not {_name(one)}: {why}")
    if not fitting:
        raise IndexTooLarge(_way_out(images, descriptors_per_image, memory_budget_bytes))
    fastest = min(fitting, key=lambda one: one.latency_ms)
    return _because(fastest, images, ["the fastest that fits INDEX_MEMORY_MB", *refusals])


def _because(choice: Choice, images: int, refusals: list[str]) -> Choice:
    return choice.model_copy(update={"reason": "; ".join([f"{_name(choice)} for {images} images", *refusals])})


def _cost(row: _Row, images: int, descriptors_per_image: float) -> Choice:
    """What a row of the table comes to for so many images; its reason is empty."""
    descriptors = round(images * min(descriptors_per_image, PER_IMAGE))
    if row.codes == "exact":
        lists, coarse_us, scanned = 0, 0.0, float(descriptors)
    else:
        lists = lists_for(descriptors)
        graph = lists >= GRAPH_LISTS
        # The walk is hardly longer in a larger graph, but misses the processor's caches.
        coarse_us = GRAPH_US * sqrt(lists / GRAPH_LISTS) if graph else lists * FLAT_NS / 1000
        scanned = row.probes * descriptors / lists * IMBALANCE
    each_us = coarse_us + row.probes * row.pair_us + scanned * row.scan_ns / 1000
    return Choice(
        codes=row.codes,
        descriptors=descriptors,
        per_image=PER_IMAGE,
        lists=lists,
        probes=min(row.probes, lists),
        memory_bytes=descriptors * row.descriptor_bytes + lists * LIST_BYTES + images * IMAGE_BYTES,
        latency_ms=round(QUERY_DESCRIPTORS * each_us / 1000, 1),
        reason="",
    )


def _too_large(row: _Row, one: Choice, memory_budget_bytes: int) -> str | None:
    """Why it cannot be; None where it can."""
    if one.descriptors > row.most:
        return f"{one.descriptors} descriptors, at most {row.most}"
    if one.memory_bytes > memory_budget_bytes:
        return f"{_mb(one.memory_bytes)} MB, INDEX_MEMORY_MB is {_mb(memory_budget_bytes)}"
    return None


def _way_out(images: int, descriptors_per_image: float, memory_budget_bytes: int) -> str:
    """Which setting to raise to what, or how many images fit."""

    def needed(some: int) -> Choice:
        return min((_cost(row, some, descriptors_per_image) for row in _TABLE), key=lambda one: one.memory_bytes)

    # Memory grows with the images, so the most that fit can be found by halving.
    most = bisect_right(range(images), memory_budget_bytes, key=lambda some: needed(some).memory_bytes) - 1
    smallest = needed(images)
    return (
        f"{images} images are too many for the index: even {_name(smallest)} needs {_mb(smallest.memory_bytes)} MB. "
        f"Raise INDEX_MEMORY_MB from {_mb(memory_budget_bytes)} to {_mb(smallest.memory_bytes)}, or keep at most "
        f"{max(most, 0)} images."
    )


def _name(choice: Choice) -> str:
    lists = f", {choice.lists} lists" if choice.lists else ""
    return f"{choice.codes}{lists}"


def _mb(size: int) -> int:
    return ceil(size / (1 << 20))

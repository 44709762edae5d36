"""How a collection is indexed: a table of kinds, most accurate first, and what each costs in memory and time."""

from bisect import bisect_left
from dataclasses import dataclass
from math import ceil, inf, log2, sqrt
from typing import Literal

from pydantic import BaseModel

from pipeline.errors import IndexTooLarge

Codes = Literal["exact", "sq8", "rabitq", "pq"]

# Descriptors of one query, which the expected latency is for.
QUERY_DESCRIPTORS = 500
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
    """Descriptors of an image that are indexed: its strongest. Verification uses all of them."""
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
    per_image: int
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
    _Row("exact", 500, 0, 136, 5.3, 0.0, EXACT_LIMIT),
    _Row("sq8", 500, 16, 136, 5.7, 1.5),
    _Row("rabitq", 500, 8, 32, 8.4, 0.4),
    _Row("pq", 500, 8, 24, 0.9, 1.1),
    _Row("rabitq", 200, 8, 32, 8.4, 0.4),
    _Row("pq", 200, 8, 24, 0.9, 1.1),
)


def lists_for(descriptors: int) -> int:
    """Number of inverted lists, a power of two: about the square root of the descriptors, which balances finding the
    lists and scanning them; four times that from two millions on, where a graph finds them."""
    wanted = sqrt(max(descriptors, 1)) * (4 if descriptors >= 2_000_000 else 1)
    return min(1 << int(log2(wanted)), MAX_LISTS)


def choose(images: int, descriptors_per_image: float, memory_budget_bytes: int, latency_budget_ms: float) -> Choice:
    """The most accurate kind that fits both budgets; its reason says which budget refused those before it.

    Raises IndexTooLarge, with what to do, where not even the smallest fits.
    """
    refusals: list[str] = []
    for row in _TABLE:
        one = _cost(row, images, descriptors_per_image)
        why = _refusal(row, one, memory_budget_bytes, latency_budget_ms)
        if why is None:
            reason = "; ".join([f"{_name(one)} for {images} images", *refusals])
            return one.model_copy(update={"reason": reason})
        refusals.append(f"not {_name(one)}: {why}")
    raise IndexTooLarge(_way_out(images, descriptors_per_image, memory_budget_bytes, latency_budget_ms))


def _cost(row: _Row, images: int, descriptors_per_image: float) -> Choice:
    """What a row of the table comes to for so many images; its reason is empty."""
    descriptors = round(images * min(descriptors_per_image, row.per_image))
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
        per_image=row.per_image,
        lists=lists,
        probes=min(row.probes, lists),
        memory_bytes=descriptors * row.descriptor_bytes + lists * LIST_BYTES + images * IMAGE_BYTES,
        latency_ms=round(QUERY_DESCRIPTORS * each_us / 1000, 1),
        reason="",
    )


def _refusal(row: _Row, one: Choice, memory_budget_bytes: int, latency_budget_ms: float) -> str | None:
    """What speaks against it; None where it fits."""
    if one.descriptors > row.most:
        return f"{one.descriptors} descriptors, at most {row.most}"
    if one.memory_bytes > memory_budget_bytes:
        return f"{_mb(one.memory_bytes)} MB, INDEX_MEMORY_MB is {_mb(memory_budget_bytes)}"
    if one.latency_ms > latency_budget_ms:
        return f"{one.latency_ms:.0f} ms, SEARCH_BUDGET_MS is {latency_budget_ms:g}"
    return None


def _way_out(images: int, descriptors_per_image: float, memory_budget_bytes: int, latency_budget_ms: float) -> str:
    """Which settings to raise to what, or how many images fit."""

    def fits(fewer: int) -> bool:
        costs = [(row, _cost(row, fewer, descriptors_per_image)) for row in _TABLE]
        return any(_refusal(*cost, memory_budget_bytes, latency_budget_ms) is None for cost in costs)

    # Cost grows with the images, so the most that fit can be found by halving.
    most = bisect_left(range(images), True, key=lambda fewer: not fits(fewer)) - 1
    smallest = _cost(_TABLE[-1], images, descriptors_per_image)
    raise_to = []
    if smallest.memory_bytes > memory_budget_bytes:
        raise_to.append(f"INDEX_MEMORY_MB from {_mb(memory_budget_bytes)} to {_mb(smallest.memory_bytes)}")
    if smallest.latency_ms > latency_budget_ms:
        raise_to.append(f"SEARCH_BUDGET_MS from {latency_budget_ms:g} to {ceil(smallest.latency_ms)}")
    return (
        f"{images} images are too many for the index: even {_name(smallest)} needs {_mb(smallest.memory_bytes)} MB and "
        f"{smallest.latency_ms:.0f} ms a search. Raise {' and '.join(raise_to)}, or keep at most {max(most, 0)} images."
    )


def _name(choice: Choice) -> str:
    lists = f", {choice.lists} lists" if choice.lists else ""
    return f"{choice.codes} of {choice.per_image} descriptors an image{lists}"


def _mb(size: int) -> int:
    return ceil(size / (1 << 20))

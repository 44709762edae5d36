"""How the collection and the pipeline are doing: figures for people, and for whoever watches."""

import math
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Any

from pydantic import BaseModel, Field

from pipeline.context import Context
from pipeline.index.manifest import Manifest
from pipeline.sources.kafka import consumer_lag
from pipeline.stores.catalog import WAITING
from pipeline.stores.figures import delays, indexed_by_minute, quarantine_reasons

# The servers are asked at most this often, in seconds, and nobody waits longer for them than that.
MAX_AGE = 5.0
PATIENCE = 3.0
# Freshness is that of so many images, of those that became searchable within so long.
LATEST, LATELY = 1000, timedelta(hours=1)
MOST_REASONS = 20
DAY, HOUR, MINUTE = timedelta(days=1), timedelta(hours=1), timedelta(minutes=1)

# Shared by all, so that a server that hangs holds no more threads than these.
_asking = ThreadPoolExecutor(6, "overview")


class Freshness(BaseModel):
    """Seconds from an image's coming into the catalogue to its being searchable."""

    images: int = Field(description=f"How many were looked at: the latest of the last hour, at most {LATEST}")
    p50: float
    p95: float
    max: float


class Figures(BaseModel):
    """What the servers told, at one moment. What belongs to a server that is away is missing."""

    images: dict[str, int] | None = None
    """By status."""
    by_minute: dict[datetime, int] = {}
    """First indexed in that minute, of the last day."""
    freshness: Freshness | None = None
    """None where nothing was indexed lately."""
    reasons: dict[str, int] = {}
    """Of quarantine, the most common first."""
    messages: int | None = None
    """Unread, of the images topic."""
    asked: list[str] = []
    """All servers that were asked."""
    away: dict[str, str] = {}
    """What each server that did not answer says."""


def figures(context: Context) -> Figures:
    """As the servers told at most MAX_AGE ago, this replica or another.

    Takes about PATIENCE at most, and raises nothing for a server that is away.
    """
    kept = context.cache.remember("figures", lambda: ask(context).model_dump_json().encode(), MAX_AGE)
    return Figures.model_validate_json(kept)


def servers(context: Context) -> Mapping[str, Callable[[], dict[str, Any]]]:
    """What to ask each server for; the answers are fields of Figures."""
    asked: dict[str, Callable[[], dict[str, Any]]] = {
        "catalogue": partial(_of_catalogue, context),
        "artefact bucket": partial(_of_bucket, context),
    }
    if context.settings.kafka_bootstrap_servers:
        asked["kafka"] = lambda: {"messages": consumer_lag(context.settings)}
    return asked


def ask(context: Context) -> Figures:
    """Ask all servers at once."""
    pending = {name: _asking.submit(one) for name, one in servers(context).items()}
    deadline = time.monotonic() + PATIENCE
    answers: dict[str, Any] = {}
    away: dict[str, str] = {}
    for name, future in pending.items():
        try:
            answers |= future.result(max(0.0, deadline - time.monotonic()))
        except TimeoutError:
            # Where it has not begun, it need not any more: whoever comes next asks again.
            future.cancel()
            away[name] = f"no answer within {PATIENCE:.0f} s"
        except Exception as error:
            # Each client has its own errors, and whatever it is, the server is not usable.
            away[name] = (str(error) or type(error).__name__).splitlines()[0]
    return Figures(**answers, asked=list(pending), away=away)


def _of_catalogue(context: Context) -> dict[str, Any]:
    catalog, now = context.catalog, datetime.now(UTC)
    return {
        "images": catalog.counts(),
        "by_minute": indexed_by_minute(catalog, now - DAY),
        "freshness": _freshness(delays(catalog, now - LATELY, LATEST)),
        "reasons": quarantine_reasons(catalog, MOST_REASONS),
    }


def _of_bucket(context: Context) -> dict[str, Any]:
    context.objects.ping(context.settings.sleeve_bucket)
    return {}


def _freshness(seconds: Sequence[float]) -> Freshness | None:
    if not seconds:
        return None
    ordered = sorted(seconds)
    # Nearest rank: a delay that some image really had.
    p50, p95 = (ordered[math.ceil(share * len(ordered)) - 1] for share in (0.5, 0.95))
    return Freshness(images=len(ordered), p50=p50, p95=p95, max=ordered[-1])


class Span(BaseModel):
    """Some time, and how many images became searchable in it, each for the first time."""

    at: datetime = Field(description="When it began")
    images: int


class Throughput(BaseModel):
    """How many images became searchable."""

    last_hour: int
    last_day: int
    by_minute: list[Span] = Field(description="The last 60 minutes, oldest first; the last one is not over yet")
    by_hour: list[Span] = Field(description="The last 24 hours, oldest first; the last one is not over yet")


class Backlog(BaseModel):
    """What still has to be done."""

    messages: int | None = Field(description="Unread events; null where there is no Kafka, or it is away")
    images: int | None = Field(description="In the catalogue, not searchable yet; null where the catalogue is away")


class Generation(BaseModel):
    """The state of the index that answers searches."""

    id: str
    created_at: datetime
    age: float = Field(description="Seconds since it was made")
    kind: str = Field(description="append or rebuild")
    codes: str = Field(description="How descriptors are stored")
    images: int
    recall: float | None = Field(description="Share of deformed copies of its own images that it found")


class Reason(BaseModel):
    """Why images are in quarantine, and how many."""

    reason: str
    images: int


class Stats(BaseModel):
    """How the collection and the pipeline are doing."""

    images: dict[str, int] | None = Field(description="By status; null where the catalogue is away")
    backlog: Backlog
    throughput: Throughput
    freshness: Freshness | None = Field(description="Null where nothing became searchable in the last hour")
    generation: Generation | None = Field(description="Null where nothing was published yet")
    quarantine: list[Reason] = Field(description=f"The {MOST_REASONS} most common reasons, these first")
    away: dict[str, str] = Field(description="Servers that did not answer in time, and what they said")


def stats(context: Context, served: Manifest | None) -> Stats:
    """All of it, as it was MAX_AGE ago at most; `served` is the generation that this process answers from."""
    told = figures(context)
    counts = told.images
    return Stats(
        images=counts,
        backlog=Backlog(messages=told.messages, images=counts and sum(counts[status] for status in WAITING)),
        throughput=throughput(told.by_minute, datetime.now(UTC)),
        freshness=told.freshness,
        generation=served and generation(served),
        quarantine=[Reason(reason=reason, images=number) for reason, number in told.reasons.items()],
        away=told.away,
    )


def throughput(by_minute: Mapping[datetime, int], now: datetime) -> Throughput:
    """By minute and by hour up to now, with those in which nothing came."""
    minute, hour = now.replace(second=0, microsecond=0), now.replace(minute=0, second=0, microsecond=0)
    minutes = [minute - number * MINUTE for number in reversed(range(60))]
    hours = {hour - number * HOUR: 0 for number in reversed(range(24))}
    for at, images in by_minute.items():
        if at.replace(minute=0) in hours:
            hours[at.replace(minute=0)] += images
    return Throughput(
        last_hour=sum(by_minute.get(at, 0) for at in minutes),
        last_day=sum(by_minute.values()),
        by_minute=[Span(at=at, images=by_minute.get(at, 0)) for at in minutes],
        by_hour=[Span(at=at, images=images) for at, images in hours.items()],
    )


def generation(manifest: Manifest) -> Generation:
    """What people want to know of a generation."""
    return Generation(
        id=manifest.id,
        created_at=manifest.created_at,
        age=(datetime.now(UTC) - manifest.created_at).total_seconds(),
        kind=manifest.kind,
        codes=manifest.choice.codes,
        images=manifest.counts.images,
        recall=manifest.recall and manifest.recall.recall_at_1,
    )

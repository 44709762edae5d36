"""What the catalogue tells about how things go: what came into the index and how fast, and what could not be used."""

from collections.abc import Sequence
from datetime import UTC, datetime

from pipeline.stores.catalog import Catalog

MINUTE = "%Y-%m-%dT%H:%M"


def indexed_by_minute(catalog: Catalog, since: datetime) -> dict[datetime, int]:
    """How many images became searchable for the first time, by the minute in which they did, in order."""
    minute = {"$dateToString": {"format": MINUTE, "date": "$indexed_at"}}
    groups = catalog.images.aggregate(
        [{"$match": {"indexed_at": {"$gte": since}}}, {"$group": {"_id": minute, "n": {"$sum": 1}}}]
    )
    counted = {datetime.strptime(one["_id"], MINUTE).replace(tzinfo=UTC): int(one["n"]) for one in groups}
    return dict(sorted(counted.items()))


def delays(catalog: Catalog, since: datetime, limit: int) -> Sequence[float]:
    """Seconds from its coming into the catalogue to its being searchable of each of the latest images."""
    query, fields = {"indexed_at": {"$gte": since}}, {"created_at": 1, "indexed_at": 1}
    latest = catalog.images.find(query, fields).sort("indexed_at", -1).limit(limit)
    return [(one["indexed_at"] - one["created_at"]).total_seconds() for one in latest]


def quarantine_reasons(catalog: Catalog, limit: int) -> dict[str, int]:
    """Why images are in quarantine, and how many for each of the most common reasons, these first."""
    groups = catalog.images.aggregate(
        [
            {"$match": {"status": "quarantined"}},
            {"$group": {"_id": "$reason", "n": {"$sum": 1}}},
            {"$sort": {"n": -1, "_id": 1}},
            {"$limit": limit},
        ]
    )
    return {one["_id"]: int(one["n"]) for one in groups}

"""Background jobs in the catalogue's database: queued by anyone, taken by one worker at a time.

A worker holds a job by a token of its own and says every few seconds that it is there. Where that stops, another takes
the job over, with another token: whatever the first still writes then changes nothing. Heartbeats are times of the
replicas' clocks, which have to agree to within STALE.
"""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any, Literal
from uuid import UUID, uuid4

from pymongo import ASCENDING, DESCENDING, ReturnDocument
from pymongo.database import Database

Document = dict[str, Any]
Kind = Literal["export", "import"]
State = Literal["queued", "running", "done", "failed"]
Position = tuple[datetime, UUID]
"""When a job was created, and its id: where a page of jobs ends."""
Tell = Callable[[int, int | None], None]
"""Hears how many records are done, and how many there are, as often as one likes. Raises where the job has to end."""

STALE = timedelta(seconds=60)
MAX_TRIES = 3
RESULTS: dict[Kind, str] = {"export": "exports/{}.zip", "import": "imports/{}.csv"}
FOLDERS = ("exports/", "imports/")
"""Where everything that belongs to jobs is in SLEEVE_BUCKET."""


def result_key(job: Document) -> str:
    """Key in SLEEVE_BUCKET of what a job makes."""
    return RESULTS[job["kind"]].format(job["_id"])


class Jobs:
    """A thread-safe view of the jobs.

    A job's document: `_id`, `kind`, `by` (a user's name), `state`, `arguments`, `done` and `total` (records; the total
    is None until it is known), `result` (counts, once it is done), `error` (a sentence, once it has failed), `worker`,
    `tries`, `heartbeat`, `created_at`, `finished_at`.
    """

    def __init__(self, database: Database[Document]) -> None:
        self._jobs = database["jobs"]

    def add(self, kind: Kind, by: str, arguments: Document, job: UUID | None = None) -> Document:
        """Queue a job; whoever needs the id before, to store something under it, gives it."""
        now = datetime.now(UTC)
        document = {
            "_id": job or uuid4(),
            "kind": kind,
            "by": by,
            "state": "queued",
            "arguments": arguments,
            "done": 0,
            "total": None,
            "result": None,
            "error": None,
            "worker": None,
            "tries": 0,
            "heartbeat": None,
            # As exactly as the server keeps it.
            "created_at": now.replace(microsecond=now.microsecond // 1000 * 1000),
            "finished_at": None,
        }
        self._jobs.insert_one(document)
        return document

    def find(self, job: UUID) -> Document | None:
        return self._jobs.find_one({"_id": job})

    def page(self, by: str | None, limit: int, after: Position | None = None) -> list[Document]:
        """Jobs of a user, or of everybody, latest first; `after` is the last of the page before."""
        query: Document = {} if by is None else {"by": by}
        if after is not None:
            created_at, last = after
            query["$or"] = [{"created_at": {"$lt": created_at}}, {"created_at": created_at, "_id": {"$lt": last}}]
        return list(self._jobs.find(query).sort([("created_at", DESCENDING), ("_id", DESCENDING)]).limit(limit))

    # For the worker

    def take(self) -> Document | None:
        """The oldest job that nobody works on, held from now on with the token in its `worker`; None without one."""
        now = datetime.now(UTC)
        free = {"$or": [{"state": "queued"}, {"state": "running", "heartbeat": {"$lt": now - STALE}}]}
        held = {"$set": {"state": "running", "worker": uuid4(), "heartbeat": now}, "$inc": {"tries": 1}}
        return self._jobs.find_one_and_update(
            free, held, sort=[("created_at", ASCENDING)], return_document=ReturnDocument.AFTER
        )

    def beat(self, job: Document, done: int, total: int | None) -> bool:
        """Say that the job is worked on, and how far it is; False where somebody else has it now."""
        return self._set(job, {"heartbeat": datetime.now(UTC), "done": done, "total": total})

    def release(self, job: Document) -> None:
        """Give a job back that could not be finished here; it does not count as a try."""
        self._jobs.update_one(_held(job), {"$set": {"state": "queued", "worker": None}, "$inc": {"tries": -1}})

    def finish(self, job: Document, done: int, result: Document) -> bool:
        """End a job well; False where somebody else has it now."""
        now = datetime.now(UTC)
        return self._set(job, {"state": "done", "done": done, "total": done, "result": result, "finished_at": now})

    def fail(self, job: Document, error: str) -> bool:
        """End a job with a sentence that says what to do; False where somebody else has it now."""
        return self._set(job, {"state": "failed", "error": error, "finished_at": datetime.now(UTC)})

    def _set(self, job: Document, fields: Document) -> bool:
        return self._jobs.update_one(_held(job), {"$set": fields}).matched_count == 1

    def forget(self, before: datetime) -> int:
        """Remove jobs that were created before then and have ended. Returns how many."""
        query = {"state": {"$in": ["done", "failed"]}, "created_at": {"$lt": before}}
        return self._jobs.delete_many(query).deleted_count


def _held(job: Document) -> Document:
    return {"_id": job["_id"], "worker": job["worker"], "state": "running"}

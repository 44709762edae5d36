"""The catalogue's epoch: a number that every write moves on that pages may show.

What is cached of the catalogue is kept under the epoch it was read in, so that no process, replica or task ever looks
at what another's write has made old. Only a writer that dies between its write and `advance` leaves something old
behind, until its time is over: see `pipeline.cache`.
"""

from typing import Any

from pymongo.database import Database


def advance(database: Database[dict[str, Any]]) -> None:
    """Begin a new epoch: after the write, and once for many writes that belong together."""
    database["pointers"].update_one({"_id": "epoch"}, {"$inc": {"n": 1}}, upsert=True)


def current(database: Database[dict[str, Any]]) -> int:
    """The epoch of now: one lookup by _id."""
    pointer = database["pointers"].find_one({"_id": "epoch"})
    return int(pointer["n"]) if pointer else 0

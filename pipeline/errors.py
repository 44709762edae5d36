"""Errors that callers may want to tell apart.

SleeveError
├── BadImage            this picture can never be used: quarantine it, do not try again
│   └── NoFeatures      readable, but nothing on it that could be recognised
├── BadEvent            this message can never be understood: dead-letter it
├── BadQuery            a search asks for what cannot be: a crop outside the picture, an end before the beginning
├── Unknown             there is no such user, job or generation
│   └── UnknownImage    there is no such image in the collection, or it is not searchable yet
├── NotSignedIn         a request without credentials, or with some that are no longer good
├── NotAllowed          the user's role, or who owns the image, does not permit that
├── ServerAway          a server that this needs gives no answer that could be used; worth a retry
├── TooManyTries        too many wrong passwords; it says when to try again
├── Conflict            somebody else was faster: what is there now comes with it
├── BadSource           an import names something that is not there or not allowed
├── ObjectMissing       the object store has no such object
├── BrokenGeneration    files of a generation are missing or do not match their checksums
├── CannotRollBack      there is no such generation to go back to
├── IndexTooLarge       no kind of index holds the collection within the budgets
├── RecallTooLow        a generation finds less than the one before it; never published
├── NewerCatalogue      the catalogue was migrated by a later version of Sleeve
└── MissingSetting      a setting that this action needs is not set

Everything else (network, disk, a server that is down) is left as the client library raises it: those are worth a retry.
"""

from typing import Any


class SleeveError(Exception):
    """Base of all errors that Sleeve raises on purpose; the message tells the user what to do next."""


class BadImage(SleeveError):
    """A picture that can never be used; `reason` goes into the catalogue and to the dead-letter topic."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


class NoFeatures(BadImage):
    """The picture decodes, but shows too little to be recognised by (a blank page, a 1x1 pixel)."""


class BadEvent(SleeveError):
    """A message that no parser understands."""


class BadQuery(SleeveError):
    """A search asks for what cannot be; the message says what to give instead."""


class Unknown(SleeveError):
    """Something that is named by its id or name does not exist, or not for this user."""


class UnknownImage(Unknown):
    """An image that is named by its id is not in the collection, or not searchable yet."""


class NotSignedIn(SleeveError):
    """Who asks is not known; the message says how to sign in."""


class NotAllowed(SleeveError):
    """Who asks is known, and may not; the message says who may."""


class TooManyTries(SleeveError):
    """Too many tries in too short a time."""

    def __init__(self, message: str, seconds: int) -> None:
        super().__init__(message)
        self.seconds = seconds
        """After which the next try counts."""


class ServerAway(SleeveError):
    """A server that this needs gives no answer that could be used; the message says which, and what to do."""


class Conflict(SleeveError):
    """Somebody else changed the same thing meanwhile; nothing of theirs was overwritten."""

    def __init__(self, message: str, current: dict[str, Any] | None = None) -> None:
        super().__init__(message)
        self.current = current or {}
        """What is there now, ready for JSON."""


class BadSource(SleeveError):
    """The source of an import does not exist, is of an unknown kind, or is not allowed."""


class ObjectMissing(SleeveError):
    """The object store has no object under this bucket and key."""


class BrokenGeneration(SleeveError):
    """A generation whose files are missing or differ from the manifest's checksums; never served."""


class CannotRollBack(SleeveError):
    """The generation to go back to is not kept, or was never published; the message says what to do."""


class IndexTooLarge(SleeveError):
    """No kind of index holds the collection within INDEX_MEMORY_MB and SEARCH_BUDGET_MS; the message has a way out."""


class RecallTooLow(SleeveError):
    """A new generation finds clearly less than the current one."""


class NewerCatalogue(SleeveError):
    """The catalogue has a version that this Sleeve does not know; the message says what to do."""


class MissingSetting(SleeveError):
    """An action needs a setting that is not there; the message names it."""

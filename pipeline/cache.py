"""What was computed a moment ago: in Redis where REDIS_URL is set, shared by all replicas; else in this process.

It is only a cache. Everything in it can be computed again, and is while Redis is away. What hangs on the catalogue's
state has its epoch in the key (`Context.cached`) and so is right after every write. It expires all the same: a writer
that was killed between its write and the new epoch would otherwise leave the old answer behind for ever.
"""

import logging
import time
from collections.abc import Callable
from threading import Lock
from typing import NamedTuple, Protocol, TypeVar, cast

from cachetools import TLRUCache

from pipeline.settings import Settings

log = logging.getLogger(__name__)

Answer = TypeVar("Answer")
LOCAL_BYTES = 64 << 20
# Of an entry in this process, beside its bytes: the key and what keeps it in order.
OVERHEAD = 500
# A server that gave no answer is left alone for so many seconds, so that no page waits for it again and again.
PAUSE = 5.0
TIMEOUT = 1.0


class Store(Protocol):
    """Where entries are kept."""

    def get(self, key: str) -> bytes | None: ...

    def put(self, key: str, value: bytes, seconds: float) -> None: ...


class Cache:
    """A thread-safe cache of bytes by text."""

    def __init__(self, settings: Settings) -> None:
        self._store: Store = (
            Shared(settings.redis_url, f"sleeve:{settings.database_name}:") if settings.redis_url else Local()
        )

    def remember(self, key: str, make: Callable[[], bytes], seconds: float) -> bytes:
        """What `make` returned for this key within the last `seconds`, here or in another replica; else made now."""
        found = self._store.get(key)
        if found is None:
            found = make()
            self._store.put(key, found, seconds)
        return found


class Entry(NamedTuple):
    value: bytes
    seconds: float


class Local:
    """Entries in this process, at most LOCAL_BYTES of them; those that were not used for longest go first."""

    def __init__(self) -> None:
        self._entries: TLRUCache[str, Entry] = TLRUCache(
            LOCAL_BYTES,
            ttu=lambda _, entry, now: now + entry.seconds,
            getsizeof=lambda entry: len(entry.value) + OVERHEAD,
        )
        self._lock = Lock()

    def get(self, key: str) -> bytes | None:
        with self._lock:
            entry = self._entries.get(key)
        return entry.value if entry else None

    def put(self, key: str, value: bytes, seconds: float) -> None:
        # What is larger than the whole cache is not kept.
        if len(value) + OVERHEAD <= LOCAL_BYTES:
            with self._lock:
                self._entries[key] = Entry(value, seconds)


class Shared:
    """Entries in Redis. While it gives no answer, nothing is found and nothing is kept."""

    def __init__(self, url: str, prefix: str) -> None:
        # Only those that use it wait for the import.
        from redis import Redis
        from redis.backoff import NoBackoff
        from redis.retry import Retry

        # Once more at once: a connection that waited in the pool may have been closed by a server that started anew.
        options = {"socket_timeout": TIMEOUT, "socket_connect_timeout": TIMEOUT, "retry": Retry(NoBackoff(), 1)}
        self._redis = Redis.from_url(url, **options)
        self._prefix = prefix
        self._away = False
        self._again_at = 0.0

    def get(self, key: str) -> bytes | None:
        return cast(bytes | None, self._ask(lambda: self._redis.get(self._prefix + key)))

    def put(self, key: str, value: bytes, seconds: float) -> None:
        self._ask(lambda: self._redis.set(self._prefix + key, value, px=round(seconds * 1000)))

    def _ask(self, question: Callable[[], Answer]) -> Answer | None:
        from redis import RedisError

        if time.monotonic() < self._again_at:
            return None
        try:
            answer = question()
        except RedisError as error:
            self._again_at = time.monotonic() + PAUSE
            if not self._away:
                log.warning("Redis cannot be used (%s); until it can, nothing is cached and pages are slower.", error)
            self._away = True
            return None
        if self._away:
            log.warning("Redis can be used again.")
        self._away = False
        return answer

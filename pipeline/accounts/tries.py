"""How often one may try: wrong passwords and sign-ups, counted per address and per name.

Nobody can lock somebody else out for long. Whoever guesses from one address is stopped there, and only there. Guesses
from many addresses stop new addresses for minutes, and never one that the name signed in from before
(https://owasp.org/www-community/Slow_Down_Online_Guessing_Attacks_with_Device_Cookies).
"""

import ipaddress
import logging
import math
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

from limits import RateLimitItem, RateLimitItemPerDay, RateLimitItemPerHour, RateLimitItemPerMinute
from limits.errors import StorageError
from limits.storage import storage_from_string
from limits.strategies import MovingWindowRateLimiter

from pipeline.errors import NotAllowed, NotSignedIn, TooManyTries
from pipeline.settings import Settings

log = logging.getLogger(__name__)

Result = TypeVar("Result")
hit, test, window = (
    MovingWindowRateLimiter.hit,
    MovingWindowRateLimiter.test,
    MovingWindowRateLimiter.get_window_stats,
)
# A person mistypes a few times; a house full of people shares an address.
ONE_NAME_FROM_ONE_ADDRESS = RateLimitItemPerMinute(10, 10, "pair")
ONE_ADDRESS = RateLimitItemPerMinute(50, 10, "address")
ONE_NAME = RateLimitItemPerMinute(100, 10, "name")
SIGN_UPS = RateLimitItemPerHour(60, 1, "signup")
# Not a limit, but a mark that goes away by itself: the name signed in from this address.
KNOWN = RateLimitItemPerDay(1, 30, "known")


class Tries:
    """Counts tries; in Redis, where all replicas of one installation see them, or in this process."""

    def __init__(self, settings: Settings) -> None:
        self._alone = MovingWindowRateLimiter(storage_from_string("memory://"))
        self._shared = self._alone
        if settings.redis_url:
            # Somebody waits for the answer, so a Redis that gives none is not asked again.
            patience: dict[str, Any] = {"socket_timeout": 1, "socket_connect_timeout": 1, "retry": None}
            prefix = f"sleeve:{settings.database_name}:tries"
            shared = storage_from_string(settings.redis_url, wrap_exceptions=True, key_prefix=prefix, **patience)
            self._shared = MovingWindowRateLimiter(shared)

    @contextmanager
    def password(self, name: str, address: str) -> Iterator[None]:
        """Around the check of a password. Raises TooManyTries, without any check, where too many failed before."""
        name = name.casefold()
        counted: list[tuple[RateLimitItem, tuple[str, ...]]] = [
            (ONE_NAME_FROM_ONE_ADDRESS, (name, address)),
            (ONE_ADDRESS, (address,)),
        ]
        if self._ask(test, KNOWN, name, address):
            counted.append((ONE_NAME, (name,)))
        for limit, whose in counted:
            self._refuse_if_spent(limit, whose, "Too many wrong passwords.")
        # What runs at the same moment is not counted yet: some tries more, as many as there are threads.
        try:
            yield
        except (NotSignedIn, NotAllowed):
            for limit, whose in counted:
                self._ask(hit, limit, *whose)
            raise
        self._ask(hit, KNOWN, name, address)

    def sign_up(self, address: str) -> None:
        """Count a sign-up. Raises TooManyTries."""
        if not self._ask(hit, SIGN_UPS, address):
            self._refuse_if_spent(SIGN_UPS, (address,), "Too many accounts were asked for from your address.")

    def _refuse_if_spent(self, limit: RateLimitItem, whose: tuple[str, ...], what: str) -> None:
        if self._ask(test, limit, *whose):
            return
        reset = self._ask(window, limit, *whose).reset_time
        seconds = max(1, math.ceil(reset - time.time()))
        raise TooManyTries(f"{what} Try again in {_in_words(seconds)}.", seconds)

    def _ask(self, question: Callable[..., Result], limit: RateLimitItem, *whose: str) -> Result:
        """The answer of the shared counts or, while Redis is away, of our own: signing in does not depend on it."""
        try:
            return question(self._shared, limit, *whose)
        except StorageError as error:
            log.warning("Redis does not answer, so this replica counts tries alone: %s", error)
            return question(self._alone, limit, *whose)


def address_of(host: str | None) -> str:
    """Whom to count: an address, of IPv6 the network that one customer has."""
    try:
        parsed = ipaddress.ip_address(host or "")
    except ValueError:
        return host or "unknown"
    if parsed.version == 6 and parsed.ipv4_mapped is None:
        return str(ipaddress.ip_network((parsed, 64), strict=False).network_address)
    return str(getattr(parsed, "ipv4_mapped", None) or parsed)


def _in_words(seconds: int) -> str:
    return f"{seconds} seconds" if seconds < 120 else f"{math.ceil(seconds / 60)} minutes"

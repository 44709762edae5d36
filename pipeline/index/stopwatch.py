"""Where the time of a search goes."""

import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import TypeVar

T = TypeVar("T")


class Stopwatch:
    """Seconds spent in each step of one search. Steps must not lie within each other."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}

    @contextmanager
    def step(self, name: str) -> Iterator[None]:
        """Add the time that the block takes, also where it raises."""
        began = time.perf_counter()
        try:
            yield
        finally:
            self.seconds[name] = self.seconds.get(name, 0.0) + time.perf_counter() - began

    def each(self, name: str, items: Iterable[T]) -> Iterator[T]:
        """The items, adding the time that it takes to get each, and not what is done with it."""
        rest = iter(items)
        while True:
            with self.step(name):
                try:
                    item = next(rest)
                except StopIteration:
                    return
            yield item

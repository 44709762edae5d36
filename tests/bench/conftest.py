"""A tiny benchmark set of sample covers, made once."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from rich.progress import Progress

from bench.sets import write_set

IMAGES, QUERIES, STRANGERS, SHEETS = 30, 5, 2, 1


@pytest.fixture(scope="session")
def tiny_set(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("set")
    for _ in write_set(folder, IMAGES, QUERIES, STRANGERS, SHEETS):
        pass
    return folder


@pytest.fixture
def bars() -> Iterator[Progress]:
    with Progress(disable=True) as bars:
        yield bars

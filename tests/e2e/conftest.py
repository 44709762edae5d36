"""Everything, Airflow and the API included, once for all end-to-end tests."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from bench.acceptance import PARTS, bring_in
from devstack.stack import Stack
from pipeline.context import Context
from pipeline.samples import write_covers
from pipeline.settings import Settings

COVERS = 60


@pytest.fixture(scope="session")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    with Stack(tmp_path_factory.mktemp("whole"), PARTS) as stack:
        yield stack


@pytest.fixture(scope="session")
def installed(whole: Stack) -> Context:
    """The installation that the whole stack serves, as a user's command line would see it."""
    context = Context(Settings.of(whole.env))
    context.catalog.prepare()
    return context


@pytest.fixture(scope="session")
def covers(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("covers")
    assert len(list(write_covers(folder, COVERS))) == COVERS
    return folder


@pytest.fixture(scope="session")
def imported(installed: Context, covers: Path) -> dict[str, int]:
    """How many of the imported covers ended in which state."""
    return bring_in(installed, str(covers))

"""Covers, described once, and an index over the test's own stores."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from pipeline.features.segments import segment_key, write_segment
from pipeline.features.sift import Features, extract
from pipeline.index import growth, rules
from pipeline.index.generations import Generations
from pipeline.index.manifest import Manifest
from pipeline.samples import cover, snapshot
from pipeline.settings import Settings
from pipeline.stores.catalog import Catalog
from pipeline.stores.objects import Objects

COVERS = 24
FEATURES = 200


@dataclass(frozen=True)
class Picture:
    id: UUID
    pixels: NDArray[np.uint8]
    features: Features
    photo: Features
    """Of a phone snapshot of the picture."""


def described(pixels: NDArray[np.uint8]) -> Features:
    gray = cv2.cvtColor(pixels, cv2.COLOR_BGR2GRAY)
    scale = 512 / max(gray.shape)
    return extract(np.asarray(cv2.resize(gray, None, fx=scale, fy=scale), np.uint8), FEATURES)


@pytest.fixture(scope="session")
def pictures() -> list[Picture]:
    """Covers whose snapshots show enough to be recognised."""
    found = []
    for number in range(COVERS):
        pixels = cover(number, 512)
        photo = described(snapshot(pixels, number, 0.5))
        found.append(Picture(UUID(int=number + 1), pixels, described(pixels), photo))
    return found


def publish(generations: Generations, uri: str | None) -> Manifest:
    assert uri is not None
    assert generations.publish(uri)
    current = generations.current()
    assert current is not None
    return current


def append(generations: Generations, *names: str) -> Manifest:
    """Add stored segments and publish."""
    return publish(generations, growth.append(generations, generations.current(), names))


def rebuild(generations: Generations) -> Manifest:
    """Rebuild and publish."""
    return publish(generations, growth.rebuild(generations, generations.current(), [], "test"))


def elsewhere(generations: Generations) -> Generations:
    """The same generations on another machine, which has its own disk."""
    home = generations.settings.sleeve_home / "elsewhere"
    return Generations(
        generations.settings.model_copy(update={"sleeve_home": home}), generations.objects, generations.catalog
    )


def everything(generations: Generations) -> set[str]:
    """All keys in the sleeve bucket."""
    return {one.key for page in generations.objects.pages(generations.settings.sleeve_bucket) for one in page}


def only(monkeypatch: pytest.MonkeyPatch, codes: rules.Codes, **changes: Any) -> None:
    """Let the table have no other kind than this one, which costs nothing, with some columns changed."""
    row = next(row for row in rules._TABLE if row.codes == codes)
    monkeypatch.setattr(rules, "_TABLE", (replace(row, scan_ns=0.0, pair_us=0.0, **changes),))


Add = Callable[[Sequence[Picture]], str]


@pytest.fixture
def generations(settings: Settings, objects: Objects, catalog: Catalog) -> Generations:
    return Generations(settings, objects, catalog)


@pytest.fixture
def add(settings: Settings, objects: Objects, catalog: Catalog, generations: Generations) -> Add:
    """Store a segment of pictures, as extraction does, and return its name."""

    def store(some: Sequence[Picture]) -> str:
        info = write_segment(generations.files.folder("segments"), [(one.id, one.features) for one in some])
        generations.files.upload(segment_key(info.name))
        now = datetime.now(UTC)
        for one in some:
            place = {"bucket": "b", "key": str(one.id), "version": "1", "sha256": str(one.id)}
            fields = {**place, "status": "featured", "segment": info.name, "created_at": now, "updated_at": now}
            catalog.images.update_one({"_id": one.id}, {"$set": fields}, upsert=True)
        return info.name

    return store

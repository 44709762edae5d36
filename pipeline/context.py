"""What every step needs: the settings and the stores, opened when they are first used."""

import json
from collections.abc import Callable, Sequence
from functools import cached_property
from typing import TYPE_CHECKING, TypeVar, cast

from pipeline.cache import Cache
from pipeline.settings import Settings
from pipeline.sources import Reject
from pipeline.stores import epoch
from pipeline.stores.annotations import Annotations
from pipeline.stores.browse import label_counts
from pipeline.stores.catalog import Catalog
from pipeline.stores.jobs import Jobs
from pipeline.stores.objects import Objects
from pipeline.stores.users import Users

if TYPE_CHECKING:
    from pipeline.airflow_runs import AirflowRuns

Json = TypeVar("Json")
# What hangs on the catalogue's state is right for as long as the epoch lasts; see pipeline.cache for why it expires.
CACHED_SECONDS = 60


class Context:
    """Settings, catalogue and object store of one installation."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings

    @cached_property
    def catalog(self) -> Catalog:
        return Catalog(self.settings)

    @cached_property
    def objects(self) -> Objects:
        return Objects(self.settings)

    @cached_property
    def users(self) -> Users:
        return Users(self.catalog.database)

    @cached_property
    def annotations(self) -> Annotations:
        return Annotations(self.catalog.database)

    @cached_property
    def airflow(self) -> "AirflowRuns":
        from pipeline.airflow_runs import AirflowRuns

        return AirflowRuns(self.settings)

    @cached_property
    def jobs(self) -> Jobs:
        return Jobs(self.catalog.database)

    @cached_property
    def cache(self) -> Cache:
        return Cache(self.settings)

    def cached(self, name: str, make: Callable[[], Json]) -> Json:
        """What `make` reads of the catalogue, as JSON can carry it; made anew after any write, of others as well.

        `name` says what it is, with all that it depends on: also for whom, where not everybody may see the same.
        """
        now = epoch.current(self.catalog.database)
        kept = self.cache.remember(f"{name}@{now}", lambda: json.dumps(make()).encode(), CACHED_SECONDS)
        return cast(Json, json.loads(kept))

    def counts(self) -> dict[str, int]:
        """Number of images by status."""
        return self.cached("counts", self.catalog.counts)

    def labels(self, visible_to: str | None = None) -> dict[str, int]:
        """How many images have each label, the commonest first; private images of others than `visible_to` left out."""
        whose = "" if visible_to is None else f":{visible_to}"
        return self.cached(f"labels{whose}", lambda: label_counts(self.catalog, visible_to))

    def dead_letter(self, rejects: Sequence[Reject]) -> None:
        """Send what can never be used to the dead-letter topic, where there is a Kafka."""
        if rejects and self.settings.kafka_bootstrap_servers:
            from pipeline.sources.kafka import DeadLetters

            DeadLetters(self.settings).send(rejects)

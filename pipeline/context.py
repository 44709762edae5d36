"""What every step needs: the settings and the stores, opened when they are first used."""

from collections.abc import Sequence
from functools import cached_property
from typing import TYPE_CHECKING

from pipeline.settings import Settings
from pipeline.sources import Reject
from pipeline.stores.annotations import Annotations
from pipeline.stores.catalog import Catalog
from pipeline.stores.jobs import Jobs
from pipeline.stores.objects import Objects
from pipeline.stores.users import Users

if TYPE_CHECKING:
    from pipeline.airflow_runs import AirflowRuns
    from pipeline.overview import Overview


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
    def overview(self) -> "Overview":
        from pipeline.overview import Overview

        return Overview(self)

    @cached_property
    def airflow(self) -> "AirflowRuns":
        from pipeline.airflow_runs import AirflowRuns

        return AirflowRuns(self.settings)

    @cached_property
    def jobs(self) -> Jobs:
        return Jobs(self.catalog.database)

    def dead_letter(self, rejects: Sequence[Reject]) -> None:
        """Send what can never be used to the dead-letter topic, where there is a Kafka."""
        if rejects and self.settings.kafka_bootstrap_servers:
            from pipeline.sources.kafka import DeadLetters

            DeadLetters(self.settings).send(rejects)

"""Links from a task in the Airflow UI to the page of Sleeve that shows what it did.

Airflow asks for a link on the worker, when the task ends, and stores it: the worker's settings say where Sleeve is.
"""

from typing import Any
from urllib.parse import urlencode

from airflow.sdk import BaseOperatorLink
from airflow.sdk.execution_time.xcom import XCom


def page(path: str, **query: str) -> str:
    """Where browsers find a page of Sleeve; empty, which Airflow takes for no link, where no setting says it."""
    from pipeline.settings import Settings

    settings = Settings()
    base = settings.sleeve_public_url or settings.sleeve_api_url
    if not base:
        return ""
    return f"{base.rstrip('/')}/ui{path}" + (f"?{urlencode(query)}" if query else "")


class ImagesLink(BaseOperatorLink):
    """The collection."""

    name = "Images"

    def get_link(self, operator: Any, *, ti_key: Any) -> str:
        return page("/browse")


class ImportedImagesLink(BaseOperatorLink):
    """The images of the source that an import took in."""

    name = "Imported images"

    def get_link(self, operator: Any, *, ti_key: Any) -> str:
        from pipeline.sources import origin

        return page("/browse", source=origin(operator.source))


class QuarantineLink(BaseOperatorLink):
    """What could not be used, and why."""

    name = "Quarantine"

    def get_link(self, operator: Any, *, ti_key: Any) -> str:
        return page("/quarantine")


class DuplicatesLink(BaseOperatorLink):
    """Groups of near-duplicates."""

    name = "Near-duplicates"

    def get_link(self, operator: Any, *, ti_key: Any) -> str:
        return page("/browse", duplicates="1")


class GenerationLink(BaseOperatorLink):
    """The generation that a task made or, where it made none, that it was given."""

    name = "Generation"

    def get_link(self, operator: Any, *, ti_key: Any) -> str:
        result = XCom.get_value(ti_key=ti_key, key="return_value")
        # A publish names the generation; the others return, or were given, the URI of its manifest.
        made = result.get("generation") if isinstance(result, dict) else result
        generation = made or getattr(operator, "generation", None)
        address = page("/generations")
        if not (address and generation):
            return address
        return f"{address}#{generation.removesuffix('/manifest.json').rsplit('/')[-1]}"

"""Bringing in what lies in a folder, an archive or a bucket."""

from collections import Counter
from collections.abc import Iterable
from typing import Any

from links import ImagesLink, ImportedImagesLink
from operators.base import SleeveOperator


class CountingOperator(SleeveOperator):
    """A step that takes images in, batch by batch, and says how many."""

    def count(self, batches: Iterable[Any]) -> dict[str, int]:
        total: Counter[str] = Counter()
        for accepted in batches:
            total.update(accepted.counts())
            self.log.info("%d images seen, %d new", total["images"], total["new"])
        return dict(total)


class ImportOperator(CountingOperator):
    """Registers every image of a source; local files go into the image bucket.

    :param source: a folder or a zip or tar archive on the worker, or ``s3://bucket/prefix``.
    :param image_label: given to all images, beside the one that their folder says.
    :param image_owner: given to all images.
    :param limit: how many images at most.
    """

    template_fields = ("source", "image_label", "image_owner", "limit")
    operator_extra_links = (ImportedImagesLink(),)

    def __init__(
        self,
        *,
        source: str,
        image_label: str | None = None,
        image_owner: str | None = None,
        limit: Any = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.source = source
        self.image_label = image_label
        self.image_owner = image_owner
        self.limit = limit

    def step(self, context: Any) -> dict[str, int]:
        from pipeline.ingest import import_source
        from pipeline.sources import open_source

        source = open_source(self.source, self.sleeve.settings, self.sleeve.catalog, self.sleeve.objects)
        return self.count(import_source(self.sleeve, source, self.image_label, self.image_owner, self.limit))


class SweepOperator(CountingOperator):
    """Takes in what is in the image bucket and no event told of."""

    operator_extra_links = (ImagesLink(),)

    def step(self, context: Any) -> dict[str, int]:
        from pipeline.ingest import sweep

        return self.count(sweep(self.sleeve))

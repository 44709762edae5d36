"""Generations: where their manifests and files are, and how one becomes the current one by one atomic change."""

import logging
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from pydantic import BaseModel, ValidationError

from pipeline.errors import BrokenGeneration, ObjectMissing
from pipeline.features.segments import Segment, SegmentInfo, segment_key
from pipeline.index.files import DOWNLOADS_AT_ONCE, Files
from pipeline.index.manifest import Manifest
from pipeline.settings import Settings
from pipeline.stores.catalog import Catalog
from pipeline.stores.objects import Objects, parse_s3_uri

log = logging.getLogger(__name__)


class Generations:
    """The generations of one collection."""

    def __init__(self, settings: Settings, objects: Objects, catalog: Catalog) -> None:
        self.settings = settings
        self.objects = objects
        self.catalog = catalog
        self.files = Files(objects, settings.sleeve_bucket, settings.sleeve_home)

    def uri(self, generation: str) -> str:
        """Where the manifest of a generation is."""
        return f"s3://{self.settings.sleeve_bucket}/generations/{generation}/manifest.json"

    def current_id(self) -> str | None:
        """Id of the generation that is being served."""
        return self.catalog.current_generation()

    def current(self) -> Manifest | None:
        generation = self.current_id()
        return None if generation is None else self.load(self.uri(generation))

    def load(self, uri: str) -> Manifest:
        """Read a manifest. Raises BrokenGeneration when it is missing or not one."""
        try:
            return Manifest.model_validate_json(self.objects.get(*parse_s3_uri(uri)))
        except (ObjectMissing, ValidationError) as error:
            raise BrokenGeneration(f"{uri}: no usable manifest: {error}") from error

    def stored_ids(self) -> list[str]:
        """Ids of all generations that have a manifest, oldest first."""
        pages = self.objects.pages(self.settings.sleeve_bucket, "generations/")
        return [one.key.split("/")[1] for page in pages for one in page if one.key.endswith("/manifest.json")]

    def is_saved(self, generation: str) -> bool:
        return self.objects.exists(*parse_s3_uri(self.uri(generation)))

    def save(self, manifest: Manifest) -> str:
        """Write a manifest, whose files are all stored, and return its URI."""
        log.info("generation %s: %s, %s; %s", manifest.id, manifest.kind, manifest.reason, manifest.counts)
        return self.write(f"generations/{manifest.id}/manifest.json", manifest)

    def write(self, key: str, document: BaseModel) -> str:
        """Store a document in the sleeve bucket and return its URI."""
        bucket = self.settings.sleeve_bucket
        self.objects.put(bucket, key, document.model_dump_json(indent=1).encode(), "application/json")
        return f"s3://{bucket}/{key}"

    def publish(self, uri: str) -> bool:
        """Make a generation current; False when its parent no longer is, or when it was rolled back.

        Raises BrokenGeneration when a file that it names is not in the store.
        """
        manifest = self.load(uri)
        # A retry after the pointer has moved already finds its own work done.
        if self.current_id() == manifest.id:
            return True
        self._check_stored(manifest)
        return self.catalog.publish_generation(manifest.id, manifest.parent)

    def _check_stored(self, manifest: Manifest) -> None:
        def stored(key: str) -> bool:
            return self.objects.exists(self.settings.sleeve_bucket, key)

        keys = list(manifest.files())
        with ThreadPoolExecutor(DOWNLOADS_AT_ONCE) as pool:
            missing = [key for key, there in zip(keys, pool.map(stored, keys), strict=True) if not there]
        if missing:
            raise BrokenGeneration(f"generation {manifest.id} is not published: {missing[0]} is missing; rebuild it")

    def fetch_segments(self, segments: Iterable[SegmentInfo]) -> list[Path]:
        """Local copies of segments, in their order."""
        return self.files.fetch_all([(segment_key(segment.name), segment.bytes) for segment in segments])

    def segment_info(self, name: str) -> SegmentInfo:
        """What a manifest says about a stored segment."""
        return Segment(self.files.fetch(segment_key(name))).info

    def still_featured(self, names: Sequence[str]) -> list[str]:
        """Those of the segments whose images nobody has said to be indexed."""
        featured = set(self.catalog.featured_segments())
        return [name for name in names if name in featured]

    def still_stored(self, names: Sequence[str]) -> list[str]:
        """Those of the segments that are in the store."""
        return [name for name in names if self.objects.exists(self.settings.sleeve_bucket, segment_key(name))]

    def extraction(self) -> dict[str, int]:
        """The settings that features are extracted with."""
        return {"num_features": self.settings.num_features, "image_side": self.settings.image_side}

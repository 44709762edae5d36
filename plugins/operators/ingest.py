"""From messages to segments: drain, collect, extract."""

from typing import Any

from links import ImagesLink, QuarantineLink
from operators.base import SleeveOperator


class DrainOperator(SleeveOperator):
    """Takes waiting messages into the catalogue and returns the shards that have to be worked on."""

    operator_extra_links = (ImagesLink(), QuarantineLink())

    def step(self, context: Any) -> list[dict[str, Any]]:
        from pipeline.ingest import drain
        from pipeline.sources.kafka import KafkaSource

        source = KafkaSource(self.sleeve.settings) if self.sleeve.settings.kafka_bootstrap_servers else None
        try:
            result = drain(self.sleeve, source, context["run_id"])
        finally:
            if source:
                source.close()
        self.log.info("drained %s", {**result, "shards": len(result["shards"])})
        return result["shards"]


class ShardOperator(SleeveOperator):
    """A step over one shard, labelled with it in the Airflow UI.

    :param shard: what DrainOperator returned for the shard: its manifest's key and its number of images.
    """

    template_fields = ("shard",)

    def __init__(self, *, shard: dict[str, Any], **kwargs: Any) -> None:
        kwargs.setdefault("map_index_template", "{{ shard_label }}")
        super().__init__(**kwargs)
        self.shard = shard

    def execute(self, context: Any) -> Any:
        number = self.shard["shard"].rsplit("-")[-1].removesuffix(".json")
        context["shard_label"] = f"shard {number}: {self.shard['images']} images"
        result = super().execute(context)
        self.log.info("%s", result)
        return result


class CollectOperator(ShardOperator):
    """Fetches, probes and hashes the images of a shard; what cannot be used is quarantined."""

    operator_extra_links = (ImagesLink(), QuarantineLink())

    def step(self, context: Any) -> dict[str, Any]:
        from pipeline.ingest import collect

        return collect(self.sleeve, self.shard["shard"])


class ExtractOperator(ShardOperator):
    """Describes the collected images of a shard by RootSIFT and writes them as one immutable segment."""

    operator_extra_links = (ImagesLink(), QuarantineLink())

    def step(self, context: Any) -> dict[str, Any]:
        from pipeline.ingest import extract

        return extract(self.sleeve, self.shard["shard"])

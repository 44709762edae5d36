"""From segments to a published generation: append, or plan, build and merge; then evaluate, publish, prune."""

from typing import Any

from airflow.sdk.exceptions import AirflowSkipException

from links import GenerationLink
from operators.base import SleeveOperator


class AppendOperator(SleeveOperator):
    """Adds the segments that no generation holds yet to a copy of the current one. Returns its manifest's URI."""

    operator_extra_links = (GenerationLink(),)

    def step(self, context: Any) -> str:
        from pipeline.indexing import append

        generation = append(self.sleeve)
        if generation is None:
            raise AirflowSkipException("nothing new to index")
        return generation


class PlanOperator(SleeveOperator):
    """Begins a rebuild: leaves out what was deleted, chooses the kind of index, trains it. Returns the shards.

    :param force: rebuild even where nothing asks for it.
    """

    template_fields = ("force",)

    def __init__(self, *, force: Any = False, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.force = force

    def step(self, context: Any) -> list[dict[str, Any]]:
        from pipeline.indexing import plan, rebuild_reason

        reason = "asked for by a user" if self.force else rebuild_reason(self.sleeve)
        shards = plan(self.sleeve, reason) if reason else []
        if not shards:
            raise AirflowSkipException("no rebuild is due")
        return shards


class BuildShardOperator(SleeveOperator):
    """Indexes one shard of a rebuild. Returns the URI of what it made.

    :param shard: what PlanOperator returned for the shard.
    """

    template_fields = ("shard",)

    def __init__(self, *, shard: dict[str, Any], **kwargs: Any) -> None:
        kwargs.setdefault("map_index_template", "{{ shard_label }}")
        super().__init__(**kwargs)
        self.shard = shard

    def step(self, context: Any) -> str:
        from pipeline.indexing import build_shard

        context["shard_label"] = f"shard {self.shard['shard']}: {self.shard['images']} images"
        return build_shard(self.sleeve, self.shard["plan"], self.shard["shard"])


class MergeOperator(SleeveOperator):
    """Joins what the shards of a rebuild made. Returns the URI of the new generation's manifest.

    :param shards: what PlanOperator returned.
    """

    template_fields = ("shards",)
    operator_extra_links = (GenerationLink(),)

    def __init__(self, *, shards: list[dict[str, Any]], **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.shards = shards

    def step(self, context: Any) -> str:
        from pipeline.indexing import merge

        return merge(self.sleeve, self.shards[0]["plan"])


class EvaluateOperator(SleeveOperator):
    """Measures recall@1 of a generation on deformed copies of its own images.

    :param generation: URI of the manifest of a generation that is not published yet.
    """

    template_fields = ("generation",)
    operator_extra_links = (GenerationLink(),)

    def __init__(self, *, generation: str, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.generation = generation

    def step(self, context: Any) -> dict[str, Any]:
        from pipeline.indexing import evaluate

        return evaluate(self.sleeve, self.generation).model_dump()


class PublishOperator(SleeveOperator):
    """Makes a generation the current one, if its recall holds against its parent's.

    :param generation: URI of the manifest of an evaluated generation.
    """

    template_fields = ("generation",)
    operator_extra_links = (GenerationLink(),)

    def __init__(self, *, generation: str, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.generation = generation

    def step(self, context: Any) -> dict[str, Any]:
        from pipeline.indexing import publish

        return publish(self.sleeve, self.generation)


class PruneOperator(SleeveOperator):
    """Removes generations that nobody needs, and the files that only they named."""

    def step(self, context: Any) -> dict[str, int]:
        from pipeline.indexing import prune

        return prune(self.sleeve)

"""From segments to a published generation: append or rebuild, evaluate, publish."""

from typing import Any

from airflow.sdk.exceptions import AirflowSkipException

from operators.base import SleeveOperator


class AppendOperator(SleeveOperator):
    """Adds the segments that no generation holds yet to a copy of the current one. Returns its manifest's URI."""

    def step(self, context: Any) -> str:
        from pipeline.indexing import append

        generation = append(self.sleeve)
        if generation is None:
            raise AirflowSkipException("nothing new to index")
        return generation


class RebuildOperator(SleeveOperator):
    """Trains the index anew and leaves out what was deleted. Returns its manifest's URI.

    :param force: rebuild even where nothing asks for it.
    """

    template_fields = ("force",)

    def __init__(self, *, force: Any = False, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.force = force

    def step(self, context: Any) -> str:
        from pipeline.indexing import rebuild, rebuild_reason

        reason = "asked for by a user" if self.force else rebuild_reason(self.sleeve)
        generation = rebuild(self.sleeve, reason) if reason else None
        if generation is None:
            raise AirflowSkipException("no rebuild is due")
        return generation


class EvaluateOperator(SleeveOperator):
    """Measures recall@1 of a generation on deformed copies of its own images.

    :param generation: URI of the manifest of a generation that is not published yet.
    """

    template_fields = ("generation",)

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

    def __init__(self, *, generation: str, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.generation = generation

    def step(self, context: Any) -> dict[str, Any]:
        from pipeline.indexing import publish

        return publish(self.sleeve, self.generation)

"""Near-duplicates: cut what is new into shards, compare, derive groups."""

from typing import Any

from links import DuplicatesLink
from operators.base import SleeveOperator


class PlanDuplicatesOperator(SleeveOperator):
    """Returns shards of the images that were not searched for near-duplicates yet."""

    def step(self, context: Any) -> list[dict[str, int]]:
        from pipeline.duplicates import plan

        return plan(self.sleeve)


class CompareOperator(SleeveOperator):
    """Searches the current generation for each image of a shard and stores the near-duplicates among the answers.

    :param shard: what PlanDuplicatesOperator returned for the shard: a range of image ids.
    """

    template_fields = ("shard",)
    operator_extra_links = (DuplicatesLink(),)

    def __init__(self, *, shard: dict[str, int], **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.shard = shard

    def step(self, context: Any) -> dict[str, int]:
        from pipeline.duplicates import compare

        return compare(self.sleeve, self.shard)


class RegroupOperator(SleeveOperator):
    """Derives the groups from all near-duplicates that were found; images that were deleted leave theirs."""

    operator_extra_links = (DuplicatesLink(),)

    def step(self, context: Any) -> dict[str, int]:
        from pipeline.duplicates import regroup

        return regroup(self.sleeve)

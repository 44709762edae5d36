"""Thumbnails and compressed pictures."""

from typing import Any

from operators.base import SleeveOperator


class PruneRenditionsOperator(SleeveOperator):
    """Removes what is left of images that are gone. Returns how many files those were."""

    def step(self, context: Any) -> dict[str, int]:
        from pipeline.renditions import prune

        return prune(self.sleeve)

"""What Sleeve's operators share: settings from the worker's environment, errors that are not worth a retry."""

from functools import cached_property
from typing import Any

from airflow.sdk import BaseOperator
from airflow.sdk.exceptions import AirflowFailException


class SleeveOperator(BaseOperator):
    """One step of the pipeline: `step` calls one function of `pipeline` and returns a URI and counts.

    The heavy imports happen in `step`, on the worker, so that parsing a DAG stays light.
    """

    def execute(self, context: Any) -> Any:
        from pipeline.errors import BadSource, IndexTooLarge, MissingSetting, RecallTooLow

        try:
            return self.step(context)
        except (BadSource, IndexTooLarge, MissingSetting, RecallTooLow) as error:
            # Nothing but the user can mend these: fail at once, with the sentence that says how.
            raise AirflowFailException(str(error)) from error

    def step(self, context: Any) -> Any:
        raise NotImplementedError

    @cached_property
    def sleeve(self) -> Any:
        """The stores and settings, as a `pipeline.context.Context`."""
        from pipeline.context import Context
        from pipeline.settings import Settings

        return Context(Settings())

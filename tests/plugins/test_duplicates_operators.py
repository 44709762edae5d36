"""The operators of find_duplicates: from the images of the catalogue to their group."""

from typing import Any

import cv2
import pytest

from operators.duplicates import CompareOperator, PlanDuplicatesOperator, RegroupOperator
from pipeline.context import Context
from pipeline.events import ImageEvent
from pipeline.ingest import accept
from pipeline.samples import cover
from pipeline.sources import Batch
from tests.steps import index_all

pytestmark = pytest.mark.usefixtures("environment")


def run(operator: Any) -> Any:
    return operator.execute({"run_id": "run"})


def test_a_run_groups_what_is_new_and_the_next_has_nothing_to_do(context: Context) -> None:
    assert run(PlanDuplicatesOperator(task_id="plan")) == []
    bucket = context.settings.require("s3_bucket")
    for size in (300, 500):
        data = cv2.imencode(".jpg", cover(1, size))[1].tobytes()
        accept(
            context, Batch([ImageEvent(bucket, f"{size}.jpg", context.objects.put(bucket, f"{size}.jpg", data, ""))])
        )
    index_all(context, "run")
    [shard] = run(PlanDuplicatesOperator(task_id="plan"))
    assert run(CompareOperator(task_id="compare", shard=shard)) == {"shard": 0, "of": 1, "images": 2, "pairs": 2}
    assert run(RegroupOperator(task_id="regroup")) == {"groups": 1, "images": 2}
    assert run(PlanDuplicatesOperator(task_id="plan")) == []

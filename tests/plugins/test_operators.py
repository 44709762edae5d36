"""What the operators add to the functions they call: arguments, labels, and which errors are worth a retry."""

from pathlib import Path
from typing import Any

import pytest
from airflow.sdk.exceptions import AirflowFailException, AirflowSkipException

from operators.imports import ImportOperator
from operators.index import (
    AppendOperator,
    BuildShardOperator,
    EvaluateOperator,
    MergeOperator,
    PlanOperator,
    PruneOperator,
    PublishOperator,
)
from operators.ingest import CollectOperator, DrainOperator
from pipeline.context import Context
from pipeline.samples import cover_jpeg
from tests.steps import index_all

pytestmark = pytest.mark.usefixtures("environment")


def run(operator: Any, **context: Any) -> Any:
    return operator.execute({"run_id": "run", **context})


def test_a_source_that_is_not_there_fails_at_once_with_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(AirflowFailException, match="give a folder"):
        run(ImportOperator(task_id="import", source=str(tmp_path / "none")))


def test_nothing_to_do_is_skipped_not_failed() -> None:
    assert run(DrainOperator(task_id="drain")) == []
    with pytest.raises(AirflowSkipException):
        run(AppendOperator(task_id="append"))
    with pytest.raises(AirflowSkipException):
        run(PlanOperator(task_id="plan", force=False))


def test_import_gives_label_and_owner_and_a_shard_has_a_readable_label(tmp_path: Path, context: Context) -> None:
    (tmp_path / "jazz").mkdir()
    for number in range(3):
        (tmp_path / "jazz" / f"{number}.jpg").write_bytes(cover_jpeg(number))
    operator = ImportOperator(task_id="i", source=str(tmp_path), image_label="new", image_owner="ann", limit=2)
    assert run(operator)["images"] == 2
    documents = list(context.catalog.images.find())
    assert [(one["labels"], one["owner"]) for one in documents] == [(["jazz", "new"], "ann")] * 2
    [shard] = run(DrainOperator(task_id="drain"))
    seen = {"run_id": "run"}
    result = CollectOperator(task_id="collect", shard=shard).execute(seen)
    assert (result["collected"], seen["shard_label"]) == (2, "shard 0000: 2 images")


def test_a_rebuild_goes_through_its_tasks(context: Context) -> None:
    for number in range(4):
        context.objects.put(context.settings.require("s3_bucket"), f"{number}.jpg", cover_jpeg(number))
    run(ImportOperator(task_id="import", source=f"s3://{context.settings.require('s3_bucket')}/"))
    index_all(context, "run")
    with pytest.raises(AirflowSkipException):
        run(PlanOperator(task_id="plan", force=False))

    [shard] = shards = run(PlanOperator(task_id="plan", force=True))
    seen = {"run_id": "run"}
    made = BuildShardOperator(task_id="build", shard=shard).execute(seen)
    generation = run(MergeOperator(task_id="merge", shards=shards))
    EvaluateOperator(task_id="evaluate", generation=generation).execute({})
    published = run(PublishOperator(task_id="publish", generation=generation))

    assert made.endswith("part-0000.json")
    assert seen["shard_label"] == "shard 0: 4 images"
    assert published["published"]
    assert run(PruneOperator(task_id="prune")) == {"generations": 0, "files": 0}


def test_a_collection_that_does_not_fit_fails_at_once_with_what_to_raise(
    context: Context, monkeypatch: pytest.MonkeyPatch
) -> None:
    context.objects.put(context.settings.require("s3_bucket"), "a.jpg", cover_jpeg(0))
    run(ImportOperator(task_id="import", source=f"s3://{context.settings.require('s3_bucket')}/"))
    index_all(context, "run")
    monkeypatch.setenv("INDEX_MEMORY_MB", "1")
    monkeypatch.setattr("pipeline.index.rules.IMAGE_BYTES", 1 << 21)
    with pytest.raises(AirflowFailException, match="Raise INDEX_MEMORY_MB from 1 to 3"):
        run(PlanOperator(task_id="plan", force=True))

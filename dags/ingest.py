"""ingest: new images become searchable. Rung by the doorbell, every ten minutes in any case, or by hand."""

from airflow.providers.standard.operators.empty import EmptyOperator
from airflow.sdk import DAG, AssetOrTimeSchedule, CronTriggerTimetable, TriggerRule, task_group

from operators.index import AppendOperator, EvaluateOperator, PruneOperator, PublishOperator
from operators.ingest import CollectOperator, DrainOperator, ExtractOperator
from wiring import CATALOG, COMPUTE_POOL, DEFAULT_ARGS, INDEX, INDEX_POOL, INGEST_BELL, SEGMENTS

with DAG(
    "ingest",
    description="Collect, describe and index new images",
    doc_md=__doc__,
    schedule=AssetOrTimeSchedule(timetable=CronTriggerTimetable("*/10 * * * *", timezone="UTC"), assets=[INGEST_BELL]),
    catchup=False,
    max_active_runs=1,
    default_args=DEFAULT_ARGS,
    tags=["sleeve"],
):
    drain = DrainOperator(task_id="drain", outlets=[CATALOG])

    @task_group
    def shard(shard: dict) -> None:
        collect = CollectOperator(task_id="collect", shard=shard, pool=COMPUTE_POOL)
        extract = ExtractOperator(task_id="extract", shard=shard, pool=COMPUTE_POOL, outlets=[SEGMENTS])
        collect >> extract

    shards = shard.expand(shard=drain.output)
    # A shard that fails for good must not hold up the others: its images stay in the catalogue for the next run.
    append = AppendOperator(task_id="append", pool=INDEX_POOL, trigger_rule=TriggerRule.ALL_DONE, inlets=[SEGMENTS])
    evaluate = EvaluateOperator(task_id="evaluate", pool=INDEX_POOL, generation=append.output)
    publish = PublishOperator(task_id="publish", pool=INDEX_POOL, generation=append.output, outlets=[INDEX])
    prune = PruneOperator(task_id="prune", pool=INDEX_POOL)
    # But the run must not look well either.
    complete = EmptyOperator(task_id="all_shards_done", trigger_rule=TriggerRule.NONE_FAILED)
    shards >> [append, complete]
    append >> evaluate >> publish >> prune

"""rebuild_index: train the index anew and leave out what was deleted. Nightly and by bell where due, or by hand."""

from airflow.sdk import DAG, AssetOrTimeSchedule, CronTriggerTimetable, Param, TriggerRule

from operators.index import (
    BuildShardOperator,
    EvaluateOperator,
    MergeOperator,
    PlanOperator,
    PruneOperator,
    PublishOperator,
)
from wiring import COMPUTE_POOL, DEFAULT_ARGS, INDEX, INDEX_POOL, REBUILD_BELL, SEGMENTS

with DAG(
    "rebuild_index",
    description="Train the index anew and compact it",
    doc_md=__doc__,
    schedule=AssetOrTimeSchedule(timetable=CronTriggerTimetable("30 3 * * *", timezone="UTC"), assets=[REBUILD_BELL]),
    catchup=False,
    max_active_runs=1,
    default_args=DEFAULT_ARGS,
    render_template_as_native_obj=True,
    params={
        "force": Param(False, type="boolean", title="Rebuild now", description="Even where nothing asks for it"),
    },
    tags=["sleeve"],
):
    plan = PlanOperator(task_id="plan", pool=INDEX_POOL, force="{{ params.force }}", inlets=[SEGMENTS])
    build = BuildShardOperator.partial(task_id="build_shard", pool=COMPUTE_POOL).expand(shard=plan.output)
    merge = MergeOperator(task_id="merge", pool=INDEX_POOL, shards=plan.output)
    evaluate = EvaluateOperator(task_id="evaluate", pool=INDEX_POOL, generation=merge.output)
    publish = PublishOperator(task_id="publish", pool=INDEX_POOL, generation=merge.output, outlets=[INDEX])
    # Also on a night without a rebuild: what was abandoned or has no reader any more is removed here.
    prune = PruneOperator(task_id="prune", pool=INDEX_POOL, trigger_rule=TriggerRule.NONE_FAILED)
    plan >> build >> merge >> evaluate >> publish >> prune

"""find_duplicates: group images that show the same picture. After each publish, nightly, or by hand."""

from airflow.sdk import DAG, AssetOrTimeSchedule, CronTriggerTimetable, TriggerRule

from operators.duplicates import CompareOperator, PlanDuplicatesOperator, RegroupOperator
from wiring import CATALOG, COMPUTE_POOL, DEFAULT_ARGS, INDEX

with DAG(
    "find_duplicates",
    description="Group images that show the same picture",
    doc_md=__doc__,
    schedule=AssetOrTimeSchedule(timetable=CronTriggerTimetable("30 4 * * *", timezone="UTC"), assets=[INDEX]),
    catchup=False,
    max_active_runs=1,
    default_args=DEFAULT_ARGS,
    tags=["sleeve"],
):
    plan = PlanDuplicatesOperator(task_id="plan")
    # New images come first: where tasks wait for the pool, these are the last to get a slot.
    compare = CompareOperator.partial(task_id="compare", pool=COMPUTE_POOL, weight_rule="absolute").expand(
        shard=plan.output
    )
    # Also where nothing was new: images may have been deleted.
    regroup = RegroupOperator(task_id="regroup", trigger_rule=TriggerRule.NONE_FAILED, outlets=[CATALOG])
    compare >> regroup

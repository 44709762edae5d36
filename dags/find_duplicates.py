"""find_duplicates: group images that show the same picture. Every hour, or by hand.

Not after each publish: new images come in small batches, and what serves them first should have the machine.
"""

from airflow.sdk import DAG, CronTriggerTimetable, TriggerRule

from operators.duplicates import CompareOperator, PlanDuplicatesOperator, RegroupOperator
from wiring import CATALOG, COMPUTE_POOL, DEFAULT_ARGS

with DAG(
    "find_duplicates",
    description="Group images that show the same picture",
    doc_md=__doc__,
    schedule=CronTriggerTimetable("15 * * * *", timezone="UTC"),
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

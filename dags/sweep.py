"""sweep: take in what is in the image bucket and no event told of; remove what is left of deleted images.

Nightly, or by hand.
"""

from airflow.sdk import DAG, CronTriggerTimetable

from operators.imports import SweepOperator
from operators.renditions import PruneRenditionsOperator
from wiring import CATALOG, DEFAULT_ARGS

with DAG(
    "sweep",
    description="Find images whose events were lost, remove what deleted ones left",
    doc_md=__doc__,
    schedule=CronTriggerTimetable("0 2 * * *", timezone="UTC"),
    catchup=False,
    max_active_runs=1,
    default_args=DEFAULT_ARGS,
    tags=["sleeve"],
):
    SweepOperator(task_id="sweep", outlets=[CATALOG])
    PruneRenditionsOperator(task_id="prune_renditions")

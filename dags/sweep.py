"""sweep: take in what is in the image bucket and no event told of. Nightly, or by hand."""

from airflow.sdk import DAG, CronTriggerTimetable

from operators.imports import SweepOperator
from wiring import CATALOG, DEFAULT_ARGS

with DAG(
    "sweep",
    description="Find images whose events were lost",
    doc_md=__doc__,
    schedule=CronTriggerTimetable("0 2 * * *", timezone="UTC"),
    catchup=False,
    max_active_runs=1,
    default_args=DEFAULT_ARGS,
    tags=["sleeve"],
):
    SweepOperator(task_id="sweep", outlets=[CATALOG])

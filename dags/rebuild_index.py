"""rebuild_index: train the index anew and leave out what was deleted. Nightly and by bell where due, or by hand."""

from airflow.sdk import DAG, AssetOrTimeSchedule, CronTriggerTimetable, Param

from operators.index import EvaluateOperator, PublishOperator, RebuildOperator
from wiring import DEFAULT_ARGS, INDEX, INDEX_POOL, REBUILD_BELL, SEGMENTS

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
    rebuild = RebuildOperator(task_id="rebuild", pool=INDEX_POOL, force="{{ params.force }}", inlets=[SEGMENTS])
    evaluate = EvaluateOperator(task_id="evaluate", pool=INDEX_POOL, generation=rebuild.output)
    publish = PublishOperator(task_id="publish", pool=INDEX_POOL, generation=rebuild.output, outlets=[INDEX])
    rebuild >> evaluate >> publish

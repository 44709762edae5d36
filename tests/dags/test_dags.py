"""The DAGs as Airflow parses them: wiring, retries, pools, and nothing heavy at parse time."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]

# Parsed in a process of its own: Airflow reads its configuration once, when it is first imported.
PARSE = """
import json, sys, time
before = set(sys.modules)
from airflow.dag_processing.dagbag import DagBag
began = time.monotonic()
bag = DagBag(sys.argv[1])
seconds = time.monotonic() - began
print("RESULT " + json.dumps({
    "errors": bag.import_errors,
    "seconds": seconds,
    "heavy": sorted({"cv2", "faiss", "pymongo", "confluent_kafka", "pipeline"} & set(sys.modules)),
    "dags": {name: {
        "tasks": {task.task_id: {
            "pool": task.pool, "retries": task.retries, "rule": str(task.trigger_rule),
            "upstream": sorted(task.upstream_task_ids), "mapped": task.get_needs_expansion(),
        } for task in dag.tasks},
        "active": dag.max_active_runs, "params": sorted(dag.params), "catchup": dag.catchup,
    } for name, dag in bag.dags.items()},
}))
"""


@pytest.fixture(scope="module")
def parsed(tmp_path_factory: pytest.TempPathFactory) -> dict:
    import json

    env = {
        **os.environ,
        "AIRFLOW_HOME": str(tmp_path_factory.mktemp("airflow")),
        "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
        "AIRFLOW__CORE__PLUGINS_FOLDER": str(ROOT / "plugins"),
        "PYTHONPATH": f"{ROOT}{os.pathsep}{ROOT / 'plugins'}",
    }
    done = subprocess.run(
        [sys.executable, "-c", PARSE, str(ROOT / "dags")], env=env, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr[-3000:]
    line = next(line for line in done.stdout.splitlines() if line.startswith("RESULT "))
    return json.loads(line.removeprefix("RESULT "))


def test_every_dag_parses_and_stays_light(parsed: dict) -> None:
    assert parsed["errors"] == {}
    assert set(parsed["dags"]) == {"ingest", "import_images", "rebuild_index", "sweep", "find_duplicates"}
    assert parsed["heavy"] == []


def test_steps_follow_each_other(parsed: dict) -> None:
    tasks = parsed["dags"]["ingest"]["tasks"]
    assert tasks["shard.collect"]["mapped"]
    assert tasks["shard.extract"]["upstream"] == ["drain", "shard.collect"]
    assert tasks["append"]["upstream"] == ["shard.extract"]
    assert "evaluate" in tasks["publish"]["upstream"]
    # One shard that fails for good holds up nothing, but the run must show it.
    assert tasks["append"]["rule"] == "TriggerRule.ALL_DONE"
    assert tasks["prune"]["upstream"] == ["publish"]
    assert tasks["all_shards_done"]["upstream"] == ["shard.extract"]


def test_near_duplicates_are_compared_in_shards_and_grouped_even_where_nothing_is_new(parsed: dict) -> None:
    tasks = parsed["dags"]["find_duplicates"]["tasks"]
    assert tasks["compare"]["mapped"]
    assert (tasks["compare"]["upstream"], tasks["compare"]["pool"]) == (["plan"], "cpu")
    assert (tasks["regroup"]["upstream"], tasks["regroup"]["rule"]) == (["compare"], "TriggerRule.NONE_FAILED")


def test_a_rebuild_is_built_in_shards(parsed: dict) -> None:
    tasks = parsed["dags"]["rebuild_index"]["tasks"]
    assert [name for name, task in tasks.items() if task["mapped"]] == ["build_shard"]
    assert tasks["merge"]["upstream"] == ["build_shard", "plan"]
    assert tasks["evaluate"]["upstream"] == ["merge"]
    assert tasks["publish"]["upstream"] == ["evaluate", "merge"]
    assert {name: task["pool"] for name, task in tasks.items() if task["pool"] != "index"} == {"build_shard": "cpu"}
    # It also runs where no rebuild was due, and never hides that one failed.
    assert tasks["prune"]["rule"] == "TriggerRule.NONE_FAILED"


def test_every_step_is_retried_and_memory_is_bounded_by_pools(parsed: dict) -> None:
    for dag in parsed["dags"].values():
        assert dag["catchup"] is False
        assert all(task["retries"] >= 3 for task in dag["tasks"].values())
    ingest = parsed["dags"]["ingest"]["tasks"]
    assert {ingest[name]["pool"] for name in ("shard.collect", "shard.extract")} == {"cpu"}
    assert {ingest[name]["pool"] for name in ("append", "evaluate", "publish")} == {"index"}
    assert parsed["dags"]["ingest"]["active"] == parsed["dags"]["rebuild_index"]["active"] == 1


def test_forms_ask_for_what_the_readme_says(parsed: dict) -> None:
    assert parsed["dags"]["import_images"]["params"] == ["label", "limit", "owner", "source"]
    assert parsed["dags"]["rebuild_index"]["params"] == ["force"]

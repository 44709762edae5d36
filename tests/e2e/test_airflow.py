"""Both ways between Sleeve and a real Airflow: the navigation, links of tasks, the runs and the starting of one."""

from typing import Any
from urllib.parse import quote

import httpx
import pytest
from pydantic import SecretStr

from bench.acceptance import await_that
from devstack.stack import Stack
from pipeline.airflow_runs import DAGS, AirflowRuns
from pipeline.context import Context


@pytest.fixture(scope="module")
def airflow(installed: Context, imported: dict[str, int]) -> httpx.Client:
    """Airflow's REST API, after its DAGs took in the covers."""
    url, settings = installed.settings.require("airflow_api_url"), installed.settings
    login = {"username": settings.airflow_username, "password": settings.require_secret("airflow_password")}
    token = httpx.post(f"{url}/auth/token", json=login, timeout=30).raise_for_status().json()["access_token"]
    return httpx.Client(base_url=f"{url}/api/v2", headers={"Authorization": f"Bearer {token}"}, timeout=30)


def get(airflow: httpx.Client, path: str, **parameters: Any) -> dict[str, Any]:
    found: dict[str, Any] = airflow.get(path, params=parameters).raise_for_status().json()
    return found


def test_sleeve_is_in_the_navigation_and_every_plugin_loads(airflow: httpx.Client, whole: Stack) -> None:
    assert get(airflow, "/plugins/importErrors")["import_errors"] == []
    plugins = {one["name"]: one for one in get(airflow, "/plugins")["plugins"]}
    hrefs = {one["name"]: one["href"] for one in plugins["sleeve"]["external_views"]}
    base = whole.env["SLEEVE_API_URL"]
    assert hrefs == {
        "Sleeve": f"{base}/ui/",
        "Annotate": f"{base}/ui/annotate",
        "Quarantine": f"{base}/ui/quarantine",
    }


def links(airflow: httpx.Client, dag: str, run: str, task: str, map_index: int = -1) -> dict[str, str | None]:
    path = f"/dags/{dag}/dagRuns/{quote(run, safe='')}/taskInstances/{task}/links"
    found: dict[str, str | None] = get(airflow, path, map_index=map_index)["extra_links"]
    return found


def test_tasks_lead_to_the_pages_that_show_what_they_did(
    airflow: httpx.Client, installed: Context, whole: Stack
) -> None:
    published = {"task_id": "publish", "state": "success"}
    instances = get(airflow, "/dags/ingest/dagRuns/~/taskInstances", **published)["task_instances"]
    assert instances
    run, base = instances[-1]["dag_run_id"], f"{whole.env['SLEEVE_API_URL']}/ui"
    both = {"Images": f"{base}/browse", "Quarantine": f"{base}/quarantine"}
    assert links(airflow, "ingest", run, "drain") == both
    assert links(airflow, "ingest", run, "shard.collect", 0) == both
    made = {task: links(airflow, "ingest", run, task)["Generation"] for task in ("append", "evaluate", "publish")}
    assert len(set(made.values())) == 1
    page, _, generation = str(made["publish"]).partition("#")
    assert page == f"{base}/generations"
    assert generation in installed.catalog.published().history


def test_an_import_leads_to_its_images(airflow: httpx.Client, installed: Context, whole: Stack, covers: Any) -> None:
    runs = AirflowRuns(installed.settings)
    run = runs.trigger("import_images", {"source": str(covers), "limit": 2})
    await_that(lambda: state_of(runs, run.id) in ("success", "failed"), "the import ends")
    found = links(airflow, "import_images", run.id, "import")
    assert found == {"Imported images": f"{whole.env['SLEEVE_API_URL']}/ui/browse?source={covers.name}"}
    assert installed.catalog.images.find_one({"source": covers.name})


def state_of(runs: AirflowRuns, run: str) -> str | None:
    return next((one.state for one in runs.latest(200).runs if one.id == run), None)


def test_sleeve_sees_the_runs_and_starts_one(airflow: httpx.Client, installed: Context) -> None:
    public = installed.settings.model_copy(update={"airflow_public_url": "https://example.org/airflow/"})
    runs = AirflowRuns(public)
    started = runs.trigger("rebuild_index", {"force": False})
    assert (started.dag, started.kind) == ("rebuild_index", "manual")
    assert started.address == f"https://example.org/airflow/dags/rebuild_index/runs/{quote(started.id, safe='')}"
    await_that(lambda: state_of(runs, started.id) == "success", "the run ends")
    answer = runs.latest(50)
    assert answer.away is None
    assert {"ingest", "rebuild_index"} <= {one.dag for one in answer.runs} <= set(DAGS)
    ended = [one for one in answer.runs if one.state == "success"]
    assert all(one.started_at and one.ended_at and one.started_at <= one.ended_at for one in ended)
    assert {one.dag for one in runs.latest(5, ["ingest"]).runs} == {"ingest"}


def test_a_token_that_has_expired_is_renewed(installed: Context, airflow: httpx.Client) -> None:
    runs = AirflowRuns(installed.settings)
    runs._token = "one.that.expired"
    assert runs.latest().runs
    assert runs._token != "one.that.expired"


def test_a_wrong_password_is_said_to_be_refused(installed: Context, airflow: httpx.Client) -> None:
    wrong = installed.settings.model_copy(update={"airflow_password": SecretStr("wrong")})
    answer = AirflowRuns(wrong).latest()
    assert answer.away
    assert "401" in answer.away

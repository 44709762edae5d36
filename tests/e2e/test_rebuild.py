"""A rebuild under a real scheduler, from the button of the Airflow UI to the generation that is served."""

import httpx

from bench.acceptance import await_that, find_deformed
from devstack.stack import Stack
from pipeline.context import Context
from pipeline.indexing import generations
from pipeline.settings import Settings


class Airflow:
    """Airflow's REST API, as its UI uses it."""

    def __init__(self, settings: Settings) -> None:
        self._url = settings.require("airflow_api_url")
        assert settings.airflow_password is not None
        login = {"username": settings.airflow_username, "password": settings.airflow_password.get_secret_value()}
        token = httpx.post(f"{self._url}/auth/token", json=login).raise_for_status().json()["access_token"]
        self._headers = {"Authorization": f"Bearer {token}"}

    def trigger(self, dag: str, params: dict[str, object]) -> str:
        body = {"logical_date": None, "conf": params}
        answer = httpx.post(f"{self._url}/api/v2/dags/{dag}/dagRuns", json=body, headers=self._headers)
        return str(answer.raise_for_status().json()["dag_run_id"])

    def state(self, dag: str, run: str) -> str:
        answer = httpx.get(f"{self._url}/api/v2/dags/{dag}/dagRuns/{run}", headers=self._headers)
        return str(answer.raise_for_status().json()["state"])


def test_a_rebuild_is_one_click(whole: Stack, installed: Context, imported: dict[str, int]) -> None:
    airflow = Airflow(installed.settings)
    found = find_deformed(installed, 20)
    run = airflow.trigger("rebuild_index", {"force": True})
    await_that(lambda: airflow.state("rebuild_index", run) in ("success", "failed"), "the run ends")
    assert airflow.state("rebuild_index", run) == "success"
    rebuilds = [own.load(own.uri(one)) for own in [generations(installed)] for one in own.stored_ids()]
    assert "asked for by a user" in {one.reason for one in rebuilds}
    assert find_deformed(installed, 20) == found >= 18
    # No rebuild is due now: nothing is built, and the run does not fail.
    again = airflow.trigger("rebuild_index", {"force": False})
    await_that(lambda: airflow.state("rebuild_index", again) in ("success", "failed"), "the run ends")
    assert airflow.state("rebuild_index", again) == "success"

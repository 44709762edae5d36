"""Airflow's runs, by its REST API: which there were lately, and starting one."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from urllib.parse import quote

import httpx

from pipeline.errors import MissingSetting, ServerAway
from pipeline.settings import Settings

DAGS = ("ingest", "import_images", "rebuild_index", "sweep", "find_duplicates")
# Pages wait for it.
TIMEOUT = httpx.Timeout(5.0, connect=2.0)
NOT_SIGNED_IN = (401, 403)


@dataclass(frozen=True)
class Run:
    """A run of a DAG."""

    dag: str
    id: str
    state: str
    """As Airflow says: queued, running, success or failed."""
    kind: str
    """Why it ran, as Airflow says: manual, scheduled, asset_triggered."""
    started_at: datetime | None
    ended_at: datetime | None
    address: str
    """Of its page in the Airflow UI."""


@dataclass(frozen=True)
class Runs:
    """Runs, the latest first; or none, and why Airflow did not tell."""

    runs: Sequence[Run]
    away: str | None = None


class AirflowRuns:
    """The runs of Sleeve's DAGs in the Airflow that AIRFLOW_API_URL names. Safe for any number of threads."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._client = httpx.Client(timeout=TIMEOUT)
        self._token: str | None = None

    def latest(self, limit: int = 20, dags: Sequence[str] = DAGS) -> Runs:
        """The latest runs of these DAGs. Never raises: that Airflow is away is an answer too."""
        # Those that wait to start have no start date yet.
        body = {"dag_ids": list(dags), "order_by": "-run_after", "page_limit": limit}
        try:
            with self._airflow() as url:
                found = self._ask(url, "/api/v2/dags/~/dagRuns/list", body)
                return Runs([self._run(one) for one in found["dag_runs"]])
        except (MissingSetting, ServerAway) as error:
            return Runs([], str(error))

    def trigger(self, dag: str, conf: dict[str, Any]) -> Run:
        """Start a run with these parameters. Raises ServerAway, MissingSetting."""
        with self._airflow() as url:
            return self._run(self._ask(url, f"/api/v2/dags/{dag}/dagRuns", {"logical_date": None, "conf": conf}))

    def close(self) -> None:
        self._client.close()

    @contextmanager
    def _airflow(self) -> Iterator[str]:
        """Where Airflow is; whatever goes wrong meanwhile, or is no answer of an Airflow, is a ServerAway."""
        url = self._settings.require("airflow_api_url").rstrip("/")
        try:
            yield url
        except (httpx.HTTPError, httpx.InvalidURL, ValueError, KeyError, TypeError) as error:
            [why, *_] = str(error).splitlines() or [type(error).__name__]
            raise ServerAway(f"Airflow at {url} gives no usable answer: {why}") from error

    def _ask(self, url: str, path: str, body: dict[str, Any]) -> dict[str, Any]:
        answer = self._post(url + path, body) if self._token else None
        if answer is None or answer.status_code in NOT_SIGNED_IN:
            # There is no token yet, or it has expired.
            self._token = self._sign_in(url)
            answer = self._post(url + path, body)
        found: dict[str, Any] = answer.raise_for_status().json()
        return found

    def _post(self, url: str, body: dict[str, Any]) -> httpx.Response:
        return self._client.post(url, json=body, headers={"Authorization": f"Bearer {self._token}"})

    def _sign_in(self, url: str) -> str:
        name, password = self._settings.require("airflow_username"), self._settings.require_secret("airflow_password")
        answer = self._client.post(f"{url}/auth/token", json={"username": name, "password": password})
        return str(answer.raise_for_status().json()["access_token"])

    def _run(self, told: dict[str, Any]) -> Run:
        base = self._settings.airflow_public_url or self._settings.require("airflow_api_url")
        dag, one = told["dag_id"], told["dag_run_id"]
        return Run(
            dag=dag,
            id=one,
            state=told["state"],
            kind=told["run_type"],
            started_at=_moment(told["start_date"]),
            ended_at=_moment(told["end_date"]),
            address=f"{base.rstrip('/')}/dags/{dag}/runs/{quote(one, safe='')}",
        )


def _moment(text: str | None) -> datetime | None:
    return datetime.fromisoformat(text) if text else None

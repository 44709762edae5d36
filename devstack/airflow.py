"""Airflow as four processes on SQLite: its settings, its database, and how each process shows that it lives."""

import json
import os
import subprocess
import sys
import threading
from collections.abc import Callable, Mapping
from datetime import datetime
from importlib.metadata import version
from pathlib import Path

import httpx

from devstack import processes
from devstack.errors import DevstackError
from devstack.provision import ROOT
from devstack.servers import HOST, Server, answers_http
from devstack.state import write_private

USERNAME = "admin"
CORES = os.cpu_count() or 1
POOLS = {
    "cpu": (CORES, "Tasks that keep a core busy: one slot for each core."),
    "index": (1, "Tasks that change the index: one at a time."),
}
# `airflow standalone` would run the same four, but leaves three of them behind when it is stopped.
_COMPONENTS = {
    "airflow-api-server": ["api-server"],
    # Their log servers would listen on every interface; the API server reads the log files themselves.
    "airflow-scheduler": ["scheduler", "--skip-serve-logs"],
    "airflow-dag-processor": ["dag-processor"],
    "airflow-triggerer": ["triggerer", "--skip-serve-logs"],
}
# The name that the health report gives to what each process keeps alive.
_REPORTED_AS = {
    "airflow-scheduler": "scheduler",
    "airflow-dag-processor": "dag_processor",
    "airflow-triggerer": "triggerer",
}


# Measured on 2 cores, with tasks that do nothing.
_TUNING = {
    # Each slot is a process of the scheduler's, idle at 10 MB; tasks that need a core wait in the pool "cpu" anyway.
    "AIRFLOW__CORE__PARALLELISM": "8",
    # A chain of 8 took 10 s with 1 s (the default), 3 to 7 s with 0.25 s, 3 to 4 s with 0.1 s; the idle scheduler
    # then used 1.4 %, 6 % and 12 % of a core.
    "AIRFLOW__SCHEDULER__SCHEDULER_IDLE_SLEEP_TIME": "0.25",
    # A changed file is read at the next refresh all the same; the default reads unchanged ones twice a minute.
    "AIRFLOW__DAG_PROCESSOR__MIN_FILE_PROCESS_INTERVAL": "600",
    # A listing of one folder costs nothing, and a new DAG file should not take the default's 5 minutes to appear.
    "AIRFLOW__DAG_PROCESSOR__REFRESH_INTERVAL": "30",
    # A task that was killed with its scheduler starts again after half a minute, not after the default's 5 minutes.
    "AIRFLOW__SCHEDULER__TASK_INSTANCE_HEARTBEAT_TIMEOUT": "30",
    "AIRFLOW__SCHEDULER__ORPHANED_TASKS_CHECK_INTERVAL": "20",
}


def settings(home: Path, port: int, secrets: Mapping[str, str]) -> dict[str, str]:
    """Returns Airflow's environment."""
    return {
        "AIRFLOW_HOME": str(home),
        "AIRFLOW__CORE__DAGS_FOLDER": str(ROOT / "dags"),
        "AIRFLOW__CORE__PLUGINS_FOLDER": str(ROOT / "plugins"),
        "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
        "AIRFLOW__CORE__DAGS_ARE_PAUSED_AT_CREATION": "False",
        "AIRFLOW__CORE__EXECUTOR": "LocalExecutor",
        "AIRFLOW__DATABASE__SQL_ALCHEMY_CONN": f"sqlite:///{home / 'airflow.db'}",
        "AIRFLOW__CORE__SIMPLE_AUTH_MANAGER_USERS": f"{USERNAME}:admin",
        "AIRFLOW__CORE__SIMPLE_AUTH_MANAGER_PASSWORDS_FILE": str(home / "passwords.json"),
        "AIRFLOW__API__HOST": HOST,
        "AIRFLOW__API__PORT": str(port),
        "AIRFLOW__API__BASE_URL": f"http://{HOST}:{port}",
        "AIRFLOW__API__WORKERS": "1",
        "AIRFLOW__API__SECRET_KEY": secrets["airflow_secret_key"],
        "AIRFLOW__API_AUTH__JWT_SECRET": secrets["airflow_jwt_secret"],
        "AIRFLOW__CORE__EXECUTION_API_SERVER_URL": f"http://{HOST}:{port}/execution/",
        "AIRFLOW__USAGE_DATA_COLLECTION__ENABLED": "False",
        **_TUNING,
    }


def servers(
    home: Path, port: int, secrets: Mapping[str, str], env: Mapping[str, str], record_of: Callable[[str], Path]
) -> list[Server]:
    """Returns Airflow's four processes; `record_of` gives the file that tells when one was started."""
    url = f"http://{HOST}:{port}"
    env = {**env, **settings(home, port, secrets)}
    migrating = threading.Lock()

    def prepare() -> None:
        with migrating:
            write_private(home / "passwords.json", json.dumps({USERNAME: secrets["airflow_password"]}))
            _migrate(home, env)

    def make(name: str, arguments: list[str]) -> Server:
        is_api = name not in _REPORTED_AS
        return Server(
            name=name,
            address=url if is_api else "",
            command=[sys.executable, "-m", "airflow", *arguments],
            env=env,
            prepare=prepare,
            ready=answers_http(f"{url}/api/v2/version") if is_api else _has_beaten(url, name, record_of(name)),
            # Tasks report to the API server, in pools that it makes: a task that starts before it fails its first try.
            needs=("airflow-api-server",) if name == "airflow-scheduler" else (),
            after_ready=(lambda: _create_pools(url, secrets["airflow_password"])) if is_api else (lambda: None),
        )

    return [make(name, arguments) for name, arguments in _COMPONENTS.items()]


def _migrate(home: Path, env: Mapping[str, str]) -> None:
    """Brings the database to this version of Airflow; 8 s even when there is nothing to do, so a stamp remembers it."""
    stamp = home / "migrated"
    if stamp.is_file() and stamp.read_text() == version("apache-airflow"):
        return
    command = [sys.executable, "-m", "airflow", "db", "migrate"]
    done = subprocess.run(command, env={**os.environ, **env}, capture_output=True, text=True, check=False)
    if done.returncode:
        raise DevstackError(f"`airflow db migrate` failed:\n{done.stdout[-2000:]}{done.stderr[-4000:]}")
    stamp.write_text(version("apache-airflow"))


class NotYetError(Exception):
    """Raised by a readiness check: the server has not answered so far."""


def _has_beaten(url: str, name: str, record: Path) -> Callable[[], None]:
    """Returns a check for a heartbeat of this very process: the last one of a killed predecessor looks healthy too."""
    component = _REPORTED_AS[name]

    def check() -> None:
        report = httpx.get(f"{url}/api/v2/monitor/health", timeout=5).raise_for_status().json()[component]
        beat, started = report[f"latest_{component}_heartbeat"], processes.read_record(record)
        if beat is None or started is None or datetime.fromisoformat(beat).timestamp() < started.created:
            raise NotYetError(f"no heartbeat of {name} yet")

    return check


def _create_pools(url: str, password: str) -> None:
    """Creates the pools by the REST API, which takes milliseconds; the command line would take 5 s to start."""
    credentials = {"username": USERNAME, "password": password}
    with httpx.Client(base_url=url, timeout=10) as client:
        token = client.post("/auth/token", json=credentials).raise_for_status().json()["access_token"]
        pools = [{"name": name, "slots": slots, "description": text} for name, (slots, text) in POOLS.items()]
        # Slots that somebody has changed in the UI stay as they are.
        action = {"action": "create", "entities": pools, "action_on_existence": "skip"}
        headers = {"Authorization": f"Bearer {token}"}
        client.patch("/api/v2/pools", json={"actions": [action]}, headers=headers).raise_for_status()

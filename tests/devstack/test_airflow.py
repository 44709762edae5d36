"""Airflow as the stack runs it: four processes, one login, and nothing left when it stops."""

import os
from pathlib import Path

import httpx
import pytest

from devstack import processes
from devstack.stack import Stack

ENVIRON = {"PATH": os.environ["PATH"], "HOME": os.environ.get("HOME", "")}
PROCESSES = ("airflow-api-server", "airflow-scheduler", "airflow-dag-processor", "airflow-triggerer")


@pytest.mark.timeout(300)
def test_airflow_starts_logs_in_heals_and_stops(tmp_path: Path) -> None:
    with Stack(tmp_path, ("airflow",), environ=ENVIRON) as stack:
        assert [line.state for line in stack.status()] == ["running"] * 4
        assert stack.start() == []
        login = {"username": stack.env["AIRFLOW_USERNAME"], "password": stack.env["AIRFLOW_PASSWORD"]}
        with httpx.Client(base_url=stack.env["AIRFLOW_API_URL"], timeout=20) as client:
            assert client.post("/auth/token", json=login | {"password": "wrong"}).status_code == 401
            token = client.post("/auth/token", json=login).json()["access_token"]
            pools = client.get("/api/v2/pools", headers={"Authorization": f"Bearer {token}"}).json()["pools"]
        slots = {pool["name"]: pool["slots"] for pool in pools}
        assert (slots["cpu"], slots["index"]) == (os.cpu_count(), 1)

        stack.kill("airflow-triggerer")
        assert stack.start() == ["airflow-triggerer"]
        records = [processes.read_record(tmp_path / "pids" / f"{name}.json") for name in PROCESSES]

    assert [processes.members(record) for record in records if record] == [[]] * 4

"""Airflow's runs where Airflow cannot be asked: a sentence, soon, and never an error of a client library.

What it says of a real Airflow is in tests/e2e/test_airflow.py.
"""

import socket
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import httpx
import pytest

from pipeline import airflow_runs
from pipeline.airflow_runs import AirflowRuns, Runs
from pipeline.errors import MissingSetting, ServerAway
from pipeline.settings import Settings


@pytest.fixture(autouse=True)
def alone(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """No settings of this machine, and little patience."""
    monkeypatch.setenv("SLEEVE_ENV_FILE", str(tmp_path / "none"))
    for name in ("AIRFLOW_API_URL", "AIRFLOW_USERNAME", "AIRFLOW_PASSWORD"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(airflow_runs, "TIMEOUT", httpx.Timeout(0.5))


@pytest.fixture
def silent() -> Iterator[str]:
    """A server that takes connections and says nothing."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        yield f"http://127.0.0.1:{listening.getsockname()[1]}"


class Answers(BaseHTTPRequestHandler):
    """The same to everything: what stands in the server's `status` and `body`."""

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["Content-Length"]))
        self.send_response(self.server.status)
        self.end_headers()
        self.wfile.write(self.server.body)

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def odd() -> Iterator[ThreadingHTTPServer]:
    with ThreadingHTTPServer(("127.0.0.1", 0), Answers) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield server
        server.shutdown()
        thread.join()


def runs_at(url: str) -> AirflowRuns:
    return AirflowRuns(Settings(airflow_api_url=url, airflow_username="admin", airflow_password="secret"))


def assert_away(runs: AirflowRuns, *said: str) -> None:
    answer = runs.latest()
    assert list(answer.runs) == []
    assert answer.away
    assert all(words in answer.away for words in said), answer.away
    with pytest.raises(ServerAway, match=said[0]):
        runs.trigger("rebuild_index", {"force": True})


def test_nobody_listens() -> None:
    assert_away(runs_at("http://127.0.0.1:1"), "http://127.0.0.1:1", "refused")


def test_somebody_listens_and_says_nothing(silent: str) -> None:
    began = time.monotonic()
    assert_away(runs_at(silent), silent, "timed out")
    assert time.monotonic() - began < 10


@pytest.mark.parametrize(
    ("status", "body"),
    [
        (500, b"oops"),
        (401, b'{"detail": "Invalid credentials"}'),
        (200, b"<html>a page of another program</html>"),
        (200, b"{}"),
        (200, b"[]"),
        (200, b'{"access_token": "signs in, and knows no more"}'),
    ],
)
def test_somebody_answers_what_no_airflow_would(odd: ThreadingHTTPServer, status: int, body: bytes) -> None:
    odd.status, odd.body = status, body
    url = f"http://127.0.0.1:{odd.server_port}"
    assert_away(runs_at(url), url)


def test_without_an_airflow_it_says_which_setting_names_one() -> None:
    runs = AirflowRuns(Settings())
    answer = runs.latest()
    assert isinstance(answer, Runs)
    assert answer.away
    assert "AIRFLOW_API_URL is not set" in answer.away
    with pytest.raises(MissingSetting):
        runs.trigger("rebuild_index", {})

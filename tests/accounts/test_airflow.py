"""Airflow's users, with managers of users that the end-to-end tests do not run, and with faults."""

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import jwt
import pytest

from pipeline.accounts.passwords import change_password, hash_password, sign_in
from pipeline.accounts.sessions import AIRFLOW_LIFETIME, open_session
from pipeline.accounts.users import User
from pipeline.errors import NotAllowed, NotSignedIn, ServerAway
from pipeline.settings import Settings
from pipeline.stores.catalog import Catalog
from pipeline.stores.users import Users

PASSWORD = "known to Airflow"


class FakeAirflow(ThreadingHTTPServer):
    """Answers as Airflow's two usual managers of users do; https://airflow.apache.org/docs has both."""

    claims: dict[str, Any]
    """What tokens say beside the subject."""
    subject: str | None = None
    roles: list[str] | None = None
    """What the list of users says; None where it may not be read."""
    fault: int | None = None

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Answer)
        self.claims = {}
        self.asked: list[str] = []


class Answer(BaseHTTPRequestHandler):
    server: FakeAirflow

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["content-length"])))
        self.server.asked.append(body["username"])
        if self.server.fault:
            self._send(self.server.fault, {"detail": "fault"})
        elif (self.path, body["password"]) != ("/auth/token", PASSWORD):
            self._send(401, {"detail": "Invalid credentials"})
        else:
            claims = {"sub": self.server.subject or body["username"], **self.server.claims}
            self._send(201, {"access_token": jwt.encode(claims, "x" * 64, "HS512")})

    def do_GET(self) -> None:
        signed = jwt.decode(self.headers["authorization"].removeprefix("Bearer "), "x" * 64, ["HS512"])
        assert signed["sub"]
        if self.server.roles is None:
            self._send(403, {"detail": "Forbidden"})
        else:
            assert self.path == "/auth/fab/v1/users/olga"
            self._send(200, {"username": "olga", "roles": [{"name": role} for role in self.server.roles]})

    def _send(self, status: int, body: dict[str, Any]) -> None:
        data = json.dumps(body).encode()
        self.send_response(status)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, format: str, *args: object) -> None:
        """Quiet."""


@pytest.fixture
def airflow() -> Iterator[FakeAirflow]:
    with FakeAirflow() as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield server
        server.shutdown()
        thread.join()


@pytest.fixture
def users(catalog: Catalog) -> Users:
    return Users(catalog.database)


@pytest.fixture
def beside(settings: Settings, airflow: FakeAirflow) -> Settings:
    """An installation that has this Airflow."""
    return settings.model_copy(update={"airflow_api_url": f"http://127.0.0.1:{airflow.server_port}"})


def comes_in(settings: Settings, users: Users, name: str = "olga", password: str = PASSWORD) -> User:
    return sign_in(settings, users, name, password)


@pytest.mark.parametrize(
    ("theirs", "ours"), [("VIEWER", "viewer"), ("user", "annotator"), ("op", "annotator"), ("admin", "admin")]
)
def test_the_simple_manager_tells_the_role(
    beside: Settings, users: Users, airflow: FakeAirflow, theirs: str, ours: str
) -> None:
    airflow.claims = {"role": theirs}
    user = comes_in(beside, users)
    assert (user.name, user.source, user.role) == ("olga", "airflow", ours)
    assert users.hashed(user.id) is None
    assert comes_in(beside, users).id == user.id


def test_a_role_follows_airflow_at_each_sign_in(beside: Settings, users: Users, airflow: FakeAirflow) -> None:
    for theirs, ours in (("viewer", "viewer"), ("admin", "admin"), (None, "viewer")):
        airflow.claims = {"role": theirs}
        assert comes_in(beside, users).role == ours


@pytest.mark.parametrize(
    ("theirs", "ours"),
    [(["Viewer", "Op"], "annotator"), (["Admin"], "admin"), (["Their own"], "viewer"), ([], "viewer")],
)
def test_fab_tells_the_roles_where_they_may_be_read(
    beside: Settings, users: Users, airflow: FakeAirflow, theirs: list[str], ours: str
) -> None:
    # Its tokens name users by their number.
    airflow.subject, airflow.roles = "17", theirs
    assert comes_in(beside, users).role == ours


def test_where_roles_may_not_be_read_an_admin_of_ours_gives_them(
    beside: Settings, users: Users, airflow: FakeAirflow
) -> None:
    airflow.subject = "17"
    user = comes_in(beside, users)
    assert user.role == "viewer"
    users.change(user.id, role="annotator")
    assert comes_in(beside, users).role == "annotator"


def test_wrong_passwords_and_unusable_names_are_refused(beside: Settings, users: Users, airflow: FakeAirflow) -> None:
    airflow.claims = {"role": "admin"}
    with pytest.raises(NotSignedIn, match="name or the password"):
        comes_in(beside, users, password="wrong")
    assert airflow.asked == ["olga"]
    with pytest.raises(NotSignedIn, match="name or the password"):
        comes_in(beside, users, name="../v2/dags")
    assert airflow.asked == ["olga"]
    assert users.find("olga") is None


@pytest.mark.parametrize("name", ["olga", "Anonymous"])
def test_an_airflow_that_lets_everybody_in_opens_nothing_here(
    beside: Settings, users: Users, airflow: FakeAirflow, name: str
) -> None:
    airflow.subject, airflow.claims = "Anonymous", {"role": "ADMIN"}
    with pytest.raises(NotSignedIn):
        comes_in(beside, users, name=name)


def test_passwords_of_our_own_users_never_leave(beside: Settings, users: Users, airflow: FakeAirflow) -> None:
    airflow.claims = {"role": "admin"}
    users.add("olga", hash_password("known to Sleeve"), "viewer")
    with pytest.raises(NotSignedIn):
        comes_in(beside, users, name="OLGA")
    assert comes_in(beside, users, password="known to Sleeve").role == "viewer"
    assert airflow.asked == []


def test_one_account_is_one_airflow_user(beside: Settings, users: Users, airflow: FakeAirflow) -> None:
    airflow.claims = {"role": "viewer"}
    comes_in(beside, users, name="Olga")
    assert comes_in(beside, users, name="olga").name == "Olga"
    assert airflow.asked == ["Olga", "Olga"]


def test_a_disabled_user_stays_out(beside: Settings, users: Users, airflow: FakeAirflow) -> None:
    airflow.claims = {"role": "admin"}
    users.change(comes_in(beside, users).id, disabled=True)
    with pytest.raises(NotSignedIn, match="disabled"):
        comes_in(beside, users)


def test_they_sign_in_again_each_day_and_change_passwords_there(
    beside: Settings, users: Users, airflow: FakeAirflow, catalog: Catalog
) -> None:
    airflow.claims = {"role": "viewer"}
    user = comes_in(beside, users)
    open_session(users, user)
    session = catalog.database["sessions"].find_one()
    assert session
    assert session["expires_at"] - session["opened_at"] <= AIRFLOW_LIFETIME * 1.001
    with pytest.raises(NotAllowed, match="change it there"):
        change_password(users, user, PASSWORD, "another password")


@pytest.mark.parametrize("fault", [500, 302, None])
def test_an_airflow_that_is_away_is_named(
    beside: Settings, users: Users, airflow: FakeAirflow, fault: int | None
) -> None:
    airflow.fault = fault
    if fault is None:
        beside = beside.model_copy(update={"airflow_api_url": "http://127.0.0.1:1"})
    with pytest.raises(ServerAway, match=r"Airflow.*Try again"):
        comes_in(beside, users)
    # Our own users come in all the same.
    users.add("ann", hash_password("known to Sleeve"), "viewer")
    assert sign_in(beside, users, "ann", "known to Sleeve").name == "ann"


def test_without_airflow_unknown_names_are_wrong(settings: Settings, users: Users) -> None:
    with pytest.raises(NotSignedIn, match="name or the password"):
        comes_in(settings.model_copy(update={"airflow_api_url": None}), users)

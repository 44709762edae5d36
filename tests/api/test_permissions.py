"""Who may do what: every route of the API against every kind of credentials, good and bad."""

import base64
import json
import re
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID, uuid4

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import rsa
from fastapi.testclient import TestClient

from pipeline.accounts.sessions import Session, access_token, open_session, resume
from pipeline.accounts.users import ROLES, Role
from pipeline.api.access import COOKIE, READING
from pipeline.context import Context

# The least that one has to be: open to everybody, or a role. A route that is not here fails the test.
WHO: dict[str, str] = {
    "GET /healthz": "open",
    "GET /readyz": "open",
    # Accounts
    "POST /signup": "open",
    "POST /login": "open",
    "POST /refresh": "open",
    "POST /session": "open",
    "DELETE /session": "open",
    "POST /logout": "viewer",
    "GET /me": "viewer",
    "POST /me/password": "viewer",
    "GET /users": "admin",
    "PATCH /users/{name}": "admin",
    "DELETE /users/{name}/sessions": "admin",
    # Images. Whose they are is asked as well; that is tested where the routes are.
    "GET /image/all": "viewer",
    "GET /image/{id}": "viewer",
    "GET /image/{id}/tiles": "viewer",
    "GET /image/download/{id}": "viewer",
    "GET /fetch": "viewer",
    "GET /quarantine": "annotator",
    "POST /image/upload": "annotator",
    "POST /single_upload": "annotator",
    "POST /bulk_upload": "annotator",
    "PUT /image/{id}": "annotator",
    "DELETE /image/{id}": "annotator",
    "POST /quarantine/{id}/retry": "annotator",
    # Labels
    "GET /annotate/next": "annotator",
    "PUT /image/{id}/labels": "annotator",
    "POST /add_label": "annotator",
    "POST /image/{id}/undo": "annotator",
    "POST /image/{id}/skip": "annotator",
    "POST /image/{id}/review": "annotator",
    "GET /image/{id}/suggestions": "viewer",
    "GET /image/{id}/history": "viewer",
    "GET /agreement": "annotator",
    "PUT /image/{id}/gold": "admin",
    "DELETE /image/{id}/gold": "admin",
    # Jobs
    "POST /export": "annotator",
    "POST /import/annotations": "annotator",
    "GET /jobs": "annotator",
    "GET /jobs/{id}": "annotator",
    "GET /jobs/{id}/result": "annotator",
    "GET /annotate/counts": "annotator",
    # The index and the service
    "GET /generations": "viewer",
    "POST /rollback": "admin",
    "GET /stats": "viewer",
    "GET /metrics": "admin",
    # Search
    "POST /search": "viewer",
    "GET /duplicates": "viewer",
}
# Where a cookie is taken from our own pages only, although it is not asked whose it is.
FROM_OUR_PAGES = {"POST /session", "DELETE /session"}
METHODS = {"get", "put", "post", "patch", "delete"}

Headers = dict[str, str]
Credentials = Callable[[Context, Session, str], Headers]


def routes(client: TestClient) -> set[str]:
    paths = client.get("/openapi.json").json()["paths"]
    return {f"{method.upper()} {path}" for path, methods in paths.items() for method in methods.keys() & METHODS}


def ask(client: TestClient, route: str, headers: Headers) -> Any:
    """Without a body and with ids of nothing: whoever may go on is told so, by 404 or 422."""
    method, path = route.split()
    path = re.sub(r"{(\w*id|one|image|job)}", str(uuid4()), path)
    path = re.sub(r"{\w+}", "nothing", path)
    return client.request(method, path, headers=headers)


def session_of(context: Context, role: Role) -> tuple[Session, str]:
    """A session of a new user, and its secret."""
    held = open_session(context.users, context.users.add(f"{role}-{uuid4().hex[:8]}", None, role))
    return resume(context.users, held), held


def bearer(token: str) -> Headers:
    return {"Authorization": f"Bearer {token}"}


def cookie(held: str) -> Headers:
    """As one of our own pages sends it."""
    return {"Cookie": f"{COOKIE}={held}", "Origin": "http://testserver"}


def forged(context: Context, session: Session, key: Any = None, algorithm: str = "HS256", **claims: Any) -> Headers:
    """A token that is good but for what is given."""
    now = datetime.now(UTC)
    good = {"iss": "sleeve", "aud": "sleeve-api", "sub": session.user.id.hex, "sid": session.id.hex}
    times = {"iat": now, "exp": now + timedelta(minutes=5)}
    key = context.settings.require_secret("jwt_secret") if key is None else key
    return bearer(jwt.encode({**good, **times, **claims}, key, algorithm))


def unsigned(context: Context, session: Session, held: str) -> Headers:
    """What a library makes of `alg: none`, with the claims of a good token."""
    claims = access_token(context.settings, session).split(".")[1]
    header = base64.urlsafe_b64encode(json.dumps({"alg": "none", "typ": "JWT"}).encode()).rstrip(b"=").decode()
    return bearer(f"{header}.{claims}.")


PAIR = rsa.generate_private_key(public_exponent=65537, key_size=2048)


def of_a_key_pair(context: Context, session: Session, held: str) -> Headers:
    return forged(context, session, PAIR, "RS256")


def logged_out(context: Context, session: Session, held: str) -> Headers:
    context.users.close_session(session.id)
    return bearer(access_token(context.settings, session))


def disabled(context: Context, session: Session, held: str) -> Headers:
    context.users.change(session.user.id, disabled=True)
    return bearer(access_token(context.settings, session))


def session_of_another(context: Context, session: Session, held: str) -> Headers:
    other, _ = session_of(context, "viewer")
    return forged(context, session, sid=other.id.hex)


def stale_cookie(context: Context, session: Session, held: str) -> Headers:
    context.users.close_session(session.id)
    return cookie(held)


BAD: dict[str, Credentials] = {
    "nobody": lambda context, session, held: {},
    "expired": lambda context, session, held: forged(
        context, session, exp=datetime.now(UTC) - timedelta(seconds=1), iat=datetime.now(UTC) - timedelta(hours=1)
    ),
    "revoked": logged_out,
    "disabled user": disabled,
    "wrong audience": lambda context, session, held: forged(context, session, aud="airflow"),
    "wrong issuer": lambda context, session, held: forged(context, session, iss="airflow"),
    "wrong signature": lambda context, session, held: forged(context, session, "x" * 40),
    "wrong algorithm, right key": lambda context, session, held: forged(context, session, algorithm="HS512"),
    "no algorithm": unsigned,
    "a key pair of one's own": of_a_key_pair,
    "without expiry": lambda context, session, held: forged(context, session, exp=None),
    "session of another": session_of_another,
    "session that never was": lambda context, session, held: forged(context, session, sid=uuid4().hex),
    "session that is no id": lambda context, session, held: forged(context, session, sid="1"),
    "refresh token as access token": lambda context, session, held: bearer(held),
    "password instead of a token": lambda context, session, held: {"Authorization": "Basic YWRhOmFkYQ=="},
    "cookie of an ended session": stale_cookie,
    "cookie that is none of ours": lambda context, session, held: cookie(f"{UUID(int=1).hex}.x"),
    "bad bearer beside a good cookie": lambda context, session, held: bearer("x") | cookie(held),
}


def test_every_route_says_who_may(nobody: TestClient) -> None:
    assert routes(nobody) == WHO.keys()


@pytest.mark.parametrize("role", ROLES)
def test_a_role_may_do_what_it_may_and_no_more(nobody: TestClient, context: Context, role: Role) -> None:
    wrong = {}
    for route, least in WHO.items():
        for kind in {"cookie"} if route in FROM_OUR_PAGES else {"cookie", "token"}:
            # A new session for each: one of the routes ends it.
            session, held = session_of(context, role)
            token = bearer(access_token(context.settings, session))
            answer = ask(nobody, route, token if kind == "token" else cookie(held))
            may = least == "open" or ROLES.index(role) >= ROLES.index(least)
            if (answer.status_code in (401, 403)) is may or answer.status_code >= 500:
                wrong[route, kind] = answer.status_code, answer.text
    assert wrong == {}


def test_bad_credentials_open_nothing_that_is_closed(nobody: TestClient, context: Context) -> None:
    wrong = {}
    for kind, made in BAD.items():
        for route in (route for route, least in WHO.items() if least != "open"):
            # Of an admin, so that nothing but the credentials can be what is refused.
            session, held = session_of(context, "admin")
            answer = ask(nobody, route, made(context, session, held))
            if (answer.status_code, answer.headers.get("www-authenticate")) != (401, "Bearer"):
                wrong[kind, route] = answer.status_code, answer.text
    assert wrong == {}


ELSEWHERE: list[Headers] = [
    {"Origin": "https://evil.example"},
    {"Origin": "null"},
    {"Origin": "http://testserver.evil.example"},
    {"Origin": "http://testserver", "Sec-Fetch-Site": "cross-site"},
    {"Sec-Fetch-Site": "same-site"},
    {},
]


def test_a_cookie_changes_nothing_from_elsewhere(nobody: TestClient, context: Context) -> None:
    wrong = []
    closed = {route for route, least in WHO.items() if least != "open"} | FROM_OUR_PAGES
    changing = [route for route in closed if route.split()[0] not in READING]
    for sent in ELSEWHERE:
        for route in changing:
            _, held = session_of(context, "admin")
            answer = ask(nobody, route, {"Cookie": f"{COOKIE}={held}", **sent})
            if answer.status_code != 403:
                wrong.append((sent, route, answer.status_code, answer.text))
    assert wrong == []
    assert len(changing) > 5


def test_a_refusal_says_what_is_needed(as_viewer: TestClient, nobody: TestClient) -> None:
    refused = as_viewer.get("/users")
    assert refused.headers["content-type"] == "application/problem+json"
    assert refused.json()["detail"] == "This needs the role admin; vera is viewer. An admin can change that."
    assert "POST /login" in nobody.get("/users").json()["detail"]


def test_every_route_documents_its_refusals(nobody: TestClient) -> None:
    paths = nobody.get("/openapi.json").json()["paths"]
    undocumented = []
    for route, least in WHO.items():
        method, path = route.split()
        wanted = {"open": set(), "viewer": {"401"}}.get(least, {"401", "403"})
        if method not in READING and least != "open":
            wanted = wanted | {"403"}
        if not wanted <= paths[path][method.lower()]["responses"].keys():
            undocumented.append(route)
    assert undocumented == []

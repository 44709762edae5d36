"""The API and its OpenAPI document: whatever anybody sends is answered in a way that the document says."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import count, cycle
from typing import Any
from uuid import UUID

import pytest
import schemathesis
from fastapi.testclient import TestClient
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi import checks
from starlette.types import Receive, Scope, Send

from pipeline.accounts.passwords import hash_password
from pipeline.accounts.sessions import access_token, open_session, resume
from pipeline.accounts.tries import Tries
from pipeline.accounts.users import ROLES, User
from pipeline.context import Context
from pipeline.samples import cover_jpeg
from tests.api.conftest import Publish
from tests.api.test_permissions import METHODS, WHO

# All that judge an answer. Of those that judge whether a request should have been taken, none can: no schema says what
# a picture is, or a date, or the `next` of a page; 0 is taken for false; and to DELETE, /image/all is /image/{id}.
CHECKS = [
    not_a_server_error,
    checks.status_code_conformance,
    checks.content_type_conformance,
    checks.response_headers_conformance,
    checks.response_schema_conformance,
]


@dataclass
class World:
    """A collection in which there is something of everything, and who asks for it."""

    context: Context
    admin: User
    images: list[UUID]
    expendable: UUID
    job: UUID
    others: Iterator[User | None]
    number: Iterator[int] = field(default_factory=count)

    def credentials(self, user: User | None) -> dict[str, str]:
        """Of a session of its own, since some requests end theirs; from where our own pages are."""
        origin = {"Sec-Fetch-Site": "same-origin"}
        if user is None:
            return origin
        session = resume(self.context.users, open_session(self.context.users, user))
        return {**origin, "Authorization": f"Bearer {access_token(self.context.settings, session)}"}

    def aim(self, case: schemathesis.Case) -> None:
        """Let a request name something that is there and, every second time, its revision, or hold a picture."""
        number, path = next(self.number), case.operation.path
        there = self.images[number % len(self.images)]
        if path.startswith("/jobs"):
            there = self.job
        elif case.operation.label == "DELETE /image/{id}":
            there = self.expendable
        for given in (case.path_parameters, case.query, case.body):
            if isinstance(given, dict):
                given.update({name: str(there) for name in ("id", "image_id") if _is_uuid(given.get(name))})
        if path.startswith("/users/"):
            case.path_parameters["name"] = "carl"
        # To search for a picture takes longest, above all for one that is not there.
        if not isinstance(case.body, dict) or number % (12 if path == "/search" else 2):
            return
        if isinstance(case.body.get("revision"), int):
            case.body["revision"] = self.context.catalog.find([there])[there]["revision"]
        if "file" in case.body:
            case.body["file"] = cover_jpeg(1)
            # Nothing else that a search may be refused for, or that hides what it finds.
            case.query = {name: case.query[name] for name in case.query if name in ("top_n", "detail")}


def _is_uuid(given: Any) -> bool:
    try:
        return isinstance(given, str) and UUID(given) is not None
    except ValueError:
        return False


@pytest.fixture
def world(client: TestClient, context: Context, publish: Publish, monkeypatch: pytest.MonkeyPatch) -> World:
    users = context.users
    viewer, annotator, admin = (users.add(f"one-{role}", None, role) for role in ROLES)
    users.add("carl", None, "annotator")
    # As the document's example of how to sign in has it.
    users.add("ann", hash_password("four words and a comma, say"), "viewer")
    images = publish([cover_jpeg(number) for number in range(3)])
    context.catalog.images.update_many({}, {"$set": {"owner": annotator.name}})
    job = UUID(client.post("/export", json={"format": "coco"}).json()["id"])
    # So many wrong passwords from one address would be refused unread.
    monkeypatch.setattr(Tries, "_refuse_if_spent", lambda *_: None)
    return World(context, admin, images[1:], images[0], job, cycle([None, viewer, annotator]))


@pytest.fixture
def api(request: pytest.FixtureRequest, client: TestClient) -> schemathesis.BaseSchema:
    async def running(scope: Scope, receive: Receive, send: Send) -> None:
        # It runs already; Schemathesis would start it once more.
        assert scope["type"] == "http"
        await client.app(scope, receive, send)

    # Schemathesis 4.32 asks for what pytest 9.2 calls otherwise.
    request.node._nodeid = request.node.nodeid
    config = schemathesis.Config(seed=1)
    config.projects.default.generation.update(max_examples=2, deterministic=True, no_shrink=True)
    config.projects.default.request_timeout = 60
    config.projects.default.phases.coverage.unexpected_methods = {"PATCH"}
    return schemathesis.openapi.from_asgi("/openapi.json", running, config=config)


schema = schemathesis.pytest.from_fixture("api")


@schema.parametrize()
def test_whatever_is_sent_is_answered_as_documented(case: schemathesis.Case, world: World) -> None:
    world.aim(case)
    # By who may do everything, and by the others in turn.
    for user in (world.admin, next(world.others)):
        case.call_and_validate(headers=world.credentials(user), checks=CHECKS)


def operations(client: TestClient) -> dict[str, dict[str, Any]]:
    paths = client.get("/openapi.json").json()["paths"]
    return {f"{method.upper()} {path}": one for path, of in paths.items() for method, one in of.items()}


def test_every_error_is_documented_as_a_problem(nobody: TestClient) -> None:
    wrong = {
        (route, status): sorted(answer.get("content", {}))
        for route, operation in operations(nobody).items()
        for status, answer in operation["responses"].items()
        if status >= "4" and list(answer.get("content", {})) != ["application/problem+json"]
    }
    assert wrong == {}


def test_every_route_that_needs_a_role_says_how_to_show_it(nobody: TestClient) -> None:
    closed = {route for route, operation in operations(nobody).items() if operation.get("security")}
    # To end a session of the pages, the cookie that is one is looked at.
    assert closed - {"DELETE /session"} == {route for route, least in WHO.items() if least != "open"}
    assert {route.split()[0].lower() for route in closed} <= METHODS


def examples(spec: dict[str, Any], schema: dict[str, Any]) -> bool:
    """Whether a schema has an example, or each of the properties that must be given has."""
    if "$ref" in schema:
        schema = spec["components"]["schemas"][schema["$ref"].rsplit("/")[-1]]
    plain = "enum" in schema or schema.get("type") in ("boolean", "integer", "number")
    binary = "contentMediaType" in schema or (schema.get("items") or {}).get("contentMediaType") is not None
    if plain or binary or "examples" in schema or "default" in schema:
        return True
    properties = schema.get("properties", {})
    return bool(properties) and all(examples(spec, properties[name]) for name in schema.get("required", []))


def test_every_body_has_an_example(nobody: TestClient) -> None:
    spec = nobody.get("/openapi.json").json()
    without = [
        (route, kind)
        for route, operation in operations(nobody).items()
        for kind, body in operation.get("requestBody", {}).get("content", {}).items()
        if not (examples(spec, body["schema"]) or "example" in body or "examples" in body)
    ]
    assert without == []

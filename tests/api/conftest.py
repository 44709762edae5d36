"""A running API, people who use it, and covers in its collection."""

from collections.abc import Callable, Iterator, Sequence
from uuid import UUID

import pytest
from fastapi import FastAPI
from fastapi.testclient import TestClient

from pipeline.accounts.sessions import access_token, open_session, resume
from pipeline.accounts.users import Role
from pipeline.api.app import create_app
from pipeline.context import Context
from pipeline.samples import cover_jpeg
from tests.steps import index_all


@pytest.fixture
def nobody(context: Context) -> Iterator[TestClient]:
    """The running API, asked without credentials."""
    with TestClient(create_app(context.settings)) as client:
        yield client


def signed_in(app: FastAPI, name: str, role: Role) -> TestClient:
    """The API as one user sees it. The account is made; it has no password, which would take time to hash."""
    context: Context = app.state.context
    session = resume(context.users, open_session(context.users, context.users.add(name, None, role)))
    return TestClient(app, headers={"Authorization": f"Bearer {access_token(context.settings, session)}"})


@pytest.fixture
def as_viewer(nobody: TestClient) -> TestClient:
    return signed_in(nobody.app, "vera", "viewer")


@pytest.fixture
def as_annotator(nobody: TestClient) -> TestClient:
    return signed_in(nobody.app, "ann", "annotator")


@pytest.fixture
def as_admin(nobody: TestClient) -> TestClient:
    return signed_in(nobody.app, "ada", "admin")


@pytest.fixture
def client(as_admin: TestClient) -> TestClient:
    """For tests that are not about who may do what."""
    return as_admin


Publish = Callable[[Sequence[bytes]], list[UUID]]


@pytest.fixture
def publish(client: TestClient, context: Context) -> Publish:
    """Upload pictures and make them searchable; returns their ids."""

    def done(pictures: Sequence[bytes]) -> list[UUID]:
        ids = []
        for number, picture in enumerate(pictures):
            files = {"file": (f"cover_{number}.jpg", picture)}
            answer = client.post("/single_upload", files=files, data={"label": "jazz"})
            assert answer.status_code == 201, answer.text
            ids.append(UUID(answer.json()["id"]))
        index_all(context, "run")
        client.app.state.reader.refresh()
        return ids

    return done


@pytest.fixture
def covers(publish: Publish) -> list[UUID]:
    """Covers 0 to 6, searchable."""
    return publish([cover_jpeg(number) for number in range(7)])

"""The Python client against the real API, over a socket."""

import socket
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import get_type_hints
from uuid import UUID
from zipfile import ZipFile

import pytest
import uvicorn
from fastapi import FastAPI

from pipeline import client as client_module
from pipeline.accounts.passwords import change_password
from pipeline.api.app import create_app
from pipeline.client import Account, Bulk, Client, Image, Job, Match, Refused
from pipeline.context import Context
from pipeline.errors import MissingSetting
from pipeline.samples import cover, cover_jpeg, snapshot_jpeg
from tests.steps import index_all


@pytest.fixture
def app(context: Context) -> FastAPI:
    return create_app(context.settings)


@pytest.fixture
def sleeve(app: FastAPI, context: Context) -> Iterator[Client]:
    """Signed in as the first admin."""
    server = uvicorn.Server(uvicorn.Config(app, log_level="warning"))
    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=server.run, args=([listener],))
        thread.start()
        url = f"http://127.0.0.1:{listener.getsockname()[1]}"
        with Client.of(context.settings.model_copy(update={"sleeve_api_url": url})) as client:
            yield client
        server.should_exit = True
        thread.join()


def test_the_way_of_an_image(sleeve: Client, app: FastAPI, context: Context, tmp_path: Path) -> None:
    folder = tmp_path / "covers"
    folder.mkdir()
    files = [folder / f"cover_{number}.jpg" for number in range(1, 5)]
    for number, file in enumerate(files, start=1):
        file.write_bytes(cover_jpeg(number))
    broken = folder / "broken.jpg"
    broken.write_bytes(b"no picture")
    one = sleeve.upload(files[0], label="jazz")
    assert (one["original_filename"], one["labels"], one["owner"]) == ("cover_1.jpg", ["jazz"], sleeve.me()["name"])
    bulk = sleeve.bulk_upload([*files[1:], broken])
    assert [taken["name"] for taken in bulk["accepted"]] == ["cover_2.jpg", "cover_3.jpg", "cover_4.jpg"]
    assert [refused["name"] for refused in bulk["refused"]] == ["broken.jpg"]
    index_all(context, "run")
    app.state.reader.refresh()

    assert next(iter(sleeve.search(snapshot_jpeg(cover(1), seed=1)))) == UUID(one["id"])
    [(best, match), *_] = sleeve.search_in_detail(files[2], top_n=1).items()
    assert (str(best), match["original_filename"]) == (bulk["accepted"][1]["id"], "cover_3.jpg")
    assert sleeve.search(image_id=one["id"]) == {}

    sleeve.add_label(bulk["accepted"][0]["id"], "soul")
    assert sleeve.labels() == {"jazz": 1, "soul": 1}
    assert [image["id"] for image in sleeve.images(label="soul")] == [bulk["accepted"][0]["id"]]
    assert {image["id"] for image in sleeve.images(limit=1)} == {
        one["id"],
        *(taken["id"] for taken in bulk["accepted"]),
    }

    export = tmp_path / "labels.zip"
    assert sleeve.export("csv", export, label="soul")["result"] == {"images": 1}
    with ZipFile(export) as archive:
        [table] = archive.namelist()
        assert bulk["accepted"][0]["id"] in archive.read(table).decode()
    imported = sleeve.import_annotations(export)
    assert (imported["kind"], imported["state"], imported["error"]) == ("import", "done", None)

    assert sleeve.change_image(one["id"], original_filename="first.jpg")["original_filename"] == "first.jpg"
    assert sleeve.download(one["id"]) == files[0].read_bytes()
    assert sleeve.download(one["id"], "thumbnail")[8:12] == b"WEBP"
    sleeve.delete_image(one["id"])
    with pytest.raises(Refused, match="no image") as refused:
        sleeve.image(one["id"])
    assert refused.value.status == 404
    assert refused.value.problem["request_id"]


def test_it_stays_signed_in(sleeve: Client, context: Context, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    picture = tmp_path / "cover.jpg"
    picture.write_bytes(cover_jpeg(1))
    user = context.users.find(sleeve.me()["name"])
    assert user
    sessions = context.catalog.database["sessions"]
    # An access token near its end is renewed by the refresh token: still the same session.
    with monkeypatch.context() as late:
        late.setattr(client_module, "EARLY", 3600)
        sleeve.sign_out()
        for _ in range(3):
            sleeve.me()
    assert sessions.count_documents({}) == 1
    # A session that an admin ended is begun again, and the file is sent again, from its beginning.
    context.users.close_sessions(user.id)
    assert sleeve.upload(picture)["file_size"] == picture.stat().st_size
    sleeve.sign_out()
    assert sessions.count_documents({}) == 0
    sleeve.me()
    # Nothing helps against a new password.
    old = context.settings.require_secret("sleeve_password")
    change_password(context.users, user, old, "another password")
    context.users.close_sessions(user.id)
    with pytest.raises(Refused, match="wrong") as refused:
        sleeve.me()
    assert refused.value.status == 401


def test_threads_share_a_session(sleeve: Client, context: Context) -> None:
    names: list[str] = []
    threads = [threading.Thread(target=lambda: names.append(sleeve.me()["name"])) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert names == [context.settings.sleeve_username] * 8
    assert context.catalog.database["sessions"].count_documents({}) == 1


def test_its_types_are_those_of_the_api(app: FastAPI) -> None:
    schemas = app.openapi()["components"]["schemas"]
    same = {"Account": Account, "ImageInfo": Image, "Found": Match, "Bulk": Bulk, "Job": Job}
    for name, typed in same.items():
        assert schemas[name]["properties"].keys() == get_type_hints(typed).keys(), name


def test_what_it_needs_is_named(context: Context) -> None:
    with pytest.raises(MissingSetting, match="SLEEVE_API_URL"):
        Client.of(context.settings)

"""Images over REST: what comes in, who sees it, who may change it, and what browsers are told about it."""

import io
import resource
import socket
import struct
import tarfile
import threading
import time
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import httpx
import pytest
import uvicorn
from fastapi.testclient import TestClient
from PIL import Image

from pipeline.api.app import create_app
from pipeline.api.images import attachment
from pipeline.context import Context
from pipeline.events import ImageEvent, image_id
from pipeline.ingest import accept
from pipeline.samples import cover_jpeg
from pipeline.sources import Batch
from tests.steps import index_all

from .conftest import signed_in

SCRIPT = '"><script>alert(1)</script>'


@pytest.fixture
def as_bob(nobody: TestClient) -> TestClient:
    return signed_in(nobody.app, "bob", "annotator")


def upload(client: TestClient, number: int = 1, name: str = "cover.jpg", **form: Any) -> dict[str, Any]:
    answer = client.post("/image/upload", files={"file": (name, cover_jpeg(number))}, data=form)
    assert answer.status_code == 201, answer.text
    return answer.json()


def tiny(number: int) -> bytes:
    """A small picture, different for each number."""
    made = io.BytesIO()
    Image.new("RGB", (8, 8), (number % 256, number // 256 % 256, 7)).save(made, "PNG")
    return made.getvalue()


def zipped(**entries: bytes) -> bytes:
    made = io.BytesIO()
    with zipfile.ZipFile(made, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in entries.items():
            archive.writestr(name, data)
    return made.getvalue()


def tarred(mode: str = "w", **entries: bytes) -> bytes:
    made = io.BytesIO()
    with tarfile.open(fileobj=made, mode=mode) as archive:
        for name, data in entries.items():
            entry = tarfile.TarInfo(name)
            entry.size = len(data)
            archive.addfile(entry, io.BytesIO(data))
    return made.getvalue()


def bulk(client: TestClient, *files: tuple[str, bytes], **form: Any) -> dict[str, Any]:
    answer = client.post("/bulk_upload", files=[("files", file) for file in files], data=form)
    assert answer.status_code == 200, answer.text
    return answer.json()


# One image


def test_an_upload_is_described_at_once(as_annotator: TestClient) -> None:
    found = upload(as_annotator, name="my cover.jpg", label="jazz")
    width, height = Image.open(io.BytesIO(cover_jpeg(1))).size
    assert found | {"id": "", "upload_date": "", "last_modified": "", "links": {}} == {
        "id": "",
        "original_filename": "my cover.jpg",
        "width": width,
        "height": height,
        "file_size": len(cover_jpeg(1)),
        "file_type": "image/jpeg",
        "upload_date": "",
        "last_modified": "",
        "status": "pending",
        "reason": None,
        "labels": ["jazz"],
        "stage": "labelled",
        "revision": 0,
        "owner": "ann",
        "private": False,
        "group": None,
        "links": {},
    }
    assert as_annotator.get(f"/image/{found['id']}").json() == found
    for kind, link in found["links"].items():
        assert as_annotator.get(link).status_code == 200, kind


def test_single_upload_answers_as_it_always_did(as_annotator: TestClient) -> None:
    answer = as_annotator.post("/single_upload", files={"file": ("a.jpg", cover_jpeg(1))}, data={"label": "jazz"})
    assert answer.status_code == 201
    assert answer.json().keys() == {"id"}
    assert as_annotator.get(f"/image/{answer.json()['id']}").json()["labels"] == ["jazz"]


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (b"", "empty file"),
        (b"<html><script>alert(1)</script>", "not an image (JPEG, PNG or WebP expected)"),
        (zipped(a=b"x"), "a zip archive is not accepted; send JPEG, PNG or WebP"),
        (cover_jpeg(1)[:5000], "truncated or damaged"),
    ],
)
@pytest.mark.parametrize("route", ["/image/upload", "/single_upload"])
def test_wrong_bytes_behind_a_right_name_are_refused_in_a_sentence(
    as_annotator: TestClient, route: str, data: bytes, said: str
) -> None:
    answer = as_annotator.post(route, files={"file": ("holiday.jpg", data, "image/jpeg")})
    assert (answer.status_code, answer.headers["content-type"]) == (422, "application/problem+json")
    assert said in answer.json()["detail"]
    assert as_annotator.get("/image/all").json()["images"] == []


def test_the_original_comes_back_as_it_was_to_be_saved_never_shown(as_annotator: TestClient) -> None:
    one = upload(as_annotator, name=f"猫 {SCRIPT}.html", label=SCRIPT)
    assert one["original_filename"] == "script>.html"  # what is behind the last slash
    assert one["labels"] == [SCRIPT]
    answer = as_annotator.get(one["links"]["original"])
    assert answer.content == cover_jpeg(1)
    assert answer.headers["content-type"] == "image/jpeg"
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert answer.headers["content-security-policy"] == "default-src 'none'; sandbox"
    assert answer.headers["content-disposition"] == (
        "attachment; filename=\"script_.html.jpg\"; filename*=UTF-8''script%3E.html.jpg"
    )
    assert answer.headers["content-length"] == str(len(cover_jpeg(1)))
    assert as_annotator.get("/fetch").json() == {SCRIPT: 1}
    described = as_annotator.get(f"/image/{one['id']}")
    assert described.headers["content-type"] == "application/json"


@pytest.mark.parametrize(
    ("name", "plain", "quoted"),
    [
        ("cat.jpg", "cat.jpg", "cat.jpg"),
        ("Cat.JPEG", "Cat.JPEG", "Cat.JPEG"),
        ("猫.png", "_.png.jpg", "%E7%8C%AB.png.jpg"),
        ('a"; x="\r\nX-Evil: 1.jpg', "a__ x__X-Evil_ 1.jpg", "a%22%3B%20x%3D%22X-Evil%3A%201.jpg"),
        (None, f"{UUID(int=1)}.jpg", f"{UUID(int=1)}.jpg"),
    ],
)
def test_no_file_name_breaks_out_of_its_header(name: str | None, plain: str, quoted: str) -> None:
    header = attachment({"_id": UUID(int=1), "original_filename": name, "format": "JPEG"})
    assert header == f"attachment; filename=\"{plain}\"; filename*=UTF-8''{quoted}"


def test_pictures_are_sent_once(as_annotator: TestClient) -> None:
    one = upload(as_annotator)
    tile = {"rendition": "tile", "level": 0, "x": 0, "y": 0}
    for parameters in ({}, {"rendition": "compressed"}, {"rendition": "thumbnail"}, tile):
        answer = as_annotator.get(f"/image/download/{one['id']}", params=parameters)
        assert answer.status_code == 200
        assert answer.headers["cache-control"] == "private, max-age=31536000, immutable"
        assert answer.headers["x-content-type-options"] == "nosniff"
        if parameters:
            assert answer.headers["content-type"] == "image/webp"
            assert Image.open(io.BytesIO(answer.content)).format == "WEBP"
        again = as_annotator.get(
            f"/image/download/{one['id']}", params=parameters, headers={"If-None-Match": answer.headers["etag"]}
        )
        assert (again.status_code, again.content) == (304, b"")
    tiles = as_annotator.get(one["links"]["tiles"]).json()
    assert (tiles["width"], tiles["height"]) == (one["width"], one["height"])
    corner = {"rendition": "tile", "level": tiles["levels"] - 1, "x": 0, "y": 0}
    assert as_annotator.get(f"/image/download/{one['id']}", params=corner).status_code == 200
    beyond = as_annotator.get(f"/image/download/{one['id']}", params={**corner, "level": tiles["levels"]})
    assert (beyond.status_code, "which levels" in beyond.json()["detail"]) == (404, True)
    lacking = as_annotator.get(f"/image/download/{one['id']}", params={"rendition": "tile", "level": 0})
    assert (lacking.status_code, "needs level, x and y" in lacking.json()["detail"]) == (422, True)


def test_what_is_not_in_the_bucket_any_more_is_said(as_annotator: TestClient, context: Context) -> None:
    one = upload(as_annotator)
    document = context.catalog.find([UUID(one["id"])])[UUID(one["id"])]
    for change in (context.objects.delete, lambda bucket, key: context.objects.put(bucket, key, cover_jpeg(2))):
        change(document["bucket"], document["key"])
        answer = as_annotator.get(one["links"]["original"])
        assert (answer.status_code, "no longer in the bucket" in answer.json()["detail"]) == (404, True)


# Whose it is


def test_a_private_image_is_there_for_its_owner_and_admins_only(
    as_viewer: TestClient, as_annotator: TestClient, as_bob: TestClient, as_admin: TestClient, context: Context
) -> None:
    one = upload(as_annotator, 1, label="secret", private=True)
    other = upload(as_bob, 1, label="jazz")
    index_all(context, "run")
    as_bob.app.state.reader.refresh()
    photo = {"file": cover_jpeg(1)}

    def reads(client: TestClient) -> dict[str, Any]:
        routes = [f"/image/{one['id']}", *one["links"].values()]
        listed = client.get("/image/all").json()["images"]
        return {
            "routes": {client.get(route).status_code for route in routes},
            "listed": one["id"] in [image["id"] for image in listed],
            "labels": "secret" in client.get("/fetch").json(),
            "by label": len(client.get("/image/all", params={"label": "secret"}).json()["images"]),
            "found": one["id"] in client.post("/search", files=photo).json()
            or one["id"] in client.post("/search", params={"label": "secret"}, files=photo).json(),
            "searched": client.post("/search", params={"image_id": one["id"]}).status_code,
        }

    seen = {"routes": {200}, "listed": True, "labels": True, "by label": 1, "found": True, "searched": 200}
    hidden = {"routes": {404}, "listed": False, "labels": False, "by label": 0, "found": False, "searched": 404}
    assert reads(as_annotator) == seen
    assert reads(as_admin) == seen
    assert reads(as_bob) == hidden
    assert reads(as_viewer) == hidden
    assert other["id"] in as_bob.post("/search", files=photo).json()
    for method in ("put", "delete"):
        answer = as_bob.request(method, f"/image/{one['id']}", json={"private": False} if method == "put" else None)
        assert answer.status_code == 404
    # As if there were none.
    missing = str(uuid4())
    said = [as_bob.get(f"/image/{image}").json()["detail"].replace(image, "") for image in (one["id"], missing)]
    assert said[0] == said[1]


def test_anothers_image_can_be_seen_and_not_changed(
    as_viewer: TestClient, as_annotator: TestClient, as_bob: TestClient, as_admin: TestClient
) -> None:
    one = upload(as_annotator)
    path = f"/image/{one['id']}"
    for client in (as_bob, as_viewer):
        assert client.get(path).status_code == 200
        assert client.put(path, json={"private": True}).status_code == 403
        assert client.delete(path).status_code == 403
    assert as_annotator.get(path).json() == one
    answer = as_admin.put(path, json={"original_filename": "better.jpg"})
    assert (answer.status_code, answer.json()["original_filename"]) == (200, "better.jpg")
    assert as_admin.delete(path).status_code == 204


def test_viewers_and_nobody_upload_nothing(as_viewer: TestClient, nobody: TestClient) -> None:
    for client, status in ((as_viewer, 403), (nobody, 401)):
        for route, field in (("/image/upload", "file"), ("/single_upload", "file"), ("/bulk_upload", "files")):
            answer = client.post(route, files={field: ("a.jpg", cover_jpeg(1))})
            assert answer.status_code == status, (route, answer.text)
    assert as_viewer.get("/image/all").json()["images"] == []


def test_an_owner_changes_what_people_say_of_an_image(as_annotator: TestClient, as_bob: TestClient) -> None:
    one = upload(as_annotator)
    path = f"/image/{one['id']}"
    first = as_annotator.get(path)
    answer = as_annotator.put(
        path,
        json={"original_filename": "x/<b>new\u202e</b>.jpg", "private": True},
        headers={"If-Match": first.headers["etag"]},
    )
    assert (answer.status_code, answer.json()["original_filename"]) == (200, "b>.jpg")
    assert answer.json()["private"]
    assert answer.json()["last_modified"] > one["last_modified"]
    assert as_bob.get(path).status_code == 404
    late = as_annotator.put(path, json={"private": False}, headers={"If-Match": first.headers["etag"]})
    assert late.status_code == 409
    assert late.json()["current"] == answer.json()
    assert as_annotator.get(path).json() == answer.json()
    given = {"If-Match": as_annotator.get(path).headers["etag"]}
    assert as_annotator.put(path, json={"private": False}, headers=given).status_code == 200


def test_only_admins_give_images_away_and_only_to_users(as_annotator: TestClient, as_admin: TestClient) -> None:
    path = f"/image/{upload(as_annotator)['id']}"
    assert as_annotator.put(path, json={"owner": "ada"}).status_code == 403
    assert as_admin.put(path, json={"owner": "Ada"}).json()["owner"] == "ada"
    assert as_annotator.put(path, json={"private": True}).status_code == 403
    assert as_admin.put(path, json={"owner": None}).json()["owner"] is None
    nobody = as_admin.put(path, json={"owner": "nobody-there"})
    assert (nobody.status_code, "no user" in nobody.json()["detail"]) == (422, True)
    unseen = as_admin.put(path, json={"original_filename": "\u202e"})
    assert (unseen.status_code, "name that one can see" in unseen.json()["detail"]) == (422, True)
    assert as_admin.put(path, json={"labels": ["x"]}).status_code == 422


def test_a_deleted_image_is_gone_everywhere(as_annotator: TestClient, context: Context) -> None:
    one = upload(as_annotator)
    document = context.catalog.find([UUID(one["id"])])[UUID(one["id"])]
    assert as_annotator.delete(f"/image/{one['id']}").status_code == 204
    for path in (f"/image/{one['id']}", *one["links"].values()):
        assert as_annotator.get(path).status_code == 404
    assert as_annotator.delete(f"/image/{one['id']}").status_code == 404
    assert not context.objects.exists(document["bucket"], document["key"])
    assert as_annotator.get("/image/all").json() == {"images": [], "next": None}


# Pages


def test_pages_lead_through_all_images_and_filters_are_kept_to(as_annotator: TestClient, as_bob: TestClient) -> None:
    mine = [upload(as_annotator, number, f"IMG_{number}.jpg", label="jazz")["id"] for number in range(3)]
    his = upload(as_bob, 3, "other.jpg")["id"]

    def listed(**parameters: Any) -> list[str]:
        found, after = [], None
        while True:
            page = as_annotator.get("/image/all", params={"limit": 2, "after": after, **parameters}).json()
            found += [image["id"] for image in page["images"]]
            after = page["next"]
            if after is None:
                return found

    assert listed() == [his, *reversed(mine)]
    assert listed(order="id") == sorted([his, *mine])
    assert listed(label="jazz") == listed(owner="ann") == list(reversed(mine))
    assert listed(name="IMG_") == mine
    assert listed(status="pending", owner="bob") == [his]
    assert listed(status="indexed") == listed(since="2999-01-01") == []
    for parameters in ({"after": "x"}, {"status": "deleted"}, {"limit": 0}, {"since": "soon"}):
        answer = as_annotator.get("/image/all", params=parameters)
        assert answer.status_code == 422
        assert answer.headers["content-type"] == "application/problem+json"


# Many at once


def test_files_and_archives_come_in_together_and_each_refusal_is_said(as_annotator: TestClient) -> None:
    archive = zipped(
        **{
            "jazz/1.jpg": cover_jpeg(1),
            "../../evil.jpg": cover_jpeg(2),
            "inner.jpg": zipped(a=b"x"),
            "bad.jpg": cover_jpeg(3)[:4000],
            "notes.txt": b"hello",
        }
    )
    answer = bulk(
        as_annotator,
        ("a.jpg", cover_jpeg(4)),
        ("pictures.jpg", archive),  # names are not believed
        ("text.zip", b"hello"),
        (f"{SCRIPT}.png", b"<html>"),
        private="true",
    )  # fmt: skip
    assert [one["name"] for one in answer["accepted"]] == ["a.jpg", "jazz/1.jpg"]
    assert {one["name"]: one["reason"] for one in answer["refused"]} == {
        "../../evil.jpg": "its path leads out of the archive",
        "inner.jpg": "a zip archive is not accepted; send JPEG, PNG or WebP",
        "bad.jpg": "does not decode: truncated or damaged",
        "text.zip": "not an image (JPEG, PNG or WebP expected)",
        "script>.png": "not an image (JPEG, PNG or WebP expected)",
    }
    images = as_annotator.get("/image/all", params={"order": "id"}).json()["images"]
    assert {image["id"]: (image["labels"], image["private"], image["owner"]) for image in images} == {
        answer["accepted"][0]["id"]: ([], True, "ann"),
        answer["accepted"][1]["id"]: (["jazz"], True, "ann"),
    }


@pytest.mark.parametrize("mode", ["w", "w:gz", "w:bz2", "w:xz"])
def test_tar_archives_are_known_by_their_content(as_annotator: TestClient, mode: str) -> None:
    answer = bulk(as_annotator, ("pictures", tarred(mode, **{"a/1.png": tiny(1), "a/2.png": tiny(2)})), label="soul")
    assert ([one["name"] for one in answer["accepted"]], answer["refused"]) == (["a/1.png", "a/2.png"], [])
    assert as_annotator.get("/fetch").json() == {"soul": 2}


def encrypted() -> bytes:
    data = bytearray(zipped(**{"a.jpg": cover_jpeg(1)}))
    for signature, offset in ((b"PK\1\2", 8), (b"PK\3\4", 6)):
        at = data.index(signature) + offset
        struct.pack_into("<H", data, at, struct.unpack_from("<H", data, at)[0] | 1)
    return bytes(data)


@pytest.mark.parametrize(
    ("archive", "said"),
    [
        (zipped(**{f"{number}.jpg": bytes(300_000) for number in range(4)}), "unpacks to more than 1000000 bytes"),
        (tarred("w:gz", **{f"{number}.jpg": bytes(300_000) for number in range(4)}), "unpacks to more than 1000000"),
        (encrypted(), "encrypted"),
        (zipped(**{"inner.zip": zipped(**{"a.jpg": cover_jpeg(1)})}), "archives in an archive are not unpacked"),
        (zipped(), "no picture in it"),
        (zipped(**{"a.jpg": cover_jpeg(1)})[:-40], "damaged or no archive"),
        (b"\x1f\x8b" + bytes(1000), "damaged or no archive"),
    ],
    ids=["zip bomb", "tar bomb", "encrypted", "nested", "empty", "cut", "garbage"],
)
def test_archives_that_lie_are_refused_in_a_sentence(context: Context, archive: bytes, said: str) -> None:
    small = context.settings.model_copy(update={"max_bulk_bytes": 1_000_000})
    with TestClient(create_app(small)) as nobody:
        answer = bulk(signed_in(nobody.app, "ann", "annotator"), ("a.zip", archive))
    [refused] = [one for one in answer["refused"] if said in one["reason"]]
    assert refused["name"]
    assert answer["accepted"] == []


def test_ten_thousand_pictures_in_one_archive(as_annotator: TestClient, context: Context) -> None:
    archive = zipped(**{f"{number}.png": tiny(number) for number in range(10_000)})
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    answer = bulk(as_annotator, ("many.zip", archive))
    assert (len(answer["accepted"]), answer["refused"]) == (10_000, [])
    assert len({one["id"] for one in answer["accepted"]}) == context.catalog.images.count_documents({}) == 10_000
    # In kilobytes: what was taken in is not held.
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 200_000


def test_too_many_files_are_told_to_come_in_an_archive(as_annotator: TestClient) -> None:
    files = [("files", (f"{number}.png", b"x")) for number in range(201)]
    answer = as_annotator.post("/bulk_upload", files=files)
    assert (answer.status_code, "zip or tar archive" in answer.json()["detail"]) == (422, True)


@contextmanager
def served(app: Any) -> Iterator[int]:
    """The port of a real server: what a client of the tests holds in memory, nobody else does."""
    server = uvicorn.Server(uvicorn.Config(app, port=0, log_level="error"))
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    while not server.started:
        time.sleep(0.02)
    try:
        yield server.servers[0].sockets[0].getsockname()[1]
    finally:
        server.should_exit = True
        thread.join()


@pytest.mark.parametrize("route", ["/image/upload", "/bulk_upload"])
@pytest.mark.parametrize("declared", [True, False])
def test_two_gigabytes_are_refused_before_they_fill_anything(
    context: Context, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, route: str, declared: bool
) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    small = context.settings.model_copy(update={"max_image_bytes": 4 << 20, "max_bulk_bytes": 8 << 20})
    app, size = create_app(small), 2 << 30

    def on_disk() -> int:
        # Of this process, without names as well: temporary files are removed as soon as they are opened.
        total = 0
        for one in Path("/proc/self/fd").iterdir():
            with suppress(FileNotFoundError):
                total += one.stat().st_size if str(tmp_path) in str(one.readlink()) else 0
        return total

    part = b'--x\r\nContent-Disposition: form-data; name="files"; filename="a.jpg"\r\n\r\n'
    with served(app) as port, socket.create_connection(("127.0.0.1", port), timeout=60) as connection:
        token = signed_in(app, "ann", "annotator").headers["authorization"]
        length = f"Content-Length: {size}" if declared else "Transfer-Encoding: chunked"
        head = f"POST {route} HTTP/1.1\r\nHost: x\r\nAuthorization: {token}\r\n{length}\r\n"
        connection.sendall(f"{head}Content-Type: multipart/form-data; boundary=x\r\n\r\n".encode())
        before, sent, most, answer = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, 0, 0, b""
        block = part + bytes((1 << 20) - len(part))
        while sent < size and not answer:
            try:
                connection.sendall(block if declared else b"%x\r\n%s\r\n" % (len(block), block))
                sent, block = sent + len(block), bytes(1 << 20)
                most = max(most, on_disk())
                connection.setblocking(False)
                answer = connection.recv(65536)
            except BlockingIOError:
                continue
            except (BrokenPipeError, ConnectionResetError):
                break
            finally:
                connection.settimeout(60)
        assert sent < 64 << 20
        assert answer.startswith(b"HTTP/1.1 413"), answer[:200]
        while b"larger than" not in answer:
            more = connection.recv(65536)
            assert more, answer
            answer += more
        assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 100_000  # kilobytes
        assert httpx.get(f"http://127.0.0.1:{port}/healthz").status_code == 200
    assert most < 16 << 20
    assert list(tmp_path.iterdir()) == []


# Quarantine


def broken(context: Context, key: str, owner: str | None) -> UUID:
    """An image that the pipeline put aside."""
    bucket = context.settings.require("s3_bucket")
    etag = context.objects.put(bucket, key, b"no picture")
    accept(context, Batch([ImageEvent(bucket, key, etag, owner=owner)]))
    index_all(context, key)
    return image_id(bucket, key, etag)


def test_people_see_why_their_own_images_were_put_aside_and_admins_all(
    as_viewer: TestClient, as_annotator: TestClient, as_bob: TestClient, as_admin: TestClient, context: Context
) -> None:
    anns, nobodys = broken(context, "a.jpg", "ann"), broken(context, "b.jpg", None)
    upload(as_annotator)

    def listed(client: TestClient) -> dict[str, str]:
        found, after = {}, None
        while True:
            page = client.get("/quarantine", params={"limit": 1, "after": after}).json()
            found |= {image["id"]: image["reason"] for image in page["images"]}
            after = page["next"]
            if after is None:
                return found

    assert listed(as_annotator) == {str(anns): "not an image (JPEG, PNG or WebP expected)"}
    assert listed(as_admin).keys() == {str(anns), str(nobodys)}
    assert listed(as_bob) == {}
    assert as_viewer.get("/quarantine").status_code == 403
    thumbnail = as_annotator.get(f"/image/download/{anns}", params={"rendition": "thumbnail"})
    assert (thumbnail.status_code, "not an image" in thumbnail.json()["detail"]) == (422, True)
    original = as_annotator.get(f"/image/download/{anns}")
    assert original.headers["content-type"] == "application/octet-stream"
    assert original.headers["content-disposition"].startswith('attachment; filename="a.jpg.bin"')


def test_what_was_put_aside_is_tried_again_or_dropped(
    as_annotator: TestClient, as_bob: TestClient, as_admin: TestClient, context: Context
) -> None:
    one = broken(context, "a.jpg", "ann")
    assert as_bob.post(f"/quarantine/{one}/retry").status_code == 403
    again = as_annotator.post(f"/quarantine/{one}/retry")
    assert (again.status_code, again.json()["status"]) == (200, "pending")
    early = as_annotator.post(f"/quarantine/{one}/retry")
    assert (early.status_code, "not in quarantine" in early.json()["detail"]) == (409, True)
    index_all(context, "again")
    assert as_annotator.get(f"/image/{one}").json()["status"] == "quarantined"
    context.objects.delete(context.settings.require("s3_bucket"), "a.jpg")
    gone = as_annotator.post(f"/quarantine/{one}/retry")
    assert (gone.status_code, "upload it again" in gone.json()["detail"]) == (409, True)
    assert as_admin.delete(f"/image/{one}").status_code == 204
    assert as_annotator.get("/quarantine").json()["images"] == []

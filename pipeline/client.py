"""Sleeve's REST API for Python programs.

    with Client("https://sleeve.example.org", "ann", password) as sleeve:
        sleeve.upload(Path("cover.jpg"), label="jazz")
        found = sleeve.search(Path("snapshot.jpg"))      # {id: score}, best first

It signs in at the first request and stays signed in. Methods raise Refused where the API refuses, with its sentence,
and httpx.TransportError where it cannot be reached. One client may be used by many threads.
"""

import threading
import time
from collections.abc import Generator, Iterable, Iterator, Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Any, Literal, Self, TypedDict
from uuid import UUID

import httpx

from pipeline.errors import SleeveError
from pipeline.settings import Settings

# Renewed a little early: a request takes some time as well.
EARLY = 60.0
UNSIGNED = httpx.Auth()
POLL = 0.5
Picture = bytes | Path
Format = Literal["coco", "voc", "yolo", "csv"]


class Refused(SleeveError):
    """The API refused a request; the message says why, and what to do."""

    def __init__(self, answer: httpx.Response) -> None:
        is_problem = answer.headers.get("content-type", "").startswith("application/problem+json")
        self.problem: dict[str, Any] = answer.json() if is_problem else {}
        """All that the API said, as RFC 9457 has it: `title`, `detail`, `request_id`, `current` of a conflict."""
        self.status = answer.status_code
        super().__init__(self.problem.get("detail") or f"{answer.request.url} answered {answer.status_code}")


class Account(TypedDict):
    """A user."""

    name: str
    role: Literal["viewer", "annotator", "admin"]
    email: str | None
    source: Literal["local", "airflow"]
    disabled: bool
    created_at: str


class Image(TypedDict):
    """An image of the collection, as `GET /image/{id}` has it. Times are ISO 8601, sizes pixels and bytes."""

    id: str
    original_filename: str | None
    width: int | None
    height: int | None
    file_size: int | None
    file_type: str | None
    upload_date: str
    last_modified: str
    status: str
    reason: str | None
    labels: list[str]
    stage: str | None
    revision: int
    owner: str | None
    private: bool
    group: str | None
    links: dict[str, str]


class Match(TypedDict):
    """An answer of a search in detail. Coordinates are fractions of the query's longer side."""

    score: float
    inliers: int
    votes: float
    labels: list[str]
    original_filename: str | None
    polygon: list[tuple[float, float]]
    transform: list[tuple[float, float, float]]
    mirrored: bool
    stage: str


class Bulk(TypedDict):
    """What became of each file of a bulk upload: {name, id} of those taken in, {name, reason} of those refused."""

    accepted: list[dict[str, str]]
    refused: list[dict[str, str]]


class Job(TypedDict):
    """An export or import. `result` has counts, once `state` is done; `error` says why, once it is failed."""

    id: str
    kind: Literal["export", "import"]
    by: str
    state: Literal["queued", "running", "done", "failed"]
    arguments: dict[str, Any]
    done: int
    total: int | None
    result: dict[str, int] | None
    error: str | None
    created_at: str
    finished_at: str | None


class Client:
    """A signed-in user of the API at `url`.

    Args:
        url: where the API is, as `https://host` or with a path, if a proxy gives it one.
        name, password: of an account there.
        timeout: seconds that one answer may take.
    """

    def __init__(self, url: str, name: str, password: str, timeout: float = 60.0) -> None:
        self._signature = _Signature({"name": name, "password": password})
        self._http = httpx.Client(base_url=url, timeout=timeout, auth=self._signature)
        self._signature.http = self._http

    @classmethod
    def of(cls, settings: Settings) -> Self:
        """For SLEEVE_API_URL, as SLEEVE_USERNAME. Raises MissingSetting."""
        name, password = settings.require("sleeve_username"), settings.require_secret("sleeve_password")
        return cls(settings.require("sleeve_api_url"), name, password)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the connections. The session stays good until it runs out; `sign_out` ends it."""
        self._http.close()

    # Accounts

    def sign_in(self) -> None:
        """Sign in now, and not at the first request."""
        self._signature.token()

    def sign_out(self) -> None:
        """End the session. The next request begins another."""
        self._ask("POST", "/logout")
        self._signature.forget()

    def me(self) -> Account:
        """Who this client is signed in as."""
        account: Account = self._ask("GET", "/me").json()
        return account

    # Search

    def search(self, picture: Picture | None = None, **options: Any) -> dict[UUID, float]:
        """Images that a picture shows, or that show the same as image `image_id`, with scores; best first.

        Options are the parameters of `POST /search`: image_id, crop, label, owner, since, until, top_n.
        """
        return {UUID(one): score for one, score in self._search(picture, options).items()}

    def search_in_detail(self, picture: Picture | None = None, **options: Any) -> dict[UUID, Match]:
        """The same, with where each image is in the picture, and why it is an answer."""
        return {UUID(one): match for one, match in self._search(picture, {**options, "detail": True}).items()}

    def _search(self, picture: Picture | None, options: Mapping[str, Any]) -> dict[str, Any]:
        with ExitStack() as opened:
            files = {"file": _file(picture, opened)} if picture is not None else None
            answer: dict[str, Any] = self._ask("POST", "/search", params=options, files=files).json()
        return answer

    # Images

    def upload(
        self, picture: Picture, label: str | None = None, private: bool = False, name: str | None = None
    ) -> Image:
        """Store a picture; it becomes searchable within seconds. `name` is its file name, if it is no file."""
        form = _given({"label": label, "private": private})
        with ExitStack() as opened:
            file = _file(picture, opened, name)
            image: Image = self._ask("POST", "/image/upload", data=form, files={"file": file}).json()
        return image

    def bulk_upload(self, files: Iterable[Path], label: str | None = None, private: bool = False) -> Bulk:
        """Store pictures, and the pictures in zip and tar archives."""
        form = _given({"label": label, "private": private})
        with ExitStack() as opened:
            parts = [("files", _file(file, opened)) for file in files]
            bulk: Bulk = self._ask("POST", "/bulk_upload", data=form, files=parts).json()
        return bulk

    def image(self, image_id: UUID | str) -> Image:
        """One image."""
        image: Image = self._ask("GET", f"/image/{image_id}").json()
        return image

    def images(self, **filters: Any) -> Iterator[Image]:
        """All images that one may see and that pass the filters, newest first, fetched page by page.

        Filters are the parameters of `GET /image/all`: label, owner, status, group, name, since, until, order.
        """
        after: str | None = None
        while True:
            page = self._ask("GET", "/image/all", params={"limit": 200, **filters, "after": after}).json()
            yield from page["images"]
            after = page["next"]
            if after is None:
                return

    def change_image(self, image_id: UUID | str, **fields: Any) -> Image:
        """Change `original_filename`, `private` or `owner` of an image."""
        image: Image = self._ask("PUT", f"/image/{image_id}", json=fields).json()
        return image

    def delete_image(self, image_id: UUID | str) -> None:
        """Delete an image from the collection."""
        self._ask("DELETE", f"/image/{image_id}")

    def download(
        self, image_id: UUID | str, rendition: Literal["original", "compressed", "thumbnail"] = "original"
    ) -> bytes:
        """The file as it came, or a smaller picture of it (WebP)."""
        return self._ask("GET", f"/image/download/{image_id}", params={"rendition": rendition}).content

    # Labels

    def labels(self) -> dict[str, int]:
        """All labels with the number of images that have each, the commonest first."""
        counts: dict[str, int] = self._ask("GET", "/fetch").json()
        return counts

    def add_label(self, image_id: UUID | str, label: str) -> None:
        """Add a label to those that an image has."""
        self._ask("POST", "/add_label", json={"image_id": str(image_id), "label": label})

    def export(self, format: Format, into: Path, **filters: Any) -> Job:
        """Write labels and boxes, in a format, as a zip to the file `into`, which is there when this returns.

        Filters are those of `POST /export`: label, owner, since, until, accepted.
        """
        job: Job = self._ask("POST", "/export", json={"format": format, **filters}).json()
        job = self.wait_for(job)
        part = into.with_name(f"{into.name}.part")
        with self._http.stream("GET", f"/jobs/{job['id']}/result") as answer, part.open("wb") as file:
            if not answer.is_success:
                answer.read()
                raise Refused(answer)
            for chunk in answer.iter_bytes():
                file.write(chunk)
        part.replace(into)
        return job

    def import_annotations(self, file: Path, format: Format | None = None, replace: bool = False) -> Job:
        """Take labels and boxes out of a file; returns when that is done, or has failed."""
        form = _given({"format": format, "replace": replace})
        with ExitStack() as opened:
            files = {"file": _file(file, opened)}
            job: Job = self._ask("POST", "/import/annotations", data=form, files=files).json()
        return self.wait_for(job)

    def wait_for(self, job: Job) -> Job:
        """The job, once it is done or has failed."""
        while job["state"] not in ("done", "failed"):
            time.sleep(POLL)
            job = self._ask("GET", f"/jobs/{job['id']}").json()
        return job

    def _ask(self, method: str, path: str, params: Mapping[str, Any] | None = None, **body: Any) -> httpx.Response:
        answer = self._http.request(method, path, params=_given(params or {}), **body)
        if not answer.is_success:
            raise Refused(answer)
        return answer


class _Signature(httpx.Auth):
    """Signs requests with an access token, and gets another before it expires or when it is refused."""

    http: httpx.Client

    def __init__(self, credentials: dict[str, str]) -> None:
        self._credentials = credentials
        self._lock = threading.Lock()
        self._tokens: dict[str, Any] | None = None
        self._renew_at = 0.0

    def sync_auth_flow(self, request: httpx.Request) -> Generator[httpx.Request, httpx.Response, None]:
        token = self.token()
        request.headers["Authorization"] = f"Bearer {token}"
        answer = yield request
        if answer.status_code == 401:
            # The session was ended: by a new password, by an admin, or because it grew old.
            self.forget(token)
            request.headers["Authorization"] = f"Bearer {self.token()}"
            yield request

    def token(self) -> str:
        """An access token that is good, as far as we know. Raises Refused."""
        with self._lock:
            if self._tokens is None or time.monotonic() > self._renew_at:
                self._tokens = self._renewed() or self._signed_in()
                self._renew_at = time.monotonic() + self._tokens["expires_in"] - EARLY
            return str(self._tokens["access_token"])

    def forget(self, token: str | None = None) -> None:
        """Sign in again at the next request, unless another thread has already, since it had `token`."""
        with self._lock:
            if self._tokens and token in (None, self._tokens["access_token"]):
                self._tokens = None

    def _renewed(self) -> dict[str, Any] | None:
        if self._tokens is None:
            return None
        answer = self.http.post("/refresh", json={"refresh_token": self._tokens["refresh_token"]}, auth=UNSIGNED)
        return answer.json() if answer.is_success else None

    def _signed_in(self) -> dict[str, Any]:
        answer = self.http.post("/login", json=self._credentials, auth=UNSIGNED)
        if not answer.is_success:
            raise Refused(answer)
        tokens: dict[str, Any] = answer.json()
        return tokens


def _given(values: Mapping[str, Any]) -> dict[str, Any]:
    # A None would be sent as an empty text.
    return {name: value for name, value in values.items() if value is not None}


def _file(picture: Picture, opened: ExitStack, name: str | None = None) -> tuple[str, Any]:
    """Name and content of a file of a form; files are closed with `opened`."""
    if isinstance(picture, Path):
        return name or picture.name, opened.enter_context(picture.open("rb"))
    return name or "picture", picture

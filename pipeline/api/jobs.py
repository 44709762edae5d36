"""Exports and imports of annotations: queued here, done in the background, looked at until they are done."""

from datetime import datetime
from typing import Annotated, Any, Literal
from uuid import UUID, uuid4

from fastapi import APIRouter, File, Form, Query, Request, Response, UploadFile
from pydantic import BaseModel, ConfigDict, Field
from starlette.responses import StreamingResponse

from pipeline.accounts.users import User
from pipeline.annotation.export import Export
from pipeline.annotation.formats import Format
from pipeline.annotation.importing import upload_key
from pipeline.api.access import Annotator, visible_to
from pipeline.api.forms import LargeForm
from pipeline.api.problems import documented
from pipeline.context import Context
from pipeline.errors import BadQuery, Conflict, ObjectMissing, Unknown
from pipeline.events import MAX_LABEL_LENGTH
from pipeline.jobs import KEEP
from pipeline.searching import parse_filter
from pipeline.stores.jobs import Document, Position, State, result_key

router = APIRouter(tags=["jobs"])
large = APIRouter(tags=["jobs"], route_class=LargeForm)

DAY = "A date, or an ISO time; UTC"
Wanted = Annotated[str | None, Field(min_length=1, max_length=MAX_LABEL_LENGTH)]
MEDIA_TYPES = {"export": "application/zip", "import": "text/csv; charset=utf-8"}
FILE: dict[int | str, dict[str, Any]] = {
    200: {"description": "The file", "content": {kind: {} for kind in ("application/zip", "text/csv")}}
}


class ExportRequest(BaseModel):
    """Which images, in which format. What is left out lets everything through."""

    model_config = ConfigDict(
        extra="forbid", json_schema_extra={"examples": [{"format": "coco", "label": "jazz", "accepted": True}]}
    )

    format: Format
    label: Wanted = None
    owner: Wanted = None
    since: str | None = Field(None, description=f"Only images added then or later. {DAY}")
    until: str | None = Field(None, description=f"Only images added before that time, or up to that date. {DAY}")
    accepted: bool = Field(False, description="Only images whose labels a reviewer accepted")


class Job(BaseModel):
    """An export or import, and how far it is."""

    id: UUID
    kind: Literal["export", "import"]
    by: str = Field(description="Whose it is", examples=["ann"])
    state: State
    arguments: dict[str, Any] = Field(examples=[{"format": "coco", "label": "jazz", "accepted": True}])
    done: int = Field(description="Images so far")
    total: int | None = Field(description="Images in all; null until that is known")
    result: dict[str, int] | None = Field(
        description="Counts, once it is done",
        examples=[{"images": 1200}, {"matched": 10, "changed": 9, "unchanged": 1}],
    )
    error: str | None = Field(description="Why it failed, and what to do")
    created_at: datetime
    finished_at: datetime | None


class Page(BaseModel):
    """Jobs, latest first."""

    jobs: list[Job]
    next: str | None = Field(description="Give this as `after` to get the next page; null where there is none")


@router.post("/export", status_code=202, responses=documented(401, 403, 422))
def export(request: Request, response: Response, user: Annotator, wanted: ExportRequest) -> Job:
    """Collect labels and boxes into a zip, in the background. `GET /jobs/{id}` says when it is there.

    It holds images that you may see and that have labels or boxes; pictures are named by their ids in it, and not in
    it themselves. Images that still wait to be collected come with a later export.
    """
    passing = parse_filter(wanted.label, wanted.owner, wanted.since, wanted.until, visible_to(user))
    arguments = Export(wanted.format, passing, wanted.accepted).arguments()
    return _queued(request, response, _context(request).jobs.add("export", user.name, arguments))


@large.post("/import/annotations", status_code=202, responses=documented(401, 403, 413, 422))
def import_annotations(
    request: Request,
    response: Response,
    user: Annotator,
    file: Annotated[UploadFile, File(description="A zip, or a COCO JSON, Pascal VOC XML or CSV file")],
    format: Annotated[Format | None, Form(description="Found out by what is in the file if left out")] = None,
    replace: Annotated[bool, Form(description="Also where a person decided otherwise")] = False,
) -> Job:
    """Take labels and boxes out of a file, in the background. `GET /jobs/{id}` says how it went.

    Images are found by their ids or else by their original file names. Where a person decided last, and otherwise, the
    image is left and reported, unless `replace` is given. The same file again changes nothing. `GET /jobs/{id}/result`
    gives the first 1,000 problems as CSV.
    """
    context, job = _context(request), uuid4()
    context.objects.put(context.settings.sleeve_bucket, upload_key(job), file.file)
    arguments = {"format": format, "replace": replace, "visible_to": visible_to(user)}
    return _queued(request, response, context.jobs.add("import", user.name, arguments, job))


@router.get("/jobs", responses=documented(401, 403, 422))
def list_jobs(
    request: Request,
    user: Annotator,
    limit: Annotated[int, Query(ge=1, le=200, description="Most jobs")] = 50,
    after: Annotated[str | None, Query(description="`next` of the page before")] = None,
) -> Page:
    """Your jobs of the last days, latest first; everybody's, for admins."""
    found = _context(request).jobs.page(visible_to(user), limit, _parse(after) if after else None)
    last = found[-1] if len(found) == limit else None
    return Page(
        jobs=[_job(one) for one in found],
        next=last and f"{last['created_at'].isoformat().replace('+00:00', 'Z')}/{last['_id']}",
    )


@router.get("/jobs/{id}", responses=documented(401, 403, 404, 422))
def get_job(request: Request, user: Annotator, id: UUID) -> Job:
    """How far a job is."""
    return _job(_readable(request, user, id))


@router.get(
    "/jobs/{id}/result", response_class=StreamingResponse, responses={**FILE, **documented(401, 403, 404, 409, 422)}
)
def get_result(request: Request, user: Annotator, id: UUID) -> StreamingResponse:
    """The zip of an export, or the table of an import's problems; 409 while the job is not done."""
    job, context = _readable(request, user, id), _context(request)
    if job["state"] == "failed":
        raise Conflict(f"Job {id} failed, so it has no result: {job['error']}")
    if job["state"] != "done":
        raise Conflict(f"Job {id} is {job['state']}; try again in a moment.")
    try:
        chunks, size, _ = context.objects.stream(context.settings.sleeve_bucket, result_key(job))
    except ObjectMissing:
        raise Unknown(f"The result of job {id} was removed after {KEEP.days} days; ask for it once more.") from None
    name = f"sleeve-{job['arguments']['format']}.zip" if job["kind"] == "export" else "problems.csv"
    headers = {
        "Content-Disposition": f'attachment; filename="{name}"',
        "Content-Length": str(size),
        "X-Content-Type-Options": "nosniff",
        "Cache-Control": "private, no-store",
    }
    return StreamingResponse(chunks, media_type=MEDIA_TYPES[job["kind"]], headers=headers)


def _context(request: Request) -> Context:
    context: Context = request.app.state.context
    return context


def _queued(request: Request, response: Response, job: Document) -> Job:
    request.app.state.worker.wake()
    response.headers["Location"] = f"/jobs/{job['_id']}"
    return _job(job)


def _readable(request: Request, user: User, job: UUID) -> Document:
    found = _context(request).jobs.find(job)
    if found is None or visible_to(user) not in (None, found["by"]):
        raise Unknown(f"There is no job {job} of yours; jobs are forgotten {KEEP.days} days after they began.")
    return found


def _job(document: Document) -> Job:
    # What a user may see follows from who it is, and who asked to see the job knows whose it is.
    arguments = {name: value for name, value in document["arguments"].items() if name != "visible_to"}
    return Job.model_validate({**document, "id": document["_id"], "arguments": arguments})


def _parse(after: str) -> Position:
    try:
        created_at, job = after.split("/")
        moment = datetime.fromisoformat(created_at)
        if moment.tzinfo is None:
            raise ValueError("no time zone")
        return moment, UUID(job)
    except ValueError:
        raise BadQuery(f"after is {after!r}; give `next` of the page before, as it was") from None


router.include_router(large)

"""Labelling: what to look at next, labels and boxes, review, undo, history, suggestions, agreement, the gold set."""

from datetime import datetime
from typing import Annotated, Any, Literal, TypeVar, cast
from uuid import UUID

from fastapi import APIRouter, Query, Request
from pydantic import BaseModel, ConfigDict, Field, JsonValue

from pipeline.annotation import agreement, decisions, queue, suggestions
from pipeline.annotation.decisions import MAX_COMMENT, Outcome
from pipeline.annotation.queue import Mode
from pipeline.annotation.said import MAX_BOX_ID, MAX_BOXES, MAX_LABELS, Said
from pipeline.annotation.said import Box as SaidBox
from pipeline.api.access import Admin, Annotator, Viewer, readable, visible_to
from pipeline.api.problems import MEDIA_TYPE, Problem, documented
from pipeline.api.search import Label, Owner, Since, Until
from pipeline.events import MAX_LABEL_LENGTH
from pipeline.searching import parse_filter
from pipeline.stores.annotations import Kind, revision, standing
from pipeline.stores.catalog import Document

router = APIRouter(tags=["labels"])
Model = TypeVar("Model", bound=BaseModel)

Stage = Literal["unlabelled", "labelled", "accepted", "rejected"]
MAX_REVISION = (1 << 31) - 1
ATTENTION = "0 unlabelled, 1 uncertain, 2 annotators disagree, 3 nothing to do"
EXAMPLE_BOX: dict[str, JsonValue] = {"id": "b1", "label": "logo", "x": 0.1, "y": 0.1, "width": 0.3, "height": 0.2}
LabelText = Annotated[str, Field(min_length=1, max_length=MAX_LABEL_LENGTH, examples=["jazz"])]
Fraction = Annotated[float, Field(ge=0, le=1, allow_inf_nan=False)]
Revision = Annotated[int, Field(ge=0, le=MAX_REVISION, description="Number of decisions that were made on the image")]


class Box(BaseModel):
    """A rectangle, in fractions of the picture's width and height; x and y are those of its top left corner."""

    model_config = ConfigDict(json_schema_extra={"examples": [EXAMPLE_BOX]})

    id: str = Field("", max_length=MAX_BOX_ID, description="Empty for a new box")
    label: LabelText
    x: Fraction
    y: Fraction
    width: Fraction
    height: Fraction


class Shown(BaseModel):
    """What is said about an image."""

    labels: list[str]
    boxes: list[Box]


class View(BaseModel):
    """What somebody says about an image."""

    labels: list[LabelText] = Field(default=[], max_length=MAX_LABELS)
    boxes: list[Box] = Field(default=[], max_length=MAX_BOXES)


class Labels(View):
    """New labels and boxes of an image, in place of those it has."""

    model_config = ConfigDict(
        json_schema_extra={"examples": [{"labels": ["jazz"], "boxes": [EXAMPLE_BOX], "revision": 0}]}
    )

    revision: Revision
    suggested: bool = Field(False, description="The index suggested them, and a person agreed")
    unsure: bool = Field(False, description="Somebody should look again")
    opinion: bool = Field(False, description="A second opinion, by somebody who has not seen the labels")
    group: bool = Field(False, description="Give the labels to all near-duplicates as well")


class State(Shown):
    """An image's labels, and where they stand."""

    id: UUID
    revision: Revision
    stage: Stage
    attention: int = Field(description=ATTENTION)
    labelled_by: str | None
    labelled_at: datetime | None
    reviewed_by: str | None
    reviewed_at: datetime | None
    review_comment: str | None


class Told(Shown):
    """A decision, as it is told to somebody who did not know of it."""

    revision: Revision
    by: str = Field(examples=["ann"])
    at: datetime
    kind: Kind
    comment: str | None


class Current(Shown):
    """What an image has now, what it had before, and who changed that."""

    image: UUID
    revision: Revision = Field(description="Save again with this one")
    stage: Stage
    before: Shown = Field(description="Labels and boxes as they were at the revision that was sent")
    decisions: list[Told] = Field(description="What was decided since, in its order; the first 20")


def conflict() -> dict[int | str, dict[str, Any]]:
    """`responses` of a route that is refused where somebody else was faster."""
    schema = Problem.model_json_schema()
    # FastAPI knows this name, because Saved uses it.
    schema["properties"]["current"] = {"$ref": "#/components/schemas/Current"}
    return {409: {"description": "Somebody else decided meanwhile", "content": {MEDIA_TYPE: {"schema": schema}}}}


class Saved(State):
    """An image after a decision."""

    changed: list[UUID] = Field(description="Near-duplicates that the decision was made for as well")
    conflicts: list[Current] = Field(description="Near-duplicates that somebody else decided on otherwise; left alone")


class Before(Shown):
    """What an image had before a decision."""

    stage: Stage


class Decision(Told):
    """Somebody decided something on an image."""

    stage: Stage = Field(description="Of the image, after that")
    before: Before
    suggested: bool
    unsure: bool
    group: UUID | None = Field(description="The near-duplicates that it was made for together")


class History(BaseModel):
    """Decisions, latest first."""

    decisions: list[Decision]
    next: int | None = Field(description="Give this as `before` to get the next page; null where there is none")


class Task(BaseModel):
    """An image, and what to do with it: for five minutes nobody else gets it."""

    id: UUID
    mode: Mode
    width: int | None
    height: int | None
    original_filename: str | None
    group: UUID | None = Field(None, description="Its group of near-duplicates")
    revision: Revision
    claimed_until: datetime
    state: State | None = Field(description="What is said about it; null for a second opinion, which is given blind")


class Counts(BaseModel):
    """How many images want what."""

    unlabelled: int
    uncertain: int
    disagreeing: int
    done: int
    to_review: int = Field(description="Labelled by others than the one who asks, and not reviewed")


class Next(BaseModel):
    """What to look at next."""

    task: Task | None = Field(description="Null when nothing is left to do")


class Review(BaseModel):
    """What a reviewer thinks of the labels."""

    model_config = ConfigDict(json_schema_extra={"examples": [{"accept": False, "comment": "soul", "revision": 1}]})

    accept: bool
    comment: str | None = Field(None, max_length=MAX_COMMENT)
    revision: Revision


class OneLabel(BaseModel):
    """A label to add to those that an image has."""

    image_id: UUID = Field(examples=["9f2c6b54-8f0e-5d57-9d5c-3f6f1c0f7f11"])
    label: LabelText


class Neighbour(BaseModel):
    """An image that has the label, and shows the same."""

    id: UUID
    score: float


class Suggestion(BaseModel):
    """A label that an image could have."""

    label: str
    score: float = Field(description="How sure it is, from 0 to 1")
    neighbours: list[Neighbour]


class Gold(Shown):
    """What is right about an image."""

    by: str
    at: datetime


class Measures(BaseModel):
    """How much two sides say the same."""

    images: int
    same: float | None = Field(description="Share of the images with the same labels")
    kappa: float | None = Field(description="Cohen's kappa: 1 is full agreement, 0 what chance gives; null: undefined")
    iou: float | None = Field(description="Mean intersection over union of the boxes that both drew")
    boxes: int = Field(description="Boxes that both drew")
    unmatched: int = Field(description="Boxes that only one of them drew")


class Summary(Measures):
    """Over all labels, and for each."""

    labels: dict[str, Measures]


class Pair(Summary):
    """Two annotators, over the images on which neither had seen what the other said."""

    annotators: tuple[str, str]


class AgainstGold(Summary):
    """An annotator and the gold set."""

    annotator: str


class Agreement(BaseModel):
    """How well annotators agree."""

    kappa: float | None = Field(description="Mean over the pairs")
    pairs: list[Pair]
    gold: list[AgainstGold]


@router.get("/annotate/next", responses=documented(401, 403, 422))
def next_task(
    request: Request,
    user: Annotator,
    mode: Annotated[Mode, Query(description="Label, give second opinions, or review what others labelled")] = "label",
    but: Annotated[UUID | None, Query(description="Not this one: the page shows it already")] = None,
    label: Label = None,
    owner: Owner = None,
    since: Since = None,
    until: Until = None,
) -> Next:
    """What this user should look at next: unlabelled images first, then uncertain, then those people disagree on.

    One in ten comes for a second opinion, or from the gold set, without its labels.
    """
    context = request.app.state.context
    wanted = parse_filter(label, owner, since, until, visible_to(user))
    task = queue.next_image(context, user, wanted, mode, but)
    return Next(task=_task(task) if task else None)


@router.get("/annotate/counts", responses=documented(401, 403, 422))
def counts(
    request: Request,
    user: Annotator,
    label: Label = None,
    owner: Owner = None,
    since: Since = None,
    until: Until = None,
) -> Counts:
    """How much there is to do."""
    wanted = parse_filter(label, owner, since, until, visible_to(user))
    return Counts.model_validate(queue.counts(request.app.state.context, user, wanted))


@router.put("/image/{id}/labels", responses=documented(401, 403, 404, 422) | conflict())
def put_labels(request: Request, user: Annotator, id: UUID, labels: Labels) -> Saved:
    """Replace labels and boxes of an image, if its revision is still the one that is sent.

    Otherwise nothing is saved, and the answer is 409 with `current`: what the image has now, and who changed what.
    """
    context, sees = request.app.state.context, visible_to(user)
    readable(context, user, id)
    kind: Literal["opinion", "label"] = "opinion" if labels.opinion else "label"
    outcome = decisions.label(
        context, user, id, labels.revision, _said(labels), kind=kind, group=labels.group, visible_to=sees
    )
    return _saved(outcome)


@router.post("/add_label", responses=documented(401, 403, 404, 422))
def add_label(request: Request, user: Annotator, one: OneLabel) -> Saved:
    """Add one label to those that an image has."""
    context = request.app.state.context
    readable(context, user, one.image_id)
    return _saved(decisions.add_label(context, user, one.image_id, one.label, visible_to(user)))


@router.post("/image/{id}/undo", responses=documented(401, 403, 404, 422) | conflict())
def undo(request: Request, user: Annotator, id: UUID) -> Saved:
    """Take back one's own last decision on an image, near-duplicates included; 409 where somebody decided since."""
    context = request.app.state.context
    readable(context, user, id)
    return _saved(decisions.undo(context, user, id, visible_to(user)))


@router.post("/image/{id}/skip", status_code=204, responses=documented(401, 403, 404, 422))
def skip(request: Request, user: Annotator, id: UUID) -> None:
    """Leave an image to others; it is not offered to this user again until somebody decided on it."""
    context = request.app.state.context
    readable(context, user, id)
    queue.skip(context, user, id)


@router.post("/image/{id}/review", responses=documented(401, 403, 404, 422) | conflict())
def review(request: Request, user: Annotator, id: UUID, one: Review) -> Saved:
    """Accept or reject the labels of somebody else, if the revision is still the one that is sent."""
    context = request.app.state.context
    readable(context, user, id)
    return _saved(decisions.review(context, user, id, one.revision, one.accept, one.comment))


@router.get("/image/{id}/history", responses=documented(401, 403, 404, 422))
def history(
    request: Request,
    user: Viewer,
    id: UUID,
    limit: Annotated[int, Query(ge=1, le=200, description="Most decisions")] = 50,
    before: Annotated[int | None, Query(ge=1, le=MAX_REVISION, description="`next` of the page before")] = None,
) -> History:
    """Who decided what on an image, and when, latest first."""
    context = request.app.state.context
    readable(context, user, id)
    page = context.annotations.history(id, limit, before)
    last = page[-1]["revision"] if page else 1
    return History(decisions=[_validated(Decision, one) for one in page], next=last if last > 1 else None)


@router.get("/image/{id}/suggestions", responses=documented(401, 403, 404, 422))
def suggest(request: Request, user: Viewer, id: UUID) -> list[Suggestion]:
    """Labels that images have which show the same, best first; none where the image is not searchable yet."""
    state = request.app.state
    readable(state.context, user, id)
    found = suggestions.suggest(state.context, state.reader, id, visible_to(user))
    return [_validated(Suggestion, one) for one in found]


@router.put("/image/{id}/gold", responses=documented(401, 403, 404, 422))
def put_gold(request: Request, user: Admin, id: UUID, view: View) -> Gold:
    """Take an image into the gold set: what is right about it, to measure annotators against."""
    context = request.app.state.context
    readable(context, user, id)
    return _validated(Gold, decisions.set_gold(context, user, id, _said(view)))


@router.delete("/image/{id}/gold", status_code=204, responses=documented(401, 403, 404, 422))
def delete_gold(request: Request, user: Admin, id: UUID) -> None:
    """Take an image out of the gold set."""
    context = request.app.state.context
    readable(context, user, id)
    decisions.set_gold(context, user, id, None)


@router.get("/agreement", responses=documented(401, 403))
def agreement_of_annotators(request: Request, user: Annotator) -> Agreement:
    """How well annotators agree, where neither had seen what the other said; and each of them with the gold set."""
    return _validated(Agreement, agreement.agreement(request.app.state.context))


def _said(view: View) -> Said:
    flags = {"suggested": view.suggested, "unsure": view.unsure} if isinstance(view, Labels) else {}
    return Said(view.labels, [cast(SaidBox, box.model_dump()) for box in view.boxes], **flags)


def _state(document: Document) -> dict[str, Any]:
    return {"id": document["_id"], "revision": revision(document), **standing(document)}


def _saved(outcome: Outcome) -> Saved:
    return Saved.model_validate({**_state(outcome.image), "changed": outcome.changed, "conflicts": outcome.conflicts})


def _task(task: queue.Task) -> Task:
    image = task.image
    state = None if task.mode == "second" else _state(image)
    return Task.model_validate(
        {**image, "id": image["_id"], "mode": task.mode, "revision": revision(image), "state": state}
    )


def _validated(model: type[Model], found: Any) -> Model:
    return model.model_validate(found, from_attributes=True)

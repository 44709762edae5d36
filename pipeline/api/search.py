"""POST /search: which images of the collection does a picture show?"""

from dataclasses import replace
from typing import Annotated, Any
from uuid import UUID

from fastapi import APIRouter, File, Query, Request, UploadFile
from pydantic import BaseModel, Field, WithJsonSchema

from pipeline.accounts.users import User
from pipeline.api.access import Viewer, readable, visible_to
from pipeline.api.problems import documented
from pipeline.errors import BadQuery
from pipeline.events import MAX_LABEL_LENGTH
from pipeline.features.photo import Photo
from pipeline.features.sift import Features
from pipeline.index.recognise import Match, Stage
from pipeline.searching import WHOLE, Question, of_image, parse_crop, parse_filter
from pipeline.searching import search as search_collection

router = APIRouter(tags=["search"])
Point = tuple[float, float]
Row = tuple[float, float, float]


class Found(BaseModel):
    """An answer in detail. Coordinates of the query are fractions of its longer side, of the crop's where there is one:
    (0, 0) is top left, and multiplied by max(width, height) they are pixels."""

    score: float = Field(description="How sure it is, from 0 to 1")
    inliers: int = Field(description="Distinct points of the image that were found again in the query")
    votes: float = Field(description="Votes of the first stage, as a multiple of what chance gives")
    labels: list[str]
    original_filename: str | None
    polygon: tuple[Point, Point, Point, Point] = Field(
        description="Where the image's corners are in the query: its top left, top right, bottom right, bottom left"
    )
    transform: tuple[Row, Row, Row] = Field(
        description="Homography that maps points of the image to points of the query, both in fractions of their "
        "picture's longer side"
    )
    mirrored: bool = Field(description="The query shows the mirror image")
    stage: Stage = Field(description="Which look at the query found it")


Label = Annotated[str | None, Query(min_length=1, max_length=MAX_LABEL_LENGTH, description="Only images of this label")]
Owner = Annotated[str | None, Query(min_length=1, max_length=MAX_LABEL_LENGTH, description="Only images of this owner")]
Since = Annotated[str | None, Query(description="Only images added then or later: a date, or an ISO time; UTC")]
Until = Annotated[str | None, Query(description="Only images added before that time, or up to that date; UTC")]
# A form has no null: without this, the document says that the picture may be a text.
BINARY = WithJsonSchema({"type": "string", "contentMediaType": "application/octet-stream"})
Picture = Annotated[UploadFile | None, File(description="A JPEG, PNG or WebP picture; or give `image_id`"), BINARY]
PART = "Search for a part of the picture only: x,y,width,height as fractions of its width and height, from 0 to 1"


@router.post("/search", responses=documented(401, 403, 404, 413, 422))
def search(
    request: Request,
    user: Viewer,
    file: Picture = None,
    image_id: Annotated[
        UUID | None, Query(description="An image of the collection to search for; it is not an answer itself")
    ] = None,
    crop: Annotated[str | None, Query(description=PART, examples=["0.25,0.25,0.5,0.5"])] = None,
    label: Label = None,
    owner: Owner = None,
    since: Since = None,
    until: Until = None,
    top_n: Annotated[int | None, Query(ge=1, le=100, description="Most answers; TOP_N by default")] = None,
    detail: Annotated[bool, Query(description="Say why and where, instead of the score only")] = False,
) -> dict[str, float] | dict[str, Found]:
    """Images that the picture shows, best first: `{"ID": score}`. Empty when it shows none of the collection.

    The picture is uploaded as `file`, or is an image of the collection, named by `image_id`. With `detail=true` each
    answer is an object; its `polygon` and `transform` speak of the query in fractions of its longer side.
    """
    state = request.app.state
    wanted = replace(parse_filter(label, owner, since, until), visible_to=visible_to(user))
    query = _query(state, user, file, image_id, crop)
    matches = search_collection(state.context, state.reader, Question(query, image_id, top_n, wanted))
    if not detail:
        return {str(match.image_id): match.score for match in matches}
    documents = state.context.catalog.find([match.image_id for match in matches], ["labels", "original_filename"])
    return {str(match.image_id): _found(match, documents.get(match.image_id, {})) for match in matches}


def _query(
    state: Any, user: User, file: UploadFile | None, image_id: UUID | None, crop: str | None
) -> Photo | Features:
    part = WHOLE if crop is None else parse_crop(crop)
    if file is not None and image_id is None:
        return Photo(file.file.read(), state.settings, part)
    if image_id is not None and file is None:
        readable(state.context, user, image_id)
        return of_image(state.context, state.reader, image_id, part)
    both = "not both" if file else "there is neither"
    raise BadQuery(f"give a picture as the form field `file`, or an image as the parameter `image_id`; {both}")


def _found(match: Match, document: dict[str, Any]) -> Found:
    return Found(
        score=match.score,
        inliers=match.geometry.inliers,
        votes=match.votes,
        labels=document.get("labels", []),
        original_filename=document.get("original_filename"),
        polygon=match.geometry.polygon.tolist(),
        transform=match.geometry.homography.tolist(),
        mirrored=match.mirrored,
        stage=match.stage,
    )

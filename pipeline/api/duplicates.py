"""GET /duplicates: images of the collection that show the same picture."""

from typing import Annotated
from uuid import UUID

from fastapi import APIRouter, Query, Request
from pydantic import BaseModel, Field

from pipeline import duplicates
from pipeline.api.access import Viewer, visible_to
from pipeline.api.problems import documented
from pipeline.errors import BadQuery

router = APIRouter(tags=["search"])


class Member(BaseModel):
    """An image of a group, with the best evidence that it belongs there."""

    id: UUID
    labels: list[str]
    original_filename: str | None
    score: float | None = Field(description="Of its closest pair in the group; null for an exact copy")
    inliers: int | None
    mirrored: bool | None = Field(description="Whether it is the mirror image of the other one in that pair")
    copy_of: UUID | None = Field(description="The image that has the same bytes")


class Group(BaseModel):
    """Images that show the same picture."""

    group: UUID = Field(description="The smallest image id at the last pass")
    size: int = Field(description="Number of images, without those that were deleted since the last pass")
    images: list[Member]


class Page(BaseModel):
    """Groups, largest first."""

    groups: list[Group]
    next: str | None = Field(description="Give this as `after` to get the next page; null where there is none")


@router.get("/duplicates", responses=documented(401, 403, 422))
def list_duplicates(
    request: Request,
    user: Viewer,
    limit: Annotated[int, Query(ge=1, le=200, description="Most groups")] = 50,
    after: Annotated[str | None, Query(description="`next` of the page before")] = None,
) -> Page:
    """Groups of near-duplicates, largest first: re-encoded, resized, trimmed or mirrored copies, and exact ones."""
    catalog = request.app.state.context.catalog
    last, groups = duplicates.groups(catalog, limit, _parse(after) if after else None, visible_to(user))
    return Page(groups=[Group.model_validate(group) for group in groups], next=last and f"{last[0]}:{last[1]}")


def _parse(after: str) -> tuple[int, UUID]:
    try:
        size, group = after.split(":")
        return int(size), UUID(group)
    except ValueError:
        raise BadQuery(f"after is {after!r}; give `next` of the page before, as it was") from None

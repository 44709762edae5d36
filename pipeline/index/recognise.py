"""What does a photo show? The stages of a search, from the cheapest to the most thorough.

At a glance the best descriptors of the photo vote, and the images with most votes are verified. Only where that leaves
a question open come the others: the photo seen in a mirror when nothing was recognised; a closer look, at three times
the resolution, when nothing was recognised or much of the photo is not explained by what was; and at last the photo as
if seen from other places.
"""

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, field, replace
from typing import Literal
from uuid import UUID

import numpy as np
from numpy.typing import NDArray

from pipeline.features.photo import Photo
from pipeline.features.sift import Features
from pipeline.features.views import View, mirror
from pipeline.index.opened import OpenGeneration
from pipeline.index.score import score
from pipeline.index.search import Votes
from pipeline.index.stopwatch import Stopwatch
from pipeline.index.verify import MIN_AGREEING, Verified, agree, inside, project, verify

# Of 1,000 snapshots as many are found as with all 500, in half the time.
GLANCE_DESCRIPTORS = 250
# How many of the images with most votes have their matches looked at, and how many of these are verified at a glance.
CANDIDATES = 50
VERIFIED = 8
# Below this share of its keypoints explained, a photo probably shows something else beside.
EXPLAINED = 0.5
# An image whose matches agree less than this share of the best one's is not what the query shows.
CLEAR_SHARE = 0.15
CLOSER_DESCRIPTORS = 2000
CLOSER_LOOKS = 3
# Images of this rank have the votes that chance gives, though no fewer than half of what one perfect match does.
NOISE_RANK = 20
NOISE = 0.03

Stage = Literal["glance", "mirror", "closer look", "slant"]
Alive = Callable[[Sequence[UUID]], set[UUID]]
"""Which of these images are not deleted."""


@dataclass(frozen=True, eq=False)
class Match:
    """An image that a query shows."""

    image_id: UUID
    score: float
    """How sure that is, from 0 to 1, see pipeline.index.score."""
    votes: float
    """First-stage votes, as a multiple of what chance gives an image."""
    geometry: Verified
    """Where in the query it is. Of a mirrored image the homography mirrors too."""
    mirrored: bool
    stage: Stage


@dataclass(frozen=True)
class Wanted:
    """What a search should answer."""

    top_n: int = 5
    threshold: float = 0.5
    """Smallest score of an answer."""
    only: Collection[UUID] | None = None
    """Answer with no other images than these."""
    alive: Alive | None = field(default=None, repr=False)
    watch: Stopwatch = field(default_factory=Stopwatch, repr=False, compare=False)
    """Where the time goes: describe (decode and SIFT), vote, catalogue (who is alive), verify."""


def recognise(opened: OpenGeneration | None, query: Photo | Features, wanted: Wanted) -> list[Match]:
    """The at most `top_n` images that the query shows, each once, best first. Raises NoFeatures or BadImage.

    A picture that cannot be used is refused also where nothing is indexed yet.
    """
    with wanted.watch.step("describe"):
        glance = query.features if isinstance(query, Photo) else query
    if not opened:
        return []
    allowed = None if wanted.only is None else opened.allow(wanted.only)
    found = _look(opened, glance.take(slice(GLANCE_DESCRIPTORS)), glance, wanted, allowed, "glance")
    if not found:
        found = in_mirror(opened, glance, wanted, allowed)
    if isinstance(query, Photo) and (_several(found) or _explained(found, glance).mean() < EXPLAINED):
        with wanted.watch.step("describe"):
            closer = query.closer
        found = _closer(opened, closer, found, wanted, allowed)
    if isinstance(query, Photo) and not found:
        views = wanted.watch.each("describe", query.slants())
        found = next(filter(None, (_seen_in(opened, view, wanted, allowed, "slant") for view in views)), {})
    return sorted(found.values(), key=lambda match: (-match.score, -match.votes))[: wanted.top_n]


Found = dict[UUID, Match]
Allowed = NDArray[np.bool_] | None


def in_mirror(opened: OpenGeneration, glance: Features, wanted: Wanted, allowed: Allowed = None) -> Found:
    """Images whose mirror image the query shows."""
    return _seen_in(opened, mirror(glance), wanted, allowed, "mirror")


def _look(
    opened: OpenGeneration,
    voters: Features,
    query: Features,
    wanted: Wanted,
    allowed: Allowed,
    stage: Stage,
) -> Found:
    """Images that `query` shows; `voters` are those of its features that vote."""
    with wanted.watch.step("vote"):
        votes = opened.votes(voters, allowed)
    noise = max(float(votes.totals[NOISE_RANK]), NOISE) if len(votes.totals) > NOISE_RANK else NOISE
    found: Found = {}
    promising = _promising(opened, votes, voters, wanted, stage)
    with wanted.watch.step("verify"):
        for image_id, number, total in promising:
            geometry = verify(query, opened.features(number))
            if geometry and (sure := score(geometry, total / noise)) >= wanted.threshold:
                found[image_id] = Match(image_id, sure, total / noise, geometry, False, stage)
    return found


def _promising(
    opened: OpenGeneration, votes: Votes, voters: Features, wanted: Wanted, stage: Stage
) -> list[tuple[UUID, int, float]]:
    """Id, number and votes of the images that are worth verifying, the best first.

    Those are the images whose matches agree on where the image lies in the query, as far as the matches of the first
    stage tell; that takes some microseconds for an image.
    """
    # The same image may stand in two segments, when an interrupted extraction was repeated in another shard.
    images: dict[UUID, tuple[int, float]] = {}
    candidates = max(CANDIDATES, 2 * wanted.top_n)
    for number, total in zip(votes.numbers[:candidates].tolist(), votes.totals.tolist(), strict=False):
        images.setdefault(opened.image_id(number), (number, total))
    with wanted.watch.step("catalogue"):
        living = wanted.alive(list(images)) if wanted.alive else images.keys()
    agreeing: dict[UUID, int] = {}
    with wanted.watch.step("verify"):
        for image_id in (one for one in images if one in living):
            number, _ = images[image_id]
            query_rows, image_rows = votes.matches(number)
            agreeing[image_id] = int(agree(opened.keypoints(number, image_rows), voters.keypoints[query_rows]).sum())
    most = max(agreeing.values(), default=0)
    # Several objects in one photo are seen unequally well, copies of one are not.
    enough, limit = (
        (MIN_AGREEING, candidates) if stage == "closer look" else (CLEAR_SHARE * most, max(VERIFIED, wanted.top_n))
    )
    # The two with most votes get their chance in any case: seen at a slant, little agrees.
    worth = [one for rank, one in enumerate(agreeing) if agreeing[one] >= max(enough, MIN_AGREEING) or rank < 2]
    worth.sort(key=lambda one: -agreeing[one])
    return [(one, *images[one]) for one in worth[:limit]]


def _closer(opened: OpenGeneration, closer: Features, found: Found, wanted: Wanted, allowed: Allowed) -> Found:
    """What was found, and what else the part of the photo shows that it does not explain."""
    for _ in range(CLOSER_LOOKS):
        rest = closer.take(~_explained(found, closer))
        if len(rest) < MIN_AGREEING:
            break
        more = _look(opened, rest.take(slice(CLOSER_DESCRIPTORS)), rest, wanted, allowed, "closer look")
        if more.keys() <= found.keys():
            break
        found = more | found
    return found


def _explained(found: Found, query: Features) -> NDArray[np.bool_]:
    """Marks the features of the query that lie inside something that was found."""
    marks = np.zeros(len(query), np.bool_)
    for match in found.values():
        marks |= inside(match.geometry.polygon, query.keypoints[:, :2])
    return marks


def _seen_in(opened: OpenGeneration, view: View, wanted: Wanted, allowed: Allowed, stage: Stage) -> Found:
    """What a view of the query shows, with its place in the query itself."""
    voters = view.features.take(slice(GLANCE_DESCRIPTORS))
    found = _look(opened, voters, view.features, wanted, allowed, stage)
    return {image: _in_query(match, view.to_photo) for image, match in found.items()}


def _several(found: Found) -> bool:
    """Whether any two of what was found lie beside each other, and not one on the other as two copies of a picture."""
    polygons = [match.geometry.polygon for match in found.values()]
    centres = np.array([polygon.mean(axis=0) for polygon in polygons])
    return any(not inside(polygon, centres).all() for polygon in polygons)


def _in_query(match: Match, to_photo: NDArray[np.float64]) -> Match:
    geometry = replace(
        match.geometry,
        homography=to_photo @ match.geometry.homography,
        polygon=project(to_photo, match.geometry.polygon),
        query_points=project(to_photo, match.geometry.query_points),
    )
    return replace(match, geometry=geometry, mirrored=bool(np.linalg.det(to_photo) < 0))

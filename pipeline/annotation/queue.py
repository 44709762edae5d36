"""Which image should this person look at next? What helps most comes first, and two people never get the same one."""

import random
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Literal
from uuid import UUID

from pipeline.accounts.users import User
from pipeline.annotation.decisions import DISAGREEING, DONE, UNCERTAIN, UNLABELLED
from pipeline.context import Context
from pipeline.stores.catalog import Document, Filter

Mode = Literal["label", "second", "review"]
"""What to do with an image: label it; give a second opinion, without seeing the labels; review what somebody said."""
CLAIM = timedelta(minutes=5)
# One of so many images comes for a second opinion, so that agreement can be measured; of these, half from the gold set.
SECOND_SHARE = 0.1
GOLD_SHARE = 0.5
# Whose picture can be shown: it was fetched, and it decodes.
SHOWABLE = ["collected", "featured", "indexed"]
LEAST_DONE = [("attention", 1), ("_id", 1)]
BY_ID = [("_id", 1)]


@dataclass(frozen=True)
class Task:
    """An image, and what to do with it. It is the user's for CLAIM."""

    image: Document
    mode: Mode


def next_image(
    context: Context,
    user: User,
    wanted: Filter,
    mode: Mode,
    but: UUID | None = None,
    chance: random.Random | None = None,
) -> Task | None:
    """The next image for this user among the `wanted`, claimed; None when nothing is left to do.

    While labelling, SECOND_SHARE of the tasks are second opinions. `but` is not offered: the image that a page shows
    while it asks for the one after.
    """
    drawn = (chance or random.Random()).random
    if mode == "label" and drawn() < SECOND_SHARE:
        task = _claim(context, user, wanted, "second", but, drawn() < GOLD_SHARE)
        if task is not None:
            return task
    if mode != "second":
        return _claim(context, user, wanted, mode, but)
    gold_first = drawn() < GOLD_SHARE
    return _claim(context, user, wanted, mode, but, gold_first) or _claim(
        context, user, wanted, mode, but, not gold_first
    )


def _claim(
    context: Context, user: User, wanted: Filter, mode: Mode, but: UUID | None, gold: bool = False
) -> Task | None:
    query = {**_showable(wanted), **_asked(mode, user, gold), "skipped_by": {"$ne": user.name}}
    if but is not None:
        query["_id"] = {"$ne": but}
    order = LEAST_DONE if mode == "label" else BY_ID
    while True:
        until = datetime.now(UTC) + CLAIM
        image = context.annotations.claim(query, order, user.name, until)
        if image is None:
            return None
        # An image may wait here only because a process died between a decision and what follows from it.
        if not context.annotations.catch_up(image):
            return Task(image, mode)


def _asked(mode: Mode, user: User, gold: bool) -> Document:
    if mode == "label":
        return {"attention": {"$lt": DONE}}
    if mode == "review":
        return {"stage": "labelled", "labelled_by": {"$nin": [None, user.name]}}
    # Who decided on an image has seen what is said about it.
    fresh: Document = {"decided_by": {"$ne": user.name}}
    return {**fresh, "gold.by": {"$exists": True}} if gold else {**fresh, "stage": {"$in": ["labelled", "accepted"]}}


def _showable(wanted: Filter) -> Document:
    return {**wanted.query(), "status": {"$in": SHOWABLE}}


def skip(context: Context, user: User, image: UUID) -> None:
    """Offer this image to others, and to this user only when somebody decided on it."""
    context.annotations.skip(image, user.name)


def counts(context: Context, user: User, wanted: Filter) -> dict[str, int]:
    """How many images are unlabelled, uncertain, disagreeing and done; and how many this user could review."""
    names = {UNLABELLED: "unlabelled", UNCERTAIN: "uncertain", DISAGREEING: "disagreeing", DONE: "done"}
    found = dict.fromkeys([*names.values(), "to_review"], 0)
    fields = ["attention", "stage", "labelled_by"]
    for group, count in context.annotations.count_by(_showable(wanted), fields):
        found[names[group.get("attention", UNLABELLED)]] += count
        if group.get("stage") == "labelled" and group.get("labelled_by") not in (None, user.name):
            found["to_review"] += count
    return found

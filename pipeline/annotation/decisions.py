"""Deciding on images: label, review, undo. Each decision names the revision that its author saw; see
pipeline.stores.annotations for how that keeps two people from overwriting each other.

Who may see an image is asked by the caller. `visible_to` is that of a Filter: near-duplicates that the user may not see
are left alone.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Literal, NoReturn
from uuid import UUID, uuid4

from pipeline.accounts.users import User
from pipeline.annotation.agreement import match_boxes
from pipeline.annotation.said import Said, check_label
from pipeline.context import Context
from pipeline.errors import BadQuery, Conflict, NotAllowed, UnknownImage
from pipeline.stores.annotations import Annotations, Kind, after, revision, standing
from pipeline.stores.catalog import Document

UNLABELLED, UNCERTAIN, DISAGREEING, DONE = range(4)
"""`attention`: why the queue offers an image, what helps most first."""
MAX_COMMENT = 2000
# Of what happened since, a page that is far behind is told so many decisions.
TOLD = 20


@dataclass(frozen=True)
class Outcome:
    """An image's document after a decision; and what became of its near-duplicates, where they were meant too."""

    image: Document
    changed: Sequence[UUID] = ()
    conflicts: Sequence[dict[str, Any]] = ()
    """Near-duplicates that somebody else had decided on otherwise, like `Conflict.current`; they are as they were."""


def label(
    context: Context,
    user: User,
    image: UUID,
    seen: int,
    said: Said,
    *,
    kind: Literal["label", "import", "opinion"] = "label",
    group: bool = False,
    visible_to: str | None = None,
) -> Outcome:
    """Replace labels and boxes of an image whose revision is `seen`; an opinion is only noted beside them.

    With `group` its near-duplicates get the labels too, except those that somebody else decided on otherwise. Boxes
    stay with the picture that they were drawn on: copies may be trimmed or mirrored.

    Raises BadQuery, UnknownImage, and Conflict with what was decided meanwhile.
    """
    said, store = said.checked(), context.annotations
    if group and not said.labels:
        raise BadQuery("near-duplicates share labels, and there is none; give one, or decide on this image alone")
    document = _seen(store, image, seen)
    if kind == "opinion" and standing(document)["stage"] != "unlabelled":
        decided = _decide(store, document, user, kind, _opinion(document, said))
        return Outcome(decided or _refuse(store, image, seen))
    # Where there is nothing yet that it could be a second opinion on, it is the first.
    kind = "label" if kind == "opinion" else kind
    mates = _near_duplicates(context, document, visible_to)
    stay = [mate for mate in mates if not group or _anothers(mate, user)]
    contradicted = any(mate["labels"] and _differ(mate, said) for mate in stay)
    fields = {**_labelled(user, said, contradicted), "group": document.get("group") if group else None}
    decided = _decide(store, document, user, kind, fields)
    if decided is None:
        _refuse(store, image, seen)
    return _spread(store, decided, mates, user, fields) if group else Outcome(decided)


def add_label(context: Context, user: User, image: UUID, text: str, visible_to: str | None = None) -> Outcome:
    """Add one label to those that an image has, whatever they are. Raises BadQuery, UnknownImage."""
    text = check_label(text)
    while True:
        document = _known(context.annotations, image)
        if text in document["labels"]:
            return Outcome(document)
        more = Said([*document["labels"], text], standing(document)["boxes"])
        try:
            return label(context, user, image, revision(document), more, visible_to=visible_to)
        except Conflict:
            # Whoever was faster got on, so this comes to an end; and what they said is kept.
            continue


def review(context: Context, user: User, image: UUID, seen: int, accept: bool, comment: str | None = None) -> Outcome:
    """Accept or reject the labels of somebody else. Raises BadQuery, NotAllowed, UnknownImage, Conflict."""
    store = context.annotations
    document = _seen(store, image, seen)
    if standing(document)["stage"] == "unlabelled":
        raise BadQuery(f"Image {image} has no labels yet, so there is nothing to review; label it.")
    if standing(document)["labelled_by"] == user.name and not user.may("admin"):
        raise NotAllowed(f"The labels of image {image} are your own; somebody else has to review them.")
    if comment is not None and len(comment) > MAX_COMMENT:
        raise BadQuery(f"a comment has at most {MAX_COMMENT} characters, not {len(comment)}")
    at = _now()
    fields = {
        "at": at,
        "comment": comment,
        "stage": "accepted" if accept else "rejected",
        "attention": DONE if accept else UNCERTAIN,
        "reviewed_by": user.name,
        "reviewed_at": at,
        "review_comment": comment,
    }
    decided = _decide(store, document, user, "review", fields)
    return Outcome(decided or _refuse(store, image, seen))


def undo(context: Context, user: User, image: UUID, visible_to: str | None = None) -> Outcome:
    """Take back one's own last decision on an image, and what it did to near-duplicates; again, the one before that.

    Raises UnknownImage, and Conflict where somebody else decided since, or there is nothing to take back.
    """
    store = context.annotations
    document = _known(store, image)
    undone = _own_last(store, document, user)
    if undone is None:
        last = store.decision(image, revision(document))
        why = f"{last['by']} decided on it last" if last and last["by"] != user.name else "nothing is left"
        raise Conflict(f"You have nothing to undo on image {image}: {why}.", _current(document, [last] if last else []))
    at = _now()
    decided = _undo(store, document, user, undone, at) or _refuse(store, image, revision(document))
    changed, conflicts = [], []
    for mate in _near_duplicates(context, document, visible_to) if undone["group"] else []:
        now = _known(store, mate["_id"])
        same = _own_last(store, now, user)
        if same is None or same["at"] != undone["at"]:
            continue
        if _undo(store, now, user, same, at):
            changed.append(mate["_id"])
        else:
            conflicts.append(_told(store, mate["_id"], revision(now)))
    return Outcome(decided, changed, conflicts)


def set_gold(context: Context, user: User, image: UUID, said: Said | None) -> Document | None:
    """Note what is right about an image, to measure annotators against; None takes it out of the gold set again."""
    if said is None:
        context.annotations.set_gold(image, None)
        return None
    said = said.checked()
    gold = {"labels": said.labels, "boxes": said.boxes, "by": user.name, "at": _now()}
    context.annotations.set_gold(image, gold)
    return gold


def _spread(store: Annotations, decided: Document, mates: list[Document], user: User, fields: Document) -> Outcome:
    """Decide on near-duplicates as on the image itself, each at its own revision."""
    changed, conflicts = [], []
    for mate in mates:
        document = _known(store, mate["_id"])
        seen = revision(document)
        if set(document["labels"]) == set(fields["labels"]):
            continue
        own = {**fields, "boxes": standing(document)["boxes"]}
        if not _anothers(document, user) and _decide(store, document, user, "label", own):
            changed.append(mate["_id"])
        else:
            # What was there before theirs tells the two apart.
            conflicts.append(_told(store, mate["_id"], max(seen - 1, 0)))
    return Outcome(decided, changed, conflicts)


def _decide(store: Annotations, document: Document, user: User, kind: Kind, fields: Document) -> Document | None:
    """The image's document after a decision that sets these fields; None where somebody else was faster."""
    before = standing(document)
    decision = {
        "_id": uuid4(),
        "image": document["_id"],
        "revision": revision(document) + 1,
        "by": user.name,
        "kind": kind,
        "comment": None,
        "suggested": False,
        "unsure": False,
        "group": None,
        "before": before,
        **before,
        **fields,
    }
    return {**document, **after(decision)} if store.decide(decision) else None


def _labelled(user: User, said: Said, contradicted: bool) -> Document:
    at = _now()
    attention = UNCERTAIN if said.unsure or contradicted else DONE
    nothing = not said.labels and not said.boxes
    return {
        **_words(said, at),
        "stage": "unlabelled" if nothing else "labelled",
        "attention": UNLABELLED if nothing else attention,
        "labelled_by": user.name,
        "labelled_at": at,
        "reviewed_by": None,
        "reviewed_at": None,
        "review_comment": None,
    }


def _opinion(document: Document, said: Said) -> Document:
    """A second opinion changes no more than whether the image needs a look: by who labelled it, or by a third."""
    now = standing(document)
    # A pair of different labels may lie over each other, so their places alone do not say it all.
    same_boxes = match_boxes(now["boxes"], said.boxes).unmatched == 0
    if _differ(document, said) or not same_boxes:
        attention = DISAGREEING
    elif said.unsure and now["attention"] == DONE:
        attention = UNCERTAIN
    else:
        attention = now["attention"]
    return {**_words(said, _now()), "attention": attention}


def _words(said: Said, at: datetime) -> Document:
    words = {"labels": list(said.labels), "boxes": list(said.boxes), "suggested": said.suggested, "unsure": said.unsure}
    return {"at": at, **words}


def _undo(store: Annotations, document: Document, user: User, undone: Document, at: datetime) -> Document | None:
    fields = {**undone["before"], "at": at, "undoes": undone["revision"], "group": undone["group"]}
    return _decide(store, document, user, "undo", fields)


def _own_last(store: Annotations, document: Document, user: User) -> Document | None:
    """The user's last decision on an image that is not taken back yet, if nobody else decided since."""
    number = revision(document)
    while number and (decision := store.decision(document["_id"], number)) and decision["by"] == user.name:
        if decision["kind"] != "undo":
            return decision
        number = decision["undoes"] - 1
    return None


def _near_duplicates(context: Context, document: Document, visible_to: str | None) -> list[Document]:
    """The other living images of a group, as far as the user may see them."""
    group = document.get("group")
    found = context.catalog.members([group], visible_to) if group else []
    return [mate for mate in found if mate["_id"] != document["_id"]]


def _anothers(document: Document, user: User) -> bool:
    """Whether somebody else decided what stands there now."""
    return bool({document.get("labelled_by"), document.get("reviewed_by")} - {None, user.name})


def _differ(document: Document, said: Said) -> bool:
    return set(document["labels"]) != set(said.labels)


def _known(store: Annotations, image: UUID) -> Document:
    document = store.image(image)
    if document is None:
        raise UnknownImage(f"There is no image {image} in the collection.")
    return document


def _seen(store: Annotations, image: UUID, seen: int) -> Document:
    """The document of an image, if its revision is the one that the user saw. Raises Conflict."""
    document = _known(store, image)
    if revision(document) != seen:
        _refuse(store, image, seen)
    return document


def _refuse(store: Annotations, image: UUID, seen: int) -> NoReturn:
    current = _told(store, image, seen)
    who = ", ".join(dict.fromkeys(decision["by"] for decision in current["decisions"]))
    what = f"was decided on by {who} meanwhile" if who else f"has no revision {seen}"
    raise Conflict(
        f"Image {image} {what}, so nothing was saved. Look at what it has now, and save again with revision "
        f"{current['revision']}.",
        current,
    )


def _told(store: Annotations, image: UUID, seen: int) -> dict[str, Any]:
    return _current(_known(store, image), store.since(image, seen, TOLD))


def _current(document: Document, decisions: Sequence[Document]) -> dict[str, Any]:
    """What an image has now; what it had before the first of these decisions; and who decided what, when."""
    before = standing(decisions[0]["before"] if decisions else document)
    told = ("revision", "by", "at", "kind", "labels", "boxes", "comment")
    return {
        "image": document["_id"],
        "revision": revision(document),
        **standing(document),
        "before": {"labels": before["labels"], "boxes": before["boxes"]},
        "decisions": [{name: decision[name] for name in told} for decision in decisions],
    }


def _now() -> datetime:
    """Now, as exactly as the catalogue keeps it."""
    now = datetime.now(UTC)
    return now.replace(microsecond=now.microsecond // 1000 * 1000)

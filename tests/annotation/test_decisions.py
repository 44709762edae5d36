"""Decisions on a real catalogue: nobody's is lost, whoever comes at the same moment, whatever dies in between."""

import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise
from typing import Any
from uuid import UUID, uuid4

import pytest

from pipeline.accounts.users import User
from pipeline.annotation import decisions
from pipeline.annotation.decisions import DISAGREEING, DONE, UNCERTAIN, UNLABELLED, Outcome
from pipeline.annotation.said import Said
from pipeline.context import Context
from pipeline.errors import BadQuery, Conflict, NotAllowed, UnknownImage
from pipeline.events import ImageEvent
from pipeline.stores.annotations import Annotations

from .conftest import ADA, ANN, BOB, CLEO, Images, person

BOX = {"id": "b", "label": "logo", "x": 0.25, "y": 0.5, "width": 0.5, "height": 0.25}


def say(context: Context, user: User, image: UUID, seen: int, *labels: str, **more: Any) -> Outcome:
    how = {name: more.pop(name) for name in ("boxes", "suggested", "unsure") if name in more}
    return decisions.label(context, user, image, seen, Said(labels, **how), **more)


def at(context: Context, image: UUID) -> dict[str, Any]:
    """What everybody else reads of an image."""
    return context.catalog.find([image])[image]


def revisions(context: Context, image: UUID) -> list[int]:
    return [one["revision"] for one in context.annotations.history(image, 200)]


def test_a_decision_is_on_the_image_and_in_its_history(context: Context, images: Images) -> None:
    [image] = images(1, label="from-the-producer")
    say(context, ANN, image, 0, "jazz", " caf\u0065\u0301 ", "jazz", boxes=[BOX])
    now = at(context, image)
    assert (now["labels"], now["boxes"], now["revision"]) == (["jazz", "caf\u00e9"], [BOX], 1)
    assert (now["stage"], now["attention"], now["labelled_by"]) == ("labelled", DONE, "ann")
    [decision] = context.annotations.history(image, 10)
    assert (decision["by"], decision["kind"], decision["labels"]) == ("ann", "label", ["jazz", "caf\u00e9"])
    assert decision["before"]["labels"] == ["from-the-producer"]
    assert decision["at"] == now["labelled_at"]


def test_the_second_of_two_learns_what_changed_and_overwrites_nothing(context: Context, images: Images) -> None:
    [image] = images(1)
    say(context, ANN, image, 0, "jazz")
    say(context, ANN, image, 1, "jazz", "live", boxes=[BOX])
    with pytest.raises(Conflict, match=r"ann meanwhile.*revision 2") as refused:
        say(context, BOB, image, 1, "soul")
    told = refused.value.current
    assert (told["labels"], told["boxes"], told["revision"]) == (["jazz", "live"], [BOX], 2)
    assert told["before"] == {"labels": ["jazz"], "boxes": []}
    [since] = told["decisions"]
    assert (since["revision"], since["by"], since["labels"]) == (2, "ann", ["jazz", "live"])
    assert at(context, image)["labels"] == ["jazz", "live"]
    assert revisions(context, image) == [2, 1]
    # With what he was told, he can merge.
    say(context, BOB, image, told["revision"], *told["labels"], "soul", boxes=told["boxes"])
    assert at(context, image)["labels"] == ["jazz", "live", "soul"]


def test_twenty_at_once_leave_a_history_without_gaps(context: Context, images: Images) -> None:
    [image] = images(1)

    def until_saved(number: int) -> int:
        seen = refused = 0
        while True:
            try:
                say(context, person(f"user{number}"), image, seen, f"label-{number}")
                return refused
            except Conflict as conflict:
                seen, refused = conflict.current["revision"], refused + 1

    with ThreadPoolExecutor(20) as threads:
        refused = sum(threads.map(until_saved, range(20)))
    assert refused > 0
    history = context.annotations.history(image, 100)
    assert [one["revision"] for one in history] == list(range(20, 0, -1))
    assert {one["by"] for one in history} == {f"user{number}" for number in range(20)}
    # Each saw what the one before left.
    for newer, older in pairwise(history):
        assert newer["before"]["labels"] == older["labels"]
    assert (at(context, image)["labels"], at(context, image)["revision"]) == (history[0]["labels"], 20)


def test_labels_that_are_added_at_once_are_all_there(context: Context, images: Images) -> None:
    [image] = images(1)
    names = [f"label-{number}" for number in range(12)]
    with ThreadPoolExecutor(12) as threads:
        list(threads.map(lambda name: decisions.add_label(context, ANN, image, name), names))
    assert sorted(at(context, image)["labels"]) == sorted(names)
    assert decisions.add_label(context, ANN, image, "label-3").image["revision"] == 12


KILLED = """
import os, signal, sys
from uuid import UUID
from pipeline.annotation import decisions
from pipeline.annotation.said import Said
from pipeline.context import Context
from pipeline.settings import Settings
from pipeline.stores.annotations import Annotations
from tests.annotation.conftest import ANN

Annotations._write = lambda self, decision: os.kill(os.getpid(), signal.SIGKILL)
decisions.label(Context(Settings()), ANN, UUID(sys.argv[1]), 0, Said(["jazz"]))
"""


def test_a_kill_between_the_two_writes_loses_nothing(environment: Context, images: Images) -> None:
    image, other = images(2)
    for one in (image, other):
        ended = subprocess.run([sys.executable, "-c", KILLED, str(one)], timeout=120)
        assert ended.returncode == -9
        assert (at(environment, one)["labels"], at(environment, one)["revision"]) == ([], 0)
    # Whoever reads finds it.
    healed = environment.annotations.image(image)
    assert healed
    assert (healed["labels"], healed["revision"], healed["labelled_by"]) == (["jazz"], 1, "ann")
    assert at(environment, image) == healed
    # Whoever decides next, as if it had not been, is told.
    with pytest.raises(Conflict) as refused:
        say(environment, BOB, other, 0, "soul")
    assert refused.value.current["labels"] == ["jazz"]
    say(environment, BOB, other, 1, "soul")
    assert at(environment, other)["labels"] == ["soul"]
    assert revisions(environment, other) == [2, 1]


def test_a_late_writer_takes_nothing_back(context: Context, images: Images, monkeypatch: pytest.MonkeyPatch) -> None:
    [image] = images(1)
    written, late = Annotations._write, []
    monkeypatch.setattr(Annotations, "_write", lambda self, decision: late.append(decision))
    say(context, ANN, image, 0, "jazz")
    monkeypatch.setattr(Annotations, "_write", written)
    say(context, BOB, image, 1, "soul")
    written(context.annotations, late[0])
    assert (at(context, image)["labels"], at(context, image)["revision"]) == (["soul"], 2)


def test_an_image_of_before_revisions_can_be_decided_on(context: Context, images: Images) -> None:
    [image] = images(1)
    gone = dict.fromkeys(("revision", "boxes", "attention", "stage"), "")
    context.catalog.images.update_one({"_id": image}, {"$unset": gone})
    say(context, ANN, image, 0, "jazz")
    assert (at(context, image)["labels"], at(context, image)["revision"]) == (["jazz"], 1)
    decisions.undo(context, ANN, image)
    assert (at(context, image)["labels"], at(context, image)["stage"]) == ([], "unlabelled")


def test_events_that_come_again_do_not_change_what_people_said(context: Context) -> None:
    event = ImageEvent("photos", "a.jpg", "etag", label="from-the-producer")
    context.catalog.register([event])
    [image] = context.catalog.images.distinct("_id")
    assert at(context, image)["labels"] == ["from-the-producer"]
    say(context, ANN, image, 0, "jazz")
    context.catalog.register([event, ImageEvent("photos", "a.jpg", "etag", label="another")])
    assert (at(context, image)["labels"], at(context, image)["revision"]) == (["jazz"], 1)


def test_undo_goes_back_step_by_step_and_only_over_own_decisions(context: Context, images: Images) -> None:
    [image] = images(1)
    say(context, BOB, image, 0, "soul")
    decisions.review(context, ANN, image, 1, accept=False, comment="no")
    say(context, ANN, image, 2, "jazz", boxes=[BOX])
    say(context, ANN, image, 3, "folk")
    now = decisions.undo(context, ANN, image).image
    assert (now["labels"], now["boxes"], now["revision"]) == (["jazz"], [BOX], 5)
    now = decisions.undo(context, ANN, image).image
    assert (now["labels"], now["stage"], now["review_comment"]) == (["soul"], "rejected", "no")
    now = decisions.undo(context, ANN, image).image
    assert (now["stage"], now["labelled_by"], now["reviewed_by"], now["attention"]) == ("labelled", "bob", None, DONE)
    with pytest.raises(Conflict, match="nothing is left"):
        decisions.undo(context, ANN, image)
    assert {name: at(context, image)[name] for name in now if name not in ("updated_at", "decided_by")} == {
        name: now[name] for name in now if name not in ("updated_at", "decided_by")
    }
    say(context, ANN, image, 7, "jazz")
    say(context, BOB, image, 8, "soul")
    with pytest.raises(Conflict, match="bob decided on it last") as refused:
        decisions.undo(context, ANN, image)
    assert refused.value.current["labels"] == ["soul"]
    assert at(context, image)["revision"] == 9


def test_nobody_reviews_their_own_labels_but_admins(context: Context, images: Images) -> None:
    image, bare = images(2)
    with pytest.raises(BadQuery, match="no labels yet"):
        decisions.review(context, BOB, bare, 0, accept=True)
    say(context, ANN, image, 0, "jazz")
    with pytest.raises(NotAllowed, match="your own"):
        decisions.review(context, ANN, image, 1, accept=True)
    with pytest.raises(Conflict):
        decisions.review(context, BOB, image, 0, accept=True)
    decisions.review(context, BOB, image, 1, accept=False, comment="that is soul")
    now = at(context, image)
    assert (now["stage"], now["attention"], now["reviewed_by"]) == ("rejected", UNCERTAIN, "bob")
    assert (now["review_comment"], now["labels"]) == ("that is soul", ["jazz"])
    # New labels want a new review.
    say(context, ANN, image, 2, "soul")
    assert (at(context, image)["stage"], at(context, image)["reviewed_by"]) == ("labelled", None)
    decisions.review(context, BOB, image, 3, accept=True)
    assert (at(context, image)["stage"], at(context, image)["attention"]) == ("accepted", DONE)
    say(context, ADA, bare, 0, "folk")
    assert decisions.review(context, ADA, bare, 1, accept=True).image["stage"] == "accepted"


def test_what_wants_another_look(context: Context, images: Images) -> None:
    [image] = images(1)
    assert say(context, ANN, image, 0, "jazz", unsure=True).image["attention"] == UNCERTAIN
    assert say(context, ANN, image, 1, "jazz").image["attention"] == DONE
    assert say(context, BOB, image, 2, "jazz", kind="opinion").image["attention"] == DONE
    assert say(context, BOB, image, 3, "soul", kind="opinion").image["attention"] == DISAGREEING
    # An opinion is no decision about the labels; who sees both decides.
    assert at(context, image)["labels"] == ["jazz"]
    assert at(context, image)["labelled_by"] == "ann"
    assert say(context, CLEO, image, 4, "soul").image["attention"] == DONE
    assert at(context, image)["labels"] == ["soul"]
    nothing = say(context, CLEO, image, 5).image
    assert (nothing["attention"], nothing["stage"]) == (UNLABELLED, "unlabelled")


def test_an_opinion_with_other_boxes_disagrees(context: Context, images: Images) -> None:
    [image] = images(1)
    say(context, ANN, image, 0, boxes=[BOX])
    near, far = {**BOX, "x": 0.3}, {**BOX, "x": 0.49}
    assert say(context, BOB, image, 1, boxes=[near], kind="opinion").image["attention"] == DONE
    assert say(context, CLEO, image, 2, boxes=[far], kind="opinion").image["attention"] == DISAGREEING


def test_an_opinion_on_nothing_is_the_first_labelling(context: Context, images: Images) -> None:
    [image] = images(1)
    say(context, ANN, image, 0, "jazz", kind="opinion")
    assert (at(context, image)["labels"], at(context, image)["labelled_by"]) == (["jazz"], "ann")


def test_one_decision_for_a_group_leaves_alone_what_others_said(context: Context, images: Images) -> None:
    group = uuid4()
    first, second, with_box, producers, bobs, same, private = images(7, group=group)
    context.catalog.images.update_one({"_id": producers}, {"$set": {"labels": ["record"], "stage": "labelled"}})
    context.catalog.images.update_one({"_id": private}, {"$set": {"private": True, "owner": "bob"}})
    say(context, BOB, bobs, 0, "soul")
    say(context, BOB, same, 0, "jazz")
    say(context, ANN, with_box, 0, "folk", boxes=[BOX])
    done = say(context, ANN, first, 0, "jazz", group=True, visible_to="ann")
    assert set(done.changed) == {second, with_box, producers}
    [conflict] = done.conflicts
    assert (conflict["image"], conflict["labels"], conflict["decisions"][0]["by"]) == (bobs, ["soul"], "bob")
    assert [at(context, one)["labels"] for one in (first, second, with_box, producers)] == [["jazz"]] * 4
    assert at(context, with_box)["boxes"] == [BOX]
    assert (at(context, bobs)["labels"], at(context, bobs)["revision"]) == (["soul"], 1)
    assert at(context, same)["revision"] == 1
    assert (at(context, private)["labels"], at(context, private)["revision"]) == ([], 0)
    # Bob's copy says otherwise, so somebody should look.
    assert at(context, first)["attention"] == UNCERTAIN
    assert context.annotations.history(second, 1)[0]["group"] == group

    say(context, BOB, second, 1, "blues")
    undone = decisions.undo(context, ANN, first, "ann")
    assert set(undone.changed) == {with_box, producers}
    assert [at(context, one)["labels"] for one in (first, with_box, producers)] == [[], ["folk"], ["record"]]
    assert at(context, second)["labels"] == ["blues"]


def test_a_group_member_that_somebody_takes_at_that_moment_is_reported(
    context: Context, images: Images, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, second = images(2, group=uuid4())
    decide = Annotations.decide

    def bob_is_faster(self: Annotations, decision: dict[str, Any]) -> bool:
        if decision["image"] == second and decision["by"] == "ann":
            monkeypatch.setattr(Annotations, "decide", decide)
            say(context, BOB, second, 0, "soul")
        return decide(self, decision)

    monkeypatch.setattr(Annotations, "decide", bob_is_faster)
    done = say(context, ANN, first, 0, "jazz", group=True)
    assert (done.changed, [one["image"] for one in done.conflicts]) == ([], [second])
    assert (at(context, first)["labels"], at(context, second)["labels"]) == (["jazz"], ["soul"])


def test_contradicting_a_near_duplicate_is_uncertain(context: Context, images: Images) -> None:
    first, second, _ = images(3, group=uuid4())
    assert say(context, ANN, first, 0, "jazz").image["attention"] == DONE
    assert say(context, BOB, second, 0, "soul").image["attention"] == UNCERTAIN
    assert say(context, BOB, second, 1, "jazz").image["attention"] == DONE


def test_history_comes_in_pages(context: Context, images: Images) -> None:
    [image] = images(1)
    for number in range(7):
        say(context, ANN, image, number, f"label-{number}")
    first = context.annotations.history(image, 3)
    second = context.annotations.history(image, 3, first[-1]["revision"])
    last = context.annotations.history(image, 3, second[-1]["revision"])
    assert [[one["revision"] for one in page] for page in (first, second, last)] == [[7, 6, 5], [4, 3, 2], [1]]


@pytest.mark.parametrize(
    ("said", "why"),
    [
        (Said([" "]), "1 to 200 characters"),
        (Said(["x" * 201]), "has 201"),
        (Said(["two\nlines"]), "line break"),
        (Said(["\ud800"]), "control character"),
        (Said([str(number) for number in range(101)]), "at most 100 labels"),
        (Said([], [BOX, BOX]), "same id"),
        (Said([], [{**BOX, "id": ""}] * 1001), "at most 1000 boxes"),
        (Said([], [{**BOX, "x": 0.51}]), "box 0 must lie in the picture"),
        (Said([], [BOX, {**BOX, "id": "c", "y": -0.1}]), "box 1 must lie in the picture"),
        (Said([], [{**BOX, "width": 0.0}]), "box 0"),
        (Said([], [{**BOX, "width": float("nan")}]), "box 0"),
        (Said([], [{**BOX, "label": ""}]), "1 to 200 characters"),
    ],
)
def test_what_cannot_be_said_is_refused_in_a_sentence(said: Said, why: str) -> None:
    with pytest.raises(BadQuery, match=why):
        said.checked()


def test_boxes_without_an_id_get_one() -> None:
    boxes = Said([], [{**BOX, "id": ""}] * 1000).checked().boxes
    assert len({box["id"] for box in boxes}) == 1000


def test_an_image_that_is_not_there(context: Context) -> None:
    with pytest.raises(UnknownImage, match="no image"):
        say(context, ANN, uuid4(), 0, "jazz")

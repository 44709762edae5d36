"""Agreement against tables of the literature and boxes measured by hand."""

from typing import Any
from uuid import UUID

import pytest

from pipeline.accounts.users import User
from pipeline.annotation import agreement, decisions
from pipeline.annotation.agreement import cohen_kappa, independent, match_boxes
from pipeline.annotation.said import Box, Said
from pipeline.context import Context

from .conftest import ADA, ANN, BOB, CLEO, Images


def chosen(*rows: str) -> list[tuple[int, int]]:
    """The pairs of choices that a table counts: rows are one judge's categories, columns the other's."""
    table = [[int(count) for count in row.split()] for row in rows]
    return [(i, j) for i, row in enumerate(table) for j, count in enumerate(row) for _ in range(count)]


# Fleiss, Levin, Paik, Statistical Methods for Rates and Proportions, chapter 18: two raters put 100 subjects down as
# psychotic, neurotic or organic.
FLEISS = chosen("75 1 4", "5 4 1", "0 0 10")


def test_kappa_of_tables_in_the_literature() -> None:
    # (0.89 - 0.66) / 0.34, in the book 0.68
    assert cohen_kappa(FLEISS) == pytest.approx(0.23 / 0.34)
    of_one = [cohen_kappa([(i == k, j == k) for i, j in FLEISS]) for k in range(3)]
    # In the book 0.69, 0.50 and 0.77.
    assert of_one == pytest.approx([0.22 / 0.32, 0.07 / 0.14, 0.17 / 0.22])
    # The examples of https://en.wikipedia.org/wiki/Cohen%27s_kappa; the last two agree on as many.
    assert cohen_kappa(chosen("20 5", "10 15")) == pytest.approx(0.4)
    assert cohen_kappa(chosen("45 15", "25 15")) == pytest.approx(0.06 / 0.46)
    assert cohen_kappa(chosen("25 35", "5 35")) == pytest.approx(0.14 / 0.54)


def test_kappa_at_its_ends() -> None:
    assert cohen_kappa(chosen("5 0", "0 5")) == 1
    assert cohen_kappa(chosen("0 5", "5 0")) == -1
    assert cohen_kappa(chosen("1 1", "1 1")) == 0
    assert cohen_kappa([]) is None
    # Both always say the same: chance agrees as well.
    assert cohen_kappa(chosen("9 0", "0 0")) is None
    # One always says the same, the other does not: no better than chance.
    assert cohen_kappa(chosen("5 5", "0 0")) == 0


def box(x: float, y: float, width: float, height: float, label: str = "a") -> Box:
    return {"id": f"{x},{y},{label}", "label": label, "x": x, "y": y, "width": width, "height": height}


def test_boxes_are_matched_best_first_and_once() -> None:
    half = box(0, 0, 0.4, 0.4)
    # 0.4 x 0.3 of 0.4 x 0.5 and 0.4 x 0.35 of 0.4 x 0.45
    low, closer = box(0, 0.1, 0.4, 0.4), box(0, 0.05, 0.4, 0.4)
    assert match_boxes([half], [low]).ious == pytest.approx([0.3 / 0.5])
    matched = match_boxes([half], [low, closer])
    assert matched.ious == pytest.approx([0.35 / 0.45])
    assert matched.unmatched == 1
    # 0.1 x 0.4 in common is a seventh of the union.
    assert match_boxes([half], [box(0.3, 0, 0.4, 0.4)]) == ([], 2)
    assert match_boxes([half], [box(0, 0, 0.4, 0.4, "b")]) == ([], 2)
    assert match_boxes([half], [box(0.6, 0.6, 0.4, 0.4)]) == ([], 2)
    # Exactly one half counts.
    assert match_boxes([box(0, 0, 0.5, 0.5)], [box(0, 0, 0.5, 0.25)]).ious == [0.5]
    both = [half, box(0.5, 0.5, 0.25, 0.25, "b")]
    assert match_boxes(both, both, "b") == ([1], 0)
    assert match_boxes([], []) == ([], 0)
    assert match_boxes(both, []) == ([], 2)


def test_a_thousand_boxes_are_matched() -> None:
    many = [box(x / 40, y / 25, 1 / 40, 1 / 25) for x in range(40) for y in range(25)]
    matched = match_boxes(many, many[::-1])
    assert (len(matched.ious), matched.unmatched, min(matched.ious)) == (1000, 0, pytest.approx(1))


def say(context: Context, user: User, image: UUID, *labels: str, boxes: tuple[Box, ...] = (), **more: Any) -> None:
    document = context.annotations.image(image)
    assert document
    decisions.label(context, user, image, document["revision"], Said(labels, boxes), **more)


def said(context: Context, image: UUID) -> dict[str, list[str]]:
    [(_, history)] = context.annotations.histories([image])
    return {by: view["labels"] for by, view in independent(history).items()}


def test_what_somebody_said_without_seeing_what_another_said(context: Context, images: Images) -> None:
    image, labelled = images(1) + images(1, label="from-a-producer")
    say(context, ANN, image, "jazz")
    say(context, BOB, image, "soul")
    assert said(context, image) == {"ann": ["jazz"]}
    # Ann has seen Bob's now.
    say(context, ANN, image, "funk")
    assert said(context, image) == {"ann": ["jazz"]}
    say(context, CLEO, image, "blues", kind="opinion")
    say(context, CLEO, image, "folk", kind="opinion")
    assert said(context, image) == {"ann": ["jazz"], "cleo": ["folk"]}
    decisions.undo(context, CLEO, image)
    assert said(context, image) == {"ann": ["jazz"], "cleo": ["blues"]}
    say(context, ANN, labelled, "jazz")
    assert said(context, labelled) == {}


def test_corrections_and_undone_labels(context: Context, images: Images) -> None:
    [image] = images(1)
    say(context, ANN, image, "jazz")
    say(context, ANN, image, "soul")
    assert said(context, image) == {"ann": ["soul"]}
    decisions.undo(context, ANN, image)
    assert said(context, image) == {"ann": ["jazz"]}
    say(context, ANN, image, "funk")
    assert said(context, image) == {"ann": ["funk"]}
    decisions.undo(context, ANN, image)
    decisions.undo(context, ANN, image)
    assert said(context, image) == {}
    say(context, BOB, image, "folk")
    assert said(context, image) == {"bob": ["folk"]}
    say(context, CLEO, image, "pop", kind="import")
    assert said(context, image) == {"bob": ["folk"]}


def test_agreement_of_pairs_and_with_the_gold_set(context: Context, images: Images) -> None:
    # Ann and Bob choose as in the table of 50 proposals: kappa is 0.4.
    pairs = chosen("20 5", "10 15")
    names = ("yes", "no")
    right = box(0, 0, 0.5, 0.5, "logo")
    near = box(0, 0, 0.5, 0.4, "logo")
    ids = images(len(pairs))
    for image, (anns, bobs) in zip(ids, pairs, strict=True):
        say(context, ANN, image, names[anns], boxes=(right,))
        say(context, BOB, image, names[bobs], boxes=(near,), kind="opinion")
    for image in ids[:4]:
        decisions.set_gold(context, ADA, image, Said(["yes"], [right]))
    # The first four are those to which both said yes; what nobody gave an opinion on says nothing of agreement.
    [alone] = images(1)
    say(context, CLEO, alone, "yes")
    found = agreement.agreement(context)
    [pair] = found["pairs"]
    assert pair["annotators"] == ["ann", "bob"]
    assert (pair["images"], pair["same"], pair["kappa"]) == (50, 0.7, pytest.approx(0.4))
    assert (pair["iou"], pair["boxes"], pair["unmatched"]) == (pytest.approx(0.8), 50, 0)
    assert {name: measures["kappa"] for name, measures in pair["labels"].items()} == {
        "yes": pytest.approx(0.4),
        "no": pytest.approx(0.4),
        "logo": None,
    }
    assert pair["labels"]["logo"]["boxes"] == 50
    assert pair["labels"]["yes"]["boxes"] == 0
    assert found["kappa"] == pytest.approx(0.4)
    scores = {one["annotator"]: (one["images"], one["same"], one["iou"]) for one in found["gold"]}
    assert scores == {"ann": (4, 1, pytest.approx(1)), "bob": (4, 1, pytest.approx(0.8))}


def test_nobody_has_said_anything(context: Context) -> None:
    assert agreement.agreement(context) == {"kappa": None, "pairs": [], "gold": []}

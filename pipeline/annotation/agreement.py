"""How well annotators agree: with each other where neither saw what the other said, and with the gold set."""

from collections import Counter, defaultdict
from collections.abc import Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import combinations
from statistics import fmean
from typing import Any, NamedTuple
from uuid import UUID

import numpy as np
from numpy.typing import NDArray

from pipeline.annotation.said import Box
from pipeline.context import Context
from pipeline.stores.catalog import Document

# Two boxes with less of their union in common are not about the same object.
MIN_IOU = 0.5
View = Mapping[str, Any]
"""What somebody says about an image: {"labels": [...], "boxes": [...]}."""


class Matched(NamedTuple):
    """Boxes of two people on one image."""

    ious: list[float]
    """Of the pairs that are about the same object, the best first."""
    unmatched: int
    """Boxes of either that the other has not."""


def cohen_kappa(pairs: Iterable[tuple[Hashable, Hashable]]) -> float | None:
    """Agreement of two people beyond chance: (p_o - p_e) / (1 - p_e), for each item the categories that they chose.

    p_o is the share of items on which they agree; p_e the share on which they would if each chose as often as they do,
    but at random. 1 is full agreement, 0 what chance gives. None where that says nothing: no items, or both chose one
    and the same category for all of them, so that chance could not have done worse.

    Cohen, A coefficient of agreement for nominal scales, Educational and Psychological Measurement 20 (1960), 37-46.
    """
    table = Counter(pairs)
    items = table.total()
    first, second = Counter[Hashable](), Counter[Hashable]()
    for (one, other), count in table.items():
        first[one] += count
        second[other] += count
    # In whole numbers, so that full agreement by chance is told apart from nearly that.
    by_chance = sum(count * second[category] for category, count in first.items())
    agreed = sum(count for (one, other), count in table.items() if one == other)
    return None if by_chance == items * items else (agreed * items - by_chance) / (items * items - by_chance)


def match_boxes(one: Sequence[Box], other: Sequence[Box], label: str | None = None) -> Matched:
    """Pairs of boxes with the same label, of `label` alone where one is given, each box in one pair at most.

    Greedy: of all pairs, the one with the largest intersection over union first, as long as that is MIN_IOU.
    """
    ours, theirs = ([box for box in boxes if label in (None, box["label"])] for boxes in (one, other))
    ious = _ious(ours, theirs)
    if len(ours) and len(theirs):
        labels = [np.array([box["label"] for box in boxes], dtype=object) for boxes in (ours, theirs)]
        ious = np.where(labels[0][:, None] == labels[1], ious, 0)
    rows, columns = np.nonzero(ious >= MIN_IOU)
    found: list[float] = []
    taken: tuple[set[int], set[int]] = (set(), set())
    for place in np.argsort(-ious[rows, columns], kind="stable"):
        row, column = int(rows[place]), int(columns[place])
        if row not in taken[0] and column not in taken[1]:
            taken[0].add(row)
            taken[1].add(column)
            found.append(float(ious[row, column]))
    return Matched(found, len(ours) + len(theirs) - 2 * len(found))


def _ious(one: Sequence[Box], other: Sequence[Box]) -> NDArray[np.float64]:
    """(len(one), len(other)): intersection over union of the boxes."""
    a, b = (
        np.array([[box["x"], box["y"], box["width"], box["height"]] for box in boxes], np.float64).reshape(-1, 4)
        for boxes in (one, other)
    )
    low = np.maximum(a[:, None, :2], b[None, :, :2])
    high = np.minimum(a[:, None, :2] + a[:, None, 2:], b[None, :, :2] + b[None, :, 2:])
    both = np.clip(high - low, 0, None).prod(axis=2)
    return np.asarray(both / (a[:, None, 2:].prod(axis=2) + b[None, :, 2:].prod(axis=2) - both), np.float64)


@dataclass
class Compared:
    """What two sides said about the same images."""

    views: list[tuple[View, View]] = field(default_factory=list)

    def summary(self) -> dict[str, Any]:
        """{images, same, kappa, iou, boxes, unmatched, labels}: over all labels, and the same for each label.

        `same` is the share of images with equal labels; `kappa` takes the set of labels as the category, and for a
        single label whether the image has it. `iou` is the mean over matched boxes, None without any; `boxes` counts
        the pairs, `unmatched` the boxes that only one side has.
        """
        sets = [(frozenset(one["labels"]), frozenset(other["labels"])) for one, other in self.views]
        used = sorted({label for pair in sets for label in pair[0] | pair[1]} | self._box_labels())
        return {
            **self._measure(sets, None),
            "labels": {
                label: self._measure([(label in one, label in other) for one, other in sets], label) for label in used
            },
        }

    def _box_labels(self) -> set[str]:
        return {box["label"] for pair in self.views for view in pair for box in view["boxes"]}

    def _measure(self, pairs: Sequence[tuple[Hashable, Hashable]], label: str | None) -> dict[str, Any]:
        matched = [match_boxes(one["boxes"], other["boxes"], label) for one, other in self.views]
        ious = [iou for one in matched for iou in one.ious]
        return {
            "images": len(pairs),
            "same": fmean(one == other for one, other in pairs) if pairs else None,
            "kappa": cohen_kappa(pairs),
            "iou": fmean(ious) if ious else None,
            "boxes": len(ious),
            "unmatched": sum(one.unmatched for one in matched),
        }


def independent(history: Sequence[Document]) -> dict[str, Document]:
    """Of all decisions on one image, in their order: the latest of each person that nobody else's labels stood behind.

    Those are second opinions, given blind; the first labels; and corrections of these by the same person. What was
    undone was not said.
    """
    said: defaultdict[str, list[Document]] = defaultdict(list)
    labelled: list[int] = []
    for decision in history:
        mine, shown = said[decision["by"]], labelled[-1] if labelled else None
        if decision["kind"] == "opinion":
            mine.append(decision)
        elif decision["kind"] in ("label", "import"):
            own = bool(mine) and mine[-1]["revision"] == shown
            blank = decision["before"]["stage"] == "unlabelled"
            if decision["kind"] == "label" and (own or blank):
                mine.append(decision)
            labelled.append(decision["revision"])
        elif decision["kind"] == "undo":
            if mine and mine[-1]["revision"] == decision["undoes"]:
                mine.pop()
            if decision["undoes"] == shown:
                labelled.pop()
    return {by: decisions[-1] for by, decisions in said.items() if decisions}


def agreement(context: Context) -> dict[str, Any]:
    """Agreement of each pair of annotators, and of each with the gold set, as `Compared.summary`.

    `kappa` at the top is the mean over the pairs (Light, Measures of response agreement for qualitative data,
    Psychological Bulletin 76 (1971), 365-377), None where no pair has any.
    """
    store = context.annotations
    gold = store.gold()
    pairs: defaultdict[tuple[str, str], Compared] = defaultdict(Compared)
    against: defaultdict[str, Compared] = defaultdict(Compared)
    images: list[UUID] = sorted(store.with_opinions() | gold.keys())
    for image, history in store.histories(images):
        said = independent(history)
        for one, other in combinations(sorted(said), 2):
            pairs[one, other].views.append((said[one], said[other]))
        if image in gold:
            for one, view in said.items():
                against[one].views.append((view, gold[image]))
    found = [{"annotators": list(names), **compared.summary()} for names, compared in sorted(pairs.items())]
    kappas = [pair["kappa"] for pair in found if pair["kappa"] is not None]
    return {
        "kappa": fmean(kappas) if kappas else None,
        "pairs": found,
        "gold": [{"annotator": name, **compared.summary()} for name, compared in sorted(against.items())],
    }

"""Imports: what a file of annotations says about images of the collection becomes decisions on them.

A record is of the image with its id or, where there is none such, of the one with its file name. What a person decided
last is not overwritten unless that is asked for. The same file again changes nothing, so an import may be cut short and
begin anew.
"""

import csv
import io
import math
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path, PurePosixPath
from tempfile import TemporaryDirectory
from uuid import UUID

from pipeline.accounts.users import User
from pipeline.annotation import decisions, formats
from pipeline.annotation.formats import Box, Format, Labelled, Problem
from pipeline.annotation.formats.csv_table import FORMULA
from pipeline.annotation.formats.yolo import PICTURES
from pipeline.annotation.said import Box as SaidBox
from pipeline.annotation.said import Said
from pipeline.context import Context
from pipeline.errors import BadQuery, BadSource, Conflict, NotAllowed, UnknownImage
from pipeline.stores.annotations import revision, standing
from pipeline.stores.catalog import Document, Filter
from pipeline.stores.jobs import Tell, result_key
from pipeline.stores.labelled import by_file_name, by_stem

CHUNK = 200
MAX_PROBLEMS = 1000
COUNTS = ("matched", "changed", "unchanged", "unknown", "conflicts", "problems")
# Pascal VOC counts in whole pixels, so an edge that moved by at most half of one did not move. The rest is arithmetic.
HALF_A_PIXEL = 0.5
ROUNDING = 1e-6


def upload_key(job: UUID) -> str:
    """Key in SLEEVE_BUCKET of the file that an import reads."""
    return f"imports/{job}"


def import_job(context: Context, job: Document, tell: Tell) -> dict[str, int]:
    """The work of a job of the kind `import`: a table of problems comes under `result_key`. Returns counts.

    Raises BadSource and NotAllowed.
    """
    user, arguments, bucket = context.users.find(job["by"]), job["arguments"], context.settings.sleeve_bucket
    if user is None or user.disabled or not user.may("annotator"):
        raise NotAllowed(f"{job['by']} may not label images any more.")
    with TemporaryDirectory(prefix="sleeve-import-") as folder:
        path = Path(folder) / "annotations"
        context.objects.download(bucket, upload_key(job["_id"]), path)
        format = arguments["format"] or formats.detect(path)
        total = _readable(format, path, tell)
        importing = Importing(context, user, arguments["visible_to"], arguments["replace"], job)
        for records in _chunks(formats.read(format, path)):
            importing.take(records)
            tell(importing.done, total)
    context.objects.put(bucket, result_key(job), importing.table(), "text/csv; charset=utf-8")
    return {name: importing.counts[name] for name in COUNTS}


def _readable(format: Format, path: Path, tell: Tell) -> int:
    """How many images the file has, if it can be read to its end: before anything is changed. Raises BadSource."""
    images, first = 0, None
    for record in formats.read(format, path):
        images += isinstance(record, Labelled)
        if isinstance(record, Problem):
            first = first or record
        tell(0, None)
    if not images and first:
        raise BadSource(f"Nothing in the file can be used. {first.where}: {first.what}")
    return images


def _chunks(records: Iterable[Labelled | Problem]) -> Iterator[list[Labelled | Problem]]:
    left = iter(records)
    while chunk := list(islice(left, CHUNK)):
        yield chunk


@dataclass
class Importing:
    """One pass through a file: what was found, done and refused so far."""

    context: Context
    user: User
    visible_to: str | None
    replace: bool
    job: Document
    counts: Counter[str] = field(default_factory=Counter)
    done: int = 0
    _problems: list[tuple[str, str]] = field(default_factory=list)
    _seen: set[UUID] = field(default_factory=set)

    def take(self, records: Sequence[Labelled | Problem]) -> None:
        """Look the images up, and decide on them one by one."""
        for problem in (one for one in records if isinstance(one, Problem)):
            self._refuse("problems", problem.where, problem.what)
        named = [one for one in records if isinstance(one, Labelled)]
        matches = _Matches(self.context, named, self.visible_to)
        for record in named:
            self.done += 1
            try:
                self._one(record, matches.of(record))
            except UnknownImage as error:
                self._refuse("unknown", record.file_name, str(error))
            except Conflict as error:
                self._refuse("conflicts", record.file_name, str(error))
            except BadQuery as error:
                self._refuse("problems", record.file_name, f"{error}; the image was left as it is")

    def _refuse(self, count: str, where: str, what: str) -> None:
        self.counts[count] += 1
        if len(self._problems) < MAX_PROBLEMS:
            self._problems.append((where, what))

    def _one(self, record: Labelled, image: UUID) -> None:
        if image in self._seen:
            raise BadQuery(f"the file speaks of image {image} more than once; the first time counts")
        self._seen.add(image)
        self.counts["matched"] += 1
        document = self.context.annotations.image(image)
        if document is None:
            raise UnknownImage(f"Image {image} was removed a moment ago.")
        said = _said(record, document).checked()
        if _same(document, said):
            self.counts["changed" if self._ours(document) else "unchanged"] += 1
            return
        self._ask(document)
        seen, visible_to = revision(document), self.visible_to
        decisions.label(self.context, self.user, image, seen, said, kind="import", visible_to=visible_to)
        self.counts["changed"] += 1

    def _ours(self, document: Document) -> bool:
        """Whether an earlier try of this job, which was cut short, decided what stands there."""
        return document.get("labelled_by") == self.user.name and document["labelled_at"] >= self.job["created_at"]

    def _ask(self, document: Document) -> None:
        """Raise Conflict where a person decided what stands there, and it is not to be replaced."""
        last = self.context.annotations.decision(document["_id"], revision(document)) if not self.replace else None
        if last is not None and last["kind"] != "import":
            labels = ", ".join(document["labels"]) or "no labels"
            raise Conflict(
                f"{last['by']} decided on it on {last['at']:%Y-%m-%d} ({labels}, {len(standing(document)['boxes'])} "
                "boxes), and the file says something else. It was left; import with `replace` to take the file's word."
            )

    def table(self) -> bytes:
        """The first problems, as CSV."""
        text = io.StringIO(newline="")
        table = csv.writer(text)
        table.writerow(("where", "problem"))
        for row in self._problems:
            # To a spreadsheet, some names are formulas.
            table.writerow(f"'{cell}" if FORMULA.match(cell) else cell for cell in row)
        return text.getvalue().encode()


class _Matches:
    """The images that some records are of."""

    def __init__(self, context: Context, records: Sequence[Labelled], visible_to: str | None) -> None:
        catalog = context.catalog
        ids = [UUID(record.image_id) for record in records if record.image_id]
        self._known = catalog.alive(ids, Filter(visible_to=visible_to))
        rest = [_name(record) for record in records if self._id(record) is None]
        self._by_name = by_file_name(catalog, rest, visible_to)
        stems = [_stem(name) for name in rest if name not in self._by_name]
        self._by_stem: Mapping[str, list[UUID]] = by_stem(catalog, stems, visible_to)

    def _id(self, record: Labelled) -> UUID | None:
        known = UUID(record.image_id) if record.image_id else None
        return known if known in self._known else None

    def of(self, record: Labelled) -> UUID:
        """Raises UnknownImage, and BadQuery where there are several."""
        if known := self._id(record):
            return known
        name = _name(record)
        found = self._by_name.get(name) or self._by_stem.get(_stem(name)) or []
        if not found:
            raise UnknownImage("There is no such image in the collection, neither by id nor by file name.")
        if len(found) > 1:
            raise BadQuery(f"{len(found)} images of the collection have this file name, so it is not clear which")
        return found[0]


def _name(record: Labelled) -> str:
    return PurePosixPath(record.file_name).name


def _stem(name: str) -> str:
    # A dot need not begin a suffix: label files from elsewhere have lost theirs already.
    path = PurePosixPath(name)
    return path.stem if path.suffix.lower() in PICTURES else name


def _said(record: Labelled, document: Document) -> Said:
    """What the record says. Formats from elsewhere have no place for labels, or for boxes: those stay then."""
    elsewhere, now = record.image_id is None, standing(document)
    labels = now["labels"] if elsewhere and not record.labels else record.labels
    boxes = now["boxes"] if elsewhere and not record.boxes else _known(record.boxes, document)
    return Said(labels, boxes)


def _known(boxes: Sequence[Box], document: Document) -> list[SaidBox]:
    """The boxes; those that the image has already as they are there, with their ids."""
    left: list[SaidBox] = list(standing(document)["boxes"])
    near = [HALF_A_PIXEL / (document[side] or math.inf) + ROUNDING for side in ("width", "height")]
    found = []
    for box in boxes:
        new: SaidBox = {
            "id": "", "label": box.label, "x": box.x, "y": box.y, "width": box.width, "height": box.height,
        }  # fmt: skip
        same = next((one for one in left if _same_box(one, new, *near)), None)
        if same:
            left.remove(same)
        found.append(same or new)
    return found


def _same_box(one: SaidBox, other: SaidBox, near_x: float, near_y: float) -> bool:
    return (
        one["label"] == other["label"]
        and abs(one["x"] - other["x"]) <= near_x
        and abs(one["x"] + one["width"] - other["x"] - other["width"]) <= near_x
        and abs(one["y"] - other["y"]) <= near_y
        and abs(one["y"] + one["height"] - other["y"] - other["height"]) <= near_y
    )


def _same(document: Document, said: Said) -> bool:
    now = standing(document)
    ids = {box["id"] for box in now["boxes"]}
    # Boxes that were there already have their ids; so the same ids are the same boxes.
    return set(now["labels"]) == set(said.labels) and ids == {box["id"] for box in said.boxes}

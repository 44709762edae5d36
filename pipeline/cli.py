"""The `sleeve` command: import, search, status, generations, rollback, migrate, user, doctor, bench.

Heavy modules are imported inside the commands, so that `sleeve --help` answers at once.
"""

import json
import logging
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any, Literal
from uuid import UUID

import typer
from pydantic import ValidationError
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn
from rich.table import Table

from pipeline.context import Context
from pipeline.errors import BrokenGeneration, SleeveError
from pipeline.settings import Settings

app = typer.Typer(help="Sleeve, the image data pipeline.", no_args_is_help=True, pretty_exceptions_enable=False)
bench_app = typer.Typer(help="Measure Sleeve against the bare libraries, in the same run.", no_args_is_help=True)
users_app = typer.Typer(help="Accounts of the pages and the API.", no_args_is_help=True)
app.add_typer(bench_app, name="bench")
app.add_typer(users_app, name="user")
# Progress and tables go to standard error where JSON is asked for, so that it stands alone on standard output.
out = Console()
err = Console(stderr=True)

# More groups of near-duplicates would scroll away.
MAX_GROUPS = 50

Json = Annotated[bool, typer.Option("--json", help="Print one JSON object, last.")]


def main() -> None:
    """Run the command; an error that Sleeve raised on purpose is one sentence, not a traceback."""
    try:
        level = logging.DEBUG if Settings().debug else logging.WARNING
        logging.basicConfig(level=level, format="%(levelname)s %(name)s: %(message)s")
        app()
    except ValidationError as error:
        err.print(f"[red]A setting is not usable.[/] {error}", highlight=False)
        raise SystemExit(1) from None
    except SleeveError as error:
        err.print(f"[red]{error}[/]")
        raise SystemExit(1) from None


@app.command("import")
def import_(
    source: Annotated[str, typer.Argument(help="A folder, a zip or tar archive, or s3://bucket/prefix")],
    label: Annotated[str | None, typer.Option(help="For all images, beside the name of their folder")] = None,
    owner: Annotated[str | None, typer.Option(help="For all images")] = None,
    limit: Annotated[int | None, typer.Option(min=1, help="Most images to bring in")] = None,
    wait: Annotated[bool, typer.Option(help="Until every image is searchable or in quarantine")] = False,
    as_json: Json = False,
) -> None:
    """Bring images in; the ingest DAG makes them searchable."""
    from pipeline.ingest import import_source
    from pipeline.sources import open_source

    context = Context(Settings())
    context.catalog.prepare()
    total: Counter[str] = Counter()
    ids: set[UUID] = set()
    began = time.monotonic()
    opened = open_source(source, context.settings, context.catalog, context.objects)
    with progress() as bars:
        bar = bars.add_task("importing", total=opened.backlog() if limit is None else limit)
        for accepted in import_source(context, opened, label, owner, limit):
            total.update(accepted.counts())
            ids |= accepted.images
            bars.advance(bar, accepted.taken)
        bars.update(bar, total=total["taken"])
        if wait:
            total.update(wait_for(context, ids, bars))
    seconds = round(time.monotonic() - began, 1)
    if as_json:
        out.print_json(json.dumps({"images": len(ids), "new": total["new"], **_states(total), "seconds": seconds}))
    else:
        out.print(f"{len(ids)} images, {total['new']} of them new, in {seconds} s.")
        if wait:
            out.print(f"{total['indexed']} searchable, {total['quarantined']} in quarantine.")


def _states(total: Counter[str]) -> dict[str, int]:
    return {state: total[state] for state in ("indexed", "quarantined", "deleted") if state in total}


def wait_for(context: Context, ids: set[UUID], bars: Progress) -> Counter[str]:
    """Wait until none of the images has anything left to be done. Returns how many ended in which state."""
    from pipeline.stores.catalog import WAITING

    bar = bars.add_task("becoming searchable", total=len(ids))
    states: Counter[str] = Counter()
    waiting = set(ids)
    while waiting:
        for one, document in context.catalog.find(waiting, ["status"]).items():
            if document["status"] not in WAITING:
                waiting.discard(one)
                states[document["status"]] += 1
        bars.update(bar, completed=len(ids) - len(waiting))
        if waiting:
            time.sleep(0.5)
    return states


@app.command()
def search(
    query: Annotated[str, typer.Argument(help="A snapshot (JPEG, PNG or WebP), or the id of an image")],
    crop: Annotated[str | None, typer.Option(help="A part of it: x,y,width,height as fractions, 0 to 1")] = None,
    label: Annotated[str | None, typer.Option(help="Only images of this label")] = None,
    owner: Annotated[str | None, typer.Option(help="Only images of this owner")] = None,
    since: Annotated[str | None, typer.Option(help="Only images added since this date or time, UTC")] = None,
    until: Annotated[str | None, typer.Option(help="Only images added up to this date or time, UTC")] = None,
    top_n: Annotated[int | None, typer.Option(min=1, max=100, help="Most answers")] = None,
    picture: Annotated[Path | None, typer.Option(help="Write the query beside its match, inliers drawn, here")] = None,
    as_json: Json = False,
) -> None:
    """Find the images that a snapshot, or an image of the collection, shows."""
    from pipeline import searching
    from pipeline.features.photo import Photo
    from pipeline.index.reader import Reader
    from pipeline.indexing import generations
    from pipeline.pictures import draw_match

    context = Context(Settings())
    part = searching.parse_crop(crop) if crop else searching.WHOLE
    wanted = searching.parse_filter(label, owner, since, until)
    image = image_or_file(query)
    with Reader(generations(context)) as reader:
        if image:
            asked = searching.of_image(context, reader, image, part)
        else:
            asked = Photo(Path(query).read_bytes(), context.settings, part)
        matches = searching.search(context, reader, searching.Question(asked, image, top_n, wanted))
        if reader.last_error:
            raise BrokenGeneration(reader.last_error)
    documents = context.catalog.find([match.image_id for match in matches])
    if picture and matches:
        left = searching.original(context, image) if image else Path(query).read_bytes()
        right = searching.original(context, matches[0].image_id)
        draw_match(left, right, matches[0].geometry, picture, context.settings, part)
    if as_json:
        out.print_json(json.dumps({str(match.image_id): match.score for match in matches}))
    elif matches:
        out.print(match_table(matches, documents))
    else:
        out.print("Nothing in the collection looks like this.")


def image_or_file(text: str) -> UUID | None:
    """The id of an image, None for a file."""
    if Path(text).is_file():
        return None
    try:
        return UUID(text)
    except ValueError:
        raise typer.BadParameter(f"there is no file {text}; give a picture, or the id of an image") from None


def match_table(matches: list[Any], documents: dict[UUID, dict[str, Any]]) -> Table:
    """The answers of one search, best first."""
    table = Table("score", "inliers", "label", "file", "id")
    for match in matches:
        document = documents.get(match.image_id, {})
        labels = ", ".join(document.get("labels", []))
        name = document.get("original_filename") or ""
        table.add_row(f"{match.score:.3f}", str(match.geometry.inliers), labels, name, str(match.image_id))
    return table


@app.command()
def duplicates(
    label: Annotated[str | None, typer.Option(help="Only groups with an image of this label")] = None,
    rerun: Annotated[bool, typer.Option("--rerun", help="Forget what was found, and compare all images again")] = False,
    as_json: Json = False,
) -> None:
    """Images that show the same picture, in groups, largest first. The find_duplicates DAG finds them."""
    from pipeline.duplicates import every_group

    context = Context(Settings())
    if rerun:
        compare_all(context)
    groups = [
        group
        for group in every_group(context.catalog)
        if label is None or any(label in image["labels"] for image in group["images"])
    ]
    if as_json:
        out.print_json(json.dumps({"groups": groups}))
    elif groups:
        out.print(duplicates_table(groups[:MAX_GROUPS]))
        if len(groups) > MAX_GROUPS:
            out.print(f"{len(groups) - MAX_GROUPS} more groups; --json lists all of them.")
    else:
        out.print("No near-duplicates were found.")


def compare_all(context: Context) -> None:
    """A whole pass of the find_duplicates DAG, over all images. It may be stopped; the DAG's next run goes on."""
    from pipeline.duplicates import compare, plan, regroup

    context.catalog.compare_again()
    shards = plan(context)
    with progress() as bars:
        for shard in bars.track(shards, description="comparing"):
            compare(context, shard)
    regroup(context)


def duplicates_table(groups: list[dict[str, Any]]) -> Table:
    """Groups of near-duplicates, a line between them."""
    table = Table("evidence", "label", "file", "id")
    for group in groups:
        for image in group["images"]:
            if image["copy_of"]:
                evidence = "same bytes"
            else:
                how = ", mirrored" if image["mirrored"] else ""
                # The original of an exact copy need not have any other.
                evidence = f"{image['score']:.3f}, {image['inliers']} inliers{how}" if image["score"] else "original"
            table.add_row(evidence, ", ".join(image["labels"]), image["original_filename"] or "", image["id"])
        table.add_section()
    return table


@app.command()
def status(as_json: Json = False) -> None:
    """What is in the collection, what waits, what is wrong."""
    from pipeline.doorbell import IngestBacklog
    from pipeline.indexing import generations

    context = Context(Settings())
    counts = context.catalog.counts()
    manifest = generations(context).current()
    result: dict[str, Any] = {
        "images": counts,
        "backlog": IngestBacklog(context).backlog(),
        "generation": manifest and manifest.model_dump(include={"id", "counts", "recall"}, mode="json"),
        "quarantine": [
            {"id": str(document["_id"]), "key": document["key"], "reason": document["reason"]}
            for document in context.catalog.quarantined(limit=20)
        ],
    }
    if as_json:
        out.print_json(json.dumps(result))
        return
    table = Table("state", "images")
    for state, count in counts.items():
        table.add_row(state, str(count))
    out.print(table)
    for refused in result["quarantine"]:
        out.print(f"[yellow]quarantined[/] {refused['key']}: {refused['reason']}", highlight=False)
    out.print(f"Backlog: {result['backlog']}. Generation: {manifest.id if manifest else 'none yet'}.")


@app.command("generations")
def list_generations(as_json: Json = False) -> None:
    """States of the index that are kept, newest first."""
    from pipeline.index.history import entries
    from pipeline.indexing import generations

    found = entries(generations(Context(Settings())))
    if as_json:
        out.print_json(json.dumps({"generations": [entry.summary() for entry in found]}))
        return
    table = Table("id", "state", "kind", "codes", "images", "recall@1", "readers", "reason")
    for entry in found:
        one = entry.manifest
        recall = f"{one.recall.recall_at_1:.3f}" if one.recall else ""
        row = (one.id, entry.state, one.kind, one.choice.codes, one.counts.images, recall, entry.readers, one.reason)
        table.add_row(*map(str, row))
    out.print(table)


@app.command()
def rollback(
    generation: Annotated[str | None, typer.Argument(help="Its id; the one before the current by default")] = None,
    as_json: Json = False,
) -> None:
    """Serve an earlier generation of the index again. Images that it lacks are appended to it by the next run."""
    from pipeline.indexing import roll_back

    context = Context(Settings())
    manifest = roll_back(context, generation)
    counts = context.catalog.counts()
    if as_json:
        again = counts["featured"] + counts["pending"]
        out.print_json(json.dumps({"generation": manifest.id, "images": manifest.counts.images, "waiting": again}))
    else:
        out.print(f"{manifest.id} with {manifest.counts.images} images answers from now on.")


@app.command()
def export(
    to: Annotated[Path, typer.Argument(metavar="OUT", help="Where the zip goes")],
    format: Annotated[Literal["coco", "voc", "yolo", "csv"], typer.Option(help="Of the annotations")],
    label: Annotated[str | None, typer.Option(help="Only images of this label")] = None,
    owner: Annotated[str | None, typer.Option(help="Only images of this owner")] = None,
    since: Annotated[str | None, typer.Option(help="Only images added since this date or time, UTC")] = None,
    until: Annotated[str | None, typer.Option(help="Only images added up to this date or time, UTC")] = None,
    accepted: Annotated[bool, typer.Option("--accepted", help="Only what a reviewer accepted")] = False,
    as_json: Json = False,
) -> None:
    """Write the labels and boxes of all images that have some, private ones included, to a zip."""
    from pipeline.annotation.export import Export, export_file
    from pipeline.searching import parse_filter

    context = Context(Settings())
    wanted = Export(format, parse_filter(label, owner, since, until), accepted)
    with progress() as bars:
        bar = bars.add_task("exporting", total=None)
        images = export_file(
            context.catalog, wanted, to, lambda done, total: bars.update(bar, completed=done, total=total)
        )
    if as_json:
        out.print_json(json.dumps({"images": images, "format": format, "file": str(to)}))
    else:
        out.print(f"{images} images in {to}.")


@app.command()
def migrate(as_json: Json = False) -> None:
    """Bring the catalogue of an older Sleeve to this version; safe to repeat. The API does so when it starts, too."""
    from pipeline.stores.schema import VERSION, version

    catalog = Context(Settings()).catalog
    before = version(catalog.database)
    with progress() as bars:
        bar = bars.add_task("migrating")
        steps = catalog.prepare(
            lambda step, done, total: bars.update(bar, description=step, completed=done, total=total)
        )
    if as_json:
        out.print_json(json.dumps({"before": before, "version": VERSION, "steps": steps}))
    else:
        out.print("\n".join(steps) or f"The catalogue has version {VERSION} already.")


@app.command()
def doctor(as_json: Json = False) -> None:
    """Say what is missing on this machine, and the one command that gets it."""
    from devstack.provision import missing_tools
    from pipeline.health import unreachable

    missing = [*missing_tools(), *unreachable(Settings())]
    if as_json:
        rows = [dict(zip(("what", "why", "command"), row, strict=True)) for row in missing]
        out.print_json(json.dumps({"missing": rows}))
    elif missing:
        table = Table("missing", "why it matters", "what to do")
        for row in missing:
            table.add_row(*row)
        out.print(table)
    else:
        out.print("[green]Nothing is missing.[/]")
    if missing:
        raise typer.Exit(1)


UserName = Annotated[str, typer.Argument(help="Whatever its case")]
RoleName = Literal["viewer", "annotator", "admin"]
FromStdin = Annotated[bool, typer.Option("--password-stdin", help="Read the password from standard input")]


def _accounts() -> Context:
    context = Context(Settings())
    context.catalog.prepare()
    return context


def _new_password(from_stdin: bool) -> str:
    # Never an argument: those are for everybody to read, in the list of processes and the shell's history.
    if from_stdin:
        return sys.stdin.readline().rstrip("\n")
    return str(typer.prompt("Password", hide_input=True, confirmation_prompt=True, err=True))


@users_app.command("add")
def user_add(
    name: UserName,
    role: Annotated[RoleName, typer.Option(help="What the user may do")] = "annotator",
    email: Annotated[str | None, typer.Option()] = None,
    password_stdin: FromStdin = False,
) -> None:
    """Make an account; the password is asked for."""
    from pipeline.accounts.passwords import hash_password
    from pipeline.accounts.users import check_name

    check_name(name)
    hashed = hash_password(_new_password(password_stdin))
    user = _accounts().users.add(name, hashed, role, email)
    out.print(f"{user.name} can sign in, as {user.role}.")


@users_app.command("list")
def user_list(as_json: Json = False) -> None:
    """All accounts, by name."""
    users = list(_accounts().users.everybody())
    if as_json:
        rows = [
            {"name": user.name, "role": user.role, "disabled": user.disabled, "email": user.email} for user in users
        ]
        out.print_json(json.dumps({"users": rows}))
        return
    table = Table("name", "role", "password", "since", "")
    for user in users:
        kept = "with Airflow" if user.source == "airflow" else "here"
        table.add_row(user.name, user.role, kept, f"{user.created_at:%Y-%m-%d}", "disabled" if user.disabled else "")
    out.print(table)


@users_app.command("role")
def user_role(name: UserName, role: Annotated[RoleName, typer.Argument()]) -> None:
    """Give a user another role; it counts at once."""
    from pipeline.accounts.manage import change_account

    user = change_account(_accounts().users, name, role=role)
    out.print(f"{user.name} is {user.role}.")


@users_app.command("disable")
def user_disable(name: UserName) -> None:
    """Sign a user out everywhere, and let nobody in under that name."""
    from pipeline.accounts.manage import change_account

    out.print(f"{change_account(_accounts().users, name, disabled=True).name} is disabled.")


@users_app.command("enable")
def user_enable(name: UserName) -> None:
    """Let a disabled user in again."""
    from pipeline.accounts.manage import change_account

    out.print(f"{change_account(_accounts().users, name, disabled=False).name} can sign in again.")


@users_app.command("password")
def user_password(name: UserName, password_stdin: FromStdin = False) -> None:
    """Give a user another password, which is asked for, and sign the user out everywhere."""
    from pipeline.accounts.passwords import set_password

    user = set_password(_accounts().users, name, lambda: _new_password(password_stdin))
    out.print(f"{user.name} has a new password, and is signed out everywhere.")


Work = Annotated[Path | None, typer.Option(help="Keep what is made here, and use what is here; else it is temporary")]
Plot = Annotated[Path | None, typer.Option(help="Draw it as a picture (PNG), here")]


@bench_app.command("ingest")
def bench_ingest(
    images: Annotated[int, typer.Option(min=10, help="How many sample covers to take in")] = 5000,
    as_json: Json = False,
) -> None:
    """Images per second through the DAGs, from the first message to the published generation, against bare SIFT."""
    from bench.ingest import run

    with progress() as bars:
        print_result(run(images, bars), as_json)


@bench_app.command("covers")
def bench_covers(
    folder: Annotated[Path, typer.Argument(help="Where the benchmark set goes; what is there already stays")],
    images: Annotated[int, typer.Option(min=1, help="Covers in the database")] = 10_000,
    queries: Annotated[int, typer.Option(min=1, help="Snapshots of one of them each")] = 1000,
    strangers: Annotated[int, typer.Option(min=0, help="Snapshots of covers that are not in it")] = 200,
    sheets: Annotated[int, typer.Option(min=0, help="Snapshots of a contact sheet of twelve")] = 10,
) -> None:
    """Make a benchmark set of sample covers."""
    from bench.sets import write_set

    with progress() as bars:
        bar = bars.add_task("drawing", total=images + min(queries, images) + strangers + sheets)
        for _ in write_set(folder, images, queries, strangers, sheets):
            bars.advance(bar)


@bench_app.command("quality")
def bench_quality(
    folder: Annotated[Path, typer.Option("--set", help="A benchmark set: a folder with groundtruth.json")],
    distractors: Annotated[
        Path | None, typer.Option(exists=True, help="More pictures for the index: a folder or an archive")
    ] = None,
    work: Work = None,
    plot: Plot = None,
    as_json: Json = False,
) -> None:
    """Recall, false accepts and latency on a benchmark set, against the recipe of small services and bare Faiss."""
    from bench.quality import run

    with progress() as bars, work_folder(work) as place:
        print_result(run(folder, distractors, Settings(), place, plot, bars), as_json)


@bench_app.command("search")
def bench_search(
    images: Annotated[int, typer.Option(min=100, help="In the index; those beyond 10,000 are simulated")] = 10_000,
    work: Work = None,
    as_json: Json = False,
) -> None:
    """`POST /search` over HTTP against bare SIFT of the same photos, and what the index costs."""
    from bench.collection import Collection
    from bench.search import run

    with progress() as bars, work_folder(work) as place:
        print_result(run(Collection(place, images, Settings()), bars), as_json)


@bench_app.command("growth")
def bench_growth(
    images: Annotated[int, typer.Option(min=100, help="At the end; those beyond 10,000 are simulated")] = 1_000_000,
    work: Work = None,
    plot: Plot = None,
    as_json: Json = False,
) -> None:
    """Building, memory, queries and recall at a quarter of the images, at half of them, and with all."""
    from bench.collection import Collection
    from bench.growth import run

    with progress() as bars, work_folder(work) as place:
        print_result(run(Collection(place, images, Settings()), plot, bars), as_json)


@contextmanager
def work_folder(given: Path | None) -> Iterator[Path]:
    """The folder that the user gave, or one that is gone afterwards."""
    if given:
        given.mkdir(parents=True, exist_ok=True)
        yield given.resolve()
    else:
        with tempfile.TemporaryDirectory(prefix="sleeve-bench-") as temporary:
            yield Path(temporary)


def print_result(result: dict[str, Any], as_json: bool) -> None:
    """What a benchmark measured."""
    if as_json:
        out.print_json(json.dumps(result))
    else:
        for name, value in result.items():
            out.print(f"{name}: {value}")


@contextmanager
def progress() -> Iterator[Progress]:
    """Progress bars on standard error."""
    columns = (
        SpinnerColumn(),
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
    )
    with Progress(*columns, console=err) as bars:
        yield bars

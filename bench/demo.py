"""`make demo`: the main job from start to end, on real servers, with a progress bar at every step.

Photos are imported, Airflow makes them searchable, a deformed snapshot of one finds it, and an object that is simply
put into the bucket is found some seconds later without anyone doing anything.
"""

import random
import secrets
import time
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from bench.acceptance import bring_in, put_one_by_one
from devstack.stack import DEFAULT_STATE, Stack
from pipeline.cli import match_table, progress
from pipeline.context import Context
from pipeline.index.evaluate import photograph
from pipeline.samples import write_covers
from pipeline.settings import Settings

COVERS = 300
console = Console(stderr=True)


def main(
    images: Annotated[str | None, typer.Option(help="Your own: a folder, a zip or tar archive, or s3://...")] = None,
    once: Annotated[bool, typer.Option(help="End when everything was shown, instead of staying up")] = False,
) -> None:
    """Show the main job. Exits with 1 where anything failed."""
    stack = Stack(DEFAULT_STATE)
    with console.status("Starting Kafka, MongoDB, S3, SQS, Airflow and the API"):
        stack.start()
    try:
        context = Context(Settings.of(stack.env))
        context.catalog.prepare()
        states = bring_in(context, images or str(_covers()))
        console.print(f"{sum(states.values())} images: {', '.join(f'{n} {state}' for state, n in states.items())}.")
        good = _find_a_snapshot(context)
        good = _put_and_wait(stack.env) and good
        _addresses(stack.env)
        if not once:
            console.print("Everything stays up until you press Ctrl-C.")
            while True:
                time.sleep(3600)
    except KeyboardInterrupt:
        console.print("Stopping.")
    finally:
        stack.stop()
    raise typer.Exit(0 if good else 1)


def _covers() -> Path:
    folder = DEFAULT_STATE.parent / "demo" / "covers"
    with progress() as bars:
        bar = bars.add_task("making sample covers", total=COVERS)
        for _ in write_covers(folder, COVERS):
            bars.advance(bar)
    return folder


def _find_a_snapshot(context: Context) -> bool:
    """Photograph an image of the collection (simulated), and search for it as a phone would."""
    from pipeline.features.photo import Photo
    from pipeline.index.reader import Reader
    from pipeline.indexing import generations
    from pipeline.pictures import draw_match

    document = random.choice(list(context.catalog.images.find({"status": "indexed", "duplicate_of": None}).limit(1000)))
    original = context.objects.get(document["bucket"], document["key"])
    photo = photograph(original, seed=secrets.randbelow(1 << 31))
    folder = DEFAULT_STATE.parent / "demo"
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "snapshot.jpg").write_bytes(photo)
    settings = context.settings
    with Reader(generations(context)) as reader:
        matches = reader.search(Photo(photo, settings).features, settings.top_n, settings.similarity_threshold)
    documents = context.catalog.find([match.image_id for match in matches])
    console.print(f"A snapshot of {document['original_filename']} finds:", match_table(matches, documents))
    if not matches or matches[0].image_id != document["_id"]:
        console.print("[red]That is not what it shows.[/]")
        return False
    draw_match(photo, original, matches[0].geometry, folder / "match.png", settings)
    console.print(f"The match as a picture: {folder / 'match.png'}", soft_wrap=True)
    return True


def _put_and_wait(env: dict[str, str]) -> bool:
    """Put a cover that nobody has seen into the bucket, with nothing but boto3, and ask the API until it is found."""
    try:
        with console.status("A new object was put into the bucket; asking the API until it is found"):
            [seconds] = put_one_by_one(env, count=1, first=1_000_000 + secrets.randbelow(1_000_000_000))
    except TimeoutError as error:
        console.print(f"[red]{error}[/]")
        return False
    console.print(f"A new object is searchable [bold]{seconds:.1f} s[/] after its PUT.")
    return True


def _addresses(env: dict[str, str]) -> None:
    console.print(
        f"Airflow: {env['AIRFLOW_API_URL']}  user {env['AIRFLOW_USERNAME']}, password {env['AIRFLOW_PASSWORD']}"
    )
    console.print(
        f"Sleeve: {env['SLEEVE_API_URL']}/ui/  user {env['SLEEVE_USERNAME']}, password {env['SLEEVE_PASSWORD']}"
    )
    console.print(f"API documentation: {env['SLEEVE_API_URL']}/docs")


if __name__ == "__main__":
    typer.run(main)

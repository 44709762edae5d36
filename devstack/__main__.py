"""`python -m devstack up|down|status|provision`: the local servers from a shell."""

import logging
import sys
import time
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.logging import RichHandler
from rich.table import Table

from devstack.errors import DevstackError
from devstack.provision import provision as provision_artefacts
from devstack.stack import DEFAULT_STATE, PARTS, Stack

app = typer.Typer(help="Sleeve's servers on this machine, without Docker.", no_args_is_help=True)
console = Console()

State = Annotated[Path, typer.Option(help="Where data, logs and generated secrets are kept.")]
Parts = Annotated[str, typer.Option(help="Which parts to run, separated by commas.")]

_COLOURS = {"running": "green", "died": "red", "stopped": "dim", "external": "cyan"}


def _show(stack: Stack) -> None:
    table = Table("server", "state", "address", "pid", "log")
    for column in table.columns:
        column.overflow = "fold"
    for line in stack.status():
        state = f"[{_COLOURS[line.state]}]{line.state}[/]"
        table.add_row(line.name, state, line.address, str(line.pid or ""), str(line.log or ""))
    console.print(table)


@app.command()
def up(state: State = DEFAULT_STATE, parts: Parts = ",".join(PARTS)) -> None:
    """Start what does not run yet; a second time changes nothing."""
    stack = Stack(state, parts.split(","))
    began = time.monotonic()
    with console.status("Starting the servers"):
        started = stack.start()
    _show(stack)
    if started:
        console.print(f"Started {', '.join(started)} in {time.monotonic() - began:.0f} s.")
    else:
        console.print("Everything was running already; nothing was changed.")
    console.print(f"Settings and passwords: {stack.state_dir / 'env'}", soft_wrap=True)


@app.command()
def down(state: State = DEFAULT_STATE) -> None:
    """Stop every server that was started from this state directory; its data stays."""
    stopped = Stack(state, ()).stop()
    console.print(f"Stopped {', '.join(stopped)}." if stopped else "Nothing was running.")


@app.command()
def status(state: State = DEFAULT_STATE) -> None:
    """Show each server's address, process, state and log."""
    _show(Stack(state))


@app.command()
def provision() -> None:
    """Fetch and build the servers, which `up` does too."""
    console.print("Ready." if provision_artefacts() else "Everything was in place already.")


def main() -> None:
    logging.basicConfig(level=logging.WARNING, format="%(message)s", handlers=[RichHandler(console=console)])
    try:
        app()
    except DevstackError as error:
        Console(stderr=True).print(f"[red]{type(error).__name__}:[/] ", end="")
        sys.stderr.write(f"{error}\n")  # as it is: a server's log may hold what rich takes for markup
        sys.exit(1)


if __name__ == "__main__":
    main()

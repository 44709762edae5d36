"""Starts servers in sessions of their own, remembers them on disk, and ends them with all their children."""

import json
import os
import signal
import subprocess
import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path

import psutil

# The kernel gives a process's age in ticks since boot, and the time of boot itself moves when the clock is set.
_CLOCK_SLACK = 2.0


@dataclass(frozen=True)
class Record:
    """A process we started: its pid, which is its session's too, and when (Unix seconds), as pids are used again."""

    pid: int
    created: float


def start(command: list[str], env: Mapping[str, str], cwd: Path, log: Path, record: Path) -> subprocess.Popen[bytes]:
    """Starts a command as the leader of a new session and writes its record, both lasting beyond this process."""
    with log.open("ab") as output:
        process = subprocess.Popen(
            command,
            env=dict(env),
            cwd=cwd,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            start_new_session=True,
        )
    fresh = record.with_suffix(".new")
    fresh.write_text(json.dumps(asdict(Record(process.pid, psutil.Process(process.pid).create_time()))))
    fresh.replace(record)
    return process


def read_record(path: Path) -> Record | None:
    return Record(**json.loads(path.read_text())) if path.is_file() else None


def is_running(record: Record | None) -> bool:
    """Whether the recorded process itself (not one that got its pid later) is alive."""
    if record is None:
        return False
    try:
        process = psutil.Process(record.pid)
        same = abs(process.create_time() - record.created) < _CLOCK_SLACK
        return same and process.status() not in (psutil.STATUS_ZOMBIE, psutil.STATUS_DEAD)
    except psutil.NoSuchProcess:
        return False


def members(record: Record) -> list[psutil.Process]:
    """Returns the living processes of the record's session, its orphans included; none if the pid is another's now."""
    with suppress(psutil.NoSuchProcess):
        if abs(psutil.Process(record.pid).create_time() - record.created) >= _CLOCK_SLACK:
            return []
    found = []
    for process in psutil.process_iter():
        with suppress(ProcessLookupError, psutil.NoSuchProcess):
            if os.getsid(process.pid) == record.pid and process.status() != psutil.STATUS_ZOMBIE:
                found.append(process)
    return found


def end(record: Record, first: signal.Signals = signal.SIGTERM, grace: float = 10.0) -> None:
    """Sends `first` to the whole session, and SIGKILL after `grace` seconds to what is left, new children too."""
    alive = members(record)
    sent, deadline = first, time.monotonic() + grace
    while alive:
        for process in alive:
            with suppress(psutil.NoSuchProcess):
                process.send_signal(sent)
        psutil.wait_procs(alive, timeout=max(0.2, deadline - time.monotonic()))
        alive, sent = members(record), signal.SIGKILL

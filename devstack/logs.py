"""Reads the end of a log file, for error messages."""

import os
from pathlib import Path


def tail(path: Path, lines: int = 25) -> str:
    """Returns the last `lines` lines of a file, or an empty string where there is none yet."""
    if not path.is_file():
        return ""
    with path.open("rb") as handle:
        handle.seek(max(0, os.fstat(handle.fileno()).st_size - 64 * 1024))
        return "\n".join(handle.read().decode(errors="replace").splitlines()[-lines:])

"""Writing files that are named by their content."""

import hashlib
import os
import tempfile
from collections.abc import Callable
from pathlib import Path


def write_by_content(folder: Path, suffix: str, write: Callable[[str], None]) -> tuple[str, int]:
    """Let `write` fill a temporary file, then name it `folder`/<SHA-256 of its bytes><suffix>.

    The file exists under that name either whole or not at all. Returns the SHA-256 in hex and the size in bytes.
    """
    folder.mkdir(parents=True, exist_ok=True)
    handle, partial = tempfile.mkstemp(dir=folder, suffix=".partial")
    os.close(handle)
    try:
        write(partial)
        with Path(partial).open("rb") as file:
            name = hashlib.file_digest(file, "sha256").hexdigest()
            size = os.fstat(file.fileno()).st_size
            os.fsync(file.fileno())
        Path(partial).replace(folder / f"{name}{suffix}")
    finally:
        Path(partial).unlink(missing_ok=True)
    return name, size

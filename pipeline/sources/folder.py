"""The files of a folder and of everything below it."""

import os
from collections.abc import Iterator
from functools import partial
from pathlib import Path, PurePosixPath

from pipeline.sources.local import Files, LocalFile, is_picture, storable


def folder_files(root: Path, max_bytes: int) -> Files:
    """Pictures below `root`, ordered by the parts of their paths. Links are not followed: nothing outside comes in."""

    def files(after: str) -> Iterator[LocalFile]:
        start = PurePosixPath(after).parts if after else ()
        for path in _walk(root):
            name = PurePosixPath(storable(str(path.relative_to(root))))
            if is_picture(name) and name.parts > start:
                yield LocalFile(name, partial(Path.read_bytes, path), _refusal(path, max_bytes))

    return files


def _walk(folder: Path) -> Iterator[Path]:
    with os.scandir(folder) as entries:
        ordered = sorted(entries, key=lambda entry: storable(entry.name))
    for entry in ordered:
        if entry.is_dir(follow_symlinks=False):
            yield from _walk(Path(entry.path))
        elif entry.is_file(follow_symlinks=False):
            yield Path(entry.path)


def _refusal(path: Path, max_bytes: int) -> str | None:
    try:
        size = path.lstat().st_size
    except OSError:
        return None  # reading it will say why
    return f"larger than {max_bytes} bytes ({size} bytes)" if size > max_bytes else None

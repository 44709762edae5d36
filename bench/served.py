"""The API over a collection that a benchmark indexed, in a process of its own.

`python -m bench.served WORK IMAGES REAL` listens on a free port, which WORK/served.json tells. It is the real
application with the real catalogue; only its reader does not follow published generations, since simulated images have
no files that could be published.
"""

import json
import socket
import sys
from pathlib import Path

import psutil
import uvicorn

from bench.collection import Collection
from bench.growing import last_step, open_step
from pipeline.api.app import create_app
from pipeline.context import Context
from pipeline.index.generations import Generations
from pipeline.index.opened import OpenGeneration
from pipeline.index.reader import Reader
from pipeline.indexing import generations
from pipeline.settings import Settings


class FixedReader(Reader):
    """Answers from one generation, whatever is published."""

    def __init__(self, own: Generations, opened: OpenGeneration) -> None:
        super().__init__(own)
        self._open = opened

    def _swap(self) -> bool:
        return False


def resident() -> int:
    """Bytes of this process in memory."""
    return int(psutil.Process().memory_info().rss)


def main(work: Path, images: int, real: int) -> None:
    """Open, say in WORK/served.json where it is and what memory that took, and serve until stopped."""
    settings = Settings()
    collection = Collection(work, images, settings, real)
    before = resident()
    opened = open_step(collection, last_step(collection))
    reader = FixedReader(generations(Context(settings)), opened)
    server = uvicorn.Server(uvicorn.Config(create_app(settings, reader), log_level="warning"))
    with socket.create_server(("127.0.0.1", 0)) as listener:
        url = f"http://127.0.0.1:{listener.getsockname()[1]}"
        told = work / "served.part"
        told.write_text(json.dumps({"url": url, "before": before, "opened": resident()}))
        told.replace(work / "served.json")
        server.run([listener])


if __name__ == "__main__":
    main(Path(sys.argv[1]), *map(int, sys.argv[2:]))

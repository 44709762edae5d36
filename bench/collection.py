"""A collection of any size in a folder: sample covers, and simulated images behind them.

    WORK/segments/*.safetensors  WORK/described/*.txt  WORK/pool.npz

What is there already is not made again, and serves collections of all sizes.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property, lru_cache
from pathlib import Path
from uuid import UUID

from rich.progress import Progress

from bench import described
from bench.ingest import COVERS
from bench.simulated import POOL_IMAGES, Pool, SimulatedSegment, simulated_id
from pipeline.features.segments import Segment, segment_key
from pipeline.samples import cover_label, write_covers
from pipeline.settings import Settings

# Images beyond these are simulated.
REAL_IMAGES = 10_000
REAL_BLOCK, SIMULATED_BLOCK = 500, 4000


@dataclass(frozen=True)
class Block:
    """Consecutive images that share a segment."""

    first: int
    images: int
    simulated: bool


class Collection:
    """`images` images, the first `real` of them sample covers."""

    def __init__(self, work: Path, images: int, settings: Settings, real: int = REAL_IMAGES) -> None:
        self.work = work
        self.images = images
        self.real = min(real, images)
        self.settings = settings

    @cached_property
    def sizes(self) -> list[int]:
        """A quarter of it, half of it, all of it."""
        return sorted({max(self.images // part, 1) for part in (4, 2, 1)})

    @cached_property
    def blocks(self) -> list[Block]:
        """All images, cut at `sizes` and where the simulation begins."""
        found: list[Block] = []
        for start, stop in zip([0, *self.sizes], self.sizes, strict=False):
            middle = min(max(start, self.real), stop)
            found += [Block(at, min(REAL_BLOCK, middle - at), False) for at in range(start, middle, REAL_BLOCK)]
            found += [Block(at, min(SIMULATED_BLOCK, stop - at), True) for at in range(middle, stop, SIMULATED_BLOCK)]
        return found

    def image_id(self, number: int) -> UUID:
        """Id of an image by its number."""
        return described.image_id(_cover_name(number)) if number < self.real else simulated_id(number)

    def segment(self, block: Block) -> Segment:
        """The features of a block. Covers must have been described."""
        if block.simulated:
            return SimulatedSegment(_pool(self._pool_file), block.first, block.images)
        return Segment(self.work / segment_key(self._note(block).read_text()))

    def segments(self, images: int) -> list[Segment]:
        """Those of the first so many images, one of `sizes`."""
        return [self.segment(block) for block in self.blocks if block.first < images]

    def describe(self, bars: Progress) -> None:
        """Describe the covers, and prepare the simulation, as far as that was not done before."""
        missing = [block for block in self.blocks if not block.simulated and not self._note(block).exists()]
        if missing:
            self._draw(missing, bars)
            bar = bars.add_task("describing", total=sum(block.images for block in missing))
            chunks = (_pictures(block) for block in missing)
            found = described.describe(chunks, self.settings, self.work / "segments")
            for block, one in zip(missing, found, strict=True):
                self._note(block).parent.mkdir(parents=True, exist_ok=True)
                self._note(block).write_text(one.segment.name)
                bars.advance(bar, block.images)
        if self.real < self.images and not self._pool_file.exists():
            covers = (segment.image(row) for segment in self._real_segments() for row in range(len(segment)))
            Pool.of([one for one, _ in zip(covers, range(POOL_IMAGES), strict=False)]).save(self._pool_file)

    def _draw(self, blocks: list[Block], bars: Progress) -> None:
        bar = bars.add_task("making covers", total=self.real)
        for _ in write_covers(COVERS, max(block.first + block.images for block in blocks)):
            bars.advance(bar)

    def _real_segments(self) -> Iterator[Segment]:
        return (self.segment(block) for block in self.blocks if not block.simulated)

    def _note(self, block: Block) -> Path:
        """The file with the name of the segment of a block of covers."""
        return self.work / "described" / f"{block.first}-{block.images}.txt"

    @property
    def _pool_file(self) -> Path:
        return self.work / "pool.npz"


@lru_cache(maxsize=1)
def _pool(path: Path) -> Pool:
    return Pool.load(path)


def _cover_name(number: int) -> str:
    return f"cover_{number:06d}.jpg"


def _pictures(block: Block) -> list[described.Picture]:
    numbers = range(block.first, block.first + block.images)
    return [
        (_cover_name(number), (COVERS / cover_label(number) / _cover_name(number)).read_bytes()) for number in numbers
    ]

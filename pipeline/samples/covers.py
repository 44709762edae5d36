"""Sample record covers: number N of an endless series, drawn the same on every machine."""

import os
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor, as_completed
from multiprocessing import get_context
from pathlib import Path

import cv2
import numpy as np

from pipeline.samples.layouts import LAYOUTS, Sheet, imprint, series
from pipeline.samples.names import SEED, cover_label, record
from pipeline.samples.raster import Colour, Pixels, Rng, generator, jpeg, noise, pick, resized

# ground, ink, three accents; RGB as everyone writes it
_PALETTES = (
    "f2e8cf 1d1d1b bc4749 386641 a7c957",
    "0b132b f4f1de e07a5f 3d405b 81b29a",
    "fefae0 283618 dda15e bc6c25 606c38",
    "14213d ffffff fca311 e5e5e5 5d6d8e",
    "f1faee 1d3557 e63946 457b9d a8dadc",
    "2b2d42 edf2f4 ef233c 8d99ae d90429",
    "ffcdb2 3a2e39 e5989b b5838d 6d6875",
    "003049 fcbf49 d62828 f77f00 eae2b7",
    "264653 f6e7c1 2a9d8f f4a261 e76f51",
    "f4f1de 3d405b e07a5f 81b29a f2cc8f",
    "0d0d0d f5f5f5 ff0054 9e0059 ffbd00",
    "e0fbfc 293241 ee6c4d 3d5a80 98c1d9",
    "1c1c1c f7f052 f28123 d34e24 563f1b",
    "fdf0d5 5a0000 c1121f 003049 669bbc",
    "10002b e0aaff 7b2cbf ff6d00 5a189a",
    "d8e2dc 353535 ff8fab 5fa8d3 bde0fe",
    "faf3dd 1b4332 52b788 d62246 4b1d3f",
    "ffe8d6 2f2f2f cb997e 6b705c b7b7a4",
    "f7b801 2c2560 f18701 7678ed f35b04",
    "c92f3c fff8e7 1d3557 ffd166 06080d",
    "e9e4d8 111111 8a8a85 4a4a48 d1cabb",
    "16324f fdf6e3 2a628f ffd25a f25f5c",
)


def cover(number: int, size: int = 800) -> Pixels:
    """Cover `number` of the series, BGR, shape (size, size, 3), uint8: the same bytes whenever and wherever it is made.

    Raises:
        ValueError: `number` is negative, or `size` is outside 128..4096.
    """
    if not 128 <= size <= 4096:
        raise ValueError(f"a cover is 128 to 4096 pixels wide, not {size}")
    printed, rng = record(number), generator(SEED, 2, number)
    design = rng if printed.series is None else generator(SEED, 3, printed.series)
    ground, ink, *accents = _palette(design, rng)
    sheet = Sheet(
        np.full((size, size, 3), ground, np.uint8), rng, printed, ground, ink, (accents[0], accents[1], accents[2])
    )
    if printed.series is None:
        pick(rng, LAYOUTS)(sheet)
        imprint(sheet)
    else:
        series(sheet, design)
    _worn(sheet)
    return sheet.pixels


def _palette(design: Rng, rng: Rng) -> list[Colour]:
    """The colours of a palette as BGR, each a little off, as inks are."""
    colours = []
    for code in pick(design, _PALETTES).split():
        red, green, blue = (min(255, max(0, byte + int(rng.integers(-9, 10)))) for byte in bytes.fromhex(code))
        colours.append((blue, green, red))
    return colours


def _worn(sheet: Sheet) -> None:
    """Years on a shelf: uneven fading and, on some, the ring of the record inside."""
    size = sheet.size
    fade = resized(noise(sheet.rng, 50, 50, 4, 4) // 16, size, size)
    if sheet.rng.random() < 0.3:
        cv2.circle(
            fade,
            (size // 2, size // 2),
            round(size * 0.47),
            (int(sheet.rng.integers(20, 40)),),
            max(1, size // 200),
            cv2.LINE_AA,
        )
    np.copyto(sheet.pixels, cv2.add(sheet.pixels, cv2.merge([fade, fade, fade])))


def cover_jpeg(number: int, size: int = 800, quality: int = 90) -> bytes:
    """Cover `number` as a JPEG file; see `cover`."""
    return jpeg(cover(number, size), quality)


def write_covers(folder: Path, count: int, start: int = 0, processes: int | None = None) -> Iterator[Path]:
    """Write `count` covers from number `start` as `folder/<label>/cover_000123.jpg`; yield each path once it is there.

    Covers that are there already are left alone, so a run that was stopped is taken up by starting it again. Files
    appear whole or not at all; paths come in the order in which they are done. Closing the iterator early stops the
    drawing. Workers are spawned, so a script that calls this needs its `if __name__ == "__main__":`.

    Args:
        processes: how many worker processes draw; None for one per CPU.

    Raises:
        ValueError: `start` is negative.
        OSError: a file cannot be written.
    """
    missing = []
    for number in range(start, start + count):
        path = folder / cover_label(number) / f"cover_{number:06d}.jpg"
        if path.exists():
            yield path
        else:
            missing.append((number, path))
    if not missing:
        return
    workers = min(processes or os.cpu_count() or 1, len(missing))
    # spawn: a forked child would inherit the locks of whatever threads the caller runs
    with ProcessPoolExecutor(workers, get_context("spawn"), cv2.setNumThreads, (1,)) as pool:
        try:
            for job in as_completed([pool.submit(_write, number, path) for number, path in missing]):
                yield job.result()
        finally:
            pool.shutdown(cancel_futures=True)


def _write(number: int, path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        part.write_bytes(cover_jpeg(number))
        part.replace(path)
    finally:
        part.unlink(missing_ok=True)
    return path

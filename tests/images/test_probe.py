"""What comes in, what does not, and that the reason says why."""

import io
import random
import struct
import subprocess
import sys
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from pipeline.errors import BadImage
from pipeline.images.decode import decode_gray
from pipeline.images.probe import EXTENSIONS, FORMATS, MIME_TYPES, Probe, probe

ROOT = Path(__file__).resolve().parents[2]
MAX_BYTES, MAX_PIXELS = 64 << 20, 50_000_000


def encode(image: Image.Image, format: str, **options: Any) -> bytes:
    file = io.BytesIO()
    image.save(file, format, **options)
    return file.getvalue()


def picture(width: int = 60, height: int = 40) -> Image.Image:
    return Image.fromarray(np.random.default_rng(3).integers(0, 255, (height, width, 3), np.uint8))


def png(width: int, height: int, rows: bytes) -> bytes:
    """An 8-bit grey PNG whose header says `width` x `height`, whatever the rows hold."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", rows) + chunk(b"IEND", b"")


def png_with_chunk_length(length: int) -> bytes:
    """A small PNG whose pixels claim to be `length` bytes."""
    data = bytearray(encode(picture(), "PNG"))
    start = data.index(b"IDAT") - 4
    data[start : start + 4] = struct.pack(">I", length)
    return bytes(data)


def bomb() -> bytes:
    packer = zlib.compressobj(9)
    rows = b"".join(packer.compress(bytes(15_001)) for _ in range(15_000)) + packer.flush()
    return png(15_000, 15_000, rows)


def webp_canvas(width: int, height: int) -> bytes:
    """An extended WebP that claims a canvas of this size around a small picture."""
    inner = encode(picture(16, 16), "WEBP")[12:]
    header = b"VP8X" + struct.pack("<I", 10) + b"\2\0\0\0" + (width - 1).to_bytes(3, "little")
    header += (height - 1).to_bytes(3, "little")
    animation = b"ANIM" + struct.pack("<I", 6) + bytes(6)
    frame = bytes(6) + (15).to_bytes(3, "little") * 2 + bytes(4) + inner
    body = b"WEBP" + header + animation + b"ANMF" + struct.pack("<I", len(frame)) + frame
    return b"RIFF" + struct.pack("<I", len(body)) + body


def jpeg_of_size(width: int, height: int) -> bytes:
    """A small JPEG whose frame header claims another size."""
    data = bytearray(encode(picture(), "JPEG"))
    start = data.index(b"\xff\xc0")
    data[start + 5 : start + 9] = struct.pack(">HH", height, width)
    return bytes(data)


@pytest.mark.parametrize("format", FORMATS)
@pytest.mark.parametrize("size", [(60, 40), (1, 1), (1, 700), (700, 1)])
def test_accepted(format: str, size: tuple[int, int]) -> None:
    assert probe(encode(picture(*size), format), MAX_BYTES, MAX_PIXELS) == Probe(format, *size)
    assert format in MIME_TYPES
    assert format in EXTENSIONS


def test_size_is_as_stored_before_rotation() -> None:
    exif = Image.Exif()
    exif[0x112] = 6
    assert probe(encode(picture(), "JPEG", exif=exif), MAX_BYTES, MAX_PIXELS) == Probe("JPEG", 60, 40)


def test_several_pictures_in_one_jpeg_as_phones_write_them() -> None:
    data = encode(picture(), "MPO", save_all=True, append_images=[picture()])
    assert probe(data, MAX_BYTES, MAX_PIXELS) == Probe("JPEG", 60, 40)


REFUSED: dict[str, tuple[Callable[[], bytes], str]] = {
    "empty": (lambda: b"", "empty file"),
    "text": (lambda: b"hello, this is no picture", "not an image"),
    "zeros": (lambda: bytes(1000), "not an image"),
    "TIFF": (lambda: encode(picture(), "TIFF"), "TIFF is not accepted; send JPEG, PNG or WebP"),
    "big-endian TIFF": (lambda: b"MM\0*" + bytes(100), "TIFF is not accepted"),
    "GIF": (lambda: encode(picture(), "GIF"), "GIF is not accepted"),
    "BMP": (lambda: encode(picture(), "BMP"), "BMP is not accepted"),
    "PDF": (lambda: encode(picture(), "PDF"), "PDF is not accepted"),
    "zip": (lambda: b"PK\3\4" + bytes(100), "a zip archive is not accepted"),
    "JPEG 2000": (lambda: encode(picture(), "JPEG2000"), "not an image"),
    "JPEG cut in the header": (lambda: encode(picture(), "JPEG")[:100], "header|not an image"),
    "PNG cut in the header": (lambda: encode(picture(), "PNG")[:20], "header|not an image"),
    "WebP cut": (lambda: encode(picture(), "WEBP")[:100], "header|not an image"),
    "JPEG that claims too much": (lambda: jpeg_of_size(60_000, 60_000), "more than 50000000 pixels"),
    "PNG that claims too much": (lambda: png(10_000, 5001, b""), r"more than 50000000 pixels \(10000 x 5001\)"),
    "PNG that claims a terapixel": (lambda: png(2**31 - 1, 2**31 - 1, b""), "more than 50000000 pixels"),
    "WebP that claims too much": (lambda: webp_canvas(16_383, 16_383), "more than 50000000 pixels"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_refused_with_a_reason(case: str) -> None:
    make, reason = REFUSED[case]
    with pytest.raises(BadImage, match=reason) as refusal:
        probe(make(), MAX_BYTES, MAX_PIXELS)
    assert refusal.value.reason == str(refusal.value)


def test_limits_are_inclusive() -> None:
    data = encode(picture(60, 40), "PNG")
    assert probe(data, len(data), 2400) == Probe("PNG", 60, 40)
    with pytest.raises(BadImage, match=rf"larger than {len(data) - 1} bytes \({len(data)} bytes\)"):
        probe(data, len(data) - 1, 2400)
    with pytest.raises(BadImage, match="more than 2399 pixels"):
        probe(data, len(data), 2399)


# The peak is the process's own; ru_maxrss would begin with that of the test runner that forked it.
MEASURE = r"""
import re, sys
from pipeline.errors import BadImage
from pipeline.images.decode import decode_gray
from pipeline.images.probe import probe
data = open(sys.argv[1], "rb").read()
try:
    decode_gray(data, probe(data, 64 << 20, 50_000_000), 512)
    print("decoded")
except BadImage as error:
    print(error.reason)
print(re.search(r"VmHWM:\s+(\d+)", open("/proc/self/status").read())[1])
"""


@pytest.mark.parametrize(
    ("make", "reason"),
    [
        (bomb, "more than 50000000 pixels"),
        (lambda: webp_canvas(16_383, 16_383), "more than 50000000 pixels"),
        # Allowed sizes with next to nothing behind them. A JPEG decoder paints the rest grey.
        (lambda: jpeg_of_size(7000, 7000), "decoded"),
        (lambda: png(7000, 7000, zlib.compress(bytes(100))), "does not decode: truncated or damaged"),
        (lambda: png_with_chunk_length(0xF0000000), "does not decode: truncated or damaged"),
    ],
    ids=["PNG bomb", "WebP canvas", "JPEG lie", "PNG lie", "PNG chunk lie"],
)
def test_bomb_is_refused_with_little_memory(make: Callable[[], bytes], reason: str, tmp_path: Path) -> None:
    file = tmp_path / "bomb"
    file.write_bytes(make())
    assert file.stat().st_size < 1 << 20
    command = [sys.executable, "-c", MEASURE, str(file)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60)
    answer, peak_kb = done.stdout.splitlines()
    assert answer.startswith(reason)
    assert int(peak_kb) < 512 << 10


@pytest.mark.parametrize("format", FORMATS)
def test_mutated_pictures_decode_or_are_refused(format: str) -> None:
    """Nothing but BadImage may come out: everything else would stop the whole shard."""
    chance = random.Random(f"mutations of {format}")
    original = encode(picture(), format)
    outcomes: set[str] = set()
    for _ in range(400):
        data = bytearray(original)
        for _ in range(chance.randint(0, 6)):
            data[chance.randrange(min(len(data), chance.choice([40, 700, len(data)])))] = chance.randrange(256)
        if chance.random() < 0.2:
            del data[chance.randrange(len(data)) :]
        try:
            found = probe(bytes(data), MAX_BYTES, 1_000_000)
            gray = decode_gray(bytes(data), found, 64)
        except BadImage:
            outcomes.add("refused")
            continue
        assert max(gray.shape) <= 64
        outcomes.add("decoded")
    assert outcomes == {"refused", "decoded"}

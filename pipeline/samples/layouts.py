"""How sample covers are laid out: the kinds of design found in a record shop."""

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np

from pipeline.samples.lettering import Face, line, paragraph, put, random_face
from pipeline.samples.names import Record
from pipeline.samples.pictures import halftone, picture
from pipeline.samples.raster import Colour, Pixels, Point, Rng, arc, between, fill, lay, pick, resized, rotated

Box = tuple[float, float, float, float]  # left, top, right, bottom


@dataclass(frozen=True)
class Sheet:
    """What a layout works with. Lengths in layouts are fractions of `size`, the side in pixels."""

    pixels: Pixels
    rng: Rng
    printed: Record
    ground: Colour
    ink: Colour
    accents: tuple[Colour, Colour, Colour]

    @property
    def size(self) -> int:
        return int(self.pixels.shape[0])

    def shape(self, points: list[Point], colour: Colour) -> None:
        fill(self.pixels, [(x * self.size, y * self.size) for x, y in points], colour)

    def picture(self, left: float, top: float, right: float, bottom: float) -> None:
        """Put a picture in a box, toned from the palette or in black and white."""
        x0, y0, x1, y1 = (round(edge * self.size) for edge in (left, top, right, bottom))
        self.pixels[y0:y1, x0:x1] = picture(self.rng, self.toning(), x1 - x0, y1 - y0)

    def toning(self) -> tuple[Colour, Colour, Colour]:
        if self.rng.random() < 0.2:
            return (16, 14, 14), (120, 120, 122), (238, 240, 242)
        dark, light = sorted((self.ground, self.ink), key=sum)
        return _darker(dark), pick(self.rng, self.accents), light

    def legible(self, left: float, top: float, right: float, bottom: float) -> Colour:
        """The colour of ground and ink that stands out more from what is in the box."""
        box = np.s_[
            round(max(0, top) * self.size) : round(bottom * self.size),
            round(max(0, left) * self.size) : round(right * self.size),
        ]
        area = self.pixels[box]
        mean = int(area.sum(dtype=np.int64)) * 3 // max(1, area.size)
        return max(self.ground, self.ink, key=lambda colour: abs(sum(colour) - mean))

    def words(self, text: str, face: Face, box: Box, align: float = 0.0, turn: float = 0.0) -> None:
        """Set `text` in `box` as large as it goes; `align` 0 left, 0.5 centre, 1 right; turned by `turn` degrees."""
        left, top, right, bottom = (edge * self.size for edge in box)
        mask = line(text, face, (bottom - top) / 1.25, right - left)
        colour = self.legible(*box)
        put(self.pixels, mask, colour, left + (right - left - mask.shape[1]) * align, top, turn)

    def spine(self, text: str, face: Face, box: Box) -> None:
        """Set `text` in `box` from bottom to top."""
        left, top, right, bottom = (edge * self.size for edge in box)
        mask = np.rot90(line(text, face, (right - left) / 1.25, bottom - top))
        put(self.pixels, mask, self.legible(*box), left, bottom - mask.shape[0])


def _darker(colour: Colour) -> Colour:
    blue, green, red = (channel // 2 for channel in colour)
    return blue, green, red


def _full_picture(sheet: Sheet) -> None:
    """A picture to the edges, type over it."""
    rng = sheet.rng
    sheet.picture(0, 0, 1, 1)
    if rng.random() < 0.35:
        edge = between(rng, 0.12, 0.2)
        top = pick(rng, (0.0, 1 - edge))
        sheet.shape([(0, top), (1, top), (1, top + edge), (0, top + edge)], pick(rng, sheet.accents))
    _credits(sheet, 0.06, pick(rng, (0.06, 0.08, 0.62, 0.7)), 0.94)


def _framed_picture(sheet: Sheet) -> None:
    """A picture in a frame of flat colour, type beside it, a bar or two."""
    rng, margin = sheet.rng, between(sheet.rng, 0.04, 0.1)
    head = between(rng, 0.2, 0.34)
    upside = rng.random() < 0.5
    top, bottom = (margin, 1 - head) if upside else (head, 1 - margin)
    left = margin if rng.random() < 0.6 else between(rng, 0.25, 0.45)
    sheet.picture(left, top, 1 - margin, bottom)
    for _ in range(int(rng.integers(0, 4))):
        y, x = between(rng, top, bottom - 0.06), between(rng, 0, 0.7)
        tall = between(rng, 0.015, 0.06)
        sheet.shape([(x, y), (1 - margin, y), (1 - margin, y + tall), (x, y + tall)], pick(rng, sheet.accents))
    _credits(sheet, margin, 1 - head + 0.02 if upside else margin, 1 - margin, head - margin - 0.02)
    if left > 0.2 and rng.random() < 0.5:
        sheet.spine(sheet.printed.title, random_face(rng), (margin, top, left - 0.06, bottom))
    elif left > 0.2:
        _track_list(sheet, margin, top + 0.01)


def _grid(sheet: Sheet) -> None:
    """A school of design: a grid of quarter circles, discs, rings, triangles and bars."""
    rng, cells = sheet.rng, int(sheet.rng.integers(3, 7))
    side = 1 / cells
    colours = (sheet.ground, sheet.ink, *sheet.accents)
    words_row = int(rng.integers(0, cells))
    for row in range(cells):
        for column in range(cells):
            if row != words_row:
                _module(sheet, column * side, row * side, side, pick(rng, colours), pick(rng, colours))
    _credits(sheet, 0.04, words_row * side + 0.15 * side, 0.96, side * 0.75)


def _module(sheet: Sheet, x: float, y: float, side: float, back: Colour, front: Colour) -> None:
    rng, middle = sheet.rng, (x + side / 2, y + side / 2)
    corners = [(x, y), (x + side, y), (x + side, y + side), (x, y + side)]
    sheet.shape(corners, back)
    kind, turn = int(rng.integers(7)), int(rng.integers(4))
    corner = corners[turn]
    if kind == 0:
        sheet.shape([corner, *arc(corner, side, turn * 90, turn * 90 + 90)], front)
    elif kind == 1:
        sheet.shape(arc(middle, side * between(rng, 0.2, 0.48)), front)
    elif kind == 2:
        sheet.shape([corner, corners[turn - 1], corners[turn - 2]], front)
    elif kind == 3:
        for k, radius in enumerate((0.46, 0.34, 0.22, 0.1)):
            sheet.shape(arc(middle, side * radius), back if k % 2 else front)
    elif kind == 4:
        bars = int(rng.integers(2, 6))
        for k in range(bars):
            at, thick = k * side / bars, side / bars / 2
            sheet.shape([(x + at, y), (x + at + thick, y), (x + at + thick, y + side), (x + at, y + side)], front)
    elif kind == 5:
        sheet.shape([(x + side / 2, y), corners[turn], corners[turn - 1]], front)
        sheet.shape(arc(middle, side * 0.12), pick(rng, sheet.accents))


def _rays(sheet: Sheet) -> None:
    """Rays, rings or stripes from edge to edge, with a disc or a picture disc."""
    rng = sheet.rng
    centre = (between(rng, 0.3, 0.7), between(rng, 0.35, 0.75))
    colours = (sheet.ground, *sheet.accents)
    kind, count = int(rng.integers(3)), int(rng.integers(7, 16))
    for k in range(count, 0, -1):
        shade = colours[k % int(2 + rng.integers(0, 3))]
        if kind == 0:
            sheet.shape([centre, *arc(centre, 1.5, 360 * k / count, 360 * (k + between(rng, 0.4, 0.9)) / count)], shade)
        elif kind == 1:
            sheet.shape(arc(centre, 1.05 * k / count), shade)
        else:
            at = (between(rng, 0.8, 1.2) * k / count) * 2 - 0.5
            sheet.shape([(at - 0.5, 1), (at, 0), (at + 0.8 / count, 0), (at - 0.5 + 0.8 / count, 1)], shade)
    radius = between(rng, 0.12, 0.26)
    _picture_disc(sheet, centre, radius) if rng.random() < 0.7 else sheet.shape(arc(centre, radius), sheet.ink)
    _credits(sheet, 0.05, 0.06 if centre[1] > 0.5 else 0.7, 0.95)


def _picture_disc(sheet: Sheet, centre: Point, radius: float) -> None:
    side = round(2 * radius * sheet.size)
    left, top = round((centre[0] - radius) * sheet.size), round((centre[1] - radius) * sheet.size)
    mask = np.zeros((side, side), np.uint8)
    fill(mask, arc((side / 2, side / 2), side / 2), 255)
    lay(sheet.pixels, picture(sheet.rng, sheet.toning(), side, side), mask, left, top)


def _dots(sheet: Sheet) -> None:
    """A picture in printer's dots, one ink on one ground, over blocks of colour."""
    rng = sheet.rng
    for _ in range(int(rng.integers(1, 5))):
        centre = (between(rng, 0, 1), between(rng, 0, 1))
        box = rotated(centre, between(rng, 0.2, 0.9), between(rng, 0.2, 0.7), pick(rng, (0.0, 0.0, 45.0, 20.0)))
        sheet.shape(box if rng.random() < 0.6 else arc(centre, between(rng, 0.1, 0.4)), pick(rng, sheet.accents))
    grey = picture(rng, ((0, 0, 0), (128, 128, 128), (255, 255, 255)), sheet.size, sheet.size)[..., 0]
    if sum(sheet.ink) > sum(sheet.ground):
        grey = ~grey
    # fine enough that a camera sees tones: coarse dots are hundreds of equal keypoints, which no search tells apart
    dots = halftone(grey, max(2, round(sheet.size * 0.004)))
    lay(sheet.pixels, sheet.ink, dots, 0, 0)
    edge = between(rng, 0.2, 0.3)
    top = pick(rng, (0.0, 1 - edge))
    sheet.shape([(0, top), (1, top), (1, top + edge), (0, top + edge)], pick(rng, (sheet.ground, *sheet.accents)))
    _credits(sheet, 0.05, top + 0.05, 0.95, edge - 0.1)


def _minimal(sheet: Sheet) -> None:
    """Flat colour, one shape, and type."""
    rng = sheet.rng
    centre, radius = (between(rng, 0.3, 0.7), between(rng, 0.4, 0.65)), between(rng, 0.12, 0.26)
    kind = int(rng.integers(5))
    accent = pick(rng, sheet.accents)
    if kind == 0:
        sheet.shape(arc(centre, radius), accent)
    elif kind == 1:
        sheet.shape([centre if k % 2 else p for k, p in enumerate(arc(centre, radius, 0, 360))], accent)
    elif kind == 2:
        corners = int(rng.integers(3, 9))
        turn = between(rng, 0, 90)
        sheet.shape(
            [arc(centre, radius * between(rng, 0.7, 1.3), turn + 360 * k / corners, 360)[0] for k in range(corners)],
            accent,
        )
    elif kind == 3:
        _picture_disc(sheet, centre, radius)
    else:
        for k in range(int(rng.integers(3, 9))):
            bar = rotated((centre[0], centre[1] + (k - 4) * 0.045), between(rng, 0.1, 0.7), 0.022, 0)
            sheet.shape(bar, pick(rng, sheet.accents))
    _credits(sheet, 0.07, 0.06, 0.93, 0.2)
    _track_list(sheet, pick(rng, (0.07, 0.6)), 0.76)


def _shards(sheet: Sheet) -> None:
    """Cut paper: a picture, and polygons thrown over it."""
    rng = sheet.rng
    sheet.picture(0, 0, 1, 1) if rng.random() < 0.6 else None
    for _ in range(int(rng.integers(5, 18))):
        centre, reach = (between(rng, 0, 1), between(rng, 0, 1)), between(rng, 0.05, 0.32)
        corners, turn = int(rng.integers(3, 6)), between(rng, 0, 360)
        points = [arc(centre, reach * between(rng, 0.4, 1.2), turn + 360 * k / corners, 0)[0] for k in range(corners)]
        sheet.shape(points, pick(rng, (sheet.ground, sheet.ink, *sheet.accents)))
    top = pick(rng, (0.06, 0.38, 0.68))
    sheet.shape(rotated((0.5, top + 0.12), 1.1, 0.26, between(rng, -4, 4)), sheet.ground)
    _credits(sheet, 0.06, top + 0.02, 0.94, 0.2)


def _big_words(sheet: Sheet) -> None:
    """Type is the picture: the title over and over, or each word as large as it goes."""
    rng, printed = sheet.rng, sheet.printed
    text = printed.title
    rows = text.split() if rng.random() < 0.5 and " " in text else [text] * int(rng.integers(3, 8))
    tall = 0.78 / len(rows)
    for k, row in enumerate(rows):
        top = 0.04 + k * tall
        back = pick(rng, (sheet.ground, *sheet.accents))
        sheet.shape([(0, top), (1, top), (1, top + tall), (0, top + tall)], back)
        mask = line(row, random_face(rng), tall * sheet.size * 0.85, 4 * sheet.size)
        wide = int((between(rng, 0.5, 1.3) if rows[0] == rows[-1] else 0.92) * sheet.size)
        mask = resized(mask, wide, int(tall * sheet.size))
        put(sheet.pixels, mask, sheet.legible(0.05, top, 0.95, top + tall), 0.04 * sheet.size, top * sheet.size)
    sheet.words(printed.artist, random_face(rng), (0.05, 0.84, 0.7, 0.93))


def series(sheet: Sheet, design: Rng) -> None:
    """A label's uniform design: the same bands, logo and type on each record; names, number and picture differ."""
    printed, band = sheet.printed, between(design, 0.16, 0.24)
    face, tone = replace(random_face(design), outline=False), sum(sheet.ground) + sum(sheet.ink)
    accent = max(sheet.accents, key=lambda colour: abs(2 * sum(colour) - tone))  # the one type stands out on
    top = pick(design, (0.0, 1 - band))
    low, high = (band, 1.0) if top == 0 else (0.0, 1 - band)
    inset = pick(design, (0.0, 0.05))
    sheet.picture(inset, low + inset, 1 - inset, high - inset)
    sheet.shape([(0, top), (1, top), (1, top + band), (0, top + band)], accent)
    side = band * 0.36
    middle = (0.04 + side, top + band / 2)
    sheet.shape(arc(middle, side), sheet.ink)
    sheet.shape(arc(middle, side * 0.82), sheet.ground)
    corners = int(design.integers(3, 8))
    sheet.shape([arc(middle, side * 0.7, 360 * k / corners - 90, 0)[0] for k in range(corners)], sheet.ink)
    text_left = 0.07 + 2 * side
    sheet.words(printed.artist, face, (text_left, top + 0.1 * band, 0.82, top + 0.5 * band))
    sheet.words(printed.title, Face(), (text_left, top + 0.5 * band, 0.82, top + 0.78 * band))
    sheet.words(
        f"{printed.imprint} Series",
        Face(capitals=True, tracking=0.2),
        (text_left, top + 0.8 * band, 0.8, top + 0.95 * band),
    )
    sheet.words(
        f"{printed.number % 1000:03d}", Face(weight=0.05), (0.84, top + 0.2 * band, 0.97, top + 0.8 * band), 1.0
    )


def _credits(sheet: Sheet, left: float, top: float, right: float, tall: float = 0.22) -> None:
    """Artist and title in a box: one large, one small, in two faces, sometimes tilted."""
    rng, printed = sheet.rng, sheet.printed
    first, second = (printed.artist, printed.title) if rng.random() < 0.55 else (printed.title, printed.artist)
    align, split = pick(rng, (0.0, 0.0, 0.5, 1.0)), between(rng, 0.55, 0.75)
    turn = between(rng, -7, 7) if rng.random() < 0.12 else 0.0
    sheet.words(first, random_face(rng), (left, top, right, top + tall * split), align, turn)
    small = replace(random_face(rng), outline=False)
    sheet.words(second, small, (left, top + tall * (split + 0.05), right, top + tall), align, turn)


def _track_list(sheet: Sheet, left: float, top: float) -> None:
    lines = tuple(f"{k}. {title}" for k, title in enumerate(sheet.printed.tracks, 1))
    colour = sheet.legible(left, top, min(1.0, left + 0.3), top + 0.16)
    paragraph(sheet.pixels, lines, colour, left * sheet.size, top * sheet.size, sheet.size * 0.02)


def imprint(sheet: Sheet) -> None:
    """The label's mark and the catalogue number in a corner."""
    rng, printed = sheet.rng, sheet.printed
    left, top = pick(rng, (0.03, 0.77)), pick(rng, (0.015, 0.955))
    sheet.words(
        f"{printed.imprint}  {printed.catalogue}", Face(weight=0.02, capitals=True), (left, top, left + 0.2, top + 0.03)
    )
    if rng.random() < 0.25:
        badge = (pick(rng, (0.1, 0.9)), between(rng, 0.4, 0.6))
        sheet.shape(arc(badge, 0.055), pick(rng, sheet.accents))
        sheet.words(
            pick(rng, ("STEREO", "MONO", "2 LP", "45 RPM")),
            Face(weight=0.03),
            (badge[0] - 0.045, badge[1] - 0.02, badge[0] + 0.045, badge[1] + 0.03),
            0.5,
        )


LAYOUTS: tuple[Callable[[Sheet], None], ...] = (
    *(_full_picture, _full_picture, _framed_picture, _framed_picture, _grid),
    *(_rays, _dots, _minimal, _shards, _big_words),
)

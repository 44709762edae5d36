"""What is printed on a sample cover: artist, title, catalogue number, and the genre it is filed under."""

from dataclasses import dataclass

from pipeline.samples.raster import Rng, generator, pick

SEED = 0x51EE7E

GENRES = (
    *("ambient", "blues", "classical", "electronic", "folk", "funk"),
    *("hip-hop", "jazz", "metal", "pop", "rock", "soul"),
)
IMPRINTS = ("Meridian", "Blue Kiln", "Half Moon", "Ostrava", "Paper Tiger", "Long Field", "Tin Roof", "Northway")


def _words(text: str) -> list[str]:
    return text.split()


_FIRST = _words(
    "Ada Bruno Cleo Dara Elio Farah Goran Hedda Ines Joss Kaya Leif Mina Noor Otis Petra Rafi Signe Tomas Vera"
)
_LAST = _words(
    "Abara Brandt Castell Dunmore Eklund Ferro Grieves Halloran Ishida Jarrow Kessel Lindqvist Marlow Nakata Okafor "
    "Pellerin Quist Rahimi Sandoval Tallis Umber Vasko Wexley Yarrow Zeller"
)
_ADJECTIVES = _words(
    "Amber Broken Crimson Distant Electric Fallen Gentle Hollow Indigo Jaded Kindred Lunar Midnight Northern Open "
    "Paper Quiet Restless Silver Tidal Velvet Wandering Wild Yellow"
)
_THINGS = _words(
    "Anchors Birds Cathedrals Dials Engines Foxes Gardens Harbours Islands Jackals Kites Lanterns Mirrors Numbers "
    "Orchards Pilots Quarries Rivers Satellites Tigers Umbrellas Valleys Wolves"
)
_PLACES = _words("Antwerp Belgrade Cadiz Dakar Essen Fargo Genoa Havana Izmir Jaipur Kyoto Lisbon Memphis Nantes Oslo")
_MOODS = (
    *("After", "Before", "Beneath", "Beyond", "Inside", "Leaving", "Letters from"),
    *("Nights in", "Return to", "Songs for", "Under", "Waiting for"),
)
_TITLES = (
    "{mood} {place}",
    "{adjective} {things}",
    "The {adjective} Hour",
    "{things} & {things2}",
    "{place}, {year}",
    "Music for {things}",
    "Volume {roman}",
    "No {things} Tonight",
    "{adjective}",
    "How to Count {things}",
)
_ARTISTS = (
    "{first} {last}",
    "{first} {last} {ensemble}",
    "The {adjective} {things}",
    "{adjective} {things}",
    "{last} & {last2}",
    "{place} {ensemble}",
    "{things}",
)
_ENSEMBLES = ("Trio", "Quartet", "Quintet", "Orchestra", "Band", "Ensemble", "Sound System", "Collective")
_ROMAN = ("I", "II", "III", "IV", "V", "VI", "VII", "VIII", "IX", "X")


@dataclass(frozen=True)
class Record:
    """One record: `series` is the imprint whose uniform series design it wears, or None."""

    number: int
    genre: str
    artist: str
    title: str
    imprint: str
    series: int | None
    tracks: tuple[str, ...]

    @property
    def catalogue(self) -> str:
        """Catalogue number, like MER 0123."""
        return f"{self.imprint.replace(' ', '')[:3].upper()} {self.number:04d}"


def record(number: int) -> Record:
    """Record `number` of the series.

    Raises:
        ValueError: `number` is negative.
    """
    if number < 0:
        raise ValueError(f"cover numbers start at 0, not {number}")
    rng = generator(SEED, 1, number)
    genre, imprint = pick(rng, GENRES), int(rng.integers(len(IMPRINTS)))
    in_series = rng.random() < 0.12
    return Record(
        number=number,
        genre=genre,
        artist=_phrase(rng, pick(rng, _ARTISTS)),
        title=_phrase(rng, pick(rng, _TITLES)),
        imprint=IMPRINTS[imprint],
        series=imprint if in_series else None,
        tracks=tuple(_phrase(rng, pick(rng, _TITLES)) for _ in range(6)),
    )


def _phrase(rng: Rng, pattern: str) -> str:
    return pattern.format(
        first=pick(rng, _FIRST),
        last=pick(rng, _LAST),
        last2=pick(rng, _LAST),
        adjective=pick(rng, _ADJECTIVES),
        things=pick(rng, _THINGS),
        things2=pick(rng, _THINGS),
        place=pick(rng, _PLACES),
        mood=pick(rng, _MOODS),
        ensemble=pick(rng, _ENSEMBLES),
        roman=pick(rng, _ROMAN),
        year=int(rng.integers(1956, 1999)),
    )


def cover_label(number: int) -> str:
    """The genre that cover `number` is filed under, one of `GENRES`."""
    return record(number).genre


def cover_title(number: int) -> str:
    """Artist and title of cover `number`, as printed on it (the cover may set them in capitals)."""
    printed = record(number)
    return f"{printed.artist} – {printed.title}"

"""Sample data: an endless series of record covers, and phone snapshots of them.

The demo, the tests and the benchmarks all search for these. Cover number N is the same bytes on every machine, so a
benchmark set of 20,000 pictures is a number, not a download. `raster` says how that is kept.
"""

from pipeline.samples.covers import cover, cover_jpeg, write_covers
from pipeline.samples.names import cover_label, cover_title
from pipeline.samples.snapshots import snapshot, snapshot_jpeg

__all__ = ["cover", "cover_jpeg", "cover_label", "cover_title", "snapshot", "snapshot_jpeg", "write_covers"]

"""Plots of what the benchmarks measured, as PNG files."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure

SIZE = (7.0, 4.5)
DPI = 150
NAMES = {"sq8": "8-bit codes", "rabitq": "RaBitQ", "pq": "product quantization"}


def draw_quality(result: Mapping[str, Any], path: Path) -> None:
    """Recall@1 against latency: every kind of index with growing numbers of probes, and the others beside them."""
    figure = Figure(figsize=SIZE, layout="constrained")
    axes = figure.subplots()
    for codes in dict.fromkeys(row["codes"] for row in result["sweep"]):
        rows = [row for row in result["sweep"] if row["codes"] == codes]
        label = f"{NAMES[codes]}, {rows[0]['bytes_per_image'] / 1024:.1f} KiB an image"
        axes.plot([row["p50_ms"] for row in rows], [row["recall_at_1"] for row in rows], "o-", label=label)
        for row in rows:
            axes.annotate(f"{row['probes']}", (row["p50_ms"], row["recall_at_1"]), (4, -10), textcoords="offset points")
    for key, name in (("rival", "100 SIFT, votes"), ("bare_faiss", "Faiss alone"), ("brute_force", "every descriptor")):
        other = result["rival"] if key == "rival" else result["others"][key]
        label = f"{name}, {other['bytes_per_image'] / 1024:.1f} KiB an image"
        axes.plot(other["p50_ms"], other["recall_at_1"], "x", markersize=9, label=label)
    axes.set(xscale="log", xlabel="median of a search on one core, ms (decoding included)", ylabel="recall@1")
    axes.set_title(f"{result['images']} images; numbers are probes")
    axes.legend(loc="lower right", fontsize="small")
    axes.grid(alpha=0.3)
    _save(figure, path)


def draw_growth(result: Mapping[str, Any], path: Path) -> None:
    """What building and searching cost as the collection grows."""
    panels = (
        ("build, minutes", {"build_seconds": ("all steps so far", 60)}),
        ("memory, GB", {"peak_build_mb": ("peak of building", 1000), "index_mb": ("served index", 1000)}),
        ("median on one core, ms", {"first_stage_p50_ms": ("first stage", 1), "search_p50_ms": ("whole search", 1)}),
        ("recall@1", {"recall_at_1": ("planted snapshots", 1)}),
    )
    figure = Figure(figsize=(9, 6), layout="constrained")
    grid = figure.subplots(2, 2)
    images = [row["images"] for row in result["steps"]]
    for axes, (title, lines) in zip(grid.flat, panels, strict=True):
        for key, (label, unit) in lines.items():
            axes.plot(images, [row[key] / unit for row in result["steps"]], "o-", label=label)
        axes.set(title=title, xlabel="images", ylim=(0, None if title != "recall@1" else 1.05))
        axes.legend(fontsize="small")
        axes.grid(alpha=0.3)
    _save(figure, path)


def _save(figure: Figure, path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=DPI)

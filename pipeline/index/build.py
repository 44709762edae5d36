"""Parts: immutable Faiss files over the strongest descriptors of some segments.

Small collections are searched exactly, large ones through an inverted file (Jégou, Douze and Schmid, Product
quantization for nearest neighbor search, PAMI 2011) whose codes `pipeline.index.rules` chooses: the uint8 descriptors
as they are, RaBitQ (Gao and Long, SIGMOD 2024), or product quantization of the residuals, 4 bits for 4 dimensions,
scanned in registers (André, Kermarrec and Le Scouarnec, Quicker ADC, PAMI 2021).

The Faiss id of a descriptor is its position among all indexed descriptors of the generation: images in manifest order,
and of each the `per_image` strongest, which stand first in its segment. Appending changes no id.

A part holds lists and codes only. The quantizer that finds the lists is in the trained file, once for all parts.
"""

import base64
import zlib
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, Literal

import faiss
import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel

from pipeline.errors import BrokenGeneration
from pipeline.features.content import write_by_content
from pipeline.features.segments import Segment
from pipeline.index.rules import GRAPH_LISTS, Choice

DIMENSIONS = 128
# One part is built in memory: some 300 MB for a million descriptors, as its lists double when they grow.
PART_LIMIT = 1_000_000
TRAINING_ROWS_PER_LIST = 40
TRAINING_ITERATIONS = 6
# Of the training sample, kept back to measure how well the lists fit what they have not seen.
HELD_OUT = 4096
SEED = 20120614
ADD_ROWS = 1 << 16
# Of the rows that are added, those whose distance to their list is measured.
ERROR_STRIDE = 16
# The graph of lists (Malkov and Yashunin, HNSW, PAMI 2020).
GRAPH_LINKS = 32
GRAPH_BUILD_EFFORT = 40
GRAPH_SEARCH_EFFORT = 32
# With 32,768 lists this puts 7 % of the descriptors that are added into one of the next lists, and takes a third of the
# time. A search of 8 lists then finds 83.5 % of the nearest neighbours instead of 83.9 %.
GRAPH_ADD_EFFORT = 4
# Descriptors are added sorted by the nearest of so many centroids: a walk then finds the part of the graph that the one
# before it used in the processor's caches.
GRAPH_REGIONS = 64

Role = Literal["base", "delta"]


class Trained(BaseModel, frozen=True):
    """An empty, trained inverted file that all parts of a generation share; `name` is the SHA-256 of the file."""

    name: str
    bytes: int
    lists: int
    error: float
    """Mean squared distance of a descriptor, which was not trained on, to the centroid of its list."""
    imbalance: float
    """Of the lists, if they held the training sample; see `imbalance`."""


class Part(BaseModel, frozen=True):
    """A Faiss file with `images` images, from number first_image on; `name` is the SHA-256 of its bytes."""

    name: str
    bytes: int
    role: Role
    """base: appends leave it alone; delta: small, folded with its like when there are too many."""
    first_image: int
    images: int
    first_descriptor: int
    """Faiss id of its first descriptor; they are consecutive."""
    descriptors: int
    """How many are indexed."""
    error: float
    """Mean squared distance of a descriptor to the centroid of its list; 0 for exact search."""
    list_sizes: str
    """For `imbalance`, without opening the file; see `pack`. Empty for exact search."""
    segments: list[str]


def part_key(name: str) -> str:
    """Key of a part in the sleeve bucket."""
    return f"parts/{name}.faiss"


def trained_key(name: str) -> str:
    """Key of an empty trained index in the sleeve bucket."""
    return f"trained/{name}.faiss"


# On arrays


def train(choice: Choice, sample: NDArray[np.uint8], threads: int) -> Any:
    """An empty index of the chosen kind, trained on `sample` (n, 128); exact search needs none and takes no sample."""
    if choice.codes == "exact":
        return faiss.IndexIDMap(faiss.IndexScalarQuantizer(DIMENSIONS, faiss.ScalarQuantizer.QT_8bit_direct))
    graph = choice.lists >= GRAPH_LISTS
    quantizer, assignment = (_graph(), _graph()) if graph else (faiss.IndexFlatL2(DIMENSIONS), None)
    index = _inverted_file(choice, quantizer)
    index.nprobe = choice.probes
    index.clustering_index = assignment
    index.cp.niter = TRAINING_ITERATIONS
    index.cp.seed = SEED
    index.cp.max_points_per_centroid = TRAINING_ROWS_PER_LIST
    index.cp.min_points_per_centroid = 1
    rows = sample.astype(np.float32)
    # In many tiny steps, as for few lists and for codes, threads mostly wait for each other: 17 s instead of 1 s were
    # seen where others wanted the cores too.
    faiss.omp_set_num_threads(threads if graph else 1)
    index.train_q1(len(rows), faiss.swig_ptr(rows), False, faiss.METRIC_L2)
    faiss.omp_set_num_threads(1)
    index.train(rows)
    index.clustering_index = None
    return index


def _graph() -> Any:
    graph = faiss.IndexHNSWFlat(DIMENSIONS, GRAPH_LINKS)
    graph.hnsw.efConstruction = GRAPH_BUILD_EFFORT
    graph.hnsw.efSearch = GRAPH_SEARCH_EFFORT
    return graph


def _inverted_file(choice: Choice, quantizer: Any) -> Any:
    if choice.codes == "sq8":
        code = faiss.ScalarQuantizer.QT_8bit_direct
        return faiss.IndexIVFScalarQuantizer(quantizer, DIMENSIONS, choice.lists, code, faiss.METRIC_L2, False)
    if choice.codes == "rabitq":
        return faiss.IndexIVFRaBitQ(quantizer, DIMENSIONS, choice.lists)
    index = faiss.IndexIVFPQFastScan(quantizer, DIMENSIONS, choice.lists, 32, 4)
    index.by_residual = True
    return index


def add(index: Any, blocks: Iterable[NDArray[np.uint8]], first_descriptor: int) -> tuple[int, float]:
    """Add blocks (n, 128) of descriptors with consecutive ids.

    Returns how many, and their mean squared distance to the centroids of their lists (0 for exact search).
    """
    added, errors = 0, []
    graph = _graph_of(index)
    if graph:
        graph.hnsw.efSearch = GRAPH_ADD_EFFORT
    for block in blocks:
        rows = block.astype(np.float32)
        ids = np.arange(first_descriptor + added, first_descriptor + added + len(rows), dtype=np.int64)
        if graph:
            order = _by_region(graph, rows)
            rows, ids = rows[order], ids[order]
        index.add_with_ids(rows, ids)
        added += len(rows)
        if isinstance(index, faiss.IndexIVF):
            errors.append(index.quantizer.search(rows[::ERROR_STRIDE], 1)[0].ravel())
    if graph:
        graph.hnsw.efSearch = GRAPH_SEARCH_EFFORT
    return added, float(np.concatenate(errors).mean()) if errors else 0.0


def _graph_of(index: Any) -> Any | None:
    """The graph that finds the lists; None where they are found one after another, or where there are none."""
    quantizer = faiss.downcast_index(index.quantizer) if isinstance(index, faiss.IndexIVF) else None
    return quantizer if isinstance(quantizer, faiss.IndexHNSW) else None


def _by_region(graph: Any, rows: NDArray[np.float32]) -> NDArray[np.intp]:
    """Row numbers, sorted by the nearest of some centroids."""
    regions = faiss.IndexFlatL2(DIMENSIONS)
    regions.add(graph.reconstruct_n(0, min(GRAPH_REGIONS, graph.ntotal)))
    _, nearest = regions.search(rows, 1)
    return np.argsort(nearest.ravel(), kind="stable")


def list_sizes(index: Any) -> NDArray[np.uint32]:
    """How many descriptors each list of an inverted file holds; empty for exact search."""
    if not isinstance(index, faiss.IndexIVF):
        return np.empty(0, np.uint32)
    lists: Any = index.invlists
    return np.array([lists.list_size(number) for number in range(index.nlist)], np.uint32)


def imbalance(sizes: Sequence[NDArray[np.uint32]]) -> float:
    """How uneven the lists are, from the sizes in each part: 1 when all are alike.

    It is the cost of scanning a list, times what it would be if all were alike, when full lists are also found more
    often. (As faiss::InvertedLists::imbalance_factor, but over several files.)
    """
    total = np.sum([one.astype(np.float64) for one in sizes], axis=0) if sizes else np.empty(0)
    return float(len(total) * (total**2).sum() / total.sum() ** 2) if np.sum(total) else 1.0


def pack(sizes: NDArray[np.uint32]) -> str:
    """List sizes as text for a manifest: little-endian uint32, zlib, base64."""
    return base64.b64encode(zlib.compress(sizes.astype("<u4").tobytes())).decode() if len(sizes) else ""


def unpack(text: str) -> NDArray[np.uint32]:
    """The reverse of `pack`."""
    return np.frombuffer(zlib.decompress(base64.b64decode(text)), "<u4") if text else np.empty(0, np.uint32)


# On files


def train_on(choice: Choice, segments: Sequence[Path], folder: Path, threads: int) -> Trained:
    """Train the chosen inverted file on a sample over all segments, and write it.

    The same segments give the same bytes while the lists are found one after another; a graph of them is built by
    several threads, and differs from run to run.
    """
    return train_on_sample(choice, _sample(segments, sample_size(choice)), folder, threads)


def sample_size(choice: Choice) -> int:
    """How many descriptors are wanted to train on."""
    return choice.lists * TRAINING_ROWS_PER_LIST + HELD_OUT


def train_on_sample(choice: Choice, sample: NDArray[np.uint8], folder: Path, threads: int) -> Trained:
    """Train the chosen inverted file on `sample`, (n, 128) in random order, and write it."""
    held_out = min(HELD_OUT, len(sample) // 10)
    index = train(choice, sample[held_out:], threads)
    faiss.omp_set_num_threads(threads)
    distances, _ = index.quantizer.search(sample[:held_out].astype(np.float32), 1)
    _, lists = index.quantizer.search(sample[held_out:].astype(np.float32), 1)
    sizes = np.bincount(lists.ravel(), minlength=choice.lists).astype(np.uint32)
    name, size = _write(index, folder)
    return Trained(
        name=name, bytes=size, lists=choice.lists, error=float(distances.mean()), imbalance=imbalance([sizes])
    )


def _sample(segments: Sequence[Path], size: int) -> NDArray[np.uint8]:
    """`size` descriptors (fewer if there are fewer) in random order, drawn without replacement from all segments."""
    # Segments are opened one at a time: what is read of a mapped file counts as memory of the process while it is open.
    bounds = np.cumsum([0, *(Segment(path).info.descriptors for path in segments)])
    total = int(bounds[-1])
    rng = np.random.default_rng(SEED)
    chosen = np.sort(rng.choice(total, min(size, total), replace=False, shuffle=False))
    sample = np.empty((len(chosen), DIMENSIONS), np.uint8)
    for path, start, stop in zip(segments, bounds, bounds[1:], strict=False):
        first, last = np.searchsorted(chosen, [start, stop])
        sample[first:last] = Segment(path).descriptors(0, int(stop - start))[chosen[first:last] - start]
    rng.shuffle(sample)
    return sample


class Span(BaseModel, frozen=True):
    """Consecutive segments that become one part."""

    first_image: int
    images: int
    first_descriptor: int
    descriptors: int
    segments: list[str]


def spans(segments: Sequence[Path], per_image: int, first_image: int, first_descriptor: int, limit: int) -> list[Span]:
    """Divide the segments, in order, into spans of at most `limit` indexed descriptors, or of one segment."""
    found: list[Span] = []
    for path in segments:
        segment = Segment(path)
        rows = int(_indexed_rows(segment, per_image).sum())
        last = found[-1] if found else None
        if last and last.descriptors + rows <= limit:
            grown = {"images": last.images + len(segment), "descriptors": last.descriptors + rows}
            found[-1] = last.model_copy(update={**grown, "segments": [*last.segments, path.stem]})
        else:
            found.append(
                Span(
                    first_image=first_image,
                    images=len(segment),
                    first_descriptor=first_descriptor,
                    descriptors=rows,
                    segments=[path.stem],
                )
            )
        first_image += len(segment)
        first_descriptor += rows
    return found


def _indexed_rows(segment: Segment, per_image: int) -> NDArray[np.int64]:
    """How many descriptors of each image are indexed, (images,)."""
    return np.minimum(np.diff(segment.offsets), per_image)


def build_part(
    choice: Choice, trained: Path | None, segments: Sequence[Path], span: Span, role: Role, folder: Path, threads: int
) -> Part:
    """Index the segments of a span. `trained` is the empty inverted file; None for exact search."""
    return build_part_of(choice, trained, _blocks(segments, choice.per_image), span, role, folder, threads)


def build_part_of(
    choice: Choice,
    trained: Path | None,
    blocks: Iterable[NDArray[np.uint8]],
    span: Span,
    role: Role,
    folder: Path,
    threads: int,
) -> Part:
    """`build_part` from blocks (n, 128) with the descriptors of a span that are indexed."""
    index = open_trained(trained) if trained else train(choice, np.empty((0, DIMENSIONS), np.uint8), threads)
    faiss.omp_set_num_threads(threads)
    _, error = add(index, blocks, span.first_descriptor)
    return _write_part(index, span, role, error, folder)


def _blocks(segments: Sequence[Path], per_image: int) -> Iterator[NDArray[np.uint8]]:
    for segment in map(Segment, segments):
        offsets = segment.offsets
        ranks = np.arange(offsets[-1]) - np.repeat(offsets[:-1], np.diff(offsets))
        for start in range(0, len(ranks), ADD_ROWS):
            stop = min(start + ADD_ROWS, len(ranks))
            yield segment.descriptors(start, stop)[ranks[start:stop] < per_image]


def merge(trained: Path | None, parts: Sequence[Part], paths: Sequence[Path], folder: Path) -> Part:
    """Join consecutive parts into one, which keeps all ids. Each is read once, and freed before the next."""
    # The trained file is empty, so it can be what the others are merged into.
    shared = open_trained(trained) if trained else None
    joined = open_trained(trained) if trained else _read(paths[0], 0)
    for path in paths if trained else paths[1:]:
        part = _read(path, 0)
        if shared is not None:
            _share_quantizer(part, shared.quantizer)
        _take_over(joined, part)
    first = parts[0]
    span = Span(
        first_image=first.first_image,
        images=sum(part.images for part in parts),
        first_descriptor=first.first_descriptor,
        descriptors=sum(part.descriptors for part in parts),
        segments=[name for part in parts for name in part.segments],
    )
    error = float(np.average([part.error for part in parts], weights=[max(part.descriptors, 1) for part in parts]))
    return _write_part(joined, span, "base", error, folder)


def _take_over(joined: Any, part: Any) -> None:
    """`joined.merge_from(part)`, safely: `part` is empty afterwards."""
    if isinstance(joined, faiss.IndexIVFPQFastScan):
        # Faiss 1.15.1 writes past the end of a packed list that has a multiple of 512 codes (the size of its blocks in
        # bytes, which it takes for that in codes) when others are merged into it.
        ours, theirs = (_lists_of(one) for one in (joined, part))
        for number in range(joined.nlist):
            size = ours.list_size(number)
            if size and size % ours.block_size == 0:
                _move_list(ours, theirs, number)
    joined.merge_from(part, 0)


def _move_list(ours: Any, theirs: Any, number: int) -> None:
    """Append a packed list to another, code by code."""
    before, more = ours.list_size(number), theirs.list_size(number)
    ours.resize(number, before + more)
    if more:
        source, target = _packed(theirs, number), _packed(ours, number)
        for place in range(more):
            ours.packer.pack_1(theirs.packer.unpack_1(source, place), before + place, target)
        ids = faiss.rev_swig_ptr(theirs.get_ids(number), more)
        faiss.rev_swig_ptr(ours.get_ids(number), before + more)[before:] = ids
    theirs.resize(number, 0)


def _lists_of(index: Any) -> Any:
    lists: Any = index.invlists
    return faiss.downcast_InvertedLists(lists)


def _packed(lists: Any, number: int) -> NDArray[np.uint8]:
    """(blocks, bytes of a block): the codes of a list, in place."""
    blocks = -(-lists.list_size(number) // lists.n_per_block)
    codes: NDArray[np.uint8] = faiss.rev_swig_ptr(lists.get_codes(number), blocks * lists.block_size)
    return codes.reshape(blocks, lists.block_size)


def _write_part(index: Any, span: Span, role: Role, error: float, folder: Path) -> Part:
    """Write an index with the descriptors of a span. Raises BrokenGeneration if it has not as many."""
    if index.ntotal != span.descriptors:
        raise BrokenGeneration(
            f"the part of {span.segments[:1]} has {index.ntotal} descriptors, not {span.descriptors}"
        )
    sizes = pack(list_sizes(index))
    name, size = _write_without_quantizer(index, folder) if sizes else _write(index, folder)
    return Part(name=name, bytes=size, role=role, error=error, list_sizes=sizes, **span.model_dump())


def _write_without_quantizer(index: Any, folder: Path) -> tuple[str, int]:
    quantizer, empty = index.quantizer, faiss.IndexFlatL2(DIMENSIONS)
    index.quantizer = empty
    try:
        return _write(index, folder)
    finally:
        index.quantizer = quantizer


def open_trained(path: Path) -> Any:
    """The trained file: its quantizer finds the lists for all parts."""
    index = _read(path, 0)
    _without_tables(index)
    return index


def open_part(path: Path, trained: Any | None) -> Any:
    """A part, set up for searching with the quantizer of `trained`; None for exact search.

    Lists of plain codes are mapped from disk, packed ones (PQ) are read. Raises BrokenGeneration.
    """
    index = _read(path, faiss.IO_FLAG_MMAP_IFC | faiss.IO_FLAG_READ_ONLY)
    if trained is not None:
        _without_tables(index)
        _share_quantizer(index, trained.quantizer)
        # Its quantizer must live as long as this part.
        index.referenced_objects = [trained]
    return index


def _read(path: Path, flags: int) -> Any:
    try:
        return faiss.read_index(str(path), flags)
    except RuntimeError as error:
        raise BrokenGeneration(f"Faiss cannot read {path}: {error}") from error


def _share_quantizer(index: Any, quantizer: Any) -> None:
    replaced = index.quantizer
    index.quantizer = quantizer
    index.own_fields = False
    # The old one is the empty one of a part file. Python may not free it; another C++ object, which dies here, may.
    owner = faiss.IndexIDMap(replaced)
    owner.own_fields = True


def _without_tables(index: Any) -> None:
    # Faiss would keep lists x 2 KB of look-up tables for each part; computing them for each query is as fast.
    if isinstance(index, faiss.IndexIVFPQFastScan):
        index.precomputed_table.resize(0)
        index.use_precomputed_table = -1


def _write(index: Any, folder: Path) -> tuple[str, int]:
    return write_by_content(folder, ".faiss", lambda path: faiss.write_index(index, path))

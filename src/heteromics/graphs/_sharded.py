"""Shards on disk: read one by one, checked, and mixed into batches for one worker or several that step together."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from heteromics._files import sha256_of
from heteromics._progress import track
from heteromics.errors import GraphError
from heteromics.graphs._subgraph import ROW, Cutter, end_to_end
from heteromics.graphs.card import Card
from heteromics.graphs.io import load_graph, read_names
from heteromics.graphs.sampling import CELL
from heteromics.graphs.schema import HeteroGraph

__all__ = ["FORMAT", "INDEX", "SCHEMA", "VERSION", "ShardedGraph", "read_index"]

FORMAT = "heteromics shards"
VERSION = 1
INDEX = "shards.json"
SCHEMA = "schema.json"


class ShardedGraph:
    """Shards on disk, read one at a time. Make one with :meth:`open`.

    Attributes
    ----------
    folder : Path
    kind : str
    meta : dict
        Of the whole graph.
    sizes : ndarray
        Cells of each shard, int64.
    """

    def __init__(self, folder: Path, index: Mapping[str, Any]) -> None:
        self.folder, self.kind, self.meta = folder, str(index["kind"]), dict(index["meta"])
        self._shards: list[dict[str, Any]] = list(index["shards"])
        self._card = dict(index["card"])
        self.sizes: NDArray[np.int64] = np.array([shard["cells"] for shard in self._shards], dtype=np.int64)
        self._first = self.sizes.cumsum() - self.sizes
        self._verified: set[int] = set()

    @classmethod
    def open(cls, folder: Path | str) -> ShardedGraph:
        """Open shards; no values are read.

        Raises
        ------
        GraphError
            When there are none, or of a format this release does not know.
        """
        folder = Path(folder)
        index = read_index(folder)
        if index is None:
            raise GraphError(
                f"{folder}: no shards of a heteromics graph there ({INDEX} not found, or of another form)."
            )
        if index.get("version") != VERSION:
            raise GraphError(
                f"{folder}: found shards of format {index.get('version')}, this release reads format {VERSION}.\n"
                "  Fix: build them again, or read them with the release that wrote them."
            )
        return cls(folder, index)

    def __len__(self) -> int:
        """Return the number of shards."""
        return len(self._shards)

    def __repr__(self) -> str:
        return f"ShardedGraph(kind={self.kind!r}, {len(self)} shards, {self.cells:,} cells)"

    @property
    def cells(self) -> int:
        """Number of cells in all."""
        return int(self.sizes.sum())

    @property
    def card(self) -> Card:
        """The card of the whole, as it was counted when the shards were made; bytes are those of all shards."""
        return Card.from_dict({**self._card, "meta": self.meta})

    def names(self, ntype: str) -> NDArray[np.str_]:
        """Return the names of all nodes of a type, in order."""
        folders = [self.folder / shard["name"] for shard in self._shards]
        return np.concatenate([read_names(folder, ntype) for folder in (folders if ntype == CELL else folders[:1])])

    def shard(self, number: int) -> HeteroGraph:
        """Read one shard.

        Returns
        -------
        HeteroGraph
            ``ndata["row"]`` says where each node stands in the whole, int64. Checksums are compared the first time.

        Raises
        ------
        GraphError
            When a file is missing or not the one that was written.
        """
        entry = self._shards[number]
        folder = self.folder / entry["name"]
        verify = number not in self._verified
        if verify and (not (folder / SCHEMA).is_file() or sha256_of(folder / SCHEMA) != entry["sha256"]):
            raise GraphError(
                f"{folder}: {SCHEMA} is missing or not what was written (checksum).\n"
                "  Fix: build the shards again, or copy the folder again."
            )
        graph = load_graph(folder, verify=verify)
        self._verified.add(number)
        first = int(self._first[number])
        for ntype in graph.ntypes:
            rows = torch.arange(graph.num_nodes(ntype)) + (first if ntype == CELL else 0)
            graph.dgl.nodes[ntype].data[ROW] = rows
        return graph

    def __iter__(self) -> Iterator[HeteroGraph]:
        return self.iterate()

    def iterate(self, rank: int = 0, world_size: int = 1) -> Iterator[HeteroGraph]:
        """Yield the shards in order, or every ``world_size``-th from ``rank`` on: one part for each of several workers.

        The next shard is read while one is used, so that two are held.
        """
        _check_rank(rank, world_size)
        return self._read(range(rank, len(self), world_size))

    def _read(self, numbers: Sequence[int]) -> Iterator[HeteroGraph]:
        with ThreadPoolExecutor(1) as reader:
            coming = reader.submit(self.shard, numbers[0]) if len(numbers) else None
            for following in [*numbers[1:], None]:
                if coming is None:
                    return
                graph = coming.result()
                coming = None if following is None else reader.submit(self.shard, following)
                yield graph
                del graph

    def validate(self) -> ShardedGraph:
        """Read and check every shard, and that they fit together; return the sharded graph itself.

        Raises
        ------
        GraphError
            With all problems at once.
        """
        problems: list[str] = []
        first: HeteroGraph | None = None
        for number in track(range(len(self)), "checking shards", len(self)):
            self._verified.discard(number)
            try:
                graph = self.shard(number).validate()
            except GraphError as error:
                problems.append(f"{self._shards[number]['name']}: {error}")
                continue
            first = graph if first is None else first
            problems += [
                f"{self._shards[number]['name']}: {problem}" for problem in self._differences(number, first, graph)
            ]
        names = self.names(CELL) if not problems else np.empty(0, dtype=str)
        if twice := names.size - np.unique(names).size:
            problems.append(f"{twice} of {names.size} cells have the name of another one")
        if problems:
            listed = "".join(f"\n  - {problem}" for problem in problems)
            raise GraphError(f"{self.folder}: {len(problems)} problem{'s' * (len(problems) > 1)}.{listed}", problems)
        return self

    def _differences(self, number: int, first: HeteroGraph, graph: HeteroGraph) -> Iterator[str]:
        if (graph.kind, graph.ntypes, graph.canonical_etypes) != (first.kind, first.ntypes, first.canonical_etypes):
            yield f"{graph!r} has other types than {first!r}"
            return
        if graph.num_nodes(CELL) != self.sizes[number]:
            yield f"{graph.num_nodes(CELL)} cells, {INDEX} says {self.sizes[number]}"
        for ntype in graph.ntypes:
            if ntype != CELL and not np.array_equal(graph.names[ntype], first.names[ntype]):
                yield f"nodes '{ntype}' are not those of the first shard, in the same order"
            elif ntype != CELL and any(
                not torch.equal(tensor, first.ndata(ntype)[name]) for name, tensor in graph.ndata(ntype).items()
            ):
                yield f"features of nodes '{ntype}' are not those of the first shard"

    def steps(self, size: int, *, world_size: int = 1, drop_last: bool = True) -> int:
        """Return the number of batches that :meth:`batches` yields to each rank in an epoch."""
        whole, rest = divmod(self.cells, size * world_size)
        return whole + (rest > 0 and not drop_last)

    def batches(
        self,
        size: int,
        *,
        seed: int = 0,
        epoch: int = 0,
        rank: int = 0,
        world_size: int = 1,
        window: int = 4,
        shuffle: bool = True,
        drop_last: bool = True,
    ) -> Iterator[HeteroGraph]:
        """Yield one epoch of batches of cells, for one of several workers that step together.

        Parameters
        ----------
        size
            Cells of a batch of one rank; the ranks' batches of one step are a global batch of ``size * world_size``.
        seed, epoch
            The order of cells is a function of both, and not of the number of ranks.
        rank, world_size
            Which worker, of how many.
        window
            Shards whose cells are mixed; see the notes.
        shuffle
            False: cells in their order.
        drop_last
            Leave out the cells that do not fill a last global batch: fewer than ``size * world_size``, other ones in
            each epoch. False, for prediction, needs ``world_size=1``, because ranks whose batches differ in size would
            average gradients that do not weigh alike; let several workers predict with :meth:`iterate`.

        Yields
        ------
        HeteroGraph
            As :class:`heteromics.graphs.CellBatcher`, all features kept; ``ndata["row"]`` says where each cell stands
            in the whole. Step t of all ranks together, in the order of ranks, is step t of one worker with batches of
            ``size * world_size``: with a loss that is a mean over cells, averaged over ranks, both train alike.

        Notes
        -----
        Shards are put in a random order; ``window`` of them at a time are read and their cells mixed, as a stream from
        which global batches are cut. A wider window mixes better and holds more: each rank keeps its own cells only, up
        to ``2 * window / world_size`` shards while one window is added to what the last left over, and two shards as
        they are read. Every rank reads all shards.
        """
        _check_rank(rank, world_size)
        if size < 1 or window < 1:
            raise GraphError(f"batches: found size={size} and window={window}, expected 1 or more.")
        if not drop_last and world_size > 1:
            raise GraphError(
                f"batches: drop_last=False gives {world_size} ranks last batches of different sizes.\n"
                "  Fix: drop_last=True to train; world_size=1, or iterate(rank, world_size), to predict."
            )
        last = self.steps(size, world_size=world_size, drop_last=drop_last) * size * world_size
        if not last:
            raise GraphError(
                f"batches: found {self.cells:,} cells, expected {size * world_size:,} or more, those of one global "
                "batch.\n  Fix: a smaller size, or drop_last=False."
            )
        note = {"name": "shard_batch", "seed": seed, "epoch": epoch, "rank": rank, "world_size": world_size}
        plan = list(self._plan(seed, epoch, window, shuffle))
        shards = self._read([number for numbers, _ in plan for number in numbers])
        waiting: HeteroGraph | None = None
        done = step = 0
        for numbers, cells in plan:
            at = np.arange(done, done + len(cells))
            done += len(cells)
            mine = cells[((at // size) % world_size == rank) & (at < last)]
            pool, rows = self._pool(waiting, numbers, shards, mine)
            if pool is None:
                continue
            cutter = Cutter(pool, CELL)
            for start in range(0, len(rows) - size + 1, size):
                yield cutter.take({CELL: rows[start : start + size]}, {**note, "step": step})
                step += 1
            rest = rows[len(rows) // size * size :]
            waiting = cutter.take({CELL: rest}, {}) if len(rest) else None
            del pool, cutter
        if waiting is not None:
            waiting.meta = self.meta | {"transforms": [*self.meta.get("transforms", []), {**note, "step": step}]}
            yield waiting

    def _plan(self, seed: int, epoch: int, window: int, shuffle: bool) -> Iterator[tuple[list[int], NDArray[np.int64]]]:
        """Yield windows: which shards, and all their cells in the order of the epoch."""
        rng = np.random.default_rng([seed, epoch])
        order = rng.permutation(len(self)) if shuffle else np.arange(len(self))
        for start in range(0, len(self), window):
            numbers = order[start : start + window].tolist()
            cells = np.concatenate([self._first[number] + np.arange(self.sizes[number]) for number in numbers])
            yield numbers, rng.permutation(cells) if shuffle else cells

    def _pool(
        self,
        waiting: HeteroGraph | None,
        numbers: Sequence[int],
        shards: Iterator[HeteroGraph],
        cells: NDArray[np.int64],
    ) -> tuple[HeteroGraph | None, Tensor]:
        """Lay some cells of some shards behind those that wait; return the rows of all in the order of the epoch."""
        pieces = [] if waiting is None else [waiting]
        used = 0 if waiting is None else waiting.num_nodes(CELL)
        home = np.searchsorted(self._first, cells, side="right") - 1
        rows = np.empty(len(cells), dtype=np.int64)
        for number in numbers:
            shard, here = next(shards), np.flatnonzero(home == number)
            if here.size:
                kept = torch.from_numpy(cells[here] - self._first[number])
                pieces.append(Cutter(shard, CELL).take({CELL: kept}, {}))
                rows[here] = used + np.arange(here.size)
                used += here.size
            del shard
        ahead = np.arange(used - len(cells))
        if not pieces:
            return None, torch.empty(0, dtype=torch.int64)
        pool = end_to_end(pieces, CELL) if len(pieces) > 1 else pieces[0]
        pool.meta = self.meta
        return pool, torch.from_numpy(np.concatenate([ahead, rows]))


def _check_rank(rank: int, world_size: int) -> None:
    if not 0 <= rank < world_size:
        raise GraphError(f"found rank {rank} of {world_size}, expected 0 to {world_size - 1}.")


def read_index(folder: Path) -> dict[str, Any] | None:
    """Read shards.json; None where there is none or it is something else."""
    try:
        index = json.loads((folder / INDEX).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return index if isinstance(index, dict) and index.get("format") == FORMAT else None

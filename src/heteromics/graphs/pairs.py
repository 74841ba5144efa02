"""Batches of (RNA profile, ATAC profile) pairs, cut from compressed rows without a loop over pairs, cells or nodes.

The attributed bipartite graph of a pair joins the genes expressed in one cell with the peaks open in another
(Bi2Former; "Learning Crossmodal Interaction Patterns via Attributed Bipartite Graphs for Single-Cell Omics"). Genes and
peaks of the collection are sorted by chromosome, so that those of one pair that may meet are consecutive: a block. Only
the bounds of the blocks are kept; pairs of nodes on different chromosomes are never formed.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import torch
from torch import Tensor

from heteromics.errors import GraphError

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray

    from heteromics.graphs.schema import HeteroGraph

__all__ = ["EXPRESSES", "OPENS", "REACHES", "Mask", "PairBatch", "PairBatcher"]

EXPRESSES = ("rna_cell", "expresses", "gene")
OPENS = ("atac_cell", "opens", "peak")
REACHES = ("gene", "reaches", "peak")
Mask = Literal["chromosome", "window", "none"]


@dataclass(frozen=True, slots=True)
class PairBatch:
    """Several pairs laid end to end: B pairs with NR genes and NA peaks in all.

    Attributes
    ----------
    gene, peak
        Rows of node types ``gene`` and ``peak``, int32, shapes (NR,) and (NA,); rising within a pair.
    gene_value, peak_value
        Edge weights (counts), float32, shapes (NR,) and (NA,).
    gene_chrom, peak_chrom
        Chromosome codes, int32, -1 where unknown.
    gene_offsets, peak_offsets
        Bounds of the pairs, int64, shape (B + 1,): pair b holds genes ``gene_offsets[b]:gene_offsets[b + 1]``.
    gene_block_ptr, peak_block_ptr
        Start and stop of each block among the NR genes and the NA peaks, int64, shape (n_blocks, 2) each. Gene and
        peak may meet only inside a block; no block is empty on either side.
    gene_position, peak_position
        Transcription starts and peak midpoints in bp, int64, shapes (NR,) and (NA,), for a window mask or on request;
        None otherwise.
    within_bp
        For a window mask: the largest distance at which genes and peaks may meet. None otherwise.
    """

    gene: Tensor
    gene_value: Tensor
    gene_chrom: Tensor
    gene_offsets: Tensor
    peak: Tensor
    peak_value: Tensor
    peak_chrom: Tensor
    peak_offsets: Tensor
    gene_block_ptr: Tensor
    peak_block_ptr: Tensor
    gene_position: Tensor | None = None
    peak_position: Tensor | None = None
    within_bp: int | None = None

    def __len__(self) -> int:
        """Return the number of pairs."""
        return len(self.gene_offsets) - 1

    @property
    def most_edges(self) -> int:
        """Most (gene, peak) that may meet: all inside blocks, of which a window leaves some."""
        return int((self.gene_block_ptr.diff() * self.peak_block_ptr.diff()).sum())

    def edges(self) -> tuple[Tensor, Tensor]:
        """Return every (gene, peak) that may meet, compressed by gene.

        Returns
        -------
        indptr, peak_row
            Row bounds (NR + 1,) and rows among the NA peaks (E,), int64, rising within a gene. Time and memory
            grow with E.
        """
        first = torch.zeros(len(self.gene), dtype=torch.int64, device=self.gene.device)
        size = torch.zeros_like(first)
        gene_row, block = _ranges(self.gene_block_ptr)
        first[gene_row] = self.peak_block_ptr[block, 0]
        size[gene_row] = self.peak_block_ptr.diff().squeeze(1)[block]
        if self.gene_position is not None and self.peak_position is not None and self.within_bp is not None:
            codes = _most(self.gene_chrom, self.peak_chrom) + 2  # -1 among them
            wide = _most(self.gene_position, self.peak_position) + self.within_bp + 2
            centre = _position_keys(self.gene_position, self.gene_chrom, self.gene_offsets, codes, wide)
            key = _position_keys(self.peak_position, self.peak_chrom, self.peak_offsets, codes, wide)
            near = torch.searchsorted(key, centre - self.within_bp)
            stop = torch.searchsorted(key, centre + self.within_bp, right=True)
            first, size = torch.where(size > 0, near, 0), torch.where(size > 0, stop - near, 0)
        indptr = torch.cat([size.new_zeros(1), size.cumsum(0)])
        edge = torch.arange(int(indptr[-1]), device=first.device)
        return indptr, edge + torch.repeat_interleave(first - indptr[:-1], size)

    def to(self, device: torch.device | str) -> PairBatch:
        """Return the batch on another device."""
        parts = {field.name: getattr(self, field.name) for field in fields(self)}
        moved: dict[str, Any] = {
            name: part.to(device) if isinstance(part, Tensor) else part for name, part in parts.items()
        }
        return PairBatch(**moved)


class PairBatcher:
    """Cuts batches of pairs out of the graph that :func:`heteromics.graphs.bipartite` builds.

    Parameters
    ----------
    graph
        Of kind ``"bipartite"``.
    mask
        Which genes and peaks may meet: on one ``"chromosome"``, there within ``graph.meta["within_bp"]`` too
        (``"window"``), or all (``"none"``, the paper's ablation without edges). Default: the graph's own mask.
    within_bp
        Of the window, in bp from transcription start to peak midpoint. Default: the graph's.
    positions
        Give batches positions whatever the mask.

    Raises
    ------
    GraphError
        For another kind of graph or an unknown mask.

    Notes
    -----
    Time and memory of a batch grow with the expressed genes and open peaks of its cells, whatever the number of genes,
    peaks and cells of the graph.
    """

    def __init__(
        self, graph: HeteroGraph, mask: Mask | None = None, within_bp: int | None = None, *, positions: bool = False
    ) -> None:
        if graph.kind != "bipartite":
            raise GraphError(
                f"found a graph of kind {graph.kind!r}, expected 'bipartite'. "
                "Fix: build it with heteromics.graphs.bipartite."
            )
        self.graph = graph
        self.mask: Mask = graph.meta["mask"] if mask is None else mask
        if self.mask not in ("chromosome", "window", "none"):
            raise GraphError(f"mask: found {mask!r}, expected 'chromosome', 'window' or 'none'.")
        self.within_bp = int(graph.meta["within_bp"] if within_bp is None else within_bp)
        self.positions = positions or self.mask == "window"
        self._genes = _Rows(graph, EXPRESSES)
        self._peaks = _Rows(graph, OPENS)
        self._codes = 1 + max(
            (int(graph.ndata(side)["chrom"].max()) for side in ("gene", "peak") if graph.num_nodes(side)), default=-1
        )

    def batch(self, pairs: ArrayLike | Tensor) -> PairBatch:
        """Return the pairs, in the order given.

        Parameters
        ----------
        pairs
            Rows of ``rna_cell`` and of ``atac_cell``, integers, shape (B, 2).

        Raises
        ------
        GraphError
            When a row does not exist.
        """
        rows = self.checked(pairs)
        gene, gene_value, gene_chrom, gene_offsets = self._genes.take(rows[:, 0])
        peak, peak_value, peak_chrom, peak_offsets = self._peaks.take(rows[:, 1])
        gene_ptr, peak_ptr = (
            _whole_pairs(offsets) if self.mask == "none" else _chromosome_blocks(chrom, offsets, self._codes)
            for chrom, offsets in ((gene_chrom, gene_offsets), (peak_chrom, peak_offsets))
        )
        filled = ((gene_ptr.diff() > 0) & (peak_ptr.diff() > 0)).squeeze(1)
        near: dict[str, Any] = {}
        if self.positions:
            near = {
                "gene_position": self.graph.ndata("gene")["position"][gene.long()],
                "peak_position": self.graph.ndata("peak")["position"][peak.long()],
                "within_bp": self.within_bp if self.mask == "window" else None,
            }
        return PairBatch(
            gene,
            gene_value,
            gene_chrom,
            gene_offsets,
            peak,
            peak_value,
            peak_chrom,
            peak_offsets,
            gene_ptr[filled],
            peak_ptr[filled],
            **near,
        )

    def profiles(
        self, side: Literal["gene", "peak"], cells: NDArray[np.int64], most_nodes: int
    ) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
        """Yield the profiles of some cells, at most ``most_nodes`` genes or peaks, or one cell, at a time.

        Yields features (N,) and weights (N,), cell after cell, and the bounds of the cells (n + 1,).
        """
        rows = self._genes if side == "gene" else self._peaks
        for part in _cut(rows.size(torch.from_numpy(cells)), len(cells), most_nodes):
            feature, weight, _, offsets = rows.take(torch.from_numpy(cells[part]))
            yield feature, weight, offsets

    def parts(self, pairs: ArrayLike | Tensor, size: int, most_nodes: int | None = None) -> list[Tensor]:
        """Cut pairs, in their order, into parts for :meth:`batch`.

        Parameters
        ----------
        pairs
            As for :meth:`batch`.
        size
            Most pairs of a part.
        most_nodes
            Most genes and peaks of a part together, unless one pair alone has more: bounds memory where cells differ.
        """
        rows = self.checked(pairs)
        nodes = self._genes.size(rows[:, 0]) + self._peaks.size(rows[:, 1])
        return [rows[part] for part in _cut(nodes, size, most_nodes)]

    def stream(self, pairs: ArrayLike | Tensor, size: int) -> Iterator[PairBatch]:
        """Yield all pairs in batches, arguments as of :meth:`parts`; one batch is held at a time."""
        yield from map(self.batch, self.parts(pairs, size))

    def checked(self, pairs: ArrayLike | Tensor) -> Tensor:
        """Return pairs as an int64 tensor of shape (B, 2) whose rows are in the graph, or raise a GraphError."""
        rows = torch.as_tensor(np.asarray(pairs))
        if rows.ndim != 2 or rows.shape[1] != 2 or rows.is_floating_point():
            raise GraphError(
                f"pairs: found shape {tuple(rows.shape)} of {rows.dtype}, expected integers of shape (pairs, 2): "
                "rows of rna_cell and of atac_cell."
            )
        rows = rows.to(torch.int64)
        for column, rows_of in ((0, self._genes), (1, self._peaks)):
            outside = (rows[:, column] < 0) | (rows[:, column] >= rows_of.cells)
            if count := int(outside.sum()):
                raise GraphError(
                    f"pairs: {count} of {len(rows)} rows of {rows_of.ntype} lie outside 0 to {rows_of.cells - 1}, "
                    f"first {int(rows[outside][0, column])}. Fix: graph.index('{rows_of.ntype}', names)."
                )
        return rows

    def pair_graph(self, rna_cell: int, atac_cell: int) -> HeteroGraph:
        """Return the attributed bipartite graph of one pair, to look at or hand to DGL.

        Nodes ``gene`` and ``peak`` carry ``value``, ``chrom`` and ``attributes``; edges ``(gene, may_reach, peak)`` are
        all that the mask allows. Enumerates those edges: for one pair, not for many.
        """
        from heteromics.graphs.schema import HeteroGraph

        batch = self.batch([[rna_cell, atac_cell]])
        indptr, target = batch.edges()
        source = torch.repeat_interleave(torch.arange(len(batch.gene)), indptr.diff())
        nodes: dict[str, dict[str, Tensor]] = {}
        for side, ids in (("gene", batch.gene), ("peak", batch.peak)):
            data = self.graph.ndata(side)
            nodes[side] = {name: data[name][ids.long()] for name in ("chrom", "position", "attributes")}
            nodes[side]["value"] = getattr(batch, f"{side}_value")
        names = {side: self.graph.names[side][getattr(batch, side).numpy()] for side in ("gene", "peak")}
        cells = [str(self.graph.names[side][row]) for side, row in (("rna_cell", rna_cell), ("atac_cell", atac_cell))]
        return HeteroGraph.from_edges(
            {("gene", "may_reach", "peak"): (source, target)},
            names=names,
            ndata=nodes,
            kind="pair",
            meta={"rna_cell": cells[0], "atac_cell": cells[1], "mask": self.mask},
        )


class _Rows:
    """The compressed rows of one modality, cells x features, columns rising within a row."""

    def __init__(self, graph: HeteroGraph, etype: tuple[str, str, str]) -> None:
        self.ntype, _, feature = etype
        self.cells, self.width = graph.num_nodes(self.ntype), graph.num_nodes(feature)
        self.indptr, self.indices, order = graph.adjacency(etype, by="src")
        weight = graph.edata(etype)["weight"]
        in_order = bool((order == torch.arange(len(order), dtype=order.dtype)).all())
        self.weight = weight if in_order else weight[order.long()]
        self.chrom = graph.ndata(feature)["chrom"]

    def size(self, rows: Tensor) -> Tensor:
        """Return how many features some cells have, shape (cells,), int64."""
        return (self.indptr[rows + 1] - self.indptr[rows]).long()

    def take(self, rows: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Return features, weights and chromosome codes of some cells end to end, and the bounds of the cells."""
        start, size = self.indptr[rows].long(), self.size(rows)
        offsets = torch.cat([size.new_zeros(1), size.cumsum(0)])
        place = torch.arange(int(offsets[-1])) + torch.repeat_interleave(start - offsets[:-1], size)
        feature = self.indices[place]
        return feature, self.weight[place], self.chrom[feature.long()], offsets


def _cut(nodes: Tensor, size: int, most_nodes: int | None) -> list[slice]:
    """Cut a row of items into slices of at most ``size`` items and, if they are several, ``most_nodes`` nodes."""
    if most_nodes is None:
        return [slice(start, start + size) for start in range(0, len(nodes), size)]
    total = np.concatenate([[0], np.cumsum(nodes.numpy())])
    start, cuts = 0, []
    while start < len(nodes):
        reach = int(np.searchsorted(total, total[start] + most_nodes, side="right")) - 1
        stop = min(max(reach, start + 1), start + size, len(nodes))
        cuts.append(slice(start, stop))
        start = stop
    return cuts


def _chromosome_blocks(chrom: Tensor, offsets: Tensor, codes: int) -> Tensor:
    """Bounds of each (pair, chromosome) run, (pairs * codes, 2): codes rise within a pair, and -1 gives no block."""
    pairs = len(offsets) - 1
    pair = torch.repeat_interleave(torch.arange(pairs), offsets.diff())
    sizes = torch.bincount(pair * (codes + 1) + chrom + 1, minlength=pairs * (codes + 1))
    stop = sizes.cumsum(0)
    bounds = torch.stack([stop - sizes, stop], 1).reshape(pairs, codes + 1, 2)
    return bounds[:, 1:].reshape(-1, 2)


def _whole_pairs(offsets: Tensor) -> Tensor:
    return torch.stack([offsets[:-1], offsets[1:]], 1)


def _ranges(bounds: Tensor) -> tuple[Tensor, Tensor]:
    """Every row of some ranges (n, 2), and the range it lies in."""
    size = bounds.diff().squeeze(1)
    number = torch.repeat_interleave(torch.arange(len(size), device=size.device), size)
    within = torch.arange(len(number), device=size.device) - (size.cumsum(0) - size)[number]
    return bounds[number, 0] + within, number


def _most(*values: Tensor) -> int:
    return max((int(each.max()) for each in values if len(each)), default=0)


def _position_keys(position: Tensor, chrom: Tensor, offsets: Tensor, codes: int, wide: int) -> Tensor:
    """Numbers that rise with pair, chromosome and position; chromosomes, -1 among them, are ``wide`` bp each."""
    pair = torch.repeat_interleave(torch.arange(len(offsets) - 1, device=offsets.device), offsets.diff())
    return (pair * codes + chrom.long() + 1) * wide + position.long()

"""What the log odds of a match owe to the counts: gradients by value, and peaks deleted from profiles."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, fields, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from scipy import sparse
from torch import Tensor

from heteromics.graphs.pairs import OPENS
from heteromics.models._links import LinkSums, joint_counts
from heteromics.models._pair_model import PairModel
from heteromics.models.bi2former import Bi2Former, _groups

if TYPE_CHECKING:
    from pandas import DataFrame

    from heteromics.graphs import HeteroGraph, PairBatch

__all__ = ["Deletions", "delete_peaks", "gradient_products", "value_gradients"]

Float = NDArray[np.float64]
Int = NDArray[np.int64]

_HELD = 1 << 22  # values of profiles held at a time, 100 MB


def value_gradients(
    model: PairModel,
    graph: HeteroGraph | None,
    pairs: ArrayLike,
    groups: ArrayLike | None = None,
    *,
    device: str = "auto",
    progress: bool = False,
) -> DataFrame:
    """Say what the log odds of a match owe to the expression of each gene and the openness of each peak.

    Parameters
    ----------
    model
        Any fitted model of pairs.
    graph, pairs, groups, device, progress
        As in :func:`heteromics.interpret.attribute`.

    Returns
    -------
    DataFrame
        ``side`` (``"gene"`` or ``"peak"``), ``feature``, with groups ``group``, then ``gradient`` (of the log odds by
        the count), ``product`` (count times gradient; Shrikumar et al., ICML 2017, weigh it) and ``n_pairs``; means
        over the ``n_pairs`` pairs that have the feature, which is left out where none has.

    Raises
    ------
    ModelError, GraphError
        As in :meth:`heteromics.models.Bi2Former.predict`; also when groups are not one per pair.

    Notes
    -----
    A count also changes the depth of its profile, by which the others are scaled; the gradient holds this, and holds
    the choice of links fixed. One pass forward and backward; sums are float64.
    """
    import pandas as pd

    graph = model._graph_or_own(graph)
    rows = two_columns(pairs)
    labels, code = _groups(groups, len(rows))
    parts = []
    for number, label in enumerate(labels):
        sums = {side: np.zeros((3, graph.num_nodes(side))) for side in ("gene", "peak")}
        what = f"gradients {label}".strip()
        for batch, *slopes in _slopes(model, graph, rows[code == number], device, what, progress=progress):
            for side, slope in zip(sums, slopes, strict=True):
                feature = getattr(batch, side).cpu().numpy()
                value = getattr(batch, f"{side}_value").detach().double().cpu().numpy()
                for line, weight in enumerate((slope, slope * value, np.ones_like(slope))):
                    sums[side][line] += np.bincount(feature, weight, minlength=sums[side].shape[1])
        for side, (gradient, product, there) in sums.items():
            met = np.flatnonzero(there)
            table = pd.DataFrame({"side": side, "feature": graph.names[side][met]})
            if groups is not None:
                table["group"] = label
            parts.append(
                table.assign(
                    gradient=gradient[met] / there[met],
                    product=product[met] / there[met],
                    n_pairs=there[met].astype(int),
                )
            )
    return pd.concat(parts, ignore_index=True)


def gradient_products(
    model: PairModel,
    graph: HeteroGraph,
    pairs: Int,
    gene: Int,
    peak: Int,
    device: str,
    what: str,
    *,
    progress: bool,
) -> Float:
    """Sum over pairs (value times gradient) of genes times that of peaks, for rows ``gene`` and ``peak``, (L,)."""
    total = np.zeros(len(gene))
    waiting: list[tuple[sparse.csr_matrix, sparse.csr_matrix]] = []
    held = 0
    for batch, *slopes in _slopes(model, graph, pairs, device, what, progress=progress):
        sides = []
        for side, slope in zip(("gene", "peak"), slopes, strict=True):
            value = getattr(batch, f"{side}_value").detach().double().cpu().numpy() * slope
            bounds = getattr(batch, f"{side}_offsets").cpu().numpy()
            shape = len(batch), graph.num_nodes(side)
            sides.append(sparse.csr_matrix((value, getattr(batch, side).cpu().numpy(), bounds), shape=shape))
        waiting.append((sides[0], sides[1]))
        held += sides[0].nnz + sides[1].nnz
        if held > _HELD:
            total += _joint(waiting, gene, peak)
            waiting, held = [], 0
    return total + (_joint(waiting, gene, peak) if waiting else 0)


def _joint(parts: list[tuple[sparse.csr_matrix, sparse.csr_matrix]], gene: Int, peak: Int) -> Float:
    left, right = (sparse.csc_matrix(sparse.vstack(side)) for side in zip(*parts, strict=True))
    return joint_counts(left, right, gene, peak)


def _slopes(
    model: PairModel, graph: HeteroGraph, pairs: Int, device: str, what: str, *, progress: bool
) -> Iterator[tuple[PairBatch, Float, Float]]:
    """Yield batches with the gradients of the log odds by the counts of genes and of peaks, (NR,) and (NA,)."""
    for batch in model._batches(graph, pairs, device, what, progress=progress):
        gene, peak = (value.detach().clone().requires_grad_() for value in (batch.gene_value, batch.peak_value))
        with torch.enable_grad():
            logits = model._fitted()(replace(batch, gene_value=gene, peak_value=peak))
            slopes = torch.autograd.grad((logits[:, 1] - logits[:, 0]).sum(), [gene, peak])
        yield batch, slopes[0].double().cpu().numpy(), slopes[1].double().cpu().numpy()


@dataclass(frozen=True, slots=True)
class Deletions:
    """What deleting peaks from profiles changes.

    Attributes
    ----------
    match
        One row per peak, in the order of the graph, group after group: ``peak``, with groups ``group``, ``change`` and
        ``n_pairs``. ``change`` is the log odds of the whole profiles minus those without the peak, mean over the
        ``n_pairs`` pairs in which it is open, 0 where there are none.
    messages
        One row per peak and gene that attended to it, with groups per group: ``peak, gene``, ``change`` and
        ``n_pairs``. ``change`` is the Euclidean length of the difference between the messages to the gene, over all
        layers and heads, mean over the ``n_pairs`` pairs in which it attended to the peak; larger first.
    """

    match: DataFrame
    messages: DataFrame


def delete_peaks(
    model: Bi2Former,
    graph: HeteroGraph | None,
    pairs: ArrayLike,
    peaks: ArrayLike,
    groups: ArrayLike | None = None,
    *,
    device: str = "auto",
    progress: bool = False,
) -> Deletions:
    """Delete single peaks from ATAC profiles, and say how the match and the messages to genes change.

    The profile without the peak is scored as if it had been measured so: depth, scaled values, the choice of links,
    weights and all layers are those of the profile that is left.

    Parameters
    ----------
    model
        Fitted.
    graph, pairs, groups, device, progress
        As in :func:`heteromics.interpret.attribute`.
    peaks
        Names; each is deleted alone.

    Returns
    -------
    Deletions

    Raises
    ------
    ModelError, GraphError
        As in :meth:`heteromics.models.Bi2Former.links`; also for a peak that is not in the graph.

    Notes
    -----
    Cost: two passes forward for every pair and asked peak that is open in it. A batch is held at a time, and one
    number per peak and gene that attended to it.
    """
    import pandas as pd

    graph = model._graph_or_own(graph)
    rows = two_columns(pairs)
    chosen = np.unique(graph.index("peak", np.asarray(peaks, dtype=str)))
    labels, code = _groups(groups, len(rows))
    width = graph.num_nodes("peak")
    found: dict[str, list[DataFrame]] = {"match": [], "messages": []}
    for number, label in enumerate(labels):
        in_group = rows[code == number]
        pair, target = _open_in(graph, in_group[:, 1], chosen)
        match, messages = np.zeros(len(chosen)), LinkSums()
        done = 0
        what = f"deletions {label}".strip()
        for batch in model._batches(graph, in_group[pair], device, what, progress=progress):
            gone = target[done : done + len(batch)]
            done += len(batch)
            change, gene, of_pair, moved = _deleted(model, batch, torch.from_numpy(chosen[gone]))
            match += np.bincount(gone, change, minlength=len(chosen))
            messages.add(gene * width + chosen[gone][of_pair], np.stack([moved, np.ones_like(moved)], axis=1))
        there = np.bincount(target, minlength=len(chosen))
        key, sums = messages.totals()
        of_group = {} if groups is None else {"group": label}
        table = {"peak": graph.names["peak"][chosen], **of_group, "change": match / np.maximum(there, 1)}
        found["match"].append(pd.DataFrame({**table, "n_pairs": there}))
        sums = sums if key.size else np.zeros((0, 2))
        table = {"peak": graph.names["peak"][key % width], "gene": graph.names["gene"][key // width], **of_group}
        of_gene = pd.DataFrame({**table, "change": sums[:, 0] / sums[:, 1], "n_pairs": sums[:, 1].astype(int)})
        found["messages"].append(of_gene.sort_values("change", ascending=False, kind="stable"))
    return Deletions(*(pd.concat(parts, ignore_index=True) for parts in found.values()))


def _open_in(graph: HeteroGraph, cells: Int, chosen: Int) -> tuple[Int, Int]:
    """Return every place in ``cells`` and in ``chosen``, sorted peaks, where the cell has the peak."""
    indptr, indices = (part.numpy().astype(np.int64, copy=False) for part in graph.adjacency(OPENS)[:2])
    size = indptr[cells + 1] - indptr[cells]
    cell = np.repeat(np.arange(len(cells)), size)
    peak = indices[indptr[cells][cell] + np.arange(len(cell)) - (size.cumsum() - size)[cell]]
    asked = np.isin(peak, chosen)
    return cell[asked], np.searchsorted(chosen, peak[asked])


@torch.no_grad()
def _deleted(model: Bi2Former, batch: PairBatch, gone: Tensor) -> tuple[Float, Int, Int, Float]:
    """Delete one peak from each pair; return the change of log odds, and genes, their pairs and how far they moved."""
    network = model._fitted()
    pair_of_peak = torch.repeat_interleave(
        torch.arange(len(batch), device=batch.peak.device), batch.peak_offsets.diff()
    )
    deleted = batch.peak.long() == gone.to(batch.peak.device)[pair_of_peak]
    (before, sent), (after, sent_after) = network.explained(batch), network.explained(without_peaks(batch, deleted))
    moved = torch.zeros(len(batch.gene), dtype=torch.float64, device=batch.gene.device)
    attended = torch.zeros_like(moved, dtype=torch.bool)
    for head, other in zip(sent, sent_after, strict=True):
        moved += (head.messages.gene.double() - other.messages.gene.double()).square().sum(1)
        attended[head.messages.gene_row[deleted[head.messages.peak_row]]] = True
    row = attended.nonzero().squeeze(1)
    pair_of_gene = torch.searchsorted(batch.gene_offsets, row, right=True) - 1
    odds = [(logits[:, 1] - logits[:, 0]).double() for logits in (before, after)]
    found = odds[0] - odds[1], batch.gene[row].long(), pair_of_gene, moved[row].sqrt()
    change, gene, of_pair, length = (part.cpu().numpy() for part in found)
    return change, gene, of_pair, length


def without_peaks(batch: PairBatch, deleted: Tensor) -> PairBatch:
    """Return a batch without some of its peaks (NA,), the pairs and genes as they were."""
    kept = ~deleted
    before = torch.cat([kept.new_zeros(1, dtype=torch.int64), kept.long().cumsum(0)])
    parts: dict[str, Any] = {"peak_offsets": before[batch.peak_offsets]}
    blocks = before[batch.peak_block_ptr]
    filled = blocks.diff().squeeze(1) > 0
    parts |= {"peak_block_ptr": blocks[filled], "gene_block_ptr": batch.gene_block_ptr[filled]}
    for field in fields(batch):
        value = getattr(batch, field.name)
        if field.name.startswith("peak") and field.name not in parts and isinstance(value, Tensor):
            parts[field.name] = value[kept]
    return replace(batch, **parts)


def two_columns(pairs: ArrayLike) -> Int:
    """Return pairs (n, 2) of cells (n,), each with itself, or the pairs as they are."""
    rows = np.asarray(pairs, dtype=np.int64)
    return np.stack([rows, rows], axis=1) if rows.ndim == 1 else rows

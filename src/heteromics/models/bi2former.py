"""Bi2Former: match RNA and ATAC profiles of cells by attention between genes and peaks, and read the attention.

"Learning Crossmodal Interaction Patterns via Attributed Bipartite Graphs for Single-Cell Omics" (Bi2Former); public
code wangxiaotang0906/Bi2Former. Where the paper's equation and the code differ, both are kept: the equation weighs a
link by the sigmoid of its score, the code takes a softmax over the kept sigmoids, which leaves weights near 1 / k. The
default follows the equation and lets the modalities meet in the attention alone; ``config.as_published()`` is the code.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray

from heteromics.errors import ModelError
from heteromics.graphs import HeteroGraph, PairBatcher
from heteromics.models._bi2former_config import Bi2FormerConfig
from heteromics.models._bi2former_network import Bi2FormerNetwork
from heteromics.models._links import LinkSums, candidate_keys, count_pairs, in_order
from heteromics.models._pair_model import PairModel
from heteromics.models._pair_nodes import FeatureTable

if TYPE_CHECKING:
    from pandas import DataFrame

__all__ = ["Bi2Former", "Bi2FormerConfig"]


class Bi2Former(PairModel):
    """Match RNA and ATAC profiles of cells, and read which gene-peak links the matching rests on.

    Parameters, attributes and errors: :class:`~heteromics.models._pair_model.PairModel`, with a
    :class:`Bi2FormerConfig`, by default the corrected model.
    """

    config_type = Bi2FormerConfig
    config: Bi2FormerConfig
    _network: Bi2FormerNetwork | None

    def _network_of(self, genes: FeatureTable, peaks: FeatureTable) -> Bi2FormerNetwork:
        return Bi2FormerNetwork(self.config, genes, peaks)

    def _batcher(self, graph: HeteroGraph) -> PairBatcher:
        return PairBatcher(graph, self.mask, self.within_bp, positions=self.config.distance_bias)

    def _measures(self) -> bool:
        return super()._measures() or self.config.distance_bias

    def _fitted(self) -> Bi2FormerNetwork:
        return cast("Bi2FormerNetwork", super()._fitted())

    def links(
        self,
        pairs: ArrayLike,
        groups: ArrayLike | None = None,
        *,
        candidates: DataFrame | None = None,
        graph: HeteroGraph | None = None,
        device: str = "auto",
        progress: bool = False,
    ) -> DataFrame:
        """Return the gene-peak links that the matching rests on, aggregated over pairs.

        Parameters
        ----------
        pairs
            Rows of ``rna_cell`` and ``atac_cell``, shape (n, 2), as a rule the two profiles of the same cells; or the
            rows of cells, shape (n,), for ``(cell, cell)``.
        groups
            A label per pair, such as its cell type; links are then aggregated within each.
        candidates
            Columns ``gene`` and ``peak``: return these and no others, in their order, also where never attended to.
        graph, device, progress
            As in :meth:`predict`.

        Returns
        -------
        DataFrame
            ``gene, peak``, with groups ``group``, then ``score, attention, total, n_pairs, frequency``; by falling
            score, or in the order of the candidates.

            ``score`` is the mean effect of the link, its attention weight times the gradient of the log odds of "same
            cell": what they would lose without it, to first order (gradient times attention, as Chefer et al., CVPR
            2021). ``attention`` is the mean weight alone, over both ways where ``directions="separate"``; a weight does
            not tell whether the model takes a link for or against a match. Both are means over ``n_pairs``, the pairs
            in which the gene is expressed and the peak is open, so that links of common features do not win by being
            common. ``total`` is the attention summed over pairs, as the paper aggregates it, and ``frequency`` the
            share of ``n_pairs`` in which the link was kept. Several heads and layers: effects add up, attention and
            frequency are averaged.

        Raises
        ------
        ModelError
            As in :meth:`predict`; also when groups are not one per pair, or some are missing.
        GraphError
            For a candidate whose gene or peak is not in the graph.

        Notes
        -----
        Time grows with the kept links of all pairs, memory with the number of different ones; a batch of pairs is held
        at a time.
        """
        import pandas as pd

        graph = self._graph_or_own(graph)
        rows = np.asarray(pairs)
        if rows.size and rows.dtype.kind not in "iu":
            raise ModelError(
                f"pairs: found {rows.dtype}, expected row numbers. Fix: of a mask take np.flatnonzero(mask)."
            )
        rows = rows.astype(np.int64)
        rows = np.stack([rows, rows], axis=1) if rows.ndim == 1 else rows
        labels, code = _groups(groups, len(rows))
        peaks = graph.num_nodes("peak")
        wanted = None if candidates is None else candidate_keys(graph, candidates)
        parts = []
        for number, label in enumerate(labels):
            chosen = rows[code == number]
            key, sums = self._sum_links(graph, chosen, wanted, device, f"links {label}".strip(), progress=progress)
            if wanted is not None:
                key, sums = wanted, in_order(wanted, key, sums)
            gene, peak = key // peaks, key % peaks
            there = count_pairs(graph, chosen, gene, peak)
            table = pd.DataFrame({"gene": graph.names["gene"][gene], "peak": graph.names["peak"][peak]})
            if groups is not None:
                table["group"] = label
            score, attention, frequency = (sums / np.maximum(there, 1)[:, None]).T
            table = table.assign(score=score, attention=attention, total=sums[:, 1])
            table = table.assign(n_pairs=there, frequency=frequency)
            parts.append(table if wanted is not None else table.sort_values("score", ascending=False, kind="stable"))
        return pd.concat(parts, ignore_index=True)

    def _sum_links(
        self,
        graph: HeteroGraph,
        pairs: NDArray[np.int64],
        wanted: NDArray[np.int64] | None,
        device: str,
        what: str,
        *,
        progress: bool,
    ) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
        """Sum effect, attention and how often kept by link; return keys and sums (links, 3)."""
        sums = LinkSums(None if wanted is None else np.unique(wanted))
        peaks = graph.num_nodes("peak")
        for batch in self._batches(graph, pairs, device, what, progress=progress):
            sent, effects = self._fitted().effects(batch)
            for head, effect in zip(sent, effects, strict=True):
                rows = head.messages
                key = batch.gene[rows.gene_row].long() * peaks + batch.peak[rows.peak_row].long()
                weight = (rows.weight + rows.back).detach() / (2 * len(sent))
                columns = torch.stack([effect, weight, torch.full_like(weight, 1 / len(sent))], dim=1)
                sums.add(key.cpu().numpy(), columns.double().cpu().numpy())
        links, found = sums.totals()
        return links, found.reshape(-1, 3)  # also where no link was met


def _groups(groups: ArrayLike | None, size: int) -> tuple[list[str], NDArray[np.int64]]:
    """Return the sorted labels, and the label of each pair as a number; one empty label without groups."""
    if groups is None:
        return [""], np.zeros(size, dtype=np.int64)
    import pandas as pd

    found = np.asarray(groups)
    if found.shape != (size,):
        raise ModelError(f"groups: found shape {found.shape} for {size} pairs, expected one label per pair.")
    if missing := int(pd.isna(found).sum()):
        raise ModelError(f"groups: {missing} of {size} labels are missing. Fix: leave those pairs out.")
    labels, code = np.unique(found.astype(str), return_inverse=True)
    return labels.tolist() or [""], code

"""Bi2Former: match RNA and ATAC profiles of cells by attention between genes and peaks, and read the attention.

"Learning Crossmodal Interaction Patterns via Attributed Bipartite Graphs for Single-Cell Omics" (Bi2Former); public
code wangxiaotang0906/Bi2Former. Where the paper's equation and the code differ, both are kept: the equation weighs a
link by the sigmoid of its score, the code takes a softmax over the kept sigmoids, which leaves weights near 1 / k. The
default follows the equation and lets the modalities meet in the attention alone; ``config.as_published()`` is the code.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray

from heteromics import _config
from heteromics._progress import track
from heteromics.errors import FeaturesDiffer, ModelError
from heteromics.graphs import HeteroGraph, PairBatch, PairBatcher
from heteromics.graphs.pairs import EXPRESSES, OPENS
from heteromics.models._bi2former_config import Bi2FormerConfig
from heteromics.models._bi2former_network import Bi2FormerNetwork, FeatureTable
from heteromics.models._bi2former_training import Labelled, MatchingPlan, PairLoader, calibrate, labelled_pairs
from heteromics.models._io import SavedModel, check_features, load_model, save_model
from heteromics.models._links import LinkSums, candidate_keys, in_order, joint_counts, present
from heteromics.models._training import epochs_or, fit_module, pick_device, seeded

if TYPE_CHECKING:
    from pandas import DataFrame

__all__ = ["Bi2Former", "Bi2FormerConfig"]

_FEWEST_PAIRS = 16  # in a batch of inference, where the published setting trains on one
Draw = Callable[[int], tuple[ArrayLike, ArrayLike | None]]


class Bi2Former:
    """Match RNA and ATAC profiles of cells, and read which gene-peak links the matching rests on.

    Parameters
    ----------
    graph
        From :func:`heteromics.graphs.bipartite`.
    task
        ``"matching"``.
    config
        Default: the corrected model, see :class:`Bi2FormerConfig`.

    Attributes
    ----------
    config : Bi2FormerConfig
    features : dict of str to tuple of str
        Names of ``"gene"`` and ``"peak"``, in the graph's order.
    mask, within_bp
        Which genes and peaks may meet; fixed when the model is made.
    history : list of dict
        Per epoch ``epoch``, ``train_loss``, ``validation_loss`` and ``validation_accuracy``.

    Raises
    ------
    ModelError
        For another task, or a graph that is not bipartite.
    """

    def __init__(
        self,
        graph: HeteroGraph | None,
        task: Literal["matching"] = "matching",
        config: Bi2FormerConfig | None = None,
    ) -> None:
        if task != "matching":
            raise ModelError(f"Bi2Former: found task {task!r}, expected 'matching'.")
        self.graph, self.task, self.config = graph, task, config or Bi2FormerConfig()
        self.features: dict[str, tuple[str, ...]] = {}
        self.history: list[dict[str, float]] = []
        self.mask: Any = self.config.mask
        self.within_bp: int | None = None
        self._network: Bi2FormerNetwork | None = None
        if graph is not None:
            _check_kind(graph)
            self.features = {side: tuple(map(str, graph.names[side])) for side in ("gene", "peak")}
            self.mask = graph.meta["mask"] if self.mask is None else self.mask
            self.within_bp = int(graph.meta["within_bp"])

    def fit(
        self,
        pairs: ArrayLike | Draw,
        labels: ArrayLike | None = None,
        *,
        validation: tuple[ArrayLike, ArrayLike],
        max_epochs: int | None = None,
        seed: int = 0,
        device: str = "auto",
        folder: Path | str | None = None,
        resume: bool = False,
        progress: bool = True,
    ) -> Bi2Former:
        """Train on labelled pairs; the weights of the best validation epoch are kept.

        Parameters
        ----------
        pairs
            Rows of ``rna_cell`` and ``atac_cell``, shape (n, 2); or a function of the epoch that returns pairs and
            labels, always as many, so that negatives are drawn anew in every epoch.
        labels
            1 for profiles of one cell, 0 for others, shape (n,); None with a function.
        validation
            Pairs and labels that decide when to stop. Their cells should be none of the training cells.
        max_epochs
            In place of the config's.
        seed, device, folder, resume, progress
            See :func:`heteromics.models._training.fit_module`.

        Returns
        -------
        Bi2Former
            Itself.

        Raises
        ------
        ModelError
            When labels are not one 0 or 1 per pair, only one of them occurs, or ``max_epochs`` is below 1.
        GraphError
            For pairs that are not in the graph.
        """
        epochs = epochs_or(max_epochs, self.config.max_epochs)
        graph = self._graph_or_own(None)
        batcher = self._batcher(graph)
        draw = _drawing(pairs, labels)
        first = labelled_pairs(batcher, *draw(0), "pairs")
        held_out = labelled_pairs(batcher, *validation, "validation")
        with seeded(seed):
            network = Bi2FormerNetwork(self.config, FeatureTable.of(graph, "gene"), FeatureTable.of(graph, "peak"))
        if self.config.values == "standardised":
            calibrate(network, batcher, first[0])
        plan = MatchingPlan(network, self.config)
        size = self.config.batch_size

        def training_pairs() -> Labelled:
            return labelled_pairs(batcher, *draw(plan.current_epoch), "pairs")

        self.history = fit_module(
            plan,
            PairLoader(batcher, training_pairs, len(first[0]), size, lambda: (seed, plan.current_epoch)),
            PairLoader(batcher, lambda: held_out, len(held_out[0]), size),
            max_epochs=epochs,
            patience=self.config.patience,
            monitor=f"validation_{self.config.monitor}",
            mode="min" if self.config.monitor == "loss" else "max",
            seed=seed,
            device=device,
            folder=folder,
            resume=resume,
            progress=progress,
            checkpoint_every=1,
        )
        self._network = network.cpu().eval()
        return self

    @torch.no_grad()
    def predict(
        self, pairs: ArrayLike, graph: HeteroGraph | None = None, *, device: str = "auto", progress: bool = False
    ) -> NDArray[np.float32]:
        """Return the probability that the profiles of each pair come from one cell, shape (n,).

        Parameters
        ----------
        pairs
            Rows of ``rna_cell`` and ``atac_cell`` of the graph, shape (n, 2).
        graph
            Default: the graph of training. Another one must have the same genes and peaks in the same order; scales and
            attributes are those of training.
        device
            ``"auto"``, ``"cpu"`` or ``"cuda"``.
        progress
            Show it on stderr.

        Raises
        ------
        FeaturesDiffer
            When the graph has other genes or peaks, or has them elsewhere on the genome.
        ModelError
            Before ``fit``, or when a loaded model is given no graph.
        """
        graph = self._graph_or_own(graph)
        scores = [
            self._fitted()(batch).softmax(1)[:, 1].cpu().numpy()
            for batch in self._batches(graph, pairs, device, "matching", progress=progress)
        ]
        return np.concatenate([np.empty(0, np.float32), *scores])

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
            2021). ``attention`` is the mean weight alone; a weight does not tell whether the model takes a link for or
            against a match. Both are means over ``n_pairs``, the pairs in which the gene is expressed and the peak is
            open, so that links of common features do not win by being common. ``total`` is the attention summed over
            pairs, as the paper aggregates it, and ``frequency`` the share of ``n_pairs`` in which the link was kept.
            Several heads and layers: effects add up, attention and frequency are averaged.

        Raises
        ------
        ModelError
            As in :meth:`predict`; also when groups are not one per pair.
        GraphError
            For a candidate whose gene or peak is not in the graph.

        Notes
        -----
        Time grows with the kept links of all pairs, memory with the number of different ones.
        """
        import pandas as pd

        graph = self._graph_or_own(graph)
        rows = np.asarray(pairs, dtype=np.int64)
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
            there = joint_counts(
                present(graph, EXPRESSES, chosen[:, 0]), present(graph, OPENS, chosen[:, 1]), gene, peak
            )
            table = pd.DataFrame({"gene": graph.names["gene"][gene], "peak": graph.names["peak"][peak]})
            if groups is not None:
                table["group"] = label
            score, attention, frequency = (sums / np.maximum(there, 1)[:, None]).T
            table = table.assign(score=score, attention=attention, total=sums[:, 1])
            table = table.assign(n_pairs=there.astype(int), frequency=frequency)
            parts.append(table if wanted is not None else table.sort_values("score", ascending=False, kind="stable"))
        return pd.concat(parts, ignore_index=True)

    def save(self, folder: Path | str) -> Path:
        """Write the fitted model to ``folder`` (safetensors and JSON): weights, names, scales and history, no data."""
        extra = {"task": self.task, "history": self.history, "mask": self.mask, "within_bp": self.within_bp}
        weights = self._fitted().state_dict()
        return save_model(folder, SavedModel("Bi2Former", _config.as_dict(self.config), weights, self.features, extra))

    @classmethod
    def load(cls, folder: Path | str, graph: HeteroGraph | None = None) -> Bi2Former:
        """Read a saved model; give ``graph`` here or to :meth:`predict`.

        Raises
        ------
        ModelError
            When the folder holds no Bi2Former.
        FeaturesDiffer
            When ``graph`` has other genes or peaks than the model was trained on.
        """
        saved = load_model(folder, "Bi2Former")
        model = cls(None, saved.extra["task"], _config.build(Bi2FormerConfig, saved.config, f"{folder}/model.json"))
        model.features, model.history = saved.features, saved.extra["history"]
        model.mask, model.within_bp = saved.extra["mask"], saved.extra["within_bp"]
        tables = [
            FeatureTable(saved.weights[f"{s}.attributes"], saved.weights[f"{s}.chrom"]) for s in ("genes", "peaks")
        ]
        network = Bi2FormerNetwork(model.config, *tables)
        network.load_state_dict(saved.weights)
        model._network = network.eval()
        if graph is not None:
            model.graph = model._graph_or_own(graph)
        return model

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
                weight = rows.weight.detach() / len(sent)
                columns = torch.stack([effect, weight, torch.full_like(weight, 1 / len(sent))], dim=1)
                sums.add(key.cpu().numpy(), columns.double().cpu().numpy())
        return sums.totals()

    def _batches(
        self, graph: HeteroGraph, pairs: ArrayLike, device: str, what: str, *, progress: bool
    ) -> Iterator[PairBatch]:
        network, place = self._fitted(), pick_device(device)
        batcher, size = self._batcher(graph), max(self.config.batch_size, _FEWEST_PAIRS)
        rows = batcher.checked(pairs)
        network.to(place)
        try:
            number = -(-len(rows) // size)
            for batch in track(batcher.stream(rows, size), what, number, enabled=progress):
                yield batch.to(place)
        finally:
            network.cpu()

    def _batcher(self, graph: HeteroGraph) -> PairBatcher:
        return PairBatcher(graph, self.mask, self.within_bp)

    def _fitted(self) -> Bi2FormerNetwork:
        if self._network is None:
            raise ModelError("Bi2Former: the model is not fitted. Fix: call fit, or Bi2Former.load.")
        return self._network

    def _graph_or_own(self, graph: HeteroGraph | None) -> HeteroGraph:
        graph = self.graph if graph is None else graph
        if graph is None:
            raise ModelError("Bi2Former: a loaded model holds no graph. Fix: pass graph=...")
        _check_kind(graph)
        check_features(self.features, graph.names, "Bi2Former")
        if self._network is not None:
            _check_places(self._network, graph)
        return graph


def _check_kind(graph: HeteroGraph) -> None:
    if graph.kind != "bipartite":
        raise ModelError(
            f"Bi2Former: found a graph of kind {graph.kind!r}, expected 'bipartite'. "
            "Fix: build it with heteromics.graphs.bipartite."
        )


def _check_places(network: Bi2FormerNetwork, graph: HeteroGraph) -> None:
    for nodes, side in ((network.genes, "gene"), (network.peaks, "peak")):
        moved = int((nodes.chrom != graph.ndata(side)["chrom"].long()).sum())
        if moved:
            raise FeaturesDiffer(
                f"Bi2Former was trained with {moved} of {len(nodes.chrom)} {side} names on other chromosomes. "
                "Fix: build the graph with the prior store the model was trained with."
            )


def _drawing(pairs: Any, labels: ArrayLike | None) -> Draw:
    if callable(pairs):
        return pairs
    return lambda _epoch: (pairs, labels)


def _groups(groups: ArrayLike | None, size: int) -> tuple[list[str], NDArray[np.int64]]:
    """Return the sorted labels, and the label of each pair as a number; one empty label without groups."""
    if groups is None:
        return [""], np.zeros(size, dtype=np.int64)
    found = np.asarray(groups, dtype=str)
    if found.shape != (size,):
        raise ModelError(f"groups: found shape {found.shape} for {size} pairs, expected one label per pair.")
    labels, code = np.unique(found, return_inverse=True)
    return labels.tolist(), code

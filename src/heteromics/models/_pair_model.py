"""What every model of (RNA profile, ATAC profile) pairs does alike: fit, score, save and load.

A subclass names its configuration and makes its network; Bi2Former and the baselines on the same graphs are such.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, ClassVar, Literal, Self

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from torch import Tensor

from heteromics import _config
from heteromics._progress import track
from heteromics.errors import FeaturesDiffer, ModelError
from heteromics.graphs import HeteroGraph, PairBatch, PairBatcher
from heteromics.models._io import SavedModel, check_features, load_model, save_model
from heteromics.models._pair_nodes import FeatureTable, PairNetwork
from heteromics.models._pair_training import Labelled, MatchingPlan, PairLoader, calibrate, labelled_pairs
from heteromics.models._training import epochs_or, fit_module, pick_device, seeded

FEWEST_PAIRS = 16  # in a batch of inference, where the published setting trains on one
MOST_NODES = 1 << 18  # genes and peaks of a batch of inference, some 1 GB at the published widths
MOST_LINKS = 1 << 24  # gene-peak pairs that may meet in it; where none is pruned, some 60 bytes each
Draw = Callable[[int], tuple[ArrayLike, ArrayLike | None]]


class PairModel:
    """Decide from a bipartite graph whether an RNA and an ATAC profile are of one cell.

    A subclass sets ``config_type``, a frozen dataclass with at least ``values, mask, batch_size, max_epochs, patience,
    monitor, learning_rate, weight_decay`` and ``sparse_ids``, and defines :meth:`_network_of`, its network for the
    features of a graph, called with a :class:`~heteromics.graphs.PairBatch`.

    Parameters
    ----------
    graph
        From :func:`heteromics.graphs.bipartite`.
    task
        ``"matching"``.
    config
        Of the model; its default is the model's.

    Attributes
    ----------
    config
        Of the model.
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

    config_type: ClassVar[type[Any]]

    def __init__(self, graph: HeteroGraph | None, task: Literal["matching"] = "matching", config: Any = None) -> None:
        if task != "matching":
            raise ModelError(f"{self.kind}: found task {task!r}, expected 'matching'.")
        self.graph, self.task, self.config = graph, task, config or self.config_type()
        self.features: dict[str, tuple[str, ...]] = {}
        self.history: list[dict[str, float]] = []
        self.mask: Any = self.config.mask
        self.within_bp: int | None = None
        self._network: PairNetwork | None = None
        if graph is not None:
            self._check_kind(graph)
            self.features = {side: tuple(map(str, graph.names[side])) for side in ("gene", "peak")}
            self.mask = graph.meta["mask"] if self.mask is None else self.mask
            self.within_bp = int(graph.meta["within_bp"])

    @property
    def kind(self) -> str:
        """Name of the class."""
        return type(self).__name__

    def _network_of(self, genes: FeatureTable, peaks: FeatureTable) -> PairNetwork:
        raise NotImplementedError

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
    ) -> Self:
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
        Self
            The model itself.

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
            network = self._network_of(FeatureTable.of(graph, "gene"), FeatureTable.of(graph, "peak"))
        if self.config.values == "standardised":
            calibrate(network.genes, network.peaks, batcher, first[0])
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

        Memory is that of one batch, whatever the number of pairs: as many as the config's ``batch_size``, or 16, as
        long as they have no more than 2 ** 18 genes and peaks, and no more than 2 ** 24 may meet; or one pair.

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
            When the graph has other genes or peaks, or has them on other chromosomes; where the model sees distances
            (a window, a distance bias), also at other positions.
        ModelError
            Before ``fit``, or when a loaded model is given no graph.
        """
        graph = self._graph_or_own(graph)
        scores = [
            self._fitted()(batch).softmax(1)[:, 1].cpu().numpy()
            for batch in self._batches(graph, pairs, device, "matching", progress=progress)
        ]
        return np.concatenate([np.empty(0, np.float32), *scores])

    def save(self, folder: Path | str) -> Path:
        """Write the fitted model to ``folder`` (safetensors and JSON): weights, names, scales and history, no data."""
        extra = {"task": self.task, "history": self.history, "mask": self.mask, "within_bp": self.within_bp}
        weights = self._fitted().state_dict()
        return save_model(folder, SavedModel(self.kind, _config.as_dict(self.config), weights, self.features, extra))

    @classmethod
    def load(cls, folder: Path | str, graph: HeteroGraph | None = None) -> Self:
        """Read a saved model; give ``graph`` here or to :meth:`predict`.

        Raises
        ------
        ModelError
            When the folder holds no model of this kind.
        FeaturesDiffer
            When ``graph`` has other genes or peaks than the model was trained on.
        """
        saved = load_model(folder, cls.__name__)
        model = cls(None, saved.extra["task"], _config.build(cls.config_type, saved.config, f"{folder}/model.json"))
        model.features, model.history = saved.features, saved.extra["history"]
        model.mask, model.within_bp = saved.extra["mask"], saved.extra["within_bp"]
        tables = [
            FeatureTable(*(saved.weights[f"{side}.{name}"] for name in ("attributes", "chrom", "position")))
            for side in ("genes", "peaks")
        ]
        network = model._network_of(*tables)
        network.load_state_dict(saved.weights)
        model._network = network.eval()
        if graph is not None:
            model.graph = model._graph_or_own(graph)
        return model

    def _batches(
        self, graph: HeteroGraph, pairs: ArrayLike, device: str, what: str, *, progress: bool
    ) -> Iterator[PairBatch]:
        network, place = self._fitted(), pick_device(device)
        batcher, size = self._batcher(graph), max(self.config.batch_size, FEWEST_PAIRS)
        parts = batcher.parts(pairs, size, MOST_NODES)
        network.to(place)
        try:
            for part in track(parts, what, len(parts), enabled=progress):
                for batch in _bounded(batcher, part):
                    yield batch.to(place)
        finally:
            network.cpu()

    def _batcher(self, graph: HeteroGraph) -> PairBatcher:
        return PairBatcher(graph, self.mask, self.within_bp)

    def _fitted(self) -> PairNetwork:
        if self._network is None:
            raise ModelError(f"{self.kind}: the model is not fitted. Fix: call fit, or {self.kind}.load.")
        return self._network

    def _graph_or_own(self, graph: HeteroGraph | None) -> HeteroGraph:
        graph = self.graph if graph is None else graph
        if graph is None:
            raise ModelError(f"{self.kind}: a loaded model holds no graph. Fix: pass graph=...")
        self._check_kind(graph)
        check_features(self.features, graph.names, self.kind)
        if self._network is not None:
            self._check_places(self._network, graph)
        return graph

    def _check_kind(self, graph: HeteroGraph) -> None:
        if graph.kind != "bipartite":
            raise ModelError(
                f"{self.kind}: found a graph of kind {graph.kind!r}, expected 'bipartite'. "
                "Fix: build it with heteromics.graphs.bipartite."
            )

    def _check_places(self, network: PairNetwork, graph: HeteroGraph) -> None:
        for nodes, side in ((network.genes, "gene"), (network.peaks, "peak")):
            chrom, data = nodes.chrom, graph.ndata(side)
            moved = {"on other chromosomes": chrom != data["chrom"].long()}
            if self._measures():
                moved["at other positions"] = (nodes.position != data["position"].long()) & (chrom >= 0)
            for where, which in moved.items():
                if bool(which.any()):
                    raise FeaturesDiffer(
                        f"{self.kind} was trained with {int(which.sum())} of {len(chrom)} {side} names {where}. "
                        "Fix: build the graph with the prior store the model was trained with."
                    )

    def _measures(self) -> bool:
        """Tell whether positions are an input, beside chromosomes."""
        return bool(self.mask == "window")


def _bounded(batcher: PairBatcher, pairs: Tensor) -> Iterator[PairBatch]:
    """Yield pairs in batches of which at most ``MOST_LINKS`` genes and peaks may meet, unless one pair has more."""
    batch = batcher.batch(pairs)
    if len(batch) > 1 and batch.most_edges > MOST_LINKS:
        for half in pairs.chunk(2):
            yield from _bounded(batcher, half)
    else:
        yield batch


def _drawing(pairs: Any, labels: ArrayLike | None) -> Draw:
    if callable(pairs):
        return pairs
    return lambda _epoch: (pairs, labels)

"""scMoGNN: one modality from another by message passing between cells and features.

Wen, H. et al. "Graph Neural Networks for Multimodal Single-Cell Data Integration", KDD 2022,
doi:10.1145/3534678.3539213; chapter 2 of H. Wen's dissertation. Where paper and public code (OmicsML/dance) differ, the
code was what was run, and the default here follows it: mean aggregation over unnormalised edge weights, group norm,
initial residual by concatenation.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import lightning as L
import torch
from torch import Tensor
from torch.nn import functional

from heteromics import _config
from heteromics.errors import ModelError
from heteromics.graphs.cell_feature import EXPRESSED_BY, PATHWAY
from heteromics.models._io import SavedModel, check_features, load_model, save_model
from heteromics.models._scmognn_cells import labelled_cells, svd_projection, validation_mask
from heteromics.models._scmognn_config import ScMoGNNConfig
from heteromics.models._scmognn_network import CellFeatureNetwork, CellFeatureTensors, pathway_relation
from heteromics.models._training import LAST_CHECKPOINT, epochs_or, fit_module, pick_device, seeded
from heteromics.nn.relation import Relation

if TYPE_CHECKING:
    from anndata import AnnData
    from pandas import DataFrame

    from heteromics.graphs import HeteroGraph


class ScMoGNN:
    """Predict one modality from another on a cell-feature graph.

    Training is full-graph: every step passes over all edges. Cells of the graph that ``fit`` is given no target for
    take part with their features alone (the transductive setting of the paper); ``predict`` on another graph with the
    same features is the inductive one. In both, a feature's state is made from the cells of the graph at hand, so
    predict on a graph of many cells, not on one cell.

    Parameters
    ----------
    graph
        From :func:`heteromics.graphs.cell_feature`.
    task
        ``"prediction"``.
    config
        Default: the corrected model, see :class:`ScMoGNNConfig`.

    Attributes
    ----------
    config : ScMoGNNConfig
    features : dict of str to tuple of str
        Names by role: ``"feature"`` (inputs) and, once fitted, ``"target"``.
    history : list of dict
        Per epoch ``member``, ``epoch``, ``train_loss`` and ``validation_loss`` (mean squared errors).
    validation_cells : tuple of str
        Cells that decided when to stop.

    Raises
    ------
    ModelError
        For another task, or a graph that is no cell-feature graph.

    Examples
    --------
    >>> import numpy as np
    >>> from anndata import AnnData
    >>> from scipy import sparse
    >>> from heteromics.graphs import cell_feature
    >>> rna = AnnData(sparse.csr_matrix(np.random.default_rng(0).poisson(2.0, (40, 12)).astype(np.float32)))
    >>> protein = AnnData(rna.X[:30, :2].toarray() + 1)
    >>> protein.var_names = ["CD3", "CD19"]
    >>> model = ScMoGNN(cell_feature(rna), config=ScMoGNNConfig(width=8, layers=1))
    >>> predicted = model.fit(protein, max_epochs=3, device="cpu", progress=False).predict(cells=["38", "39"])
    >>> predicted.shape, list(predicted.columns)
    ((2, 2), ['CD3', 'CD19'])
    """

    features: dict[str, tuple[str, ...]]
    history: list[dict[str, float]]
    validation_cells: tuple[str, ...]

    def __init__(
        self,
        graph: HeteroGraph | None,
        task: Literal["prediction"] = "prediction",
        config: ScMoGNNConfig | None = None,
    ) -> None:
        if task != "prediction":
            raise ModelError(f"ScMoGNN: found task {task!r}, expected 'prediction'.")
        self.graph, self.task, self.config = graph, task, config or ScMoGNNConfig()
        self.history, self.validation_cells = [], ()
        self._networks: list[CellFeatureNetwork] = []
        self._pathway: Relation | None = None
        self.features = {}
        if graph is not None:
            _check_kind(graph)
            self.features["feature"] = tuple(map(str, graph.names["feature"]))
            if self.config.pathway and PATHWAY in graph.canonical_etypes:
                self._pathway = pathway_relation(graph, repeats=self.config.pathway_repeats)

    def fit(
        self,
        target: AnnData,
        validation: float | Sequence[str] = 0.15,
        *,
        max_epochs: int | None = None,
        seed: int = 0,
        device: str = "auto",
        folder: Path | str | None = None,
        resume: bool = False,
        progress: bool = True,
    ) -> ScMoGNN:
        """Train on labelled cells; the weights of the best validation epoch are kept.

        Parameters
        ----------
        target
            Labelled cells (``obs_names`` among the graph's cells) x values to predict. Held dense in memory, as the
            predictions are: labelled cells x targets x 4 bytes.
        validation
            Share of the labelled cells, drawn with ``seed``, that decides when to stop, or the names of those cells.
            0.15 [C].
        max_epochs
            In place of the config's.
        seed, device, folder, resume, progress
            See :func:`heteromics.models._training.fit_module`.

        Returns
        -------
        ScMoGNN
            Itself.

        Raises
        ------
        GraphError
            For cells that are not in the graph.
        DataError
            For targets that are not finite or have no column.
        ModelError
            For validation cells that are not labelled, a share of them outside (0, 1), when they leave nothing to train
            on, or ``max_epochs`` below 1.
        """
        epochs = epochs_or(max_epochs, self.config.max_epochs)
        graph = self._graph_or_own(None)
        names, values = labelled_cells(target)
        rows = torch.as_tensor(graph.index("cell", names))
        held_out = validation_mask(names, validation, seed)
        inputs = self._tensors(graph)
        self.features = {**self.features, "target": tuple(map(str, target.var_names))}
        self.validation_cells = tuple(names[held_out])
        fitted = torch.as_tensor(~held_out)
        projection = None
        if self.config.cell_init == "svd":
            projection = svd_projection(inputs.expression, rows[fitted], self.config.svd_components, seed)
        self._networks, self.history = [], []
        for member in range(self.config.members):
            place = folder if folder is None or self.config.members == 1 else Path(folder) / f"member_{member}"
            begun = member == 0 or (place is not None and (Path(place) / LAST_CHECKPOINT).is_file())
            with seeded(seed + member):
                network = self._build(0 if projection is None else projection.shape[1])
            network.start_at(values[fitted].mean(0), inputs.statistics[rows[fitted]], projection)
            history = fit_module(
                _ScMoGNN(network, inputs, self.config),
                [(rows[fitted], values[fitted])],
                [(rows[~fitted], values[~fitted])],
                max_epochs=epochs,
                min_epochs=min(self.config.min_epochs, epochs),
                patience=self.config.patience,
                seed=seed + member,
                device=device,
                folder=place,
                resume=resume and begun,
                progress=progress,
            )
            self._networks.append(network.cpu().eval())
            self.history += [{"member": float(member), **entry} for entry in history]
        return self

    def predict(
        self, graph: HeteroGraph | None = None, cells: Sequence[str] | None = None, *, device: str = "auto"
    ) -> DataFrame:
        """Predict the targets.

        Parameters
        ----------
        graph
            Default: the graph of training. Another one must have the same features in the same order; pathway edges
            and all scales are those of training.
        cells
            Names of the cells wanted, default all.
        device
            ``"auto"``, ``"cpu"`` or ``"cuda"``.

        Returns
        -------
        DataFrame
            cells x targets, float32; clipped at zero with ``config.non_negative``.

        Raises
        ------
        FeaturesDiffer
            When the graph has other features, or the same in another order.
        ModelError
            Before ``fit``, or when a loaded model is given no graph.
        """
        return self._run(graph, cells, device, embed=False)

    def embed(
        self, graph: HeteroGraph | None = None, cells: Sequence[str] | None = None, *, device: str = "auto"
    ) -> DataFrame:
        """Return the cell states that the readout reads; parameters and errors as in :meth:`predict`.

        Returns
        -------
        DataFrame
            cells x width, or cells x (layers * width) for ``readout="concat"``, float32; of several members, side
            by side.
        """
        return self._run(graph, cells, device, embed=True)

    def save(self, folder: Path | str) -> Path:
        """Write the fitted model to ``folder`` (safetensors and JSON): weights, names and history, no data."""
        weights = {
            f"member_{member}.{name}": tensor
            for member, network in enumerate(self._fitted())
            for name, tensor in network.state_dict().items()
        }
        if self._pathway is not None:
            weights |= {f"pathway.{name}": getattr(self._pathway, name) for name in ("indptr", "indices", "weight")}
        extra = {"task": self.task, "history": self.history, "validation_cells": list(self.validation_cells)}
        return save_model(folder, SavedModel("ScMoGNN", _config.as_dict(self.config), weights, self.features, extra))

    @classmethod
    def load(cls, folder: Path | str, graph: HeteroGraph | None = None) -> ScMoGNN:
        """Read a saved model; give ``graph`` here or to :meth:`predict`.

        Raises
        ------
        ModelError
            When the folder holds no ScMoGNN.
        FeaturesDiffer
            When ``graph`` has other features than the model was trained on.
        """
        saved = load_model(folder, "ScMoGNN")
        model = cls(None, saved.extra["task"], _config.build(ScMoGNNConfig, saved.config, f"{folder}/model.json"))
        model.features, model.history = saved.features, saved.extra["history"]
        model.validation_cells = tuple(saved.extra["validation_cells"])
        if "pathway.indptr" in saved.weights:
            stored = {name: saved.weights[f"pathway.{name}"] for name in ("indptr", "indices", "weight")}
            size = len(saved.features["feature"])
            model._pathway = Relation.from_csr(stored["indptr"], stored["indices"], (size, size), stored["weight"])
        for member in range(model.config.members):
            prefix = f"member_{member}."
            own = {k.removeprefix(prefix): v for k, v in saved.weights.items() if k.startswith(prefix)}
            network = model._build(own["projection"].shape[1] if "projection" in own else 0)
            network.load_state_dict(own)
            model._networks.append(network.eval())
        if graph is not None:
            model.graph = model._graph_or_own(graph)
        return model

    def _run(self, graph: HeteroGraph | None, cells: Sequence[str] | None, device: str, *, embed: bool) -> DataFrame:
        import pandas as pd

        networks, graph = self._fitted(), self._graph_or_own(graph)
        rows = slice(None) if cells is None else graph.index("cell", cells)
        place = pick_device(device)
        inputs = self._tensors(graph).to(place)
        found = []
        for network in networks:
            network.to(place)
            with torch.no_grad():
                found.append((network.embed(inputs) if embed else self._clip(network(inputs))).cpu())
            network.cpu()
        values = (torch.cat(found, dim=1) if embed else torch.stack(found).mean(0)).numpy()
        columns = [f"state_{i}" for i in range(values.shape[1])] if embed else list(self.features["target"])
        return pd.DataFrame(values[rows], index=graph.names["cell"][rows], columns=columns)

    def _clip(self, predicted: Tensor) -> Tensor:
        return predicted.clamp(min=0) if self.config.non_negative else predicted

    def _build(self, n_components: int) -> CellFeatureNetwork:
        counts = (len(self.features["feature"]), len(self.features["target"]), n_components)
        return CellFeatureNetwork(self.config, *counts, pathway=self._pathway is not None)

    def _tensors(self, graph: HeteroGraph) -> CellFeatureTensors:
        expression = Relation.from_graph(graph, EXPRESSED_BY)
        return CellFeatureTensors(expression, graph.ndata("cell")["statistics"], self._pathway)

    def _fitted(self) -> list[CellFeatureNetwork]:
        if not self._networks:
            raise ModelError("ScMoGNN: the model is not fitted. Fix: call fit, or ScMoGNN.load.")
        return self._networks

    def _graph_or_own(self, graph: HeteroGraph | None) -> HeteroGraph:
        graph = self.graph if graph is None else graph
        if graph is None:
            raise ModelError("ScMoGNN: a loaded model holds no graph. Fix: pass graph=...")
        _check_kind(graph)
        check_features({"feature": self.features["feature"]}, graph.names, "ScMoGNN")
        return graph


class _ScMoGNN(L.LightningModule):
    """The training plan: plain mean squared error, full graph, AdamW with a slow decay."""

    def __init__(self, network: CellFeatureNetwork, inputs: CellFeatureTensors, config: ScMoGNNConfig) -> None:
        super().__init__()
        self.network, self.inputs, self.config = network, inputs, config

    def on_fit_start(self) -> None:
        self.inputs = self.inputs.to(self.device)

    def training_step(self, batch: tuple[Tensor, Tensor]) -> Tensor:
        rows, target = batch
        loss = functional.mse_loss(self.network(self.inputs)[rows], target)
        self.log("train_loss", loss, on_step=False, on_epoch=True, batch_size=len(rows))
        return loss

    def validation_step(self, batch: tuple[Tensor, Tensor]) -> None:
        rows, target = batch
        predicted = self.network(self.inputs)[rows]
        predicted = predicted.clamp(min=0) if self.config.non_negative else predicted
        self.log("validation_loss", functional.mse_loss(predicted, target), batch_size=len(rows))

    def configure_optimizers(self) -> Any:
        config = self.config
        optimiser = torch.optim.AdamW(
            self.network.parameters(), lr=config.learning_rate, weight_decay=config.weight_decay
        )
        plan = torch.optim.lr_scheduler.LambdaLR(
            optimiser, lambda epoch: config.decay ** (max(epoch - config.decay_from, 0) // config.decay_every)
        )
        return {"optimizer": optimiser, "lr_scheduler": plan}


def _check_kind(graph: HeteroGraph) -> None:
    if graph.kind != "cell_feature":
        raise ModelError(
            f"ScMoGNN: found a graph of kind {graph.kind!r}, expected 'cell_feature'. "
            "Fix: build it with heteromics.graphs.cell_feature."
        )

"""Cells and features joined by every non-zero value: the graph of scMoGNN, of one modality or of several.

Wen, H. et al. "Graph Neural Networks for Multimodal Single-Cell Data Integration", KDD 2022,
doi:10.1145/3534678.3539213, and its public code (OmicsML/dance): edges and their weights are the non-zero values of the
matrix, in both directions; genes of a pathway are joined by edges weighted by the cosine of their values; each cell
carries statistics averaged over its batch.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray

from heteromics import __version__
from heteromics.errors import GraphError
from heteromics.graphs._cell_values import (
    Expect,
    Modality,
    Text,
    cell_codes,
    check_form,
    read_values,
    shared_cells,
    training_mask,
)
from heteromics.graphs._feature_edges import Interactions, interaction_edges, pathway_edges
from heteromics.graphs._statistics import STATISTICS, cell_statistics, group_means
from heteromics.graphs.hashing import store_marks
from heteromics.graphs.kinds import Feature, Kind, register
from heteromics.graphs.schema import Compressed, EdgeType, HeteroGraph

if TYPE_CHECKING:
    from anndata import AnnData

__all__ = ["EXPRESSED_BY", "EXPRESSES", "INTERACTS", "PATHWAY", "Interactions", "cell_feature"]

EXPRESSES = ("cell", "expresses", "feature")
EXPRESSED_BY = ("feature", "expressed_by", "cell")
PATHWAY = ("feature", "pathway", "feature")
INTERACTS = ("feature", "interacts", "feature")
Weighting = Literal["cosine", "one"]

_WEIGHT = {"weight": Feature(torch.float32)}
_SHARED = {**_WEIGHT, "shared": Feature(torch.int32)}
_CELL = {"statistics": Feature(torch.float32, 2), "batch": Feature(torch.int64)}
_FEATURE = {"degree": Feature(torch.int64)}
register(
    Kind(
        "cell_feature",
        nodes={"cell": _CELL, "feature": _FEATURE},
        edges={EXPRESSES: _WEIGHT, EXPRESSED_BY: _WEIGHT},
        optional_edges={PATHWAY: _SHARED, INTERACTS: _WEIGHT},
    )
)
register(
    Kind(
        "cell_features",
        nodes={
            "cell": {"*_statistics": Feature(torch.float32, 2), "batch": Feature(torch.int64)},
            "*_feature": _FEATURE,
        },
        edges={("cell", "expresses", "*_feature"): _WEIGHT, ("*_feature", "expressed_by", "cell"): _WEIGHT},
        optional_edges={
            ("*_feature", "pathway", "*_feature"): _SHARED,
            ("*_feature", "interacts", "*_feature"): _WEIGHT,
        },
    )
)


def cell_feature(
    data: AnnData | Mapping[str, AnnData],
    *,
    pathways: Any = None,
    interactions: Interactions | None = None,
    training_cells: Iterable[str] | NDArray[np.bool_] | None = None,
    threshold: float = 0.1,
    weighting: Weighting = "cosine",
    obs: Sequence[str] | None = None,
    expect: Expect | Mapping[str, Expect] = "normalised",
    cells: Literal["same", "shared"] = "same",
) -> HeteroGraph:
    """Build the cell-feature graph of one modality, or of several over the same cells.

    Parameters
    ----------
    data
        Cells x features; ``X`` holds the values that become edge weights: sparse or dense, in memory or backed
        (:func:`heteromics.data.open_backed`, ``anndata.read_h5ad(..., backed="r")``). For several modalities their
        AnnData by name, such as ``{"rna": ..., "protein": ...}``; cells are joined by name.
    pathways
        Genes that belong together, for feature-feature edges: a table with columns ``gene_id`` and ``pathway_id``, or
        ``gene_a`` and ``gene_b`` (its rows are the pairs); an open prior store; or gene sets by name. Genes are found
        by ``var_names``, ``gene_id``, ``gene_ids`` or ``symbol`` in ``var``, with and without version. None makes none.
        Of several modalities those of ``rna`` are joined.
    interactions
        Links between genes, or between proteins, for further feature-feature edges. Of several modalities ``rna`` and
        ``protein`` are joined from a store, ``rna`` from a table. None makes none.
    training_cells
        Names, or a mask over the cells (of the first modality), of those that pathway weights may be computed from.
        None: all cells.
    threshold
        Pathway edges with ``|weight| <= threshold`` are left out; 0.1 is that of the paper's improved run. -1 keeps
        all.
    weighting
        ``"cosine"`` of the two genes' values over the training cells, or ``"one"`` for weights of one (none left out).
    obs
        Columns of ``obs`` kept on cells as codes (their words go to ``meta["categories"]``). The first one is the
        batch: it is kept as ``batch``, and statistics are averaged over its groups. None: ``("batch",)`` where there is
        such a column. Empty: all cells are one batch. Of several modalities the first that has the column gives it.
    expect
        ``"normalised"``: any finite values. ``"counts"``: whole numbers >= 0. For all modalities, or by name.
    cells
        Of several modalities: ``"same"`` stops when they have not the same cells, in any order; ``"shared"`` keeps
        those that all of them have, and counts and names the others in ``meta["match"]["cells"]``.

    Returns
    -------
    HeteroGraph
        Of one modality, kind ``cell_feature``: nodes ``cell`` with ``statistics`` (N, 9) float32
        (:func:`heteromics.graphs._statistics.cell_statistics`) and ``batch`` int64; ``feature`` with ``degree`` int64,
        the number of cells that express it. Edges ``expresses`` and ``expressed_by`` share one compressed matrix and
        one ``weight`` float32. Edges ``pathway`` both ways, no loops, with ``weight`` float32 and ``shared`` int32, the
        number of sets that hold both genes (as many parallel edges has the published graph). Edges ``interacts`` both
        ways, no loops, with ``weight`` float32.

        Of several, kind ``cell_features``: the same with nodes ``<name>_feature`` and ``<name>_statistics`` of the
        cells for each modality, cells in the order of the first.

        The graph shares no memory with ``data``.

    Raises
    ------
    NotCounts, DataError
        For values that are not as expected, with their number and place.
    DuplicateNames
        For cells or features of the same name.
    EmptyCells
        For cells without a value in one of the modalities.
    MissingLayer
        For an ``obs`` column that is not there.
    GraphError
        For data of another form, modalities of different cells, training cells that are not in the data, columns of
        ``obs`` that would overwrite others, or pathways that fit no feature.

    Notes
    -----
    Values are read once, block by block: memory is the graph and a block, wherever ``X`` is (twice the edges of a
    modality whose cells must be put in another order; pathway weights take a copy of the values of their genes).

    Pathway weights know training cells alone. ``statistics`` know all cells of the batch and ``degree`` all of the
    graph, held-out ones too, as in the published code: of the values that are given, never of those to predict. Where
    training must not see even these, make held-out cells a batch of their own by ``obs``, and do not use ``degree``.

    Examples
    --------
    >>> import pandas as pd
    >>> from anndata import AnnData
    >>> cells = AnnData(np.array([[1, 2, 0], [0, 3, 4]], np.float32))
    >>> cells.var_names = ["A", "B", "C"]
    >>> sets = pd.DataFrame({"gene_id": ["A", "B", "C"], "pathway_id": ["p", "p", "q"]})
    >>> cell_feature(cells, pathways=sets)
    HeteroGraph(kind='cell_feature', cell 2, feature 3; cell-expresses-feature 4, feature-expressed_by-cell 4, \
feature-pathway-feature 2)
    >>> cell_feature({"rna": cells, "protein": cells[::-1, :2]}).ntypes
    ['cell', 'protein_feature', 'rna_feature']
    """
    check_form(data, "cell_feature")
    several = isinstance(data, Mapping)
    parts = dict(data) if isinstance(data, Mapping) else {_modality_of(data): data}
    linked = {"pathways": (pathways, ("rna",)), "interactions": (interactions, _linked(interactions))}
    _check_options(parts, several, weighting, expect, cells, linked)
    if np.isnan(threshold):
        raise GraphError("cell_feature: found threshold=nan, expected a number; -1 keeps all.")
    order, joined = shared_cells(parts, cells)
    hopes = dict(expect) if isinstance(expect, Mapping) else dict.fromkeys(parts, expect)
    read = {
        name: read_values(part, f"{name}: X" if several else "X", order, hopes[name]) for name, part in parts.items()
    }
    codes, categories, columns = cell_codes(parts, order, obs)
    first = np.asarray(next(iter(parts.values())).obs_names, dtype=str)
    training = np.isin(order, first[training_mask(training_cells, first)])
    if not training.any():
        raise GraphError(f"training_cells: none of the {len(order)} cells that all modalities have is for training.")
    graph = _Parts(
        meta={
            "builder": "cell_feature",
            "heteromics": __version__,
            "parameters": {
                "expect": hopes if several else expect,
                "obs": columns,
                "training_cells": int(training.sum()),
            },
            "statistics": list(STATISTICS),
            "categories": categories,
            "provenance": _provenance(parts if several else data, pathways, interactions),
        },
        names={"cell": order},
        cell={name: torch.from_numpy(code) for name, code in codes.items()},
    )
    for name, part in parts.items():
        ntype, values = f"{name}_feature" if several else "feature", read[name].csr
        modality = Modality(ntype, part, np.asarray(part.var_names, dtype=str), values)
        statistics = group_means(
            cell_statistics(values.indptr, values.data, values.shape[1]), codes["batch"], len(categories["batch"])
        )
        graph.add(modality, f"{name}_statistics" if several else "statistics", statistics)
        key = f"{name}_" if several else ""
        if pathways is not None and (not several or name in linked["pathways"][1]):
            graph.meta["parameters"] |= {"threshold": threshold, "weighting": weighting}
            made = pathway_edges(modality, pathways, training, threshold if weighting == "cosine" else None)
            graph.link(modality.ntype, "pathway", made, f"{key}pathways")
        if interactions is not None and (not several or name in linked["interactions"][1]):
            graph.meta["parameters"] |= interactions.parameters()
            graph.link(
                modality.ntype, "interacts", interaction_edges(modality, name, interactions), f"{key}interactions"
            )
    zeros = {name: found.zeros for name, found in read.items()}
    graph.meta["explicit_zeros_dropped"] = zeros if several else sum(zeros.values())
    if joined is not None:
        graph.meta.setdefault("match", {})["cells"] = joined
    return graph.build("cell_features" if several else "cell_feature")


class _Parts:
    """A graph in the making."""

    def __init__(self, meta: dict[str, Any], names: dict[str, Text], cell: dict[str, torch.Tensor]) -> None:
        self.meta, self.names = meta, names
        self.ndata: dict[str, dict[str, torch.Tensor]] = {"cell": cell}
        self.edges: dict[EdgeType, Compressed] = {}
        self.edata: dict[EdgeType, dict[str, torch.Tensor]] = {}
        self.reverse: dict[EdgeType, EdgeType] = {}

    def add(self, modality: Modality, statistics: str, averages: NDArray[np.float64]) -> None:
        """Add the features of a modality and their edges to cells, both ways."""
        values, ntype = modality.values, modality.ntype
        indices = torch.from_numpy(values.indices)
        expresses = ("cell", "expresses", ntype)
        self.names[ntype] = modality.features
        self.ndata["cell"][statistics] = torch.from_numpy(averages.astype(np.float32))
        self.ndata[ntype] = {"degree": torch.bincount(indices, minlength=values.shape[1])}
        self.edges[expresses] = Compressed("src", torch.from_numpy(values.indptr), indices)
        self.edata[expresses] = {"weight": torch.from_numpy(values.data)}
        self.reverse[ntype, "expressed_by", "cell"] = expresses

    def link(
        self, ntype: str, verb: str, made: tuple[Compressed, dict[str, torch.Tensor], dict[str, Any]], matched: str
    ) -> None:
        """Add edges between features, and say what joined."""
        etype = (ntype, verb, ntype)
        self.edges[etype], self.edata[etype], match = made
        self.meta.setdefault("match", {})[matched] = match

    def build(self, kind: str) -> HeteroGraph:
        return HeteroGraph.from_compressed(
            self.edges,
            names=self.names,
            ndata=self.ndata,
            edata=self.edata,
            kind=kind,
            meta=self.meta,
            reverse=self.reverse,
        )


def _modality_of(data: AnnData) -> str:
    """Return what a single AnnData says it is, where it was read by heteromics."""
    known = data.uns.get("heteromics", {})
    return str(known.get("modality", "rna"))


def _linked(interactions: Interactions | None) -> tuple[str, ...]:
    """Return the modalities that links join."""
    links = None if interactions is None else interactions.links
    return ("rna", "protein") if callable(getattr(links, "frame", None)) else ("rna",)


def _check_options(
    parts: Mapping[str, AnnData],
    several: bool,
    weighting: str,
    expect: Any,
    cells: str,
    links: Mapping[str, tuple[Any, tuple[str, ...]]],
) -> None:
    if not parts:
        raise GraphError("cell_feature: found no modality, expected AnnData by name, such as {'rna': ...}.")
    if weighting not in ("cosine", "one"):
        raise GraphError(f"cell_feature: found weighting={weighting!r}, expected 'cosine' or 'one'.")
    if cells not in ("same", "shared"):
        raise GraphError(f"cell_feature: found cells={cells!r}, expected 'same' or 'shared'.")
    for what, (given, joined) in links.items():
        if several and given is not None and not set(parts) & set(joined):
            raise GraphError(
                f"cell_feature: found {what}, but no modality named {' or '.join(joined)}: {', '.join(parts)}.\n"
                f"  Fix: name the modality that they join {joined[0]!r}, or leave {what} out."
            )
    by_name = expect if isinstance(expect, Mapping) else dict.fromkeys(parts, expect)
    if set(by_name) != set(parts):
        raise GraphError(
            f"cell_feature: found expect for {', '.join(by_name) or 'none'}, expected it for {', '.join(parts)}."
        )
    for one in by_name.values():
        if one not in ("counts", "normalised"):
            raise GraphError(f"cell_feature: found expect={one!r}, expected 'counts' or 'normalised'.")


def _provenance(
    data: AnnData | Mapping[str, AnnData], pathways: Any, interactions: Interactions | None
) -> dict[str, Any]:
    """Say where the values and the links came from, as far as they say so themselves."""
    if isinstance(data, Mapping):
        every = {name: _noted(part) for name, part in data.items()}
        known: dict[str, Any] = {name: noted for name, noted in every.items() if noted}
    else:
        known = _noted(data)
    found = {"data": known} if known else {}
    for source in (pathways, None if interactions is None else interactions.links):
        info = getattr(source, "info", None)
        if isinstance(info, Mapping):
            found["priors"] = store_marks(info)
    return found


def _noted(data: AnnData) -> dict[str, str]:
    return {key: str(value) for key, value in data.uns.get("heteromics", {}).items()}

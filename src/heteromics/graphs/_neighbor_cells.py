"""What the builders of neighbour graphs take from AnnData: names, places, batches, labels; and one space for two."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import sparse
from torch import Tensor

from heteromics.errors import DataError, GraphError, MissingLayer, some
from heteromics.graphs._shared_space import shared_space
from heteromics.graphs.knn import as_tensor

if TYPE_CHECKING:
    from anndata import AnnData

Mask = NDArray[np.bool_]


class Cells:
    """Cells of one node type: their unique names, the table they come from, and their places (N, D)."""

    def __init__(self, ntype: str, data: AnnData, points: Tensor) -> None:
        from heteromics.data.checks import check_unique_names

        check_unique_names(data.obs_names, f"{ntype}s (obs_names)", fix="add the batch or sample to the names.")
        self.ntype, self.data, self.points = ntype, data, points
        self.names = np.asarray(data.obs_names, dtype=str)


def embedding(data: AnnData, rep: Any, what: str) -> Tensor:
    """Take an embedding from a slot, or as it is given."""
    if isinstance(rep, str):
        if rep not in data.obsm:
            raise MissingLayer(
                f"{what}: obsm has no '{rep}'; it has {some(data.obsm, 8) or 'none'}. "
                "Fix: name one that is there, or make it first, for example scanpy.pp.pca(adata)."
            )
        rep = data.obsm[rep]
    if sparse.issparse(rep):
        raise DataError(
            f"{what}: found a sparse matrix, expected a dense embedding. "
            "Fix: reduce it first, for example by scanpy.pp.pca or heteromics.data.Lsi."
        )
    points = as_tensor(rep, what)
    if points.ndim != 2 or len(points) != data.n_obs:
        raise DataError(
            f"{what}: found an embedding of shape {tuple(points.shape)}, expected one row for each of {data.n_obs} "
            "cells."
        )
    return points


def in_one_space(
    sides: tuple[AnnData, AnnData],
    modalities: tuple[str, str],
    rep: Any,
    n_components: int,
    training: Sequence[Mask],
    seed: int,
) -> tuple[list[Tensor], dict[str, Any]]:
    """Return the places of both sides in one space, and what of their features is shared where one was made."""
    if rep is None:
        return _made(sides, modalities, n_components, training, seed)
    reps = (rep, rep) if isinstance(rep, str) else tuple(rep)
    points = [embedding(data, one, f"{name}: rep") for data, one, name in zip(sides, reps, modalities, strict=True)]
    widths = [each.shape[1] for each in points]
    if widths[0] != widths[1]:
        raise GraphError(
            f"rep: found {widths[0]} dimensions for {modalities[0]} and {widths[1]} for {modalities[1]}; cells can "
            "only be compared in one space.\n  Fix: embed both with one model, or leave rep out to make a space of "
            "the features that both have."
        )
    return points, {}


def _made(
    sides: tuple[AnnData, AnnData], modalities: tuple[str, str], n_components: int, training: Sequence[Mask], seed: int
) -> tuple[list[Tensor], dict[str, Any]]:
    from heteromics.data.blocks import as_csr
    from heteromics.data.checks import check_unique_names

    for data, name in zip(sides, modalities, strict=True):
        check_unique_names(data.var_names, f"features of {name} (var_names)", fix="name them by identifiers.")
    left, right = (np.asarray(data.var_names, dtype=str) for data in sides)
    shared, at_left, at_right = np.intersect1d(left, right, return_indices=True)
    if not shared.size:
        raise GraphError(
            f"{modalities[0]} and {modalities[1]} have no feature name in common: {some(left)} and {some(right)}.\n"
            "  Fix: give `rep`, embeddings of both in one space; or name the features of both alike, such as RNA and "
            "gene activity by gene identifiers."
        )
    rows_left, rows_right = (
        as_csr(data.X, f"{name}, X", "normalised")[:, columns]
        for data, name, columns in zip(sides, modalities, (at_left, at_right), strict=True)
    )
    space = shared_space(rows_left, rows_right, n_components, training[0], training[1], seed=seed)
    counted: dict[str, Any] = {"shared": int(shared.size), "constant": space.constant}
    for name, own in zip(modalities, (left, right), strict=True):
        lost = np.setdiff1d(own, shared)
        counted[f"only_{name}"] = int(lost.size)
        counted[f"only_{name}_examples"] = lost[:5].tolist()
    return [torch.from_numpy(space.left), torch.from_numpy(space.right)], counted


def training_mask(data: AnnData, training: tuple[str, str] | None, what: str) -> Mask:
    """Return the cells with the value in the column, or all."""
    if training is None:
        return np.ones(data.n_obs, dtype=bool)
    column, value = training
    _require(data, column, what)
    mask = np.asarray(data.obs[column].astype(str) == value)
    if not mask.any():
        words = sorted(set(data.obs[column].astype(str)))
        raise GraphError(f"training: no cell of {what} has {column} = {value!r}; found {some(words, 6)}.")
    return mask


def same_cells(
    left: AnnData, right: AnnData, rep: Any, modalities: tuple[str, str]
) -> tuple[AnnData, Any, dict[str, Any]]:
    """Bring the right cells, and an embedding given for them, into the order of the left; each must have its pair."""
    from heteromics.data.checks import check_unique_names

    for side, name in zip((left, right), modalities, strict=True):
        check_unique_names(side.obs_names, f"{name}_cells (obs_names)", fix="add the batch or sample to the names.")
    names = [np.asarray(side.obs_names, dtype=str) for side in (left, right)]
    alone = [np.setdiff1d(names[0], names[1]), np.setdiff1d(names[1], names[0])]
    if alone[0].size or alone[1].size:
        found = "\n".join(
            f"  {name}: {lost.size} of {own.size} cells have no pair: {some(lost)}"
            for name, lost, own in zip(modalities, alone, names, strict=True)
            if lost.size
        )
        raise GraphError(
            f"second='pair' needs the same cells on both sides.\n{found}\n"
            "  Fix: second='bipartite', or keep the cells that both have."
        )
    moved = int((names[0] != names[1]).sum())
    if moved:
        order = np.argsort(names[1])[np.argsort(np.argsort(names[0]))]
        if rep is not None and not isinstance(rep, str):
            rep = (rep[0], embedding(right, rep[1], f"{modalities[1]}: rep")[torch.from_numpy(order)])
        right = right[order]
    return right, rep, {"matched": int(names[0].size), "reordered": moved}


def batches(sides: Sequence[Cells], column: str | None) -> list[Tensor]:
    """Return codes of the batch of each cell, over the words of all sides; every cell must have one."""
    assert column is not None
    for side in sides:
        _require(side.data, column, side.ntype)
        if unknown := int(side.data.obs[column].isna().sum()):
            raise DataError(
                f"{side.ntype}: {unknown} of {len(side.names)} cells have no obs['{column}']. Fix: fill or drop them."
            )
    ndata, _ = codes(sides, [column])
    return [ndata[side.ntype][column] for side in sides]


def codes(
    sides: Sequence[Cells], columns: Iterable[str], *, absent_ok: bool = False
) -> tuple[dict[str, dict[str, Tensor]], dict[str, list[str]]]:
    """Return columns as int64 codes by node type, -1 for no value, and the sorted words of all sides together."""
    ndata: dict[str, dict[str, Tensor]] = {side.ntype: {} for side in sides}
    categories: dict[str, list[str]] = {}
    for column in columns:
        there = [side for side in sides if column in side.data.obs or not absent_ok]
        words: set[str] = set()
        for side in there:
            _require(side.data, column, side.ntype)
            words |= set(side.data.obs[column].dropna().astype(str).unique())
        categories[column] = sorted(words)
        known = np.array(categories[column], dtype=str)
        for side in there:
            values = side.data.obs[column]
            code = np.searchsorted(known, values.astype(str).to_numpy(str)) if known.size else np.zeros(len(values))
            ndata[side.ntype][column] = torch.from_numpy(np.where(values.isna(), -1, code).astype(np.int64))
    return ndata, categories


def _require(data: AnnData, column: str, what: str) -> None:
    if column not in data.obs:
        raise MissingLayer(
            f"{what}: obs has no column '{column}'; it has {some(data.obs.columns, 8) or 'none'}. "
            "Fix: name one that is there."
        )

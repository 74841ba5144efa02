"""Building the shards of a cell-feature graph from blocks of rows: one pass, then what only the whole can tell."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import sparse

from heteromics import __version__
from heteromics.errors import DataError, EmptyCells, GraphError, some
from heteromics.graphs._cell_values import Expect, Modality, cell_codes, checked_names, training_mask
from heteromics.graphs._feature_edges import Interactions, feature_keys, interaction_edges
from heteromics.graphs._members import pathway_members
from heteromics.graphs._pathways import clique_pairs, pair_cosine, symmetric_edges
from heteromics.graphs._statistics import STATISTICS, cell_statistics
from heteromics.graphs.cell_feature import EXPRESSED_BY, EXPRESSES, INTERACTS, PATHWAY, _provenance
from heteromics.graphs.io import amend_graph
from heteromics.graphs.schema import Compressed, HeteroGraph

if TYPE_CHECKING:
    from anndata import AnnData

    from heteromics.data.transforms import Transform
    from heteromics.graphs.cell_feature import Weighting

__all__ = ["CellFeatureShards", "regrouped"]


def regrouped(blocks: Iterable[Any], cells: int, size: int) -> Iterator[sparse.csr_array]:
    """Lay blocks of rows together, or cut them, so that each has ``size`` rows but the last.

    Raises
    ------
    DataError
        When the blocks do not hold ``cells`` rows in all.
    """
    held: list[sparse.csr_array] = []
    waiting = seen = 0
    for given in blocks:
        block = sparse.csr_array(given)
        seen += block.shape[0]
        if seen > cells:
            break
        start, stop = 0, size - waiting
        while stop <= block.shape[0]:
            cut = _rows_of(block, start, stop)
            yield sparse.vstack([*held, cut], format="csr") if held else cut
            held, start, stop = [], stop, stop + size
        if start < block.shape[0]:
            held.append(_rows_of(block, start, block.shape[0]))
        waiting = block.shape[0] + size - stop
    if seen != cells:
        more = " or more" if seen > cells else " in all"
        raise DataError(f"blocks: found {seen} rows{more}, expected {cells}: one for each cell in obs.")
    if held:
        yield sparse.vstack(held, format="csr")


def _rows_of(block: sparse.csr_array, start: int, stop: int) -> sparse.csr_array:
    return block if stop - start == block.shape[0] else block[start:stop]


class CellFeatureShards:
    """The parts of one cell-feature graph, and the sums from which the whole is told.

    Parameters are those of :func:`heteromics.graphs.cell_feature`; ``cells`` needs ``obs`` and ``var`` only. ``check``
    is what values are before ``transform``.
    """

    def __init__(
        self,
        cells: AnnData,
        *,
        size: int,
        pathways: Any,
        interactions: Interactions | None,
        training_cells: Any,
        threshold: float,
        weighting: Weighting,
        obs: Any,
        expect: Expect,
        check: Expect,
        transform: Transform,
    ) -> None:
        for name, word, known in (
            ("weighting", weighting, ("cosine", "one")),
            ("expect", check, ("counts", "normalised")),
        ):
            if word not in known:
                raise GraphError(f"shards: found {name}={word!r}, expected {known[0]!r} or {known[1]!r}.")
        if not cells.n_obs:
            raise EmptyCells("shards: found no cell, expected one or more.")
        self.size, self._check, self._transform = size, check, transform
        self.names = checked_names(cells)
        self.number = -(-cells.n_obs // size)
        modality = str(cells.uns.get("heteromics", {}).get("modality", "rna"))
        self._code, self._categories, columns = cell_codes({modality: cells}, self.names["cell"], obs)
        training = training_mask(training_cells, self.names["cell"])
        self._degree = torch.zeros(cells.n_vars, dtype=torch.int64)
        self._sums = np.zeros((len(self._categories["batch"]), len(STATISTICS)))
        self._zeros = 0
        self._meta: dict[str, Any] = {
            "builder": "cell_feature",
            "heteromics": __version__,
            "parameters": {"expect": expect, "obs": columns, "training_cells": int(training.sum())},
            "statistics": list(STATISTICS),
            "categories": self._categories,
            "provenance": _provenance(cells, pathways, interactions),
        }
        self._pairs = None
        if pathways is not None:
            self._meta["parameters"] |= {"threshold": threshold, "weighting": weighting}
            self._pairs = _Pairs(cells, pathways, training, threshold, weighting)
        self._links = None
        if interactions is not None:
            self._meta["parameters"] |= interactions.parameters()
            features = self.names["feature"]
            values: Any = None  # names alone tell which features interact
            self._links = interaction_edges(Modality("feature", cells, features, values), modality, interactions)

    def part(self, number: int, block: sparse.csr_array) -> HeteroGraph:
        """Make one part and add it to the sums; averages over batches and degrees are those of the part as yet."""
        from heteromics.data.blocks import assemble

        first = number * self.size
        here = slice(first, first + block.shape[0])
        cells, features = self.names["cell"][here], len(self.names["feature"])
        if block.shape[1] != features:
            raise DataError(
                f"blocks: found {block.shape[1]} columns, expected {features}: one for each feature in var."
            )
        csr, zeros = assemble(block, f"X, cells {first} to {here.stop - 1}", self._check)
        empty = np.flatnonzero(np.diff(csr.indptr) == 0)
        if empty.size:
            raise EmptyCells(
                f"X: {empty.size} of the cells {first} to {here.stop - 1} have no value but zero: "
                f"{some(cells[empty])}.\n  Fix: remove them before the graph is built."
            )
        if self._transform != "none":
            csr = self._transformed(csr)
        batch = self._code["batch"][here]
        np.add.at(self._sums, batch, cell_statistics(csr.indptr, csr.data, features))  # in order, as in one go
        indices = torch.from_numpy(csr.indices)
        degree = torch.bincount(indices, minlength=features)
        self._degree += degree
        self._zeros += zeros
        if self._pairs is not None:
            self._pairs.add(csr, here)
        part = Compressed("src", torch.from_numpy(csr.indptr), indices)
        return HeteroGraph.from_compressed(
            {EXPRESSES: part},
            names={"cell": cells, "feature": self.names["feature"]},
            ndata={
                "cell": {
                    **{name: torch.from_numpy(code[here]) for name, code in self._code.items()},
                    "statistics": torch.zeros(len(cells), len(STATISTICS)),
                },
                "feature": {"degree": degree},
            },
            edata={EXPRESSES: {"weight": torch.from_numpy(csr.data)}},
            kind="cell_feature",
            meta=self._meta,
            reverse={EXPRESSED_BY: EXPRESSES},
        )

    def _transformed(self, csr: sparse.csr_array) -> sparse.csr_array:
        from anndata import AnnData

        from heteromics.data.transforms import transform

        return sparse.csr_array(transform(AnnData(sparse.csr_matrix(csr)), self._transform).X)

    def finish(self, folders: list[Path], extra: Mapping[str, Any]) -> dict[str, Any]:
        """Write into every part what the whole tells, and return the ``meta`` of the whole."""
        size = np.bincount(self._code["batch"], minlength=len(self._sums))
        averages = (self._sums / np.maximum(size, 1)[:, None]).astype(np.float32)
        edges, edata, match = {}, {}, {}
        if self._pairs is not None:
            edges[PATHWAY], edata[PATHWAY], match["pathways"] = self._pairs.edges()
        if self._links is not None:
            edges[INTERACTS], edata[INTERACTS], match["interactions"] = self._links
        names = {"feature": self.names["feature"]}
        shared = HeteroGraph.from_compressed(edges, names=names, edata=edata) if edges else None
        meta = {**self._meta, "explicit_zeros_dropped": self._zeros, **extra}
        if match:
            meta["match"] = match
        for number, folder in enumerate(folders):
            first = number * self.size
            batch = self._code["batch"][first : first + self.size]
            amend_graph(
                folder,
                ndata={"cell": {"statistics": torch.from_numpy(averages[batch])}, "feature": {"degree": self._degree}},
                meta=meta | {"transforms": [shard_note(number, len(folders), first)]},
                shared=shared,
            )
        return meta


class _Pairs:
    """Pairs of features of one pathway, and their products over the training cells of one part after another."""

    def __init__(
        self,
        cells: AnnData,
        pathways: Any,
        training: NDArray[np.bool_],
        threshold: float,
        weighting: Weighting,
    ) -> None:
        membership, self._match = pathway_members(pathways, feature_keys(cells))
        self._a, self._b, self._shared = clique_pairs(membership)
        self._training, self._threshold = training, threshold if weighting == "cosine" else None
        self._products, self._squares = np.zeros(len(self._a)), np.zeros(cells.n_vars)

    def add(self, csr: sparse.csr_array, here: slice) -> None:
        chosen = self._training[here]
        if self._threshold is None or not chosen.any():
            return
        rows = csr if chosen.all() else csr[chosen]
        squares = np.bincount(
            rows.indices, weights=np.square(rows.data, dtype=np.float64), minlength=len(self._squares)
        )
        norm = np.sqrt(squares)
        self._products += pair_cosine(rows, self._a, self._b) * norm[self._a] * norm[self._b]
        self._squares += squares

    def edges(self) -> tuple[Compressed, dict[str, torch.Tensor], dict[str, Any]]:
        """Return the edges, both ways, their data and what joined."""
        a, b, shared, match = self._a, self._b, self._shared, dict(self._match)
        weight = np.ones(len(a), dtype=np.float32)
        if self._threshold is not None:
            scale = np.sqrt(self._squares[a]) * np.sqrt(self._squares[b])
            cosine = np.divide(self._products, scale, out=np.zeros(len(a)), where=scale > 0)
            weight = cosine.clip(-1, 1).astype(np.float32)
            kept = np.abs(weight) > self._threshold
            match["pairs_below_threshold"] = int(kept.size - kept.sum())
            a, b, shared, weight = a[kept], b[kept], shared[kept], weight[kept]
        data = {"weight": weight, "shared": shared.astype(np.int32)}
        indptr, indices, data = symmetric_edges(a, b, data, len(self._squares))
        part = Compressed("src", torch.from_numpy(indptr), torch.from_numpy(indices))
        return part, {name: torch.from_numpy(array) for name, array in data.items()}, match


def shard_note(number: int, of: int, first: int) -> dict[str, Any]:
    """Return what ``meta["transforms"]`` of a shard says."""
    return {"name": "shard", "shard": number, "of": of, "first_cell": first}

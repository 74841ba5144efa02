"""Summaries of features over named cells: tables ``gene_summary``, ``peak_summary``, ``protein_summary``.

Only the cells named (training cells) are looked at, and which they were is kept in table ``summary_cell``: an
attribute that saw test cells would carry them into every model that reads it. The matrices are streamed from disk,
see :mod:`heteromics.priors._streams`; the numbers are those of :mod:`heteromics.priors.moments`.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal, NamedTuple

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from heteromics.errors import DataError, PriorError, some
from heteromics.priors._named_cells import CELLS, DATA, FAMILY, data_sources, named_cells
from heteromics.priors._streams import MODALITIES, Matrix, open_matrices
from heteromics.priors.assembly import to_style
from heteromics.priors.identifiers import join_genes, match_names
from heteromics.priors.moments import Summary, summarise
from heteromics.priors.peaks import parse_peak_names
from heteromics.priors.tables import Built, Count, Match, Source

if TYPE_CHECKING:
    from heteromics.priors.planning import Estimated, PlanContext
    from heteromics.priors.tables import BuildContext

Modality = Literal["rna", "atac", "protein"]

NODES = {"rna": "gene", "atac": "peak", "protein": "protein"}


@dataclass(frozen=True, slots=True)
class SummaryConfig:
    """Recipe keys of ``attributes.summaries``.

    Attributes
    ----------
    all_cells
        Look at all cells, where no model will be tested on any of them; else source ``summary_cells`` names those
        to look at.
    layers
        Layer that holds counts, by modality (``rna``, ``atac``, ``protein``): its name, or ``raw``; ``X`` where not
        named.
    holds
        Modality of an ``.h5ad`` whose features have no ``feature_types``.
    top_genes, top_peaks, top_proteins
        How many are flagged as highly variable; 2,000 genes as in Seurat v3 (Stuart et al. 2019), ten times as many
        peaks.
    span
        Share of the features that each point of the curve of variance over mean looks at; 0.3 as in Seurat v3.
    """

    all_cells: bool = False
    layers: dict[str, str] = field(default_factory=dict)
    holds: Modality | None = None
    top_genes: int = 2_000
    top_peaks: int = 20_000
    top_proteins: int = 50
    span: float = 0.3

    def __post_init__(self) -> None:
        if unknown := sorted(set(self.layers) - set(MODALITIES)):
            raise ValueError(f"layers: found {some(unknown)}, expected {', '.join(MODALITIES)}.")
        if min(self.top.values()) < 0:
            raise ValueError(f"found {some(self.top.values())} features to flag, expected 0 or more.")
        if not 0 < self.span <= 1:
            raise ValueError(f"span: found {self.span}, expected above 0 and up to 1.")

    @property
    def top(self) -> dict[str, int]:
        """How many features are flagged, by modality."""
        return {"rna": self.top_genes, "atac": self.top_peaks, "protein": self.top_proteins}

    def source_names(self) -> tuple[str, ...]:
        """Name the data, and unless all cells are to be looked at the list of those that are."""
        return (DATA,) if self.all_cells else (DATA, CELLS)


class Joined(NamedTuple):
    """For each feature the node it means (None where none), how it was found, with what or why not."""

    node: Sequence[str | None]
    outcome: Sequence[str]
    detail: Sequence[str]


def build_summaries(context: BuildContext, config: SummaryConfig) -> Built:
    """Build the summary tables of the modalities whose node tables are there, and ``summary_cell``.

    Further modalities may lie in files of their own: sources ``summary_data_NAME``.

    Raises
    ------
    RecipeError
        When cells are named and all are asked for at once.
    DataError
        When cells are named that no file has, when a modality has fewer than two of the cells, or is in two files.
    PriorError
        When no modality has a node table, or no feature of one joins its table.
    NotCounts, UnreadableFile, MissingLayer
        As :func:`heteromics.priors.moments.moments` and :func:`heteromics.priors._streams.open_matrices`.
    """
    files, seen = data_sources(context), set[str]()
    for source in files:
        with open_matrices(source.path, config.layers, config.holds) as matrices:
            seen |= {cell for matrix in matrices.values() for cell in matrix.cells}
    named = named_cells(context, seen, "attributes.summaries", all_cells=config.all_cells)
    there = set(
        context.query("SELECT table_name FROM duckdb_tables() WHERE database_name = current_database()")[0].to_pylist()
    )
    built, looked_at = Built({}), []
    for source in files:
        with open_matrices(source.path, config.layers, config.holds) as matrices:
            for modality, matrix in matrices.items():
                if NODES[modality] in there:
                    rows = _add(built, source, modality, matrix, named, context, config)
                    looked_at.append((modality, [matrix.cells[row] for row in rows]))
    if not looked_at:
        raise PriorError(
            "attributes.summaries: no table gene, peak or protein for what the data hold. Fix: add the nodes."
        )
    sources = [one for listed in built.sources.values() for one in listed]
    cells = [context.source(CELLS)] if named is not None else []
    built.sources["summary_cell"] = list(dict.fromkeys([*sources, *cells]))
    built.tables["summary_cell"] = pa.table(
        {
            "modality": pa.array([modality for modality, names in looked_at for _ in names], pa.string()),
            "cell_id": pa.array([name for _, names in looked_at for name in names], pa.string()),
        }
    )
    return built


def _add(
    built: Built,
    source: Source,
    modality: str,
    matrix: Matrix,
    named: set[str] | None,
    context: BuildContext,
    config: SummaryConfig,
) -> NDArray[np.int64]:
    """Summarise one matrix and add its table; returns the rows of the cells looked at."""
    node = NODES[modality]
    name = f"{node}_summary"
    if name in built.tables:
        raise DataError(f"{source.label} holds {modality} again; {built.sources[name][0].label} does already.")
    rows = np.array([row for row, cell in enumerate(matrix.cells) if named is None or cell in named], np.int64)
    context.progress(f"summarising {modality} of {rows.size:,} cells")
    summary = summarise(
        lambda: matrix.blocks(rows),
        rows.size,
        len(matrix.features),
        top=config.top[modality],
        span=config.span,
        what=matrix.where,
    )
    joined = _first_of_each(JOIN[modality](context, matrix), matrix.features)
    if all(one is None for one in joined.node):
        raise PriorError(
            f"{source.label}: none of its {len(matrix.features):,} {modality} features is in table {node}: "
            f"{some(matrix.features)}. Fix: look whether the names, or the assembly, are those of the recipe."
        )
    built.tables[name] = _table(node, matrix, joined, summary, rows.size)
    built.sources[name] = [source, *([context.source(CELLS)] if named is not None else [])]
    built.matches[name] = [
        Match(source.label, feature, outcome, detail)
        for feature, outcome, detail in zip(matrix.features, joined.outcome, joined.detail, strict=True)
        if outcome != "matched"
    ]
    built.counts[name] = [Count(source.label, outcome, n) for outcome, n in Counter(joined.outcome).items()]
    return rows


def _join_genes(context: BuildContext, matrix: Matrix) -> Joined:
    return Joined(*join_genes(context, matrix.ids))


def _join_proteins(context: BuildContext, matrix: Matrix) -> Joined:
    proteins = context.query("SELECT protein_id, symbol FROM protein ORDER BY protein_id")
    ids, symbols = (proteins[name].to_pylist() for name in ("protein_id", "symbol"))
    row, outcome = match_names(matrix.features, ids, symbols)
    found = [ids[one] if one >= 0 else None for one in row.tolist()]
    said = [f"joined {one}" if one is not None else "in table protein" for one in found]
    return Joined(found, outcome, said)


def _join_peaks(context: BuildContext, matrix: Matrix) -> Joined:
    """Find peaks by name, else by the interval that the name says."""
    peaks = context.query("SELECT peak_id, chrom, chrom_start, chrom_end FROM peak")
    ids = peaks["peak_id"].to_pylist()
    known = set(ids)
    places = zip(*(peaks[name].to_pylist() for name in ("chrom", "chrom_start", "chrom_end")), strict=True)
    at = dict(zip(places, ids, strict=True))
    parsed, _ = parse_peak_names([name for name in matrix.features if name not in known])
    chrom = to_style(parsed.chrom, context.chrom_style, known=context.chromosomes)  # type: ignore[arg-type]
    bounds = zip(chrom, parsed.start.tolist(), parsed.end.tolist(), strict=True)
    place_of = dict(zip(parsed.name, bounds, strict=True))
    node = [name if name in known else at.get(place_of.get(name, ("", 0, 0))) for name in matrix.features]
    outcome, detail = [], []
    for name, found in zip(matrix.features, node, strict=True):
        if found is not None:
            outcome.append("matched" if name == found else "same_place")
            detail.append(f"joined {found}")
        else:
            outcome.append("absent" if name in place_of else "unparsable")
            detail.append("no peak of table peak" if name in place_of else "expected chrom:start-end")
    return Joined(node, outcome, detail)


JOIN = {"rna": _join_genes, "atac": _join_peaks, "protein": _join_proteins}


def _first_of_each(joined: Joined, features: Sequence[str]) -> Joined:
    """Let the first feature of a node stand; those that join it again are ``duplicated``."""
    first: dict[str, str] = {}
    node, outcome, detail = list(joined.node), list(joined.outcome), list(joined.detail)
    for row, found in enumerate(joined.node):
        if found is None:
            continue
        if found in first:
            node[row], outcome[row] = None, "duplicated"
            detail[row] = f"{found} is summarised as {first[found]}"
        else:
            first[found] = features[row]
    return Joined(node, outcome, detail)


def _table(node: str, matrix: Matrix, joined: Joined, summary: Summary, cells: int) -> pa.Table:
    kept = np.array([row for row, found in enumerate(joined.node) if found is not None], np.int64)
    normalised = summary.normalised_variance[kept]
    return pa.table(
        {
            f"{node}_id": pa.array([joined.node[row] for row in kept], pa.string()),
            "feature": pa.array([matrix.features[row] for row in kept], pa.string()),
            "cells": np.full(kept.size, cells, np.int64),
            "mean": summary.mean[kept],
            "variance": summary.variance[kept],
            "normalised_variance": pa.array(normalised, mask=np.isnan(normalised)),
            "dropout": summary.dropout[kept],
            "highly_variable": summary.highly_variable[kept],
        }
    )


def estimate_summaries(plan: PlanContext, config: SummaryConfig) -> Estimated:
    """Estimate the rows: as many as the data have features, at most as many as there are nodes."""
    rows: Estimated = {}
    for source in [DATA, *plan.family(FAMILY)]:
        path = plan.path(source)
        if path is None:
            continue
        with open_matrices(path, config.layers, config.holds) as matrices:
            for modality, matrix in matrices.items():
                node = NODES[modality]
                if node in plan.rows:
                    most = plan.rows[node]
                    here = len(matrix.features)
                    rows[f"{node}_summary"] = here if most is None else min(most, here)
                    rows["summary_cell"] = (rows.get("summary_cell") or 0) + len(matrix.cells)
    named = plan.count(CELLS, len)
    if named is not None and rows:
        rows["summary_cell"] = named * sum(table != "summary_cell" for table in rows)
    return rows or {"summary_cell": None}

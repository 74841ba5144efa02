"""Pairs of genes that share sets, weighted by the cosine of their expression over named cells."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from heteromics.errors import DataError, MissingModality, PriorError, some
from heteromics.priors._ends import tally
from heteromics.priors._named_cells import CELLS, data_sources, named_cells
from heteromics.priors._streams import Matrix, open_matrices
from heteromics.priors.identifiers import join_genes
from heteromics.priors.set_pairs import SharedSets, set_cosine, shared_sets
from heteromics.priors.tables import Count, Match, Source

if TYPE_CHECKING:
    from heteromics.priors.tables import BuildContext

Ints = NDArray[np.int64]
BLOCK_CELLS = 4096
"""Cells that are dense at once, in the columns of one set: 8 MiB for 500 genes."""


@dataclass(frozen=True, slots=True)
class Seen:
    """What was looked at: how many cells, the files, and which genes of sets have no expression."""

    cells: int
    sources: list[Source]
    matches: list[Match]
    counts: list[Count]


def cosine_pairs(
    context: BuildContext,
    membership: sparse.csr_array,
    gene_id: list[str],
    *,
    layer: str | None = None,
    all_cells: bool = False,
) -> tuple[SharedSets, NDArray[np.float64], Seen]:
    """Pair the genes that share sets and have expression, with the cosine of their expression.

    Parameters
    ----------
    context
        The build so far, with sources ``summary_data`` and, unless all cells are to be looked at, ``summary_cells``.
    membership
        Genes x sets, (G, S), rows as in ``gene_id``.
    gene_id
        Genes of table ``gene``, length G.
    layer
        Layer of the data, None for X.
    all_cells
        Look at all cells.

    Raises
    ------
    PriorError
        When no gene of a set has expression, or no cell that is named.
    MissingModality
        When not exactly one file holds RNA.
    DataError
        When names are no cell of the data, or values are not finite.
    RecipeError
        When cells are named and all are asked for at once.
    """
    source, seen = _holder(context, layer)
    named = named_cells(context, seen, "edges.pathways", all_cells=all_cells)
    with open_matrices(source.path, _layers(layer)) as matrices:
        rna = matrices["rna"]
        rows = np.array([row for row, cell in enumerate(rna.cells) if named is None or cell in named], np.int64)
        column = _columns(context, rna, gene_id)
        in_set = np.diff(membership.indptr) > 0
        used = np.flatnonzero(in_set & (column >= 0))
        if not used.size or not rows.size:
            raise PriorError(
                f"{source.label}: {used.size:,} of its {len(rna.features):,} genes are in a gene set, {rows.size:,} of "
                f"its {len(rna.cells):,} cells are named, expected some of either.\n  genes: {some(rna.features)}\n"
                f"  cells: {some(rna.cells)}\n  Fix: give data, cells and gene sets that belong together."
            )
        kept = sparse.csr_array(membership[used])
        pairs = shared_sets(kept)
        context.progress(f"cosine of {used.size:,} genes over {rows.size:,} cells")
        weight = set_cosine(row_blocks(rna, rows, column[used]), kept, pairs)
    lacking = [
        Match(source.label, gene_id[row], "absent", "in a gene set, but the data have no column for it")
        for row in np.flatnonzero(in_set & (column < 0))
    ]
    counts = [Count(source.label, "matched", used.size), *tally(source.label, (match.outcome for match in lacking))]
    sources = [source, *([] if named is None else [context.source(CELLS)])]
    pairs = pairs._replace(a=used[pairs.a], b=used[pairs.b])
    return pairs, weight, Seen(rows.size, sources, lacking, counts)


def row_blocks(matrix: Matrix, rows: Ints, columns: Ints) -> Iterator[sparse.csr_array]:
    """Yield the cells in ``rows`` with the features in ``columns``, as many rows at a time as are made dense at once.

    Of a matrix stored by column, the chosen columns are held whole, as sparse as they are.

    Parameters
    ----------
    matrix
        Of an open file.
    rows
        Rows of the cells, ascending, shape (n,).
    columns
        Places of the features among all of the matrix, in any order, shape (G,).

    Raises
    ------
    DataError
        For values that are not finite.
    """
    order = np.argsort(columns)
    rising, parts = columns[order], []
    for first, values in matrix.blocks(rows):
        if values.shape[1] == len(matrix.features):
            yield from _cut(matrix, sparse.csr_array(values[:, columns]))
        else:
            low, high = np.searchsorted(rising, [first, first + values.shape[1]])
            parts.append(values[:, rising[low:high] - first])
    if parts:
        yield from _cut(matrix, sparse.csr_array(sparse.hstack(parts, format="csr")[:, np.argsort(order)]))


def _cut(matrix: Matrix, values: sparse.csr_array) -> Iterator[sparse.csr_array]:
    if not np.isfinite(values.data).all():
        raise DataError(f"{matrix.where}: found values that are not finite. Fix: replace them.")
    for start in range(0, values.shape[0], BLOCK_CELLS):
        yield sparse.csr_array(values[start : start + BLOCK_CELLS])


def _layers(layer: str | None) -> dict[str, str]:
    return {} if layer is None else {"rna": layer}


def _holder(context: BuildContext, layer: str | None) -> tuple[Source, set[str]]:
    """Return the one file that holds RNA, and the names of the cells of all files."""
    files = data_sources(context)
    seen: set[str] = set()
    holders = []
    for source in files:
        with open_matrices(source.path, _layers(layer)) as matrices:
            seen |= {cell for matrix in matrices.values() for cell in matrix.cells}
            holders += [source] if "rna" in matrices else []
    if len(holders) != 1:
        raise MissingModality(
            f"{some(source.label for source in files)}: {len(holders)} of them hold rna, expected one. "
            "Fix: give the file with expression as source summary_data."
        )
    return holders[0], seen


def _columns(context: BuildContext, rna: Matrix, gene_id: list[str]) -> Ints:
    """Return, for each gene, its place among the genes of the data, the first of several, -1 where it has none."""
    row_of = {gene: row for row, gene in enumerate(gene_id)}
    column = np.full(len(gene_id), -1, np.int64)
    for place, gene in enumerate(join_genes(context, rna.ids).gene_id):
        if gene is not None and column[row_of[gene]] < 0:
            column[row_of[gene]] = place
    return column

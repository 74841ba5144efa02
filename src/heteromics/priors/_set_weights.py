"""Pairs of genes that share sets, weighted by the cosine of their expression over named cells."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from heteromics.errors import PriorError, some
from heteromics.priors._ends import tally
from heteromics.priors._expression import Expression, open_expression
from heteromics.priors.identifiers import join_genes
from heteromics.priors.set_pairs import SharedSets, set_cosine, shared_sets
from heteromics.priors.tables import Count, Match, Source

if TYPE_CHECKING:
    from heteromics.priors.tables import BuildContext


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
        When no gene of a set has expression.
    """
    data = context.source("summary_data")
    listed = None if all_cells else context.source("summary_cells")
    with open_expression(data.path, layer) as expression:
        cells = np.ones(len(expression.cells), bool) if listed is None else expression.chosen(listed.path)
        column = _columns(context, expression, gene_id)
        in_set = np.diff(membership.indptr) > 0
        used = np.flatnonzero(in_set & (column >= 0))
        if not used.size:
            raise PriorError(
                f"{data.label}: none of its {len(expression.genes):,} genes is in a gene set.\n"
                f"  data: {some(expression.genes)}\n  Fix: give data and gene sets of one organism."
            )
        kept = sparse.csr_array(membership[used])
        pairs = shared_sets(kept)
        n = int(cells.sum())
        context.progress(f"cosine of {used.size:,} genes over {n:,} cells")
        weight = set_cosine(expression.blocks(column[used], cells), kept, pairs)
    lacking = [
        Match(data.label, gene_id[row], "absent", "in a gene set, but the data have no column for it")
        for row in np.flatnonzero(in_set & (column < 0))
    ]
    counts = [Count(data.label, "matched", used.size), *tally(data.label, (match.outcome for match in lacking))]
    sources = [data] if listed is None else [data, listed]
    return pairs._replace(a=used[pairs.a], b=used[pairs.b]), weight, Seen(n, sources, lacking, counts)


def _columns(context: BuildContext, expression: Expression, gene_id: list[str]) -> NDArray[np.int64]:
    """Return, for each gene, its place among the genes of the data, the first of several, -1 where it has none."""
    row_of = {gene: row for row, gene in enumerate(gene_id)}
    column = np.full(len(gene_id), -1, np.int64)
    joined = join_genes(context, expression.genes)
    for place, gene in enumerate(joined.gene_id):
        if gene is not None and column[row_of[gene]] < 0:
            column[row_of[gene]] = place
    return column

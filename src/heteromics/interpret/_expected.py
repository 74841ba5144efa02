"""How often a gene and a peak would meet by chance alone: which pairs there is enough data to test."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from heteromics.graphs.pairs import EXPRESSES, OPENS
from heteromics.models._links import joint_counts, present

if TYPE_CHECKING:
    from pandas import DataFrame

    from heteromics.graphs import HeteroGraph

_HELD = 1 << 24  # entries of two columns held at a time, 200 MB


def expected_pairs(
    graph: HeteroGraph, cells: NDArray[np.int64], pairs: DataFrame, block: NDArray[np.int64] | None = None
) -> NDArray[np.float64]:
    """Return in how many cells each gene and peak would meet if the cells of each block were exchanged.

    Parameters
    ----------
    graph
        From :func:`heteromics.graphs.bipartite`.
    cells
        Rows of the RNA and the ATAC profile of each cell, shape (n, 2), as of :func:`heteromics.tasks.paired_rows`.
    pairs
        Columns ``gene`` and ``peak``.
    block
        Number of the block of each cell, from 0, shape (n,): a cell may get the ATAC profile of any cell of its block.
        None takes all cells for one block.

    Returns
    -------
    ndarray
        Shape (pairs,), float64: the cells of a block that express the gene times those that have the peak open, over
        the cells of the block, summed over blocks.

    Raises
    ------
    GraphError
        For a gene or peak that is not in the graph.

    Notes
    -----
    In sparse data most pairs would meet in a cell or two, of which no test of links can tell anything.
    :func:`heteromics.interpret.links` leaves them out by this number, not by how often they do meet: it is the same
    under any exchange of cells within their blocks, so that p-values and false discovery rates of the others stay as
    they are (independent filtering; Bourgon, Gentleman and Huber 2010, doi:10.1073/pnas.0914005107). Over all cells as
    one block it says less: a gene of one type and a peak of another are expected to meet there, and never do where
    cells are exchanged within types.

    Cost: the non-zeros of blocks x genes and blocks x peaks in the columns of the pairs.

    Examples
    --------
    >>> import numpy as np, pandas as pd
    >>> from heteromics.graphs import HeteroGraph
    >>> names = {"rna_cell": list("abcd"), "atac_cell": list("abcd"), "gene": ["G"], "peak": ["p"]}
    >>> expresses, opens = ("rna_cell", "expresses", "gene"), ("atac_cell", "opens", "peak")
    >>> graph = HeteroGraph.from_edges({expresses: ([0, 1, 2], [0] * 3), opens: ([2, 3], [0] * 2)}, names=names)
    >>> cells, pair = np.stack([np.arange(4)] * 2, axis=1), pd.DataFrame({"gene": ["G"], "peak": ["p"]})
    >>> expected_pairs(graph, cells, pair)
    array([1.5])
    >>> expected_pairs(graph, cells, pair, block=np.array([0, 0, 1, 1]))
    array([1.])
    """
    from scipy import sparse

    code = np.zeros(len(cells), dtype=np.int64) if block is None else block
    size = np.bincount(code)
    member = sparse.csr_matrix((np.ones(len(code)), (code, np.arange(len(code)))), shape=(len(size), len(code)))
    share = sparse.diags_array(1 / np.maximum(size, 1)) @ member
    gene, peak = (graph.index(side, pairs[side]) for side in ("gene", "peak"))
    expressing = sparse.csc_matrix(member @ present(graph, EXPRESSES, cells[:, 0]))  # blocks x genes
    opened = sparse.csc_matrix(share @ present(graph, OPENS, cells[:, 1]))  # blocks x peaks
    return joint_counts(expressing, opened, gene, peak, chunk=max(1, _HELD // max(len(size), 1)))

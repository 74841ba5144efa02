"""How often a gene and a peak would meet by chance alone: which pairs there is enough data to test."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from heteromics.graphs.pairs import EXPRESSES, OPENS
from heteromics.models._links import present

if TYPE_CHECKING:
    from pandas import DataFrame

    from heteromics.graphs import HeteroGraph


def expected_pairs(graph: HeteroGraph, cells: NDArray[np.int64], pairs: DataFrame) -> NDArray[np.float64]:
    """Return in how many cells each gene and peak would meet if they were independent.

    Parameters
    ----------
    graph
        From :func:`heteromics.graphs.bipartite`.
    cells
        Rows of the RNA and the ATAC profile of each cell, shape (n, 2), as of :func:`heteromics.tasks.paired_rows`.
    pairs
        Columns ``gene`` and ``peak``.

    Returns
    -------
    ndarray
        Shape (pairs,), float64: the cells that express the gene times those that have the peak open, over all.

    Raises
    ------
    GraphError
        For a gene or peak that is not in the graph.

    Notes
    -----
    In sparse data most pairs would meet in a cell or two, of which no test of links can tell anything; its normal tail
    is far too thin there. Leave them out by this number, not by how often they do meet: it is the same under any
    exchange of cells, so that p-values and false discovery rates of the others stay as they are (independent
    filtering; Bourgon, Gentleman and Huber 2010, doi:10.1073/pnas.0914005107). Five is the usual least expected count
    (Cochran 1954, doi:10.2307/3001616).

    Examples
    --------
    >>> import numpy as np, pandas as pd
    >>> from heteromics.graphs import HeteroGraph
    >>> names = {"rna_cell": list("abcd"), "atac_cell": list("abcd"), "gene": ["G"], "peak": ["p"]}
    >>> expresses, opens = ("rna_cell", "expresses", "gene"), ("atac_cell", "opens", "peak")
    >>> graph = HeteroGraph.from_edges({expresses: ([0, 1, 2], [0] * 3), opens: ([2, 3], [0] * 2)}, names=names)
    >>> cells = np.stack([np.arange(4)] * 2, axis=1)
    >>> expected_pairs(graph, cells, pd.DataFrame({"gene": ["G"], "peak": ["p"]}))
    array([1.5])
    """
    ends = zip(("gene", "peak"), (EXPRESSES, OPENS), cells.T, strict=True)
    number = [present(graph, etype, rows).getnnz(axis=0)[graph.index(side, pairs[side])] for side, etype, rows in ends]
    expected: NDArray[np.float64] = number[0] * (number[1] / len(cells))
    return expected

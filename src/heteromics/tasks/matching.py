"""Cross-modal matching: do an RNA and an ATAC profile come from the same cell? Pairs, splits and an honest protocol.

The paper draws one set of pairs, negatives of other cell types, and splits the *pairs* (Bi2Former, public code): the
RNA of a cell can be in a positive pair for training and in a negative one for testing, and telling cell types apart is
enough. Here cells are split before pairs are drawn, hard negatives of the same type are always scored too, and two
controls stand beside the model: a classifier that sees cell types alone, and sequencing depth alone, since a rich cell
is often rich in both modalities. The published protocol can be run beside it, ``run_matching(protocol="pairs")``.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from heteromics.errors import DataError, some
from heteromics.graphs.pairs import EXPRESSES, OPENS
from heteromics.models.baselines import CellTypeMatcher
from heteromics.models.bi2former import Bi2Former, Bi2FormerConfig
from heteromics.tasks.metrics import accuracy, classification_scores
from heteromics.tasks.pairs import UNKNOWN, Int, Negatives, check_split_by_cell, labelled, make_pairs, split_pairs

if TYPE_CHECKING:
    from pandas import DataFrame
    from scipy import sparse

    from heteromics.graphs import HeteroGraph

Labelled = tuple[Int, Int]
LEAKING = "test pairs, their cells seen in training"


@dataclass(frozen=True, slots=True)
class MatchingResult:
    """What a matching run gives.

    Attributes
    ----------
    metrics
        One row per model, kind of test negatives and metric: ``model, split, negatives, metric, value``. ``split`` is
        ``"test"``, or with ``protocol="pairs"`` says that cells leak.
    pairs
        One row per scored pair: ``negatives, rna_cell, atac_cell, label`` and a column of scores per model.
    model
        The fitted Bi2Former.
    thresholds
        Of each model's accuracy: 0.5 for Bi2Former; for the controls the one that is best on validation pairs.
    unlabelled
        Number of paired cells without a cell type, which are in no easy or hard pair.
    """

    metrics: DataFrame
    pairs: DataFrame
    model: Bi2Former
    thresholds: dict[str, float]
    unlabelled: int


@dataclass(frozen=True, slots=True)
class _Sets:
    """Labelled pairs of every part, the name of the test part, and the paired cells of training with their types."""

    draw: Callable[[int], Labelled]
    validation: Labelled
    tests: dict[str, Labelled]
    split: str
    cells: Int
    types: NDArray[np.str_]


def run_matching(
    graph: HeteroGraph,
    split: ArrayLike | None = None,
    *,
    protocol: Literal["cells", "pairs"] = "cells",
    cells: ArrayLike | None = None,
    config: Bi2FormerConfig | None = None,
    negatives: Negatives = "random",
    test_negatives: tuple[Negatives, ...] | None = None,
    ratio: float = 1.0,
    redraw: bool = True,
    max_epochs: int | None = None,
    seed: int = 0,
    device: str = "auto",
    folder: Path | str | None = None,
    resume: bool = False,
    progress: bool = True,
) -> MatchingResult:
    """Fit Bi2Former and two controls, cell types alone and depth alone, and score all on pairs of test cells.

    Parameters
    ----------
    graph
        From :func:`heteromics.graphs.bipartite`, with cell types; its attributes should be those of training cells.
        Cells count as paired by name.
    split
        One code per cell: 0 training, 1 validation, 2 test. None with ``protocol="pairs"``.
    protocol
        ``"cells"``: cells are split, then paired within each part. ``"pairs"``, as published and for comparison with
        the paper only: all cells are paired once and the pairs are split by :func:`split_pairs`, so that the cells of
        test pairs are known from training; ``metrics`` say so. The paper's pairs have ``negatives="easy"``.
    cells
        Rows of the RNA and ATAC profiles that the codes belong to, shape (n, 2), some of ``paired_rows(graph)``; None
        takes all of those, in their order.
    config
        Of Bi2Former.
    negatives
        Kind of training and validation negatives.
    test_negatives
        Kinds to score, default easy and hard. With ``protocol="pairs"`` they are those of ``negatives``.
    ratio
        Negatives per positive, in training, validation and test.
    redraw
        Draw training negatives anew in every epoch. Never with ``protocol="pairs"``.
    max_epochs, seed, device, folder, resume, progress
        As in :meth:`heteromics.models.bi2former.Bi2Former.fit`.

    Returns
    -------
    MatchingResult

    Raises
    ------
    DataError
        When a split is empty, the graph has no cell types or no paired cells, no cell of a part has a type and easy
        or hard pairs are asked for, a cell would be in two splits, or arguments do not go with the protocol.
    """
    rows, types = paired_rows(graph)
    if cells is not None:
        rows, types = _among(rows, types, cells)
    if protocol == "cells" and split is not None:
        kinds = ("easy", "hard") if test_negatives is None else test_negatives
        sets = _split_by_cell(_parts(split, rows, types), negatives, kinds, ratio, redraw=redraw, seed=seed)
    elif protocol == "pairs" and split is None and test_negatives is None:
        sets = _split_by_pair(rows, types, negatives, ratio, seed=seed)
    else:
        raise DataError(
            f"found protocol={protocol!r} with split {'not ' * (split is None)}given and "
            f"test_negatives={test_negatives}; expected 'cells' with one code per cell, or 'pairs' with neither."
        )
    model = Bi2Former(graph, config=config).fit(
        sets.draw,
        validation=sets.validation,
        max_epochs=max_epochs,
        seed=seed,
        device=device,
        folder=folder,
        resume=resume,
        progress=progress,
    )
    control = fit_control(graph, sets.cells, sets.types, seed=seed)
    matrices = counts(graph, EXPRESSES), counts(graph, OPENS)
    scorers: dict[str, Callable[[Int], NDArray[Any]]] = {
        "Bi2Former": lambda pairs: model.predict(pairs, device=device, progress=progress),
        "CellTypeMatcher": lambda pairs: control.predict(*matrices, pairs),
        "DepthMatcher": lambda pairs: depth_scores(*matrices, sets.cells, pairs),
    }
    scored, thresholds = _scored(graph, sets, scorers)
    metrics = score(scored, thresholds, sets.split)
    return MatchingResult(metrics, scored, model, thresholds, int((~labelled(types)).sum()))


def _split_by_cell(
    parts: dict[str, tuple[Int, NDArray[np.str_]]],
    negatives: Negatives,
    test_negatives: tuple[Negatives, ...],
    ratio: float,
    *,
    redraw: bool,
    seed: int,
) -> _Sets:
    """Pair cells within each part."""
    train = parts["train"]
    held_out = make_pairs(*parts["validation"], mode=negatives, ratio=ratio, seed=(seed, 1))
    tests: dict[str, Labelled] = {
        kind: make_pairs(*parts["test"], mode=kind, ratio=ratio, seed=(seed, 2)) for kind in test_negatives
    }

    def draw(epoch: int) -> Labelled:
        return make_pairs(*train, mode=negatives, ratio=ratio, seed=(seed, 3, epoch if redraw else 0))

    seen = {"train": draw(0)[0], "validation": held_out[0], "test": np.concatenate([p for p, _ in tests.values()])}
    for column in (0, 1):
        check_split_by_cell({name: pairs[:, column] for name, pairs in seen.items()})
    return _Sets(draw, held_out, tests, "test", *train)


def _split_by_pair(rows: Int, types: NDArray[np.str_], negatives: Negatives, ratio: float, *, seed: int) -> _Sets:
    """Pair all cells once and split the pairs, as published; the controls learn from the positives of training."""
    pairs, labels = make_pairs(rows, types, mode=negatives, ratio=ratio, seed=seed)
    codes = split_pairs(pairs, seed=seed)
    train, validation, test = ((pairs[codes == code], labels[codes == code]) for code in range(3))
    known = np.isin(rows[:, 0], train[0][train[1] == 1, 0])
    return _Sets(lambda _: train, validation, {negatives: test}, LEAKING, rows[known], types[known])


def _scored(
    graph: HeteroGraph, sets: _Sets, scorers: Mapping[str, Callable[[Int], NDArray[Any]]]
) -> tuple[DataFrame, dict[str, float]]:
    """Score all test pairs, and choose the thresholds of the controls on validation pairs."""
    import pandas as pd

    held_out, truth = sets.validation
    thresholds = {
        name: 0.5 if name == "Bi2Former" else best_threshold(truth, scorer(held_out))
        for name, scorer in scorers.items()
    }
    tables = []
    for kind, (pairs, labels) in sets.tests.items():
        table: dict[str, Any] = {"negatives": kind, "rna_cell": graph.names["rna_cell"][pairs[:, 0]]}
        table |= {"atac_cell": graph.names["atac_cell"][pairs[:, 1]], "label": labels}
        tables.append(pd.DataFrame(table | {name: scorer(pairs) for name, scorer in scorers.items()}))
    return pd.concat(tables, ignore_index=True), thresholds


def paired_rows(graph: HeteroGraph) -> tuple[Int, NDArray[np.str_]]:
    """Return the cells of a bipartite graph that have both profiles: rows (n, 2) and types (n,), in RNA order.

    The type of a cell without one is ``"unknown"``.

    Raises
    ------
    DataError
        When no name is in both modalities, or the RNA profiles have no cell types.
    """
    place = {name: row for row, name in enumerate(graph.names["atac_cell"].tolist())}
    other = np.array([place.get(name, -1) for name in graph.names["rna_cell"].tolist()], dtype=np.int64)
    first = np.flatnonzero(other >= 0)
    if not first.size:
        raise DataError(
            f"no cell has both profiles: rna has {some(graph.names['rna_cell'])}, "
            f"atac {some(graph.names['atac_cell'])}. Fix: give both modalities the same obs_names."
        )
    if "cell_type" not in graph.ndata("rna_cell"):
        raise DataError("the graph has no cell types. Fix: bipartite(..., cell_type='COLUMN') with a column of obs.")
    code = graph.ndata("rna_cell")["cell_type"].numpy()[first]
    names = np.array([*graph.meta["categories"]["cell_type"], UNKNOWN])
    return np.stack([first, other[first]], axis=1), names[code]


def counts(graph: HeteroGraph, etype: tuple[str, str, str]) -> sparse.csr_array:
    """Return the weights of one edge type as a sparse matrix, cells x features."""
    from scipy import sparse

    indptr, indices, order = graph.adjacency(etype)
    weight = graph.edata(etype)["weight"][order.long()]
    shape = graph.num_nodes(etype[0]), graph.num_nodes(etype[2])
    return sparse.csr_array((weight.numpy(), indices.numpy(), indptr.numpy()), shape=shape)


def fit_control(graph: HeteroGraph, rows: Int, types: ArrayLike, *, seed: int = 0) -> CellTypeMatcher:
    """Fit the classifier of cell types alone on some paired cells, rows (n, 2), of known type."""
    names = np.asarray(types)
    known = labelled(names)
    rna, atac = counts(graph, EXPRESSES)[rows[known, 0]], counts(graph, OPENS)[rows[known, 1]]
    return CellTypeMatcher(seed=seed).fit(rna, names[known], atac, names[known])


def depth_scores(
    rna: sparse.csr_array, atac: sparse.csr_array, training: ArrayLike, pairs: ArrayLike
) -> NDArray[np.float64]:
    """Score pairs by sequencing depth alone: the product of both log depths, standardised over training cells.

    The best linear guess when depths are normal and correlate little; its sign is that of the correlation over the
    training cells. Nothing of any gene or peak goes into it.

    Parameters
    ----------
    rna, atac
        Counts, cells x features.
    training
        Rows of both profiles of training cells, shape (m, 2).
    pairs
        Shape (n, 2).

    Returns
    -------
    ndarray
        Shape (n,), larger where the depths go together.
    """
    rows, wanted = np.asarray(training), np.asarray(pairs)
    sides = []
    for column, matrix in enumerate((rna, atac)):
        depth = np.log(np.asarray(matrix.sum(axis=1), dtype=np.float64).ravel())
        known = depth[rows[:, column]]
        sides.append((depth - known.mean()) / (known.std() or 1.0))
    together = np.sign(np.mean(sides[0][rows[:, 0]] * sides[1][rows[:, 1]])) or 1.0
    return together * sides[0][wanted[:, 0]] * sides[1][wanted[:, 1]]


def best_threshold(labels: ArrayLike, scores: ArrayLike) -> float:
    """Return the threshold of best accuracy, the lowest of equals; to be chosen on validation pairs.

    Examples
    --------
    >>> best_threshold([0, 0, 1], [0.01, 0.02, 0.2])
    0.02
    """
    truth, values = np.asarray(labels, dtype=bool), np.asarray(scores, dtype=np.float64)
    order = np.argsort(values, kind="stable")
    at = np.concatenate([[np.nextafter(values[order[0]], -np.inf)], values[order]])
    right = truth.sum() + np.concatenate([[0], np.cumsum(np.where(truth[order], -1, 1))])
    last = np.append(at[:-1] != at[1:], True)  # of equal scores all are on one side
    return float(at[last][np.argmax(right[last])])


def score(table: DataFrame, thresholds: Mapping[str, float], split: str = "test") -> DataFrame:
    """Score the columns named in ``thresholds`` for each kind of negatives; a table as ``MatchingResult.pairs``.

    Returns
    -------
    DataFrame
        ``model, split, negatives, metric, value`` with accuracy, auroc, auprc and prevalence.
    """
    import pandas as pd

    rows = []
    for kind, part in table.groupby("negatives", sort=False):
        for model, threshold in thresholds.items():
            found = classification_scores(part["label"], part[model])
            found["accuracy"] = accuracy(part["label"], part[model], threshold)
            rows += [(model, split, kind, metric, value) for metric, value in found.items()]
    return pd.DataFrame(rows, columns=["model", "split", "negatives", "metric", "value"])


def _among(rows: Int, types: NDArray[np.str_], cells: ArrayLike) -> tuple[Int, NDArray[np.str_]]:
    """Return the cells asked for, with their types."""
    place = {pair: number for number, pair in enumerate(map(tuple, rows.tolist()))}
    asked = [tuple(pair) for pair in np.asarray(cells, dtype=np.int64).reshape(-1, 2).tolist()]
    if unknown := [pair for pair in asked if pair not in place]:
        raise DataError(
            f"cells: {len(unknown)} of {len(asked)} rows are not the two profiles of one cell: {some(unknown)}."
        )
    chosen = [place[pair] for pair in asked]
    return rows[chosen], types[chosen]


def _parts(split: ArrayLike, rows: Int, types: NDArray[np.str_]) -> dict[str, tuple[Int, NDArray[np.str_]]]:
    codes = np.asarray(split).ravel()
    number = {name: int((codes == code).sum()) for code, name in enumerate(("train", "validation", "test"))}
    if codes.size != len(rows) or sum(number.values()) != codes.size or min(number.values()) < 2:
        raise DataError(
            f"split: found {codes.size} codes for {len(rows)} paired cells, {number['train']} training (0), "
            f"{number['validation']} validation (1), {number['test']} test (2). "
            "Expected one code per cell and each of the three at least twice."
        )
    return {name: (rows[codes == code], types[codes == code]) for code, name in enumerate(number)}

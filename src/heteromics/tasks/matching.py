"""Cross-modal matching: do an RNA and an ATAC profile come from the same cell? Pairs, splits and an honest protocol.

The paper draws one set of pairs, negatives of other cell types, and splits the *pairs* (Bi2Former, public code): the
RNA of a cell can be in a positive pair for training and in a negative one for testing, and telling cell types apart is
enough. Here cells are split before pairs are drawn, hard negatives of the same type are always scored too, and two
controls stand beside the model: a classifier that sees cell types alone, and sequencing depth alone, since a rich cell
is often rich in both modalities.
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

if TYPE_CHECKING:
    from pandas import DataFrame
    from scipy import sparse

    from heteromics.graphs import HeteroGraph

Int = NDArray[np.int64]
Negatives = Literal["easy", "hard", "random"]
NEGATIVES: tuple[Negatives, ...] = ("easy", "hard", "random")


def make_pairs(
    cells: ArrayLike, types: ArrayLike, *, mode: Negatives = "easy", ratio: float = 1.0, seed: int | tuple[int, ...] = 0
) -> tuple[Int, Int]:
    """Pair the two profiles of every cell, and profiles of different cells.

    Parameters
    ----------
    cells
        Rows of the cells of one split, shape (n,); or rows of their RNA and their ATAC profiles, shape (n, 2).
    types
        Cell type of each, shape (n,), names or codes.
    mode
        Negatives: ``"easy"``, uniform over pairs of different types [the paper's numbers]; ``"hard"``, a cell and
        another of its type, types in proportion to their size [the code's other mode]; ``"random"``, any two cells.
    ratio
        Negatives per positive.
    seed
        Of the draw. Negatives are drawn with replacement.

    Returns
    -------
    pairs, labels
        Positives, in the order of the cells, then negatives: shapes (m, 2) and (m,), int64.

    Raises
    ------
    DataError
        When no negative of this kind exists, or lengths differ.

    Examples
    --------
    >>> pairs, labels = make_pairs([4, 7, 9], ["B", "B", "T"], mode="hard", seed=0)
    >>> labels.tolist()
    [1, 1, 1, 0, 0, 0]
    >>> sorted(set(map(tuple, pairs[3:].tolist())))
    [(4, 7), (7, 4)]
    """
    rows = np.asarray(cells, dtype=np.int64)
    rows = np.stack([rows, rows], axis=1) if rows.ndim == 1 else rows
    names, code = np.unique(np.asarray(types), return_inverse=True)
    if len(code) != len(rows) or mode not in NEGATIVES or ratio <= 0:
        raise DataError(
            f"found {len(rows)} cells, {len(code)} types, mode={mode!r}, ratio={ratio}; expected a type per cell, "
            f"a mode among {', '.join(NEGATIVES)} and a ratio above 0."
        )
    rng = np.random.default_rng(seed)
    order = np.argsort(code, kind="stable")
    first, second = _negatives(code[order], mode, max(round(ratio * len(rows)), 1), rng, list(map(str, names)))
    negatives = np.stack([rows[order[first], 0], rows[order[second], 1]], axis=1)
    labels = np.repeat(np.array([1, 0], dtype=np.int64), [len(rows), len(negatives)])
    return np.concatenate([rows, negatives]), labels


def _negatives(code: Int, mode: Negatives, number: int, rng: np.random.Generator, names: list[str]) -> tuple[Int, Int]:
    """Draw pairs of places among cells sorted by type: the partners allowed to a cell are a run on a circle."""
    n, place = len(code), np.arange(len(code))
    size = np.bincount(code)
    begin = (np.cumsum(size) - size)[code]
    mine = size[code]
    if mode == "hard":
        low, round_, start, allowed = begin, mine, place + 1 - begin, mine - 1
    elif mode == "easy":
        low, round_, start, allowed = 0 * begin, 0 * begin + n, begin + mine, n - mine
    else:
        low, round_, start, allowed = 0 * begin, 0 * begin + n, place + 1, 0 * begin + n - 1
    if not allowed.any():
        raise DataError(
            f"mode={mode!r}: {n} cells of {len(names)} types ({some(names)}) have no such negative pair. "
            "Fix: more cells, or another mode."
        )
    odds = allowed if mode == "easy" else allowed > 0
    first = rng.choice(n, size=number, p=odds / odds.sum())
    step = rng.integers(0, allowed[first])
    return first, low[first] + (start[first] + step) % round_[first]


def split_pairs(
    pairs: ArrayLike, *, shares: tuple[float, float, float] = (0.8, 0.1, 0.1), seed: int
) -> NDArray[np.int8]:
    """Split pairs at random, as published: cells then stand in several splits. For comparison with the paper only.

    Returns
    -------
    ndarray
        0 training, 1 validation or 2 test per pair, int8; see :func:`heteromics.data.split_cells`.
    """
    from heteromics.data.splits import split_cells

    return split_cells(len(np.asarray(pairs)), shares=shares, seed=seed)


def shared_cells(splits: Mapping[str, ArrayLike]) -> Int:
    """Return the cells that stand in the pairs of more than one split, sorted; none where splits are by cell.

    Parameters
    ----------
    splits
        Pairs by split, shape (n, 2), rows of the same cells in both columns.

    Examples
    --------
    >>> shared_cells({"train": [[0, 0], [0, 1]], "test": [[2, 1]]})
    array([1])
    """
    members = [np.unique(np.asarray(pairs, dtype=np.int64)) for pairs in splits.values()]
    cells, often = np.unique(np.concatenate(members), return_counts=True)
    return cells[often > 1]


def check_split_by_cell(splits: Mapping[str, ArrayLike]) -> None:
    """Make sure that no cell stands in two splits; arguments as in :func:`shared_cells`.

    Raises
    ------
    DataError
        How many cells do.
    """
    if (both := shared_cells(splits)).size:
        raise DataError(
            f"{both.size} cells stand in more than one of {', '.join(splits)} (rows {some(both)}): what is learnt of "
            "them in training is known in testing. Fix: split cells, then make_pairs within each split."
        )


@dataclass(frozen=True, slots=True)
class MatchingResult:
    """What a matching run gives.

    Attributes
    ----------
    metrics
        One row per model, kind of test negatives and metric: ``model, split, negatives, metric, value``.
    pairs
        One row per scored pair: ``negatives, rna_cell, atac_cell, label`` and a column of scores per model.
    model
        The fitted Bi2Former.
    thresholds
        Of each model's accuracy: 0.5 for Bi2Former; for the controls the one that is best on validation pairs.
    """

    metrics: DataFrame
    pairs: DataFrame
    model: Bi2Former
    thresholds: dict[str, float]


def run_matching(
    graph: HeteroGraph,
    split: ArrayLike,
    *,
    config: Bi2FormerConfig | None = None,
    negatives: Negatives = "random",
    test_negatives: tuple[Negatives, ...] = ("easy", "hard"),
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
        One code per paired cell, in the order of ``paired_rows(graph)``: 0 training, 1 validation, 2 test.
    config
        Of Bi2Former.
    negatives
        Kind of training and validation negatives.
    test_negatives
        Kinds to score.
    ratio
        Negatives per positive, in training, validation and test.
    redraw
        Draw training negatives anew in every epoch.
    max_epochs, seed, device, folder, resume, progress
        As in :meth:`heteromics.models.bi2former.Bi2Former.fit`.

    Returns
    -------
    MatchingResult

    Raises
    ------
    DataError
        When a split is empty, the graph has no cell types or no paired cells, or a cell would be in two splits.
    """
    import pandas as pd

    rows, types = paired_rows(graph)
    parts = _parts(split, rows, types)
    train, validation = parts["train"], parts["validation"]
    held_out = make_pairs(*validation, mode=negatives, ratio=ratio, seed=(seed, 1))
    tests = {kind: make_pairs(*parts["test"], mode=kind, ratio=ratio, seed=(seed, 2)) for kind in test_negatives}

    def draw(epoch: int) -> tuple[Int, Int]:
        return make_pairs(*train, mode=negatives, ratio=ratio, seed=(seed, 3, epoch if redraw else 0))

    seen = {"train": draw(0)[0], "validation": held_out[0], "test": np.concatenate([p for p, _ in tests.values()])}
    for column in (0, 1):
        check_split_by_cell({name: pairs[:, column] for name, pairs in seen.items()})
    model = Bi2Former(graph, config=config).fit(
        draw,
        validation=held_out,
        max_epochs=max_epochs,
        seed=seed,
        device=device,
        folder=folder,
        resume=resume,
        progress=progress,
    )
    control = fit_control(graph, train[0], train[1], seed=seed)
    matrices = counts(graph, EXPRESSES), counts(graph, OPENS)
    scorers: dict[str, Callable[[Int], NDArray[Any]]] = {
        "Bi2Former": lambda pairs: model.predict(pairs, device=device, progress=progress),
        "CellTypeMatcher": lambda pairs: control.predict(*matrices, pairs),
        "DepthMatcher": lambda pairs: depth_scores(*matrices, train[0], pairs),
    }
    thresholds = {
        name: 0.5 if name == "Bi2Former" else best_threshold(held_out[1], scorer(held_out[0]))
        for name, scorer in scorers.items()
    }
    tables = []
    for kind, (pairs, labels) in tests.items():
        table: dict[str, Any] = {"negatives": kind, "rna_cell": graph.names["rna_cell"][pairs[:, 0]]}
        table |= {"atac_cell": graph.names["atac_cell"][pairs[:, 1]], "label": labels}
        tables.append(pd.DataFrame(table | {name: scorer(pairs) for name, scorer in scorers.items()}))
    scored = pd.concat(tables, ignore_index=True)
    return MatchingResult(score(scored, thresholds), scored, model, thresholds)


def paired_rows(graph: HeteroGraph) -> tuple[Int, NDArray[np.str_]]:
    """Return the cells of a bipartite graph that have both profiles: rows (n, 2) and types (n,), in RNA order.

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
    names = np.array([*graph.meta["categories"]["cell_type"], "unknown"])
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
    known = names != "unknown"
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

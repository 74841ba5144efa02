"""Pairs of RNA and ATAC profiles to learn matching from: of one cell, or of two that are like or unlike."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from heteromics.data.splits import check_all_named
from heteromics.errors import DataError, some

Int = NDArray[np.int64]
Negatives = Literal["easy", "hard", "random"]
NEGATIVES: tuple[Negatives, ...] = ("easy", "hard", "random")
UNKNOWN = "unknown"


def labelled(types: ArrayLike) -> NDArray[np.bool_]:
    """Return which cells have a type: neither ``"unknown"`` nor missing among names, no negative code, shape (n,).

    Examples
    --------
    >>> labelled(["B", "unknown"]).tolist(), labelled([-1, 0]).tolist()
    ([True, False], [False, True])
    """
    given = _types(types)
    return given >= 0 if given.dtype.kind in "iuf" else given != UNKNOWN


def _types(given: ArrayLike) -> NDArray[Any]:
    """Codes as they are, or names, those that are missing as ``"unknown"``."""
    types = np.asarray(given)
    if types.dtype.kind != "O":
        return types
    import pandas as pd

    return np.where(pd.isna(types), UNKNOWN, types).astype(str)


def make_pairs(
    cells: ArrayLike,
    types: ArrayLike,
    *,
    mode: Negatives = "easy",
    within: ArrayLike | None = None,
    ratio: float = 1.0,
    seed: int | tuple[int, ...] = 0,
) -> tuple[Int, Int]:
    """Pair the two profiles of every cell, and profiles of different cells.

    Parameters
    ----------
    cells
        Rows of the cells of one split, shape (n,); or rows of their RNA and their ATAC profiles, shape (n, 2).
    types
        Cell type of each, shape (n,), names or codes; ``"unknown"``, missing (None, NaN) or -1 where there is none.
        Easy and hard pairs, positives among them, are of cells with a type alone.
    mode
        Negatives: ``"easy"``, uniform over pairs of different types [the paper's numbers]; ``"hard"``, a cell and
        another of its type, types in proportion to their size [the code's other mode]; ``"random"``, any two cells.
    within
        Group of each cell (batch, donor), shape (n,): negatives are of one group, in every mode. Without it a model can
        score by telling batches apart, for the two profiles of a cell are always of one batch; depth and quality of
        a batch show in both. None lets them be of any two.
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
        When no negative of this kind exists, no cell has a type and the mode needs it, cells are no row numbers, one
        has no group, or lengths differ. With ``within`` positives of cells for which there is no negative in their
        group stay.

    Examples
    --------
    >>> pairs, labels = make_pairs([4, 7, 9], ["B", "B", "T"], mode="hard", seed=0)
    >>> labels.tolist()
    [1, 1, 1, 0, 0, 0]
    >>> sorted(set(map(tuple, pairs[3:].tolist())))
    [(4, 7), (7, 4)]
    >>> pairs, _ = make_pairs([4, 7, 9, 2], ["B", "B", "T", "T"], within=["d1", "d2", "d1", "d2"], ratio=9, seed=0)
    >>> sorted(set(map(tuple, pairs[4:].tolist())))
    [(2, 7), (4, 9), (7, 2), (9, 4)]
    """
    rows = np.asarray(cells)
    if rows.size and rows.dtype.kind not in "iu":
        raise DataError(f"cells: found {rows.dtype}, expected row numbers. Fix: of a mask take np.flatnonzero(mask).")
    rows = rows.astype(np.int64)
    rows = np.stack([rows, rows], axis=1) if rows.ndim == 1 else rows
    given = _types(types)
    group = np.zeros(len(rows), dtype=np.int64) if within is None else np.asarray(within)
    if len(given) != len(rows) or len(group) != len(rows) or mode not in NEGATIVES or not 0 < ratio < np.inf:
        raise DataError(
            f"found {len(rows)} cells, {len(given)} types, {len(group)} groups, mode={mode!r}, ratio={ratio}; expected "
            f"a type and a group per cell, a mode among {', '.join(NEGATIVES)} and a ratio above 0."
        )
    check_all_named(group, "within")
    if mode != "random":
        known = labelled(given)
        if not known.any():
            raise DataError(
                f"mode={mode!r}: none of {len(rows)} cells has a cell type. Fix: label cells, or mode='random'."
            )
        rows, given, group = rows[known], given[known], group[known]
    names, code = np.unique(given, return_inverse=True)
    of_group = np.unique(group, return_inverse=True)[1]
    rng = np.random.default_rng(seed)
    order = np.lexsort((code, of_group))
    number = max(round(ratio * len(rows)), 1)
    first, second = _negatives(code[order], of_group[order], mode, number, rng, list(map(str, names)))
    negatives = np.stack([rows[order[first], 0], rows[order[second], 1]], axis=1)
    labels = np.repeat(np.array([1, 0], dtype=np.int64), [len(rows), len(negatives)])
    return np.concatenate([rows, negatives]), labels


def _negatives(
    code: Int, group: Int, mode: Negatives, number: int, rng: np.random.Generator, names: list[str]
) -> tuple[Int, Int]:
    """Draw pairs of places among cells sorted by group, then type: partners allowed to a cell are a run on a circle."""
    n, place = len(code), np.arange(len(code))
    in_group = np.bincount(group)
    base = (np.cumsum(in_group) - in_group)[group]
    everyone = in_group[group]
    _, block = np.unique(group * len(names) + code, return_inverse=True)  # cells of one group and one type
    size = np.bincount(block)
    begin, mine = (np.cumsum(size) - size)[block], size[block]
    if mode == "hard":
        low, round_, start, allowed = begin, mine, place + 1 - begin, mine - 1
    elif mode == "easy":
        low, round_, start, allowed = base, everyone, begin - base + mine, everyone - mine
    else:
        low, round_, start, allowed = base, everyone, place + 1 - base, everyone - 1
    if not allowed.any():
        within = f" in {len(in_group)} groups" if len(in_group) > 1 else ""
        raise DataError(
            f"mode={mode!r}: {n} cells of {len(names)} types ({some(names)}){within} have no such negative pair. "
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

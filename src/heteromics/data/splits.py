"""Split cells into training, validation and test: seeded, by cell, by whole groups, or evenly within labels.

Groups are batches, donors or cell types: :func:`split_cells` draws which are held out, :func:`hold_out` takes those
named, :func:`check_groups_apart` makes sure of it, and :func:`few_cells` keeps few of the training cells.
"""

from __future__ import annotations

from collections.abc import Sequence
from numbers import Real
from typing import Any

import numpy as np
from numpy.typing import NDArray

from heteromics.errors import DataError, DuplicateNames, some

TRAIN, VALIDATION, TEST = np.int8(0), np.int8(1), np.int8(2)

Codes = NDArray[np.int8]


def split_cells(
    cells: int | Sequence[str] | NDArray[Any],
    *,
    shares: tuple[float, float, float] = (0.7, 0.15, 0.15),
    seed: int,
    groups: Sequence[object] | NDArray[Any] | None = None,
    labels: Sequence[object] | NDArray[Any] | None = None,
) -> Codes:
    """Give each cell to training, validation or test, once.

    Parameters
    ----------
    cells
        How many cells, or their unique names. With names the split does not depend on the order of the cells.
    shares
        Share of training, validation and test, >= 0, with sum 1.
    seed
        The same seed gives the same split.
    groups
        Group of each cell (batch, donor), length N: whole groups are held out, so that no group is in two parts.
        Shares are met as closely as whole groups allow, and each part with a share gets at least one group.
    labels
        Label of each cell, length N: every label is split alike, each part within one cell of its share.

    Returns
    -------
    numpy.ndarray
        ``TRAIN`` 0, ``VALIDATION`` 1 or ``TEST`` 2 per cell, shape (N,), int8.

    Raises
    ------
    DataError
        For shares that are no shares, lengths that differ, names that repeat, cells without a group, or fewer groups
        than parts.

    Examples
    --------
    >>> codes = split_cells(10, shares=(0.6, 0.2, 0.2), seed=0)
    >>> [int((codes == part).sum()) for part in (TRAIN, VALIDATION, TEST)]
    [6, 2, 2]
    """
    share = _checked_shares(shares)
    order = _canonical_order(cells)
    if groups is not None and labels is not None:
        raise DataError("found both groups and labels, expected one: whole groups cannot be split evenly by label.")
    rng = np.random.default_rng(seed)
    codes = np.empty(order.size, np.int8)
    if groups is not None:
        check_all_named(groups, "groups")
        codes[order] = _by_group(_factor(groups, order, "groups"), share, rng)
    elif labels is not None:
        codes[order] = _by_label(_factor(labels, order, "labels"), share, rng)
    else:
        codes[order] = _shuffled(_sizes(order.size, share), rng)
    return codes


def hold_out(
    groups: Sequence[object] | NDArray[Any],
    *,
    test: Sequence[object],
    validation: Sequence[object] | float = 0.1,
    seed: int = 0,
) -> Codes:
    """Hold out named groups of cells: a split by batch, by donor or by cell type.

    Parameters
    ----------
    groups
        Group of each cell, length N.
    test
        Groups that are tested on.
    validation
        Groups to validate on; or the share of the cells of every other group, drawn by ``seed``.
    seed
        The same seed gives the same split.

    Returns
    -------
    numpy.ndarray
        ``TRAIN`` 0, ``VALIDATION`` 1 or ``TEST`` 2 per cell, shape (N,), int8.

    Raises
    ------
    DataError
        For a group that has no cell or is named for both parts, cells without a group, or when no training cell would
        be left.

    Examples
    --------
    >>> hold_out(["d1", "d1", "d2", "d3"], test=["d3"], validation=["d2"])
    array([0, 0, 1, 2], dtype=int8)
    """
    check_all_named(groups, "groups")
    group = np.asarray(groups, dtype=str)
    named = {"test": np.unique(np.asarray(test, dtype=str))}
    if not isinstance(validation, Real):
        named["validation"] = np.unique(np.asarray(validation, dtype=str))
    asked = np.concatenate(list(named.values()))
    absent, twice = np.setdiff1d(asked, group), asked.size - np.unique(asked).size
    if absent.size or twice or not named["test"].size:
        raise DataError(
            f"hold_out: {absent.size} of {asked.size} groups have no cell ({some(absent)}), {twice} are named twice "
            f"and {named['test'].size} for the test; the groups are {some(np.unique(group), 8)}."
        )
    codes = np.full(group.size, TRAIN)
    codes[np.isin(group, named["test"])] = TEST
    if "validation" in named:
        codes[np.isin(group, named["validation"])] = VALIDATION
    else:
        rest = np.flatnonzero(codes == TRAIN)
        share = _checked_shares((1 - float(validation), float(validation), 0.0))  # type: ignore[arg-type]
        codes[rest] = _by_label(np.unique(group[rest], return_inverse=True)[1], share, np.random.default_rng(seed))
    if not (codes == TRAIN).any():
        raise DataError(f"hold_out: none of {group.size} cells is left for training; held out: {some(asked, 8)}.")
    return codes


def check_groups_apart(codes: Codes, groups: Sequence[object] | NDArray[Any], what: str = "groups") -> None:
    """Make sure that no group has cells in training or validation and in test.

    Parameters
    ----------
    codes
        Part of each cell, shape (N,).
    groups
        Group of each cell, length N.
    what
        Their name, for the message.

    Raises
    ------
    DataError
        Naming the groups that do, and how many cells.
    """
    check_all_named(groups, what)
    group = np.asarray(groups, dtype=str)
    if group.shape != np.shape(codes):
        raise DataError(f"found {group.size} {what} for {np.size(codes)} cells, expected one per cell.")
    tested = np.asarray(codes) == TEST
    both = np.intersect1d(group[tested], group[~tested])
    if both.size:
        cells = int((np.isin(group, both) & tested).sum())
        raise DataError(
            f"{both.size} {what} stand on both sides of the split ({some(both)}), with {cells:,} of "
            f"{int(tested.sum()):,} test cells: what is learnt of them in training is known in testing. "
            "Fix: split_cells(..., groups=...) or hold_out."
        )


def check_all_named(groups: Sequence[object] | NDArray[Any], what: str) -> None:
    """Make sure that every cell has a group: a missing one would pass for a group of its own.

    Raises
    ------
    DataError
        How many are None or NaN.
    """
    group = np.asarray(groups)
    if group.dtype.kind not in "Of":
        return
    import pandas as pd

    if missing := int(pd.isna(group).sum()):
        raise DataError(
            f"{what}: {missing:,} of {group.size:,} cells have none (None or NaN). Fix: leave them out or name them."
        )


def few_cells(
    cells: int | Sequence[str] | NDArray[Any],
    number: int,
    *,
    labels: Sequence[object] | NDArray[Any] | None = None,
    among: NDArray[np.bool_] | None = None,
    seed: int,
) -> NDArray[np.bool_]:
    """Choose few cells, such that a smaller choice of the same seed is part of every larger one.

    Parameters
    ----------
    cells
        How many cells, or their unique names. With names the choice does not depend on the order of the cells.
    number
        How many cells; with labels, how many of each label, all of a label that has fewer.
    labels
        Label of each cell (cell type), length N.
    among
        Cells to choose from, boolean, shape (N,), such as ``codes == TRAIN``. None: all.
    seed
        The same seed gives the same choice.

    Returns
    -------
    numpy.ndarray
        Which cells are chosen, boolean, shape (N,).

    Raises
    ------
    DataError
        For fewer cells than asked for, a number below 0, or lengths that differ.

    Examples
    --------
    >>> few_cells(6, 1, labels=["B", "B", "B", "T", "T", "T"], seed=0).sum()
    np.int64(2)
    >>> bool((few_cells(50, 5, seed=1) <= few_cells(50, 20, seed=1)).all())
    True
    """
    order = _canonical_order(cells)
    allowed = np.ones(order.size, dtype=bool) if among is None else np.asarray(among)
    if allowed.shape != order.shape or allowed.dtype != bool or number < 0 or number != int(number):
        raise DataError(
            f"few_cells: found number={number} and among of shape {allowed.shape}, {allowed.dtype}, for {order.size} "
            "cells; expected a whole number of 0 or more and a boolean for each."
        )
    label = np.zeros(order.size, np.intp) if labels is None else _factor(labels, order, "labels")
    shuffled = np.random.default_rng(seed).permutation(order.size)
    shuffled = shuffled[allowed[order[shuffled]]]
    if labels is None and shuffled.size < number:
        raise DataError(f"few_cells: found {shuffled.size} cells to choose from, expected at least {number}.")
    by_label = shuffled[np.argsort(label[shuffled], kind="stable")]
    size = np.bincount(label[by_label], minlength=1)
    rank = np.arange(by_label.size) - np.repeat(np.cumsum(size) - size, size)
    chosen = np.zeros(order.size, dtype=bool)
    chosen[order[by_label[rank < number]]] = True
    return chosen


def _checked_shares(shares: tuple[float, float, float]) -> NDArray[np.float64]:
    share = np.asarray(shares, np.float64)
    if share.shape != (3,) or not np.isfinite(share).all() or (share < 0).any() or not np.isclose(share.sum(), 1):
        raise DataError(f"found shares {tuple(shares)}, expected three numbers >= 0 with sum 1, as (0.7, 0.15, 0.15).")
    return share


def _canonical_order(cells: int | Sequence[str] | NDArray[Any]) -> NDArray[np.intp]:
    """Positions of the cells in the order of their names, so that the order they came in does not matter."""
    if isinstance(cells, int | np.integer):
        return np.arange(int(cells))
    names = np.asarray(cells, dtype=str)
    order = np.argsort(names, kind="stable")
    repeated = np.unique(names[order][1:][names[order][1:] == names[order][:-1]])
    if repeated.size:
        raise DuplicateNames(
            f"cells to split: {repeated.size} names are used more than once: {some(repeated)}.\n"
            "  Fix: make the names unique, or give the number of cells."
        )
    return order


def _factor(values: Sequence[object] | NDArray[Any], order: NDArray[np.intp], what: str) -> NDArray[np.intp]:
    """Code of each cell's value, in canonical order; codes follow the sorted values."""
    text = np.asarray(values, dtype=str)
    if text.shape != order.shape:
        raise DataError(f"found {text.size} {what} for {order.size} cells, expected one per cell.")
    return np.unique(text[order], return_inverse=True)[1]


def _sizes(n: int, share: NDArray[np.float64]) -> NDArray[np.int64]:
    """Whole sizes with sum n by largest remainder; each is within one of n * share."""
    exact = n * share
    sizes = np.floor(exact + 1e-9).astype(np.int64)
    by_remainder = np.argsort(sizes - exact, kind="stable")
    sizes[by_remainder[: n - sizes.sum()]] += 1
    return sizes


def _shuffled(sizes: NDArray[np.int64], rng: np.random.Generator) -> Codes:
    return rng.permutation(np.repeat(np.arange(3, dtype=np.int8), sizes))


def _by_label(label: NDArray[np.intp], share: NDArray[np.float64], rng: np.random.Generator) -> Codes:
    codes = np.empty(label.size, np.int8)
    for members in np.split(np.argsort(label, kind="stable"), np.cumsum(np.bincount(label))[:-1]):
        codes[members] = _shuffled(_sizes(members.size, share), rng)
    return codes


def _by_group(group: NDArray[np.intp], share: NDArray[np.float64], rng: np.random.Generator) -> Codes:
    """Largest group first (equal ones in random order) to the part that lacks most, keeping one for each empty part."""
    size = np.bincount(group)
    wanted = share > 0
    if size.size < wanted.sum():
        raise DataError(
            f"found {size.size} groups for {wanted.sum()} parts with a share, expected at least one group for each.\n"
            "  Fix: set the share of a part to 0, or split by cell."
        )
    shuffled = rng.permutation(size.size)
    part = np.empty(size.size, np.int8)
    lacking, empty = share * group.size, wanted.copy()
    queue = shuffled[np.argsort(-size[shuffled], kind="stable")]
    for done, this in enumerate(queue):
        open_parts = empty if queue.size - done <= empty.sum() else wanted
        best = int(np.argmax(np.where(open_parts, lacking, -np.inf)))
        part[this], empty[best] = best, False
        lacking[best] -= size[this]
    return part[group]

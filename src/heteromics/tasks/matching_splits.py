"""Labelled pairs of the parts of a matching run: cells split and then paired, or paired and then split as published."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from heteromics.errors import DataError, some
from heteromics.tasks._paired import LEFT_OUT
from heteromics.tasks.pairs import Int, Negatives, check_split_by_cell, make_pairs, split_pairs

Labelled = tuple[Int, Int]
Names = NDArray[np.str_]
LEAKING = "test pairs, their cells seen in training"
PARTS = ("train", "validation", "test")


@dataclass(frozen=True, slots=True)
class Cells:
    """Paired cells: rows of both profiles (n, 2), types (n,), and groups (n,) that negatives stay within, if any."""

    rows: Int
    types: Names
    groups: Names | None = None

    def take(self, chosen: NDArray[np.bool_] | list[int]) -> Cells:
        """Return some of them."""
        return Cells(self.rows[chosen], self.types[chosen], None if self.groups is None else self.groups[chosen])

    def pair(self, mode: Negatives, ratio: float, seed: int | tuple[int, ...]) -> Labelled:
        """Draw pairs; see :func:`heteromics.tasks.make_pairs`."""
        return make_pairs(self.rows, self.types, mode=mode, within=self.groups, ratio=ratio, seed=seed)

    def among(self, given: ArrayLike) -> Cells:
        """Return those whose rows are given, in that order.

        Raises
        ------
        DataError
            For rows that are not the two profiles of one cell.
        """
        asked = [(first, second) for first, second in np.asarray(given, dtype=np.int64).reshape(-1, 2).tolist()]
        place = {(first, second): number for number, (first, second) in enumerate(self.rows.tolist())}
        if unknown := [pair for pair in asked if pair not in place]:
            raise DataError(
                f"cells: {len(unknown)} of {len(asked)} rows are not the two profiles of one cell: {some(unknown)}."
            )
        return self.take([place[pair] for pair in asked])


@dataclass(frozen=True, slots=True)
class Sets:
    """Labelled pairs of every part, the name of the test part, and the paired cells of training with their types."""

    draw: Callable[[int], Labelled]
    validation: Labelled
    tests: dict[str, Labelled]
    split: str
    cells: Int
    types: Names


def split_by_cell(
    split: ArrayLike,
    cells: Cells,
    negatives: Negatives,
    test_negatives: tuple[Negatives, ...],
    ratio: float,
    *,
    redraw: bool,
    seed: int,
) -> Sets:
    """Pair cells within each part."""
    parts = _parts(split, cells)
    train = parts["train"]
    held_out = parts["validation"].pair(negatives, ratio, (seed, 1))
    tests: dict[str, Labelled] = {kind: parts["test"].pair(kind, ratio, (seed, 2)) for kind in test_negatives}

    def draw(epoch: int) -> Labelled:
        return train.pair(negatives, ratio, (seed, 3, epoch if redraw else 0))

    seen = {"train": draw(0)[0], "validation": held_out[0], "test": np.concatenate([p for p, _ in tests.values()])}
    for column in (0, 1):
        check_split_by_cell({name: pairs[:, column] for name, pairs in seen.items()})
    return Sets(draw, held_out, tests, "test", train.rows, train.types)


def split_by_pair(cells: Cells, negatives: Negatives, ratio: float, *, seed: int) -> Sets:
    """Pair all cells once and split the pairs, as published; the controls learn from the positives of training."""
    pairs, labels = cells.pair(negatives, ratio, seed)
    codes = split_pairs(pairs, seed=seed)
    train, validation, test = ((pairs[codes == code], labels[codes == code]) for code in range(3))
    known = cells.take(np.isin(cells.rows[:, 0], train[0][train[1] == 1, 0]))
    return Sets(lambda _: train, validation, {negatives: test}, LEAKING, known.rows, known.types)


def _parts(split: ArrayLike, cells: Cells) -> dict[str, Cells]:
    codes = np.asarray(split).ravel()
    number = {name: int((codes == code).sum()) for code, name in enumerate(PARTS)}
    known = sum(number.values()) + int((codes == LEFT_OUT).sum())
    if codes.size != len(cells.rows) or known != codes.size or min(number.values()) < 2:
        raise DataError(
            f"split: found {codes.size} codes for {len(cells.rows)} paired cells, {number['train']} training (0), "
            f"{number['validation']} validation (1), {number['test']} test (2). "
            "Expected one code per cell (-1 leaves one out) and each of the three at least twice."
        )
    return {name: cells.take(codes == code) for code, name in enumerate(number)}

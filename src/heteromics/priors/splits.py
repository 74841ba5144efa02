"""Leave-chromosome-out splits, and chromosome masks as codes: table ``chromosome_split``.

A model that is tested on pairs of genes and peaks must not have met their neighbourhood, so whole chromosomes are held
out. A mask of pairs on one chromosome is not stored: it is the equality of two codes, one per gene and one per peak.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, NamedTuple

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from heteromics.errors import RecipeError, StoreError, did_you_mean, some
from heteromics.priors.tables import Built, Count, Match

if TYPE_CHECKING:
    from heteromics.priors.planning import Estimated, PlanContext
    from heteromics.priors.store import PriorStore
    from heteromics.priors.tables import BuildContext

Ints = NDArray[np.int64]
Bools = NDArray[np.bool_]
Balance = Literal["gene_peak", "gene", "peak", "size"]

HOLD_OUT = "hold_out"
WEIGHT = {
    "gene_peak": "SELECT chrom, count(*) FROM gene_peak JOIN gene USING (gene_id) GROUP BY chrom",
    "gene": "SELECT chrom, count(*) FROM gene GROUP BY chrom",
    "peak": "SELECT chrom, count(*) FROM peak GROUP BY chrom",
    "size": "SELECT chrom, size FROM chromosome",
}
"""What the folds are to have alike, by chromosome."""


class Block(NamedTuple):
    """One chromosome: its code, and the rows of its genes and of its peaks."""

    code: int
    gene: Ints
    peak: Ints


def same_chromosome(gene_code: Ints, peak_code: Ints, gene: Ints, peak: Ints) -> Bools:
    """Tell pair by pair whether a gene and a peak lie on one chromosome.

    Parameters
    ----------
    gene_code, peak_code
        Chromosome codes of all genes, shape (G,), and all peaks, shape (P,).
    gene, peak
        Rows of the pairs, shape (n,).

    Examples
    --------
    >>> same_chromosome(np.array([0, 1]), np.array([1, 1]), np.array([0, 1]), np.array([0, 1])).tolist()
    [False, True]
    """
    return np.asarray(gene_code[gene] == peak_code[peak])


def chromosome_blocks(gene_code: Ints, peak_code: Ints) -> Iterator[Block]:
    """Yield the chromosomes that hold both genes and peaks, by code: together, all pairs that the mask lets through.

    Rows within a block are ascending; memory O(G + P), never G x P.

    Examples
    --------
    >>> blocks = chromosome_blocks(np.array([2, 0, 2]), np.array([1, 2, 2]))
    >>> [(block.code, block.gene.tolist(), block.peak.tolist()) for block in blocks]
    [(2, [0, 2], [1, 2])]
    """
    by_gene, by_peak = (np.argsort(code, kind="stable") for code in (gene_code, peak_code))
    for code in np.intersect1d(gene_code, peak_code):
        bounds = (
            np.searchsorted(codes[order], [code, code + 1])
            for codes, order in ((gene_code, by_gene), (peak_code, by_peak))
        )
        (gene_from, gene_to), (peak_from, peak_to) = bounds
        yield Block(int(code), by_gene[gene_from:gene_to], by_peak[peak_from:peak_to])


def assign_folds(weight: Sequence[int] | Ints, folds: int) -> Ints:
    """Spread chromosomes over folds so that the folds weigh alike: the heaviest first, each into the lightest fold.

    Parameters
    ----------
    weight
        Weight of each chromosome, shape (C,); those of weight 0 are in no fold.
    folds
        How many.

    Returns
    -------
    fold : numpy.ndarray
        Shape (C,), int64, -1 for none. Of equally heavy chromosomes the first goes first, of equally light folds the
        first is taken.

    Notes
    -----
    The heaviest fold weighs at most 4/3 - 1/(3 folds) times as much as in the best of all assignments (Graham, SIAM
    Journal on Applied Mathematics 1969), and at most the mean plus the heaviest chromosome times (folds - 1) / folds.

    Examples
    --------
    >>> assign_folds([5, 9, 0, 4, 4], folds=2).tolist()
    [1, 0, -1, 1, 0]
    """
    weight = np.asarray(weight, np.int64)
    load = np.zeros(folds, np.int64)
    fold = np.full(weight.size, -1, np.int64)
    for row in np.argsort(-weight, kind="stable"):
        if weight[row] > 0:
            fold[row] = np.argmin(load)
            load[fold[row]] += weight[row]
    return fold


@dataclass(frozen=True, slots=True)
class SplitConfig:
    """Recipe keys of ``attributes.splits``.

    Attributes
    ----------
    hold_out
        Chromosomes to test on in split ``hold_out``; all others are to train on.
    folds
        Number of splits ``fold_0`` and so on; each chromosome that weighs anything is tested on in one of them.
    balance
        What the folds are to have alike: ``gene_peak`` (links, by chromosome of the gene), ``gene``, ``peak``, or
        ``size`` (bp). Chromosomes without any are to train on in every split.
    """

    hold_out: tuple[str, ...] = ()
    folds: int | None = None
    balance: Balance = "gene_peak"

    def __post_init__(self) -> None:
        if not self.hold_out and self.folds is None:
            raise ValueError("found neither hold_out nor folds. Fix: for example `hold_out: [chr8, chr9]`, `folds: 5`.")
        if self.folds is not None and self.folds < 2:
            raise ValueError(f"folds: found {self.folds}, expected 2 or more.")

    def source_names(self) -> tuple[str, ...]:
        """Chromosomes come from their table; no file is read."""
        return ()


def build_splits(context: BuildContext, config: SplitConfig) -> Built:
    """Build table ``chromosome_split``: by split, then in order of the chromosome codes.

    Chromosomes that are in no fold are named in the match report.

    Raises
    ------
    RecipeError
        For a chromosome that the assembly does not have (the nearest is offered), when none is left to train on, or
        when fewer chromosomes than folds weigh anything.
    """
    names = context.query("SELECT chrom FROM chromosome ORDER BY code")["chrom"].to_pylist()
    splits: dict[str, Bools] = {}
    matches, counts = [], []
    if config.hold_out:
        splits[HOLD_OUT] = _held_out(names, config.hold_out)
    if config.folds is not None:
        fold = _folds(_weights(context, names, config.balance), config.folds, config.balance)
        splits |= {f"fold_{number}": fold == number for number in range(config.folds)}
        unused = np.flatnonzero(fold < 0)
        says = f"no {config.balance} on it; to train on in every fold"
        matches = [Match("chromosome", names[row], "empty", says) for row in unused]
        counts = [
            Count("chromosome", "matched", len(names) - unused.size),
            Count("chromosome", "empty", unused.size),
        ]
    table = pa.table(
        {
            "chrom": pa.array(names * len(splits), pa.string()),
            "split": pa.array([split for split in splits for _ in names], pa.string()),
            "part": pa.array(np.where(np.concatenate(list(splits.values())), "test", "train").tolist(), pa.string()),
        }
    )
    return Built({"chromosome_split": table}, {}, {"chromosome_split": matches}, {"chromosome_split": counts})


def _held_out(names: list[str], held: Sequence[str]) -> Bools:
    for name in held:
        if name not in names:
            raise RecipeError(
                f"attributes.splits.hold_out: the assembly has no chromosome '{name}'. {did_you_mean(name, names)}"
                f"Chromosomes: {some(names, 5)}."
            )
    test = np.isin(np.array(names, dtype=object), np.array(held, dtype=object))
    if test.all():
        raise RecipeError(f"attributes.splits.hold_out: all {len(names)} chromosomes are held out, none is left.")
    return test


def _weights(context: BuildContext, names: list[str], balance: Balance) -> Ints:
    there = context.query("SELECT table_name FROM duckdb_tables() WHERE database_name = current_database()")
    table = "chromosome" if balance == "size" else balance
    if table not in there[0].to_pylist():
        raise RecipeError(
            f"attributes.splits.balance: found {balance}, but the recipe does not build table {table}. "
            f"Fix: balance: size, or another of {', '.join(WEIGHT)}."
        )
    chrom, weight = (column.to_pylist() for column in context.query(WEIGHT[balance]).columns)
    of = dict(zip(chrom, weight, strict=True))
    return np.array([of.get(name, 0) for name in names], np.int64)


def _folds(weight: Ints, folds: int, balance: str) -> Ints:
    filled = int((weight > 0).sum())
    if filled < folds:
        fix = f"{filled} folds at most" if filled > 1 else "leave folds out"
        raise RecipeError(
            f"attributes.splits.folds: found {folds}, but only {filled} of {weight.size} chromosomes have any "
            f"{balance}. Fix: {fix}."
        )
    return assign_folds(weight, folds)


def chromosome_codes(store: PriorStore) -> tuple[Ints, Ints]:
    """Return the chromosome codes of all genes and of all peaks of a store, in the order of their tables.

    Raises
    ------
    StoreError
        When the store has no table ``gene`` or ``peak``.
    """
    gene, peak = (_by_row(store, table, "SELECT chrom, code FROM chromosome", []) for table in ("gene", "peak"))
    return gene.astype(np.int64), peak.astype(np.int64)


def held_out(store: PriorStore, split: str = HOLD_OUT) -> tuple[Bools, Bools]:
    """Return which genes, and which peaks, a split keeps for the test, in the order of their tables.

    Raises
    ------
    StoreError
        When the store has no such split; those it has are listed.
    """
    store.table("chromosome_split")
    sql = "SELECT DISTINCT split FROM chromosome_split ORDER BY split"
    known = [name for (name,) in store.connection.execute(sql).fetchall()]
    if split not in known:
        raise StoreError(f"{store.path} has no split '{split}'. {did_you_mean(split, known)}Splits: {some(known, 12)}.")
    part = "SELECT chrom, part = 'test' AS held FROM chromosome_split WHERE split = ?"
    gene, peak = (_by_row(store, table, part, [split]) for table in ("gene", "peak"))
    return gene.astype(bool), peak.astype(bool)


def _by_row(store: PriorStore, table: str, by_chromosome: str, parameters: list[str]) -> NDArray[np.generic]:
    """Return what a query says of the chromosome of each row of a node table."""
    store.table(table)
    sql = f'SELECT c.* EXCLUDE (chrom) FROM "{table}" n JOIN ({by_chromosome}) c ON n.chrom = c.chrom ORDER BY n.rowid'  # noqa: S608
    return np.array(store.connection.sql(sql, params=parameters).to_arrow_table()[0])


def estimate_splits(plan: PlanContext, config: SplitConfig) -> Estimated:
    """Return the rows: every chromosome in every split."""
    chromosomes = plan.rows["chromosome"]
    splits = bool(config.hold_out) + (config.folds or 0)
    return {"chromosome_split": None if chromosomes is None else chromosomes * splits}

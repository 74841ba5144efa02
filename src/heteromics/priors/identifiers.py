"""Which gene a name means: by identifier, symbol or alias, in a stated order, and why where it means none."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from numpy.typing import NDArray

from heteromics.errors import some
from heteromics.priors.tables import Match

if TYPE_CHECKING:
    from heteromics.priors.tables import BuildContext

Ints = NDArray[np.int64]

_VERSION = re.compile(r"((?:ENS[A-Z]*|MGP_\w+?_)[GTPER]\d+)\.\d+(?:_PAR_Y)?")


def strip_version(name: str) -> str:
    """Leave out the version, and GENCODE's ``_PAR_Y``, of an Ensembl-style id; other names stay as they are.

    Examples
    --------
    >>> strip_version("ENSG00000223972.5"), strip_version("ENSG00000182378.15_PAR_Y"), strip_version("AC004.1")
    ('ENSG00000223972', 'ENSG00000182378', 'AC004.1')
    """
    stable = _VERSION.fullmatch(name)
    return stable[1] if stable else name


class NamesJoined(NamedTuple):
    """What names mean, each field of length n: the gene's row or -1, how it was found, and with what, or why not."""

    row: Ints
    outcome: list[str]
    detail: list[str]


def match_names(names: Sequence[str], gene_id: Sequence[str], symbol: Sequence[str]) -> tuple[Ints, list[str]]:
    """Find the gene each name means: by id, by id without version, by symbol, by symbol in any case; in this order.

    Parameters
    ----------
    names
        Names the data use, ids or symbols, length n.
    gene_id, symbol
        Ids (unique) and symbols of the genes, length G.

    Returns
    -------
    row : numpy.ndarray
        Row of the gene, -1 where none is meant for certain, shape (n,), int64.
    outcome : list of str
        ``matched`` (id or symbol as written), ``version_stripped``, ``case_folded``, ``ambiguous`` (the rule that
        first finds a gene finds several; none is taken) or ``absent``.

    Examples
    --------
    >>> rows, outcome = match_names(["ENSG01.7", "gapdh", "X"], ["ENSG01", "ENSG02"], ["TP53", "GAPDH"])
    >>> rows.tolist(), outcome
    ([0, 1, -1], ['version_stripped', 'case_folded', 'absent'])
    """
    row, outcome, _ = join_names(names, gene_id, symbol)
    return row, outcome


def join_names(
    names: Sequence[str], gene_id: Sequence[str], symbol: Sequence[str], left_out: Sequence[Match] = ()
) -> NamesJoined:
    """Find the gene each name means, as :func:`match_names`, and say for the match report what it joined, or why not.

    Parameters
    ----------
    names, gene_id, symbol
        As in :func:`match_names`.
    left_out
        What table ``gene`` reported; names of genes it left out are told why.

    Examples
    --------
    >>> join_names(["gapdh", "Y_RNA", "X"], ["ENSG01", "ENSG02", "ENSG03"], ["GAPDH", "Y_RNA", "Y_RNA"]).detail
    ['joined ENSG01 (GAPDH)', 'fits ENSG02, ENSG03', 'not in the annotation']
    """
    rules = (
        ("matched", str, gene_id),
        ("version_stripped", strip_version, gene_id),
        ("matched", str, symbol),
        ("case_folded", str.casefold, symbol),
    )
    indexed = []
    for rule, form, targets in rules:
        by_name: dict[str, list[int]] = {}
        for row, target in enumerate(targets):
            by_name.setdefault(form(target), []).append(row)
        indexed.append((rule, form, by_name))
    reasons = _reasons(left_out)
    found, outcomes, details = np.full(len(names), -1, dtype=np.int64), [], []
    for position, name in enumerate(names):
        hits = ((rule, by_name.get(form(name))) for rule, form, by_name in indexed)
        outcome, rows = next(((rule, rows) for rule, rows in hits if rows), ("absent", []))
        if len(rows) == 1:
            found[position] = rows[0]
        outcomes.append("ambiguous" if len(rows) > 1 else outcome)
        absent = reasons.get(strip_version(name), reasons.get(name.casefold(), "not in the annotation"))
        details.append(joined_with(rows, gene_id, symbol) or absent)
    return NamesJoined(found, outcomes, details)


def joined_with(rows: Sequence[int], gene_id: Sequence[str], symbol: Sequence[str]) -> str:
    """Say which gene a name joined, or the genes an ambiguous one fits; empty where there is none."""
    if len(rows) == 1:
        return f"joined {gene_id[rows[0]]} ({symbol[rows[0]]})"
    return f"fits {some((gene_id[row] for row in rows), 5)}" if rows else ""


class GenesJoined(NamedTuple):
    """What names mean, each field of length n: the gene (None where none), how it was found, with what or why not."""

    gene_id: list[str | None]
    outcome: list[str]
    detail: list[str]


def join_genes(context: BuildContext, names: Sequence[str]) -> GenesJoined:
    """Find the gene of table ``gene`` that each name means; every builder that meets gene names asks here.

    Parameters
    ----------
    context
        The build so far: table ``gene`` must be there.
    names
        Names as a source writes them, ids or symbols, length n.
    """
    genes = context.query("SELECT gene_id, symbol FROM gene ORDER BY gene_id")
    gene_id = genes["gene_id"].to_pylist()
    joined = join_names(names, gene_id, genes["symbol"].to_pylist(), context.reported.get("gene", ()))
    found = [gene_id[row] if row >= 0 else None for row in joined.row.tolist()]
    return GenesJoined(found, joined.outcome, joined.detail)


def _reasons(left_out: Sequence[Match]) -> Mapping[str, str]:
    """Return, by id and by symbol, why a gene of the annotation is not in the table."""
    reasons: dict[str, str] = {}
    for match in left_out:
        if match.outcome in {"wrong_assembly", "filtered"}:
            symbol, _, why = match.detail.partition(": ")
            for name in (strip_version(match.name), symbol.casefold()):
                reasons.setdefault(name, f"{match.outcome}: {match.name}, {why}")
    return reasons

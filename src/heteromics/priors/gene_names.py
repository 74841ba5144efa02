"""Which gene a name means: by identifier, symbol or alias, in a stated order, and why where it means none.

The first of these rules that finds a gene decides; where it finds several, the name is ambiguous and none is taken:

1. identifier of table ``gene`` as written; 2. identifier without version; 3. symbol of table ``gene`` as written;
4. table ``gene_alias``: current symbol in another annotation, then previous symbol, then alias, then identifier of
another database (Entrez, UniProt, Ensembl protein, HGNC, MGI), then withdrawn name that was merged into a gene;
5. symbol of table ``gene`` in any case; 6. symbols and aliases of table ``gene_alias`` in any case, in the order of 4;
7. withdrawn names, which have no gene any more; 8. what MyGene.info said, where the recipe asks for it.

A name that is the very symbol or identifier of a gene that the store left out (a filter, another assembly) is that
gene, hence absent, before rule 4; so it is, before rule 6, where an alias file says so of a gene table ``gene`` lacks.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from heteromics.errors import some

Ints = NDArray[np.int64]
Rows = dict[str, list[int]]

NAME_KINDS = ("symbol", "previous_symbol", "alias")
"""Kinds of other names that are symbols, in the order they are believed; case may differ."""

ID_KINDS = ("ensembl", "entrez", "ensembl_protein", "uniprot", "hgnc", "mgi")
"""Kinds of other names that are identifiers of databases; all are believed alike, after symbols."""

KINDS = (*NAME_KINDS, *ID_KINDS, "withdrawn")

UNKNOWN = "not in the annotation"
"""What is said of a name that no rule knows anything about."""

_VERSION = re.compile(r"((?:ENS[A-Z]*|MGP_\w+?_)[GTPER]\d+)\.\d+(?:_PAR_Y)?")
_SPECIES_ID = re.compile(r"(?:ENS[A-Z]*|MGP_\w+?_)G\d+")


def strip_version(name: str) -> str:
    """Leave out the version, and GENCODE's ``_PAR_Y``, of an Ensembl-style id; other names stay as they are.

    Examples
    --------
    >>> strip_version("ENSG00000223972.5"), strip_version("ENSG00000182378.15_PAR_Y"), strip_version("AC004.1")
    ('ENSG00000223972', 'ENSG00000182378', 'AC004.1')
    """
    stable = _VERSION.fullmatch(name) if "." in name else None
    return stable[1] if stable else name


def is_gene_id(name: str) -> bool:
    """Tell whether a name has the form of an Ensembl gene id, with or without version.

    Examples
    --------
    >>> is_gene_id("ENSMUSG00000102693.1"), is_gene_id("ENSP00000350937"), is_gene_id("TP53")
    (True, False, False)
    """
    return _SPECIES_ID.fullmatch(strip_version(name)) is not None


class NamesJoined(NamedTuple):
    """What names mean, each field of length n: the gene's row or -1, how it was found, and with what, or why not."""

    row: Ints
    outcome: list[str]
    detail: list[str]


class Answer(NamedTuple):
    """A gene that MyGene.info names: its Ensembl id, Entrez id and symbol, each None where the service gives none."""

    gene_id: str | None
    entrez: str | None
    symbol: str | None


@dataclass(frozen=True, slots=True)
class OtherNames:
    """What is known of names beside identifiers and symbols of table ``gene``.

    Attributes
    ----------
    aliases
        (row of the gene, other name, kind), kind as in :data:`KINDS`; in any order.
    left_out
        By identifier or symbol of a gene that the annotation has but table ``gene`` has not: why.
    elsewhere
        By current symbol of a gene that an alias file knows but table ``gene`` has not: what that file says.
    contested
        By name that belongs as much to a gene that table ``gene`` has not as to one it has: what the alias files say.
    withdrawn
        By name that is no longer in use and has no successor: what the file says.
    answers
        By name, what MyGene.info said; no answer is an empty list.
    """

    aliases: Iterable[tuple[int, str, str]] = ()
    left_out: Mapping[str, str] = field(default_factory=dict)
    elsewhere: Mapping[str, str] = field(default_factory=dict)
    contested: Mapping[str, str] = field(default_factory=dict)
    withdrawn: Mapping[str, str] = field(default_factory=dict)
    answers: Mapping[str, Sequence[Answer]] = field(default_factory=dict)


class _Rule(NamedTuple):
    """One way to find genes: the outcome it gives, the form names take, the genes by that form, and words on it."""

    outcome: str
    form: Callable[[str], str]
    rows: Rows
    words: str = ""


class GeneNames:
    """Genes by every name they have; built once, asked for many names.

    Parameters
    ----------
    gene_id, symbol
        Identifiers (unique) and symbols of the genes, length G.
    other
        Their other names. The order of its rows changes nothing.

    Examples
    --------
    >>> other = OtherNames(aliases=[(0, "PARK2", "previous_symbol"), (1, "PARK2", "alias")])
    >>> genes = GeneNames(["ENSG01", "ENSG02"], ["PRKN", "GAPDH"], other)
    >>> joined = genes.join(["PARK2", "gapdh"])
    >>> joined.row.tolist(), joined.outcome, joined.detail[0]
    ([0, 1], ['alias', 'case_folded'], 'joined ENSG01 (PRKN), previous symbol')
    """

    def __init__(self, gene_id: Sequence[str], symbol: Sequence[str], other: OtherNames | None = None) -> None:
        self._gene_id, self._symbol = gene_id, symbol
        self._other = other or OtherNames()
        by_kind = _by_kind(self._other.aliases)
        names = [(kind, by_kind[kind]) for kind in NAME_KINDS]
        ids = _merged([by_kind[kind] for kind in ID_KINDS])
        self._own = [
            _Rule("matched", str, _rows(gene_id)),
            _Rule("version_stripped", strip_version, _rows(map(strip_version, gene_id))),
            _Rule("matched", str, _rows(symbol)),
        ]
        self._known = [_Rule("alias", str, rows, kind.replace("_", " ")) for kind, rows in names]
        self._known.append(_Rule("alias", strip_version, ids, "identifier of another database"))
        self._known.append(_Rule("alias", str, by_kind["withdrawn"], "withdrawn name, merged into it"))
        self._cased = [_Rule("case_folded", str.casefold, _rows(map(str.casefold, symbol)))]
        self._cased_aliases = [
            _Rule("case_folded", str.casefold, _folded(rows), kind.replace("_", " ")) for kind, rows in names
        ]
        self._left_out_cased = {name.casefold(): why for name, why in sorted(self._other.left_out.items())}

    def join(self, names: Sequence[str]) -> NamesJoined:
        """Find the gene each name means, n names."""
        row, outcomes, details = np.full(len(names), -1, dtype=np.int64), [], []
        for position, name in enumerate(names):
            found, outcome, detail = self._find(name)
            row[position] = found
            outcomes.append(outcome)
            details.append(detail)
        return NamesJoined(row, outcomes, details)

    def _find(self, name: str) -> tuple[int, str, str]:
        other = self._other
        if hit := self._first(self._own, name):
            return hit
        if why := other.left_out.get(name) or other.left_out.get(strip_version(name)):
            return -1, "absent", why
        if hit := self._first(self._known, name) or self._first(self._cased, name):
            return hit
        if why := other.elsewhere.get(name):
            return -1, "absent", why
        if why := other.contested.get(name):
            return -1, "ambiguous", why
        if hit := self._first(self._cased_aliases, name):
            return hit
        if why := other.withdrawn.get(name):
            return -1, "withdrawn", why
        if why := self._left_out_cased.get(name.casefold()):
            return -1, "absent", why
        if name in other.answers:
            return self._answered(name, other.answers[name])
        return -1, "absent", UNKNOWN

    def _first(self, rules: Iterable[_Rule], name: str) -> tuple[int, str, str] | None:
        for rule in rules:
            if listed := rule.rows.get(rule.form(name)):
                rows = sorted(set(listed))
                said = joined_with(rows, self._gene_id, self._symbol)
                said += f", {rule.words}" if rule.words else ""
                return (rows[0], rule.outcome, said) if len(rows) == 1 else (-1, "ambiguous", said)
        return None

    def _answered(self, name: str, answers: Sequence[Answer]) -> tuple[int, str, str]:
        """Decide by MyGene.info: a gene whose current symbol is the name goes before those it is an alias of."""
        if not answers:
            return -1, "absent", "not in the annotation, nor known to MyGene.info"
        current = [answer for answer in answers if answer.symbol == name] or list(answers)
        genes = {answer.entrez or answer.gene_id or answer.symbol: answer.symbol for answer in current}
        if len(genes) > 1:
            return (
                -1,
                "ambiguous",
                f"MyGene.info: {some(sorted(f'{symbol} ({key})' for key, symbol in genes.items()), 5)}",
            )
        by_id = {row for answer in current for row in self._own[1].rows.get(answer.gene_id or "", ())}
        rows = sorted(by_id) or self._own[2].rows.get(current[0].symbol or "", [])
        if not rows:
            ids = some(sorted(answer.gene_id for answer in current if answer.gene_id), 5) or "no Ensembl id"
            return -1, "absent", f"MyGene.info: {current[0].symbol} ({ids}), which is not in the annotation"
        said = f"{joined_with(rows, self._gene_id, self._symbol)}, MyGene.info"
        return (rows[0], "mygene", said) if len(rows) == 1 else (-1, "ambiguous", said)


def joined_with(rows: Sequence[int], gene_id: Sequence[str], symbol: Sequence[str]) -> str:
    """Say which gene a name joined, or the genes an ambiguous one fits; empty where there is none."""
    if len(rows) == 1:
        return f"joined {gene_id[rows[0]]} ({symbol[rows[0]]})"
    return f"fits {some((gene_id[row] for row in rows), 5)}" if rows else ""


def _rows(names: Iterable[str]) -> Rows:
    rows: Rows = {}
    for row, name in enumerate(names):
        rows.setdefault(name, []).append(row)
    return rows


def _by_kind(aliases: Iterable[tuple[int, str, str]]) -> dict[str, Rows]:
    """Return the genes by kind and name, in any order, some perhaps again."""
    found: dict[str, Rows] = {kind: {} for kind in KINDS}
    for row, name, kind in aliases:
        found[kind].setdefault(name, []).append(row)
    return found


def _merged(several: Iterable[Rows], form: Callable[[str], str] = strip_version) -> Rows:
    merged: Rows = {}
    for one in several:
        for name, rows in one.items():
            merged.setdefault(form(name), []).extend(rows)
    return merged


def _folded(rows: Rows) -> Rows:
    return _merged([rows], str.casefold)

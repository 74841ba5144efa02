"""Table ``gene_alias``: which gene of the store each other name belongs to, and how the names the data use join.

A source describes genes by Ensembl ids, current symbol and other names. Its gene is that of table ``gene`` with one of
the ids; else the one with the symbol, where both table and source have that symbol once; else the one that another
source gives that current symbol; else the one whose symbol is a previous symbol of this gene alone. Sources and lines
may stand in any order. A name that also belongs to a gene which table ``gene`` lacks (another chromosome, a filter)
is kept only where it is believed more for the gene that is there.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from heteromics.errors import some
from heteromics.priors.aliases import Entry, Listed
from heteromics.priors.gene_names import KINDS, NAME_KINDS, strip_version
from heteromics.priors.tables import Count, Match

RANK = {kind: rank if kind in NAME_KINDS else len(NAME_KINDS) for rank, kind in enumerate(KINDS)}
RANK["withdrawn"] = len(NAME_KINDS) + 1


class AliasRow(NamedTuple):
    """One other name of a gene: the gene's row, the name, its kind, and the source that says so."""

    row: int
    alias: str
    kind: str
    source: str


class Aliases(NamedTuple):
    """Other names of genes, unique and ordered, and what became of the genes that the sources describe."""

    rows: list[AliasRow]
    matches: list[Match]
    counts: list[Count]


@dataclass(slots=True)
class _Genes:
    """Genes of the store by stable id and by symbol, and by current symbol as the sources give it."""

    gene_id: Sequence[str]
    symbol: Sequence[str]
    by_id: dict[str, set[int]] = field(default_factory=dict)
    by_symbol: dict[str, set[int]] = field(default_factory=dict)
    renamed: dict[str, set[int]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for row, (gene_id, symbol) in enumerate(zip(self.gene_id, self.symbol, strict=True)):
            self.by_id.setdefault(strip_version(gene_id), set()).add(row)
            self.by_symbol.setdefault(symbol, set()).add(row)

    def of_ids(self, entry: Entry) -> set[int]:
        """Return the genes with one of the entry's ids; the one with its symbol, where that is among several."""
        rows = {row for name in entry.gene_ids for row in self.by_id.get(strip_version(name), ())}
        alike = {row for row in rows if self.symbol[row] == entry.symbol}
        return alike if len(alike) == 1 else rows


def alias_rows(listed: Mapping[str, Listed], gene_id: Sequence[str], symbol: Sequence[str]) -> Aliases:
    """Give each name that sources list to its gene.

    Parameters
    ----------
    listed
        What each source lists, by its label.
    gene_id, symbol
        Identifiers and symbols of the genes, length G.

    Returns
    -------
    Aliases
        A gene's own identifier and symbol are not among its other names.

    Examples
    --------
    >>> entry = Entry(("ENSG01",), "PRKN", (("PARK2", "previous_symbol"),))
    >>> [row[1:3] for row in alias_rows({"names": Listed([entry], {})}, ["ENSG01"], ["Parkin"]).rows]
    [('PARK2', 'previous_symbol'), ('PRKN', 'symbol')]
    """
    genes = _Genes(gene_id, symbol)
    first = [_first_pass(label, one.entries, genes) for label, one in sorted(listed.items())]
    joined, absent = [one for part in first for one in part.joined], [one for part in first for one in part.absent]
    matches = [match for part in first for match in part.matches]
    for row, entry, _, _ in joined:
        if entry.symbol:
            genes.renamed.setdefault(entry.symbol, set()).add(row)
    entries = [entry for one in listed.values() for entry in one.entries]
    current = {entry.symbol for entry in entries}
    former = Counter(name for entry in entries for name in set(_previous(entry)))
    for part in first:
        for entry, label in part.pending:
            rows = genes.renamed.get(entry.symbol, set()) or {
                row
                for name in _previous(entry)
                if name not in current and former[name] == 1
                for row in genes.by_symbol.get(name, ())
            }
            rows = part.free(rows, entry.symbol)
            if len(rows) == 1:
                joined.append((next(iter(rows)), entry, label, "alias"))
            else:
                absent.append((entry, label))
    for row, entry, label, outcome in joined:
        if outcome == "alias":
            said = f"by a symbol: joined {gene_id[row]} ({symbol[row]})"
            matches.append(Match(label, _called(entry), "alias", said))
    kept, contested = _uncontested(joined, absent, genes)
    matches += contested
    matches += [match for entry, label in absent for match in _absent(entry, label)]
    matches += [
        Match(label, name, "withdrawn", why) for label, one in listed.items() for name, why in one.withdrawn.items()
    ]
    return Aliases(kept, sorted(set(matches), key=_key), _counts(listed, joined, matches))


Joined = list[tuple[int, Entry, str, str]]
Apart = list[tuple[Entry, str]]


@dataclass(slots=True)
class _Part:
    """What became of one source's genes: joined, perhaps to join later, never to join, or ambiguous."""

    joined: Joined = field(default_factory=list)
    pending: Apart = field(default_factory=list)
    absent: Apart = field(default_factory=list)
    matches: list[Match] = field(default_factory=list)
    identified: dict[int, set[str]] = field(default_factory=dict)

    def free(self, rows: Iterable[int], symbol: str) -> set[int]:
        """Return the genes that may bear a symbol: the source does not give them another by their ids."""
        return {row for row in rows if symbol in self.identified.get(row, {symbol})}


def _first_pass(label: str, entries: Sequence[Entry], genes: _Genes) -> _Part:
    """Join a source's genes by their ids, else by their symbols."""
    part = _Part()
    bearers: dict[str, set[tuple[str, ...]]] = {}
    of_ids = [genes.of_ids(entry) for entry in entries]
    for entry, rows in zip(entries, of_ids, strict=True):
        if entry.symbol and entry.gene_ids:
            bearers.setdefault(entry.symbol, set()).add(tuple(map(strip_version, entry.gene_ids)))
        if len(rows) == 1:
            part.identified.setdefault(next(iter(rows)), set()).add(entry.symbol)
    for entry, rows in zip(entries, of_ids, strict=True):
        if len(rows) == 1:
            part.joined.append((next(iter(rows)), entry, label, "matched"))
        elif rows:
            fits = some((genes.gene_id[row] for row in sorted(rows)), 5)
            part.matches.append(Match(label, _called(entry), "ambiguous", f"fits {fits}"))
        elif len(bearers.get(entry.symbol, ())) > 1:
            part.absent.append((entry, label))
        else:
            bearing = genes.by_symbol.get(entry.symbol, set())
            if len(bearing) == 1 and part.free(bearing, entry.symbol):
                outcome = "alias" if entry.gene_ids else "matched"
                part.joined.append((next(iter(bearing)), entry, label, outcome))
            else:
                part.pending.append((entry, label))
    return part


def _uncontested(joined: Joined, absent: Apart, genes: _Genes) -> tuple[list[AliasRow], list[Match]]:
    """Leave out names that belong at least as much to a gene that is not there."""
    claimed: dict[str, tuple[int, str]] = {}
    for entry, _ in absent:
        for name, kind in _names(entry):
            claimed[name] = min(claimed.get(name, (len(RANK), "")), (RANK[kind], f"{kind} of {_called(entry)}"))
    rows, contested = set(), set()
    for row, entry, label, _ in joined:
        own = (genes.gene_id[row], strip_version(genes.gene_id[row]), genes.symbol[row])
        for name, kind in _names(entry):
            if name in own or strip_version(name) in own:
                continue
            rank, other = claimed.get(name, (len(RANK), ""))
            if rank > RANK[kind]:
                rows.add(AliasRow(row, name, kind, label))
            else:
                said = f"{kind} of {genes.gene_id[row]} ({genes.symbol[row]}), but also {other}, not in the annotation"
                contested.add(Match(label, name, "ambiguous", said.replace("_", " ")))
    return sorted(rows, key=lambda one: (genes.gene_id[one.row], *one[1:])), sorted(contested, key=_key)


def _names(entry: Entry) -> Iterable[tuple[str, str]]:
    if entry.symbol and not any(kind == "withdrawn" for _, kind in entry.names):
        yield entry.symbol, "symbol"
    for name in entry.gene_ids:
        yield strip_version(name), "ensembl"
    yield from entry.names


def _absent(entry: Entry, label: str) -> Iterable[Match]:
    merged = [name for name, kind in entry.names if kind == "withdrawn"]
    for name in merged:
        yield Match(label, name, "withdrawn", f"merged into {entry.symbol}, which is not in the annotation")
    if not merged:
        said = f"symbol of {some(entry.gene_ids)}" if entry.gene_ids and entry.symbol else "name of a gene"
        yield Match(label, _called(entry), "absent", f"{said}, which is not in the annotation")


def _previous(entry: Entry) -> list[str]:
    return [name for name, kind in entry.names if kind == "previous_symbol"]


def _called(entry: Entry) -> str:
    return entry.symbol or next(iter(entry.gene_ids), "") or next((name for name, _ in entry.names), "")


def _key(match: Match) -> tuple[str, str, str, str]:
    return match.source, match.name, match.outcome, match.detail


def _counts(listed: Mapping[str, Listed], joined: Joined, matches: Iterable[Match]) -> list[Count]:
    found = Counter((label, outcome) for _, _, label, outcome in joined if outcome == "matched")
    found.update((match.source, match.outcome) for match in matches)
    return [Count(label, outcome, n) for (label, outcome), n in sorted(found.items()) if label in listed]

"""Gene sets and gene pairs of several forms, joined to the features of a matrix; what does not join is counted."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from heteromics.errors import GraphError, some

if TYPE_CHECKING:
    from pandas import DataFrame

__all__ = ["Joined", "join_names", "pathway_members", "texts"]

_VERSION = re.compile(r"(?<=\d)\.\d+$")  # ENSG00000223972.5; a symbol such as RP11-34P13.7 is tried whole first
_EXAMPLES = 5


@dataclass(frozen=True, slots=True)
class Joined:
    """Features of names: ``row`` (-1 where none), how many names joined how, and examples of those that did not."""

    row: NDArray[np.int64]
    counts: dict[str, Any]


def join_names(
    names: Sequence[str], keys: Mapping[str, Sequence[str]], other: Mapping[str, str] | None = None
) -> Joined:
    """Find the feature of each name.

    Parameters
    ----------
    names
        Unique names of genes, shape (M,).
    keys
        What features may be called, by column; each has one entry per feature. Earlier columns win.
    other
        A second name for some of ``names``, such as the symbol of an identifier.

    Returns
    -------
    Joined
        Rows in the order of ``names``. An exact name wins over one whose version was stripped, that over the second
        name; a key that stands for several features joins none of them (``ambiguous``).

    Examples
    --------
    >>> join_names(["A.1", "B", "C"], {"var_names": ["B", "A"]}).counts
    {'names': 3, 'matched': 1, 'absent': 2, 'absent_examples': ['A.1', 'C']}
    """
    tables = [_lookup(column) for column in keys.values()]
    bare = [_lookup(_VERSION.sub("", key) for key in column) for column in keys.values()]
    row = np.full(len(names), -1, dtype=np.int64)
    outcomes = []
    for place, name in enumerate(names):
        second = (other or {}).get(name, "")
        tries = [
            ("matched", tables, name),
            ("version_stripped", bare, _VERSION.sub("", name)),
            ("by_symbol", tables, second),
        ]
        outcome = "absent"
        for word, lookups, key in tries:
            found = next((lookup[key] for lookup in lookups if key and key in lookup), None)
            if found is not None:
                outcome = word if found >= 0 else "ambiguous"
                row[place] = found
                break
        outcomes.append(outcome)
    counts: dict[str, Any] = {"names": len(names), **dict(sorted(Counter(outcomes).items(), key=_rank))}
    for word in ("ambiguous", "absent"):
        lost = [name for name, outcome in zip(names, outcomes, strict=True) if outcome == word]
        if lost:
            counts[f"{word}_examples"] = lost[:_EXAMPLES]
    return Joined(row, counts)


def texts(column: Any) -> NDArray[np.str_]:
    """Return the names in a column of a table, empty where one is missing."""
    words = column.astype(object)
    return words.where(words.notna(), "").to_numpy(str)


def _rank(item: tuple[str, int]) -> int:
    return ("matched", "version_stripped", "by_symbol", "ambiguous", "absent").index(item[0])


def _lookup(keys: Iterable[str]) -> dict[str, int]:
    """Key -> feature, -1 where several features have the key."""
    found: dict[str, int] = {}
    for row, key in enumerate(keys):
        found[key] = row if key not in found else -1
    return found


def pathway_members(pathways: Any, keys: Mapping[str, Sequence[str]]) -> tuple[sparse.csr_array, dict[str, Any]]:
    """Read gene sets, or single pairs of genes as sets of two, onto features.

    Parameters
    ----------
    pathways
        A table with columns ``gene_id`` and ``pathway_id``, or ``gene_a`` and ``gene_b``; a prior store (anything with
        ``frame``); a mapping of set names to genes; or gene sets with ``name`` and ``members``.
    keys
        As in :func:`join_names`.

    Returns
    -------
    membership
        Features x sets, (G, S), ones.
    counts
        What joined, for the card, and how many entries were left out because a name is missing.

    Raises
    ------
    GraphError
        For another form, or when no gene joins.
    """
    genes, sets, other = _gene_set_pairs(pathways)
    named = (genes != "") & (sets != "") if sets.dtype.kind == "U" else genes != ""
    genes, sets = genes[named], sets[named]
    unique, member = np.unique(genes, return_inverse=True)
    joined = join_names(unique.tolist(), keys, other)
    _, pathway = np.unique(sets, return_inverse=True)
    row = joined.row[member]
    if len(genes) and not (row >= 0).any():
        first = next(iter(keys.values()))
        raise GraphError(
            f"pathways: none of {len(unique)} genes is a feature.\n"
            f"  genes of pathways: {some(unique)}\n  features: {some(first)}\n"
            "  Fix: give gene sets of the same species, named as var_names or as var['gene_id']."
        )
    n_features, n_sets = len(next(iter(keys.values()))), int(pathway.max(initial=-1)) + 1
    there = row >= 0
    ones = np.ones(int(there.sum()), dtype=np.int8)
    membership = sparse.csr_array((ones, (row[there], pathway[there])), shape=(n_features, n_sets))
    membership.sum_duplicates()
    membership.data[:] = 1
    without = n_features - len(np.unique(row[there]))
    nameless = {} if named.all() else {"rows_without_name": int((~named).sum())}
    return membership, {"sets": n_sets, **nameless, **joined.counts, "features_in_no_set": without}


def _gene_set_pairs(pathways: Any) -> tuple[NDArray[np.str_], NDArray[Any], dict[str, str]]:
    """Genes and their sets, one entry per membership, and symbols of the genes where they are known."""
    if callable(getattr(pathways, "frame", None)):
        table: DataFrame = pathways.frame("gene_pathway")
        gene = pathways.frame("gene")
        symbols = dict(zip(texts(gene["gene_id"]).tolist(), texts(gene["symbol"]).tolist(), strict=True))
        return texts(table["gene_id"]), texts(table["pathway_id"]), symbols
    columns = getattr(pathways, "columns", ())
    if {"gene_id", "pathway_id"} <= set(columns):
        return texts(pathways["gene_id"]), texts(pathways["pathway_id"]), {}
    if {"gene_a", "gene_b"} <= set(columns):
        a, b = texts(pathways["gene_a"]), texts(pathways["gene_b"])
        return np.concatenate([a, b]), np.tile(np.arange(len(a)), 2), {}
    if isinstance(pathways, Mapping):
        listed = [(str(gene), str(name)) for name, genes in pathways.items() for gene in genes]
    elif isinstance(pathways, Sequence) and all(hasattr(each, "members") for each in pathways):
        listed = [(str(gene), str(each.name)) for each in pathways for gene in each.members]
    else:
        found = f"columns {', '.join(map(str, columns))}" if len(columns) else type(pathways).__name__
        raise GraphError(
            f"pathways: found {found}, expected a table with columns gene_id and pathway_id, or gene_a and gene_b; "
            "a PriorStore; or sets of genes by name."
        )
    return np.array([gene for gene, _ in listed], dtype=str), np.array([name for _, name in listed], dtype=str), {}

"""Which genes, peaks and proteins of the data are which rows of a prior store."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from heteromics.errors import GraphError, some
from heteromics.graphs._prior_edges import Joined

if TYPE_CHECKING:
    from anndata import AnnData

    from heteromics.priors import PriorStore

Ints = NDArray[np.int64]
_ID_COLUMNS = ("gene_id", "gene_ids")
_FOUND = {"matched", "alias", "case_folded", "version_stripped"}


@dataclass(frozen=True, slots=True)
class Placed:
    """Nodes of one type: rows in the store (-1 where there is none), chromosome codes, what joined, and the join."""

    row: Ints
    chrom: NDArray[np.int32]
    match: dict[str, Any]
    joined: Joined


def place_genes(rna: AnnData, store: PriorStore) -> Placed:
    """Find the genes of the data in the store: by ``var["gene_id"]`` or ``var["gene_ids"]`` first, else by name.

    Raises
    ------
    GraphError
        When no gene is in the store.
    """
    row, outcome = find_genes(rna, store)
    return _placed("gene", rna, store, row, outcome)


def find_genes(rna: AnnData, store: PriorStore) -> tuple[Ints, list[str]]:
    """Row of each gene in the store, -1 where there is none, and how it was found: by identifier, else by name."""
    from heteromics.graphs._members import texts
    from heteromics.priors.identifiers import store_names

    keys = [texts(rna.var[name]).tolist() for name in _ID_COLUMNS if name in rna.var]
    row, outcome = np.full(rna.n_vars, -1, dtype=np.int64), ["absent"] * rna.n_vars
    for names in [*keys, list(map(str, rna.var_names))]:
        open_ = np.flatnonzero(row < 0)
        found = store_names(store, [names[place] for place in open_])
        row[open_] = found.row
        for place, said in zip(open_.tolist(), found.outcome, strict=True):
            outcome[place] = said
    return row, outcome


def find_peaks(atac: AnnData, store: PriorStore) -> tuple[Ints, list[str]]:
    """Row of each peak in the store, -1 where there is none, and how it was found: by name, else by its interval."""
    from heteromics.priors.peak_names import store_peaks

    found = store_peaks(store, list(map(str, atac.var_names)))
    outcome = np.where(found.by_name, "matched", np.where(found.row >= 0, "alias", "absent"))
    return found.row, outcome.tolist()


def place_peaks(atac: AnnData, store: PriorStore) -> Placed:
    """Find the peaks of the data in the store: by name, else by the interval that the name gives.

    Raises
    ------
    GraphError
        When no peak is in the store.
    """
    return _placed("peak", atac, store, *find_peaks(atac, store))


def _placed(ntype: str, data: AnnData, store: PriorStore, row: Ints, outcome: Sequence[str]) -> Placed:
    names = np.asarray(data.var_names, dtype=str)
    if not (row >= 0).any():
        raise GraphError(
            f"none of {len(names)} {ntype}s of the data is in {store.path}: {some(names)}.\n"
            "  Fix: a store of the same assembly, built with these names."
        )
    match: dict[str, Any] = dict(sorted(Counter(outcome).items()))
    match["unplaced"] = sorted(names[row < 0].tolist())
    row = row.copy()
    if (second := _second_names(row, outcome)).size:
        match["second_names"] = sorted(names[second].tolist())
        row[second] = -1
    codes = store.frame("chromosome").set_index("chrom")["code"]
    table = store.frame(ntype)
    chrom = np.where(row >= 0, table["chrom"].map(codes).to_numpy(np.int64)[np.maximum(row, 0)], -1)
    nodes = np.flatnonzero(row >= 0)
    ids = table[f"{ntype}_id"].to_numpy()[row[nodes]].tolist()
    return Placed(row, chrom.astype(np.int32), match, Joined(ids, nodes, len(row)))


def _second_names(row: Ints, outcome: Sequence[str]) -> Ints:
    """Return the nodes that mean the row of another one, which comes first or whose name needed no rule."""
    rule = np.array([said != "matched" for said in outcome])
    order = np.lexsort((np.arange(row.size), rule, row))
    again = np.flatnonzero((row[order][1:] == row[order][:-1]) & (row[order][1:] >= 0)) + 1
    return np.sort(order[again])


@dataclass(frozen=True, slots=True)
class PlacedProteins:
    """Proteins of the data: what joined, their genes in the store, and the store's proteins that they stand for."""

    match: dict[str, Any]
    genes: Joined
    products: Joined


def place_proteins(protein: AnnData, store: PriorStore) -> PlacedProteins:
    """Find the genes of the proteins that were measured, and the proteins of the store that stand for them.

    A name that is in table ``protein`` (an antibody of the panel the store was built with, or a STRING identifier) has
    the genes that ``gene_protein`` gives it; any other name is read by the rules for antibodies
    (:mod:`heteromics.priors.antibody_names`) and its genes are looked up by name. It stands for itself and for the
    proteins other than antibodies that ``gene_protein`` gives to its genes, which the links of STRING are between.
    Isotype controls have no gene.

    Raises
    ------
    GraphError
        When the store has no gene for any of them.
    """
    from heteromics.priors.antibodies import ANNOTATIONS

    names = list(map(str, protein.var_names))
    known: dict[str, str | None] = {}
    coded: list[tuple[str, str]] = []
    if "protein" in store.tables():
        known = dict(store.connection.execute("SELECT protein_id, annotation FROM protein").fetchall())
    if "gene_protein" in store.tables():
        coded = store.connection.execute("SELECT gene_id, protein_id FROM gene_protein ORDER BY ALL").fetchall()
    panel = {name for name, said in known.items() if said in ANNOTATIONS.values()}
    genes_of = _grouped((one, gene) for gene, one in coded)
    makes = _grouped((gene, one) for gene, one in coded if one not in panel)
    others = _by_rule([name for name in names if name not in known], store)
    outcome, genes = [], []
    for name in names:
        said, found = others.get(name, ("matched", genes_of.get(name, [])))
        if name in known and not found:
            said = "control" if known[name] == ANNOTATIONS["control"] else "no_gene"
        outcome.append(said)
        genes.append(found)
    if not any(genes):
        raise GraphError(
            f"none of {len(names)} proteins of the data has a gene in {store.path}: {some(names)}.\n"
            "  Fix: a store of the same organism, or antibodies named by their antigen or gene."
        )
    products = [
        list(
            dict.fromkeys([*([name] if name in known else []), *(one for gene in found for one in makes.get(gene, []))])
        )
        for name, found in zip(names, genes, strict=True)
    ]
    match: dict[str, Any] = dict(sorted(Counter(outcome).items()))
    match["unplaced"] = sorted(name for name, found in zip(names, genes, strict=True) if not found)
    return PlacedProteins(match, _pairs(genes), _pairs(products))


def _by_rule(names: Sequence[str], store: PriorStore) -> dict[str, tuple[str, list[str]]]:
    """Outcome and genes of names that the store does not know as proteins."""
    from heteromics.priors.antibodies import symbols_of, targets_of
    from heteromics.priors.identifiers import join_store_genes

    asked = list(dict.fromkeys(symbol for name in names for symbol in symbols_of(name)))
    said = dict(zip(asked, zip(*join_store_genes(store, asked), strict=True), strict=True)) if asked else {}
    symbol = dict(store.connection.execute("SELECT gene_id, symbol FROM gene").fetchall())
    targets = targets_of(names, said, symbol)
    return {
        name: (target.outcome, [gene for gene, _ in target.genes]) for name, target in zip(names, targets, strict=True)
    }


def _grouped(pairs: Iterable[tuple[str, str]]) -> dict[str, list[str]]:
    groups: dict[str, list[str]] = {}
    for key, value in pairs:
        groups.setdefault(key, []).append(value)
    return groups


def _pairs(listed: Sequence[Sequence[str]]) -> Joined:
    nodes = np.repeat(np.arange(len(listed)), [len(ids) for ids in listed])
    return Joined([name for ids in listed for name in ids], nodes, len(listed))


def encoded(genes: Joined, proteins: Joined) -> tuple[Ints, Ints, dict[str, Any]]:
    """Pair the genes of the data with the proteins they code for.

    Parameters
    ----------
    genes
        Genes of the data by identifier.
    proteins
        Proteins of the data by the identifiers of their genes.

    Returns
    -------
    gene, protein, match
        Nodes of each pair, in order, and how many genes of proteins are not in the data, some of them named.
    """
    node = dict(zip(genes.ids, genes.nodes.tolist(), strict=True))
    gene = np.array([node.get(name, -1) for name in proteins.ids], dtype=np.int64)
    outside = sorted({name for name, place in zip(proteins.ids, gene, strict=True) if place < 0})
    inside = gene >= 0
    pairs = np.unique(np.column_stack([gene[inside], proteins.nodes[inside]]), axis=0)
    match = {
        "pairs": len(gene),
        "outside": int((~inside).sum()),
        "genes_outside": {"number": len(outside), "examples": outside[:5]},
        "edges": len(pairs),
    }
    return pairs[:, 0], pairs[:, 1], match

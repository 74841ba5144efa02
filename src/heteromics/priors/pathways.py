"""Gene sets from GMT files: which genes are in which set, and which pairs of genes share sets."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal, NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
from scipy import sparse

from heteromics.errors import PriorError, UnreadableFile, some
from heteromics.priors._files import text_lines
from heteromics.priors._string_files import ENTREZ_SOURCES, GENE_ID_SOURCES, read_aliases
from heteromics.priors.identifiers import NamesJoined, join_names, joined_with, match_names
from heteromics.priors.tables import Built, Count, Match, Source

if TYPE_CHECKING:
    from heteromics.priors.planning import Estimated, PlanContext
    from heteromics.priors.tables import BuildContext

Ints = npt.NDArray[np.int64]


class GeneSet(NamedTuple):
    """One line of a GMT file; ``members`` are unique, in file order, ``repeated`` counts those listed again."""

    name: str
    description: str
    members: tuple[str, ...]
    repeated: int


class SharedSets(NamedTuple):
    """Pairs of genes that share a set, each field of shape (E,): rows with ``a < b``, sets shared, Jaccard index."""

    a: Ints
    b: Ints
    shared: Ints
    jaccard: npt.NDArray[np.float64]


def read_gmt(path: Path) -> list[GeneSet]:
    """Read gene sets: name, description and members on each line, separated by tabs (Broad Institute, GMT format).

    A set without members is kept, with none; blank lines are skipped.

    Raises
    ------
    UnreadableFile
        For a line without tabs or without a name, a name given twice (both lines are named), no set at all, or a
        damaged gzip.
    """
    sets: list[GeneSet] = []
    first_line: dict[str, int] = {}
    for number, line in text_lines(path):
        if not line.strip():
            continue
        name, *rest = (field.strip() for field in line.split("\t"))
        if not name or not rest:
            raise UnreadableFile(
                f"{path}, line {number}: found {line[:60]!r}, expected name, description and genes separated by tabs."
            )
        if name in first_line:
            raise UnreadableFile(
                f"{path}, line {number}: gene set {name} was given in line {first_line[name]} already."
            )
        first_line[name] = number
        listed = [member for member in rest[1:] if member]
        members = tuple(dict.fromkeys(listed))
        sets.append(GeneSet(name, rest[0], members, len(listed) - len(members)))
    if not sets:
        raise UnreadableFile(f"{path}: no gene set in it. Expected lines of name, description and genes.")
    return sets


def shared_sets(membership: sparse.csr_array) -> SharedSets:
    """Find all pairs of genes that share at least one set, by one sparse Gram matrix.

    Parameters
    ----------
    membership
        Genes x sets, (G, S), each stored entry a membership, no entry twice.

    Returns
    -------
    SharedSets
        Pairs ordered by ``a``, then ``b``; with n = M M^T, the Jaccard index is n_ab / (n_aa + n_bb - n_ab), the
        number of sets that hold both genes over the number that hold either (Jaccard 1912).

    Notes
    -----
    Cost and memory follow the sum of the squared set sizes; very large sets are to be left out before.

    Examples
    --------
    >>> import numpy as np
    >>> from scipy import sparse
    >>> pairs = shared_sets(sparse.csr_array(np.array([[1, 1, 0], [1, 1, 1], [0, 0, 1]])))
    >>> list(zip(pairs.a.tolist(), pairs.b.tolist(), pairs.shared.tolist(), pairs.jaccard.round(3).tolist()))
    [(0, 1, 2, 0.667), (1, 2, 1, 0.333)]
    """
    ones = sparse.csr_array(
        (np.ones(membership.nnz, np.int32), membership.indices, membership.indptr), shape=membership.shape
    )
    above = sparse.triu(ones @ ones.T, k=1, format="csr")  # (G, G), as many entries as pairs that share a set
    above.sort_indices()
    degree = np.diff(ones.indptr).astype(np.int64)  # (G,)
    a = np.repeat(np.arange(ones.shape[0]), np.diff(above.indptr))
    b, shared = above.indices.astype(np.int64), above.data.astype(np.int64)
    return SharedSets(a, b, shared, shared / (degree[a] + degree[b] - shared))


@dataclass(frozen=True, slots=True)
class PathwayConfig:
    """Recipe keys of the gene sets.

    Attributes
    ----------
    ids
        What the members are: ``symbol`` (Ensembl ids are understood too) or ``entrez``. Entrez ids reach the genes
        through the STRING aliases, which name both for a protein.
    gene_gene
        Whether pairs of genes that share sets go to table ``gene_gene``.
    max_set_size
        Larger sets (genes in table ``gene``) make no pairs and do not count for their weight: a set of n genes makes
        n (n - 1) / 2 pairs. 500 is the usual upper limit in gene set enrichment (GSEA user guide, ``set_max``).
    """

    ids: Literal["symbol", "entrez"] = "symbol"
    gene_gene: bool = True
    max_set_size: int = 500

    def __post_init__(self) -> None:
        if self.max_set_size < 2:
            raise ValueError(f"found max_set_size {self.max_set_size}, expected 2 or more.")

    def source_names(self) -> tuple[str, ...]:
        """Gene sets come from source ``gmt``; Entrez ids also need ``string_aliases``."""
        return ("gmt", "string_aliases") if self.ids == "entrez" else ("gmt",)


def build_pathways(context: BuildContext, config: PathwayConfig) -> Built:
    """Build tables ``pathway``, ``gene_pathway`` and, unless turned off, the part of ``gene_gene`` that gene sets give.

    Raises
    ------
    UnreadableFile
        As :func:`read_gmt`.
    PriorError
        When no member of any set is a gene of the store; says so when the members look like Entrez ids.
    """
    source = context.source("gmt")
    sets = read_gmt(source.path)
    names = list(dict.fromkeys(member for gene_set in sets for member in gene_set.members))
    genes = context.query("SELECT gene_id, symbol FROM gene ORDER BY gene_id")
    joined = _join(context, config, names, genes)
    row_of = dict(zip(names, joined.row.tolist(), strict=True))
    if not (joined.row >= 0).any():
        raise _nothing_joined(source, config, names, genes)
    membership, repeated = _membership(sets, row_of, genes.num_rows)
    sizes = np.bincount(membership.indices, minlength=len(sets))
    matches = {
        "pathway": [_unusable(source, one) for one, size in zip(sets, sizes, strict=True) if size == 0],
        "gene_pathway": [
            Match(source.label, name, outcome, detail)
            for name, outcome, detail in zip(names, joined.outcome, joined.detail, strict=True)
            if outcome != "matched"
        ],
    }
    counts = {
        "pathway": [
            Count(source.label, "matched", int(np.count_nonzero(sizes))),
            *_tally(source, (match.outcome for match in matches["pathway"])),
        ],
        "gene_pathway": [*_tally(source, joined.outcome), Count(source.label, "duplicated", repeated)],
    }
    tables = _set_tables(sets, sizes, membership, genes["gene_id"], source)
    if config.gene_gene:
        context.progress("pairing genes that share sets")
        tables["gene_gene"], large = _pairs_table(membership, sizes, genes["gene_id"], config, source)
        matches["gene_gene"] = [
            Match(source.label, sets[row].name, "filtered", f"{sizes[row]:,} genes, more than {config.max_set_size:,}")
            for row in large
        ]
        counts["gene_gene"] = [Count(source.label, "filtered", large.size)]
    sources = [source, *([context.source("string_aliases")] if config.ids == "entrez" else [])]
    return Built(tables, dict.fromkeys(tables, sources), matches, counts)


def _tally(source: Source, outcomes: Iterable[str]) -> list[Count]:
    return [Count(source.label, outcome, n) for outcome, n in sorted(Counter(outcomes).items())]


def _unusable(source: Source, gene_set: GeneSet) -> Match:
    if not gene_set.members:
        return Match(source.label, gene_set.name, "empty", "the line lists no gene")
    return Match(source.label, gene_set.name, "absent", f"none of its {len(gene_set.members):,} genes is in table gene")


def _join(context: BuildContext, config: PathwayConfig, names: list[str], genes: pa.Table) -> NamesJoined:
    gene_id, symbol = genes["gene_id"].to_pylist(), genes["symbol"].to_pylist()
    if config.ids == "symbol":
        return join_names(names, gene_id, symbol, context.reported.get("gene", ()))
    reached = _genes_by_entrez(context.source("string_aliases"), gene_id)
    hits = [sorted(reached.get(name, ())) for name in names]
    absent = ["its protein joined no gene" if name in reached else "not in the STRING aliases" for name in names]
    return NamesJoined(
        np.array([found[0] if len(found) == 1 else -1 for found in hits], np.int64),
        ["absent" if not found else "alias" if len(found) == 1 else "ambiguous" for found in hits],
        [joined_with(found, gene_id, symbol) or why for found, why in zip(hits, absent, strict=True)],
    )


def _genes_by_entrez(aliases: Source, gene_id: list[str]) -> dict[str, set[int]]:
    """Return the gene rows each Entrez id reaches: both are aliases of one protein."""
    pairs = read_aliases(aliases.path, GENE_ID_SOURCES)
    rows, _ = match_names([name for _, name in pairs], gene_id, gene_id)
    genes_of: dict[str, set[int]] = {}
    for (protein, _), row in zip(pairs, rows.tolist(), strict=True):
        if row >= 0:
            genes_of.setdefault(protein, set()).add(row)
    reached: dict[str, set[int]] = {}
    for protein, name in read_aliases(aliases.path, ENTREZ_SOURCES):
        reached.setdefault(name, set()).update(genes_of.get(protein, ()))
    return reached


def _membership(sets: list[GeneSet], row_of: Mapping[str, int], n_genes: int) -> tuple[sparse.csr_array, int]:
    """Return genes x sets with each membership once, and how many were listed again."""
    pairs = [(row_of[member], column) for column, one in enumerate(sets) for member in one.members]
    rows, columns = np.array(pairs, np.int64).reshape(-1, 2).T
    found = rows >= 0
    once = np.unique(rows[found] * len(sets) + columns[found])
    repeated = sum(one.repeated for one in sets) + int(found.sum()) - once.size
    entries = (np.ones(once.size, np.int32), np.divmod(once, len(sets)))
    return sparse.csr_array(entries, shape=(n_genes, len(sets))), repeated


def _set_tables(
    sets: list[GeneSet], sizes: Ints, membership: sparse.csr_array, gene_id: pa.ChunkedArray, source: Source
) -> dict[str, pa.Table]:
    used = np.flatnonzero(sizes)
    entries = membership.tocoo()
    order = np.lexsort((entries.row, entries.col))
    names = pa.array([one.name for one in sets])
    return {
        "pathway": pa.table(
            {
                "pathway_id": names.take(pa.array(used)),
                "description": pa.array([sets[row].description for row in used], pa.string()),
                "size": pa.array(sizes[used], pa.int32()),
            }
        ),
        "gene_pathway": pa.table(
            {
                "gene_id": gene_id.take(pa.array(entries.row[order])),
                "pathway_id": names.take(pa.array(entries.col[order])),
                "evidence": pa.repeat(pa.scalar(source.label), order.size),
            }
        ),
    }


def _pairs_table(
    membership: sparse.csr_array, sizes: Ints, gene_id: pa.ChunkedArray, config: PathwayConfig, source: Source
) -> tuple[pa.Table, Ints]:
    """Return gene pairs (genes are ordered by identifier, so that gene_a < gene_b) and the sets that were too large."""
    large = np.flatnonzero(sizes > config.max_set_size)
    pairs = shared_sets(sparse.csr_array(membership[:, np.flatnonzero(sizes <= config.max_set_size)]))
    count = pc.cast(pa.array(pairs.shared), pa.string())
    table = pa.table(
        {
            "gene_a": gene_id.take(pa.array(pairs.a)),
            "gene_b": gene_id.take(pa.array(pairs.b)),
            "source": pa.repeat(pa.scalar("pathway"), pairs.a.size),
            "weight": pairs.jaccard,
            "evidence": pc.binary_join_element_wise(f"gene sets of {source.label} shared:", count, " "),
        }
    )
    return table, large


def _nothing_joined(source: Source, config: PathwayConfig, names: list[str], genes: pa.Table) -> PriorError:
    numeric = 2 * sum(name.isdecimal() for name in names) > len(names)
    fix = "give gene sets and a GTF of one organism"
    if config.ids == "symbol" and numeric:
        fix = "the members look like Entrez ids: set `ids: entrez`, and give source string_aliases"
    elif config.ids == "entrez" and not numeric:
        fix = "the members do not look like Entrez ids: set `ids: symbol`"
    return PriorError(
        f"{source.label}: none of its {len(names):,} gene names is in table gene ({genes.num_rows:,} genes).\n"
        f"  gene sets: {some(names)}\n  genes: {some(genes['symbol'].to_pylist())}\n  Fix: {fix}."
    )


def estimate_pathways(plan: PlanContext, config: PathwayConfig) -> Estimated:
    """Estimate the number of gene sets, members and pairs."""

    def members(lines: list[str]) -> list[int]:
        return [line.count("\t") - 1 for line in lines if line.count("\t") > 1]

    def pairs(lines: list[str]) -> float:
        return sum(size * (size - 1) / 2 for size in members(lines) if size <= config.max_set_size)

    made = {
        "pathway": plan.count("gmt", lambda lines: len(members(lines))),
        "gene_pathway": plan.count("gmt", lambda lines: sum(members(lines))),
    }
    return {**made, "gene_gene": plan.count("gmt", pairs)} if config.gene_gene else made

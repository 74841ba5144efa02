"""Gene sets: which genes are in which set, and which pairs of genes share sets."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
from scipy import sparse

from heteromics.errors import PriorError, some
from heteromics.priors._ends import tally
from heteromics.priors._set_weights import cosine_pairs
from heteromics.priors._string_files import ENTREZ_SOURCES, GENE_ID_SOURCES, read_aliases
from heteromics.priors.gene_names import UNKNOWN
from heteromics.priors.gene_sets import GeneSet, read_gene_sets, read_gmt
from heteromics.priors.identifiers import GenesJoined, join_genes, joined_with, match_names
from heteromics.priors.set_pairs import SharedSets, shared_sets
from heteromics.priors.tables import Built, Count, Match, Source

if TYPE_CHECKING:
    from heteromics.priors.planning import Estimated, PlanContext
    from heteromics.priors.tables import BuildContext

__all__ = ["GeneSet", "PathwayConfig", "SharedSets", "build_pathways", "estimate_pathways", "read_gmt", "shared_sets"]

Ints = npt.NDArray[np.int64]
_SYMBOLS = re.compile(r'"geneSymbols"\s*:\s*\[([^\]]*)\]')


@dataclass(frozen=True, slots=True)
class PathwayConfig:
    """Recipe keys of the gene sets.

    Attributes
    ----------
    ids
        What the members are: ``symbol`` (Ensembl ids are understood too) or ``entrez``. Entrez ids reach the genes
        through the alias tables that are given, else through the STRING aliases, which name both for a protein.
    gene_gene
        Whether pairs of genes that share sets go to table ``gene_gene``.
    max_set_size
        Larger sets (genes in table ``gene``) make no pairs and do not count for their weight: a set of n genes makes
        n (n - 1) / 2 pairs. 500 is the usual upper limit in gene set enrichment (GSEA user guide, ``set_max``).
    weight
        ``jaccard`` of the two genes' sets, or ``cosine`` of their expression over the cells named in source
        ``summary_cells`` (training cells), read from source ``summary_data``.
    layer
        Layer of the data to read; X where none is named. scMoGNN's weights are those of normalised values.
    all_cells
        Look at every cell of ``summary_data``, test cells included; then ``summary_cells`` must not be given.
    """

    ids: Literal["symbol", "entrez"] = "symbol"
    gene_gene: bool = True
    max_set_size: int = 500
    weight: Literal["jaccard", "cosine"] = "jaccard"
    layer: str | None = None
    all_cells: bool = False

    def __post_init__(self) -> None:
        if self.max_set_size < 2:
            raise ValueError(f"found max_set_size {self.max_set_size}, expected 2 or more.")
        if self.weight != "cosine" and (self.layer is not None or self.all_cells):
            raise ValueError("layer and all_cells are for weight cosine. Fix: set `weight: cosine`, or leave them out.")

    def source_names(self) -> tuple[str, ...]:
        """Gene sets come from source ``gmt``; cosine weights look at the named cells of ``summary_data``."""
        if self.weight != "cosine" or not self.gene_gene:
            return ("gmt",)
        return ("gmt", "summary_data") if self.all_cells else ("gmt", "summary_data", "summary_cells")


def build_pathways(context: BuildContext, config: PathwayConfig) -> Built:
    """Build tables ``pathway``, ``gene_pathway`` and, unless turned off, the part of ``gene_gene`` that gene sets give.

    Raises
    ------
    UnreadableFile
        As :func:`~heteromics.priors.gene_sets.read_gene_sets`.
    PriorError
        When no member of any set is a gene of the store; says so when the members look like Entrez ids.
    DataError
        For cosine weights: when the data hold no expression, or ``summary_cells`` names cells they have not.
    """
    source = context.source("gmt")
    sets = read_gene_sets(source.path)
    names = list(dict.fromkeys(member for gene_set in sets for member in gene_set.members))
    genes = context.query("SELECT gene_id, symbol FROM gene ORDER BY gene_id")
    joined, sources = _join(context, config, names)
    if not any(joined.gene_id):
        raise _nothing_joined(source, config, names, genes)
    rank = {gene: row for row, gene in enumerate(genes["gene_id"].to_pylist())}
    row_of = {name: -1 if gene is None else rank[gene] for name, gene in zip(names, joined.gene_id, strict=True)}
    membership, repeated = _membership(sets, row_of, genes.num_rows)
    sizes = np.bincount(membership.indices, minlength=len(sets))
    unusable = [_unusable(source, one) for one, size in zip(sets, sizes, strict=True) if size == 0]
    built = Built(
        _set_tables(sets, sizes, membership, genes["gene_id"], source),
        {"pathway": [source], "gene_pathway": [source, *sources]},
        {
            "pathway": unusable,
            "gene_pathway": [
                Match(source.label, name, outcome, detail)
                for name, outcome, detail in zip(names, joined.outcome, joined.detail, strict=True)
                if outcome != "matched"
            ],
        },
        {
            "pathway": [
                Count(source.label, "matched", int(np.count_nonzero(sizes))),
                *tally(source.label, (match.outcome for match in unusable)),
            ],
            "gene_pathway": [*tally(source.label, joined.outcome), Count(source.label, "duplicated", repeated)],
        },
    )
    if config.gene_gene:
        _add_pairs(built, context, config, [one.name for one in sets], membership, sizes)
    return built


def _unusable(source: Source, gene_set: GeneSet) -> Match:
    if not gene_set.members:
        return Match(source.label, gene_set.name, "empty", "it lists no gene")
    return Match(source.label, gene_set.name, "absent", f"none of its {len(gene_set.members):,} genes is in table gene")


def _join(context: BuildContext, config: PathwayConfig, names: list[str]) -> tuple[GenesJoined, list[Source]]:
    """Find the genes that members mean, and say which further sources were asked."""
    joined = join_genes(context, names)
    if config.ids == "symbol" or not context.has_source("string_aliases"):
        return joined, []
    aliases = context.source("string_aliases")
    genes = context.query("SELECT gene_id, symbol FROM gene ORDER BY gene_id")
    gene_id, symbol = genes["gene_id"].to_pylist(), genes["symbol"].to_pylist()
    reached = _genes_by_entrez(aliases, gene_id)
    found: list[tuple[str | None, str, str]] = []
    for name, gene, outcome, detail in zip(names, *joined, strict=True):
        hits = sorted(reached.get(name, ())) if outcome == "absent" else []
        if hits:
            said = joined_with(hits, gene_id, symbol)
            found.append((gene_id[hits[0]], "alias", said) if len(hits) == 1 else (None, "ambiguous", said))
        elif detail == UNKNOWN:
            why = "its protein joined no gene" if name in reached else "not in the STRING aliases"
            found.append((None, outcome, why))
        else:
            found.append((gene, outcome, detail))
    through = GenesJoined([gene for gene, _, _ in found], [one for _, one, _ in found], [why for _, _, why in found])
    return through, [aliases]


def _genes_by_entrez(aliases: Source, gene_id: list[str]) -> dict[str, set[int]]:
    """Return the gene rows each Entrez id reaches: both are aliases of one protein."""
    pairs: dict[str, list[tuple[str, str]]] = {"gene_id": [], "entrez": []}
    for protein, name, kind in read_aliases(aliases.path, {"gene_id": GENE_ID_SOURCES, "entrez": ENTREZ_SOURCES}):
        pairs[kind].append((protein, name))
    rows, _ = match_names([name for _, name in pairs["gene_id"]], gene_id, gene_id)
    genes_of: dict[str, set[int]] = {}
    for (protein, _), row in zip(pairs["gene_id"], rows.tolist(), strict=True):
        if row >= 0:
            genes_of.setdefault(protein, set()).add(row)
    reached: dict[str, set[int]] = {}
    for protein, name in pairs["entrez"]:
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


def _add_pairs(
    built: Built,
    context: BuildContext,
    config: PathwayConfig,
    names: list[str],
    membership: sparse.csr_array,
    sizes: Ints,
) -> None:
    """Add pairs of genes to what is built; rows of ``membership`` are in the order of their identifiers."""
    context.progress("pairing genes that share sets")
    source = built.sources["pathway"][0]
    gene_id = context.query("SELECT gene_id FROM gene ORDER BY gene_id")["gene_id"]
    usable = sparse.csr_array(membership[:, np.flatnonzero(sizes <= config.max_set_size)])
    large = np.flatnonzero(sizes > config.max_set_size)
    matches = [
        Match(source.label, names[row], "filtered", f"{sizes[row]:,} genes, more than {config.max_set_size:,}")
        for row in large
    ]
    counts, sources = [Count(source.label, "filtered", large.size)], [source]
    if config.weight == "cosine":
        pairs, weight, seen = cosine_pairs(
            context, usable, gene_id.to_pylist(), layer=config.layer, all_cells=config.all_cells
        )
        matches, counts, sources = [*matches, *seen.matches], [*counts, *seen.counts], [*sources, *seen.sources]
        says = f"gene sets of {source.label}, cosine over {seen.cells:,} cells of {seen.sources[0].label}, shared:"
    else:
        pairs = shared_sets(usable)
        weight, says = pairs.jaccard, f"gene sets of {source.label} shared:"
    built.tables["gene_gene"] = pa.table(
        {
            "gene_a": gene_id.take(pa.array(pairs.a)),
            "gene_b": gene_id.take(pa.array(pairs.b)),
            "source": pa.repeat(pa.scalar("pathway"), pairs.a.size),
            "weight": weight,
            "evidence": pc.binary_join_element_wise(says, pc.cast(pa.array(pairs.shared), pa.string()), " "),
        }
    )
    built.sources["gene_gene"], built.matches["gene_gene"], built.counts["gene_gene"] = sources, matches, counts


def _nothing_joined(source: Source, config: PathwayConfig, names: list[str], genes: pa.Table) -> PriorError:
    numeric = 2 * sum(name.isdecimal() for name in names) > len(names)
    fix = "give gene sets and a GTF of one organism"
    if not names:
        fix = "give gene sets that list genes; these are all empty"
    elif config.ids == "symbol" and numeric:
        fix = "the members look like Entrez ids: set `ids: entrez`, and give source string_aliases or aliases_NAME"
    elif config.ids == "entrez" and numeric:
        fix = "give sources that know these Entrez ids for genes of the store, string_aliases or aliases_NAME"
    elif config.ids == "entrez":
        fix = "the members do not look like Entrez ids: set `ids: symbol`"
    return PriorError(
        f"{source.label}: none of its {len(names):,} gene names is in table gene ({genes.num_rows:,} genes).\n"
        f"  gene sets: {some(names)}\n  genes: {some(genes['symbol'].to_pylist())}\n  Fix: {fix}."
    )


def estimate_pathways(plan: PlanContext, config: PathwayConfig) -> Estimated:
    """Estimate the number of gene sets, members and pairs."""

    def members(lines: list[str]) -> list[int]:
        if lines and lines[0].startswith("{"):
            return [listed.count('"') // 2 for listed in _SYMBOLS.findall(" ".join(lines))]
        return [line.count("\t") - 1 for line in lines if line.count("\t") > 1]

    def pairs(lines: list[str]) -> float:
        return sum(size * (size - 1) / 2 for size in members(lines) if size <= config.max_set_size)

    made = {
        "pathway": plan.count("gmt", lambda lines: len(members(lines))),
        "gene_pathway": plan.count("gmt", lambda lines: sum(members(lines))),
    }
    return {**made, "gene_gene": plan.count("gmt", pairs)} if config.gene_gene else made

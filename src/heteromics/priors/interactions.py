"""Protein interactions from STRING: proteins, their links with all channels, their genes, and links between genes.

Szklarczyk et al., Nucleic Acids Research 2023 (STRING v12); columns as in the files of versions 11 to 12.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, NamedTuple

import duckdb
import pyarrow as pa
import pyarrow.compute as pc

from heteromics.errors import PriorError, some
from heteromics.priors._string_files import (
    CHANNELS,
    GENE_ID_SOURCES,
    SYMBOL_SOURCES,
    StringLinks,
    read_aliases,
    read_info,
    read_links,
)
from heteromics.priors.identifiers import GenesJoined, join_genes, match_names
from heteromics.priors.tables import Built, Count, Match, Source

if TYPE_CHECKING:
    from heteromics.priors.planning import Estimated, PlanContext
    from heteromics.priors.tables import BuildContext


class ProteinGene(NamedTuple):
    """The gene of a protein (None where none), the outcome, the rule or reason, and the evidence in words."""

    gene_id: str | None
    outcome: str
    detail: str
    evidence: str


@dataclass(frozen=True, slots=True)
class InteractionConfig:
    """Recipe keys of the STRING tables.

    Attributes
    ----------
    min_score
        Least combined score, 0 to 1000; STRING calls 150 low, 400 medium, 700 high and 900 highest confidence.
    min_channel
        Least score per channel, such as ``{experimental: 300}``; a link must reach all of them.
    gene_gene
        Whether the links also go to table ``gene_gene``, between the proteins' genes.
    """

    min_score: int = 400
    min_channel: dict[str, int] = field(default_factory=dict)
    gene_gene: bool = True

    def __post_init__(self) -> None:
        if unknown := [name for name in self.min_channel if name not in CHANNELS]:
            raise ValueError(f"found channel {', '.join(unknown)}, expected some of {', '.join(CHANNELS)}.")
        if not all(0 <= score <= 1000 for score in (self.min_score, *self.min_channel.values())):
            raise ValueError("STRING scores in these files run from 0 to 1000 (0.7 is 700).")

    def source_names(self) -> tuple[str, ...]:
        """Links are needed; of ``string_info`` and ``string_aliases`` at least one must be given too."""
        return ("string_links",)


def genes_of_proteins(
    proteins: Mapping[str, str],
    gene_ids: Sequence[tuple[str, str]],
    gene_id: Sequence[str],
    symbol: Sequence[str],
    join: Callable[[Sequence[str]], GenesJoined],
) -> list[ProteinGene]:
    """Find the gene of each protein: by the Ensembl gene ids it is known under, else by its name.

    Parameters
    ----------
    proteins
        Symbol by protein; empty where none is known, then the protein's own accession stands in.
    gene_ids
        (protein, Ensembl gene id) pairs of the aliases. Where several of a protein's ids are genes of the store, the
        one with the protein's symbol is taken; without such a one the protein is ambiguous.
    gene_id, symbol
        Genes of the store, both of length G.
    join
        Finds genes by name; asked once, for the proteins that no Ensembl gene id of the aliases leads to a gene.

    Examples
    --------
    >>> def nothing(names):
    ...     return GenesJoined([None] * len(names), ["absent"] * len(names), ["not in the annotation"] * len(names))
    >>> genes_of_proteins({"9606.P1": "TP53"}, [("9606.P1", "ENSG01.3")], ["ENSG01"], ["P53"], nothing)[0].evidence
    'Ensembl gene id in the STRING aliases'
    >>> genes_of_proteins({"9606.P1": "TP53"}, [], ["ENSG01"], ["P53"], nothing)[0].detail
    'symbol TP53: not in the annotation'
    """
    rows, _ = match_names([name for _, name in gene_ids], gene_id, gene_id)
    by_id: dict[str, set[int]] = {}
    for (protein, _), row in zip(gene_ids, rows.tolist(), strict=True):
        if row >= 0:
            by_id.setdefault(protein, set()).add(row)
    others = [protein for protein in proteins if protein not in by_id]
    joined = join([proteins[protein] or accession(protein) for protein in others])
    by_name = dict(zip(others, zip(*joined, strict=True), strict=True))
    return [
        _by_name(protein, name, *by_name[protein])
        if protein in by_name
        else _by_id(name, sorted(by_id[protein]), gene_id, symbol)
        for protein, name in proteins.items()
    ]


def accession(protein: str) -> str:
    """Leave out the taxon of a STRING identifier.

    Examples
    --------
    >>> accession("9606.ENSP00000269305"), accession("511145.b0001")
    ('ENSP00000269305', 'b0001')
    """
    return protein.partition(".")[2] or protein


def _by_id(name: str, hits: list[int], gene_id: Sequence[str], symbol: Sequence[str]) -> ProteinGene:
    chosen = hits if len(hits) == 1 else [hit for hit in hits if symbol[hit] == name]
    if len(chosen) == 1:
        return ProteinGene(gene_id[chosen[0]], "matched", gene_id[chosen[0]], "Ensembl gene id in the STRING aliases")
    return ProteinGene(None, "ambiguous", ", ".join(gene_id[hit] for hit in hits[:5]), "")


def _by_name(protein: str, name: str, gene: str | None, outcome: str, detail: str) -> ProteinGene:
    asked = f"symbol {name}" if name else f"no symbol, accession {accession(protein)}"
    if gene is None:
        return ProteinGene(None, outcome, f"{asked}: {detail}", "")
    rule = "alias" if outcome == "matched" else outcome
    return ProteinGene(gene, rule, f"{asked}: {detail}", f"{asked if name else 'accession'} of the protein in STRING")


def build_interactions(context: BuildContext, config: InteractionConfig) -> Built:
    """Build tables ``protein``, ``protein_protein``, ``gene_protein`` and STRING's part of ``gene_gene``.

    Raises
    ------
    UnreadableFile
        As the readers say: another header, a broken line, a damaged gzip.
    PriorError
        When no link reaches the thresholds, or no protein reaches a gene.
    RecipeError
        When neither ``string_aliases`` nor ``string_info`` is given.
    """
    source = context.source("string_links")
    named = [name for name in ("string_aliases", "string_info") if context.has_source(name)] or ["string_aliases"]
    sources = {name: context.source(name) for name in named}
    context.progress("reading STRING links")
    links = read_links(source.path, config.min_score, config.min_channel)
    if not links.table.num_rows:
        raise PriorError(
            f"{source.label}: none of its {links.rows:,} lines reaches combined_score {config.min_score}"
            f"{''.join(f', {name} {least}' for name, least in config.min_channel.items())} (of 1000).\n"
            "  Fix: lower min_score or min_channel."
        )
    context.progress("joining proteins to genes")
    proteins, annotation, gene_ids = _proteins(links, sources)
    genes = context.query("SELECT gene_id, symbol FROM gene ORDER BY gene_id")
    gene_id = genes["gene_id"].to_pylist()
    found = genes_of_proteins(proteins, gene_ids, gene_id, genes["symbol"].to_pylist(), partial(join_genes, context))
    if all(hit.gene_id is None for hit in found):
        raise PriorError(
            f"{source.label}: none of its {len(found):,} proteins is known for any of the {len(gene_id):,} genes."
            f"\n  proteins: {some(proteins)}\n  genes: {some(gene_id)}\n"
            "  Fix: give the files of one organism, and STRING's aliases, which name the genes."
        )
    tables = _protein_tables(proteins, annotation, found) | {"protein_protein": _links_table(links, source)}
    counts = _counts(links, proteins, found, source)
    if config.gene_gene:
        context.progress("linking genes through their proteins")
        tables["gene_gene"], counts["gene_gene"] = _gene_links(links, tables["gene_protein"], source)
    read = [source, *sources.values()]
    return Built(tables, dict.fromkeys(tables, read), _matches(proteins, found, source), counts)


def _proteins(
    links: StringLinks, sources: Mapping[str, Source]
) -> tuple[dict[str, str], dict[str, str], list[tuple[str, str]]]:
    """Return symbol by protein (all of the info file and all that are linked), annotation, and gene ids by alias."""
    info = read_info(sources["string_info"].path) if "string_info" in sources else {}
    symbols: dict[str, set[str]] = {}
    gene_ids: list[tuple[str, str]] = []
    if "string_aliases" in sources:
        kinds = {"gene_id": GENE_ID_SOURCES, "symbol": SYMBOL_SOURCES}
        for protein, name, kind in read_aliases(sources["string_aliases"].path, kinds):
            if kind == "gene_id":
                gene_ids.append((protein, name))
            else:
                symbols.setdefault(protein, set()).add(name)
    linked = {name for end in ("protein_a", "protein_b") for name in pc.unique(links.table[end]).to_pylist()}
    only = {protein: next(iter(names)) for protein, names in symbols.items() if len(names) == 1}
    proteins = {
        protein: info[protein][0] if protein in info else only.get(protein, "")
        for protein in sorted(linked | set(info))
    }
    return proteins, {protein: text for protein, (_, text) in info.items() if text}, gene_ids


def _protein_tables(
    proteins: Mapping[str, str], annotation: Mapping[str, str], found: Sequence[ProteinGene]
) -> dict[str, pa.Table]:
    gene = [hit.gene_id for hit in found]
    joined = [(one, protein, hit.evidence) for one, protein, hit in zip(gene, proteins, found, strict=True) if one]
    return {
        "protein": pa.table(
            {
                "protein_id": pa.array(list(proteins), pa.string()),
                "symbol": pa.array([name or protein for protein, name in proteins.items()], pa.string()),
                "gene_id": pa.array(gene, pa.string()),
                "annotation": pa.array([annotation.get(protein) for protein in proteins], pa.string()),
            }
        ),
        "gene_protein": pa.table(
            dict(zip(("gene_id", "protein_id", "evidence"), map(list, zip(*joined, strict=True)), strict=True))
        ),
    }


def _links_table(links: StringLinks, source: Source) -> pa.Table:
    rows = links.table.num_rows
    columns = {name: links.table[name] for name in ("protein_a", "protein_b")}
    for name in CHANNELS:
        columns[name] = links.table[name] if name in links.table.column_names else pa.nulls(rows, pa.int32())
    columns["combined_score"] = links.table["combined_score"]
    return pa.table(columns | {"evidence": pa.repeat(pa.scalar(source.label), rows)})


def _gene_links(links: StringLinks, gene_protein: pa.Table, source: Source) -> tuple[pa.Table, list[Count]]:
    """Carry links from proteins to their genes; where several link two genes, the highest score stands."""
    pairs = links.table
    with duckdb.connect() as connection:
        connection.register("pairs", pairs)
        connection.register("gene_protein", gene_protein)
        connection.execute(
            "CREATE TEMP TABLE link AS SELECT least(a.gene_id, b.gene_id) AS gene_a, "
            "greatest(a.gene_id, b.gene_id) AS gene_b, combined_score, protein_a || ' ' || protein_b AS proteins "
            "FROM pairs JOIN gene_protein a ON protein_a = a.protein_id JOIN gene_protein b ON protein_b = b.protein_id"
        )
        ((joined, loops),) = connection.execute(
            "SELECT count(*), count(*) FILTER (WHERE gene_a = gene_b) FROM link"
        ).fetchall()
        table = connection.sql(
            "SELECT gene_a, gene_b, 'string' AS source, max(combined_score) / 1000 AS weight, "
            "first(proteins ORDER BY combined_score DESC, proteins) || ', combined score ' || max(combined_score) "
            "AS evidence FROM link WHERE gene_a <> gene_b GROUP BY gene_a, gene_b ORDER BY gene_a, gene_b"
        ).to_arrow_table()
    return table, [
        Count(source.label, "matched", joined - loops),
        Count(source.label, "self_loop", loops),
        Count(source.label, "absent", pairs.num_rows - joined),
    ]


def _matches(proteins: Mapping[str, str], found: Sequence[ProteinGene], source: Source) -> dict[str, list[Match]]:
    unnamed = [protein for protein, name in proteins.items() if not name]
    return {
        "protein": [Match(source.label, protein, "symbol_missing", "the id stands in") for protein in unnamed],
        "gene_protein": [
            Match(source.label, protein, hit.outcome, hit.detail)
            for protein, hit in zip(proteins, found, strict=True)
            if hit.outcome != "matched"
        ],
    }


def _counts(
    links: StringLinks, proteins: Mapping[str, str], found: Sequence[ProteinGene], source: Source
) -> dict[str, list[Count]]:
    unnamed = sum(not name for name in proteins.values())
    return {
        "protein": [
            Count(source.label, "matched", len(proteins) - unnamed),
            Count(source.label, "symbol_missing", unnamed),
        ],
        "protein_protein": [
            Count(source.label, "matched", links.table.num_rows),
            Count(source.label, "filtered", links.below),
            Count(source.label, "self_loop", links.self_loops),
            Count(source.label, "conflicting", links.conflicting),
        ],
        "gene_protein": [
            Count(source.label, outcome, n) for outcome, n in sorted(Counter(hit.outcome for hit in found).items())
        ],
    }


def estimate_interactions(plan: PlanContext, config: InteractionConfig) -> Estimated:
    """Estimate the number of proteins and links."""

    def kept(lines: list[str]) -> float:
        header, *rows = [line.split() for line in lines if line.strip()] or [[]]
        least = {"combined_score": config.min_score, **config.min_channel}
        places = [(header.index(name), score) for name, score in least.items() if name in header]
        whole = (row for row in rows if len(row) == len(header) and all(row[place].isdecimal() for place, _ in places))
        return sum(all(int(row[place]) >= score for place, score in places) for row in whole) / 2

    links = plan.count("string_links", kept)
    proteins = plan.count("string_info", len)
    made = {"protein": proteins, "protein_protein": links, "gene_protein": proteins}
    return {**made, "gene_gene": links} if config.gene_gene else made

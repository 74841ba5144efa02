"""Genes: from a GTF to tables ``gene`` and ``gene_attribute``, and from the names data use to genes."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import pandas as pd
import pyarrow as pa
from numpy.typing import NDArray

from heteromics.errors import PriorError, UnreadableFile, some
from heteromics.priors._files import feature_names, text_lines
from heteromics.priors.assembly import Style, check_ends, check_names, to_style
from heteromics.priors.gtf import Annotation, exon_union_length, read_gtf
from heteromics.priors.tables import Built, Count, Match, Source

if TYPE_CHECKING:
    from heteromics.priors.tables import BuildContext

Ints = NDArray[np.int64]

_VERSION = re.compile(r"((?:ENS[A-Z]*|MGP_\w+?_)[GTPER]\d+)\.\d+(?:_PAR_Y)?")


@dataclass(frozen=True, slots=True)
class GeneConfig:
    """Recipe keys of ``nodes.gene``."""

    strip_version: bool = True
    """Leave out the version of Ensembl and GENCODE ids: ENSG00000223972.5 becomes ENSG00000223972."""
    biotypes: tuple[str, ...] = ()
    """Keep these alone; empty keeps all."""
    chrom_style: Style | None = None
    """Convert chromosome names to this style; left out, they are taken as they are."""

    def source_names(self) -> tuple[str, ...]:
        """Genes are read from source ``gtf``; source ``genes`` (names the data use) may be given beside it."""
        return ("gtf",)


def strip_version(name: str) -> str:
    """Leave out the version, and GENCODE's ``_PAR_Y``, of an Ensembl-style id; other names stay as they are.

    Examples
    --------
    >>> strip_version("ENSG00000223972.5"), strip_version("ENSG00000182378.15_PAR_Y"), strip_version("AC004.1")
    ('ENSG00000223972', 'ENSG00000182378', 'AC004.1')
    """
    stable = _VERSION.fullmatch(name)
    return stable[1] if stable else name


def transcription_start(start: Ints, end: Ints, strand: NDArray[np.str_]) -> Ints:
    """Return the first transcribed base, 0-based: ``start`` on ``+`` or ``.``, ``end - 1`` on ``-``; shapes (G,).

    Examples
    --------
    >>> import numpy as np
    >>> transcription_start(np.array([10, 10]), np.array([20, 20]), np.array(["+", "-"])).tolist()
    [10, 19]
    """
    return np.where(strand == "-", end - 1, start)


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


def build_genes(context: BuildContext, config: GeneConfig) -> Built:
    """Build tables ``gene`` (by chromosome code and start) and ``gene_attribute`` from source ``gtf``.

    An id at several places keeps the first, in file order; the others, genes left out by the recipe, genes on
    chromosomes the assembly does not have, and genes without symbol are named in the match report. When source
    ``genes`` is given, so is every name of it that means no gene for certain.

    Raises
    ------
    UnreadableFile, ChromNamesDisagree, BeyondChromosome
        As the reader and the assembly guard say.
    PriorError
        When no gene has one of the biotypes asked for.
    """
    source = context.source("gtf")
    annotation = read_gtf(source.path)
    genes, left_out = _selected(annotation, context, config, source)
    code = {name: number for number, name in enumerate(context.chromosomes)}
    genes = genes.assign(code=genes["chrom"].map(code)).sort_values(["code", "chrom_start", "chrom_end", "gene_id"])
    unnamed = genes["symbol"] == ""
    matches = left_out + [
        Match(source.label, name, "symbol_missing", "no gene_name; the id stands in")
        for name in genes.loc[unnamed, "gene_id"]
    ]
    genes.loc[unnamed, "symbol"] = genes.loc[unnamed, "gene_id"]
    counts = _counts(source.label, len(genes) - int(unnamed.sum()), matches)
    if annotation.aggregated:
        counts.append(Count(source.label, "aggregated", annotation.aggregated))
    sources = [source]
    if context.has_source("genes"):
        data = context.source("genes")
        data_matches, data_counts = _match_data(data, genes, left_out)
        matches, counts, sources = matches + data_matches, counts + data_counts, [source, data]
    return Built(
        tables={"gene": _gene_table(genes), "gene_attribute": _attribute_table(annotation, genes)},
        sources={"gene": sources, "gene_attribute": [source]},
        matches={"gene": matches},
        counts={"gene": counts},
    )


def _selected(
    annotation: Annotation, context: BuildContext, config: GeneConfig, source: Source
) -> tuple[pd.DataFrame, list[Match]]:
    """Apply style, guard, assembly, biotypes and one place per id; return the genes kept and those left out."""
    genes = annotation.genes.assign(raw_id=annotation.genes["gene_id"])
    what = f"genes of {source.path.name}"
    if config.chrom_style:
        names = genes["chrom"].unique().tolist()
        renamed = dict(zip(names, to_style(names, config.chrom_style, known=context.chromosomes), strict=True))
        genes["chrom"] = genes["chrom"].map(renamed)
    if config.strip_version:
        genes["gene_id"] = [strip_version(name) for name in genes["gene_id"]]
    check_names(
        what,
        set(genes["chrom"]),
        f"assembly {context.assembly}",
        set(context.chromosomes),
        key="nodes.gene.chrom_style",
    )
    check_ends(
        what,
        context.assembly,
        genes["raw_id"].tolist(),
        genes["chrom"].tolist(),
        genes["chrom_end"].to_numpy(np.int64),
        context.chromosomes,
    )
    matches: list[Match] = []
    elsewhere = ~genes["chrom"].isin(list(context.chromosomes))
    matches += [
        Match(
            source.label, gene["raw_id"], "wrong_assembly", f"{_named(gene)}: {context.assembly} has no {gene['chrom']}"
        )
        for gene in genes[elsewhere].to_dict("records")
    ]
    genes = genes[~elsewhere]
    if config.biotypes:
        unwanted = ~genes["biotype"].isin(config.biotypes)
        if unwanted.all():
            raise PriorError(
                f"{what}: none of {len(genes):,} has a biotype the recipe asks for ({some(config.biotypes, 6)}).\n"
                f"  Found: {some(sorted(genes['biotype'].unique()), 12)}.\n  Fix: change `nodes.gene.biotypes`."
            )
        matches += [
            Match(source.label, gene["raw_id"], "filtered", f"{_named(gene)}: biotype {gene['biotype'] or 'not given'}")
            for gene in genes[unwanted].to_dict("records")
        ]
        genes = genes[~unwanted]
    return _one_place_each(genes, source, matches)


def _one_place_each(genes: pd.DataFrame, source: Source, matches: list[Match]) -> tuple[pd.DataFrame, list[Match]]:
    """Keep the first place of each id; the others join the matches as ``two_loci``, or ``duplicated`` if the same."""
    again = genes["gene_id"].duplicated()
    twice = genes[genes["gene_id"].isin(genes.loc[again, "gene_id"]) & ~again]
    first = {gene["gene_id"]: _place(gene) for gene in twice.to_dict("records")}
    for gene in genes[again].to_dict("records"):
        here, kept = _place(gene), first[gene["gene_id"]]
        outcome = "duplicated" if here == kept else "two_loci"
        matches.append(Match(source.label, gene["raw_id"], outcome, f"{_named(gene)}: {here}, {kept} stands"))
    return genes[~again], matches


def _named(gene: Mapping[Any, Any]) -> str:
    return str(gene["symbol"] or gene["raw_id"])


def _place(gene: Mapping[Any, Any]) -> str:
    return f"{gene['chrom']}:{gene['chrom_start']}-{gene['chrom_end']}({gene['strand']})"


def _counts(label: str, matched: int, matches: Sequence[Match]) -> list[Count]:
    found = Counter(match.outcome for match in matches)
    return [Count(label, "matched", matched), *(Count(label, outcome, n) for outcome, n in sorted(found.items()))]


def _match_data(source: Source, genes: pd.DataFrame, left_out: Sequence[Match]) -> tuple[list[Match], list[Count]]:
    """Report how the names the data use for genes join table ``gene``."""
    names = read_gene_names(source)
    _, outcomes, details = join_names(names, genes["gene_id"].tolist(), genes["symbol"].tolist(), left_out)
    matches = [
        Match(source.label, name, outcome, detail)
        for name, outcome, detail in zip(names, outcomes, details, strict=True)
        if outcome != "matched"
    ]
    return matches, _counts(source.label, outcomes.count("matched"), matches)


def _reasons(left_out: Sequence[Match]) -> Mapping[str, str]:
    """Return, by id and by symbol, why a gene of the annotation is not in the table."""
    reasons: dict[str, str] = {}
    for match in left_out:
        if match.outcome in {"wrong_assembly", "filtered"}:
            symbol, _, why = match.detail.partition(": ")
            for name in (strip_version(match.name), symbol.casefold()):
                reasons.setdefault(name, f"{match.outcome}: {match.name}, {why}")
    return reasons


def read_gene_names(source: Source) -> list[str]:
    """Read the names data use for genes: rna var names of ``.h5ad``/``.h5mu``, else the first column of a text."""
    if source.path.suffix in {".h5ad", ".h5mu"}:
        return feature_names(source.path, "rna")
    lines = (line.strip() for _, line in text_lines(source.path))
    names = [line.split("\t")[0] for line in lines if line and not line.startswith("#")]
    if not names:
        raise UnreadableFile(f"{source.path}: no gene name in it. Expected one name a line.")
    return names


def _gene_table(genes: pd.DataFrame) -> pa.Table:
    start, end = genes["chrom_start"].to_numpy(np.int64), genes["chrom_end"].to_numpy(np.int64)
    columns = ["gene_id", "symbol", "chrom", "strand", "biotype"]
    text = {name: pa.array(genes[name].tolist(), pa.string()) for name in columns}
    tss = transcription_start(start, end, genes["strand"].to_numpy(dtype=str))
    return pa.table({**text, "chrom_start": start, "chrom_end": end, "tss": tss})


def _attribute_table(annotation: Annotation, genes: pd.DataFrame) -> pa.Table:
    """Exons of a gene are those of its own place; elsewhere-placed copies of the id do not count."""
    n = len(annotation.genes)
    start = annotation.genes["chrom_start"].to_numpy(np.int64)
    end = annotation.genes["chrom_end"].to_numpy(np.int64)
    gene = annotation.exon_gene
    inside = (annotation.exon_start >= start[gene]) & (annotation.exon_end <= end[gene])
    covered = exon_union_length(gene[inside], annotation.exon_start[inside], annotation.exon_end[inside], n)
    exon_length = covered[genes.index.to_numpy()]  # (G,)
    width = (genes["chrom_end"] - genes["chrom_start"]).to_numpy(np.int64)
    return pa.table(
        {
            "gene_id": pa.array(genes["gene_id"].tolist(), pa.string()),
            "strand_sign": genes["strand"].map({"+": 1, "-": -1, ".": 0}).to_numpy(np.int8),
            "length": width,
            "exon_length": pa.array(exon_length, mask=exon_length == 0),
            "biotype_code": pd.factorize(genes["biotype"], sort=True)[0].astype(np.int32),
        }
    )

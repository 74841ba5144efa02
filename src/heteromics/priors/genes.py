"""Genes: from a GTF to tables ``gene`` and ``gene_attribute``, and from the names data use to genes."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import pyarrow as pa
from numpy.typing import NDArray

from heteromics.errors import PriorError, UnreadableFile, some
from heteromics.priors._files import feature_names, text_lines
from heteromics.priors.assembly import Style, check_ends, check_names, to_style
from heteromics.priors.gtf import Annotation, exon_union_length, read_gtf
from heteromics.priors.identifiers import join_names, strip_version
from heteromics.priors.tables import Built, Count, Match, Source

if TYPE_CHECKING:
    from heteromics.priors.planning import Estimated, PlanContext
    from heteromics.priors.tables import BuildContext

Ints = NDArray[np.int64]


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


def transcription_start(start: Ints, end: Ints, strand: NDArray[np.str_]) -> Ints:
    """Return the first transcribed base, 0-based: ``start`` on ``+`` or ``.``, ``end - 1`` on ``-``; shapes (G,).

    Examples
    --------
    >>> import numpy as np
    >>> transcription_start(np.array([10, 10]), np.array([20, 20]), np.array(["+", "-"])).tolist()
    [10, 19]
    """
    return np.where(strand == "-", end - 1, start)


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


def estimate_gene(plan: PlanContext, _config: GeneConfig) -> Estimated:
    """Estimate the number of genes of the annotation."""

    def count(lines: list[str]) -> int:
        written = sum("\tgene\t" in line for line in lines)
        return written or len({line.partition("gene_id")[2].split(";")[0] for line in lines if "gene_id" in line})

    n = plan.count("gtf", count)
    return {"gene": n, "gene_attribute": n}

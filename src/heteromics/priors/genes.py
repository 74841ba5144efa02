"""Genes: from an annotation to genes, transcripts and their parts."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import pyarrow as pa
from numpy.typing import NDArray

from heteromics.errors import PriorError, some
from heteromics.priors._annotation_size import AnnotationSize, annotation_size
from heteromics.priors.assembly import Style, check_ends, check_names, to_style
from heteromics.priors.gene_files import read_gene_models
from heteromics.priors.gene_models import GeneModels, Kind, Parts, transcription_start, union_length
from heteromics.priors.gene_parts import gene_part_table, merged_parts
from heteromics.priors.identifiers import strip_version
from heteromics.priors.planning import sample_lines
from heteromics.priors.tables import Built, Count, Match, Source
from heteromics.priors.transcripts import transcript_table

if TYPE_CHECKING:
    from heteromics.priors.planning import Estimated, PlanContext
    from heteromics.priors.tables import BuildContext

Ints = NDArray[np.int64]
_Reasons = dict[int, tuple[str, str]]  # outcome and detail by row of the annotation


@dataclass(frozen=True, slots=True)
class GeneConfig:
    """Recipe keys of ``nodes.gene``."""

    strip_version: bool = True
    """Leave out the version of Ensembl and GENCODE ids: ENSG00000223972.5 becomes ENSG00000223972."""
    biotypes: tuple[str, ...] = ()
    """Keep these alone; empty keeps all."""
    chrom_style: Style | None = None
    """Convert chromosome names to this style; left out, they are taken as they are."""
    transcripts: bool = True
    """Make table ``transcript``; empty where the annotation has none."""
    parts: bool = True
    """Make table ``gene_part``: exons, coding parts and untranslated ends; empty where the annotation has none."""

    def source_names(self) -> tuple[str, ...]:
        """Genes are read from source ``gtf``."""
        return ("gtf",)


def build_genes(context: BuildContext, config: GeneConfig) -> Built:
    """Build tables ``gene`` (by chromosome code and start), ``gene_attribute``, ``transcript`` and ``gene_part``.

    They are read from source ``gtf``: GTF, GFF3 or a UCSC gene table. An id at several places keeps the first, in the
    order of the reader; the others, genes left out by the recipe, genes on chromosomes the assembly does not have, and
    genes without symbol are named in the match report, and the transcripts of genes left out are counted.

    Raises
    ------
    UnreadableFile, ChromNamesDisagree, BeyondChromosome
        As the reader and the assembly guard say.
    PriorError
        When no gene has one of the biotypes asked for.
    """
    source = context.source("gtf")
    models = read_gene_models(source.path)
    genes, left_out, why = _selected(models, context, config, source)
    code = {name: number for number, name in enumerate(context.chromosomes)}
    genes = genes.assign(code=genes["chrom"].map(code)).sort_values(["code", "chrom_start", "chrom_end", "gene_id"])
    unnamed = genes["symbol"] == ""
    matches = left_out + [
        Match(source.label, name, "symbol_missing", "no gene_name; the id stands in")
        for name in genes.loc[unnamed, "gene_id"]
    ]
    genes.loc[unnamed, "symbol"] = genes.loc[unnamed, "gene_id"]
    counts = _counts(source.label, len(genes) - int(unnamed.sum()), matches)
    if models.aggregated:
        counts.append(Count(source.label, "aggregated", models.aggregated))
    listed = transcript_table(models, genes, why, source.label, strip=config.strip_version)
    parts = _kept_parts(models, genes)
    tables = {"gene": _gene_table(genes), "gene_attribute": _attribute_table(parts, genes, listed.per_gene)}
    built_matches, built_counts = {"gene": matches}, {"gene": counts}
    if config.transcripts:
        tables["transcript"] = listed.table
        built_matches["transcript"], built_counts["transcript"] = listed.matches, listed.counts
    if config.parts:
        reverse = (genes["strand"] == "-").to_numpy()
        merged = merged_parts(parts, reverse, len(models.transcripts))
        tables["gene_part"] = gene_part_table(merged, tables["gene"]["gene_id"].combine_chunks())
        built_counts["gene_part"] = [Count(source.label, "absent", models.astray)]
    return Built(
        tables=tables,
        sources={name: [source] for name in tables},
        matches=built_matches,
        counts=built_counts,
    )


def _selected(
    models: GeneModels, context: BuildContext, config: GeneConfig, source: Source
) -> tuple[pd.DataFrame, list[Match], dict[int, str]]:
    """Apply style, guard, assembly, biotypes and one place per id.

    Returns the genes kept, those left out as matches, and why a gene was left out, by its row.
    """
    genes = models.genes.assign(raw_id=models.genes["gene_id"])
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
    elsewhere = ~genes["chrom"].isin(list(context.chromosomes))
    names = [f"{context.assembly} has no {name}" for name in genes.loc[elsewhere, "chrom"]]
    reasons = _reasons(genes[elsewhere], "wrong_assembly", names)
    genes = genes[~elsewhere]
    if config.biotypes:
        unwanted = ~genes["biotype"].isin(config.biotypes)
        if unwanted.all():
            raise PriorError(
                f"{what}: none of {len(genes):,} has a biotype the recipe asks for ({some(config.biotypes, 6)}).\n"
                f"  Found: {some(sorted(genes['biotype'].unique()), 12)}.\n  Fix: change `nodes.gene.biotypes`."
            )
        kinds = [f"biotype {name or 'not given'}" for name in genes.loc[unwanted, "biotype"]]
        reasons |= _reasons(genes[unwanted], "filtered", kinds)
        genes = genes[~unwanted]
    genes, placed = _one_place_each(genes)
    reasons |= placed
    raw_id, symbol = models.genes["gene_id"].tolist(), models.genes["symbol"].tolist()
    matches = [
        Match(source.label, raw_id[row], outcome, f"{symbol[row] or raw_id[row]}: {detail}")
        for row, (outcome, detail) in reasons.items()
    ]
    return genes, matches, {row: outcome for row, (outcome, _) in reasons.items()}


def _reasons(genes: pd.DataFrame, outcome: str, details: Sequence[str]) -> _Reasons:
    return {row: (outcome, detail) for row, detail in zip(genes.index.tolist(), details, strict=True)}


def _one_place_each(genes: pd.DataFrame) -> tuple[pd.DataFrame, _Reasons]:
    """Keep the first place of each id; say of the others ``two_loci``, or ``duplicated`` if the place is the same."""
    again = genes["gene_id"].duplicated()
    twice = genes[genes["gene_id"].isin(genes.loc[again, "gene_id"]) & ~again]
    first = {gene["gene_id"]: _place(gene) for gene in twice.to_dict("records")}
    reasons = {}
    for row, gene in zip(genes.index[again].tolist(), genes[again].to_dict("records"), strict=True):
        here, kept = _place(gene), first[gene["gene_id"]]
        reasons[row] = "duplicated" if here == kept else "two_loci", f"{here}, {kept} stands"
    return genes[~again], reasons


def _place(gene: Mapping[Any, Any]) -> str:
    return f"{gene['chrom']}:{gene['chrom_start']}-{gene['chrom_end']}({gene['strand']})"


def _counts(label: str, matched: int, matches: Sequence[Match]) -> list[Count]:
    found = Counter(match.outcome for match in matches)
    return [Count(label, "matched", matched), *(Count(label, outcome, n) for outcome, n in sorted(found.items()))]


def _gene_table(genes: pd.DataFrame) -> pa.Table:
    start, end = genes["chrom_start"].to_numpy(np.int64), genes["chrom_end"].to_numpy(np.int64)
    columns = ["gene_id", "symbol", "chrom", "strand", "biotype"]
    text = {name: pa.array(genes[name].tolist(), pa.string()) for name in columns}
    tss = transcription_start(start, end, genes["strand"].to_numpy(dtype=str))
    return pa.table({**text, "chrom_start": start, "chrom_end": end, "tss": tss})


def _kept_parts(models: GeneModels, genes: pd.DataFrame) -> Parts:
    """Return the parts of the genes kept; their genes become rows of table ``gene``."""
    place = np.full(len(models.genes), -1, dtype=np.int64)
    place[genes.index.to_numpy()] = np.arange(len(genes))
    parts = replace(models.parts, gene=place[models.parts.gene])
    return parts.where(parts.gene >= 0)


def _attribute_table(parts: Parts, genes: pd.DataFrame, transcripts: Ints) -> pa.Table:
    exons = parts.of(Kind.EXON)
    exon_length = union_length(exons.gene, exons.start, exons.end, len(genes))  # (G,)
    return pa.table(
        {
            "gene_id": pa.array(genes["gene_id"].tolist(), pa.string()),
            "strand_sign": genes["strand"].map({"+": 1, "-": -1, ".": 0}).to_numpy(np.int8),
            "length": (genes["chrom_end"] - genes["chrom_start"]).to_numpy(np.int64),
            "exon_length": pa.array(exon_length, mask=exon_length == 0),
            "transcripts": pa.array(transcripts, mask=transcripts == 0),
            "biotype_code": pd.factorize(genes["biotype"], sort=True)[0].astype(np.int32),
        }
    )


def estimate_gene(plan: PlanContext, config: GeneConfig) -> Estimated:
    """Estimate the numbers of genes, transcripts and parts of the annotation."""
    path = plan.path("gtf")
    size = annotation_size(*sample_lines(path)) if path else AnnotationSize(None, None, None)
    rows = {"gene": size.genes, "gene_attribute": size.genes}
    if config.transcripts:
        rows["transcript"] = size.transcripts
    if config.parts:
        rows["gene_part"] = size.parts
    return rows

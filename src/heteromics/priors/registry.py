"""The builders that can make prior tables: one line each, in the order they run."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from heteromics.priors.annotation import AnnotationConfig, build_annotation, estimate_annotation
from heteromics.priors.antibodies import AntibodyConfig, build_antibodies, estimate_antibodies
from heteromics.priors.bases import BasesConfig, build_bases, estimate_bases
from heteromics.priors.data_names import DataNamesConfig, build_data_names, estimate_data_names
from heteromics.priors.gene_alias import IdentifierConfig, build_identifiers, estimate_identifiers
from heteromics.priors.genes import GeneConfig, build_genes, estimate_gene
from heteromics.priors.guard import AssemblyCheckConfig, build_assembly_check, estimate_assembly_check
from heteromics.priors.interactions import InteractionConfig, build_interactions, estimate_interactions
from heteromics.priors.kmers import KmerConfig, build_kmers, estimate_kmers
from heteromics.priors.links import GenePeakConfig, build_gene_peak, estimate_gene_peak
from heteromics.priors.motif_peak import MotifPeakConfig, build_motif_peak, estimate_motif_peak
from heteromics.priors.motifs import MotifConfig, build_motifs, estimate_motif
from heteromics.priors.mygene import MyGeneConfig, build_mygene, estimate_mygene
from heteromics.priors.pairs import PairsConfig, build_pairs, estimate_pairs
from heteromics.priors.pathways import PathwayConfig, build_pathways, estimate_pathways
from heteromics.priors.peaks import PeakConfig, build_peaks, estimate_peak
from heteromics.priors.planning import Estimated, PlanContext
from heteromics.priors.regions import (
    PeakRegionConfig,
    RegionConfig,
    build_peak_region,
    build_regions,
    estimate_peak_region,
    estimate_region,
)
from heteromics.priors.regulons import RegulonConfig, build_regulons, estimate_regulons
from heteromics.priors.sequence import SequenceConfig, build_peak_sequence, estimate_sequence
from heteromics.priors.spatial import SpatialConfig, build_spatial, estimate_spatial
from heteromics.priors.splits import SplitConfig, build_splits, estimate_splits
from heteromics.priors.summaries import SummaryConfig, build_summaries, estimate_summaries
from heteromics.priors.tables import BuildContext, Built

SECTIONS = ("nodes", "edges", "attributes")


@dataclass(frozen=True, slots=True)
class Builder:
    """One builder: where its keys stand in a recipe, and what it needs and makes.

    Attributes
    ----------
    section, name
        ``nodes``, ``edges`` or ``attributes``, and the key below it.
    config
        Frozen dataclass of its recipe keys.
    run
        ``(context, config) -> Built``.
    estimate
        ``(plan, config) -> rows by table``, from the beginnings of its sources.
    needs, makes
        Tables that must be there before, and tables it can make.
    may_use
        Further tables of earlier builders that it looks at where they are there; to read any other is an error.
    may_read
        Sources it reads when they are given, also families (``regions_*``); those it must have, its configuration
        names.
    may_share
        Sources it reads where another step of the recipe reads them, or where they are files of the user: for its sake
        alone none is fetched.
    by_default
        It runs with its defaults, also where a recipe does not name it, once the tables it needs are there.
    """

    section: str
    name: str
    config: type
    run: Callable[[BuildContext, Any], Built]
    estimate: Callable[[PlanContext, Any], Estimated]
    needs: tuple[str, ...]
    makes: tuple[str, ...]
    may_read: tuple[str, ...] = ()
    by_default: bool = False
    may_use: tuple[str, ...] = ()
    may_share: tuple[str, ...] = ()

    @property
    def key(self) -> str:
        """Where it stands in a recipe, ``nodes.gene``."""
        return f"{self.section}.{self.name}"

    @property
    def uses(self) -> tuple[str, ...]:
        """All tables of earlier builders that it may look at."""
        return (*self.needs, *self.may_use)


OTHER_NAMES = ("gene_alias", "mygene_answer")
"""Tables that every builder which joins gene names looks at."""

BUILDERS: tuple[Builder, ...] = (
    Builder(
        "nodes",
        "gene",
        GeneConfig,
        build_genes,
        estimate_gene,
        needs=(),
        makes=("gene", "gene_attribute", "transcript", "gene_part"),
    ),
    Builder(
        "nodes",
        "identifiers",
        IdentifierConfig,
        build_identifiers,
        estimate_identifiers,
        needs=("gene",),
        makes=("gene_alias",),
        may_read=("aliases_*",),
        may_share=("string_aliases",),
        by_default=True,
    ),
    Builder(
        "nodes",
        "mygene",
        MyGeneConfig,
        build_mygene,
        estimate_mygene,
        needs=("gene",),
        makes=("mygene_answer",),
        may_read=("genes", "gmt", "pairs_*", "regulons_*", "antibodies"),
        may_use=("gene_alias",),
    ),
    Builder(
        "nodes",
        "data_names",
        DataNamesConfig,
        build_data_names,
        estimate_data_names,
        needs=("gene",),
        makes=(),
        may_read=("genes",),
        by_default=True,
        may_use=OTHER_NAMES,
    ),
    Builder(
        "nodes",
        "peak",
        PeakConfig,
        build_peaks,
        estimate_peak,
        needs=(),
        makes=("peak",),
        may_read=("blacklist",),
    ),
    Builder(
        "nodes",
        "assembly_check",
        AssemblyCheckConfig,
        build_assembly_check,
        estimate_assembly_check,
        needs=("gene", "peak"),
        makes=("assembly_check",),
        may_share=("fasta",),
        by_default=True,
    ),
    Builder(
        "nodes",
        "region",
        RegionConfig,
        build_regions,
        estimate_region,
        needs=(),
        makes=("region",),
        may_read=("regions_*",),
    ),
    Builder(
        "nodes",
        "motif",
        MotifConfig,
        build_motifs,
        estimate_motif,
        needs=("gene",),
        makes=("motif", "motif_tf"),
        may_read=("motif_factors",),
        may_use=OTHER_NAMES,
    ),
    Builder(
        "edges",
        "gene_peak",
        GenePeakConfig,
        build_gene_peak,
        estimate_gene_peak,
        needs=("gene", "peak"),
        makes=("gene_peak",),
    ),
    Builder(
        "edges",
        "peak_region",
        PeakRegionConfig,
        build_peak_region,
        estimate_peak_region,
        needs=("peak", "region"),
        makes=("peak_region",),
    ),
    Builder(
        "edges",
        "pathways",
        PathwayConfig,
        build_pathways,
        estimate_pathways,
        needs=("gene",),
        makes=("pathway", "gene_pathway", "gene_gene"),
        may_read=("summary_data_*",),
        may_share=("string_aliases",),
        may_use=OTHER_NAMES,
    ),
    Builder(
        "edges",
        "interactions",
        InteractionConfig,
        build_interactions,
        estimate_interactions,
        needs=("gene",),
        makes=("protein", "protein_protein", "gene_protein", "gene_gene"),
        may_read=("string_info", "string_aliases"),
        may_use=OTHER_NAMES,
    ),
    Builder(
        "edges",
        "pairs",
        PairsConfig,
        build_pairs,
        estimate_pairs,
        needs=("gene",),
        makes=("gene_gene",),
        may_read=("pairs_*",),
        may_use=OTHER_NAMES,
    ),
    Builder(
        "edges",
        "regulons",
        RegulonConfig,
        build_regulons,
        estimate_regulons,
        needs=("gene",),
        makes=("tf_gene",),
        may_read=("regulons_*",),
        may_use=OTHER_NAMES,
    ),
    Builder(
        "edges",
        "motif_peak",
        MotifPeakConfig,
        build_motif_peak,
        estimate_motif_peak,
        needs=("peak", "motif"),
        makes=("motif_peak", "tf_peak"),
        may_use=("motif_tf",),
    ),
    Builder(
        "edges",
        "antibodies",
        AntibodyConfig,
        build_antibodies,
        estimate_antibodies,
        needs=("gene",),
        makes=("protein", "gene_protein"),
        may_use=OTHER_NAMES,
    ),
    Builder(
        "edges",
        "spatial",
        SpatialConfig,
        build_spatial,
        estimate_spatial,
        needs=(),
        makes=("cell", "cell_cell"),
    ),
    Builder(
        "attributes",
        "sequence",
        SequenceConfig,
        build_peak_sequence,
        estimate_sequence,
        needs=("peak",),
        makes=("peak_attribute", "promoter_attribute"),
        by_default=True,
        may_use=("gene",),
    ),
    Builder(
        "attributes",
        "annotation",
        AnnotationConfig,
        build_annotation,
        estimate_annotation,
        needs=("gene", "peak"),
        makes=("peak_annotation",),
        may_use=("gene_part", "region"),
    ),
    Builder(
        "attributes",
        "kmers",
        KmerConfig,
        build_kmers,
        estimate_kmers,
        needs=("peak",),
        makes=("peak_kmer", "promoter_kmer"),
        may_use=("gene",),
    ),
    Builder(
        "attributes",
        "bases",
        BasesConfig,
        build_bases,
        estimate_bases,
        needs=("peak",),
        makes=("peak_bases", "promoter_bases"),
        may_use=("gene",),
    ),
    Builder(
        "attributes",
        "summaries",
        SummaryConfig,
        build_summaries,
        estimate_summaries,
        needs=(),
        makes=("gene_summary", "peak_summary", "protein_summary", "summary_cell"),
        may_read=("summary_data_*", "summary_cells"),
        may_use=("gene", "peak", "protein", *OTHER_NAMES),
    ),
    Builder(
        "attributes",
        "splits",
        SplitConfig,
        build_splits,
        estimate_splits,
        needs=("chromosome",),
        makes=("chromosome_split",),
        may_use=("gene", "peak", "gene_peak"),
    ),
)

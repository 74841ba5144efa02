"""The sources a recipe may name, with what each file is; a name that ends in ``*`` stands for a family."""

from __future__ import annotations

from fnmatch import fnmatchcase

KNOWN_SOURCES = {
    "gtf": "gene annotation, GTF, GFF3 or refGene table, plain or gzip",
    "peaks": "open regions: BED, or .h5ad/.h5mu whose atac var_names are read",
    "genes": "names the data use for genes: text, one a line, or .h5ad/.h5mu whose rna var_names are read",
    "antibodies": "names of surface proteins: text, one a line, or .h5ad/.h5mu whose protein var_names are read",
    "blacklist": "regions to keep peaks out of, BED",
    "fasta": "genome sequence, FASTA, plain or bgzip",
    "gmt": "gene sets, GMT or MSigDB JSON",
    "aliases_*": "other names of genes: HGNC, NCBI gene_info, MGI marker list, or a table of two named columns",
    "regions_*": "a named set of regions, BED; regions_ccre holds candidate regulatory elements",
    "regulons_*": "a named collection of TF targets in the columns of DoRothEA, CollecTRI or TRRUST",
    "motifs": "binding motifs: MEME, JASPAR or plain PFM",
    "motif_factors": "which transcription factors bind each motif, table of gimmemotifs (motif2factors)",
    "pairs_*": "a named list of linked genes: two columns of symbols, and a score or cost if there is one",
    "string_links": "STRING protein.links or protein.links.detailed",
    "string_info": "STRING protein.info",
    "string_aliases": "STRING protein.aliases",
    "summary_data": "cells whose features are summarised, .h5ad or .h5mu",
    "summary_data_*": "further cells or modalities beside summary_data, .h5ad or .h5mu",
    "summary_cells": "training cells, the only ones summaries look at, so that no test cell leaks into an attribute: "
    "text, one a line; or set attributes.summaries.all_cells",
    "spatial": "places of cells: .h5ad with obsm['spatial'], or a table with columns cell, x, y",
}
"""Names a recipe may use below ``sources``, with what each file is."""


def describe(name: str) -> str | None:
    """Say what file a source is, or None for a name nobody knows.

    Examples
    --------
    >>> describe("regions_ccre")
    'a named set of regions, BED; regions_ccre holds candidate regulatory elements'
    >>> describe("regions_"), describe("nothing")
    (None, None)
    """
    family = next((key for key in KNOWN_SOURCES if key.endswith("*") and belongs(name, key)), None)
    return KNOWN_SOURCES.get(family or name) if not name.endswith(("*", "_")) else None


def belongs(name: str, pattern: str) -> bool:
    """Tell whether a source is the one meant, or one of the family meant (``regions_*``)."""
    return fnmatchcase(name, pattern) and name != pattern.rstrip("*")

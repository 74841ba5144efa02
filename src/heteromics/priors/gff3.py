"""A tolerant reader of gene annotation in GFF3: Ensembl, GENCODE, NCBI RefSeq and others, gzip or not.

Features are led to their genes through ``ID`` and ``Parent``, over any number of steps, and percent-encoded characters
are decoded, as the specification says (Sequence Ontology, "Generic Feature Format Version 3", 1.26). ``gffutils`` was
weighed and not used: it writes every line into a database first, which takes minutes for one genome.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import NamedTuple
from urllib.parse import unquote

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from heteromics.priors._feature_lines import (
    PART_KINDS,
    Dialect,
    Implausible,
    blocks,
    broken_line,
    chosen_lines,
    coded,
    in_list,
    joined,
    numbers,
)
from heteromics.priors.gene_models import GeneModels, Ints, Parts
from heteromics.priors.gtf import one_id_per_entrez

_PARTS = list(PART_KINDS)
_KIND_OF_PART = np.array(list(PART_KINDS.values()), dtype=np.int8)
_GENE = re.compile(r"(.*_)?(gene|pseudogene)")
_TRANSCRIPT = re.compile(r".*(RNA|transcript|_segment)")
_PREFIX = re.compile(r"(gene|transcript|rna)[:-]")
_KEYS = {
    "id": ("ID",),
    "gene_id": ("gene_id",),
    "transcript_id": ("transcript_id",),
    "gene_symbol": ("gene_name", "gene", "gene_symbol", "symbol", "Name"),
    "gene_biotype": ("gene_biotype", "gene_type", "biotype"),
    "transcript_symbol": ("transcript_name", "Name"),
    "transcript_biotype": ("transcript_biotype", "transcript_type", "biotype"),
}
_STEPS = 10  # from a part to its gene


def is_gene_type(feature: str) -> bool:
    """Tell whether a feature is a gene: ``gene``, ``pseudogene``, ``ncRNA_gene`` and the like."""
    return bool(_GENE.fullmatch(feature))


def is_transcript_type(feature: str) -> bool:
    """Tell whether a feature is a transcript by its name: ``mRNA``, ``lnc_RNA``, ``V_gene_segment`` and the like."""
    return bool(_TRANSCRIPT.fullmatch(feature))


class _Block(NamedTuple):
    """Genes and what stands between them and their parts, and the parts, of one block."""

    nodes: pa.RecordBatch
    parts: pa.RecordBatch


def read_gff3(path: Path) -> GeneModels:
    """Read genes, transcripts and their parts; coordinates become 0-based half-open.

    A gene is a feature whose type ends in ``gene``. Its id is attribute ``gene_id``, or ``ID`` without ``gene-`` or
    ``gene:``; copies that NCBI gives the same GeneID (``Dbxref``) share one id and so are one gene at several places.
    A transcript is what stands between a gene and its parts; its biotype is the feature's type where none is given. One
    without ``ID`` and ``Name``, which has no parts, is named by its type and place.

    Raises
    ------
    UnreadableFile
        For a broken line (named by its number), a truncated gzip, or a file without a gene.
    """
    found = list(blocks(path, GFF3, _extract))
    nodes = pa.Table.from_batches([block.nodes for block in found]).to_pandas()
    is_gene = nodes["feature"].map({name: is_gene_type(name) for name in nodes["feature"].unique()})
    is_gene = is_gene.to_numpy(bool)
    if not is_gene.any():
        raise broken_line(path, GFF3, "no gene line in it: no feature gene, pseudogene or another that ends in 'gene'")
    for name in nodes.columns.difference(["start", "end"]):
        nodes[name] = _decoded(nodes[name])
    row_of = _first_rows(nodes["chrom"], nodes["id"])
    above = _looked_up(row_of, nodes["chrom"].to_numpy(object), nodes["parent"].to_numpy(object))
    root = _roots(above, is_gene)
    table = joined([block.parts for block in found])
    parent = _parents(table, row_of)  # (E,) row of the node
    led = np.where(parent >= 0, root[parent], -1)
    inside = led >= 0
    is_transcript = _transcripts(nodes, root, is_gene, parent[inside])
    gene_row, transcript_row = _ranks(is_gene), _ranks(is_transcript)
    kind = numbers(table["kind"]).astype(np.int8)
    parts = Parts(
        kind[inside],
        gene_row[led[inside]],
        transcript_row[parent[inside]],
        numbers(table["start"])[inside],
        numbers(table["end"])[inside],
    )
    transcripts = _transcript_rows(nodes[is_transcript], gene_row[root[is_transcript]])
    return GeneModels(_gene_rows(nodes[is_gene]), transcripts, parts, 0, int((~inside).sum()))


def _extract(batch: pa.RecordBatch) -> _Block:
    is_part = in_list(batch["feature"], _PARTS)
    of_gene = pc.match_substring_regex(batch["feature"], "gene$")
    is_node = pc.and_(pc.invert(is_part), pc.or_(of_gene, pc.match_substring(batch["attributes"], "Parent=")))
    nodes, parts = chosen_lines(batch, is_node), chosen_lines(batch, is_part)
    place = {name: nodes[name] for name in ("chrom", "feature", "strand", "start", "end")}
    text = nodes["attributes"]
    parent = pc.list_element(pc.split_pattern(_attribute(text, "Parent"), ","), 0)
    entrez = pc.struct_field(pc.extract_regex(text, r"[=,]GeneID:(?P<entrez>\d+)"), "entrez")
    values = {name: _first_given(text, keys) for name, keys in _KEYS.items()}
    named = pc.binary_join_element_wise(values["id"], values["gene_id"], values["gene_symbol"], "")
    unnamed = pc.and_(pc.equal(named, ""), pc.match_substring_regex(nodes["feature"], "gene$"))
    unassigned = pc.invert(pc.match_substring(parts["attributes"], "="))
    if pc.any(unnamed).as_py() or pc.any(unassigned).as_py():
        raise Implausible("a gene without a name, or a line without attributes")
    columns = {**place, **values, "parent": parent, "entrez": pc.fill_null(entrez, "")}
    return _Block(pa.RecordBatch.from_pydict(columns), _part_lines(parts))


def _part_lines(parts: pa.RecordBatch) -> pa.RecordBatch:
    """Return parts with their parent; one with several parents is listed for each."""
    parents = pc.split_pattern(_attribute(parts["attributes"], "Parent"), ",")
    line = pc.list_parent_indices(parents)
    kind = _KIND_OF_PART[numbers(pc.index_in(parts["feature"], pa.array(_PARTS)))]
    columns = {name: parts[name].take(line) for name in ("chrom", "start", "end")}
    text = {"chrom": columns.pop("chrom"), "parent": pc.list_flatten(parents)}
    encoded = {name: pc.dictionary_encode(column) for name, column in text.items()}
    return pa.RecordBatch.from_pydict({"kind": kind[numbers(line)], **columns, **encoded})


def _attribute(attributes: pa.Array, key: str) -> pa.Array:
    """Return the value of one attribute as written; empty where it is missing."""
    found = pc.extract_regex(attributes, rf"(?:^|;)\s*{key}=(?P<value>[^;]*)")
    return pc.utf8_trim_whitespace(pc.fill_null(pc.struct_field(found, "value"), ""))


def _first_given(attributes: pa.Array, keys: tuple[str, ...]) -> pa.Array:
    result = _attribute(attributes, keys[0])
    for key in keys[1:]:
        lacking = pc.equal(result, "")
        if not pc.any(lacking).as_py():
            break
        result = pc.replace_with_mask(result, lacking, _attribute(attributes.filter(lacking), key))
    return result


def _decoded(column: pd.Series) -> pd.Series:
    """Decode ``%3B`` and the like."""
    encoded = column.str.contains("%", regex=False)
    return column.where(~encoded, column[encoded].map(unquote).reindex(column.index)) if encoded.any() else column


def _first_rows(chrom: pd.Series, name: pd.Series) -> pd.Series:
    """Return the first row of each ID on each chromosome; a parent is looked for on the chromosome of its child."""
    keys = pd.MultiIndex.from_arrays([chrom, name])
    rows = pd.Series(np.arange(len(chrom)), index=keys)
    return rows[~keys.duplicated() & (name != "").to_numpy()]


def _looked_up(row_of: pd.Series, chrom: NDArray[np.object_], name: NDArray[np.object_]) -> Ints:
    keys = pd.MultiIndex.from_arrays([chrom, name])
    position = row_of.index.get_indexer(keys)
    found: Ints = np.where(position >= 0, row_of.to_numpy(np.int64)[position], -1) if len(row_of) else position
    return found


def _parents(parts: pa.Table, row_of: pd.Series) -> Ints:
    """Return the node each part names as its parent, -1 where there is none."""
    if not parts.num_rows:
        return np.empty(0, dtype=np.int64)
    (chrom, chroms), (parent, parents) = coded(parts, "chrom"), coded(parts, "parent")
    pair, distinct = pd.factorize(chrom * len(parents) + parent)
    names = _decoded(pd.Series(parents.to_pylist(), dtype=object)).to_numpy(object)
    places = _decoded(pd.Series(chroms.to_pylist(), dtype=object)).to_numpy(object)
    return _looked_up(row_of, places[distinct // len(parents)], names[distinct % len(parents)])[pair]


def _roots(above: Ints, is_gene: NDArray[np.bool_]) -> Ints:
    """Follow parents up to a gene; return its row, -1 where the way ends without one."""
    root = np.arange(above.size)
    for _ in range(_STEPS):
        going = (root >= 0) & ~is_gene[root]
        if not going.any():
            break
        root[going] = above[root[going]]
    root[(root >= 0) & ~is_gene[root]] = -1  # a circle
    return root


def _transcripts(nodes: pd.DataFrame, root: Ints, is_gene: NDArray[np.bool_], parents: Ints) -> NDArray[np.bool_]:
    named = nodes["feature"].map({name: is_transcript_type(name) for name in nodes["feature"].unique()})
    chosen = named.to_numpy(bool)
    chosen[parents] = True
    return chosen & ~is_gene & (root >= 0)


def _ranks(chosen: NDArray[np.bool_]) -> Ints:
    """Count the rows chosen from 0; -1 for the others."""
    return np.where(chosen, np.cumsum(chosen) - 1, -1)


def _gene_rows(nodes: pd.DataFrame) -> pd.DataFrame:
    given = nodes["gene_id"] != ""
    gene_id = nodes["gene_id"].where(given, _bare(nodes["id"], nodes["gene_symbol"]))
    entrez = nodes["entrez"].where(~given, "")
    return pd.DataFrame(
        {
            "gene_id": one_id_per_entrez(gene_id.tolist(), entrez.tolist()),
            "symbol": nodes["gene_symbol"].to_numpy(object),
            "biotype": nodes["gene_biotype"].to_numpy(object),
            "chrom": nodes["chrom"].to_numpy(object),
            "chrom_start": nodes["start"].to_numpy(np.int64),
            "chrom_end": nodes["end"].to_numpy(np.int64),
            "strand": nodes["strand"].to_numpy(object),
        }
    )


def _transcript_rows(nodes: pd.DataFrame, gene: Ints) -> pd.DataFrame:
    given, typed = nodes["transcript_id"] != "", nodes["transcript_biotype"] != ""
    place = nodes["chrom"] + ":" + nodes["start"].astype(str) + "-" + nodes["end"].astype(str)
    bare = _bare(nodes["id"], nodes["transcript_symbol"])
    bare = bare.where(bare != "", nodes["feature"] + ":" + place)
    return pd.DataFrame(
        {
            "transcript_id": nodes["transcript_id"].where(given, bare).to_numpy(object),
            "gene": gene,
            "symbol": nodes["transcript_symbol"].to_numpy(object),
            "biotype": nodes["transcript_biotype"].where(typed, nodes["feature"]).to_numpy(object),
            "chrom_start": nodes["start"].to_numpy(np.int64),
            "chrom_end": nodes["end"].to_numpy(np.int64),
        }
    )


def _bare(identifier: pd.Series, otherwise: pd.Series) -> pd.Series:
    """Return an ID without what some sources put before it."""
    bare = identifier.str.replace(_PREFIX, "", n=1, regex=True)
    return bare.where(identifier != "", otherwise)


def _reads(feature: str) -> bool:
    return feature in PART_KINDS or is_gene_type(feature) or is_transcript_type(feature)


def _problem(feature: str, attributes: str) -> str:
    gtf = " This looks like GTF, the lines before it like GFF3; give one of the two." if '"' in attributes else ""
    if feature in PART_KINDS and "=" not in attributes:
        return f"found no attribute of the form key=value.{gtf}"
    if is_gene_type(feature) and not re.search(
        r"(^|;)\s*(ID|gene_id|gene_name|gene|gene_symbol|symbol|Name)=", attributes
    ):
        return f"found no ID, gene_id or Name among the attributes of a gene.{gtf}"
    return ""


GFF3 = Dialect("GFF3", _reads, _problem)

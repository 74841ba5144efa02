"""A tolerant reader of gene annotation in GTF: Ensembl, GENCODE, NCBI, UCSC and 10x dialects, gzip or not.

``pyranges.read_gtf`` was weighed and not used, see :mod:`heteromics.priors._feature_lines`.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

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
from heteromics.priors.gene_models import GeneModels, Ints, Kind, Parts, spans

_KINDS = {"gene": Kind.GENE, "transcript": Kind.TRANSCRIPT, "mRNA": Kind.TRANSCRIPT, **PART_KINDS}
_FEATURES = list(_KINDS)
_KIND_OF_FEATURE = np.array(list(_KINDS.values()), dtype=np.int8)
_HEAD = (  # the ids where nearly all files have them: first; the key cannot be met elsewhere
    r'^\s*gene_id "(?P<gene>[^"]*)";'
    r'(?:\s*gene_version "[^"]*";)?(?:\s*transcript_id "(?P<transcript>[^"]*)")?'
)
_GENE_KEYS = {"symbol": ("gene_name", "gene", "gene_symbol"), "biotype": ("gene_biotype", "gene_type")}
_TRANSCRIPT_KEYS = {"symbol": ("transcript_name",), "biotype": ("transcript_biotype", "transcript_type")}


class _Block(NamedTuple):
    """Lines of one block, and what it says of the genes and transcripts that occur in it."""

    lines: pa.RecordBatch
    genes: pa.RecordBatch
    transcripts: pa.RecordBatch


def read_gtf(path: Path) -> GeneModels:
    """Read genes, transcripts and their parts; coordinates become 0-based half-open.

    Comments, empty lines, DOS line ends, missing ``gene_name`` and any attribute order are accepted. A gene without a
    ``gene`` line reaches from the first to the last base of its lines on one chromosome and strand; a transcript
    likewise.

    Raises
    ------
    UnreadableFile
        For a broken line (named by its number), a truncated gzip, or a file without a gene.
    """
    found = list(blocks(path, GTF, _extract))
    table = joined([block.lines for block in found])
    kind = numbers(table["kind"]).astype(np.int8)
    if not np.isin(kind, [Kind.GENE, Kind.TRANSCRIPT, Kind.EXON]).any():
        raise broken_line(path, GTF, "no gene, transcript or exon line in it")
    (gene, gene_ids), (transcript, transcript_ids) = coded(table, "gene_id"), coded(table, "transcript_id")
    (chrom, chroms), (strand, strands) = coded(table, "chrom"), coded(table, "strand")
    start, end = numbers(table["start"]), numbers(table["end"])
    del table
    place = pd.factorize((gene * len(chroms) + chrom) * len(strands) + strand)[0]  # (N,)
    rows, owner = _gene_rows(place, kind, start, end)
    described = _described([block.genes for block in found], gene_ids, "gene_id")
    genes = pd.DataFrame(
        {
            "gene_id": gene_ids.take(pa.array(gene[rows.line])).to_pylist(),
            "symbol": described["symbol"][gene[rows.line]],
            "biotype": described["biotype"][gene[rows.line]],
            "chrom": chroms.take(pa.array(chrom[rows.line])).to_pylist(),
            "chrom_start": rows.start,
            "chrom_end": rows.end,
            "strand": strands.take(pa.array(strand[rows.line])).to_pylist(),
        }
    )
    named = described["entrez"][gene[rows.line]]
    genes["gene_id"] = one_id_per_entrez(genes["gene_id"].tolist(), named.tolist())
    has_id = numbers(pc.not_equal(transcript_ids, "").cast(pa.int8())).astype(bool)[transcript] & (kind != Kind.GENE)
    number = np.full(kind.size, -1, dtype=np.int64)
    number[has_id], first = _numbered(transcript[has_id] * len(genes) + owner[has_id])
    line = np.flatnonzero(has_id)[first]  # (T,)
    described = _described([block.transcripts for block in found], transcript_ids, "transcript_id")
    low, high = spans(number[has_id], start[has_id], end[has_id], line.size)
    transcripts = pd.DataFrame(
        {
            "transcript_id": transcript_ids.take(pa.array(transcript[line])).to_pylist(),
            "gene": owner[line],
            "symbol": described["symbol"][transcript[line]],
            "biotype": described["biotype"][transcript[line]],
            "chrom_start": low,
            "chrom_end": high,
        }
    )
    is_part = kind >= Kind.EXON
    parts = Parts(kind, owner, number, start, end).where(is_part)
    return GeneModels(genes, transcripts, parts, rows.aggregated)


def _extract(batch: pa.RecordBatch) -> _Block:
    kept = chosen_lines(batch, in_list(batch["feature"], _FEATURES))
    kind = _KIND_OF_FEATURE[numbers(pc.index_in(kept["feature"], pa.array(_FEATURES)))]
    gene_id, transcript_id = _ids(kept["attributes"], kind)
    if pc.any(pc.equal(gene_id, "")).as_py():
        raise Implausible("a line without gene_id")
    lines = {"chrom": kept["chrom"], "strand": kept["strand"], "gene_id": gene_id, "transcript_id": transcript_id}
    encoded = {name: pc.dictionary_encode(column) for name, column in lines.items()}
    genes = _first_lines(encoded["gene_id"], kind == Kind.GENE)
    transcripts = _first_lines(encoded["transcript_id"], kind == Kind.TRANSCRIPT)
    return _Block(
        pa.RecordBatch.from_pydict({"kind": kind, **encoded, "start": kept["start"], "end": kept["end"]}),
        _values(kept["attributes"], gene_id, genes, kind == Kind.GENE, _GENE_KEYS, "gene_id"),
        _values(kept["attributes"], transcript_id, transcripts, kind == Kind.TRANSCRIPT, _TRANSCRIPT_KEYS),
    )


def _ids(attributes: pa.Array, kind: NDArray[np.int8]) -> tuple[pa.Array, pa.Array]:
    """Return gene and transcript id of each line, empty where there is none."""
    head = pc.extract_regex(attributes, _HEAD)
    gene_id = pc.fill_null(pc.struct_field(head, "gene"), "")
    transcript_id = pc.fill_null(pc.struct_field(head, "transcript"), "")
    return (
        _filled(gene_id, attributes, "gene_id", pc.equal(gene_id, "")),
        _filled(transcript_id, attributes, "transcript_id", _and(pc.equal(transcript_id, ""), kind != Kind.GENE)),
    )


def _and(left: pa.Array, right: NDArray[np.bool_]) -> pa.Array:
    return pc.and_(left, pa.array(right))


def _filled(found: pa.Array, attributes: pa.Array, key: str, lacking: pa.Array) -> pa.Array:
    """Look the key up, wherever it stands, in the lines that lack it so far."""
    if not pc.any(lacking).as_py():
        return found
    return pc.replace_with_mask(found, lacking, attribute(attributes.filter(lacking), key))


def attribute(attributes: pa.Array, key: str) -> pa.Array:
    """Return the value of one GTF attribute, quoted or not; empty where it is missing."""
    quick = pc.extract_regex(attributes, rf'(?:^|[;\s]){key} "(?P<value>[^";]*)"')
    found = pc.struct_field(quick, "value")
    lacking = pc.is_null(found)
    if not pc.any(lacking).as_py():
        return found
    before = r'^(?:[^";]*(?:"[^"]*"[^";]*)?;)*?\s*'  # whole attributes: a semicolon may stand between quotes
    pattern = rf'{before}{key}\s+(?:"(?P<quoted>[^"]*)"|(?P<bare>[^";\s]+))'
    thorough = pc.extract_regex(attributes.filter(lacking), pattern)
    fields = (pc.struct_field(thorough, name) for name in ("quoted", "bare"))
    value = pc.fill_null(pc.binary_join_element_wise(*fields, ""), "")
    return pc.replace_with_mask(pc.fill_null(found, ""), lacking, value)


def _first_lines(ids: pa.DictionaryArray, own: NDArray[np.bool_]) -> NDArray[np.int64]:
    """Return the lines to describe by: those of its own, and the first other of each id that has none here."""
    codes = numbers(ids.indices)
    named = numbers(pc.not_equal(ids.dictionary, "").cast(pa.int8())).astype(bool)
    described = np.zeros(len(ids.dictionary), dtype=bool)
    described[codes[own]] = True
    other = np.flatnonzero(~described[codes] & named[codes])
    first = other[np.unique(codes[other], return_index=True)[1]]
    return np.sort(np.concatenate([np.flatnonzero(own & named[codes]), first]))


def _values(
    attributes: pa.Array,
    ids: pa.Array,
    lines: NDArray[np.int64],
    own: NDArray[np.bool_],
    keys: dict[str, tuple[str, ...]],
    name: str = "transcript_id",
) -> pa.RecordBatch:
    at = pa.array(lines)
    text = attributes.take(at)
    columns = {field: _first_given(text, among) for field, among in keys.items()}
    entrez = pc.struct_field(pc.extract_regex(text, r'[";]GeneID:(?P<entrez>\d+)"'), "entrez")
    columns |= {name: ids.take(at), "own": pa.array(own[lines]), "entrez": pc.fill_null(entrez, "")}
    return pa.RecordBatch.from_pydict(columns)


def _first_given(attributes: pa.Array, keys: Sequence[str]) -> pa.Array:
    result = attribute(attributes, keys[0])
    for key in keys[1:]:
        result = _filled(result, attributes, key, pc.equal(result, ""))
    return result


def _described(batches: list[pa.RecordBatch], ids: pa.Array, name: str) -> dict[str, NDArray[np.object_]]:
    """Return symbol, biotype and Entrez id of each id: of its own line, else of its first line."""
    table = pa.Table.from_batches(batches).to_pandas().sort_values("own", ascending=False, kind="stable")
    first = table.drop_duplicates(name).set_index(name).reindex(ids.to_pylist())
    return {key: first[key].fillna("").to_numpy(object) for key in ("symbol", "biotype", "entrez")}


class _GeneRows(NamedTuple):
    """Genes by row: a line that tells chromosome and strand, and bounds; ``aggregated`` of them had no gene line."""

    line: Ints
    start: Ints
    end: Ints
    aggregated: int


def _gene_rows(place: Ints, kind: NDArray[np.int8], start: Ints, end: Ints) -> tuple[_GeneRows, Ints]:
    """Return the genes, written ones first, and the row of the gene of each line, shape (N,)."""
    n_places = int(place.max()) + 1
    written = np.flatnonzero(kind == Kind.GENE)
    has_line = np.zeros(n_places, dtype=bool)
    has_line[place[written]] = True
    others = np.flatnonzero(~has_line[place])
    number, first = _numbered(place[others])
    low, high = spans(number, start[others], end[others], first.size)
    row = np.zeros(n_places, dtype=np.int64)
    row[place[written][::-1]] = np.arange(written.size)[::-1]  # the first line of a place stands for it
    row[place[others[first]]] = np.arange(first.size) + written.size
    rows = _GeneRows(
        np.concatenate([written, others[first]]),
        np.concatenate([start[written], low]),
        np.concatenate([end[written], high]),
        first.size,
    )
    owner = row[place]
    _share_out(owner, place, rows, written, start, end)
    return rows, owner


def _share_out(owner: Ints, place: Ints, rows: _GeneRows, written: Ints, start: Ints, end: Ints) -> None:
    """Give each line of a place with several gene lines to the first of these that holds it."""
    several = np.flatnonzero(np.bincount(place[written])[place[written]] > 1)
    for row in several[::-1].tolist():
        line = np.flatnonzero(place == place[written[row]])
        inside = (start[line] >= rows.start[row]) & (end[line] <= rows.end[row])
        owner[line[inside]] = row


def _numbered(keys: Ints) -> tuple[Ints, Ints]:
    """Count distinct keys in order of occurrence; return the number of each key and where each number occurs first."""
    number, distinct = pd.factorize(keys)
    first = np.empty(len(distinct), dtype=np.int64)
    first[number[::-1]] = np.arange(number.size)[::-1]
    return number.astype(np.int64), first


def one_id_per_entrez(gene_ids: Sequence[str], entrez: Sequence[str]) -> list[str]:
    """Give genes of one Entrez id the gene id that comes first: NCBI numbers the copies of pseudoautosomal genes.

    Examples
    --------
    >>> one_id_per_entrez(["CRLF2", "ACTB", "CRLF2_1", "X"], ["64109", "60", "64109", ""])
    ['CRLF2', 'ACTB', 'CRLF2', 'X']
    """
    first: dict[str, str] = {}
    return [
        first.setdefault(number, gene_id) if number else gene_id
        for gene_id, number in zip(gene_ids, entrez, strict=True)
    ]


def _reads(feature: str) -> bool:
    return feature in _KINDS


def _problem(_feature: str, attributes: str) -> str:
    if attribute(pa.array([attributes]), "gene_id")[0].as_py():
        return ""
    gff = " This looks like GFF3, the lines before it like GTF; give one of the two." if "ID=" in attributes else ""
    return f"found no gene_id among the attributes.{gff}"


GTF = Dialect("GTF", _reads, _problem)

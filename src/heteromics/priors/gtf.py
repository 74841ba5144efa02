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
from heteromics.priors.intervals import overlaps, union
from heteromics.priors.links import Intervals

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
    likewise. Where the transcripts of such a gene lie apart, it stands at several places: the GTF of UCSC gives copies
    of a gene one id, and one gene over all of them would be megabases long.

    Raises
    ------
    UnreadableFile
        For a broken line (named by its number), a truncated gzip, or a file without a gene.
    """
    found = list(blocks(path, GTF, _extract))
    lines = _lines([block.lines for block in found])
    if not np.isin(lines.kind, [Kind.GENE, Kind.TRANSCRIPT, Kind.EXON]).any():
        raise broken_line(path, GTF, "no gene, transcript or exon line in it")
    rows, owner = _gene_rows(lines)
    genes = _genes(lines, rows, _described([block.genes for block in found], lines.gene, "gene_id"))
    number, first = _transcript_rows(lines, owner)
    described = _described([block.transcripts for block in found], lines.transcript, "transcript_id")
    transcripts = _transcripts(lines, owner, number, first, described)
    parts = Parts(lines.kind, owner, number, lines.start, lines.end).where(lines.kind >= Kind.EXON)
    return GeneModels(genes, transcripts, parts, rows.aggregated)


class _Coded(NamedTuple):
    """A text column: the code of each line, shape (N,), and the distinct texts."""

    code: Ints
    text: pa.Array

    def at(self, lines: Ints) -> list[str]:
        """Return the texts of some lines."""
        found: list[str] = self.text.take(pa.array(self.code[lines])).to_pylist()
        return found


class _Lines(NamedTuple):
    """All lines that were kept, each field of N; coordinates 0-based half-open."""

    kind: NDArray[np.int8]
    chrom: _Coded
    strand: _Coded
    gene: _Coded
    transcript: _Coded
    start: Ints
    end: Ints


class _GeneRows(NamedTuple):
    """Genes by row: a line that tells chromosome and strand, and bounds; ``aggregated`` of them had no gene line."""

    line: Ints
    start: Ints
    end: Ints
    aggregated: int


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


def _described(batches: list[pa.RecordBatch], ids: _Coded, name: str) -> dict[str, NDArray[np.object_]]:
    """Return symbol, biotype and Entrez id of each id: of its own line, else of its first line."""
    table = pa.Table.from_batches(batches).to_pandas().sort_values("own", ascending=False, kind="stable")
    first = table.drop_duplicates(name).set_index(name).reindex(ids.text.to_pylist())
    return {key: first[key].fillna("").to_numpy(object) for key in ("symbol", "biotype", "entrez")}


def _lines(batches: list[pa.RecordBatch]) -> _Lines:
    table = joined(batches)
    chrom, strand, gene, transcript = (
        _Coded(*coded(table, name)) for name in ("chrom", "strand", "gene_id", "transcript_id")
    )
    kind = numbers(table["kind"]).astype(np.int8)
    return _Lines(kind, chrom, strand, gene, transcript, numbers(table["start"]), numbers(table["end"]))


def _gene_rows(lines: _Lines) -> tuple[_GeneRows, Ints]:
    """Return the genes, written ones first, and the row of the gene of each line, shape (N,)."""
    strands, chroms = len(lines.strand.text), len(lines.chrom.text)
    place = pd.factorize((lines.gene.code * chroms + lines.chrom.code) * strands + lines.strand.code)[0]  # (N,)
    n_places = int(place.max()) + 1
    written = np.flatnonzero(lines.kind == Kind.GENE)
    has_line = np.zeros(n_places, dtype=bool)
    has_line[place[written]] = True
    others = np.flatnonzero(~has_line[place])
    number, first = _numbered(
        _loci(place[others], lines.transcript.code[others], lines.start[others], lines.end[others])
    )
    low, high = spans(number, lines.start[others], lines.end[others], first.size)
    row = np.zeros(n_places, dtype=np.int64)
    row[place[written][::-1]] = np.arange(written.size)[::-1]  # the first line of a place stands for it
    rows = _GeneRows(
        np.concatenate([written, others[first]]),
        np.concatenate([lines.start[written], low]),
        np.concatenate([lines.end[written], high]),
        first.size,
    )
    owner = row[place]
    owner[others] = number + written.size
    _share_out(owner, place, rows, written, lines)
    return rows, owner


def _loci(place: Ints, transcript: Ints, start: Ints, end: Ints) -> Ints:
    """Give one number to lines of one place whose transcripts overlap or touch, in a chain."""
    unit, first = _numbered(transcript * (place.max(initial=0) + 1) + place)
    spanned = Intervals(place[first], *spans(unit, start, end, first.size))
    return overlaps(spanned, union(spanned)).right[unit]


def _share_out(owner: Ints, place: Ints, rows: _GeneRows, written: Ints, lines: _Lines) -> None:
    """Give each line of a place with several gene lines to the first of these that holds it."""
    several = np.flatnonzero(np.bincount(place[written])[place[written]] > 1)
    if not several.size:
        return
    rank = pd.Series(several).groupby(place[written[several]]).cumcount().to_numpy()
    asked = np.flatnonzero(np.isin(place, place[written[several]]))
    row_of = np.full(int(place.max()) + 1, -1, dtype=np.int64)
    for turn in range(int(rank.max()), -1, -1):
        row_of[place[written[several[rank == turn]]]] = several[rank == turn]
        row = row_of[place[asked]]
        inside = (row >= 0) & (lines.start[asked] >= rows.start[row]) & (lines.end[asked] <= rows.end[row])
        owner[asked[inside]] = row[inside]


def _genes(lines: _Lines, rows: _GeneRows, described: dict[str, NDArray[np.object_]]) -> pd.DataFrame:
    told = {name: values[lines.gene.code[rows.line]] for name, values in described.items()}
    return pd.DataFrame(
        {
            "gene_id": one_id_per_entrez(lines.gene.at(rows.line), told["entrez"].tolist()),
            "symbol": told["symbol"],
            "biotype": told["biotype"],
            "chrom": lines.chrom.at(rows.line),
            "chrom_start": rows.start,
            "chrom_end": rows.end,
            "strand": lines.strand.at(rows.line),
        }
    )


def _transcript_rows(lines: _Lines, owner: Ints) -> tuple[Ints, Ints]:
    """Return the number of the transcript of each line, -1 where it names none, and a line of each transcript."""
    given = numbers(pc.not_equal(lines.transcript.text, "").cast(pa.int8())).astype(bool)
    named = np.flatnonzero(given[lines.transcript.code] & (lines.kind != Kind.GENE))
    number = np.full(lines.kind.size, -1, dtype=np.int64)
    number[named], first = _numbered(lines.transcript.code[named] * (owner.max() + 1) + owner[named])
    return number, named[first]


def _transcripts(
    lines: _Lines, owner: Ints, number: Ints, first: Ints, described: dict[str, NDArray[np.object_]]
) -> pd.DataFrame:
    named = number >= 0
    low, high = spans(number[named], lines.start[named], lines.end[named], first.size)
    return pd.DataFrame(
        {
            "transcript_id": lines.transcript.at(first),
            "gene": owner[first],
            "symbol": described["symbol"][lines.transcript.code[first]],
            "biotype": described["biotype"][lines.transcript.code[first]],
            "chrom_start": low,
            "chrom_end": high,
        }
    )


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

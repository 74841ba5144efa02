"""A tolerant reader of gene annotation in GTF: Ensembl, GENCODE, NCBI, UCSC and 10x dialects, gzip or not.

``pyranges.read_gtf`` was weighed and not used: it turns every attribute of every line into a column, which takes three
to four times as long, and meets a broken line with an AttributeError that names no line. Here Arrow splits the lines
and its RE2 takes out the three attributes that are needed.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv as csv
from numpy.typing import NDArray

from heteromics.errors import UnreadableFile, some
from heteromics.priors._files import is_gzip, text_lines, truncated

Ints = NDArray[np.int64]

_COLUMNS = ("chrom", "source", "feature", "start", "end", "score", "strand", "frame", "attributes")
_KEPT = ("chrom", "feature", "start", "end", "strand", "attributes")
_FEATURES = pa.array(["gene", "transcript", "mRNA", "exon"])
_SYMBOL_KEYS = ("gene_name", "gene", "gene_symbol")
_BIOTYPE_KEYS = ("gene_biotype", "gene_type")
_STRANDS = ("+", "-", ".", "?")


@dataclass(frozen=True, slots=True)
class Annotation:
    """Genes and exons of a GTF.

    Attributes
    ----------
    genes
        One row per gene and place, in file order: ``gene_id`` as written, ``symbol`` and ``biotype`` (empty where not
        given), ``chrom``, ``chrom_start``, ``chrom_end`` (0-based half-open), ``strand`` (``+``, ``-`` or ``.``).
        An id that stands at two places has two rows.
    exon_gene, exon_start, exon_end
        Row in ``genes`` and bounds (0-based half-open) of every exon, each shape (E,), int64.
    aggregated
        How many genes had no ``gene`` line and were put together from their transcripts and exons.
    """

    genes: pd.DataFrame
    exon_gene: Ints
    exon_start: Ints
    exon_end: Ints
    aggregated: int


def read_gtf(path: Path) -> Annotation:
    """Read genes and exons; coordinates become 0-based half-open.

    Comments, empty lines, DOS line ends, missing ``gene_name`` and any attribute order are accepted.

    Raises
    ------
    UnreadableFile
        For a broken line (named by its number), a truncated gzip, or a file without a gene.
    """
    if path.stat().st_size == 0:
        raise UnreadableFile(f"{path} is empty. Expected GTF lines.")
    rows, attributes = _scan(path)
    lines = _encoded(rows)
    described = _described(attributes)
    of_gene = lines["feature"].to_numpy() == "gene"
    written = lines[of_gene]
    others = lines[~of_gene & ~lines["gene_id"].isin(written["gene_id"])]
    place = ["gene_id", "chrom", "strand"]
    inferred = others.groupby(place, observed=True, sort=False).agg(start=("start", "min"), end=("end", "max"))
    genes = pd.concat([written[[*place, "start", "end"]], inferred.reset_index()], ignore_index=True)
    exons = lines[lines["feature"].to_numpy() == "exon"]
    first = genes.drop_duplicates(place).reset_index(names="row")[[*place, "row"]]
    exon_row = exons[place].merge(first, on=place, how="left")["row"].fillna(-1).to_numpy(np.int64)  # (E,)
    genes = genes.astype(dict.fromkeys(place, str)).join(described, on="gene_id")
    genes["strand"] = genes["strand"].replace("?", ".")
    genes = genes.rename(columns={"start": "chrom_start", "end": "chrom_end"})
    genes["chrom_start"] -= 1
    inside = exon_row >= 0
    start, end = exons["start"].to_numpy(np.int64)[inside] - 1, exons["end"].to_numpy(np.int64)[inside]
    return Annotation(genes, exon_row[inside], start, end, len(inferred))


def _scan(path: Path) -> tuple[pa.Table, pa.Table]:
    """Return places of all gene, transcript and exon lines, and the attributes of one line per gene and block."""
    rows, attributes = [], []
    options = {
        "read_options": csv.ReadOptions(column_names=_COLUMNS, block_size=8 << 20, use_threads=True),
        "parse_options": csv.ParseOptions(delimiter="\t", quote_char=False, invalid_row_handler=_comment_or_broken),
        "convert_options": csv.ConvertOptions(
            include_columns=_KEPT,
            column_types={name: pa.int64() if name in {"start", "end"} else pa.string() for name in _KEPT},
            strings_can_be_null=False,
        ),
    }
    try:
        with pa.OSFile(str(path)) as raw:
            stream = pa.CompressedInputStream(raw, "gzip") if is_gzip(path) else raw
            for batch in csv.open_csv(stream, **options):
                kept = batch.filter(pc.is_in(batch["feature"], _FEATURES))
                gene_id = _attribute(kept["attributes"], "gene_id")
                if not _plausible(kept, gene_id):
                    raise broken_line(path, "a line that is no GTF")
                rows.append(kept.drop_columns(["attributes"]).append_column("gene_id", gene_id))
                attributes.append(_one_per_gene(kept, gene_id))
    except pa.ArrowInvalid as error:
        raise broken_line(path, str(error)) from error
    except OSError as error:
        raise truncated(path, str(error)) from error
    if not any(batch.num_rows for batch in rows):
        raise broken_line(path, "no gene, transcript or exon line in it")
    return pa.Table.from_batches(rows), pa.Table.from_batches(attributes)


def _comment_or_broken(row: csv.InvalidRow) -> str:
    return "skip" if _is_comment(row.text) else "error"


def _is_comment(line: str) -> bool:
    return line.startswith(("#", "track ", "browser ")) or not line.strip()


def _attribute(attributes: pa.Array, key: str) -> pa.Array:
    """Return the value of one attribute, quoted or not; empty where it is missing."""
    before = r'^(?:[^";]*(?:"[^"]*"[^";]*)?;)*?\s*'  # whole attributes: a semicolon may stand between quotes
    pattern = rf'{before}{key}\s+(?:"(?P<quoted>[^"]*)"|(?P<bare>[^";\s]+))'
    found = pc.extract_regex(attributes, pattern)
    return pc.fill_null(
        pc.binary_join_element_wise(pc.struct_field(found, "quoted"), pc.struct_field(found, "bare"), ""), ""
    )


def _first_given(attributes: pa.Array, keys: tuple[str, ...]) -> pa.Array:
    result = _attribute(attributes, keys[0])
    for key in keys[1:]:
        if pc.all(pc.not_equal(result, "")).as_py():
            break
        result = pc.if_else(pc.equal(result, ""), _attribute(attributes, key), result)
    return result


def _plausible(kept: pa.RecordBatch, gene_id: pa.Array) -> bool:
    tests = (
        pc.greater_equal(kept["start"], 1),
        pc.greater_equal(kept["end"], kept["start"]),
        pc.is_in(kept["strand"], pa.array(_STRANDS)),
        pc.not_equal(gene_id, ""),
    )
    return all(pc.all(test).as_py() is not False for test in tests)


def _one_per_gene(kept: pa.RecordBatch, gene_id: pa.Array) -> pa.RecordBatch:
    """Return feature, id and attributes of the gene lines and of each gene's first other line in this block."""
    codes = pd.factorize(gene_id.to_numpy(zero_copy_only=False))[0]
    first = np.zeros(len(codes), dtype=bool)
    first[np.unique(codes, return_index=True)[1]] = True
    first |= pc.equal(kept["feature"], "gene").to_numpy(zero_copy_only=False)
    chosen = pa.array(first)
    columns = {"gene_id": gene_id, "feature": kept["feature"], "attributes": kept["attributes"]}
    return pa.RecordBatch.from_pydict({name: column.filter(chosen) for name, column in columns.items()})


def _encoded(rows: pa.Table) -> pd.DataFrame:
    names = ("gene_id", "chrom", "strand", "feature")
    columns = {name: rows[name].combine_chunks().dictionary_encode().to_pandas() for name in names}
    return pd.DataFrame({**columns, "start": rows["start"].to_pandas(), "end": rows["end"].to_pandas()})


def _described(attributes: pa.Table) -> pd.DataFrame:
    """Return symbol and biotype by gene id: of its gene line, else of its first line."""
    text = attributes["attributes"].combine_chunks()
    table = pd.DataFrame(
        {
            "gene_id": attributes["gene_id"].to_pandas(),
            "other": attributes["feature"].to_pandas() != "gene",
            "symbol": _first_given(text, _SYMBOL_KEYS).to_pandas(),
            "biotype": _first_given(text, _BIOTYPE_KEYS).to_pandas(),
        }
    )
    ordered = table.sort_values("other", kind="stable")
    return ordered.drop_duplicates("gene_id").set_index("gene_id")[["symbol", "biotype"]]


def broken_line(path: Path, otherwise: str) -> UnreadableFile:
    """Return the error that names the first broken line of a GTF; ``otherwise`` is said where none is found."""
    read = 0
    for number, line in text_lines(path):
        if _is_comment(line):
            continue
        read += 1
        problem = _problem(line.split("\t"))
        if problem:
            return UnreadableFile(f"{path}, line {number}: {problem}\n  {line[:120]}")
    return UnreadableFile(
        f"{path}: {otherwise} ({read:,} lines read). Expected GTF with gene, transcript or exon lines."
    )


def _problem(fields: list[str]) -> str:
    """Say what is wrong with one line, or nothing."""
    if len(fields) != len(_COLUMNS):
        hint = "" if len(fields) > 1 else " Were tabs replaced by blanks?"
        return f"found {len(fields)} tab-separated columns, expected 9.{hint}"
    values = dict(zip(_COLUMNS, fields, strict=True))
    start, end = values["start"].strip(), values["end"].strip()
    if not (re.fullmatch(r"\d+", start) and re.fullmatch(r"\d+", end)):
        return f"found start {start!r} and end {end!r}, expected whole numbers."
    if values["feature"] not in _FEATURES.to_pylist():
        return ""
    if not 1 <= int(start) <= int(end):
        return f"found start {start} and end {end}, expected 1 <= start <= end."
    if values["strand"] not in _STRANDS:
        return f"found strand {values['strand']!r}, expected one of {some(_STRANDS, 4)}."
    if not _attribute(pa.array([values["attributes"]]), "gene_id")[0].as_py():
        gff = " This looks like GFF3; give the GTF of the same release." if "ID=" in values["attributes"] else ""
        return f"found no gene_id among the attributes.{gff}"
    return ""


def exon_union_length(gene: Ints, start: Ints, end: Ints, n_genes: int) -> Ints:
    """Count, gene by gene, the bases that lie in at least one exon.

    Parameters
    ----------
    gene
        Row number of each exon's gene, shape (E,), int64, in ``range(n_genes)``, any order.
    start, end
        Bounds in bp, 0-based half-open, shape (E,), int64.
    n_genes
        Number of genes.

    Returns
    -------
    Bases covered, shape (n_genes,), int64; 0 for a gene without exons.

    Notes
    -----
    One sort and one running maximum: an exon adds what lies right of the furthest end so far. Genes are laid side by
    side on one axis so that the maximum never carries over. O(E log E).

    Examples
    --------
    >>> import numpy as np
    >>> exon_union_length(np.array([0, 0, 1]), np.array([0, 5, 7]), np.array([10, 12, 9]), 3).tolist()
    [12, 2, 0]
    """
    if gene.size == 0:
        return np.zeros(n_genes, dtype=np.int64)
    order = np.lexsort((start, gene))
    origin, span = start.min(), end.max() - start.min() + 1
    shift = gene[order] * span - origin
    left, right = start[order] + shift, end[order] + shift  # (E,) each gene in its own stretch of the axis
    furthest = np.maximum.accumulate(right)
    before = np.concatenate([left[:1], furthest[:-1]])
    new = np.maximum(right - np.maximum(left, before), 0)
    total = np.zeros(n_genes, dtype=np.int64)
    np.add.at(total, gene[order], new)
    return total

"""What each peak lies on, and the gene next to it: table ``peak_annotation``."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from heteromics.priors.intervals import bases_covered, difference, nearest, union
from heteromics.priors.links import Intervals, intervals_of
from heteromics.priors.tables import Built, Count, Match

if TYPE_CHECKING:
    from heteromics.priors.planning import Estimated, PlanContext
    from heteromics.priors.tables import BuildContext

Ints = npt.NDArray[np.int64]
Bools = npt.NDArray[np.bool_]

FEATURES = ("promoter", "five_prime_utr", "exon", "intron", "three_prime_utr", "gene_body")
"""What a peak can lie on, in the order of the default; else it is ``intergenic``."""
PARTS = ("exon", "five_prime_utr", "three_prime_utr")
CCRE = "ccre"


class Genes(NamedTuple):
    """Gene bodies, the transcription start of each, and whether it lies on the minus strand; shapes (G,)."""

    body: Intervals
    tss: Ints
    minus: Bools


class Parts(NamedTuple):
    """Parts of genes, every field of shape (E,): row of the gene, kind as in table ``gene_part``, bounds in bp."""

    gene: Ints
    kind: npt.NDArray[np.str_]
    start: Ints
    end: Ints

    def of(self, *kinds: str) -> Intervals:
        """Return the parts of these kinds, on their genes instead of on chromosomes."""
        chosen = np.isin(self.kind, kinds)
        return Intervals(self.gene[chosen], self.start[chosen], self.end[chosen])


@dataclass(frozen=True, slots=True)
class AnnotationConfig:
    """Recipe keys of ``attributes.annotation``.

    Attributes
    ----------
    promoter_upstream_bp, promoter_downstream_bp
        Reach of a promoter from the transcription start, inclusive: upstream as in table ``gene_peak``, downstream as
        in ArchR (Granja et al., Nature Genetics 2021).
    order
        All features, the first that a peak touches is its own. ``gene_body`` are genes whose exons the annotation
        does not give. What touches none is ``intergenic``, unless its chromosome has no gene, which tells nothing.
    """

    promoter_upstream_bp: int = 2_000
    promoter_downstream_bp: int = 100
    order: tuple[str, ...] = FEATURES

    def __post_init__(self) -> None:
        if self.promoter_upstream_bp < 0 or self.promoter_downstream_bp < 0:
            raise ValueError(
                f"found promoter_upstream_bp {self.promoter_upstream_bp}, promoter_downstream_bp "
                f"{self.promoter_downstream_bp}, expected 0 or more."
            )
        if sorted(self.order) != sorted(FEATURES):
            raise ValueError(f"order: found {', '.join(self.order)}, expected each once of {', '.join(FEATURES)}.")

    def source_names(self) -> tuple[str, ...]:
        """Peaks, genes and regions come from their tables; no file is read."""
        return ()


def gene_features(genes: Genes, parts: Parts, *, upstream_bp: int, downstream_bp: int) -> dict[str, Intervals]:
    """Return where each of ``FEATURES`` lies on the chromosomes.

    Parameters
    ----------
    genes
        G genes, 0-based half-open, chromosomes by code.
    parts
        Their exons, coding parts and untranslated ends.
    upstream_bp, downstream_bp
        Reach of a promoter from the transcription start, inclusive.

    Returns
    -------
    dict of Intervals
        ``exon`` holds coding parts and what of the exons is no untranslated end; ``intron`` what of a gene body no
        exon covers; ``gene_body`` the bodies of genes without any part. Each is worked out gene by gene, so that an
        exon of one gene stays one also where it lies in an intron of another.

    Examples
    --------
    >>> one = np.zeros(1, np.int64)
    >>> genes = Genes(Intervals(one, np.array([5_000]), np.array([9_000])), np.array([8_999]), np.array([True]))
    >>> exons = np.array([5_000, 8_000]), np.array([6_000, 9_000])
    >>> parts = Parts(np.zeros(2, np.int64), np.array(["exon", "exon"]), *exons)
    >>> found = gene_features(genes, parts, upstream_bp=2_000, downstream_bp=100)
    >>> found["promoter"].start.tolist(), found["promoter"].end.tolist(), found["intron"].start.tolist()
    ([8899], [11000], [6000])
    """
    five, three, coding, exon = (parts.of(kind) for kind in ("five_prime_utr", "three_prime_utr", "coding", "exon"))
    written = parts.of("five_prime_utr", "three_prime_utr", "coding", "exon")
    told = np.isin(np.arange(genes.tss.size), written.chrom)
    body = Intervals(np.arange(genes.tss.size), genes.body.start, genes.body.end)
    by_gene = {
        "five_prime_utr": five,
        "exon": _both(coding, difference(exon, _both(five, three))),
        "intron": difference(Intervals(*(field[told] for field in body)), written),
        "three_prime_utr": three,
        "gene_body": Intervals(*(field[~told] for field in body)),
    }
    before = np.where(genes.minus, downstream_bp, upstream_bp)
    after = np.where(genes.minus, upstream_bp, downstream_bp)
    promoter = Intervals(genes.body.chrom, np.maximum(genes.tss - before, 0), genes.tss + after + 1)
    return {"promoter": promoter} | {
        name: Intervals(genes.body.chrom[found.chrom], found.start, found.end) for name, found in by_gene.items()
    }


def _both(left: Intervals, right: Intervals) -> Intervals:
    return union(Intervals(*(np.concatenate(fields) for fields in zip(left, right, strict=True))))


def first_touched(peaks: Intervals, features: Mapping[str, Intervals], order: Sequence[str]) -> Ints:
    """Return for each peak the number in ``order`` of the first feature that it shares a base with, -1 for none.

    Examples
    --------
    >>> peaks = Intervals(np.zeros(2, np.int64), np.array([0, 50]), np.array([10, 60]))
    >>> exon = Intervals(np.zeros(1, np.int64), np.array([9]), np.array([20]))
    >>> first_touched(peaks, {"exon": exon}, ["exon"]).tolist()
    [0, -1]
    """
    first = np.full(peaks.start.size, -1, np.int64)
    for number in reversed(range(len(order))):
        first[bases_covered(peaks, features[order[number]]) > 0] = number
    return first


class NearestGene(NamedTuple):
    """Gene whose transcription start is nearest: row (-1 for none), bp to it (negative upstream), number of ties."""

    row: Ints
    distance: Ints
    ties: Ints


def nearest_gene(peaks: Intervals, genes: Genes) -> NearestGene:
    """Find for each peak the gene whose transcription start is nearest; of several equally near, the first row.

    The distance is measured as in table ``gene_peak``: from the start to the nearest base of the peak, 0 where the
    peak covers it, negative where the peak lies upstream of the gene.

    Examples
    --------
    >>> one = np.zeros(1, np.int64)
    >>> genes = Genes(Intervals(one, np.array([5_000]), np.array([9_000])), np.array([8_999]), np.array([True]))
    >>> nearest_gene(Intervals(one, np.array([9_099]), np.array([9_200])), genes).distance.tolist()
    [-100]
    """
    found = nearest(peaks, genes.body.chrom, genes.tss)
    if not genes.tss.size:
        return NearestGene(*found)
    return NearestGene(found.row, np.where(genes.minus[found.row], found.offset, -found.offset), found.ties)


def build_annotation(context: BuildContext, config: AnnotationConfig) -> Built:
    """Build table ``peak_annotation`` from ``peak``, ``gene`` and, where they are there, ``gene_part`` and ``region``.

    What the annotation does not tell apart, because table ``gene_part`` has no such rows, is named in the match
    report.
    """
    peaks = context.query(
        "SELECT peak_id, code, chrom_start, chrom_end FROM peak JOIN chromosome USING (chrom) "
        "ORDER BY code, chrom_start, chrom_end, peak_id"
    )
    rows = context.query(
        "SELECT gene_id, code, chrom_start, chrom_end, tss, strand FROM gene JOIN chromosome USING (chrom) "
        "ORDER BY code, chrom_start, gene_id"
    )
    tables = set(context.query("SELECT table_name FROM duckdb_tables()")["table_name"].to_pylist())
    genes = Genes(intervals_of(rows), rows["tss"].to_numpy(), rows["strand"].to_numpy() == "-")
    parts = _parts(context, rows["gene_id"]) if "gene_part" in tables else _no_parts()
    where = intervals_of(peaks)
    features = gene_features(
        genes, parts, upstream_bp=config.promoter_upstream_bp, downstream_bp=config.promoter_downstream_bp
    )
    first = first_touched(where, features, config.order)
    first[first < 0] = len(config.order)
    closest = nearest_gene(where, genes)
    none = closest.row < 0
    table = pa.table(
        {
            "peak_id": peaks["peak_id"],
            "feature": pa.array([*config.order, "intergenic"]).take(pa.array(first, mask=none)),
            "nearest_gene": rows["gene_id"].take(pa.array(closest.row, mask=none)),
            "nearest_distance": pa.array(closest.distance, mask=none),
            "nearest_ties": pa.array(closest.ties, mask=none),
            "ccre_share": _ccre_share(context, where) if "region" in tables else pa.nulls(none.size, pa.float64()),
        }
    )
    matches = _untold(parts, genes.tss.size)
    counts = [
        Count("peak", "matched", int((~none).sum())),
        Count("peak", "out_of_reach", int(none.sum())),
        Count("gene_part", "absent", len(matches)),
    ]
    return Built({"peak_annotation": table}, matches={"peak_annotation": matches}, counts={"peak_annotation": counts})


def _parts(context: BuildContext, gene_id: pa.ChunkedArray) -> Parts:
    found = context.query("SELECT gene_id, part, chrom_start, chrom_end FROM gene_part ORDER BY ALL")
    if not found.num_rows:
        return _no_parts()
    row = pc.index_in(found["gene_id"], gene_id.combine_chunks()).to_numpy()
    bounds = (found[name].to_numpy() for name in ("chrom_start", "chrom_end"))
    return Parts(row.astype(np.int64), found["part"].to_numpy().astype(str), *bounds)


def _no_parts() -> Parts:
    nothing = np.empty(0, np.int64)
    return Parts(nothing, np.empty(0, str), nothing, nothing)


def _untold(parts: Parts, genes: int) -> list[Match]:
    """Name the kinds of parts the annotation lacks, and what that leaves undistinguished."""
    without = genes - np.unique(parts.gene).size
    said = {
        "exon": f"{without:,} of {genes:,} genes have no exon: in their bodies exon and intron are one, gene_body",
        "five_prime_utr": "5' untranslated ends cannot be told from other exons",
        "three_prime_utr": "3' untranslated ends cannot be told from other exons",
    }
    lacking = [kind for kind in PARTS if not (parts.kind == kind).any() or (kind == "exon" and without)]
    return [Match("gene_part", kind, "absent", said[kind]) for kind in lacking]


def _ccre_share(context: BuildContext, peaks: Intervals) -> pa.Array:
    """Return the share of each peak's bases in regions of set ``ccre``; NULL where there is no such set."""
    regions = context.query(
        "SELECT code, chrom_start, chrom_end FROM region JOIN chromosome USING (chrom) WHERE region_set = ?", [CCRE]
    )
    if not regions.num_rows:
        return pa.nulls(peaks.start.size, pa.float64())
    return pa.array(bases_covered(peaks, intervals_of(regions)) / (peaks.end - peaks.start))


def estimate_annotation(plan: PlanContext, _config: AnnotationConfig) -> Estimated:
    """Estimate the number of annotated peaks: all of them."""
    return {"peak_annotation": plan.rows["peak"]}

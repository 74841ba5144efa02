"""Which transcription factor regulates which gene, from collections in the columns of DoRothEA, CollecTRI or TRRUST.

DoRothEA: Garcia-Alonso et al., Genome Research 2019. CollecTRI: Müller-Dott et al., Nucleic Acids Research 2023.
TRRUST: Han et al., Nucleic Acids Research 2018.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, NamedTuple

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from heteromics.errors import PriorError
from heteromics.priors._ends import Ends, join_ends, members_of, nothing_linked, tally
from heteromics.priors._regulon_files import CLASSES, Regulons, read_regulons
from heteromics.priors.tables import Built, Count, Match, Source

if TYPE_CHECKING:
    from heteromics.priors.planning import Estimated, PlanContext
    from heteromics.priors.tables import BuildContext

Ints = NDArray[np.int64]
FAMILY = "regulons_*"


class Merged(NamedTuple):
    """Pairs of factor and target, each once, ordered by ``tf``, then ``gene``; each field of shape (E,).

    ``first``: line that stands for the pair; ``sign``: 1, -1 or 0; ``rank`` and ``weight``: the best of its lines;
    ``lines``: how many there are; ``opposite``: they disagree in sign; ``differ``: in rank or weight.
    """

    tf: Ints
    gene: Ints
    first: Ints
    sign: NDArray[np.int8]
    rank: Ints
    weight: NDArray[np.float64]
    lines: Ints
    opposite: NDArray[np.bool_]
    differ: NDArray[np.bool_]


def merge_targets(tf: Ints, gene: Ints, sign: NDArray[np.int8], rank: Ints, weight: NDArray[np.float64]) -> Merged:
    """Bring the lines of each pair together, whatever their order.

    A known sign stands over an unknown one; where lines say both, the sign is left open (0). The best (smallest) rank
    and the highest weight stand.

    Parameters
    ----------
    tf, gene
        Rows of the factor and of its target, shapes (n,).
    sign
        1 activates, -1 represses, 0 not known, shape (n,).
    rank, weight
        Class from 0, the best, and strength from 0 to 1, shapes (n,).

    Examples
    --------
    >>> zeros = np.zeros(3, np.int64)
    >>> merged = merge_targets(zeros, np.array([7, 5, 7]), np.array([1, 0, -1], np.int8), zeros, np.ones(3))
    >>> merged.gene.tolist(), merged.sign.tolist(), merged.opposite.tolist()
    ([5, 7], [0, 0], [False, True])
    """
    order = np.lexsort((-sign, -weight, rank, -np.abs(sign), gene, tf))
    tf, gene, sign, rank, weight = tf[order], gene[order], sign[order], rank[order], weight[order]
    new = np.ones(order.size, bool)
    new[1:] = (tf[1:] != tf[:-1]) | (gene[1:] != gene[:-1])
    start = np.flatnonzero(new)
    if not start.size:
        return Merged(tf, gene, order, sign, rank, weight, order, np.zeros(0, bool), np.zeros(0, bool))
    up, down = np.maximum.reduceat(sign, start) > 0, np.minimum.reduceat(sign, start) < 0
    best, highest = np.minimum.reduceat(rank, start), np.maximum.reduceat(weight, start)
    return Merged(
        tf[start],
        gene[start],
        order[start],
        (up.astype(np.int8) - down.astype(np.int8)),
        best,
        highest,
        np.diff(np.append(start, order.size)),
        up & down,
        (np.maximum.reduceat(rank, start) != best) | (np.minimum.reduceat(weight, start) != highest),
    )


@dataclass(frozen=True, slots=True)
class RegulonConfig:
    """Recipe keys of table ``tf_gene``.

    Attributes
    ----------
    min_confidence
        Last class of DoRothEA that is kept: A (curated) to E (predicted only); the authors use A to C. Collections
        without classes are kept whole.
    """

    min_confidence: Literal["A", "B", "C", "D", "E"] | None = None

    def source_names(self) -> tuple[str, ...]:
        """At least one source ``regulons_NAME`` is needed, under any name; the builder says so if there is none."""
        return ()


def build_regulons(context: BuildContext, config: RegulonConfig) -> Built:
    """Build table ``tf_gene`` from all sources ``regulons_NAME``.

    Raises
    ------
    RecipeError
        When no source ``regulons_NAME`` is given.
    UnreadableFile
        As :func:`~heteromics.priors._regulon_files.read_regulons`.
    PriorError
        When no line of a source has a factor and a target in table ``gene``, or none of these is of a class that is
        kept.
    """
    sources = members_of(context, FAMILY, "edges.regulons")
    parts, matches, counts = [], [], []
    for name, source in sources.items():
        context.progress(f"reading regulons of {name}")
        regulons = read_regulons(source.path)
        ends = join_ends(context, source, {"TFs": regulons.tf, "targets": regulons.target})
        kept, both = _confident(regulons, config), (ends.rows["TFs"] >= 0) & (ends.rows["targets"] >= 0)
        if not both.any():
            raise nothing_linked(source, [*regulons.tf, *regulons.target])
        reach = kept & both
        line = np.flatnonzero(reach)
        if not line.size:
            raise PriorError(
                f"{source.label}: none of its {len(regulons.tf):,} lines is of class {config.min_confidence} or better "
                "and links two genes. Fix: lower edges.regulons.min_confidence."
            )
        merged = merge_targets(
            ends.rows["TFs"][line],
            ends.rows["targets"][line],
            regulons.sign[line],
            regulons.rank[line],
            regulons.weight[line],
        )
        merged = merged._replace(first=line[merged.first])
        parts.append(_table(name, source, regulons, merged, ends))
        matches += [*ends.matches, *_disagreements(source, regulons, merged)]
        counts += [*ends.counts, *_line_counts(source, kept, reach, merged)]
    return Built(
        {"tf_gene": pa.concat_tables(parts)},
        {"tf_gene": list(sources.values())},
        {"tf_gene": matches},
        {"tf_gene": counts},
    )


def _confident(regulons: Regulons, config: RegulonConfig) -> NDArray[np.bool_]:
    if config.min_confidence is None or not regulons.graded:
        return np.ones(len(regulons.tf), bool)
    return regulons.rank <= CLASSES.index(config.min_confidence)


def _table(name: str, source: Source, regulons: Regulons, merged: Merged, ends: Ends) -> pa.Table:
    gene_id = pa.array(ends.gene_id, pa.string())
    n = merged.tf.size
    confidence = [CLASSES[rank] for rank in merged.rank] if regulons.graded else [None] * n
    says = [f"{source.label} ({regulons.format}){regulons.evidence[row]}" for row in merged.first]
    return pa.table(
        {
            "tf_id": gene_id.take(pa.array(merged.tf)),
            "gene_id": gene_id.take(pa.array(merged.gene)),
            "source": pa.repeat(pa.scalar(name), n),
            "sign": pa.array(merged.sign, pa.int8()),
            "confidence": pa.array(confidence, pa.string()),
            "weight": pa.array(merged.weight, pa.float64()),
            "evidence": pa.array(says, pa.string()),
        }
    )


def _disagreements(source: Source, regulons: Regulons, merged: Merged) -> list[Match]:
    found = []
    for place in np.flatnonzero(merged.opposite | merged.differ):
        row = merged.first[place]
        outcome = "opposite_signs" if merged.opposite[place] else "conflicting"
        stands = (
            "activates and represses; sign 0" if merged.opposite[place] else f"weight {merged.weight[place]:g} stands"
        )
        found.append(Match(source.label, f"{regulons.tf[row]} > {regulons.target[row]}", outcome, stands))
    return found


def _line_counts(source: Source, kept: NDArray[np.bool_], reach: NDArray[np.bool_], merged: Merged) -> list[Count]:
    """Count lines: one stands for each pair, the others repeat it or disagree."""
    kind = np.where(merged.opposite, "opposite_signs", np.where(merged.differ, "conflicting", "duplicated"))
    again = tally(source.label, np.repeat(kind, merged.lines - 1).tolist())
    return [
        Count(source.label, "matched", merged.tf.size),
        Count(source.label, "filtered", int((~kept).sum())),
        Count(source.label, "absent", int((kept & ~reach).sum())),
        *again,
    ]


def estimate_regulons(plan: PlanContext, config: RegulonConfig) -> Estimated:
    """Estimate the number of edges: as many as there are lines of the classes that are kept."""

    def kept(lines: list[str]) -> float:
        delimiter = "\t" if "\t" in lines[0] else ","
        header, *rest = ([field.strip('" ') for field in line.split(delimiter)] for line in lines)
        if config.min_confidence is None or "confidence" not in header:
            return len(rest)
        place = header.index("confidence")
        return sum(len(row) > place and row[place] <= config.min_confidence for row in rest)

    counted = [plan.count(name, kept) for name in plan.family(FAMILY)]
    known = [count for count in counted if count is not None]
    return {"tf_gene": sum(known) if known else None}

"""Links between genes from plain lists: two columns of gene names and, if there is one, a score or a cost."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Literal, NamedTuple

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from heteromics.errors import PriorError, RecipeError, UnreadableFile, some
from heteromics.priors._delimited import first_fields, is_number, numbers, present, read_fields
from heteromics.priors._ends import Ends, join_ends, members_of, nothing_linked, tally
from heteromics.priors.tables import Built, Count, Match, Source

if TYPE_CHECKING:
    from heteromics.priors.planning import Estimated, PlanContext
    from heteromics.priors.tables import BuildContext

Ints = NDArray[np.int64]
Floats = NDArray[np.float64]
ScoreIs = Literal["weight", "cost"]
FAMILY = "pairs_*"
TAKEN = ("pathway", "string")
"""Names other builders give their links in ``gene_gene``."""

_NO_SCORE = frozenset({"", "-", ".", "na", "n/a", "none", "null"})
_COSTS = frozenset({"cost", "distance", "dist"})
_NAMES = frozenset(
    f"{word}{sign}{end}"
    for word in ("", "gene", "symbol", "protein", "node", "name", "interactor")
    for sign in ("", "_", " ")
    for end in ("1", "2", "a", "b")
) | {"from", "to", "source", "target", "head", "tail", "gene", "symbol", "regulator"}


class PairList(NamedTuple):
    """A list as it stands in the file: the two names of each line, its score, and the name of the score's column.

    ``score`` is None, and ``called`` empty, for a list without scores; ``called`` is empty without a header too.
    """

    a: list[str]
    b: list[str]
    score: Floats | None
    called: str


class MergedPairs(NamedTuple):
    """Undirected pairs, each once, ``a < b``, ordered by ``a``, then ``b``; each field of shape (E,).

    ``first``: line that stands for the pair; ``weight``: the highest of its lines; ``lines``: how many there are;
    ``differ``: they have several weights.
    """

    a: Ints
    b: Ints
    first: Ints
    weight: Floats
    lines: Ints
    differ: NDArray[np.bool_]


def read_pairs(path: Path) -> PairList:
    """Read a list of pairs, plain or gzip, separated by tabs, commas, semicolons or blanks.

    The first two columns name genes; a third one, if there is one, is the score. The first line is a header where its
    third field is a word and no number, or, without a third, where both fields are words for ends (``from``,
    ``gene_a``).

    Raises
    ------
    UnreadableFile
        For another number of columns, a broken line, an empty name, a score that is no number, is negative or not
        finite, or a damaged gzip.
    """
    first, delimiter = first_fields(path)
    if len(first) not in (2, 3):
        raise UnreadableFile(
            f"{path}: found {len(first)} columns ({some(first, 6)}), expected two of gene names and at most one score. "
            "Fix: write a file with these columns alone, in this order."
        )
    words = [name.strip().casefold() for name in first]
    if len(first) == 3:
        header = not is_number(first[2]) and words[2] not in _NO_SCORE
    else:
        header = all(word in _NAMES for word in words)
    fields = read_fields(path, delimiter, header=header)
    present(path, fields, (0, 1))
    called = fields.header[2] if header and len(first) == 3 else ""
    score = numbers(path, fields, 2, 0, np.finfo(np.float64).max, called or "score") if len(first) == 3 else None
    return PairList(fields.columns[0], fields.columns[1], score, called)


def weights_of(score: Floats, score_is: ScoreIs) -> Floats:
    """Turn scores into weights, larger is stronger: a weight stays, a cost c becomes 1 / (1 + c).

    The transformation of costs falls with c, is 1 at cost 0 and stays above 0 for any finite cost.

    Parameters
    ----------
    score
        0 or more, any shape.
    score_is
        ``weight`` or ``cost``.

    Examples
    --------
    >>> weights_of(np.array([0.0, 1.0, 3.0]), "cost").tolist()
    [1.0, 0.5, 0.25]
    """
    return 1 / (1 + score) if score_is == "cost" else score


def merge_pairs(a: Ints, b: Ints, weight: Floats) -> MergedPairs:
    """Bring the lines of each undirected pair together, in whatever order they name it; the highest weight stands.

    Parameters
    ----------
    a, b
        Rows of the two ends, never equal, shapes (n,).
    weight
        Weight of each line, shape (n,).

    Examples
    --------
    >>> pairs = merge_pairs(np.array([3, 1, 1]), np.array([1, 3, 2]), np.array([0.5, 0.7, 0.1]))
    >>> list(zip(pairs.a.tolist(), pairs.b.tolist(), pairs.weight.tolist(), pairs.differ.tolist()))
    [(1, 2, 0.1, False), (1, 3, 0.7, True)]
    """
    low, high = np.minimum(a, b), np.maximum(a, b)
    order = np.lexsort((-weight, high, low))
    low, high, weight = low[order], high[order], weight[order]
    new = np.ones(order.size, bool)
    new[1:] = (low[1:] != low[:-1]) | (high[1:] != high[:-1])
    start = np.flatnonzero(new)
    least = np.minimum.reduceat(weight, start) if start.size else weight
    return MergedPairs(
        low[start],
        high[start],
        order[start],
        weight[start],
        np.diff(np.append(start, order.size)),
        least != weight[start],
    )


@dataclass(frozen=True, slots=True)
class PairsConfig:
    """Recipe keys of the lists of gene pairs, by the name of the list (``irefindex`` for ``pairs_irefindex``).

    Attributes
    ----------
    score_is
        ``weight`` (larger is stronger) or ``cost`` (smaller is stronger; c becomes the weight 1 / (1 + c)). Where a
        list is not named here, its score is a cost if its column is called cost, distance or dist, else a weight.
    min_weight
        Least weight, after the transformation.
    """

    score_is: dict[str, ScoreIs] = field(default_factory=dict)
    min_weight: dict[str, float] = field(default_factory=dict)

    def source_names(self) -> tuple[str, ...]:
        """At least one source ``pairs_NAME`` is needed, under any name; the builder says so if there is none."""
        return ()


def build_pairs(context: BuildContext, config: PairsConfig) -> Built:
    """Build the part of table ``gene_gene`` that the sources ``pairs_NAME`` give; ``source`` is NAME.

    Raises
    ------
    RecipeError
        When no such source is given, a key names a list that is not, or NAME is that of another kind of link.
    UnreadableFile
        As :func:`read_pairs`.
    PriorError
        When no line of a list links two genes of table ``gene``, or none reaches its least weight.
    """
    sources = members_of(context, FAMILY, "edges.pairs")
    _check_names(sources, config)
    parts, matches, counts = [], [], []
    for name, source in sources.items():
        context.progress(f"reading gene pairs of {name}")
        listed = read_pairs(source.path)
        ends = join_ends(context, source, {"names": [*listed.a, *listed.b]})
        score_is = config.score_is.get(name, "cost" if listed.called.casefold() in _COSTS else "weight")
        weight = np.ones(len(listed.a)) if listed.score is None else weights_of(listed.score, score_is)
        a, b = ends.rows["names"].reshape(2, -1)
        kept = weight >= config.min_weight.get(name, 0)
        found = kept & (a >= 0) & (b >= 0)
        line = np.flatnonzero(found & (a != b))
        merged = merge_pairs(a[line], b[line], weight[line])
        if not ((a >= 0) & (b >= 0)).any():
            raise nothing_linked(source, [*listed.a, *listed.b])
        if not line.size:
            raise PriorError(
                f"{source.label}: none of its {len(listed.a):,} lines links two different genes with a weight of at "
                f"least {config.min_weight.get(name, 0):g}. Fix: lower edges.pairs.min_weight.{name}, or look at the "
                "names."
            )
        merged = merged._replace(first=line[merged.first])
        parts.append(_table(name, source, listed, score_is, merged, ends))
        matches += [*ends.matches, *_disagreements(source, listed, merged)]
        again = tally(source.label, np.repeat(np.where(merged.differ, "conflicting", "duplicated"), merged.lines - 1))
        counts += [
            *ends.counts,
            Count(source.label, "matched", merged.a.size),
            Count(source.label, "filtered", int((~kept).sum())),
            Count(source.label, "absent", int((kept & ~found).sum())),
            Count(source.label, "self_loop", int((found & (a == b)).sum())),
            *again,
        ]
    return Built(
        {"gene_gene": pa.concat_tables(parts)},
        {"gene_gene": list(sources.values())},
        {"gene_gene": matches},
        {"gene_gene": counts},
    )


def _check_names(sources: dict[str, Source], config: PairsConfig) -> None:
    if taken := [name for name in sources if name in TAKEN]:
        raise RecipeError(
            f"sources.pairs_{taken[0]}: links of table gene_gene are named {taken[0]} by another builder. "
            "Fix: choose another name after pairs_."
        )
    if unknown := sorted({*config.score_is, *config.min_weight} - set(sources)):
        raise RecipeError(
            f"edges.pairs: found settings for {', '.join(unknown)}, expected names of lists: {', '.join(sources)}."
        )


def _table(name: str, source: Source, listed: PairList, score_is: ScoreIs, merged: MergedPairs, ends: Ends) -> pa.Table:
    gene_id = pa.array(ends.gene_id, pa.string())
    says = [f"{source.label}: {listed.a[row]} {listed.b[row]}" for row in merged.first]
    if listed.score is not None:
        says = [f"{text}, {score_is} {listed.score[row]:g}" for text, row in zip(says, merged.first, strict=True)]
    return pa.table(
        {
            "gene_a": gene_id.take(pa.array(merged.a)),
            "gene_b": gene_id.take(pa.array(merged.b)),
            "source": pa.repeat(pa.scalar(name), merged.a.size),
            "weight": pa.array(merged.weight, pa.float64()),
            "evidence": pa.array(says, pa.string()),
        }
    )


def _disagreements(source: Source, listed: PairList, merged: MergedPairs) -> list[Match]:
    return [
        Match(
            source.label,
            f"{listed.a[merged.first[place]]} {listed.b[merged.first[place]]}",
            "conflicting",
            f"{merged.lines[place]} lines, weight {merged.weight[place]:g} stands",
        )
        for place in np.flatnonzero(merged.differ)
    ]


def estimate_pairs(plan: PlanContext, _config: PairsConfig) -> Estimated:
    """Estimate the number of pairs: as many as there are lines, those below a least weight included."""
    counted = [plan.count(name, len) for name in plan.family(FAMILY)]
    known = [count for count in counted if count is not None]
    return {"gene_gene": sum(known) if known else None}

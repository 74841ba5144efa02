"""How far a ranking of links agrees with other evidence; intervals know that links are clustered.

Agreement speaks for links where the evidence had no part in them: ChIP peaks, elements, motifs, regulons. Correlation
and openness are of the same cells, and distance is in the window and, where the model has one, in its bias: with these
it describes a ranking and does not confirm it.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from heteromics._progress import track
from heteromics.errors import DataError, did_you_mean, some
from heteromics.interpret._intervals import aligned
from heteromics.interpret._resampling import BLOCK_BP, areas, blocks_of, drawn_weights, interval, rank_correlation
from heteromics.interpret.evidence import evidence_columns

if TYPE_CHECKING:
    from pandas import DataFrame


class Part(NamedTuple):
    """The rows of one group: links and their evidence, and the column of the group, empty without groups."""

    label: dict[str, str]
    links: DataFrame
    evidence: DataFrame
    score: NDArray[np.float64]


def concordance(
    links: DataFrame,
    evidence: DataFrame,
    *,
    score: str = "score",
    columns: Sequence[str] | None = None,
    absolute: bool = False,
    block_bp: int | None = BLOCK_BP,
    n_boot: int = 1_000,
    level: float = 0.95,
    seed: int = 0,
    progress: bool = False,
) -> DataFrame:
    """Score how well a ranking of links finds those that each kind of evidence supports.

    Parameters
    ----------
    links
        ``gene, peak[, group]`` and the score; or by peak (:func:`heteromics.interpret.by_peak`). The ranking is among
        these rows: give all candidates, not those alone that a method chose.
    evidence
        Of these links, from :func:`heteromics.interpret.evidence_for`; more columns of nullable booleans named ``in_``
        or ``has_`` may be added.
    score
        Column of the links, larger is stronger.
    columns
        Columns of evidence; None takes all that are true or false.
    absolute
        Rank by the size of the score.
    block_bp
        Length in bp of the stretches of the genome that are drawn, ten or more; None draws whole chromosomes. Links of
        one peak share its evidence and neighbours are alike; single links drawn as if they were independent would give
        intervals far too narrow.
    n_boot, level, seed
        Bootstrap samples, level of the percentile interval, and seed of the draw.
    progress
        Show it on stderr.

    Returns
    -------
    DataFrame
        A row per evidence, within each group: ``evidence[, group], auroc, auprc, lift`` (``auprc`` over
        ``prevalence``, its value for a random ranking), each with ``_low`` and ``_high``; ``prevalence, n, n_true,
        n_unknown`` (links left out because evidence or score are missing), ``n_blocks``, ``n_boot`` (samples with both
        classes). What could not be scored because all or none are supported is named in ``attrs["left_out"]``.

    Raises
    ------
    DataError
        When tables or columns do not fit, no evidence has both supported and unsupported links, or they lie in fewer
        than ten blocks.

    Examples
    --------
    >>> import pandas as pd
    >>> links = pd.DataFrame({"gene": "A", "peak": list("pqrstuvwxy"), "score": np.arange(10.0)})
    >>> about = links[["gene", "peak"]].assign(chrom="1", chrom_start=np.arange(10) * 50)
    >>> about = about.assign(chrom_end=about["chrom_start"] + 5)
    >>> about["in_ccre"] = pd.array([False, True] * 5, dtype="boolean")
    >>> concordance(links, about, block_bp=50, n_boot=20)[["evidence", "auroc", "prevalence", "n"]].values.tolist()
    [['in_ccre', 0.6, 0.5, 10]]
    """
    import pandas as pd

    rows, left_out = [], []
    asked = _asked(columns, evidence_columns(evidence))
    parts = list(parts_of(links, evidence, score, absolute=absolute))
    tasks = [(part, name) for part in parts for name in asked]
    for part, name in track(tasks, "concordance", enabled=progress):
        known = part.evidence[name].notna().to_numpy() & np.isfinite(part.score)
        truth = part.evidence[name][known].to_numpy(bool)
        label = {"evidence": name, **part.label}
        if truth.all() or not truth.any():
            left_out.append(f"{' '.join(label.values())}: {int(truth.sum())} of {truth.size} known links are supported")
            continue
        block = np.unique(blocks_of(part.evidence.loc[known], block_bp), return_inverse=True)[1]
        measure = areas(truth, part.score[known])
        found = measure(np.ones(truth.size))
        drawn = np.array([measure(weight) for weight in drawn_weights(block, n_boot, seed)])
        rows.append({**label, **_areas_row(found, drawn, level), **_counts(truth, known, block)})
    if not rows:
        raise DataError(f"no evidence to score links by: {some(left_out)}. Fix: evidence that some links have.")
    table = pd.DataFrame(rows)
    table.attrs["left_out"] = left_out
    return table


def rank_concordance(
    links: DataFrame,
    evidence: DataFrame,
    *,
    score: str = "score",
    columns: Sequence[str],
    given: Sequence[str] = (),
    block_bp: int | None = BLOCK_BP,
    n_boot: int = 1_000,
    level: float = 0.95,
    seed: int = 0,
    progress: bool = False,
) -> DataFrame:
    """Return Spearman's rank correlation of the score of links with evidence that is a number, such as distance.

    Parameters
    ----------
    links, evidence, score, block_bp, n_boot, level, seed, progress
        As in :func:`concordance`.
    columns
        Columns of numbers, such as ``distance, gc, score_NAME``.
    given
        Columns of links or evidence whose ranks are held fixed (partial correlation), such as ``openness``.

    Returns
    -------
    DataFrame
        ``evidence[, group], given`` (names by comma), ``rho, rho_low, rho_high, n, n_unknown, n_blocks``. ``rho`` is
        signed: negative for distance where near links score high.

    Raises
    ------
    DataError
        As :func:`concordance`; also where a column does not vary.

    Examples
    --------
    >>> import pandas as pd
    >>> links = pd.DataFrame({"gene": "A", "peak": list("pqrstuvwxy"), "score": -np.arange(10.0)})
    >>> about = links[["gene", "peak"]].assign(chrom_start=1, chrom_end=5, distance=np.arange(10) ** 2)
    >>> about["chrom"] = [f"chr{number}" for number in range(10)]
    >>> rank_concordance(links, about, columns=["distance"], n_boot=20)["rho"].tolist()
    [-1.0]
    """
    import pandas as pd

    parts = list(parts_of(links, evidence, score))
    rows = []
    for part, name in track([(part, name) for part in parts for name in columns], "ranks", enabled=progress):
        values = [part.score, *(number_column(part, one) for one in (name, *given))]
        known = np.asarray(np.isfinite(np.stack(values)).all(axis=0), dtype=bool)
        measure = rank_correlation(np.stack([one[known] for one in values], axis=1))
        rho = measure(np.ones(int(known.sum()))) if known.sum() > 2 else np.nan
        if np.isnan(rho):
            raise DataError(
                f"{' '.join([name, *part.label.values()])}: no rank correlation with {score!r} among {known.sum()} "
                "links: one of the columns does not vary, or is fixed by what is given."
            )
        block = np.unique(blocks_of(part.evidence.loc[known], block_bp), return_inverse=True)[1]
        drawn = np.array([measure(weight) for weight in drawn_weights(block, n_boot, seed)])
        low, high = interval(drawn, level)
        counts = {"n": int(known.sum()), "n_unknown": int((~known).sum()), "n_blocks": int(block.max()) + 1}
        label = {"evidence": name, **part.label, "given": ",".join(given)}
        rows.append({**label, "rho": rho, "rho_low": low, "rho_high": high, **counts})
    return pd.DataFrame(rows)


def parts_of(links: DataFrame, evidence: DataFrame, score: str, *, absolute: bool = False) -> Iterator[Part]:
    """Yield links with their evidence, one group after the other, sorted by name.

    Raises
    ------
    DataError
        When links have no such score or no finite one, or tables do not fit.
    """
    if score not in links:
        raise DataError(
            f"links: no column {score!r}. {did_you_mean(score, map(str, links))}Found {', '.join(map(str, links))}."
        )
    about, links = aligned(links, evidence), links.reset_index(drop=True)
    values = links[score].to_numpy(np.float64, na_value=np.nan)
    if not np.isfinite(values).any():
        raise DataError(f"links: none of {len(links)} values of {score!r} is finite.")
    values = np.abs(values) if absolute else values
    if "group" not in links:
        yield Part({}, links, about, values)
        return
    group = links["group"].astype(str).to_numpy()
    for name in np.unique(group):
        mine = group == name
        yield Part({"group": str(name)}, links[mine], about[mine], values[mine])


def number_column(part: Part, name: str) -> NDArray[np.float64]:
    """Return a column of evidence, or else of the links, as numbers, NaN where missing.

    Raises
    ------
    DataError
        When neither has it.
    """
    for table in (part.evidence, part.links):
        if name in table:
            return table[name].to_numpy(np.float64, na_value=np.nan)
    known = [*map(str, part.evidence), *map(str, part.links)]
    raise DataError(
        f"neither evidence nor links have a column {name!r}. {did_you_mean(name, known)}"
        "Fix: openness and correlation need atac= and rna= in evidence_for, gc a store with peak_attribute."
    )


def _asked(columns: Sequence[str] | None, there: list[str]) -> list[str]:
    if columns is None and there:
        return there
    unknown = [name for name in columns or () if name not in there]
    if unknown or not columns:
        raise DataError(
            f"evidence: found columns {some(unknown) if unknown else '()'}, expected among "
            f"{', '.join(there) or 'none'}, which are true or false (nullable booleans named in_ or has_)."
        )
    return list(columns)


def _areas_row(found: tuple[float, float, float], drawn: NDArray[np.float64], level: float) -> dict[str, Any]:
    row: dict[str, Any] = {}
    values = {"auroc": drawn[:, 0], "auprc": drawn[:, 1], "lift": drawn[:, 1] / drawn[:, 2]}
    for name, value in zip(values, (found[0], found[1], found[1] / found[2]), strict=True):
        low, high = interval(values[name], level)
        row |= {name: value, f"{name}_low": low, f"{name}_high": high}
    return {**row, "prevalence": found[2], "n_boot": int(np.isfinite(drawn[:, 0]).sum())}


def _counts(truth: NDArray[np.bool_], known: NDArray[np.bool_], block: NDArray[np.int64]) -> dict[str, int]:
    numbers = {"n": truth.size, "n_true": truth.sum(), "n_unknown": (~known).sum(), "n_blocks": block.max() + 1}
    return {name: int(value) for name, value in numbers.items()}

"""TF binding against cumulative attention, as in the paper, and the same with openness held fixed.

The paper adds up the attention of each peak over the cells of a type and sets it against ChIP peaks of that type. A
peak that is open in more cells gathers more attention, and has more ChIP signal, whatever a model learnt: the
correlation is reported as it is and with the ranks of openness held fixed.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from heteromics.errors import DataError, did_you_mean
from heteromics.interpret._concordance import rank_concordance
from heteromics.interpret._resampling import BLOCK_BP
from heteromics.interpret.evidence import by_peak

if TYPE_CHECKING:
    from pandas import DataFrame


def tf_binding(
    links: DataFrame, evidence: DataFrame, *, binding: str, attention: str = "total", openness: str | None = "openness"
) -> DataFrame:
    """Set the cumulative attention of each peak beside its TF-binding score: the table of the paper's scatter plot.

    Parameters
    ----------
    links
        ``gene, peak[, group]`` and the attention, from :meth:`heteromics.models.Bi2Former.links` with ``groups=``: one
        group per cell type.
    evidence
        Of these links, from :func:`heteromics.interpret.evidence_for`.
    binding
        Column of evidence with the score of binding, 0 for a peak that is not bound: ``score_NAME`` of a set of ChIP
        peaks (column 5 of its BED file, the strongest that the peak overlaps), or ``score_motif`` (bits of the best
        motif of the factors asked for).
    attention
        Column of the links to be added up over the genes of a peak; ``total`` is the attention summed over cells.
    openness
        Column of evidence that says how open a peak is; None where the data are not at hand.

    Returns
    -------
    DataFrame
        A row per peak, within each group: ``peak[, group], attention, n_genes, binding, bound``, with openness
        ``openness``, and ``chrom, chrom_start, chrom_end``. Peaks of which binding or openness is not known are left
        out; ``attrs["left_out"]`` says how many.

    Raises
    ------
    DataError
        When a column is not there, binding is known for no peak, or tables do not fit.

    Examples
    --------
    >>> import pandas as pd
    >>> links = pd.DataFrame({"gene": ["A", "B", "A"], "peak": ["p", "p", "q"], "total": [1.0, 2.0, 4.0]})
    >>> place = {"chrom": "chr1", "chrom_start": [1, 1, 50], "chrom_end": [9, 9, 60]}
    >>> about = links[["gene", "peak"]].assign(**place, score_cd4=[8.5, 8.5, 0.0])
    >>> tf_binding(links, about, binding="score_cd4", openness=None)[["peak", "attention", "bound"]].values.tolist()
    [['p', 3.0, True], ['q', 4.0, False]]
    """
    for name, table, what in (
        (attention, links, "links"),
        (binding, evidence, "evidence"),
        (openness, evidence, "evidence"),
    ):
        if name is not None and name not in table:
            raise DataError(
                f"{what}: no column {name!r}. {did_you_mean(name, map(str, table))}Fix: chip= or tfs= in evidence_for "
                "give score_NAME and score_motif, atac= gives openness, links of a fitted model total."
            )
    peaks, about = by_peak(links, evidence, score=attention)
    table = peaks.rename(columns={attention: "attention"})
    table["binding"] = about[binding].to_numpy(np.float64, na_value=np.nan)
    if openness is not None:
        table["openness"] = about[openness].to_numpy(np.float64, na_value=np.nan)
    for name in ("chrom", "chrom_start", "chrom_end"):
        table[name] = about[name].array
    numbers = ["attention", "binding", *(["openness"] if openness else [])]
    known = np.isfinite(table[numbers].to_numpy(np.float64)).all(axis=1)
    if not known.any():
        raise DataError(f"{binding}: known for none of {len(table)} peaks. Fix: a set that covers their chromosomes.")
    table = table[known].reset_index(drop=True)
    table.insert(list(table).index("binding") + 1, "bound", table["binding"] > 0)
    table.attrs["left_out"] = int((~known).sum())
    return table


def binding_correlation(
    table: DataFrame,
    *,
    given: Sequence[str] = ("openness",),
    block_bp: int | None = BLOCK_BP,
    n_boot: int = 1_000,
    level: float = 0.95,
    seed: int = 0,
) -> DataFrame:
    """Return the rank correlation of binding and cumulative attention, as it is and with openness held fixed.

    Parameters
    ----------
    table
        From :func:`tf_binding`.
    given
        Columns whose ranks are held fixed in the control; an empty tuple leaves the control out.
    block_bp, n_boot, level, seed
        As in :func:`heteromics.interpret.concordance`.

    Returns
    -------
    DataFrame
        ``peaks`` (``"bound"``: those with a binding score, the paper's question; ``"all"``: the others at 0),
        ``[group], given, rho, rho_low, rho_high, n, n_blocks``.

    Raises
    ------
    DataError
        When peaks are too few, or a column does not vary among them.

    Examples
    --------
    >>> import pandas as pd
    >>> table = pd.DataFrame({"peak": list("pqrstuvwxy"), "attention": np.arange(10.0), "binding": np.arange(10) ** 2})
    >>> table = table.assign(bound=True, chrom=[f"chr{i}" for i in range(10)], chrom_start=1, chrom_end=5)
    >>> binding_correlation(table, given=(), n_boot=20)[["peaks", "rho"]].values.tolist()
    [['bound', 1.0], ['all', 1.0]]
    """
    import pandas as pd

    keys = [name for name in ("peak", "group") if name in table]
    found = []
    for which, rows in (("bound", table[table["bound"]]), ("all", table)):
        for held in [(), tuple(given)] if given else [()]:
            part = rank_concordance(
                rows[[*keys, "attention"]],
                rows.drop(columns="attention"),
                score="attention",
                columns=("binding",),
                given=held,
                block_bp=block_bp,
                n_boot=n_boot,
                level=level,
                seed=seed,
            )
            found.append(part.assign(evidence=which))
    result = pd.concat(found, ignore_index=True).rename(columns={"evidence": "peaks"})
    return result.drop(columns="n_unknown")

"""From scores of pairs to metrics: probabilities scaled alike for every model and control, and tables of how good."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray

from heteromics.tasks.metrics import (
    accuracy,
    brier,
    classification_scores,
    expected_calibration_error,
    platt_scale,
    reliability,
)

if TYPE_CHECKING:
    from pandas import DataFrame

Float = NDArray[np.float64]
Kind = Literal["probability", "share", "score"]
_SURE = 1e-7  # a float32 probability nearer to 0 or 1 is taken for this near


@dataclass(frozen=True, slots=True)
class Scale:
    """How the scores of one contender become probabilities: a logistic curve, fitted on validation pairs (Platt 1999).

    Attributes
    ----------
    slope, intercept
        Of the curve; see :func:`heteromics.tasks.platt_scale`.
    kind
        What the scores are: ``"probability"`` of one cell; ``"share"``, within 0 and 1 but of something else; or
        ``"score"``, any number. Of the first two the curve is of their log odds: slope 1 and intercept 0 leave
        probabilities as they are.

    Examples
    --------
    >>> Scale(1.0, 0.0)([0.25, 0.5]).round(6)
    array([0.25, 0.5 ])
    """

    slope: float
    intercept: float
    kind: Kind = "probability"

    @classmethod
    def fit(cls, labels: ArrayLike, scores: ArrayLike, kind: Kind = "probability") -> Self:
        """Fit on pairs that nothing is tested on."""
        return cls(*platt_scale(labels, _line(scores, kind)), kind)

    def __call__(self, scores: ArrayLike) -> Float:
        """Return probabilities, shape (n,)."""
        from scipy.special import expit

        found: Float = expit(self.slope * _line(scores, self.kind) + self.intercept)
        return found


def _line(scores: ArrayLike, kind: Kind) -> Float:
    """Scores, those within 0 and 1 as log odds."""
    values = np.asarray(scores, dtype=np.float64)
    if kind == "score":
        return values
    values = np.clip(values, _SURE, 1 - _SURE)
    return np.log(values) - np.log1p(-values)


def score(table: DataFrame, scales: Mapping[str, Scale], split: str = "test") -> DataFrame:
    """Score the columns named in ``scales`` for each kind of negatives; a table as ``MatchingResult.pairs``.

    Parameters
    ----------
    table
        Scores by pair.
    scales
        By model, how its scores become probabilities.
    split
        Word for the column of that name.

    Returns
    -------
    DataFrame
        ``model, split, negatives, metric, value``. ``auroc`` and ``auprc`` are of the scores as they are, which a
        curve that falls would turn round. ``accuracy`` (at 0.5), ``brier`` and ``ece`` are of the scaled probabilities;
        ``accuracy_raw, brier_raw, ece_raw`` of the model's own, as the paper's accuracy is, for those that have them.
        ``prevalence`` is the share of positives.
    """
    import pandas as pd

    rows = []
    for kind, part in table.groupby("negatives", sort=False):
        labels = part["label"]
        for model, scale in scales.items():
            found = classification_scores(labels, part[model]) | _calibration(labels, scale(part[model]))
            if scale.kind == "probability":
                own = _calibration(labels, part[model])
                found |= {f"{metric}_raw": value for metric, value in own.items()}
            rows += [(model, split, kind, metric, value) for metric, value in found.items()]
    return pd.DataFrame(rows, columns=["model", "split", "negatives", "metric", "value"])


def _calibration(labels: ArrayLike, probabilities: ArrayLike) -> dict[str, float]:
    return {
        "accuracy": accuracy(labels, probabilities),
        "brier": brier(labels, probabilities),
        "ece": expected_calibration_error(labels, probabilities),
    }


def reliability_table(table: DataFrame, scales: Mapping[str, Scale], split: str = "test") -> DataFrame:
    """Compare scaled probabilities and outcomes in bins: ``model, split, negatives`` and those of ``reliability``."""
    import pandas as pd

    parts = []
    for kind, part in table.groupby("negatives", sort=False):
        for model, scale in scales.items():
            bins = reliability(part["label"], scale(part[model]))
            parts.append(pd.DataFrame({"model": model, "split": split, "negatives": kind, **bins}))
    return pd.concat(parts, ignore_index=True)

"""Scores of predictions, arrays in and numbers out.

Regression: root mean squared and mean absolute error over all entries (the measure of the NeurIPS 2021 modality
task, Lance et al. 2022) and Pearson's r per feature. Classification: accuracy and the areas under the ROC curve and
under the precision-recall curve (average precision), the recovery of a set of known links by a ranked table, and
whether probabilities mean what they say: Brier score, reliability by bins, expected calibration error.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import ArrayLike, NDArray

from heteromics.errors import DataError

if TYPE_CHECKING:
    from pandas import DataFrame

Float = NDArray[np.float64]


def rmse(predicted: ArrayLike, truth: ArrayLike) -> float:
    """Root of the mean squared error over all cells and features.

    Examples
    --------
    >>> rmse([[1.0, 2.0]], [[1.0, 4.0]])
    1.4142135623730951
    """
    predicted, truth = _pair(predicted, truth)
    return float(np.sqrt(np.square(predicted - truth).mean()))


def mae(predicted: ArrayLike, truth: ArrayLike) -> float:
    """Mean absolute error over all cells and features.

    Examples
    --------
    >>> mae([[1.0, 2.0]], [[1.0, 4.0]])
    1.0
    """
    predicted, truth = _pair(predicted, truth)
    return float(np.abs(predicted - truth).mean())


def pearson(predicted: ArrayLike, truth: ArrayLike) -> Float:
    """Pearson's r of every feature across cells.

    Parameters
    ----------
    predicted, truth
        cells x features.

    Returns
    -------
    ndarray
        Shape (features,), float64. NaN where the truth is constant: there is nothing to correlate with. 0 where only
        the prediction is constant: it explains none of the variation.

    Examples
    --------
    >>> pearson([[1.0, 5.0], [2.0, 5.0], [3.0, 5.0]], [[2.0, 1.0], [4.0, 2.0], [6.0, 4.0]])
    array([1., 0.])
    """
    predicted, truth = _pair(predicted, truth)
    flat = np.ptp(predicted, axis=0) == 0
    nothing = np.ptp(truth, axis=0) == 0
    left, right = predicted - predicted.mean(axis=0), truth - truth.mean(axis=0)
    size = np.sqrt(np.square(left).sum(axis=0) * np.square(right).sum(axis=0))
    r = np.divide((left * right).sum(axis=0), size, out=np.zeros(size.size), where=~flat & ~nothing & (size > 0))
    return np.where(nothing, np.nan, np.clip(r, -1.0, 1.0))


def regression_scores(predicted: ArrayLike, truth: ArrayLike) -> dict[str, float]:
    """Return ``rmse``, ``mae`` and ``pearson``, the mean r over the features where it is defined.

    Examples
    --------
    >>> regression_scores([[1.0], [3.0]], [[1.0], [3.0]])
    {'rmse': 0.0, 'mae': 0.0, 'pearson': 1.0}
    """
    r = pearson(predicted, truth)
    defined = r[~np.isnan(r)]
    mean = float(defined.mean()) if defined.size else float("nan")
    return {"rmse": rmse(predicted, truth), "mae": mae(predicted, truth), "pearson": mean}


def regression_table(predicted: ArrayLike, truth: ArrayLike, names: Sequence[str]) -> DataFrame:
    """Return one row per feature: ``feature, rmse, mae, pearson``; names as many as columns."""
    import pandas as pd

    r = pearson(predicted, truth)
    predicted, truth = _pair(predicted, truth)
    error = predicted - truth
    return pd.DataFrame(
        {
            "feature": np.asarray(names, dtype=str),
            "rmse": np.sqrt(np.square(error).mean(axis=0)),
            "mae": np.abs(error).mean(axis=0),
            "pearson": r,
        }
    )


def accuracy(labels: ArrayLike, scores: ArrayLike, threshold: float = 0.5) -> float:
    """Share of examples on the right side of ``threshold``; a score at the threshold counts as negative.

    Examples
    --------
    >>> accuracy([1, 0, 1], [0.9, 0.2, 0.4])
    0.6666666666666666
    """
    truth, values = _labelled(labels, scores)
    return float(((values > threshold) == truth).mean())


def auroc(labels: ArrayLike, scores: ArrayLike) -> float:
    """Area under the ROC curve: the chance that a positive scores above a negative, ties counting half.

    Parameters
    ----------
    labels
        Shape (n,), boolean or 0 and 1; both classes occur.
    scores
        Shape (n,), finite, larger is more positive.

    Raises
    ------
    DataError
        When shapes differ, labels are others than 0 and 1, one class is absent, or a score is not finite.

    Examples
    --------
    >>> auroc([1, 0, 1, 0], [0.9, 0.8, 0.7, 0.1])
    0.75
    """
    from sklearn.metrics import roc_auc_score

    truth, values = _labelled(labels, scores, both=True)
    return float(roc_auc_score(truth, values))


def auprc(labels: ArrayLike, scores: ArrayLike) -> float:
    """Average precision: the area under the precision-recall curve, as a step function. Chance level: the prevalence.

    Arguments and errors as in :func:`auroc`. Equal scores enter together: the order of the rows does not matter.

    Examples
    --------
    >>> round(auprc([1, 0, 1, 0], [0.9, 0.8, 0.7, 0.1]), 6)
    0.833333
    """
    from sklearn.metrics import average_precision_score

    truth, values = _labelled(labels, scores, both=True)
    return float(average_precision_score(truth, values))


def classification_scores(labels: ArrayLike, scores: ArrayLike) -> dict[str, float]:
    """Return ``accuracy`` (at 0.5), ``auroc``, ``auprc`` and ``prevalence``, the share of positives.

    Examples
    --------
    >>> classification_scores([1, 0], [0.8, 0.3])
    {'accuracy': 1.0, 'auroc': 1.0, 'auprc': 1.0, 'prevalence': 0.5}
    """
    truth, _ = _labelled(labels, scores, both=True)
    return {
        "accuracy": accuracy(labels, scores),
        "auroc": auroc(labels, scores),
        "auprc": auprc(labels, scores),
        "prevalence": float(truth.mean()),
    }


def link_recovery(is_link: ArrayLike, scores: ArrayLike) -> dict[str, float]:
    """Score a ranking of candidate links against those known to be true.

    Parameters
    ----------
    is_link
        Shape (n,), 1 where the candidate is a true link, else 0.
    scores
        Shape (n,), larger is more likely true. Nothing is done to signs: pass ``abs(score)`` where strength counts.

    Returns
    -------
    dict
        ``auprc``, ``auroc``, ``prevalence`` (what a random ranking has as ``auprc``), ``lift`` (their ratio), ``n``.

    Examples
    --------
    >>> link_recovery([1, 0, 0, 0], [3.0, 2.0, 1.0, 0.0])
    {'auprc': 1.0, 'auroc': 1.0, 'prevalence': 0.25, 'lift': 4.0, 'n': 4}
    """
    truth, values = _labelled(is_link, scores, both=True)
    area, prevalence = auprc(truth, values), float(truth.mean())
    found = {"auprc": area, "auroc": auroc(truth, values), "prevalence": prevalence, "lift": area / prevalence}
    return {**found, "n": truth.size}


def brier(labels: ArrayLike, probabilities: ArrayLike) -> float:
    """Mean squared difference of probability and outcome (Brier 1950, Mon Weather Rev 78:1); 0.25 for always one half.

    Parameters
    ----------
    labels
        Shape (n,), boolean or 0 and 1.
    probabilities
        Of label 1, shape (n,), within [0, 1].

    Raises
    ------
    DataError
        As :func:`accuracy`, and for values outside [0, 1].

    Examples
    --------
    >>> round(brier([1, 0], [0.8, 0.3]), 3)
    0.065
    """
    truth, values = _probabilities(labels, probabilities)
    return float(np.square(values - truth).mean())


def reliability(labels: ArrayLike, probabilities: ArrayLike, bins: int = 10) -> DataFrame:
    """Compare predicted and observed shares of positives in equal bins of probability, the reliability diagram.

    Parameters
    ----------
    labels, probabilities
        As in :func:`brier`.
    bins
        How many; a probability on a border is in the lower bin.

    Returns
    -------
    DataFrame
        One row per bin with an example: ``lower, upper`` (borders), ``n``, ``predicted`` (mean probability) and
        ``observed`` (share of positives).

    Examples
    --------
    >>> reliability([0, 0, 1], [0.1, 0.3, 0.9], bins=2)
       lower  upper  n  predicted  observed
    0    0.0    0.5  2        0.2       0.0
    1    0.5    1.0  1        0.9       1.0
    """
    import pandas as pd

    truth, values = _probabilities(labels, probabilities)
    if bins < 1:
        raise DataError(f"bins: found {bins}, expected at least 1.")
    borders = np.linspace(0.0, 1.0, bins + 1)
    place = np.searchsorted(borders[1:-1], values)
    n = np.bincount(place, minlength=bins)
    some = n > 0
    table = {"lower": borders[:-1][some], "upper": borders[1:][some], "n": n[some]}
    for name, column in (("predicted", values), ("observed", truth)):
        table[name] = np.bincount(place, column, minlength=bins)[some] / n[some]
    return pd.DataFrame(table)


def expected_calibration_error(labels: ArrayLike, probabilities: ArrayLike, bins: int = 10) -> float:
    """Mean gap of predicted and observed shares over the bins of :func:`reliability`, each weighted by its examples.

    Of the probability of the positive class (Naeini, Cooper and Hauskrecht 2015, AAAI).

    Examples
    --------
    >>> round(expected_calibration_error([0, 0, 1], [0.1, 0.3, 0.9], bins=2), 4)
    0.1667
    """
    table = reliability(labels, probabilities, bins)
    return float(np.average((table["predicted"] - table["observed"]).abs(), weights=table["n"]))


def platt_scale(labels: ArrayLike, scores: ArrayLike) -> tuple[float, float]:
    """Fit the logistic curve that turns a score into a probability; give it examples that nothing is tested on.

    Returns
    -------
    slope, intercept
        Of ``1 / (1 + exp(-(slope * score + intercept)))`` (Platt 1999), by maximum likelihood, next to no penalty.

    Raises
    ------
    DataError
        As :func:`auroc`.

    Examples
    --------
    >>> slope, intercept = platt_scale([0, 1, 0, 1], [0.0, 0.0, 2.0, 2.0])
    >>> round(slope, 3) + 0.0, round(intercept, 3) + 0.0
    (0.0, 0.0)
    """
    from sklearn.linear_model import LogisticRegression

    truth, values = _labelled(labels, scores, both=True)
    centre, spread = values.mean(), values.std() or 1.0
    curve = LogisticRegression(C=1e6, max_iter=1000).fit(((values - centre) / spread)[:, None], truth)
    slope = float(curve.coef_[0, 0]) / spread
    return float(slope), float(curve.intercept_[0] - slope * centre)


def _probabilities(labels: ArrayLike, probabilities: ArrayLike) -> tuple[NDArray[np.bool_], Float]:
    truth, values = _labelled(labels, probabilities)
    if outside := int(((values < 0) | (values > 1)).sum()):
        raise DataError(
            f"probabilities: {outside} of {values.size} are outside [0, 1], from {values.min():.4g} to "
            f"{values.max():.4g}. Fix: platt_scale turns scores into probabilities."
        )
    return truth, values


def _labelled(labels: ArrayLike, scores: ArrayLike, *, both: bool = False) -> tuple[NDArray[np.bool_], Float]:
    truth, values = np.asarray(labels), np.asarray(scores, dtype=np.float64)
    if truth.shape != values.shape or truth.ndim != 1 or not truth.size:
        raise DataError(
            f"found labels of shape {truth.shape} and scores of shape {values.shape}, expected one of each per example."
        )
    if odd := int((~np.isin(truth, (0, 1))).sum()):
        raise DataError(f"labels: {odd} of {truth.size} are neither 0 nor 1.")
    if broken := int((~np.isfinite(values)).sum()):
        raise DataError(f"scores: {broken} of {values.size} are NaN or infinite. Fix: score them, or leave them out.")
    truth = truth.astype(bool)
    if both and (truth.all() or not truth.any()):
        raise DataError(
            f"labels: found {int(truth.sum())} positives among {truth.size} examples, expected both classes: "
            "no curve can be drawn."
        )
    return truth, values


def _pair(predicted: ArrayLike, truth: ArrayLike) -> tuple[Float, Float]:
    left, right = np.asarray(predicted, dtype=np.float64), np.asarray(truth, dtype=np.float64)
    if left.shape != right.shape or left.ndim != 2 or not left.size:
        raise DataError(
            f"found predictions of shape {left.shape} and truth of shape {right.shape}, "
            "expected the same cells x features, at least one of each."
        )
    if broken := int((~np.isfinite(left)).sum() + (~np.isfinite(right)).sum()):
        raise DataError(f"found {broken} values that are NaN or infinite, expected none in predictions and truth.")
    return left, right

"""Brier score, reliability and calibration error against libraries and counting by hand."""

import numpy as np
import pytest
from scipy.special import expit
from sklearn.calibration import calibration_curve
from sklearn.metrics import brier_score_loss, log_loss

from heteromics.errors import DataError
from heteromics.tasks import brier, expected_calibration_error, platt_scale, reliability


@pytest.fixture
def examples():
    rng = np.random.default_rng(3)
    probabilities = np.round(rng.random(400), 2)
    return (rng.random(400) < probabilities**2).astype(int), probabilities


def test_brier_agrees_with_scikit_learn(examples):
    assert brier(*examples) == pytest.approx(brier_score_loss(*examples))


@pytest.mark.parametrize("bins", [1, 7, 10])
def test_reliability_agrees_with_scikit_learn(examples, bins):
    labels, probabilities = examples
    table = reliability(labels, probabilities, bins)
    observed, predicted = calibration_curve(labels, probabilities, n_bins=bins)
    np.testing.assert_allclose(table["observed"], observed)
    np.testing.assert_allclose(table["predicted"], predicted)
    assert table["n"].sum() == 400


def test_calibration_error_is_counted_bin_by_bin(examples):
    labels, probabilities = examples
    total = 0.0
    for lower in range(10):
        inside = (probabilities > lower / 10) & (probabilities <= (lower + 1) / 10 + 1e-12)
        inside |= (probabilities == 0) & (lower == 0)
        if inside.any():
            total += inside.mean() * abs(labels[inside].mean() - probabilities[inside].mean())
    assert expected_calibration_error(labels, probabilities) == pytest.approx(total)
    assert total > 0.1


def test_probabilities_that_are_right_have_no_error_and_bins_without_examples_no_row():
    labels = [0, 1, 0, 0, 0, 1, 1, 1]
    probabilities = [0.5, 0.5, 0.25, 0.25, 0.25, 0.25, 1.0, 1.0]
    assert expected_calibration_error(labels, probabilities) == pytest.approx(0)
    table = reliability(labels, probabilities)
    assert table["lower"].round(1).tolist() == [0.2, 0.4, 0.9]
    assert table["n"].tolist() == [4, 2, 2]


def test_the_scale_of_a_score_is_the_best_logistic_curve():
    rng = np.random.default_rng(0)
    scores = rng.normal(5, 100, 500)
    labels = (rng.random(500) < expit(0.02 * scores - 0.5)).astype(int)
    slope, intercept = platt_scale(labels, scores)
    best = log_loss(labels, expit(slope * scores + intercept))
    assert slope == pytest.approx(0.02, abs=0.005)
    for step in (-1e-3, 1e-3):
        assert log_loss(labels, expit((slope + step) * scores + intercept)) > best
        assert log_loss(labels, expit(slope * scores + intercept + 50 * step)) > best


@pytest.mark.parametrize("labels", [[0, 0, 1, 1], [1, 1, 0, 0]])
def test_scores_that_separate_have_a_scale_too(labels):
    slope, intercept = platt_scale(labels, [1.0, 2.0, 3.0, 4.0])
    assert ((expit(slope * np.array([1, 2, 3, 4]) + intercept) > 0.5) == labels).all()


@pytest.mark.parametrize(
    ("probabilities", "message"),
    [([0.2, 1.5], r"1 of 2 are outside \[0, 1\], from 0.2 to 1.5"), ([0.2, np.nan], "1 of 2 are NaN or infinite")],
)
def test_what_is_no_probability(probabilities, message):
    for metric in (brier, reliability, expected_calibration_error):
        with pytest.raises(DataError, match=message):
            metric([0, 1], probabilities)
    with pytest.raises(DataError, match="bins: found 0"):
        reliability([0, 1], [0.2, 0.4], bins=0)

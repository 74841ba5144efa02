"""Figures, one function each: data in, a matplotlib ``Figure`` out; colour-blind-safe."""

from heteromics.plot._style import save_figure
from heteromics.plot.locus import locus
from heteromics.plot.metrics import metric_bars, precision_recall, predicted_against_measured, training_curve
from heteromics.plot.priors import layered, link_distances, match_bars

__all__ = [
    "layered",
    "link_distances",
    "locus",
    "match_bars",
    "metric_bars",
    "precision_recall",
    "predicted_against_measured",
    "save_figure",
    "training_curve",
]

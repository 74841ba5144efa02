"""Figures, one function each: data in, a matplotlib ``Figure`` out; colour-blind-safe."""

from heteromics.plot._style import save_figure
from heteromics.plot.locus import locus
from heteromics.plot.metrics import metric_bars, precision_recall, predicted_against_measured, training_curve

__all__ = ["locus", "metric_bars", "precision_recall", "predicted_against_measured", "save_figure", "training_curve"]

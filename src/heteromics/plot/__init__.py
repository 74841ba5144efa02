"""Figures, one function each: data in, a matplotlib ``Figure`` out; colour-blind-safe."""

from heteromics.plot._style import save_figure
from heteromics.plot.graphs import adjacency, degrees, metagraph, places
from heteromics.plot.locus import locus
from heteromics.plot.metrics import metric_bars, precision_recall, predicted_against_measured, training_curve
from heteromics.plot.priors import layered, link_distances, match_bars

__all__ = [
    "adjacency",
    "degrees",
    "layered",
    "link_distances",
    "locus",
    "match_bars",
    "metagraph",
    "metric_bars",
    "places",
    "precision_recall",
    "predicted_against_measured",
    "save_figure",
    "training_curve",
]

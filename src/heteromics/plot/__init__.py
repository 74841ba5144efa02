"""Figures, one function each: data in, a matplotlib ``Figure`` out; colour-blind-safe."""

from heteromics.plot._style import save_figure
from heteromics.plot.attention import attention_matrix, tf_binding
from heteromics.plot.graphs import adjacency, degrees, metagraph, places
from heteromics.plot.locus import locus
from heteromics.plot.metrics import metric_bars, precision_recall, predicted_against_measured, training_curve
from heteromics.plot.network import network
from heteromics.plot.priors import layered, link_distances, match_bars
from heteromics.plot.studies import calibration, evidence, few_shot

__all__ = [
    "adjacency",
    "attention_matrix",
    "calibration",
    "degrees",
    "evidence",
    "few_shot",
    "layered",
    "link_distances",
    "locus",
    "match_bars",
    "metagraph",
    "metric_bars",
    "network",
    "places",
    "precision_recall",
    "predicted_against_measured",
    "save_figure",
    "tf_binding",
    "training_curve",
]

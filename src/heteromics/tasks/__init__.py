"""Tasks: protocols that fit models and baselines alike and score them on held-out cells; names load on first use.

>>> from heteromics import tasks
>>> tasks.rmse([[1.0]], [[3.0]])
2.0
"""

from __future__ import annotations

from heteromics._lazy import on_first_use

_HOME = {
    "MatchingResult": "matching",
    "check_split_by_cell": "pairs",
    "make_pairs": "pairs",
    "paired_rows": "matching",
    "run_matching": "matching",
    "accuracy": "metrics",
    "auprc": "metrics",
    "auroc": "metrics",
    "classification_scores": "metrics",
    "link_recovery": "metrics",
    "PredictionResult": "prediction",
    "predict_modality": "prediction",
    "mae": "metrics",
    "pearson": "metrics",
    "regression_scores": "metrics",
    "regression_table": "metrics",
    "rmse": "metrics",
    "AveragePrecision": "retrieval",
    "Foscttm": "retrieval",
    "foscttm": "retrieval",
    "matching_score": "retrieval",
    "mean_average_precision": "retrieval",
    "recall_at": "retrieval",
}

__all__ = list(_HOME)
__getattr__, __dir__ = on_first_use(__name__, _HOME)

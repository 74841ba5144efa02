"""Tasks: protocols that fit models and baselines alike and score them on held-out cells; names load on first use.

>>> from heteromics import tasks
>>> tasks.rmse([[1.0]], [[3.0]])
2.0
"""

from __future__ import annotations

from heteromics._lazy import on_first_use

_HOME = {
    "Contender": "matching_models",
    "MatchingResult": "matching",
    "Protocol": "matching_studies",
    "ablations": "matching_studies",
    "across_types": "matching_studies",
    "check_split_by_cell": "pairs",
    "make_pairs": "pairs",
    "few_shot": "matching_studies",
    "leak_worth": "matching_summary",
    "paired_rows": "matching",
    "paper_results": "matching_summary",
    "read_runs": "matching_runs",
    "repeat_matching": "matching_studies",
    "run_matching": "matching",
    "split_paired": "_paired",
    "summarise_runs": "matching_summary",
    "with_training_cells": "_paired",
    "accuracy": "metrics",
    "auprc": "metrics",
    "auroc": "metrics",
    "brier": "metrics",
    "classification_scores": "metrics",
    "expected_calibration_error": "metrics",
    "link_recovery": "metrics",
    "PredictionResult": "prediction",
    "predict_modality": "prediction",
    "mae": "metrics",
    "pearson": "metrics",
    "platt_scale": "metrics",
    "reliability": "metrics",
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

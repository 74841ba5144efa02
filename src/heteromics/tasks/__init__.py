"""Tasks: protocols that fit models and baselines alike and score them on held-out cells; names load on first use.

>>> from heteromics import tasks
>>> tasks.rmse([[1.0]], [[3.0]])
2.0
"""

from __future__ import annotations

import importlib
from typing import Any

_HOME = {
    "MatchingResult": "matching",
    "check_split_by_cell": "matching",
    "make_pairs": "matching",
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
}

__all__ = list(_HOME)


def __getattr__(name: str) -> Any:
    if name in _HOME:
        return getattr(importlib.import_module(f"{__name__}.{_HOME[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return [*globals(), *__all__]

"""Published graph models and the baselines that keep them honest; names are loaded when they are first used.

>>> from heteromics import models
>>> models.ScMoGNNConfig().layers
4
"""

from __future__ import annotations

import importlib
from typing import Any

_HOME = {
    "Bi2Former": "bi2former",
    "Bi2FormerConfig": "bi2former",
    "CellTypeMatcher": "baselines",
    "FeatureMean": "baselines",
    "SVDRidge": "baselines",
    "ScMoGNN": "scmognn",
    "ScMoGNNConfig": "scmognn",
}

__all__ = list(_HOME)


def __getattr__(name: str) -> Any:
    if name in _HOME:
        return getattr(importlib.import_module(f"{__name__}.{_HOME[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return [*globals(), *__all__]

"""Heterogeneous graphs for multi-omics.

Priors in one DuckDB file, DGL heterographs from single-cell data and priors, graph models trained on them,
and the regulation they learned, explained. A sub-package is loaded when it is first used, so that
``import heteromics`` stays quick:

>>> import heteromics
>>> sorted(heteromics.__all__)[:3]
['data', 'graphs', 'interpret']
"""

from __future__ import annotations

import importlib
from types import ModuleType

__version__ = "0.1.0"

__all__ = ["data", "graphs", "interpret", "models", "nn", "plot", "priors", "tasks", "workflows"]


def __getattr__(name: str) -> ModuleType:
    if name in __all__:
        return importlib.import_module(f"{__name__}.{name}")
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return [*globals(), *__all__]

"""Published graph models and the baselines that keep them honest; names are loaded when they are first used.

>>> from heteromics import models
>>> models.ScMoGNNConfig().layers
4
"""

from __future__ import annotations

from heteromics._lazy import on_first_use

_HOME = {
    "Bi2Former": "bi2former",
    "Bi2FormerConfig": "bi2former",
    "BilinearMatcher": "bilinear",
    "CellTypeMatcher": "baselines",
    "FeatureMean": "baselines",
    "PairGCNII": "pair_baselines",
    "PairGCNIIConfig": "pair_baselines",
    "PairMLP": "pair_baselines",
    "PairMLPConfig": "pair_baselines",
    "PairSAGE": "pair_baselines",
    "PairSAGEConfig": "pair_baselines",
    "PairTransformer": "pair_baselines",
    "PairTransformerConfig": "pair_baselines",
    "SVDRidge": "baselines",
    "ScMoGNN": "scmognn",
    "ScMoGNNConfig": "scmognn",
}

__all__ = list(_HOME)
__getattr__, __dir__ = on_first_use(__name__, _HOME)

"""A seeded multi-omics simulator with planted regulation, always labelled synthetic."""

from heteromics.data.synthetic.config import SyntheticConfig
from heteromics.data.synthetic.multiome import SyntheticMultiome, simulate

__all__ = ["SyntheticConfig", "SyntheticMultiome", "simulate"]

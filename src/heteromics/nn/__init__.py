"""Array kernels of the models: sparse products over relations."""

from heteromics.nn.relation import Relation

__all__ = ["Relation"]

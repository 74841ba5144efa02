"""Array kernels of the models: sparse products over relations, segments, attention inside blocks."""

from heteromics.nn.relation import Relation
from heteromics.nn.segments import (
    segment_ids,
    segment_max,
    segment_mean,
    segment_softmax,
    segment_sum,
    segment_topk,
)

__all__ = [
    "Relation",
    "segment_ids",
    "segment_max",
    "segment_mean",
    "segment_softmax",
    "segment_sum",
    "segment_topk",
]

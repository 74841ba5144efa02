"""Array kernels of the models: sparse products over relations, segments, attention inside blocks."""

from heteromics.nn.bipartite import BipartiteMessages, Window, bipartite_attention, block_topk
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
    "BipartiteMessages",
    "Relation",
    "Window",
    "bipartite_attention",
    "block_topk",
    "segment_ids",
    "segment_max",
    "segment_mean",
    "segment_softmax",
    "segment_sum",
    "segment_topk",
]

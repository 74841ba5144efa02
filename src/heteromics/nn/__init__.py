"""Array kernels of the models: sparse products over relations, segments, attention, likelihoods, information, codes."""

from heteromics.nn.assignment import assign, assign_scores
from heteromics.nn.attention import (
    SetAttention,
    exact_attention,
    flow_attention,
    orthogonal_features,
    performer_attention,
)
from heteromics.nn.bipartite import BipartiteMessages, DistanceBias, Window, bipartite_attention, block_topk
from heteromics.nn.information import Club, club_bound, symmetric_infonce
from heteromics.nn.likelihoods import (
    Counts,
    bernoulli_nll,
    gaussian_nll,
    nb_nll,
    zero_inflated_gaussian_nll,
    zinb_nll,
)
from heteromics.nn.positions import (
    ConditionalPositions,
    GraphAttention,
    LaplacianPositions,
    LearnablePatches,
    RandomWalkPositions,
    SignNet,
    Sinusoid,
)
from heteromics.nn.propagation import decoupled_propagation
from heteromics.nn.quantize import CrossVQ, Quantized, code_perplexity
from heteromics.nn.relation import Relation
from heteromics.nn.segments import (
    segment_ids,
    segment_max,
    segment_mean,
    segment_softmax,
    segment_sort,
    segment_sum,
    segment_topk,
)

__all__ = [
    "BipartiteMessages",
    "Club",
    "ConditionalPositions",
    "Counts",
    "CrossVQ",
    "DistanceBias",
    "GraphAttention",
    "LaplacianPositions",
    "LearnablePatches",
    "Quantized",
    "RandomWalkPositions",
    "Relation",
    "SetAttention",
    "SignNet",
    "Sinusoid",
    "Window",
    "assign",
    "assign_scores",
    "bernoulli_nll",
    "bipartite_attention",
    "block_topk",
    "club_bound",
    "code_perplexity",
    "decoupled_propagation",
    "exact_attention",
    "flow_attention",
    "gaussian_nll",
    "nb_nll",
    "orthogonal_features",
    "performer_attention",
    "segment_ids",
    "segment_max",
    "segment_mean",
    "segment_softmax",
    "segment_sort",
    "segment_sum",
    "segment_topk",
    "symmetric_infonce",
    "zero_inflated_gaussian_nll",
    "zinb_nll",
]

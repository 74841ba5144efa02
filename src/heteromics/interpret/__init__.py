"""Interpretation: which peaks speak for which genes, by which evidence, and how far it can be trusted."""

from heteromics.interpret.links import (
    candidate_links,
    compare_links,
    correlation_links,
    distance_links,
    score_links,
)

__all__ = ["candidate_links", "compare_links", "correlation_links", "distance_links", "score_links"]

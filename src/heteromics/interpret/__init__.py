"""Interpretation: which peaks speak for which genes, by which evidence, and how far it can be trusted.

Names are loaded when they are first used.

>>> from heteromics import interpret
>>> interpret.distance_links.__module__
'heteromics.interpret.candidates'
"""

from __future__ import annotations

from heteromics._lazy import on_first_use

_HOME = {
    "candidate_links": "candidates",
    "compare_links": "candidates",
    "correlation_links": "candidates",
    "distance_links": "candidates",
    "locus_tables": "locus",
    "score_links": "candidates",
}

__all__ = list(_HOME)
__getattr__, __dir__ = on_first_use(__name__, _HOME)

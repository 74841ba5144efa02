"""Interpretation: which peaks speak for which genes, by which evidence, and how far it can be trusted.

Names are loaded when they are first used.

>>> from heteromics import interpret
>>> interpret.distance_links.__module__
'heteromics.interpret.candidates'
"""

from __future__ import annotations

from heteromics._lazy import on_first_use

_HOME = {
    "activity_by_group": "activity",
    "agreement": "_attribution_checks",
    "attribute": "attribution",
    "binding_correlation": "binding",
    "by_peak": "evidence",
    "candidate_links": "candidates",
    "compare_links": "candidates",
    "compare_networks": "network_comparison",
    "concordance": "_concordance",
    "correlation_links": "candidates",
    "delete_peaks": "_attribution_values",
    "distance_links": "candidates",
    "enrichment": "_enrichment",
    "evidence_for": "evidence",
    "expected_pairs": "_expected",
    "expressed_share": "_cell_groups",
    "link_probability": "_null_mixture",
    "links": "null",
    "locus_tables": "locus",
    "rank_concordance": "_concordance",
    "regulatory_network": "network",
    "regulon_activity": "activity",
    "sanity_check": "_attribution_checks",
    "score_links": "candidates",
    "store_regulons": "regulons",
    "tf_binding": "binding",
    "tf_gene_edges": "network",
    "to_networkx": "export",
    "value_gradients": "_attribution_values",
    "write_bedpe": "export",
    "write_cx2": "export",
    "write_graphml": "export",
    "write_table": "export",
}

__all__ = list(_HOME)
__getattr__, __dir__ = on_first_use(__name__, _HOME)

"""Biological priors in one DuckDB file: built from a recipe, read by many, with the origin of every edge.

Names are loaded when they are first used, so that array cores such as :mod:`heteromics.priors.neighbours` need no
DuckDB.

>>> from heteromics.priors import PriorStore
>>> store = PriorStore.build("demo", "priors.duckdb", sets=["source.folder=synthetic"])  # doctest: +SKIP
>>> store.neighbors("GENE1", edges="gene_peak")  # doctest: +SKIP
"""

from __future__ import annotations

from heteromics._lazy import on_first_use

_HOME = {
    "Plan": "plan",
    "PriorStore": "store",
    "Recipe": "recipe",
    "build_store": "build",
    "load_recipe": "recipe",
    "make_plan": "plan",
}

__all__ = list(_HOME)
__getattr__, __dir__ = on_first_use(__name__, _HOME)

"""Biological priors in one DuckDB file: built from a recipe, read by many, with the origin of every edge.

>>> from heteromics.priors import PriorStore
>>> store = PriorStore.build("demo", "priors.duckdb", sets=["source.folder=synthetic"])  # doctest: +SKIP
>>> store.neighbors("GENE1", edges="gene_peak")  # doctest: +SKIP
"""

from __future__ import annotations

from heteromics.priors.build import build_store
from heteromics.priors.plan import Plan, make_plan
from heteromics.priors.recipe import Recipe, load_recipe
from heteromics.priors.store import PriorStore

__all__ = ["Plan", "PriorStore", "Recipe", "build_store", "load_recipe", "make_plan"]

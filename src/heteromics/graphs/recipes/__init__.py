"""The kinds of graph recipes, one file each; :mod:`heteromics.graphs.recipe` reads, plans and builds them."""

from heteromics.graphs.recipes._common import GraphRecipe, LayerConfig, Outline, TrainingConfig
from heteromics.graphs.recipes.bipartite import BipartiteRecipe
from heteromics.graphs.recipes.cell_feature import CellFeatureRecipe
from heteromics.graphs.recipes.multiomics import MultiomicsRecipe
from heteromics.graphs.recipes.mutual_neighbors import MutualNeighborsRecipe
from heteromics.graphs.recipes.spatial import SpatialRecipe

KINDS: dict[str, type[GraphRecipe]] = {
    "cell_feature": CellFeatureRecipe,
    "bipartite": BipartiteRecipe,
    "multiomics": MultiomicsRecipe,
    "mutual_neighbors": MutualNeighborsRecipe,
    "spatial": SpatialRecipe,
}

__all__ = ["KINDS", "GraphRecipe", "LayerConfig", "Outline", "TrainingConfig"]

# ---
# jupyter:
#   jupytext:
#     formats: ipynb,py:percent
#     text_representation:
#       extension: .py
#       format_name: percent
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# %% [markdown]
# # Graphs: from cells to heterographs
#
# A graph model needs a graph: which cells express which genes, which peaks reach which gene, which proteins bind each
# other, which cells are neighbours. This notebook builds **every kind of graph** that heteromics knows, looks at each,
# checks it, and hands it to plain DGL, networkx and AnnData.
#
# It runs offline, on a small synthetic collection of RNA, ATAC and protein with coordinates. Cost follows the
# non-zeros: what takes seconds here takes minutes for a million cells.

# %%
import tempfile
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from anndata import AnnData
from scipy import sparse

from heteromics import data, graphs, plot
from heteromics.graphs import interchange, slots, transforms
from heteromics.nn import Relation
from heteromics.priors import PriorStore

folder = Path(tempfile.mkdtemp(prefix="heteromics_"))
made = data.simulate(seed=0)
rna, atac, protein = (made.mdata[name] for name in ("rna", "atac", "protein"))
store = PriorStore.build(
    "demo", folder / "priors.duckdb", sets=[f"source.folder={made.write(folder / 'made')}"], progress=False
)
split = data.split_cells(made.mdata.obs_names, seed=0)
training = made.mdata.obs_names[split == data.TRAIN]
log_rna = data.transform(rna, "log1p_cp10k")
made.mdata

# %% [markdown]
# ## Cells and features
#
# Every non-zero value is an edge, both ways, and both ways share one copy in memory. Genes of a pathway are joined too,
# weighted by the cosine of their values over **training cells**. `validate()` reports all problems at once.

# %%
cell_feature = graphs.cell_feature(log_rna, pathways=store, training_cells=training).validate()
plot.metagraph(cell_feature)

# %% [markdown]
# The card is what to look at first: counts, degrees, isolated nodes, where it came from, what did not join, and bytes.

# %%
cell_feature.card

# %%
plot.degrees(cell_feature)

# %% [markdown]
# ## Genes and peaks of a pair of profiles
#
# Bi²Former decides whether an RNA profile and an ATAC profile are of one cell. Its graph joins the genes expressed in
# one with the peaks open in the other, on the same chromosome. All pairs share one graph; a pair is cut out of it when
# it is needed.

# %%
bipartite = graphs.bipartite(rna, atac, store, mask="chromosome", training_cells=training).validate()
pair = graphs.PairBatcher(bipartite).pair_graph(0, 1)
pair

# %% [markdown]
# Genes and peaks are in the order of their chromosomes, so the mask shows as blocks. No gene x peak matrix exists.

# %%
plot.adjacency(pair, ("gene", "may_reach", "peak"))

# %% [markdown]
# ## Cells, genes, proteins and peaks
#
# scMoFormer's graph: values as edges, and what the store knows between genes, peaks and proteins. Features are made
# from training cells alone.

# %%
multiomics = graphs.multiomics(
    {"rna": log_rna, "protein": protein, "atac": atac}, store, training_cells=training, n_components=32
).validate()
plot.metagraph(multiomics)

# %%
counts = {
    what: {key: number for key, number in found.items() if isinstance(number, int)}
    for what, found in multiomics.meta["match"].items()
}
pd.DataFrame(counts).T.astype("Int64").astype(object).fillna("")

# %% [markdown]
# ## Mutual neighbours of two modalities
#
# GRACE joins an RNA cell and an ATAC cell where each is among the nearest of the other. Both have to be in one space:
# here gene activities (peaks near a gene, weighted by distance) stand beside expression.

# %%
links = store.frame("gene_peak")
gene_row = pd.Index(rna.var["gene_id"]).get_indexer(links["gene_id"])
peak_row = atac.var_names.get_indexer(links["peak_id"])
there = (gene_row >= 0) & (peak_row >= 0)
reach = sparse.csr_array(
    (links["weight"].to_numpy(np.float32)[there], (peak_row[there], gene_row[there])), shape=(atac.n_vars, rna.n_vars)
)
activity = AnnData(sparse.csr_matrix(atac.X @ reach), obs=atac.obs[["cell_type"]], var=rna.var[["gene_id"]])
mutual = graphs.mutual_neighbors(
    log_rna, data.transform(activity, "log1p_cp10k"), k=5, n_components=10, second="bipartite"
).validate()
mutual.card

# %%
types = {side: mutual.ndata(side)["cell_type"].numpy() for side in ("rna_cell", "atac_cell")}
same = {}
for name in ("mutual", "second_order"):
    indptr, indices, _ = mutual.adjacency(("rna_cell", name, "atac_cell"))
    source = np.repeat(types["rna_cell"], np.diff(indptr.numpy()))
    same[name] = (source == types["atac_cell"][indices.numpy()]).mean()
share = np.bincount(types["rna_cell"]) / rna.n_obs
same["any two cells"] = (share**2).sum()
pd.Series(same, name="share of edges between cells of one type").round(3)

# %% [markdown]
# ## Cells in a tissue, and codes of their places
#
# Neighbours within a radius, in the unit that is stated. Laplacian eigenvectors and return probabilities of random
# walks tell a model where in the graph a cell is.

# %%
spatial = graphs.spatial_delaunay(rna, longest_percentile=98).validate()
adjoins = ("cell", "adjoins", "cell")
graphs.add_encoding(spatial, "laplacian", adjoins, k=4, weight=None)
graphs.add_encoding(spatial, "random_walk", adjoins, steps=6, weight=None)
plot.places(spatial, adjoins, values=spatial.ndata("cell")["laplacian"][:, 1], label="Laplacian eigenvector 2")

# %% [markdown]
# ## Null models
#
# Does a result hang on the edges, or only on the degrees? A transform returns a new graph, leaves the old one as it is,
# and writes itself into the card.

# %%
shuffled = transforms.shuffle_edges(cell_feature, ("feature", "pathway", "feature"), seed=0)
shuffled.meta["transforms"]

# %% [markdown]
# ## To plain DGL, to networkx, to AnnData
#
# The container *is* a DGL graph, so DGL's own functions run on it. The kernels of heteromics give the same numbers and
# keep the transposed matrix, so that the backward pass costs no more than the forward pass.

# %%
import dgl.function as fn

expresses = ("cell", "expresses", "feature")
theirs = interchange.to_dgl(cell_feature)
with theirs.local_scope():
    theirs.nodes["cell"].data["h"] = torch.ones(rna.n_obs, 1)
    theirs.update_all(fn.u_mul_e("h", "weight", "m"), fn.mean("m", "h"), etype=expresses)
    mean_of_dgl = theirs.nodes["feature"].data["h"]
mean_of_ours = Relation.from_graph(cell_feature, expresses).spmm(torch.ones(rna.n_obs, 1), reduce="mean")
float((mean_of_dgl - mean_of_ours).abs().max())

# %%
import networkx as nx

network = nx.Graph(interchange.to_networkx(spatial))
pd.Series(
    {
        "cells": network.number_of_nodes(),
        "components": nx.number_connected_components(network),
        "clustering": round(nx.average_clustering(network), 3),
    }
)

# %%
slots.to_obsp(spatial, rna)
rna

# %% [markdown]
# ## On disk
#
# A folder of Parquet edges, safetensors features and a schema with checksums. No pickles; any language reads it.

# %%
kept = spatial.save(folder / "spatial")
again = graphs.HeteroGraph.load(kept)
assert graphs.graph_hash(again) == graphs.graph_hash(spatial)
sorted(path.relative_to(kept).as_posix() for path in kept.rglob("*") if path.is_file())

# %% [markdown]
# ## The same from the shell
#
# ```
# heteromics graph plan multiomics --data cite.h5mu --db priors.duckdb
# heteromics graph build multiomics --data cite.h5mu --db priors.duckdb --out graph
# heteromics graph card graph --html card.html
# heteromics graph build cell_feature --data atlas.h5ad --out shards --cells-per-shard 10000
# ```

# %%
store.close()

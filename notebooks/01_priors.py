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
# # Priors: from files to a store to questions
#
# Which peaks can reach a gene, with which motifs, and which transcription factors regulate it? The answer lies in
# half a dozen files with four ways of naming things. This notebook turns them into **one DuckDB file** and asks it.
#
# It runs offline, on a small synthetic genome whose regulation is known, so that answers can be checked. The last
# section lists the commands for human and mouse.

# %%
import tempfile
from pathlib import Path

import pandas as pd

from heteromics import plot
from heteromics.data.synthetic import simulate
from heteromics.priors import PriorStore

folder = Path(tempfile.mkdtemp(prefix="heteromics_"))
made = simulate(seed=0)
made.write(folder / "synthetic")
sorted(path.name for path in (folder / "synthetic").iterdir())

# %% [markdown]
# ## Plan, then build
#
# A recipe says which sources, which tables, which parameters. A plan says what would be made, before any work.

# %%
sets = [f"source.folder={folder / 'synthetic'}"]
planned = PriorStore.plan("demo", sets=sets)
pd.DataFrame(planned.table_rows())

# %%
store = PriorStore.build("demo", folder / "priors.duckdb", sets=sets, progress=False)
store.summary()[["table", "kind", "rows", "description"]]

# %% [markdown]
# ## What joined, and what did not
#
# Names are where priors break. Every name that did not join as it stood is in the match report, with the reason.
# A made-up genome has few such names; real files have hundreds.

# %%
plot.match_bars(store.match_summary())

# %%
store.match_report()

# %% [markdown]
# ## Which peaks can reach a gene?
#
# We ask about the gene with most regulators in the collection.

# %%
most = store.connection.execute(
    "SELECT symbol, gene_id, count(*) AS regulators FROM tf_gene JOIN gene USING (gene_id) GROUP BY ALL "
    "ORDER BY regulators DESC, symbol LIMIT 1"
).df()
symbol, gene_id = most.loc[0, ["symbol", "gene_id"]]
peaks = store.neighbors(symbol, edges="gene_peak")
f"{len(peaks)} peaks within reach of {symbol}"

# %%
plot.link_distances(store.frame("gene_peak"))

# %% [markdown]
# ## With which motifs, and which factors?
#
# One question in SQL: peaks within reach, the factors with a motif in them, and whether a collection of regulons lists
# the factor as a regulator of the gene.

# %%
support = store.connection.execute(
    """
    SELECT factor.symbol AS factor, factor.gene_id AS factor_id, link.peak_id, link.distance, hit.score,
           listed.sign, listed.confidence
    FROM gene_peak AS link
    JOIN tf_peak AS hit USING (peak_id)
    JOIN gene AS factor ON factor.gene_id = hit.tf_id
    LEFT JOIN tf_gene AS listed ON listed.tf_id = hit.tf_id AND listed.gene_id = link.gene_id
    WHERE link.gene_id = ?
    ORDER BY listed.sign IS NULL, link.distance
    """,
    [gene_id],
).df()
support.head(10)

# %%
supported = support.dropna(subset="sign").drop_duplicates("factor").head(8)
factors = dict(zip(supported["factor_id"], supported["factor"], strict=True))
near = support[support["factor_id"].isin(factors)].drop_duplicates("peak_id").head(12)["peak_id"].tolist()
graph = store.subgraph([*factors, *near, gene_id])
layers = {"factors": list(factors), "peaks with their motif": near, "gene": [gene_id]}
plot.layered(graph, layers, labels={**factors, gene_id: symbol})

# %% [markdown]
# ## How is a factor connected to the gene?
#
# `paths` returns all shortest ways from one node to another, here through peaks alone.

# %%
store.paths(next(iter(factors)), symbol, edges=["tf_peak", "gene_peak"]).head(6)

# %% [markdown]
# ## All evidence for one edge
#
# `why` puts everything the store knows of a pair into one row.

# %%
store.why(gene_id, near[0]).T

# %% [markdown]
# ## How far do the answers agree with what was planted?
#
# In this genome the truth is known: a peak drives a gene when a factor binds it there. Distance alone, and distance
# with the support of a motif and a regulon:

# %%
truth = made.truth[["gene_id", "peak"]].assign(planted=True)
candidates = store.connection.execute(
    """
    SELECT link.gene_id, link.peak_id AS peak, link.weight,
           bool_or(listed.tf_id IS NOT NULL) AS supported
    FROM gene_peak AS link
    LEFT JOIN tf_peak AS hit USING (peak_id)
    LEFT JOIN tf_gene AS listed ON listed.tf_id = hit.tf_id AND listed.gene_id = link.gene_id
    GROUP BY ALL
    """
).df()
joined = candidates.merge(truth, on=["gene_id", "peak"], how="left")
planted = joined["planted"].notna().to_numpy()
scores = {
    "distance": joined["weight"].to_numpy(),
    "distance, motif and regulon": (joined["weight"] + joined["supported"]).to_numpy(),
}
plot.precision_recall(scores, planted)

# %% [markdown]
# ## Human and mouse
#
# ```
# heteromics priors plan human_grch38
# heteromics priors build human_grch38 --db priors.duckdb --set source.peaks=multiome.h5mu
# heteromics priors neighbors priors.duckdb GATA1 --hops 1
# heteromics priors why priors.duckdb GATA1,chrX:48786000-48787000
# heteromics priors export priors.duckdb --format bedpe --out links
# ```

# %%
store.close()

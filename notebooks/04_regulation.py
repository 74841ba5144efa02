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
# # Regulation: which peaks regulate which gene, and can we trust it?
#
# Bi²Former learns to tell whether an RNA profile and an ATAC profile are of one cell, by attention between genes and
# peaks. This notebook goes from the data to **one locus**: links with null models, what the model rests on besides
# attention, evidence that had no part in the model, transcription factors, and files for other programs.
#
# The data are SNARE-seq of adult mouse cortex (Chen et al. 2019), where `HETEROMICS_DATA` names a local mirror of the
# manifest that has them; elsewhere a synthetic multiome with planted regulation takes their place. To run in minutes on
# two cores, the model sees a few thousand cells for a few epochs. **For a result to publish, train on all cells, with
# several seeds.**

# %%
import warnings

warnings.filterwarnings("ignore", message="IProgress not found")  # said where ipywidgets are not installed

# %%
import tempfile
from pathlib import Path

import numpy as np
import pandas as pd

from heteromics import data, graphs, interpret, plot, tasks
from heteromics.errors import FetchError
from heteromics.models import Bi2FormerConfig
from heteromics.priors import PriorStore

folder = Path(tempfile.mkdtemp(prefix="heteromics_"))
SNARE, GENCODE, DOROTHEA = "multiome_snareseq_mop", "prior_gtf_mm10_gencode_vM25", "prior_tf_target_dorothea"
try:
    files = [data.locate(f"{SNARE}/{name}.h5ad") for name in ("rna", "atac")]
    for name in (f"{GENCODE}/gencode.vM25.genes_only.gtf.gz", f"{GENCODE}/gencode.vM25.chr19_full.gtf.gz"):
        data.locate(name)
    data.locate(f"{DOROTHEA}/dorothea_mouse_ABC.csv.gz")
except FetchError:
    files = []
REAL = bool(files)
"SNARE-seq of mouse cortex" if REAL else "synthetic multiome: no mirror has SNARE-seq"

# %% [markdown]
# ## Priors and data
#
# The store places genes and peaks on the genome and links each gene with the peaks within 150 kb of its transcription
# start. Those pairs are the candidates; everything below is about them.

# %%
if REAL:
    rna, atac = (data.read(path, modality=name, layer="X") for name, path in zip(("rna", "atac"), files, strict=True))
    off = (
        "nodes.region",
        "nodes.motif",
        "edges.peak_region",
        "edges.pathways",
        "edges.interactions",
        "attributes.splits",
    )
    common = [f"source.peaks=manifest:{SNARE}/atac.h5ad", *(f"{key}=false" for key in off)]
    recipe = "mouse_grcm38"
    sets = [
        f"source.gtf=manifest:{GENCODE}/gencode.vM25.genes_only.gtf.gz",
        f"source.genes=manifest:{SNARE}/rna.h5ad",
        f"source.regulons_dorothea=manifest:{DOROTHEA}/dorothea_mouse_ABC.csv.gz",
        "edges.regulons={}",
        *common,
    ]
else:
    made = data.simulate(
        data.SyntheticConfig(n_cells=700, n_cell_types=4, n_genes=160, n_peaks=1_100, n_chromosomes=4), seed=0
    )
    rna, atac = made.mdata["rna"], made.mdata["atac"]
    recipe, sets = "demo", [f"source.folder={made.write(folder / 'made')}"]
store = PriorStore.build(recipe, folder / "priors.duckdb", sets=sets, progress=False)
store.match_summary().query("table_name in ['gene', 'peak', 'gene_peak', 'tf_gene']")

# %%
chosen = data.few_cells(rna.obs_names, 4_000 if REAL else 700, seed=0)
split = np.where(chosen, data.split_cells(rna.obs_names, shares=(0.75, 0.1, 0.15), seed=0), -1).astype(np.int8)
training = rna.obs_names[split == data.TRAIN]
graph = graphs.bipartite(rna, atac, store, mask="window", training_cells=training).validate()
candidates = interpret.candidate_links(graph, store)
graph.card

# %% [markdown]
# ## Train, and say what the score is worth
#
# Test cells were in no training pair. *Easy* negatives are of another cell type, so a classifier of cell types solves
# them (`CellTypeMatcher`); *hard* ones are of the same type, where nothing but the pairing itself helps, or the depth
# of both profiles (`DepthMatcher`). Attention is worth reading as far as the model beats these controls.

# %%
config = Bi2FormerConfig(top_k=None, max_epochs=6 if REAL else 15)
result = tasks.run_matching(graph, split, config=config, progress=False, seed=0)
table = result.metrics.pivot_table(index=["negatives", "model"], columns="metric", values="value")
table[["auroc", "auprc", "accuracy", "ece"]].round(3)

# %%
plot.calibration(result.reliability, negatives="hard", title="Hard negatives")

# %% [markdown]
# ## Links beside what chance gives
#
# A link's *score* is what the log odds of "same cell" would lose without it. Two nulls say how much of that means
# anything:
#
# - **exchanged cells** (`z`, `fdr_above`): the RNA profile of a cell with the ATAC profile of another of its type,
#   batch and depth. What cell types have in common makes no link.
# - **links as long** (`z_distance`, `fdr_above_distance`): other links of that length on the same chromosome. What
#   a model gives to every near peak makes no link.
#
# Sparse data decide what can be said at all. A pair that would meet in one or two cells by chance cannot be tested, so
# pairs that are `expected` to meet in fewer than ten cells, were cells exchanged, are not `tested`; expectation knows
# only how many cells of each type, batch and depth have the gene and the peak, so choosing by it biases no test.
#
# The null holds for cells the model was not trained on, which are those taken here. (The synthetic multiome has too few
# of them, so all its cells are taken, and its p are no test in the strict sense.) A link worth following is above both
# nulls (`fdr_both`). `posterior` is high for pairs that avoid each other too; z tells which.

# %%
rows, types = tasks.paired_rows(graph)
unseen = ~graph.ndata("rna_cell")["training"].numpy()[rows[:, 0]]
cells = rows[unseen] if REAL else rows
every = interpret.links(
    result.model, graph, groups=None, cells=cells, candidates=candidates, permutations=5, progress=False
)
links = every[every["tested"]].reset_index(drop=True)
both = links["fdr_both"] <= 0.1
main = [
    "gene",
    "peak",
    "distance",
    "n_pairs",
    "score",
    "z",
    "fdr_above",
    "z_distance",
    "fdr_above_distance",
    "fdr_both",
    "posterior",
]
links.sort_values("posterior", ascending=False)[main].head(10).round(4)

# %%
counted = {
    "candidates": len(candidates),
    "tested": len(links),
    "above exchanged cells": int((links["fdr_above"] <= 0.1).sum()),
    "above links as long": int((links["fdr_above_distance"] <= 0.1).sum()),
    "above both": int(both.sum()),
    "below exchanged cells": int(((links["fdr"] <= 0.1) & (links["z"] < 0)).sum()),
    "cells trained on": every.attrs["null"]["n_training"],
}
pd.Series(counted, name="pairs, FDR 0.1")

# %% [markdown]
# ## One locus
#
# *Rorb* marks layer 4 neurons, and chr19, where it lies, has whole gene models at hand. It was chosen before looking at
# its links; what the test says of them stands in the table, whatever it is. (In the synthetic multiome: the gene with
# most planted links.) Links that do not pass are dashed and grey; peaks without an arc could not be tested.

# %%
if REAL:
    gene, cell_type, factor = "Rorb", "E3Rorb", None
else:
    gene, cell_type = made.truth["gene"].value_counts().index[0], "type_1"
    factor = made.truth.loc[made.truth["gene"] == gene, "tf"].iloc[0]
everything = candidates[["gene", "peak"]].merge(links, how="left", on=["gene", "peak"])  # also what was not tested
view = interpret.locus_tables(everything, gene, graph, store, factor=factor)
if REAL:  # the annotation of all chromosomes has gene lines alone; whole models of chr19 come from a second file
    whole = [f"source.gtf=manifest:{GENCODE}/gencode.vM25.chr19_full.gtf.gz", *common]
    with PriorStore.build("mouse_grcm38", folder / "chr19.duckdb", sets=whole, progress=False) as models:
        view["parts"] = models.frame("gene_part")
view["links"][main].sort_values("posterior", ascending=False).head(8).round(4)

# %%
strength = view["links"].assign(score=view["links"]["z"])
plot.locus(**view | {"links": strength}, title=f"{gene}: links by z against exchanged cells", fdr_max=0.1)

# %% [markdown]
# ## One cell
#
# The attention of a single cell, at several thresholds as in the paper: genes and peaks in the order of the genome. It
# is this matrix, over many cells, that the links above are made of. Alone it proves nothing.

# %%
one = rows[np.flatnonzero(types == cell_type)[:200]]
busiest = one[np.argmax(np.diff(graph.adjacency(("atac_cell", "opens", "peak"))[0].numpy())[one[:, 1]])]
attention = result.model.links(busiest[None], progress=False)
order = np.lexsort([graph.index(side, attention[side]) for side in ("peak", "gene")])
plot.attention_matrix(attention.iloc[order], title=f"a cell of {cell_type}")

# %% [markdown]
# ## Is attention an explanation?
#
# It is contested. So what the model rests on is asked in other ways too: integrated gradients, and what the match loses
# when a link is taken away (ablation). Where they disagree with attention, believe the ablation.

# %%
asked = links.sort_values("posterior", ascending=False).head(300)[["gene", "peak"]]
some_cells = cells[np.random.default_rng(0).choice(len(cells), min(600, len(cells)), replace=False)]
methods = ("attention", "effect", "integrated_gradients", "ablation")
attributed = interpret.attribute(result.model, graph, some_cells, asked, methods, progress=False)
interpret.agreement(attributed, methods, k=(30,))[["left", "right", "n", "spearman", "shared", "expected"]].round(2)

# %% [markdown]
# ## Evidence beside the model
#
# The model knows no distance inside the window and no motif: that its links tend to be promoters is evidence of their
# own. Correlation is no such evidence. It is of the same cells, those of training among them, and asks nearly what the
# null of exchanged cells asks; it is here to compare with. Over all cells it sees cell types, which that null does not.
# Intervals come from drawing whole stretches of the genome.

# %%
evidence = interpret.evidence_for(links, store, rna=rna, atac=atac)
near = store.frame("gene_peak").merge(store.frame("gene")[["gene_id", "symbol"]], on="gene_id")
promoters = set(near.loc[near["in_promoter"], ["symbol", "peak_id"]].itertuples(index=False, name=None))
pairs = zip(links["gene"], links["peak"], strict=True)
evidence["in_promoter"] = pd.array([pair in promoters for pair in pairs], dtype="boolean")
drawn = {"n_boot": 200, "block_bp": 2_000_000 if REAL else 250_000}
scores = {"null-corrected": links["z"], "effect": links["score"], "attention": links["attention"]}
agree = pd.concat(
    interpret.concordance(links.assign(score=score), evidence, **drawn).assign(method=name)
    for name, score in scores.items()
)
plot.evidence(agree, title="Links and evidence")

# %%
interpret.rank_concordance(links, evidence, score="z", columns=["distance", "correlation"], **drawn).round(3)

# %% [markdown]
# In the synthetic multiome the truth is known. The fair comparisons are `z` with the correlation within types, both
# without distance, and `posterior` with that correlation and distance. A plain correlation is hard to beat: where it is
# ahead, the model adds nothing to the links, whatever it adds to the matching.

# %%
found = None
if not REAL:  # here the truth is known
    pairs = links[["gene", "peak"]]
    within = interpret.correlation_links(rna, atac, pairs, within=rna.obs["cell_type"])
    fisher = np.arctanh(within["score"].clip(-0.999999, 0.999999)) * np.sqrt(rna.n_obs - len(set(types)) - 2)
    together = 1 - interpret.link_probability(fisher, links["distance"])[:, 0]
    tables = {
        "posterior": links.assign(score=links["posterior"]),
        "z": links.assign(score=links["z"]),
        "correlation": interpret.correlation_links(rna, atac, pairs),
        "correlation within types": within,
        "correlation within types and distance": within.assign(score=together),
        "distance": interpret.distance_links(pairs.merge(candidates, how="left", on=["gene", "peak"])),
    }
    signed = ("z", "correlation", "correlation within types")
    found = interpret.compare_links(tables, made.truth, pairs, absolute=signed)
    found = found[["method", "auprc", "auroc", "prevalence"]].round(3)
found

# %% [markdown]
# ## Factors
#
# Factors for the best links above their null: all that pass, and fifty at least. Motif hits in peaks need the sequence
# of the genome, which the mirror has not for mouse: there the factors are those that DoRothEA lists for the gene, which
# says nothing of the peak.

# %%
best = links[links["z"] > 0].nlargest(max(int(both.sum()), 50), "posterior")
if REAL:
    symbol = store.frame("gene").set_index("gene_id")["symbol"]
    listed = store.frame("tf_gene")
    listed = listed.assign(tf=listed["tf_id"].map(symbol), gene=listed["gene_id"].map(symbol))
    strongest = best.groupby("gene", as_index=False)["z"].max().rename(columns={"z": "score"})
    network = listed.drop_duplicates(["tf", "gene"])[["tf", "gene", "sign"]].merge(strongest, on="gene")
else:
    network = interpret.regulatory_network(best, store)
plot.network(network, most=90, title="factors of the best links")

# %% [markdown]
# ## Hand on
#
# BEDPE opens in genome browsers and bedtools, CX2 in Cytoscape, GraphML in Gephi and networkx, Parquet anywhere.

# %%
interpret.write_bedpe(links, folder / "links.bedpe", store)
interpret.write_table(links, folder / "links.parquet")
interpret.write_table(network, folder / "network.tsv")
if "peak" in network:
    interpret.write_cx2(network, folder / "network.cx2", name=gene)
    interpret.write_graphml(network, folder / "network.graphml")
pd.Series(
    {path.name: path.stat().st_size for path in sorted(folder.glob("*.*")) if path.suffix != ".duckdb"}, name="bytes"
)

# %% [markdown]
# ## What to believe
#
# - **A link above both nulls** has a gene and a peak that go together cell by cell, more than other pairs of that
#   length do. It does not say which drives which, nor that it is direct: a factor that acts on both does the same.
# - **A pair that was not tested** is not a pair without a link. With some hundred open peaks a cell, most cannot be
#   tested; more cells mend that, a longer training does not.
# - **The score on hard negatives** says how much of the pairing the model sees at all. Where depth alone does as well,
#   read links with the nulls, never attention alone.
# - Few epochs and cells were used here. Train on all, and see whether the links stay with another seed.
#
# The same from the shell:
#
# ```
# heteromics train bi2former --task matching --data snare.h5mu --db priors.duckdb --out runs/snare \
#     --set data.mask=window
# heteromics explain runs/snare --gene Rorb --cell-type E3Rorb --out links
# ```

# %%
store.close()

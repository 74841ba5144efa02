"""Graphs of real cells read block by block from disk, of two modalities, with protein interactions; and propagation."""

import numpy as np
import pandas as pd
import pytest
import scipy.sparse as sp
import torch

from heteromics.data import Lsi, as_csr, open_backed, read
from heteromics.graphs import cell_feature
from heteromics.graphs.cell_feature import EXPRESSES, Interactions
from heteromics.nn import decoupled_propagation

pytestmark = pytest.mark.realdata


@pytest.fixture(scope="module")
def marrow(mirror):
    return mirror / "cite_bmmc_neurips2021"


def matrix(graph, ntype):
    indptr, indices, _ = graph.adjacency(("cell", "expresses", ntype))
    weight = graph.edata(("cell", "expresses", ntype))["weight"]
    return sp.csr_array((weight, indices, indptr), shape=(graph.num_nodes("cell"), graph.num_nodes(ntype)))


@pytest.mark.parametrize("layer", ["X", "counts"])
def test_columns_on_disk_become_the_rows_that_scipy_makes(marrow, layer):
    path = marrow / "common.output_rna.h5ad"
    whole = read(path, modality="rna", layer=layer, expect="normalised")
    with open_backed(path, modality="rna", layer=layer) as backed:
        made = as_csr(backed.X, "rna", "normalised", most_values=10_000)
        assert backed.X.format == "csc"
    for name in ("indptr", "indices", "data"):
        assert np.array_equal(getattr(made, name), getattr(whole.X, name))


def test_two_modalities_with_interactions_from_disk(marrow, mirror):
    links = pd.read_csv(mirror / "prior_ppi_irefindex_symbols" / "ppi_symbols.csv.gz")
    links = links.rename(columns=dict(zip(links.columns[:2], ("gene_a", "gene_b"), strict=True)))
    with (
        open_backed(marrow / "common.output_rna.h5ad", modality="rna", layer="counts") as rna,
        open_backed(marrow / "common.output_mod2.h5ad", modality="protein", layer="counts") as protein,
    ):
        graph = cell_feature(
            {"rna": rna, "protein": protein},
            interactions=Interactions(links),
            obs=("batch", "cell_type"),
            expect="counts",
        ).validate()
        keys = {str(name): row for row, name in enumerate(rna.var_names)}
    for name, file in (("rna", "common.output_rna.h5ad"), ("protein", "common.output_mod2.h5ad")):
        whole = read(marrow / file, modality=name, layer="counts")
        assert abs(matrix(graph, f"{name}_feature") - whole.X).sum() == 0
        alone = cell_feature(whole, obs=("batch",), expect="counts")
        assert torch.equal(graph.ndata("cell")[f"{name}_statistics"], alone.ndata("cell")["statistics"])
        assert graph.num_edges(("cell", "expresses", f"{name}_feature")) == alone.num_edges(EXPRESSES)
    ends = zip(links["gene_a"].astype(str), links["gene_b"].astype(str), strict=True)
    pairs = {frozenset((a, b)) for a, b in ends if a in keys and b in keys and a != b}
    assert len(pairs) > 50
    assert graph.num_edges(("rna_feature", "interacts", "rna_feature")) == 2 * len(pairs)


def test_propagated_lsi_keeps_cell_types_together(marrow):
    rna = read(marrow / "common.output_rna.h5ad", modality="rna", layer="counts")
    train = rna.obs["is_train"].to_numpy() == rna.obs["is_train"].to_numpy()[0]
    chosen = train if 100 < train.sum() < 500 else np.arange(rna.n_obs) < 400
    lsi = Lsi.fit(rna.X[chosen], 20, seed=0)
    layers = decoupled_propagation(torch.from_numpy(lsi.apply(rna.X)))
    types = rna.obs["cell_type"].astype(str).to_numpy()
    chance = float((pd.Series(types).value_counts(normalize=True) ** 2).sum())
    for layer in layers:
        assert layer.shape == (rna.n_obs, 20)
        unit = torch.nn.functional.normalize(layer, dim=1)
        nearest = (unit @ unit.T).fill_diagonal_(-2).argmax(1).numpy()  # bounded: 600 cells
        assert (types[nearest] == types).mean() > 3 * chance

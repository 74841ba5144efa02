import dataclasses
from itertools import permutations

import numpy as np
import pandas as pd
import pytest
import torch
from anndata import AnnData
from scipy import sparse

from heteromics.graphs import cell_feature
from heteromics.models._scmognn_network import WeightedSAGE, pathway_relation
from heteromics.models.scmognn import ScMoGNN, ScMoGNNConfig

SETS = {"A": [0, 1, 2, 3], "B": [1, 2, 3, 6], "C": [2, 3], "D": [5, 7]}  # 2 and 3 are in three sets, 4 is in none
CONFIG = ScMoGNNConfig(width=8, layers=2, max_epochs=3)


@pytest.fixture(scope="module")
def rna():
    counts = np.random.default_rng(0).poisson(1.5, (50, 8)).astype(np.float32)
    adata = AnnData(sparse.csr_matrix(counts))
    adata.obs_names, adata.var_names = [f"cell{i}" for i in range(50)], [f"g{i}" for i in range(8)]
    return adata


@pytest.fixture(scope="module")
def graph(rna):
    rows = [(f"g{gene}", name) for name, genes in SETS.items() for gene in genes]
    return cell_feature(rna, pathways=pd.DataFrame(rows, columns=["gene_id", "pathway_id"]), threshold=-1.0)


def cosine(rna):
    columns = rna.X.toarray().astype(float)  # 50 x 8
    length = np.sqrt((columns**2).sum(0))
    return columns.T @ columns / np.outer(length, length)


@pytest.mark.parametrize("repeats", [False, True])
def test_the_mean_counts_an_edge_once_or_once_per_shared_set(rna, graph, repeats):
    weight = cosine(rna)
    heard = {gene: [] for gene in range(8)}  # edge by edge, clique by clique
    for genes in SETS.values():
        for gene, other in permutations(genes, 2):
            heard[gene].append(other)
    relation = pathway_relation(graph, repeats=repeats)
    torch.manual_seed(0)
    layer = WeightedSAGE(4, 3, edge_dropout=0.0).eval()
    feature = torch.randn(8, 4)
    state, want = feature.numpy().astype(float), np.zeros((8, 3))
    for gene, others in heard.items():
        others = others if repeats else sorted(set(others))
        if others:
            mean = np.mean([weight[gene, other] * state[other] for other in others], axis=0)
            want[gene] = mean @ layer.neighbour.weight.detach().numpy().T
        heard[gene] = others
    own = state @ layer.own.weight.detach().numpy().T + layer.own.bias.detach().numpy()
    assert relation.nnz == sum(map(len, heard.values()))
    np.testing.assert_allclose(layer(relation, feature, feature).detach().numpy(), own + want, atol=1e-5)


def test_repeated_edges_are_those_of_the_published_setting_and_outlive_the_disk(rna, graph, tmp_path):
    assert ScMoGNNConfig.as_published().pathway_repeats
    assert not ScMoGNNConfig().pathway_repeats
    target = AnnData(rna.X[:40, :2].toarray() + 1)
    target.obs_names = rna.obs_names[:40]
    once, often = (
        ScMoGNN(graph, config=dataclasses.replace(CONFIG, pathway_repeats=repeats)).fit(
            target, device="cpu", progress=False
        )
        for repeats in (False, True)
    )
    assert not once.predict().equals(often.predict())
    often.save(tmp_path / "model")
    loaded = ScMoGNN.load(tmp_path / "model", graph)
    assert loaded.config.pathway_repeats
    assert loaded.predict().equals(often.predict())
    assert loaded.predict(cell_feature(rna)).equals(often.predict())  # pathway edges are those of training

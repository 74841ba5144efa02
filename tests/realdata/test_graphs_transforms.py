"""Splits, pairs within groups, null models and matching of cells on SNARE-seq and CITE-seq data."""

import numpy as np
import pytest
import torch

from heteromics.data import check_groups_apart, few_cells, hold_out, read, split_cells
from heteromics.errors import DataError
from heteromics.graphs import HeteroGraph, transforms
from heteromics.tasks import make_pairs

pytestmark = pytest.mark.realdata

OPENS = ("cell", "opens", "peak")


@pytest.fixture(scope="module")
def atac(mirror):
    return read(mirror / "multiome_snareseq_mop" / "atac.h5ad", modality="atac", layer="X")


@pytest.fixture(scope="module")
def types(atac):
    return atac.obs["cell_type"].astype(str).to_numpy()


def test_negatives_within_a_group_and_a_type(types):
    rng = np.random.default_rng(0)
    group = rng.integers(0, 5, types.size)
    for mode in ("easy", "hard", "random"):
        pairs, labels = make_pairs(np.arange(types.size), types, mode=mode, within=group, seed=0)
        left, right = pairs[labels == 0].T
        assert (group[left] == group[right]).all()
        assert (left != right).all()
        if mode != "random":
            assert ((types[left] == types[right]) == (mode == "hard")).all()
        assert len(left) == labels.sum()


def test_a_cell_type_is_held_out_and_few_cells_nest(atac, types):
    rarest = min(set(types), key=lambda name: (types == name).sum())
    codes = hold_out(types, test=[rarest], validation=0.1, seed=0)
    check_groups_apart(codes, types, "cell types")
    with pytest.raises(DataError, match="cell types stand on both sides"):
        check_groups_apart(split_cells(atac.obs_names, seed=0), types, "cell types")
    before = np.zeros(types.size, dtype=bool)
    for number in (5, 10, 50):
        chosen = few_cells(atac.obs_names, number, labels=types, among=codes == 0, seed=0)
        assert (chosen >= before).all()
        assert not (chosen & (codes != 0)).any()
        assert np.unique(types[chosen], return_counts=True)[1].max() == number
        before = chosen


def test_a_shuffled_matrix_keeps_every_total(atac):
    counts = atac.X.tocsr()
    part = counts[:2_000]
    graph = HeteroGraph.from_edges(
        {OPENS: part.nonzero()},
        names={"cell": atac.obs_names[:2_000], "peak": atac.var_names},
        edata={OPENS: {"weight": torch.from_numpy(part[part.nonzero()].A1.astype(np.float32))}},
    )
    made = transforms.shuffle_edges(graph, OPENS, swaps_per_edge=6, seed=0, progress=False).validate()
    for by in ("src", "dst"):
        assert torch.equal(made.adjacency(OPENS, by)[0], graph.adjacency(OPENS, by)[0])
    note = made.meta["transforms"][0]
    assert note["swaps"] > graph.num_edges(OPENS)
    assert note["unchanged"][1] < 0.2
    per_cell = [
        np.add.reduceat(one.edata(OPENS)["weight"].numpy(), one.adjacency(OPENS)[0].numpy()[:-1])
        for one in (graph, made)
    ]
    np.testing.assert_array_equal(*per_cell)

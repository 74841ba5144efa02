"""Edges are dropped by their number and a seed alone: forward, backward, transposed and on every device alike."""

import math

import numpy as np
import pytest
import scipy.sparse as sp
import torch
from torch.nn import functional

from heteromics.errors import GraphError
from heteromics.nn import Relation, _dropout
from heteromics.nn._dropout import dropped

MASK = (1 << 64) - 1
NO_GPU = pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
DEVICES = ["cpu", pytest.param("cuda", marks=[pytest.mark.gpu, NO_GPU])]


@pytest.fixture(params=DEVICES)
def device(request):
    return request.param


def splitmix64(seed, count):
    """The oracle: the sequential generator, in Python integers."""
    state, out = seed & MASK, []
    for _ in range(count):
        state = (state + 0x9E3779B97F4A7C15) & MASK
        z = ((state ^ (state >> 30)) * 0xBF58476D1CE4E5B9) & MASK
        z = ((z ^ (z >> 27)) * 0x94D049BB133111EB) & MASK
        out.append(z ^ (z >> 31))
    return out


def kept(share, seed, edges):
    """The oracle's decision: signed number at or above the lowest share of the range, in steps of 2 ** 33."""
    lowest = round(share * 2**31) * 2**33 - 2**63
    return np.array([z - (z >> 63 << 64) >= lowest for z in splitmix64(seed, edges)])


def relation_of(rows=40, columns=50, density=0.3, seed=0, weighted=True, dtype=np.float64):
    matrix = sp.random_array((rows, columns), density=density, format="csr", rng=np.random.default_rng(seed))
    matrix.sort_indices()
    weight = np.random.default_rng(seed + 1).normal(size=matrix.nnz).astype(dtype) if weighted else None
    return Relation.from_csr(matrix.indptr, matrix.indices, matrix.shape, weight)


def test_oracle_is_the_published_generator():
    assert splitmix64(1234567, 3) == [6457827717110365317, 3203168211198807973, 9817491932198370423]


@pytest.mark.parametrize("share", [0.01, 0.3, 0.5, 0.999])
@pytest.mark.parametrize("seed", [0, 1, 77, -5, (1 << 63) + 12345, (1 << 64) - 1])
def test_decisions_are_those_of_splitmix64(share, seed, device, monkeypatch):
    monkeypatch.setattr(_dropout, "_AT_ONCE", {"cpu": 300})
    monkeypatch.setattr(_dropout, "_AT_ONCE_ELSEWHERE", 300)
    ones = torch.ones(1_000, dtype=torch.float64, device=device)
    expected = torch.from_numpy(kept(share, seed, 1_000)).double() / (1 - share)
    torch.testing.assert_close(dropped(ones, None, share, seed).cpu(), expected, rtol=1e-12, atol=0)
    numbers = torch.randperm(1_000, dtype=torch.int32)
    there = dropped(ones, numbers.to(device), share, seed).cpu()
    torch.testing.assert_close(there, expected[numbers.long()], rtol=1e-12, atol=0)


def test_numbers_beyond_32_bits_count_in_full():
    numbers = torch.tensor([5, (1 << 32) + 5, (1 << 40) + 5, (1 << 33) + 5] * 50) + torch.arange(200)
    state = [(3 + (int(e) + 1) * 0x9E3779B97F4A7C15) & MASK for e in numbers]
    expected = [kept(0.5, s - 0x9E3779B97F4A7C15, 1)[0] for s in state]
    assert (dropped(torch.ones(200), numbers, 0.5, 3) > 0).tolist() == expected


@pytest.mark.parametrize("share", [0.05, 0.3, 0.7])
def test_share_of_kept_edges(share):
    """Within 5 standard deviations of the binomial, for each of ten seeds and for each hundredth of the edges."""
    edges, parts = 200_000, 100
    for seed in range(10):
        stays = (dropped(torch.ones(edges), None, share, seed) > 0).double()
        spread = math.sqrt(share * (1 - share))
        assert abs(float(stays.mean()) - (1 - share)) < 5 * spread / math.sqrt(edges)
        pieces = stays.view(parts, -1).mean(1)
        assert (pieces - (1 - share)).abs().max() < 5 * spread / math.sqrt(edges / parts)


@pytest.mark.parametrize("other", [1, 2, 1 << 20, 1 << 40])
def test_seeds_and_neighbours_are_independent(other):
    """Chi-square of the 2 x 2 table of two seeds, and of two edges near each other, below its 1e-6 quantile, 23.9."""
    edges = 200_000
    one, two = (dropped(torch.ones(edges), None, 0.5, seed) > 0 for seed in (0, other))
    for left, right in ((one, two), (one[:-other], one[other:])) if other < edges else ((one, two),):
        table = torch.bincount(2 * left.long() + right.long(), minlength=4).view(2, 2).double()
        expected = table.sum(1, keepdim=True) * table.sum(0, keepdim=True) / table.sum()
        assert float(((table - expected) ** 2 / expected).sum()) < 23.9


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("reduce", ["sum", "mean"])
@pytest.mark.parametrize("reverse", [False, True])
@pytest.mark.parametrize("own_weight", [False, True])
def test_agrees_with_masked_weights_and_gradients(weighted, reduce, reverse, own_weight, device):
    relation = relation_of(weighted=weighted)
    stays = torch.from_numpy(kept(0.3, 9, relation.nnz)).double() / 0.7
    relation = relation.to(device)
    stays = stays.to(device)
    if reverse:
        stays, relation = relation.reverse_values(stays), relation.T
    draw = torch.Generator().manual_seed(4)
    h, weight = (
        torch.randn(*shape, dtype=torch.float64, generator=draw).to(device).requires_grad_()
        for shape in ((relation.shape[1], 3), (relation.nnz,))
    )
    stored = relation.weight if relation.weight is not None else torch.ones_like(stays)
    ours = relation.spmm(h, weight=weight if own_weight else None, reduce=reduce, dropout=0.3, seed=9)
    masked = relation.spmm(h, weight=stays * (weight if own_weight else stored), reduce=reduce)
    torch.testing.assert_close(ours, masked, rtol=1e-12, atol=1e-12)
    inputs = (h, weight) if own_weight else (h,)
    back = torch.randn(ours.shape, dtype=torch.float64, generator=draw).to(device)
    for found, expected in zip(
        torch.autograd.grad(ours, inputs, back), torch.autograd.grad(masked, inputs, back), strict=True
    ):
        torch.testing.assert_close(found, expected, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("reduce", ["sum", "mean"])
@pytest.mark.parametrize("reverse", [False, True])
def test_gradcheck(reduce, reverse):
    relation = relation_of(7, 9)
    relation = relation.T if reverse else relation
    h = torch.randn(relation.shape[1], 3, dtype=torch.float64, requires_grad=True)
    weight = torch.randn(relation.nnz, dtype=torch.float64, requires_grad=True)
    options = {"reduce": reduce, "dropout": 0.4, "seed": 2}
    assert torch.autograd.gradcheck(lambda h: relation.spmm(h, **options), (h,))
    assert torch.autograd.gradcheck(lambda h, w: relation.spmm(h, weight=w, **options), (h, weight))


@pytest.mark.parametrize("reduce", ["sum", "mean"])
def test_agrees_with_dgl_on_masked_weights(reduce):
    from heteromics.graphs._dgl import dgl

    relation = relation_of(30, 40, dtype=np.float32)
    rows = torch.repeat_interleave(torch.arange(30), relation.indptr.diff().long())
    graph = dgl.heterograph({("s", "to", "d"): (relation.indices.long(), rows)}, num_nodes_dict={"s": 40, "d": 30})
    h, grad = torch.randn(40, 8, requires_grad=True), torch.randn(30, 8)
    masked = relation.weight * torch.from_numpy(kept(0.3, 11, relation.nnz)) / 0.7
    theirs = getattr(dgl.ops, f"u_mul_e_{reduce}")(graph, h, masked)
    ours = relation.spmm(h, reduce=reduce, dropout=0.3, seed=11)
    torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(*(torch.autograd.grad(out, h, grad)[0] for out in (ours, theirs)), rtol=1e-5, atol=1e-5)


def test_from_graph_and_its_transpose_drop_the_same_edges():
    from heteromics.graphs import HeteroGraph

    flat = np.random.default_rng(3).permutation(30 * 20)[:120]
    graph = HeteroGraph.from_edges(
        {("cell", "expresses", "feature"): (flat // 20, flat % 20)},
        names={"cell": [f"c{i}" for i in range(30)], "feature": [f"f{i}" for i in range(20)]},
        edata={("cell", "expresses", "feature"): {"weight": torch.rand(120, dtype=torch.float64)}},
    )
    relation = Relation.from_graph(graph, ("cell", "expresses", "feature"))
    there = relation.spmm(torch.eye(30, dtype=torch.float64), dropout=0.5, seed=8)
    back = relation.T.spmm(torch.eye(20, dtype=torch.float64), dropout=0.5, seed=8)
    assert torch.equal(there, back.T)
    assert 0 < int((there != 0).sum()) < 120


def test_first_rows_drop_the_same_edges_alone():
    relation = relation_of()
    edges = int(relation.indptr[10])
    first = Relation.from_csr(relation.indptr[:11], relation.indices[:edges], (10, 50), relation.weight[:edges])
    h = torch.randn(50, 4, dtype=torch.float64)
    torch.testing.assert_close(
        first.spmm(h, dropout=0.5, seed=1), relation.spmm(h, dropout=0.5, seed=1)[:10], rtol=1e-12, atol=1e-12
    )


def test_seed_is_drawn_from_torch():
    relation, h = relation_of(), torch.randn(50, 4, dtype=torch.float64)
    torch.manual_seed(5)
    one, two = relation.spmm(h, dropout=0.5), relation.spmm(h, dropout=0.5)
    torch.manual_seed(5)
    again = relation.spmm(h, dropout=0.5)
    assert torch.equal(one, again)
    assert not torch.equal(one, two)
    state = torch.get_rng_state()
    relation.spmm(h)
    relation.spmm(h, dropout=0.5, seed=1)
    assert torch.equal(state, torch.get_rng_state())


def test_nothing_of_the_size_of_the_edges_is_saved():
    relation = relation_of(dtype=np.float32)
    relation.T.spmm(torch.randn(40, 2, requires_grad=True)).sum().backward()  # derived values are made once
    saved = []
    with torch.autograd.graph.saved_tensors_hooks(lambda t: saved.append(t) or t, lambda t: t):
        out = relation.spmm(torch.randn(50, 4, requires_grad=True), dropout=0.3, seed=1)
    assert not saved
    out.sum().backward()


@pytest.mark.parametrize("share", [0.3, 1 - 1e-15])
def test_no_edges_and_a_single_edge(share):
    none = Relation.from_csr([0, 0, 0], [], (2, 3))
    h = torch.randn(3, 2, requires_grad=True)
    none.spmm(h, dropout=share, seed=1).sum().backward()
    assert not h.grad.any()
    one = Relation.from_csr([0, 1], [0], (1, 1))
    values = {one.spmm(torch.ones(1, 1), dropout=0.75, seed=seed).item() for seed in range(60)}
    assert values == {0.0, 4.0}


def test_half_types_are_rounded_once(device):
    relation = relation_of(dtype=np.float32).to(device)
    h = torch.randn(50, 4).bfloat16().to(device)
    expected = relation.spmm(h.float(), dropout=0.3, seed=6).bfloat16()
    rounding = {
        "rtol": 0 if device == "cpu" else 2**-7,
        "atol": 0 if device == "cpu" else 1e-6,
    }  # any order
    torch.testing.assert_close(relation.spmm(h, dropout=0.3, seed=6), expected, **rounding)


def test_expectation_is_the_product_without_dropout():
    relation, h = relation_of(), torch.randn(50, 2, dtype=torch.float64)
    runs = torch.stack([relation.spmm(h, dropout=0.5, seed=seed) for seed in range(400)])
    error = (runs.mean(0) - relation.spmm(h)).abs() / (runs.std(0) / 20)
    assert error.max() < 5


def test_same_law_as_torch_dropout():
    """Mean and variance of one weight over many draws are those of ``functional.dropout``."""
    torch.manual_seed(0)
    ours = dropped(torch.full((100_000,), 2.0), None, 0.3, 42)
    theirs = functional.dropout(torch.full((100_000,), 2.0), 0.3)
    assert set(ours.unique().tolist()) == set(theirs.unique().tolist())
    assert float(ours.mean()) == pytest.approx(float(theirs.mean()), abs=0.02)
    assert float(ours.var()) == pytest.approx(float(theirs.var()), rel=0.02)


@pytest.mark.parametrize("share", [-0.1, 1.0, 1.5, math.nan])
def test_share_out_of_range(share):
    with pytest.raises(GraphError, match=rf"dropout is {share}; the share of edges to drop must lie in \[0, 1\)"):
        relation_of().spmm(torch.ones(50, 1), dropout=share)


@pytest.mark.parametrize("kind", [np.int64, np.uint64, np.int32, torch.tensor], ids=lambda kind: kind.__name__)
def test_seeds_of_other_integer_types_are_those_of_python(kind):
    relation, h = relation_of(), torch.randn(50, 2, dtype=torch.float64)
    for seed in (0, 5, 2**31 - 1):
        assert torch.equal(relation.spmm(h, dropout=0.5, seed=kind(seed)), relation.spmm(h, dropout=0.5, seed=seed))


def test_a_seed_that_is_no_whole_number_is_refused():
    with pytest.raises(GraphError, match=r"seed is 1.5; expected a whole number"):
        relation_of().spmm(torch.ones(50, 1), dropout=0.5, seed=1.5)

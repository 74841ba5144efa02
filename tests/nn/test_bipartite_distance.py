import numpy as np
import pytest
import torch

from heteromics.nn import DistanceBias, Window, bipartite_attention, block_topk
from tests.nn.test_bipartite import NOWHERE, blocks, nodes, reach, sparse, with_gradients


def heights(seed=0, knots=6):
    return torch.randn(knots, generator=torch.Generator().manual_seed(seed), dtype=torch.float64) * 3


def far_apart(pair, seed=0):
    """The same pair with positions up to 100 kb, where the term is neither linear nor at its end."""
    draw = torch.Generator().manual_seed(seed)
    return {**pair, "position": [torch.randint(0, 100_000, (len(chrom),), generator=draw) for chrom in pair["chrom"]]}


def dense_term(pair, height):
    """Heights at knots, each with a hat function over log2(1 + d / 1 kb): R x A."""
    apart = (pair["position"][0][:, None] - pair["position"][1]).abs().double()
    place = torch.log2(1 + apart / 1_000).clamp(max=len(height) - 1)
    return sum(value * (1 - (place - knot).abs()).clamp(min=0) for knot, value in enumerate(height))


def test_the_term_is_linear_in_the_logarithm_of_distance():
    apart = np.array([0, 1, 250, 1_000, 2_999, 3_000, 9_999, 31_000, 250_000_000])
    height = heights()
    bias = DistanceBias(torch.tensor([500_000]), torch.from_numpy(500_000 - apart), height)
    expected = np.interp(np.log2(1 + apart / 1_000), np.arange(6), height)
    np.testing.assert_allclose(bias.at(torch.tensor([0]), torch.arange(9)), expected, rtol=1e-12)
    mirrored = DistanceBias(torch.tensor([500_000]), torch.from_numpy(500_000 + apart), height)
    np.testing.assert_array_equal(
        mirrored.at(torch.tensor([0]), torch.arange(9)), bias.at(torch.tensor([0]), torch.arange(9))
    )


def test_distance_counts_inside_one_known_chromosome():
    zero = torch.zeros(3, dtype=torch.int64)
    bias = DistanceBias(zero, zero, torch.tensor([5.0, 1.0]), torch.tensor([0, 1, -1]), torch.tensor([0, 0, -1]))
    found = bias.at(torch.arange(3)[:, None], torch.arange(3)[None])
    assert found.tolist() == [[5, 5, 0], [0, 0, 0], [0, 0, 0]]


def test_distance_decides_which_peaks_are_kept():
    q, k = torch.ones(1, 1), torch.tensor([[3.0], [2.0], [1.0]])
    ptr = torch.tensor([[0, 1]]), torch.tensor([[0, 3]])
    where = torch.tensor([0]), torch.tensor([7_000, 3_000, 0])
    bias = DistanceBias(*where, torch.tensor([5.0, 4.0, 3.5, 0.0]))
    _, peak, score = block_topk(q, k, *ptr, top_k=2, bias=bias)
    assert (peak.tolist(), score.tolist()) == ([2, 1], [6.0, 5.5])
    _, peak, _ = block_topk(q, k, *ptr, top_k=2)
    assert peak.tolist() == [0, 1]
    _, peak, _ = block_topk(q, k, *ptr, top_k=2, bias=bias, window=Window(*where, within_bp=1_000))
    assert peak.tolist() == [2]


@pytest.mark.parametrize("within", [None, 20_000])
@pytest.mark.parametrize("published", [False, True])
@pytest.mark.parametrize("whole", [False, True], ids=["chromosomes", "one block"])
def test_attention_agrees_with_the_dense_layer(published, within, whole):
    """Weights, messages and all gradients, those of the heights too."""
    pair = far_apart(nodes(3, 25, 60))
    known = (pair["chrom"][0][:, None] == pair["chrom"][1]) & (pair["chrom"][0][:, None] != NOWHERE)
    mask = torch.ones_like(known) if whole else reach(pair, None)
    if within is not None:
        mask &= (pair["position"][0][:, None] - pair["position"][1]).abs() <= within

    def ours(pair, height):
        chroms = pair["chrom"] if whole else (None, None)
        window = None if within is None else Window(*pair["position"], within)
        ptr = [torch.tensor([[0, n]]) for n in (25, 60)] if whole else [blocks(chrom) for chrom in pair["chrom"]]
        sent = bipartite_attention(
            *(pair[name] for name in ("q", "k", "v_gene", "v_peak")), *ptr, top_k=4, threshold=0.5, scale=0.4,
            window=window, bias=DistanceBias(*pair["position"], height, *chroms),
            peaks_in_pair=torch.full((25,), 60) if published else None,
        )  # fmt: skip
        dense = sent.weight.new_zeros(25, 60).index_put((sent.gene_row, sent.peak_row), sent.weight)
        return dense, sent.gene, sent.peak

    def oracle(pair, height):
        alpha = pair["q"] @ pair["k"].T * 0.4 + dense_term(pair, height) * known
        share = (alpha * mask).sigmoid() if published else alpha.masked_fill(~mask, -torch.inf).sigmoid()
        best = share.topk(4, dim=1)
        kept = torch.zeros_like(share, dtype=torch.bool).scatter(1, best.indices, True) & (share > 0.5)
        if published:
            weight = torch.zeros_like(share).scatter(1, best.indices, best.values.softmax(1)) * kept
        else:
            raised = alpha.exp() * kept
            weight = raised / raised.sum(1, keepdim=True).clamp(min=1e-300)
        return weight, weight @ pair["v_peak"], weight.T @ pair["v_gene"]

    found, expected = (
        with_gradients(lambda leaves, of=of: of(leaves, leaves["height"]), {**pair, "height": heights(1)})
        for of in (ours, oracle)
    )
    for mine, theirs in zip(found, expected, strict=True):
        torch.testing.assert_close(mine, theirs, rtol=1e-9, atol=1e-9)
    slopes = []
    for of in (ours, oracle):
        height = heights(1).requires_grad_()
        weight, gene, peak = of(pair, height)
        slopes += torch.autograd.grad((weight * weight.detach().cos()).sum() + gene.sum() + peak.square().sum(), height)
    torch.testing.assert_close(*slopes, rtol=1e-9, atol=1e-9)
    assert int((slopes[0] != 0).sum()) >= 5


def test_heights_of_zero_change_nothing():
    pair = far_apart(nodes(4, 30, 80))
    plain = sparse(pair, top_k=5, threshold=0.5)
    bias = DistanceBias(*pair["position"], torch.zeros(19))
    ptr = [blocks(chrom) for chrom in pair["chrom"]]
    same = bipartite_attention(
        *(pair[name] for name in ("q", "k", "v_gene", "v_peak")), *ptr, top_k=5, threshold=0.5, bias=bias
    )
    assert torch.equal(same.peak_row, plain.peak_row)
    torch.testing.assert_close(same.gene, plain.gene)

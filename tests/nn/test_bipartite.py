import itertools

import pytest
import torch

from heteromics.errors import GraphError
from heteromics.nn import Window, _blocks, bipartite_attention, block_topk

NOWHERE = -1  # chromosome code of a gene or peak outside all blocks


@pytest.fixture(params=["products", "edges"], autouse=True)
def way(request, monkeypatch):
    """Both ways to score what a block holds: by padded products, and along edges."""
    monkeypatch.setattr(_blocks, "_FEW", 0.0 if request.param == "products" else 1e18)


def nodes(seed, genes, peaks, width=5, chromosomes=3, dtype=torch.float64):
    """One pair: features and positions, nodes sorted by chromosome, some on none."""
    draw = torch.Generator().manual_seed(seed)
    gene_chrom, peak_chrom = (
        torch.randint(-1, chromosomes, (n,), generator=draw).sort().values for n in (genes, peaks)
    )
    position = [torch.randint(0, 1_000, (n,), generator=draw) for n in (genes, peaks)]
    q, k, v_gene, v_peak = (
        torch.randn(n, w, generator=draw, dtype=dtype)
        for n, w in ((genes, width), (peaks, width), (genes, 4), (peaks, 4))
    )
    return {
        "q": q, "k": k, "v_gene": v_gene, "v_peak": v_peak,
        "chrom": (gene_chrom, peak_chrom), "position": position,
    }  # fmt: skip


def blocks(chrom, start=0, chromosomes=3):
    """First and last-plus-one row of every chromosome among sorted codes."""
    codes = torch.arange(chromosomes)
    return start + torch.stack([torch.searchsorted(chrom, codes), torch.searchsorted(chrom, codes, right=True)], 1)


def reach(pair, within):
    """Dense mask of allowed pairs: same known chromosome and near."""
    gene, peak = pair["chrom"]
    mask = (gene[:, None] == peak[None]) & (gene[:, None] != NOWHERE)
    if within is not None:
        mask &= (pair["position"][0][:, None] - pair["position"][1][None]).abs() <= within
    return mask


def dense_published(pair, top_k, threshold, scale, within=None):
    """Oracle 1: the published layer, masked by multiplication, every array R x A."""
    alpha = pair["q"] @ pair["k"].T * scale * reach(pair, within)
    share = alpha.sigmoid()
    best = share.topk(min(top_k, share.shape[1]), dim=1)
    weight = torch.zeros_like(share).scatter(1, best.indices, best.values.softmax(1)) * (share > threshold)
    return weight, weight @ pair["v_peak"], weight.T @ pair["v_gene"]


def dense_corrected(pair, top_k, threshold, scale, within=None):
    """Oracle 2: masked with -inf, pruned, softmax over the logits of what is left."""
    alpha = (pair["q"] @ pair["k"].T * scale).masked_fill(~reach(pair, within), -torch.inf)
    best = torch.zeros_like(alpha, dtype=torch.bool)
    best.scatter_(1, alpha.topk(min(top_k, alpha.shape[1]), dim=1).indices, True)
    kept = best & (alpha > -torch.inf)
    if threshold is not None:
        kept &= alpha.sigmoid() > threshold
    rows = alpha.masked_fill(~kept, -torch.inf)[kept.any(1)].softmax(1)
    weight = torch.zeros_like(alpha).index_add(0, kept.any(1).nonzero()[:, 0], rows)
    return weight, weight @ pair["v_peak"], weight.T @ pair["v_gene"]


def sparse(pair, published=False, within=None, **options):
    window = None if within is None else Window(*pair["position"], within)
    size = torch.full((len(pair["q"]),), len(pair["k"])) if published else None
    ptr = [blocks(chrom) for chrom in pair["chrom"]]
    features = [pair[name] for name in ("q", "k", "v_gene", "v_peak")]
    return bipartite_attention(*features, *ptr, window=window, peaks_in_pair=size, **options)


def as_dense(sent, pair):
    weight = sent.weight.new_zeros(len(pair["q"]), len(pair["k"]))
    return weight.index_put((sent.gene_row, sent.peak_row), sent.weight)


def with_gradients(function, pair):
    """Messages, weights and the gradients of a loss that touches all of them."""
    leaves = {name: pair[name].clone().requires_grad_() for name in ("q", "k", "v_gene", "v_peak")}
    weight, gene, peak = function({**pair, **leaves})
    loss = gene.square().sum() + (peak * peak.detach().cos()).sum() + weight.square().sum()
    return [weight, gene, peak, *torch.autograd.grad(loss, leaves.values(), materialize_grads=True)]


@pytest.mark.parametrize("within", [None, 200])
@pytest.mark.parametrize(("genes", "peaks"), [(30, 80), (12, 7), (1, 40), (9, 1)])
@pytest.mark.parametrize("top_k", [1, 4, 10])
@pytest.mark.parametrize("threshold", [0.5, 0.7])
@pytest.mark.parametrize("published", [False, True])
@pytest.mark.parametrize("scale", [1.0, 0.3])
def test_agrees_with_dense_layer(published, threshold, top_k, genes, peaks, within, scale):
    pair = nodes(genes + peaks, genes, peaks)
    options = {"top_k": top_k, "threshold": threshold, "scale": scale, "within": within}

    def ours(pair):
        sent = sparse(pair, published=published, **options)
        return as_dense(sent, pair), sent.gene, sent.peak

    oracle = dense_published if published else dense_corrected
    for found, expected in zip(
        with_gradients(ours, pair), with_gradients(lambda p: oracle(p, **options), pair), strict=True
    ):
        torch.testing.assert_close(found, expected, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("published", [False, True])
def test_agrees_with_dense_layer_in_float32(published):
    pair = nodes(1, 60, 300, width=16, chromosomes=1, dtype=torch.float32)
    options = {"top_k": 10, "threshold": 0.5, "scale": 0.25}
    sent = sparse(pair, published=published, **options)
    expected = (dense_published if published else dense_corrected)(pair, **options)
    for found, dense in zip((as_dense(sent, pair), sent.gene, sent.peak), expected, strict=True):
        torch.testing.assert_close(found, dense, rtol=0, atol=1e-5)


def test_published_rows_of_one_chromosome_have_no_masked_entries():
    pair = nodes(2, 10, 12)
    pair["chrom"] = (torch.zeros(10, dtype=torch.long), torch.zeros(12, dtype=torch.long))
    sent = sparse(pair, published=True, top_k=10, threshold=0.5, scale=1.0)
    torch.testing.assert_close(as_dense(sent, pair), dense_published(pair, 10, 0.5, 1.0)[0])


def test_no_threshold_keeps_all_the_best_and_default_scale_is_one_over_root_width():
    pair = nodes(3, 20, 50)
    sent = sparse(pair, top_k=4, threshold=None)
    weight, gene, peak = dense_corrected(pair, 4, None, 5**-0.5)
    for found, expected in ((as_dense(sent, pair), weight), (sent.gene, gene), (sent.peak, peak)):
        torch.testing.assert_close(found, expected)
    rows = weight.sum(1)
    torch.testing.assert_close(rows[rows > 0], torch.ones_like(rows[rows > 0]))


def test_worked_by_hand():
    q, k = torch.tensor([[1.0], [2.0], [1.0]]), torch.tensor([[3.0], [5.0], [-1.0], [9.0]])
    gene_ptr, peak_ptr = torch.tensor([[0, 2], [2, 3]]), torch.tensor([[0, 3], [3, 4]])
    gene, peak, score = block_topk(q, k, gene_ptr, peak_ptr, top_k=2)
    assert gene.tolist() == [0, 0, 1, 1, 2]
    assert peak.tolist() == [1, 0, 1, 0, 3]
    assert score.tolist() == [5, 3, 10, 6, 9]
    near = Window(torch.tensor([100, 100, 100]), torch.tensor([90, 111, 100, 89]), within_bp=10)
    gene, peak, _ = block_topk(q, k, gene_ptr, peak_ptr, top_k=2, window=near)
    assert (gene.tolist(), peak.tolist()) == ([0, 0, 1, 1], [0, 2, 0, 2])
    gene, peak, _ = block_topk(q, k, gene_ptr, peak_ptr, top_k=2, window=near, threshold=0.5)
    assert (gene.tolist(), peak.tolist()) == ([0, 1], [0, 0])


def test_scores_have_gradients_and_the_choice_has_none():
    pair = nodes(4, 8, 20)
    ptr = [blocks(chrom) for chrom in pair["chrom"]]
    q, k = pair["q"].requires_grad_(), pair["k"].requires_grad_()
    assert torch.autograd.gradcheck(lambda q, k: block_topk(q, k, *ptr, top_k=3)[2], (q, k))


@pytest.mark.parametrize("published", [False, True])
@pytest.mark.parametrize("most_scores", [1, 50, 1 << 22])
def test_many_pairs_together_equal_one_at_a_time(published, most_scores, monkeypatch):
    monkeypatch.setattr(_blocks, "_MOST_SCORES", most_scores)
    sizes = [(20, 50), (0, 30), (15, 0), (1, 1), (40, 90), (0, 0)]
    pairs = [nodes(seed, *size) for seed, size in enumerate(sizes)]
    options = {"top_k": 5, "threshold": 0.5, "scale": 1.0, "within": 600}
    apart = [sparse(pair, published=published, **options) for pair in pairs]
    starts = [[0, *itertools.accumulate(size[side] for size in sizes)] for side in (0, 1)]
    ptr = [
        torch.cat([blocks(pair["chrom"][side], start) for pair, start in zip(pairs, starts[side][:-1], strict=True)])
        for side in (0, 1)
    ]
    features = [torch.cat([pair[name] for pair in pairs]) for name in ("q", "k", "v_gene", "v_peak")]
    window = Window(*(torch.cat([pair["position"][side] for pair in pairs]) for side in (0, 1)), options.pop("within"))
    size = torch.cat([torch.full((genes,), peaks) for genes, peaks in sizes]) if published else None
    together = bipartite_attention(*features, *ptr, window=window, peaks_in_pair=size, **options)
    for name in ("gene", "peak", "score", "weight"):
        torch.testing.assert_close(getattr(together, name), torch.cat([getattr(sent, name) for sent in apart]))
    for name, start in zip(("gene_row", "peak_row"), starts, strict=True):
        rows = torch.cat([getattr(sent, name) + first for sent, first in zip(apart, start[:-1], strict=True)])
        assert torch.equal(getattr(together, name), rows)


@pytest.mark.parametrize("published", [False, True])
def test_permuting_nodes_within_blocks_permutes_the_messages(published):
    pair = nodes(5, 30, 70)
    draw = torch.Generator().manual_seed(9)
    orders = []
    for chrom in pair["chrom"]:
        shuffled = torch.randperm(len(chrom), generator=draw)
        orders.append(shuffled[chrom[shuffled].sort(stable=True).indices])
    gene, peak = orders
    moved = {
        **pair, "q": pair["q"][gene], "v_gene": pair["v_gene"][gene], "k": pair["k"][peak],
        "v_peak": pair["v_peak"][peak],
    }  # fmt: skip
    before, after = (sparse(p, published=published, top_k=4, threshold=0.5) for p in (pair, moved))
    torch.testing.assert_close(after.gene, before.gene[gene])
    torch.testing.assert_close(after.peak, before.peak[peak])


def test_nothing_to_link():
    empty = torch.zeros(0, 2, dtype=torch.int64)
    q, k = torch.ones(3, 2, requires_grad=True), torch.ones(4, 2, requires_grad=True)
    sent = bipartite_attention(q, k, torch.ones(3, 5), torch.ones(4, 5), empty, empty)
    assert sent.gene.shape == (3, 5)
    assert sent.peak.shape == (4, 5)
    assert not sent.gene.any()
    assert not sent.peak.any()
    assert sent.weight.shape == sent.gene_row.shape == (0,)
    (sent.gene.sum() + sent.peak.sum()).backward()
    assert not q.grad.any()


def test_bfloat16_is_chosen_and_weighted_in_float32():
    pair = nodes(6, 30, 70, dtype=torch.float32)
    half = {**pair, **{name: pair[name].bfloat16() for name in ("q", "k", "v_gene", "v_peak")}}
    exact = {**pair, **{name: half[name].float() for name in ("q", "k", "v_gene", "v_peak")}}
    ours, expected = (sparse(p, top_k=4) for p in (half, exact))
    assert ours.gene.dtype == ours.weight.dtype == torch.bfloat16
    assert torch.equal(ours.peak_row, expected.peak_row)
    torch.testing.assert_close(ours.gene.float(), expected.gene, rtol=0.02, atol=0.02)


def test_tiles_cover_every_block_once_and_stay_within_the_limit(monkeypatch):
    monkeypatch.setattr(_blocks, "_MOST_SCORES", 100)
    genes, peaks = (
        torch.tensor([[0, 30], [30, 31], [31, 31], [40, 45]]),
        torch.tensor([[0, 20], [20, 90], [90, 91], [91, 91]]),
    )
    seen = []
    for tiles in _blocks.tiled(genes.numpy(), peaks.numpy()):
        high, wide = (tiles[:, 1] - tiles[:, 0]).max(), (tiles[:, 3] - tiles[:, 2]).max()
        assert len(tiles) * high * wide <= 100
        seen += [(row, *tile[2:]) for tile in tiles.tolist() for row in range(*tile[:2])]
    assert sorted(seen) == [*((row, 0, 20) for row in range(30)), (30, 20, 90)]


PTR = torch.tensor([[0, 3]])


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"k": torch.ones(3, 4)}, r"Queries \(3, 2\) and keys \(3, 4\) must be \(NR, D\) and \(NA, D\)"),
        ({"top_k": 0}, r"found 0 and 0.5"),
        ({"threshold": 1.0}, r"threshold in \[0, 1\); found 10 and 1.0"),
        ({"v_gene": torch.ones(2, 2)}, "Values for 2 genes, 3 peaks; there are 3 queries, 3 keys"),
        ({"gene_block_ptr": torch.tensor([[0, 4]])}, "1 of 1 gene blocks leave the 3 gene rows .* first is 0 to 4"),
        ({"peak_block_ptr": torch.tensor([[2, 1]])}, "1 of 1 peak blocks .* the first is 2 to 1"),
        ({"peak_block_ptr": torch.tensor([0, 3])}, r"peak blocks have shape \(2,\)"),
        ({"gene_block_ptr": torch.tensor([[0, 2], [1, 3]])}, "1 gene blocks overlap another"),
        ({"peak_block_ptr": torch.tensor([[0, 2], [1, 3]])}, "1 gene blocks and 2 peak blocks"),
        ({"threshold": 0.4, "peaks_in_pair": torch.full((3,), 3)}, "threshold of at least 0.5, found 0.4"),
        ({"threshold": None, "peaks_in_pair": torch.full((3,), 3)}, "threshold of at least 0.5, found None"),
    ],
)
def test_bad_calls(changes, message):
    ones = torch.ones(3, 2)
    arguments = {"q": ones, "k": ones, "v_gene": ones, "v_peak": ones, "gene_block_ptr": PTR, "peak_block_ptr": PTR}
    with pytest.raises(GraphError, match=message):
        bipartite_attention(**{**arguments, **changes})


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize("published", [False, True])
def test_cuda_agrees_with_cpu(published):
    pair = nodes(7, 60, 150, width=16)
    there = {
        name: [t.cuda() for t in value] if isinstance(value, (list, tuple)) else value.cuda()
        for name, value in pair.items()
    }
    there["chrom"] = pair["chrom"]
    results = []
    for side in (pair, there):
        sent = sparse(side, published=published, top_k=4, threshold=0.5, within=300)
        results.append([t.cpu() for t in (sent.gene, sent.peak, sent.weight, sent.gene_row, sent.peak_row)])
    for ours, theirs in zip(*results, strict=True):
        torch.testing.assert_close(ours, theirs)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize("published", [False, True])
def test_cuda_gives_the_same_bits_in_deterministic_mode(published):
    pair = nodes(8, 200, 900, width=16, dtype=torch.float32)
    there = {name: pair[name].cuda().requires_grad_() for name in ("q", "k", "v_gene", "v_peak")}
    there |= {"chrom": pair["chrom"], "position": [p.cuda() for p in pair["position"]]}
    torch.use_deterministic_algorithms(True)
    try:
        runs = []
        for _ in range(5):
            sent = sparse(there, published=published, top_k=10)
            grads = torch.autograd.grad(
                sent.gene.square().sum() + sent.peak.square().sum(),
                [there[name] for name in ("q", "k", "v_gene", "v_peak")],
            )
            runs.append([sent.gene, sent.peak, sent.weight, sent.peak_row, *grads])
    finally:
        torch.use_deterministic_algorithms(False)
    assert all(torch.equal(a, b) for run in runs[1:] for a, b in zip(runs[0], run, strict=True))


def test_bfloat16_under_autocast():
    pair = nodes(6, 30, 70, dtype=torch.float32)
    plain = sparse(pair, top_k=4)
    with torch.autocast("cpu", torch.bfloat16):
        same = sparse(pair, top_k=4)
        half = sparse({**pair, **{name: pair[name].bfloat16() for name in ("q", "k", "v_gene", "v_peak")}}, top_k=4)
    assert torch.equal(same.gene, plain.gene)
    assert torch.equal(same.peak_row, plain.peak_row)
    assert half.gene.dtype == torch.bfloat16
    assert float((half.gene.float() - plain.gene).norm() / plain.gene.norm()) < 0.05

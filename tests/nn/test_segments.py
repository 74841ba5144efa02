import itertools

import pytest
import torch

from heteromics.errors import GraphError
from heteromics.nn import (
    segment_ids,
    segment_max,
    segment_mean,
    segment_softmax,
    segment_sort,
    segment_sum,
    segment_topk,
)

OFFSETS = {
    "ragged with empty ones": [0, 0, 3, 4, 4, 9, 9],
    "one": [0, 9],
    "single entries": list(range(10)),
    "no entry": [0, 0, 0],
    "no segment": [0],
}


@pytest.fixture(params=OFFSETS.values(), ids=OFFSETS.keys())
def offsets(request):
    return torch.tensor(request.param)


def random_values(offsets, *shape, dtype=torch.float64):
    return torch.randn(int(offsets[-1]), *shape, dtype=dtype, generator=torch.Generator().manual_seed(3))


def loop(function, values, offsets, empty):
    """The oracle: one segment after the other."""
    pieces = [values[a:b] for a, b in itertools.pairwise(offsets)]
    out = [function(piece) if len(piece) else values.new_full(values.shape[1:], empty) for piece in pieces]
    return torch.stack(out) if out else values.new_zeros(0, *values.shape[1:])


@pytest.mark.parametrize("shape", [(), (3,), (2, 3)])
@pytest.mark.parametrize("index_type", [torch.int32, torch.int64])
def test_reductions_agree_with_loops(offsets, shape, index_type):
    values, bounds = random_values(offsets, *shape), offsets.to(index_type)
    torch.testing.assert_close(segment_sum(values, bounds), loop(lambda v: v.sum(0), values, offsets, 0.0))
    torch.testing.assert_close(segment_mean(values, bounds), loop(lambda v: v.mean(0), values, offsets, 0.0))
    torch.testing.assert_close(segment_max(values, bounds), loop(lambda v: v.amax(0), values, offsets, -torch.inf))


@pytest.mark.parametrize("shape", [(), (3,)])
def test_softmax_agrees_with_loop(offsets, shape):
    scores = random_values(offsets, *shape) * 50 + 1_000
    expected = torch.cat([scores[a:b].softmax(0) for a, b in itertools.pairwise(offsets)] or [scores])
    torch.testing.assert_close(segment_softmax(scores, offsets), expected)


@pytest.mark.parametrize("function", [segment_sum, segment_mean, segment_softmax])
@pytest.mark.parametrize("shape", [(), (2,)])
def test_gradients(function, shape, offsets):
    values = random_values(offsets, *shape).requires_grad_()
    assert torch.autograd.gradcheck(lambda v: function(v, offsets), (values,))


@pytest.mark.parametrize("shape", [(), (2,)])
def test_gradients_of_max(shape, offsets):
    values = random_values(offsets, *shape).requires_grad_()
    filled = offsets.diff() > 0  # the largest of nothing is -inf
    assert torch.autograd.gradcheck(lambda v: segment_max(v, offsets)[filled], (values,))


def test_gradient_of_max_reaches_the_largest():
    values = torch.tensor([1.0, 5.0, 2.0, 7.0], requires_grad=True)
    segment_max(values, torch.tensor([0, 3, 4])).sum().backward()
    assert values.grad.tolist() == [0, 1, 0, 1]


def test_equal_largest_entries_share_the_gradient():
    values = torch.tensor([5.0, 5.0, 2.0, 5.0], requires_grad=True)
    segment_max(values, torch.tensor([0, 3, 4])).sum().backward()
    assert values.grad.tolist() == [0.5, 0.5, 0, 1]


@pytest.mark.parametrize("k", [0, 1, 2, 4, 100])
@pytest.mark.parametrize("index_type", [torch.int32, torch.int64])
def test_topk_agrees_with_loop(offsets, k, index_type):
    scores = torch.randint(0, 4, (int(offsets[-1]),), generator=torch.Generator().manual_seed(1)).float()
    expected = []
    for a, b in zip(offsets[:-1].tolist(), offsets[1:].tolist(), strict=True):
        expected += sorted(range(a, b), key=lambda i: (-scores[i].item(), i))[:k]
    kept = segment_topk(scores, offsets.to(index_type), k)
    assert kept.dtype == torch.int64
    assert kept.tolist() == expected


@pytest.mark.parametrize("descending", [False, True])
@pytest.mark.parametrize("index_type", [torch.int32, torch.int64])
def test_sort_agrees_with_loop(offsets, descending, index_type):
    scores = torch.randint(0, 4, (int(offsets[-1]),), generator=torch.Generator().manual_seed(1)).float()
    expected = []
    for a, b in itertools.pairwise(offsets.tolist()):
        expected += sorted(range(a, b), key=lambda i: (-scores[i].item() if descending else scores[i].item(), i))
    order = segment_sort(scores, offsets.to(index_type), descending=descending)
    assert order.dtype == torch.int64
    assert order.tolist() == expected


def test_sort_and_topk_put_nan_above_all_numbers():
    scores, offsets = torch.tensor([1.0, torch.nan, torch.inf, 0.0, torch.nan]), torch.tensor([0, 3, 5])
    assert segment_sort(scores, offsets).tolist() == [0, 2, 1, 3, 4]
    assert segment_sort(scores, offsets, descending=True).tolist() == [1, 2, 0, 4, 3]
    assert segment_topk(scores, offsets, 1).tolist() == [1, 4]


def test_permuting_entries_within_segments_changes_no_reduction(offsets):
    values = random_values(offsets)
    draw = torch.Generator().manual_seed(2)
    shuffle = torch.cat(
        [a + torch.randperm(b - a, generator=draw) for a, b in itertools.pairwise(offsets.tolist())]
        or [torch.zeros(0, dtype=torch.int64)]
    )
    for function in (segment_sum, segment_mean, segment_max):
        torch.testing.assert_close(function(values[shuffle], offsets), function(values, offsets))
    torch.testing.assert_close(segment_softmax(values[shuffle], offsets), segment_softmax(values, offsets)[shuffle])
    for descending in (False, True):
        sorted_values = values[segment_sort(values, offsets, descending)]
        moved = values[shuffle]
        assert torch.equal(moved[segment_sort(moved, offsets, descending)], sorted_values)


@pytest.mark.parametrize("reducer", ["sum", "mean", "max"])
def test_reductions_agree_with_dgl(reducer):
    from heteromics.graphs._dgl import dgl

    offsets = torch.tensor([0, 3, 4, 9, 9, 12])
    values = random_values(offsets, 3, dtype=torch.float32).requires_grad_()
    ours = {"sum": segment_sum, "mean": segment_mean, "max": segment_max}[reducer](values, offsets)
    theirs = dgl.ops.segment_reduce(offsets.diff(), values, reducer)
    filled = offsets.diff() > 0  # DGL gives 0 as the largest of nothing, ours -inf
    torch.testing.assert_close(ours[filled], theirs[filled])
    grads = [torch.autograd.grad(out[filled].square().sum(), values)[0] for out in (ours, theirs)]
    torch.testing.assert_close(*grads)


def test_softmax_agrees_with_dgl():
    from heteromics.graphs._dgl import dgl

    offsets = torch.tensor([0, 3, 4, 9, 9, 12])
    logits = random_values(offsets, 2, dtype=torch.float32).requires_grad_()
    graph = dgl.graph((torch.arange(12) % 5, segment_ids(offsets)), num_nodes=5)
    theirs = dgl.nn.functional.edge_softmax(graph, logits)
    ours = segment_softmax(logits, offsets)
    torch.testing.assert_close(ours, theirs)
    torch.testing.assert_close(*(torch.autograd.grad(out.square().sum(), logits)[0] for out in (ours, theirs)))


def test_ids(offsets):
    sizes = offsets.diff().tolist()
    assert segment_ids(offsets).tolist() == [s for s, size in enumerate(sizes) for _ in range(size)]


def test_segments_together_equal_segments_apart():
    offsets = torch.tensor([0, 4, 9])
    scores = random_values(offsets)
    apart = [segment_softmax(part, torch.tensor([0, len(part)])) for part in (scores[:4], scores[4:])]
    assert torch.equal(segment_softmax(scores, offsets), torch.cat(apart))


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_types_are_computed_in_float32(dtype):
    offsets = torch.tensor([0, 600, 1_000])
    values = random_values(offsets, dtype=torch.float32).to(dtype)
    for function in (segment_sum, segment_mean, segment_max, segment_softmax):
        out = function(values, offsets)
        assert out.dtype == dtype
        assert torch.equal(out, function(values.float(), offsets).to(dtype))


@pytest.mark.parametrize(
    ("bounds", "message"),
    [
        ([0, 2], "to the number of entries, 3; found 2 offsets from 0 to 2 with 0 falls"),
        ([1, 3], "found 2 offsets from 1 to 3"),
        ([0, 2, 1, 3], "found 4 offsets from 0 to 3 with 1 falls"),
        ([], "found 0 offsets"),
    ],
)
@pytest.mark.parametrize("function", [segment_sum, segment_mean, segment_max, segment_softmax])
def test_offsets_that_do_not_cover_the_values(function, bounds, message):
    with pytest.raises(GraphError, match=message):
        function(torch.ones(3), torch.tensor(bounds, dtype=torch.int64))


@pytest.mark.parametrize("function", [segment_sum, segment_mean, segment_max, segment_softmax])
def test_integers_are_refused_instead_of_rounded(function):
    with pytest.raises(GraphError, match=r"Found torch.int64; .* Fix: pass values.float\(\)"):
        function(torch.tensor([1, 1 << 25, 1]), torch.tensor([0, 3]))


def test_sort_needs_a_vector_and_its_offsets():
    with pytest.raises(GraphError, match=r"segment_sort needs a vector; got shape \(3, 2\)"):
        segment_sort(torch.ones(3, 2), torch.tensor([0, 3]))
    with pytest.raises(GraphError, match="to the number of entries, 3; found 2 offsets from 0 to 2"):
        segment_sort(torch.ones(3), torch.tensor([0, 2]))


def test_topk_needs_a_vector_and_a_count():
    with pytest.raises(GraphError, match=r"vector and k >= 0; got shape \(3,\) and k = -1"):
        segment_topk(torch.ones(3), torch.tensor([0, 3]), -1)
    with pytest.raises(GraphError, match=r"got shape \(3, 2\) and k = 1"):
        segment_topk(torch.ones(3, 2), torch.tensor([0, 3]), 1)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
def test_cuda_agrees_with_cpu(offsets, dtype):
    scores = random_values(offsets).to(dtype)
    for function in (segment_sum, segment_mean, segment_max, segment_softmax):
        results = []
        for device in ("cpu", "cuda"):
            values = scores.to(device).requires_grad_()
            out = function(values, offsets.to(device))
            (grad,) = torch.autograd.grad(out.square().nan_to_num(posinf=0).sum(), values)
            results.append([out.detach().cpu(), grad.cpu()])
        torch.testing.assert_close(*results, rtol=1e-2 if dtype == torch.bfloat16 else 1e-5, atol=1e-5)
    for ranked in (lambda s, o: segment_topk(s, o, 2), segment_sort):
        assert torch.equal(ranked(scores.cuda(), offsets.cuda()).cpu(), ranked(scores, offsets))

import pytest
import torch

from heteromics.errors import GraphError
from heteromics.nn import _block_attention, _blocks
from heteromics.nn._block_attention import block_attention

QUERIES = torch.tensor([[1, 4], [4, 4], [4, 5], [7, 19]])
KEYS = torch.tensor([[0, 9], [9, 12], [12, 13], [15, 40]])


@pytest.fixture(autouse=True, params=[0, 1e18], ids=["by padded calls", "along edges"])
def way(request, monkeypatch):
    monkeypatch.setattr(_block_attention, "_FEW", request.param)


def dense(q, k, v, heads):
    """The definition, over a mask of all queries and keys."""
    mask = torch.zeros(len(q), len(k), dtype=torch.bool)
    for (start, stop), (first, last) in zip(QUERIES.tolist(), KEYS.tolist(), strict=True):
        mask[start:stop, first:last] = True
    found = []
    for one, two, three in zip(q.chunk(heads, 1), k.chunk(heads, 1), v.chunk(heads, 1), strict=True):
        score = (one @ two.T / one.shape[1] ** 0.5).masked_fill(~mask, -torch.inf)
        found.append(score.softmax(1).nan_to_num() @ three)
    return torch.cat(found, 1)


def inputs(seed=0, dtype=torch.float64):
    torch.manual_seed(seed)
    return [torch.randn(size, 12, dtype=dtype, requires_grad=True) for size in (20, 41, 41)]


@pytest.mark.parametrize("heads", [1, 4])
@pytest.mark.parametrize("most", [10, 1 << 22])
def test_it_is_the_dense_softmax_inside_blocks(heads, most, monkeypatch):
    monkeypatch.setattr(_blocks, "_MOST_SCORES", most)  # at 10, blocks are cut query by query
    q, k, v = inputs()
    found, expected = block_attention(q, k, v, QUERIES, KEYS, heads), dense(q, k, v, heads)
    torch.testing.assert_close(found, expected)
    assert not found[[0, 5, 6, 19]].any()
    direction = torch.randn_like(found)
    for ours, theirs in zip(
        torch.autograd.grad((found * direction).sum(), (q, k, v)),
        torch.autograd.grad((expected * direction).sum(), (q, k, v)),
        strict=True,
    ):
        torch.testing.assert_close(ours, theirs)


def test_large_scores_stay_finite_and_no_block_sends_nothing():
    q, k, v = inputs(dtype=torch.float32)
    found = block_attention(q * 1e4, k * 1e4, v, QUERIES, KEYS)
    torch.testing.assert_close(found, dense(q * 1e4, k * 1e4, v, heads=1))
    none = torch.zeros(0, 2, dtype=torch.int64)
    assert not block_attention(q, k, v, none, none).any()


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda q, k, v: block_attention(q, k, v[:5], QUERIES, KEYS), "values .5, 12. and 1 heads"),
        (lambda q, k, v: block_attention(q, k, v, QUERIES, KEYS, heads=5), "expected one width that the heads divide"),
        (lambda q, k, v: block_attention(q, k, v, QUERIES, KEYS[:3]), "4 query blocks and 3 key blocks"),
        (lambda q, k, v: block_attention(q, k, v, QUERIES + 5, KEYS), "1 of 4 query blocks leave the 20 query rows"),
    ],
)
def test_misuse_is_explained(call, message):
    with pytest.raises(GraphError, match=message):
        call(*inputs())


def test_blocks_of_queries_that_overlap_are_refused():
    with pytest.raises(GraphError, match="1 query blocks overlap another; a query lies in at most one block"):
        block_attention(*inputs(), torch.tensor([[0, 5], [3, 8]]), torch.tensor([[0, 4], [4, 9]]), 1)

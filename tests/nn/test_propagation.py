"""Decoupled propagation agrees with the published loop written out in float64 NumPy."""

import numpy as np
import pytest
import scipy.sparse as sp
import torch

from heteromics.errors import GraphError
from heteromics.nn import Relation, decoupled_propagation

DEVICES = ["cpu", pytest.param("cuda", marks=pytest.mark.gpu)]


@pytest.fixture(params=DEVICES)
def device(request):
    if request.param == "cuda" and not torch.cuda.is_available():
        pytest.skip("no CUDA device")
    return torch.device(request.param)


def published(matrix, features, rounds, keep):
    """As the public code has it, one step a line; its guard is on the mean of the message."""
    cell, feature, records = np.zeros((len(matrix), features.shape[1])), features, []
    for _ in range(rounds):
        to_cell, to_feature = matrix @ feature, matrix.T @ cell
        to_feature = (to_feature - to_feature.mean()) / (to_feature.std(ddof=1) if to_feature.mean() != 0 else 1)
        to_cell = (to_cell - to_cell.mean()) / (to_cell.std(ddof=1) if to_cell.mean() != 0 else 1)
        feature = feature * keep + to_feature * (1 - keep)
        cell = cell * keep + to_cell * (1 - keep)
        feature = (feature - feature.mean()) / feature.std(ddof=1)
        cell = (cell - cell.mean()) / cell.std(ddof=1)
        records.append(cell)
    return records[1:]


def lsi(cells=50, k=7, seed=0):
    rng = np.random.default_rng(seed)
    return rng.standard_normal((cells, k)) * 2.0 ** -np.arange(k) + 0.1


@pytest.mark.parametrize(("rounds", "keep"), [(4, 0.5), (3, 0.5), (2, 0.1), (5, 0.8)])
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
def test_agrees_with_the_published_loop(rounds, keep, dtype, device):
    matrix = lsi()
    want = published(matrix, np.eye(7), rounds, keep)
    found = decoupled_propagation(torch.tensor(matrix, dtype=dtype, device=device), rounds=rounds, keep=keep)
    assert len(found) == rounds - 1
    for one, other in zip(found, want, strict=True):
        assert one.dtype == dtype
        assert one.device.type == device.type
        np.testing.assert_allclose(one.cpu(), other, rtol=1e-10, atol=1e-10 if dtype == torch.float64 else 1e-4)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
def test_a_sparse_relation_agrees_with_the_published_loop(dtype, device):
    rng = np.random.default_rng(2)
    matrix = rng.gamma(1.0, size=(40, 30)) * (rng.random((40, 30)) < 0.2)
    features = rng.standard_normal((30, 5))
    csr = sp.csr_array(matrix)
    relation = Relation.from_csr(csr.indptr, csr.indices, (40, 30), csr.data).to(device, dtype)
    found = decoupled_propagation(relation, torch.tensor(features, dtype=dtype, device=device))
    for one, other in zip(found, published(matrix, features, 4, 0.5), strict=True):
        np.testing.assert_allclose(one.cpu(), other, rtol=1e-10, atol=1e-10 if dtype == torch.float64 else 1e-4)


def test_cells_may_come_in_any_order():
    matrix = torch.tensor(lsi())
    order = torch.randperm(50, generator=torch.Generator().manual_seed(1))
    for one, other in zip(decoupled_propagation(matrix), decoupled_propagation(matrix[order]), strict=True):
        torch.testing.assert_close(one[order], other)


def test_inputs_are_left_as_they_are_and_no_gradient_is_kept():
    matrix, features = torch.tensor(lsi()).requires_grad_(), torch.eye(7, dtype=torch.float64)
    kept = matrix.detach().clone()
    found = decoupled_propagation(matrix, features)
    assert torch.equal(matrix, kept)
    assert torch.equal(features, torch.eye(7, dtype=torch.float64))
    assert not any(one.requires_grad for one in found)


def test_half_precision_is_computed_in_float32():
    matrix = torch.tensor(lsi(), dtype=torch.bfloat16)
    for one, other in zip(decoupled_propagation(matrix), decoupled_propagation(matrix.float()), strict=True):
        assert torch.equal(one, other)


@pytest.mark.parametrize("shape", [(0, 3), (1, 1), (1, 4), (5, 1)])
def test_no_cell_one_cell_and_one_feature_give_finite_numbers(shape):
    for one in decoupled_propagation(torch.full(shape, 0.3)):
        assert one.shape == shape
        assert torch.isfinite(one).all()


def test_messages_of_zeros_are_zeros():
    for one in decoupled_propagation(torch.zeros(6, 3)):
        assert not one.any()


@pytest.mark.parametrize("value", [0.1, 7.7, -123.456])
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
def test_entries_equal_but_for_rounding_become_zero_and_not_noise(value, dtype, device):
    """Cells whose weights add up to 1 hear the same from features that hold the same."""
    matrix = sp.random_array((400, 60), density=0.3, format="csr", rng=np.random.default_rng(0))
    matrix = sp.csr_array(matrix / matrix.sum(axis=1)[:, None])
    features = torch.full((60, 4), value, dtype=dtype, device=device)
    heard = Relation.from_scipy(matrix).to(device, dtype).spmm(features)
    assert 0 < float((heard - value).abs().max()) < 1e-4
    for one in decoupled_propagation(Relation.from_scipy(matrix).to(device, dtype), features):
        assert not one.any()


def test_a_small_spread_about_a_large_mean_is_kept():
    matrix = torch.tensor(lsi()) * 1e-9 + 1.0
    for one, other in zip(decoupled_propagation(matrix), published(matrix.numpy(), np.eye(7), 4, 0.5), strict=True):
        np.testing.assert_allclose(one, other, atol=1e-3)


@pytest.mark.parametrize(
    ("arguments", "options", "message"),
    [
        ((torch.ones(3, 2),), {"rounds": 1}, "found rounds=1 and keep=0.5, expected 2 or more"),
        ((torch.ones(3, 2),), {"keep": 1.5}, "found rounds=4 and keep=1.5"),
        ((torch.ones(3),), {}, r"edges have shape \(3,\)"),
        ((torch.ones(3, 2, dtype=torch.long),), {}, "type torch.int64, expected floating"),
        ((torch.ones(3, 2), torch.ones(3, 2)), {}, r"features have shape \(3, 2\) .* expected floating \(2, d\)"),
        ((torch.tensor([[1.0, float("nan")]]),), {}, "1 of 2 of edges are NaN or infinite"),
        ((Relation.from_csr([0, 1], [0], (1, 1)),), {}, r"a relation of 1 features and no features.*\n  Fix: give"),
    ],
)
def test_bad_input_is_named(arguments, options, message):
    with pytest.raises(GraphError, match=message):
        decoupled_propagation(*arguments, **options)

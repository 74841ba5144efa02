import math

import pytest
import torch
from torch.distributions import Normal
from torch.nn.functional import cross_entropy, normalize

from heteromics.errors import ModelError
from heteromics.nn import information
from heteromics.nn.information import Club, club_bound, symmetric_infonce

NO_GPU = pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
DEVICES = ["cpu", pytest.param("cuda", marks=[pytest.mark.gpu, NO_GPU])]


def pair(n=13, d=5, device="cpu", seed=0):
    made = torch.Generator().manual_seed(seed)
    return [torch.randn(n, d, generator=made, dtype=torch.float64).to(device).requires_grad_() for _ in range(2)]


def plain_infonce(left, right, log_scale):
    logits = math.e**log_scale * normalize(left, dim=1) @ normalize(right, dim=1).T
    target = torch.arange(len(left), device=left.device)
    return 0.5 * (cross_entropy(logits, target) + cross_entropy(logits.T, target))


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("block", [1, 40, 1 << 20])
def test_infonce_is_cross_entropy_both_ways_whatever_the_block(device, block, monkeypatch):
    monkeypatch.setattr(information, "_BLOCK", block)
    left, right = pair(device=device)
    scale = torch.tensor(1.3, dtype=torch.float64, device=device, requires_grad=True)
    twin = scale.detach().clone().requires_grad_()
    ours, theirs = symmetric_infonce(left, right, scale), plain_infonce(left, right, twin)
    torch.testing.assert_close(ours, theirs)
    for one, other in zip(
        torch.autograd.grad(3 * ours, (left, right, scale)),
        torch.autograd.grad(3 * theirs, (left, right, twin)),
        strict=True,
    ):
        torch.testing.assert_close(one, other)


def test_infonce_gradcheck_and_order():
    left, right = pair(6, 3)
    scale = torch.tensor(0.5, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(symmetric_infonce, (left, right, scale))
    order = torch.randperm(6, generator=torch.Generator().manual_seed(1))
    torch.testing.assert_close(symmetric_infonce(left[order], right[order], 0.5), symmetric_infonce(left, right, 0.5))
    assert symmetric_infonce(left[:1], right[:1], 2.0).item() == pytest.approx(0.0)


@pytest.mark.parametrize("device", DEVICES)
def test_infonce_of_half_precision_is_computed_in_single(device):
    left = torch.randn(300, 64, generator=torch.Generator().manual_seed(0)).to(device).requires_grad_()
    right, scale = (1.5 * left.detach()).requires_grad_(), torch.full((1,), 3.0, device=device, requires_grad=True)
    plain = symmetric_infonce(left, right, scale)
    expected = torch.autograd.grad(plain, (left, right, scale))
    with torch.autocast(device, dtype=torch.bfloat16):
        mixed = symmetric_infonce(left, right, scale)
    torch.testing.assert_close(mixed, plain)
    for one, other in zip(torch.autograd.grad(mixed, (left, right, scale)), expected, strict=True):
        torch.testing.assert_close(one, other)
    half = left.detach().bfloat16()
    assert symmetric_infonce(half, half.float(), 3.0).dtype == torch.float32


def all_pairs(mean, log_variance, values):
    """log q of every value under every row's Gaussian, N x N, as the definition has it."""
    q = Normal(mean[:, None], (log_variance / 2).exp()[:, None])
    chance = q.log_prob(values[None]).sum(-1)
    return chance.diagonal().mean() - chance.mean()


@pytest.mark.parametrize("device", DEVICES)
def test_club_over_all_pairs_is_the_definition(device):
    mean, values = pair(device=device)
    log_variance = pair(device=device, seed=1)[0]
    found, expected = club_bound(mean, log_variance, values), all_pairs(mean, log_variance, values)
    torch.testing.assert_close(found, expected)
    for one, other in zip(
        torch.autograd.grad(found, (mean, log_variance, values)),
        torch.autograd.grad(expected, (mean, log_variance, values)),
        strict=True,
    ):
        torch.testing.assert_close(one, other)


def test_permuted_negatives_average_to_all_pairs():
    mean, values = (one.detach() for one in pair(40, 3))
    log_variance = pair(40, 3, seed=1)[0].detach()
    torch.manual_seed(0)
    draws = torch.stack([club_bound(mean, log_variance, values, negatives="permuted") for _ in range(3_000)])
    exact = club_bound(mean, log_variance, values)
    assert abs(draws.mean() - exact) < 4 * draws.std() / math.sqrt(3_000)


def fitted(u, v, steps=400):
    torch.manual_seed(0)
    club = Club(u.shape[1], v.shape[1], hidden=32).to(u.dtype)
    optimiser = torch.optim.Adam(club.parameters(), lr=5e-3)
    for _ in range(steps):
        optimiser.zero_grad()
        club.q_loss(u, v).backward()
        optimiser.step()
    return club


def correlated(correlation, n):
    made = torch.Generator().manual_seed(0)
    u, noise = torch.randn(2, n, 1, generator=made)
    return u, correlation * u + math.sqrt(1 - correlation**2) * noise


@pytest.mark.parametrize("correlation", [0.0, 0.3, 0.6])
def test_club_of_a_bivariate_gaussian_is_what_the_integral_gives(correlation):
    u, v = correlated(correlation, 200_000)
    rest = 1 - correlation**2
    bound = club_bound(correlation * u, torch.full_like(u, math.log(rest)), v).item()
    assert bound == pytest.approx(correlation**2 / rest, abs=0.02)  # ((1 + r^2) - (1 - r^2)) / (2 (1 - r^2))
    assert bound > -0.5 * math.log(rest) - 0.01  # the mutual information


def test_club_with_a_fitted_network_bounds_the_information():
    u, v = correlated(0.6, 2_000)
    none = correlated(0.0, 2_000)
    assert fitted(u, v)(u, v).item() > -0.5 * math.log(1 - 0.6**2)
    assert fitted(*none)(*none).item() < 0.1


def test_each_step_of_club_reaches_its_own_side():
    u, v = pair()
    club = Club(5, 5).double()
    club.q_loss(u, v).backward()
    assert u.grad is None
    assert v.grad is None
    assert all(weight.grad is not None for weight in club.parameters())
    club.zero_grad()
    club(u, v).backward()
    assert all(weight.grad is None for weight in club.parameters())
    assert u.grad.abs().sum() > 0
    assert v.grad.abs().sum() > 0


def test_shapes_that_differ_are_named():
    with pytest.raises(ModelError, match=r"found shapes \(2, 3\) and \(3, 3\)"):
        symmetric_infonce(torch.ones(2, 3), torch.ones(3, 3), 0.0)
    with pytest.raises(ModelError, match=r"found shapes \(2, 3\), \(2, 3\), \(2, 2\)"):
        club_bound(torch.ones(2, 3), torch.ones(2, 3), torch.ones(2, 2))
    with pytest.raises(ModelError, match="N > 0"):
        club_bound(*torch.ones(3, 0, 2))
    with pytest.raises(ModelError, match="found negatives 'sampled'"):
        club_bound(*torch.ones(3, 2, 2), negatives="sampled")

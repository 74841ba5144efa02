import numpy as np
import pytest
import torch
from scipy import sparse
from torch.distributions import Bernoulli, NegativeBinomial, Normal

from heteromics.errors import ModelError
from heteromics.nn import likelihoods
from heteromics.nn.likelihoods import (
    Counts,
    bernoulli_nll,
    gaussian_nll,
    nb_nll,
    zero_inflated_gaussian_nll,
    zinb_nll,
)

N, F = 7, 11
NO_GPU = pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
DEVICES = ["cpu", pytest.param("cuda", marks=[pytest.mark.gpu, NO_GPU])]


@pytest.fixture(params=DEVICES)
def device(request):
    return request.param


def make(device="cpu", dtype=torch.float64, seed=0):
    rng = np.random.default_rng(seed)
    dense = rng.poisson(0.4, (N, F)) * rng.integers(1, 9, (N, F))
    dense[2] = 0
    counts = Counts.from_scipy(sparse.csr_array(dense), device, dtype)
    given = {
        "mean": rng.gamma(1.0, 2.0, (N, F)) + 1e-3,
        "dispersion": rng.gamma(2.0, 1.0, F) + 1e-2,
        "logit": rng.normal(0, 2, (N, F)),
        "log_variance": rng.normal(0, 1, (N, F)),
        "centre": rng.normal(0, 2, (N, F)),
    }
    return (
        torch.as_tensor(dense, dtype=dtype, device=device),
        counts,
        {name: torch.as_tensor(value, dtype=dtype, device=device) for name, value in given.items()},
    )


def negative_binomial(mean, dispersion):
    return NegativeBinomial(total_count=dispersion, logits=mean.log() - dispersion.log())


def dense_nb(x, mean, dispersion):
    return -negative_binomial(mean, dispersion.expand(mean.shape)).log_prob(x).sum(1)


def dense_zinb(x, mean, dispersion, logit):
    inside = negative_binomial(mean, dispersion.expand(mean.shape)).log_prob(x).exp() * torch.sigmoid(-logit)
    return -(inside + torch.sigmoid(logit) * (x == 0)).log().sum(1)


def dense_gaussian(x, mean, log_variance):
    return -Normal(mean, (log_variance / 2).exp()).log_prob(x).sum(1)


def dense_inflated(x, mean, log_variance, logit):
    normal = -Normal(mean, (log_variance / 2).exp()).log_prob(x) - torch.sigmoid(-logit).log()
    return torch.where(x == 0, -torch.sigmoid(logit).log(), normal).sum(1)


CASES = {
    "nb": (nb_nll, dense_nb, ("mean", "dispersion")),
    "zinb": (zinb_nll, dense_zinb, ("mean", "dispersion", "logit")),
    "gaussian": (gaussian_nll, dense_gaussian, ("centre", "log_variance")),
    "zero-inflated gaussian": (zero_inflated_gaussian_nll, dense_inflated, ("centre", "log_variance", "logit")),
}


@pytest.mark.parametrize("case", CASES)
def test_values_and_gradients_agree_with_torch_distributions(case, device, monkeypatch):
    monkeypatch.setattr(likelihoods, "_BLOCK", 2 * F)  # several blocks, the last of them smaller
    ours, theirs, names = CASES[case]
    x, counts, given = make(device)
    weight = torch.linspace(0.5, 2.0, N, dtype=x.dtype, device=device)
    left = [given[name].clone().requires_grad_() for name in names]
    right = [given[name].clone().requires_grad_() for name in names]
    found, expected = ours(*left, counts), theirs(x, *right)
    torch.testing.assert_close(found, expected)
    (found * weight).sum().backward()
    (expected * weight).sum().backward()
    for one, other in zip(left, right, strict=True):
        torch.testing.assert_close(one.grad, other.grad)


@pytest.mark.parametrize("case", CASES)
def test_gradcheck(case):
    ours, _, names = CASES[case]
    _, counts, given = make()
    assert torch.autograd.gradcheck(
        lambda *parameters: ours(*parameters, counts), [given[name].clone().requires_grad_() for name in names]
    )


@pytest.mark.parametrize("shape", [(F,), (1, F), (N, 1), (N, F), (1,)])
def test_dispersion_spreads_and_its_gradient_is_summed(shape):
    x, counts, given = make()
    dispersion = torch.full(shape, 0.7, dtype=x.dtype, requires_grad=True)
    twin = torch.full(shape, 0.7, dtype=x.dtype, requires_grad=True)
    nb_nll(given["mean"], dispersion, counts).square().sum().backward()
    dense_nb(x, given["mean"], twin).square().sum().backward()
    torch.testing.assert_close(dispersion.grad, twin.grad)


@pytest.mark.parametrize("shape", [(N, F), (1, F), (N, 1)])
def test_size_factors_scale_the_mean(shape):
    x, counts, given = make()
    size = torch.linspace(0.5, 3.0, N, dtype=x.dtype)
    left, right = (given["mean"][: shape[0], : shape[1]].clone().requires_grad_() for _ in range(2))
    found = zinb_nll(left, given["dispersion"], given["logit"], counts, size)
    spread = (right * size[:, None]).expand(N, F)
    expected = dense_zinb(x, spread, given["dispersion"], given["logit"])
    torch.testing.assert_close(found, expected)
    found.square().sum().backward()
    expected.square().sum().backward()
    torch.testing.assert_close(left.grad, right.grad)


def test_what_is_kept_for_the_backward_is_the_parameters():
    _, counts, given = make()
    mean, kept = given["mean"].clone().requires_grad_(), []
    with torch.autograd.graph.saved_tensors_hooks(lambda one: kept.append(one.data_ptr()) or one, lambda one: one):
        nb_nll(mean, given["dispersion"], counts, torch.ones(N, dtype=torch.float64))
    assert kept == [mean.data_ptr(), given["dispersion"].data_ptr()]


def test_plain_bernoulli_is_torchs():
    x, counts, given = make()
    torch.testing.assert_close(
        bernoulli_nll(given["logit"], counts), -Bernoulli(logits=given["logit"]).log_prob((x > 0).double()).sum(1)
    )


@pytest.mark.parametrize(("gamma", "alpha"), [(2.0, 0.25), (1.5, None), (0.0, 0.9)])
def test_focal_loss_follows_its_definition(gamma, alpha):
    x, counts, given = make()
    logit = given["logit"].clone().requires_grad_()
    chance = torch.sigmoid(given["logit"])
    seen = torch.where(x > 0, chance, 1 - chance)
    weight = torch.ones_like(x) if alpha is None else torch.where(x > 0, alpha, 1 - alpha)
    expected = (-weight * (1 - seen) ** gamma * seen.log()).sum(1)
    torch.testing.assert_close(bernoulli_nll(logit, counts, gamma=gamma, alpha=alpha), expected)
    assert torch.autograd.gradcheck(lambda one: bernoulli_nll(one, counts, gamma=gamma, alpha=alpha), [logit])


@pytest.mark.parametrize("case", CASES)
def test_cells_apart_equal_cells_together_in_any_order(case):
    ours, _, names = CASES[case]
    x, counts, given = make()
    together = ours(*(given[name] for name in names), counts)
    order = torch.randperm(N, generator=torch.Generator().manual_seed(1))
    part = Counts.from_scipy(sparse.csr_array(x[order[:3]].numpy()), dtype=torch.float64)
    apart = ours(*(given[name][order[:3]] if given[name].ndim == 2 else given[name] for name in names), part)
    torch.testing.assert_close(apart, together[order[:3]])


def test_extreme_parameters_stay_finite():
    counts = Counts.from_scipy(sparse.csr_array(np.array([[0, 3, 0, 500]])), dtype=torch.float32)
    mean = torch.tensor([[1e-8, 1e6, 1e6, 1e-8]], requires_grad=True)
    dispersion = torch.tensor([1e-4, 1e6, 1e-4, 1e6], requires_grad=True)
    logit = torch.tensor([[60.0, -60.0, 60.0, 60.0]], requires_grad=True)
    zinb_nll(mean, dispersion, logit, counts).sum().backward()
    assert all(bool(one.grad.isfinite().all()) for one in (mean, dispersion, logit))


@pytest.mark.parametrize("dispersion", [1e-4, 1.0, 1e4, 1e6, 1e9])
@pytest.mark.parametrize("value", [1, 3, 500])
def test_single_precision_is_enough_at_any_dispersion(dispersion, value):
    found = []
    for dtype in (torch.float32, torch.float64):
        counts = Counts.from_scipy(sparse.csr_array([[value]]), dtype=dtype)
        log_dispersion = torch.tensor([[dispersion]], dtype=dtype).log().requires_grad_()
        loss = nb_nll(torch.tensor([[2.0]], dtype=dtype), log_dispersion.exp(), counts).sum()
        found.append([loss.item(), *torch.autograd.grad(loss, log_dispersion)[0][0].tolist()])
    assert found[0] == pytest.approx(found[1], rel=1e-4, abs=1e-4)


def test_entries_that_fit_well_do_not_drown_in_their_cost_at_zero():
    values = np.random.default_rng(0).normal(3, 0.05, (1, 2_000))
    found = [
        gaussian_nll(
            torch.full((1, 1), 3.0, dtype=dtype),
            torch.full((1, 1), -6.0, dtype=dtype),
            Counts.from_scipy(sparse.csr_array(values), dtype=dtype),
        ).item()
        for dtype in (torch.float32, torch.float64)
    ]
    assert found[0] == pytest.approx(found[1], rel=1e-5)


@pytest.mark.parametrize("gamma", [0.0, 0.5, 2.0])
def test_focal_slopes_at_certain_logits_are_finite(gamma):
    counts = Counts.from_scipy(sparse.csr_array([[1, 1, 0, 0]]))
    logit = torch.tensor([[200.0, -200.0, 200.0, -200.0]], requires_grad=True)
    loss = bernoulli_nll(logit, counts, gamma=gamma)
    assert loss.item() == pytest.approx(400)
    assert torch.autograd.grad(loss.sum(), logit)[0][0].tolist() == pytest.approx([0, -1, 1, 0])


def test_counts_come_from_any_sparse_form():
    dense = np.array([[0, 3, 0], [1, 0, 0]])
    twice = sparse.csr_array((np.array([1, 2, 1, 0]), np.array([1, 1, 0, 2]), np.array([0, 2, 4])), shape=(2, 3))
    fixed = sparse.csr_array(dense)
    fixed.data.flags.writeable = fixed.indices.flags.writeable = False
    for matrix in (fixed, twice, sparse.csc_array(dense), sparse.coo_array(dense), sparse.csr_matrix(dense)):
        counts = Counts.from_scipy(matrix)
        assert [one.tolist() for one in counts[:3]] == [[0, 1, 2], [1, 0], [3.0, 1.0]]
        assert counts.features == 3


def test_half_precision_is_computed_in_single():
    _, counts, given = make(dtype=torch.float32)
    mean = given["mean"].to(torch.bfloat16).requires_grad_()
    loss = nb_nll(mean, given["dispersion"], counts)
    loss.sum().backward()
    assert mean.grad.dtype == torch.bfloat16
    torch.testing.assert_close(loss, nb_nll(mean.detach().float(), given["dispersion"], counts))


def test_cells_and_features_may_be_none():
    for shape in ((0, 3), (2, 0)):
        counts = Counts.from_scipy(sparse.csr_array(np.zeros(shape)), dtype=torch.float32)
        assert nb_nll(torch.ones(shape), torch.ones(shape[1]), counts).tolist() == [0.0] * shape[0]


def test_what_does_not_fit_is_said():
    _, counts, given = make()
    with pytest.raises(ModelError, match=r"shape \(1, 5\), expected one that spreads to \(7, 11\)"):
        nb_nll(given["mean"], torch.ones(5), counts)
    with pytest.raises(ModelError, match=r"1 of \d+ counts are negative"):
        nb_nll(
            given["mean"],
            given["dispersion"],
            counts._replace(value=counts.value.clone().index_fill_(0, torch.tensor([0]), -1)),
        )
    with pytest.raises(ModelError, match="1 stored entries are zero"):
        nb_nll(
            given["mean"],
            given["dispersion"],
            counts._replace(value=counts.value.clone().index_fill_(0, torch.tensor([0]), 0)),
        )
    with pytest.raises(ModelError, match=r"size_factor has shape \(7, 1\), expected \(7,\)"):
        nb_nll(given["mean"], given["dispersion"], counts, torch.ones(N, 1))
    with pytest.raises(ModelError, match="offsets end at"):
        nb_nll(given["mean"], given["dispersion"], counts._replace(feature=counts.feature[1:]))
    with pytest.raises(ModelError, match=r"found gamma -1\.0 and alpha 2"):
        bernoulli_nll(given["logit"], counts, gamma=-1.0, alpha=2)

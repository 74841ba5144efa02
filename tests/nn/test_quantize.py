import copy

import pytest
import torch

from heteromics.errors import ModelError
from heteromics.nn import quantize
from heteromics.nn.quantize import CrossVQ, code_perplexity, nearest_code

NO_GPU = pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")


def draw(n, d, seed=0):
    return torch.randn(n, d, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


@pytest.mark.parametrize("device", ["cpu", pytest.param("cuda", marks=[pytest.mark.gpu, NO_GPU])])
@pytest.mark.parametrize("block", [1, 50, 1 << 22])
def test_the_nearest_code_is_the_nearest_of_all(device, block, monkeypatch):
    monkeypatch.setattr(quantize, "_BLOCK", block)
    vectors, codes = draw(33, 4).to(device), draw(7, 4, seed=1).to(device)
    assert torch.equal(nearest_code(vectors, codes), torch.cdist(vectors, codes).argmin(1))


def test_losses_follow_their_formula_and_reach_what_they_should():
    model = CrossVQ(6, 3, commitment=0.5).double()
    left, right = draw(5, 3).requires_grad_(), draw(5, 3, seed=1).requires_grad_()
    found, loss = model({"rna": left, "atac": right})
    codes = model.codebook @ model.map.weight.T
    chosen = {name: codes[one.code] for name, one in found.items()}
    z = {"rna": left, "atac": right}
    expected = 0.0
    for one, other in (("rna", "atac"), ("atac", "rna")):
        expected += ((chosen[one] - z[one].detach()) ** 2).mean()
        expected += 0.5 * ((chosen[one] - z[other].detach()) ** 2).mean()
        expected += 0.25 * ((z[one] - chosen[one].detach()) ** 2).mean()
    torch.testing.assert_close(loss, expected)
    loss.backward()
    assert model.map.weight.grad.abs().sum() > 0
    torch.testing.assert_close(left.grad, 0.25 * 2 * (left - chosen["rna"]).detach() / left.numel())
    assert not model.codebook.requires_grad


def test_gradients_pass_straight_through():
    model = CrossVQ(6, 3).double()
    z = draw(5, 3).requires_grad_()
    found, _ = model({"rna": z})
    torch.testing.assert_close(found["rna"].vector, model.map(model.codebook)[found["rna"].code])
    found["rna"].vector.sum().backward()
    assert torch.equal(z.grad, torch.ones_like(z))
    assert model.map.weight.grad is None


def test_training_the_map_alone_finds_clusters_and_uses_the_codes():
    torch.manual_seed(0)
    centre = 4 * draw(8, 6, seed=2).float()
    label = torch.arange(400) % 8
    z = centre[label] + 0.1 * torch.randn(400, 6)
    model = CrossVQ(64, 6)
    before = model({"rna": z})[1].item()
    optimiser = torch.optim.Adam(model.parameters(), lr=0.02)
    for _ in range(300):
        optimiser.zero_grad()
        loss = model({"rna": z})[1]
        loss.backward()
        optimiser.step()
    assert loss.item() < 0.25 * before
    code = model.assign(z)
    assert code_perplexity(code, 64) > 6
    pure = sum(int(torch.bincount(label[code == one]).max()) for one in code.unique())
    assert pure / 400 > 0.8  # one code for all would give 1/8


def test_permuted_cells_get_permuted_codes_and_a_seed_gives_one_codebook():
    model, twin = CrossVQ(9, 4, seed=3), CrossVQ(9, 4, seed=3)
    assert torch.equal(model.codebook, twin.codebook)
    z, order = draw(20, 4).float(), torch.randperm(20, generator=torch.Generator().manual_seed(0))
    assert torch.equal(model.assign(z)[order], model.assign(z[order]))
    assert torch.equal(copy.deepcopy(model).assign(z), model.assign(z))


def test_codes_under_autocast_and_of_half_vectors_are_those_of_single_precision():
    model, z = CrossVQ(400, 64), draw(1_000, 64).float()
    expected = model.assign(z)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        found, loss = model({"rna": z})
    assert torch.equal(found["rna"].code, expected)
    assert loss.dtype == torch.float32
    half = z.bfloat16()
    assert torch.equal(model({"rna": half})[0]["rna"].code, model.assign(half.float()))


def test_what_does_not_fit_is_said():
    with pytest.raises(ModelError, match="expected all"):
        CrossVQ(4, 3)({"rna": torch.ones(2, 3), "atac": torch.ones(3, 3)})
    with pytest.raises(ModelError, match="found 1 codes"):
        CrossVQ(1, 3)

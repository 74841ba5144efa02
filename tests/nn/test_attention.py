import math

import pytest
import torch

from heteromics.errors import ModelError
from heteromics.nn.attention import (
    SetAttention,
    exact_attention,
    flow_attention,
    orthogonal_features,
    performer_attention,
)

NO_GPU = pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
DEVICES = ["cpu", pytest.param("cuda", marks=[pytest.mark.gpu, NO_GPU])]
KINDS = ["exact", "performer", "flow"]


def draw(*shape, seed=0, dtype=torch.float64, scale=1.0):
    return scale * torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=dtype)


def test_exact_attention_is_a_softmax_over_all_tokens():
    q, k, v = draw(3, 2, 7, 4)
    weight = (q @ k.transpose(-1, -2) / math.sqrt(4)).softmax(-1)
    torch.testing.assert_close(exact_attention(q, k, v), weight @ v)


def test_flow_attention_token_by_token():
    q, k, v = draw(3, 1, 5, 3)
    eps = 1e-6
    qs, ks, vs = q[0].sigmoid(), k[0].sigmoid(), v[0]
    incoming = [sum((qs[i] + eps) * (ks.sum(0) + eps)) for i in range(5)]
    outgoing = [sum((ks[j] + eps) * (qs.sum(0) + eps)) for j in range(5)]
    from_keys = sum(ks[j] / outgoing[j] for j in range(5))
    from_queries = sum(qs[i] / incoming[i] for i in range(5))
    conserved_in = [sum((qs[i] + eps) * (from_keys + eps)) for i in range(5)]
    conserved_out = torch.stack([sum((ks[j] + eps) * (from_queries + eps)) for j in range(5)]).clamp(-1, 1)
    share = conserved_out.exp() / conserved_out.exp().sum() * 5
    summary = sum(torch.outer(ks[j], share[j] * vs[j]) for j in range(5))
    expected = torch.stack([conserved_in[i].sigmoid() * (qs[i] / incoming[i]) @ summary for i in range(5)])
    torch.testing.assert_close(flow_attention(q, k, v)[0], expected)


def test_performer_comes_nearer_to_exact_attention_with_more_features():
    q, k, v = draw(3, 2, 12, 8, scale=0.7)
    exact = exact_attention(q, k, v)
    made = torch.Generator().manual_seed(0)

    def error(features):
        draws = [performer_attention(q, k, v, orthogonal_features(features, 8, made).double()) for _ in range(20)]
        return torch.stack([(one - exact).square().mean() for one in draws]).mean()

    few, many = error(64), error(16_384)
    assert many < few / 10
    assert many < 0.01 * exact.square().mean()


def test_random_features_are_orthogonal_in_blocks_and_gaussian_in_length():
    features = orthogonal_features(20, 8, torch.Generator().manual_seed(0)).double()
    assert features.shape == (20, 8)
    gram = features[:8] @ features[:8].T
    assert (gram - gram.diag().diag()).abs().max() < 1e-5
    many = torch.cat([orthogonal_features(64, 8, torch.Generator().manual_seed(i)) for i in range(200)])
    assert many.square().sum(1).mean().item() == pytest.approx(8, rel=0.02)
    torch.testing.assert_close(many.T @ many / len(many), torch.eye(8), atol=0.05, rtol=0)


@pytest.mark.parametrize("kind", KINDS)
def test_gradcheck(kind):
    q, k, v = (draw(1, 4, 3, seed=i).requires_grad_() for i in range(3))
    features = orthogonal_features(6, 3, torch.Generator().manual_seed(0)).double()
    form = {
        "exact": exact_attention,
        "flow": flow_attention,
        "performer": lambda *qkv: performer_attention(*qkv, features),
    }[kind]
    assert torch.autograd.gradcheck(form, (q, k, v))


def layer(kind, **options):
    torch.manual_seed(0)
    return SetAttention(12, heads=3, kind=kind, features=32, **options).double().eval()


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("device", DEVICES)
def test_groups_do_not_see_each_other(kind, device):
    attend, tokens = layer(kind).to(device), draw(9, 12).to(device)
    offsets = torch.tensor([0, 4, 4, 5, 9], device=device)
    together = attend(tokens, offsets)
    apart = torch.cat([attend(tokens[a:b]) for a, b in ((0, 4), (4, 5), (5, 9))])
    torch.testing.assert_close(together, apart)
    assert not torch.allclose(together, attend(tokens))


@pytest.mark.parametrize("kind", KINDS)
def test_permuted_tokens_give_permuted_results(kind):
    attend, tokens = layer(kind), draw(9, 12)
    order = torch.randperm(9, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(attend(tokens)[order], attend(tokens[order]))


def test_exact_agrees_with_torchs_multi_head_attention():
    attend, tokens = layer("exact"), draw(9, 12)
    twin = torch.nn.MultiheadAttention(12, 3, batch_first=True).double()
    twin.in_proj_weight.data, twin.in_proj_bias.data = attend.project.weight.data, attend.project.bias.data
    twin.out_proj.load_state_dict(attend.out.state_dict())
    expected = twin(tokens[None], tokens[None], tokens[None], need_weights=False)[0][0]
    torch.testing.assert_close(attend(tokens), expected)


def test_features_are_redrawn_in_training_alone_and_saved():
    attend = layer("performer", redraw_every=2)
    first, tokens = attend.omega.clone(), draw(4, 12)
    for _ in range(5):
        attend(tokens)
    assert torch.equal(attend.omega, first)
    attend.train()
    seen = []
    for _ in range(5):
        attend(tokens)
        seen.append(attend.omega.clone())
    assert [torch.equal(a, b) for a, b in zip([first, *seen], seen, strict=False)] == [True, True, False, True, False]
    other = layer("performer")
    other.load_state_dict(attend.state_dict())
    torch.testing.assert_close(other.eval()(tokens), attend.eval()(tokens))


def test_features_may_be_redrawn_before_the_backward():
    attend, tokens = layer("performer", redraw_every=1).train(), draw(4, 12)
    (attend(tokens) + attend(tokens)).sum().backward()
    assert attend.project.weight.grad.isfinite().all()


@pytest.mark.parametrize("kind", ["performer", "flow"])
def test_sums_over_many_tokens_are_not_taken_in_half_precision(kind):
    tokens, attend = draw(3_000, 12, dtype=torch.float32), layer(kind).float()
    attend.project.bias.data[:24] -= 12 * (kind == "flow")  # flows near 1e-10, below what float16 holds
    expected = attend(tokens)
    found = attend.half()(tokens.half())
    assert found.dtype == torch.float16
    torch.testing.assert_close(found.float(), expected, rtol=0.02, atol=2e-3)


@pytest.mark.parametrize("kind", KINDS)
def test_no_token_and_one_token(kind):
    attend = layer(kind)
    assert attend(draw(0, 12)).shape == (0, 12)
    assert attend(draw(1, 12)).isfinite().all()


def test_large_logits_stay_finite():
    tokens = draw(6, 12, scale=1e3)
    for kind in KINDS:
        assert layer(kind)(tokens).isfinite().all()


def test_what_does_not_fit_is_said():
    with pytest.raises(ModelError, match="found attention 'linear'"):
        SetAttention(12, 3, kind="linear")
    with pytest.raises(ModelError, match="width 10 does not divide into 3 heads"):
        SetAttention(10, 3)
    with pytest.raises(ModelError, match="offsets must rise from 0 to the 4 tokens"):
        layer("exact")(draw(4, 12), torch.tensor([0, 3]))
    with pytest.raises(ModelError, match="offsets must rise from 0 to the 4 tokens"):
        layer("exact")(draw(4, 12), torch.tensor([], dtype=torch.int64))
    with pytest.raises(ModelError, match="found 0 heads and 266 features"):
        SetAttention(12, 0)

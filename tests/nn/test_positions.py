"""Positions on a relation: DGL's layers, signs, permutation, batches, gradients."""

import numpy as np
import pytest
import torch
from scipy import sparse

from heteromics.errors import ModelError
from heteromics.graphs import sinusoid_encoding
from heteromics.graphs._dgl import dgl
from heteromics.nn import (
    ConditionalPositions,
    GraphAttention,
    LaplacianPositions,
    LearnablePatches,
    RandomWalkPositions,
    Relation,
    SignNet,
    Sinusoid,
)

NO_GPU = pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
DEVICES = ["cpu", pytest.param("cuda", marks=[pytest.mark.gpu, NO_GPU])]
quiet_dgl = pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore:The given NumPy array is not writable")


@pytest.fixture(params=DEVICES)
def device(request):
    return request.param


def random_matrix(nodes, edges, seed=0, lone=0, loops=False):
    """Directed weights; the last nodes have no edges; with loops, every node has one to itself."""
    rng = np.random.default_rng(seed)
    ends = rng.integers(0, nodes - lone, (2, edges))
    matrix = sparse.coo_array((rng.uniform(0.5, 2, edges), ends), shape=(nodes, nodes)).tocsr()
    return (matrix + sparse.eye_array(nodes)).tocsr() if loops else matrix


def as_dgl(relation):
    """The same edges, in the order of the relation."""
    source = relation.indices.long()
    target = torch.repeat_interleave(torch.arange(relation.shape[0]), relation.indptr.diff())
    return dgl.graph((source, target), num_nodes=relation.shape[0])


def made(kind, nodes, seed=0, dtype=torch.float64, device="cpu"):
    """A module of each kind in evaluation, and what it rests on."""
    torch.manual_seed(seed)
    codes, random = torch.randint(0, 20, (nodes,)), torch.randn(nodes, 6, dtype=dtype)
    module, given = {
        "patches": (LearnablePatches(8, grid=(4, 5)), codes),
        "sinusoid": (Sinusoid(8, grid=(4, 5)), codes),
        "laplacian": (LaplacianPositions(6, 8), random),
        "walk": (RandomWalkPositions(6, 8), random),
        "signnet": (SignNet(6, 8, hidden=5), random),
        "conditional": (ConditionalPositions(6, 8, heads=2), random),
    }[kind]
    return module.to(device, dtype).eval(), given.to(device)


KINDS = ["patches", "sinusoid", "laplacian", "walk", "signnet", "conditional"]


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_gives_a_row_for_each_node_and_follows_their_order(kind, device):
    matrix, order = random_matrix(30, 120, lone=2), np.random.default_rng(1).permutation(30)
    module, given = made(kind, 30, device=device)
    out = module(given, Relation.from_scipy(matrix).to(device))
    assert out.shape == (30, 8)
    turned = module(given[torch.from_numpy(order)], Relation.from_scipy(matrix[order][:, order]).to(device))
    torch.testing.assert_close(turned, out[torch.from_numpy(order)])


@pytest.mark.parametrize("kind", KINDS)
def test_two_graphs_as_one_give_what_each_gives_apart(kind):
    parts = [random_matrix(12, 40, seed=1), random_matrix(20, 50, seed=2, lone=3)]
    module, given = made(kind, 32)
    together = module(given, Relation.from_scipy(sparse.block_diag(parts)))
    apart = [module(one, Relation.from_scipy(part)) for one, part in zip(given.split([12, 20]), parts, strict=True)]
    torch.testing.assert_close(together, torch.cat(apart))


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("nodes", [0, 1])
def test_no_node_or_a_lone_one(kind, nodes):
    module, given = made(kind, nodes)
    out = module(given, Relation.from_csr([0] * (nodes + 1), [], shape=(nodes, nodes)))
    assert out.shape == (nodes, 8)
    assert torch.isfinite(out).all()


@pytest.mark.parametrize("kind", KINDS)
def test_state_is_saved_and_given_back(kind):
    relation = Relation.from_scipy(random_matrix(9, 30))
    module, given = made(kind, 9)
    other = made(kind, 9, seed=5)[0]
    other.load_state_dict(module.state_dict())
    assert torch.equal(module(given, relation), other(given, relation))


def test_sinusoid_is_that_of_the_patch_and_has_nothing_to_learn():
    module = Sinusoid(12, grid=(110, 100))
    assert not list(module.parameters())
    assert not module.state_dict()
    codes = torch.tensor([0, 99, 100, 10_999, 5_025])
    places = torch.tensor([[0, 0], [0, 99], [1, 0], [109, 99], [50, 25]])
    assert torch.equal(module(codes), sinusoid_encoding(places, 12))


def test_patches_learn_only_where_cells_are():
    module = LearnablePatches(3, grid=(2, 2))
    module(torch.tensor([1, 1, 3])).sum().backward()
    assert module.table.weight.grad.sum(1).tolist() == [0, 6, 0, 3]


def test_signs_are_drawn_in_training_only_and_for_each_component():
    torch.manual_seed(0)
    square = LaplacianPositions(5, 5).double()  # can be inverted
    given, component = torch.randn(40, 5, dtype=torch.float64), torch.arange(40) % 7

    def signs_of(component):
        """Invert the linear map to see what it was given, over what was given."""
        return torch.linalg.solve(square.linear.weight, (square(given, None, component) - square.linear.bias).T).T

    ratio = signs_of(None) / given
    torch.testing.assert_close(ratio.abs(), torch.ones_like(ratio))
    assert (ratio - ratio[0]).abs().max() < 1e-6
    ratio = (signs_of(component) / given).round()
    for part in range(7):
        assert len(ratio[component == part].unique(dim=0)) == 1
    assert len(ratio.unique(dim=0)) > 1
    drawn = torch.stack([(signs_of(None) / given)[0].round() for _ in range(200)])
    assert (drawn.mean(0).abs() < 0.3).all()
    square.eval()
    assert torch.equal(square(given), square.linear(given))


def test_signnet_is_the_same_for_all_signs_in_evaluation_and_in_training():
    relation = Relation.from_scipy(random_matrix(25, 100, lone=1))
    module, given = made("signnet", 25)
    for number in range(64):
        signs = torch.tensor([1.0 if number >> bit & 1 else -1.0 for bit in range(6)], dtype=torch.float64)
        assert torch.equal(module(given, relation), module(given * signs, relation))
    module.train()
    signs = torch.tensor([1.0, -1, 1, 1, -1, 1], dtype=torch.float64)
    torch.testing.assert_close(module(given, relation), module(given * signs, relation), atol=1e-10, rtol=0)
    assert (module(given, relation) - module(given[:, [1, 0, 2, 3, 4, 5]], relation)).abs().max() > 1e-3


@quiet_dgl
def test_signnet_is_made_of_dgls_layers():
    relation = Relation.from_scipy(random_matrix(25, 100, lone=1))
    module, given = made("signnet", 25)
    for norm in module.modules():
        if isinstance(norm, torch.nn.BatchNorm1d):  # statistics of their own
            norm.running_mean.normal_()
            norm.running_var.uniform_(0.5, 2)
    graph = as_dgl(relation)

    def phi(vector):
        h = vector[:, None]
        for layer, update in enumerate(module.phi):
            h = module.norms[layer - 1](h) if layer else h
            h = dgl.nn.pytorch.GINConv(update, "sum").double()(graph, h)
        return h

    each = [phi(vector) + phi(-vector) for vector in given.unbind(1)]
    torch.testing.assert_close(module(given, relation), module.rho(torch.cat(each, 1)))
    assert [norm.num_features for norm in SignNet(10, 8).norms] == [64, 64]
    assert [update[-1].out_features for update in SignNet(10, 8).phi] == [64, 64, 4]
    assert SignNet(10, 8).rho[0].in_features == 40


@quiet_dgl
@pytest.mark.parametrize("lone", [0, 3])
def test_attention_is_that_of_dgl_with_the_same_weights(lone):
    relation = Relation.from_scipy(random_matrix(30, 200, lone=lone))
    torch.manual_seed(0)
    module = GraphAttention(7, head_width=16, heads=8).double()
    torch.nn.init.normal_(module.bias)
    peer = dgl.nn.pytorch.GATConv(7, 16, 8, allow_zero_in_degree=True).double()
    peer.load_state_dict(
        {
            "fc.weight": module.project.weight,
            "attn_l": module.left[None],
            "attn_r": module.right[None],
            "bias": module.bias,
        }
    )
    h, gradient = torch.randn(30, 7, dtype=torch.float64), torch.randn(30, 128, dtype=torch.float64)
    ours, theirs = h.clone().requires_grad_(), h.clone().requires_grad_()
    out, expected = module(relation, ours), peer(as_dgl(relation), theirs).flatten(1)
    torch.testing.assert_close(out, expected)
    out.backward(gradient)
    expected.backward(gradient)
    torch.testing.assert_close(ours.grad, theirs.grad)
    for name, other in (("left", peer.attn_l), ("right", peer.attn_r), ("bias", peer.bias)):
        torch.testing.assert_close(getattr(module, name).grad, other.grad.view_as(getattr(module, name)))
    torch.testing.assert_close(module.project.weight.grad, peer.fc.weight.grad)
    conditional = ConditionalPositions(7, 128).double()
    conditional.attention.load_state_dict(module.state_dict())
    torch.testing.assert_close(conditional(h, relation), torch.nn.functional.elu(expected))


def test_attention_depends_on_the_node_that_attends():
    """Without LeakyReLU the term of the destination cancels in the softmax."""
    relation = Relation.from_scipy(random_matrix(20, 90, loops=True))
    torch.manual_seed(0)
    h = torch.randn(20, 5, dtype=torch.float64)
    for slope, depends in ((0.2, True), (1.0, False)):
        module = GraphAttention(5, 4, 2, slope=slope).double()
        before = module(relation, h)
        module.right.data *= 3
        assert ((module(relation, h) - before).abs().max() > 1e-3) == depends


def test_conditional_positions_of_large_logits_and_dropped_edges():
    relation = Relation.from_scipy(random_matrix(20, 90, loops=True))
    module, given = made("conditional", 20)
    assert torch.isfinite(module(given * 1e4, relation)).all()
    dropping = ConditionalPositions(6, 8, heads=2, dropout=0.5).double()
    assert not torch.equal(dropping(given, relation), dropping(given, relation))
    dropping.eval()
    assert torch.equal(dropping(given, relation), dropping(given, relation))


@pytest.mark.parametrize("kind", ["laplacian", "walk", "signnet", "conditional"])
def test_gradients_are_those_of_differences(kind, device):
    relation = Relation.from_scipy(random_matrix(7, 20, lone=1)).to(device)
    module, given = made(kind, 7, device=device)
    given = given.requires_grad_()
    parameters = dict(module.named_parameters())

    def call(given, *values):
        chosen = dict(zip(parameters, values, strict=True))
        return torch.func.functional_call(module, chosen, (given, relation))

    assert torch.autograd.gradcheck(call, (given, *parameters.values()))


@pytest.mark.gpu
@NO_GPU
@pytest.mark.parametrize("kind", KINDS)
def test_cuda_gives_the_numbers_of_the_cpu(kind):
    relation = Relation.from_scipy(random_matrix(40, 200, lone=2))
    module, given = made(kind, 40, dtype=torch.float32)
    here = module(given, relation)
    there = module.to("cuda")(given.to("cuda"), relation.to("cuda"))
    torch.testing.assert_close(there.cpu(), here, atol=1e-4, rtol=1e-4)


def test_wrong_inputs_are_refused_with_numbers():
    relation = Relation.from_scipy(random_matrix(5, 9))
    with pytest.raises(ModelError, match=r"2 of 3 patch codes lie outside \[0, 20\)"):
        LearnablePatches(4, grid=(4, 5))(torch.tensor([-1, 3, 20]))
    with pytest.raises(ModelError, match=r"found torch.float32 of shape \(3, 2\), expected patch codes"):
        Sinusoid(4)(torch.zeros(3, 2))
    with pytest.raises(ModelError, match="SignNet needs the relation among its 5 nodes, found None"):
        SignNet(2, 4)(torch.zeros(5, 2))
    with pytest.raises(ModelError, match="needs the relation among its 5 nodes"):
        ConditionalPositions(2)(torch.zeros(5, 2))
    with pytest.raises(ModelError, match="width 30 does not divide into 8 heads"):
        ConditionalPositions(2, 30)
    with pytest.raises(ModelError, match=r"of shape \(5, 5\), expected \(4, 4\)"):
        GraphAttention(2, 3, 1)(relation, torch.zeros(4, 2))
    with pytest.raises(ModelError, match="found widths 2, 0 and 1 heads"):
        GraphAttention(2, 0, 1)
    with pytest.raises(ModelError, match="expected counts and widths of 1 or more"):
        SignNet(0, 4)

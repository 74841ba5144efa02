import dataclasses
import importlib.util
import warnings

import numpy as np
import pytest
import torch
from torch.nn import functional

from heteromics.errors import FeaturesDiffer, ModelError
from heteromics.graphs import PairBatcher
from heteromics.graphs.pairs import EXPRESSES, OPENS
from heteromics.models import (
    PairGCNII,
    PairGCNIIConfig,
    PairMLP,
    PairMLPConfig,
    PairSAGE,
    PairSAGEConfig,
    PairTransformer,
    PairTransformerConfig,
)
from heteromics.models._pair_baseline_networks import GCNIILayer, SAGELayer, TransformerLayer
from heteromics.models._pair_neighbours import Blocks, Edges, neighbours
from heteromics.models._pair_nodes import FeatureTable, classifier
from heteromics.tasks import auroc, make_pairs
from heteromics.tasks.matching import counts, depth_scores
from tests.models.test_bi2former import build, every_pair, random_graph

MODELS = [PairMLP, PairGCNII, PairSAGE, PairTransformer]
GRAPH_MODELS = MODELS[1:]
SMALL = {"id_width": 8, "hidden": 8, "max_epochs": 2}
PAIRS = [[4, 9], [0, 1], [19, 2], [4, 1]]


@pytest.fixture(scope="module")
def pyg():
    """The layers of torch_geometric, which compiles on its first import what torch 2.13 deprecates."""
    if importlib.util.find_spec("torch_geometric") is None:
        pytest.skip("torch_geometric is not installed")
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=r"`torch\.jit\.\w+` is", category=DeprecationWarning)
        return importlib.import_module("torch_geometric.nn")


def trained(kind, graph, **changes):
    pairs, labels = make_pairs(np.arange(12), np.zeros(12), mode="random")
    validation = make_pairs(np.arange(12, 20), np.zeros(8), mode="random")
    config = kind.config_type(**(SMALL | changes))
    return kind(graph, config=config).fit(pairs, labels, validation=validation, device="cpu", progress=False)


def network_of(kind, graph, **changes):
    torch.manual_seed(0)
    tables = [FeatureTable.of(graph, side) for side in ("gene", "peak")]
    return kind(graph, config=kind.config_type(**(SMALL | changes)))._network_of(*tables).eval()


def edge_index(batch):
    """All edges both ways; genes first, then peaks."""
    indptr, peak = batch.edges()
    gene = torch.repeat_interleave(torch.arange(len(batch.gene)), indptr.diff())
    there = torch.stack([gene, peak + len(batch.gene)])
    return torch.cat([there, there.flip(0)], 1)


def batch_and_states(mask, width=12, seed=0):
    batch = PairBatcher(random_graph(), mask).batch(PAIRS)
    torch.manual_seed(seed)
    return batch, torch.randn(len(batch.gene) + len(batch.peak), width, requires_grad=True)


def check_layer(ours, theirs, states):
    """Outputs and gradients alike."""
    direction = torch.randn_like(ours)
    torch.testing.assert_close(ours, theirs, atol=1e-5, rtol=1e-5)
    (found,) = torch.autograd.grad((ours * direction).sum(), states)
    (expected,) = torch.autograd.grad((theirs * direction).sum(), states)
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-5)


masks = pytest.mark.parametrize("mask", ["chromosome", "window", "none"])


@masks
def test_gcnii_layers_are_those_of_torch_geometric(mask, pyg):
    batch, states = batch_and_states(mask)
    first = torch.randn_like(states).relu()
    for number in (1, 3):
        theirs = pyg.GCN2Conv(12, alpha=0.2, theta=0.7, layer=number)
        ours = GCNIILayer(12, alpha=0.2, beta=theirs.beta)
        ours.weight.weight.data = theirs.weight1.data.T
        check_layer(ours(states, first, neighbours(batch)), theirs(states, first, edge_index(batch)), states)


@masks
def test_sage_layers_are_those_of_torch_geometric(mask, pyg):
    batch, states = batch_and_states(mask)
    theirs, ours = pyg.SAGEConv(12, 12), SAGELayer(12)
    ours.near.load_state_dict(theirs.lin_l.state_dict())
    ours.own.load_state_dict(theirs.lin_r.state_dict())
    expected = functional.normalize(theirs(states, edge_index(batch)).relu(), dim=-1)
    check_layer(ours(states, neighbours(batch)), expected, states)


@masks
@pytest.mark.parametrize("heads", [1, 3])
def test_transformer_attention_is_that_of_torch_geometric(mask, heads, pyg):
    batch, states = batch_and_states(mask)
    theirs = pyg.TransformerConv(12, 12 // heads, heads=heads, bias=False, root_weight=False)
    q, k, v = (part(states) for part in (theirs.lin_query, theirs.lin_key, theirs.lin_value))
    check_layer(neighbours(batch).attend(q, k, v, heads), theirs(states, edge_index(batch)), states)


@masks
def test_transformer_layers_are_those_of_the_equations(mask):
    batch, states = batch_and_states(mask)
    ours = TransformerLayer(12, heads=2)
    count = len(states)
    edges = torch.zeros(count, count, dtype=torch.bool)
    edges[tuple(edge_index(batch))] = True
    q, k, v = (part.view(count, 2, 6) for part in (states @ ours.project.weight.T).chunk(3, 1))
    weight = (torch.einsum("ihd,jhd->hij", q, k) / 6**0.5).masked_fill(~edges, -torch.inf).softmax(2).nan_to_num()
    message = torch.einsum("hij,jhd->ihd", weight, v).reshape(count, 12)
    norm = functional.layer_norm(states + ours.mix(message), (12,))
    up, _, down = ours.feed
    expected = functional.layer_norm(norm + down(up(norm).relu()), (12,))
    check_layer(ours(states, neighbours(batch)), expected, states)


def test_blocks_form_no_edges_and_give_what_edges_give():
    batch, states = batch_and_states("chromosome")
    blocks, edges = neighbours(batch), Edges(batch)
    assert isinstance(blocks, Blocks)
    torch.testing.assert_close(blocks.degree, edges.degree)
    assert (blocks.degree == 0).any()  # genes and peaks without a chromosome
    check_layer(blocks.sums(states), edges.sums(states), states)
    check_layer(blocks.attend(states, states, states, 2), edges.attend(states, states, states, 2), states)
    assert isinstance(neighbours(PairBatcher(random_graph(), "window").batch(PAIRS)), Edges)


@pytest.mark.parametrize("kind", MODELS)
def test_only_the_mlp_ignores_the_edges(kind):
    graph = random_graph()
    network = network_of(kind, graph)
    with torch.no_grad():
        found = {mask: network(PairBatcher(graph, mask).batch(PAIRS)) for mask in ("chromosome", "window", "none")}
    alike = [torch.equal(found["chromosome"], found[mask]) for mask in ("window", "none")]
    assert alike == [kind is PairMLP] * 2


@pytest.mark.parametrize("kind", MODELS)
def test_the_mean_of_nodes_is_read_by_the_published_classifier(kind):
    graph = random_graph()
    network = network_of(kind, graph, normalise=False, classifier="mlp")
    batch = PairBatcher(graph).batch([[4, 9]])
    with torch.no_grad():
        parts = [nodes(*args)[0] for nodes, args in zip((network.genes, network.peaks), inputs(batch), strict=True)]
        states = network.passed(torch.cat(parts), batch)
        read = torch.cat([states[: len(batch.gene)].mean(0), states[len(batch.gene) :].mean(0)])
        one, _, _, two, _, _, last = network.classifier
        expected = last(two(one(read).relu()).relu())
        torch.testing.assert_close(network(batch)[0], expected, atol=1e-6, rtol=1e-5)


def test_compared_readouts_are_seen_with_their_product_and_distance():
    network = classifier("compared", 3, 0.0)
    gene, peak = torch.randn(2, 5, 3)
    one, two = network[1], network[-1]
    with torch.no_grad():
        shown = torch.cat([gene, peak, gene * peak, (gene - peak).abs()], 1)
        torch.testing.assert_close(network(torch.cat([gene, peak], 1)), two(one(shown).relu()))


def inputs(batch):
    return (batch.gene, batch.gene_value, batch.gene_offsets), (batch.peak, batch.peak_value, batch.peak_offsets)


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"mask": "window"},
        {"mask": "none", "layers": 1},
        {"values": "raw", "normalise": False, "batch_size": 1},
        {"values": "log1p", "ids": False},
        {"attributes": False, "sparse_ids": True},
    ],
    ids=lambda changes: "-".join(changes) or "default",
)
@pytest.mark.parametrize("kind", MODELS)
def test_every_switch_trains_saves_and_predicts_alike_in_any_batch(kind, changes, tmp_path):
    graph = random_graph()
    model = trained(kind, graph, **changes)
    together = model.predict(every_pair())
    assert together.shape == (400,)
    assert ((together > 0) & (together < 1)).all()
    alone = np.concatenate([model.predict(every_pair()[[place]]) for place in (0, 77, 399)])
    np.testing.assert_allclose(together[[0, 77, 399]], alone, rtol=1e-5)
    again = kind.load(model.save(tmp_path / "model"), graph)
    np.testing.assert_array_equal(again.predict(every_pair()), together)
    assert again.config == model.config
    with pytest.raises(FeaturesDiffer, match="on other chromosomes"):
        again.predict([[0, 0]], random_graph(n_chrom=1))


@pytest.mark.parametrize("kind", MODELS)
def test_the_order_of_genes_and_peaks_does_not_matter(kind):
    """The same nodes under other row numbers: weights of IDs and scales are moved with them."""
    rng = np.random.default_rng(3)
    rna, atac = rng.poisson(0.6, (20, 18)), rng.poisson(0.5, (20, 50))
    graph = build(rna, atac, n_chrom=1)
    genes, peaks = np.append(0, 1 + rng.permutation(17)), np.append(0, 1 + rng.permutation(49))
    turned = build(rna[:, genes], atac[:, peaks], n_chrom=1)
    for side, order in (("gene", genes), ("peak", peaks)):
        turned.ndata(side)["attributes"].copy_(graph.ndata(side)["attributes"][torch.from_numpy(order)])
    network, other = network_of(kind, graph), network_of(kind, turned)
    other.load_state_dict(
        network.state_dict()
        | {f"{side}.attributes": getattr(other, side).attributes for side in ("genes", "peaks")}
        | {
            f"{side}.ids.weight": getattr(network, side).ids.weight[torch.from_numpy(order)]
            for side, order in (("genes", genes), ("peaks", peaks))
        }
    )
    with torch.no_grad():
        found, expected = (net(PairBatcher(g).batch(PAIRS)) for net, g in ((other, turned), (network, graph)))
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-5)


def with_states(cells=500, genes=24, peaks=48, seed=0):
    """Cells of one type with three hidden states on or off; each moves a third of the genes and of the peaks."""
    rng = np.random.default_rng(seed)
    state = rng.random((cells, 3)) < 0.5
    rna = rng.poisson(np.where(state[:, np.arange(genes) % 3], 6.0, 0.5))
    atac = rng.random((cells, peaks)) < np.where(state[:, np.arange(peaks) % 3], 0.8, 0.1)
    rna[:, 1], atac[:, 1] = 1, 1
    return build(rna, atac, n_chrom=2, seed=seed), state


@pytest.mark.parametrize("kind", MODELS)
def test_each_learns_states_of_cells_beyond_their_type_and_depth(kind):
    graph, state = with_states()
    changes = {"heads": 2} if kind is PairTransformer else {}
    config = kind.config_type(
        id_width=16, hidden=16, max_epochs=10, patience=10, learning_rate=1e-2, batch_size=32, **changes
    )

    def draw(epoch):
        return make_pairs(np.arange(360), np.zeros(360), mode="random", seed=epoch)

    validation = make_pairs(np.arange(360, 430), np.zeros(70), mode="random")
    model = kind(graph, config=config).fit(draw, validation=validation, device="cpu", progress=False)
    pairs, labels = make_pairs(np.arange(430, 500), np.zeros(70), mode="hard", ratio=4, seed=5)
    found = auroc(labels, model.predict(pairs))
    best = auroc(labels, (state[pairs[:, 0]] == state[pairs[:, 1]]).all(1).astype(float))
    depth = auroc(
        labels, depth_scores(counts(graph, EXPRESSES), counts(graph, OPENS), np.tile(np.arange(360), (2, 1)).T, pairs)
    )
    assert best > 0.9  # states are known; a few pairs of two cells have the same
    assert found > 0.8
    assert found > depth + 0.1


@pytest.mark.parametrize("kind", MODELS)
def test_the_same_seed_gives_the_same_model(kind):
    graph = random_graph()
    found = [trained(kind, graph, dropout=0.3).predict(every_pair()) for _ in range(2)]
    np.testing.assert_array_equal(*found)


@pytest.mark.parametrize("mask", ["chromosome", "window"])
@pytest.mark.parametrize("kind", MODELS)
def test_empty_sides_unplaced_features_and_one_peak_have_a_finite_score(kind, mask):
    rng = np.random.default_rng(1)
    rna, atac = rng.poisson(0.6, (20, 18)), rng.poisson(0.5, (20, 30))
    rna[[0, 1]], atac[[0, 2, 3]] = 0, 0
    rna[4], rna[4, 0] = 0, 2  # the gene without a chromosome alone
    atac[3, 5], atac[5], atac[5, 0] = 1, 0, 1  # one peak; the unplaced one alone
    graph = build(rna, atac)
    model = trained(kind, graph, mask=mask)
    pairs = np.array([[0, 0], [0, 9], [9, 0], [4, 9], [4, 5], [9, 5], [9, 3], [1, 2]])
    found = model.predict(pairs)
    assert np.isfinite(found).all()
    np.testing.assert_allclose(found, np.concatenate([model.predict(pair[None]) for pair in pairs]), rtol=1e-5)
    assert found[0] == found[-1]  # nothing on either side


@pytest.mark.parametrize("kind", GRAPH_MODELS)
def test_no_feature_with_a_chromosome_leaves_no_edges(kind):
    graph = random_graph()
    for side in ("gene", "peak"):
        graph.ndata(side)["chrom"].fill_(-1)
    batch = PairBatcher(graph, "chromosome").batch(PAIRS)
    assert not neighbours(batch).degree.any()
    assert torch.isfinite(network_of(kind, graph)(batch)).all()


@pytest.mark.parametrize("kind", MODELS)
def test_published_settings(kind):
    config = kind.config_type(dropout=0.5, values="log1p").as_published()
    assert type(config) is kind.config_type
    assert config == kind.config_type.as_published()
    shared = (config.id_width, config.hidden, config.values, config.learning_rate, config.batch_size)
    assert shared == (256, 128, "raw", 5e-5, 1)
    small = dataclasses.replace(config, id_width=8, hidden=8, max_epochs=1)
    assert len(trained(kind, random_graph(), **dataclasses.asdict(small)).history) == 1


@pytest.mark.parametrize(
    ("config", "changes", "message"),
    [
        (PairMLPConfig, {"hidden": 1, "layers": 0}, "PairMLPConfig: layers=0, expected 1 or more; hidden=1"),
        (PairMLPConfig, {"ids": False, "attributes": False}, "nothing tells nodes apart"),
        (PairMLPConfig, {"ids": False, "sparse_ids": True}, "no IDs to be sparse"),
        (PairSAGEConfig, {"batch_size": 1}, "batches of two pairs or more"),
        (PairSAGEConfig, {"dropout": 1.0}, "dropout=1.0"),
        (PairGCNIIConfig, {"residual": 1.5, "identity": 0.0}, "residual=1.5, expected 0 to 1; identity=0.0"),
        (PairTransformerConfig, {"heads": 3}, "hidden=64 is not a multiple of heads=3"),
    ],
)
def test_impossible_settings(config, changes, message):
    with pytest.raises(ModelError, match=message):
        config(**changes)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize("mask", ["chromosome", "window"])
@pytest.mark.parametrize("kind", MODELS)
def test_cuda_agrees_with_cpu(kind, mask):
    graph = random_graph()
    network, batch = network_of(kind, graph), PairBatcher(graph, mask).batch(PAIRS)
    with torch.no_grad():
        expected = network(batch)
        found = network.cuda()(batch.to("cuda")).cpu()
    torch.testing.assert_close(found, expected, atol=1e-4, rtol=1e-4)

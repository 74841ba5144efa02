"""Every option of the network against dense arrays, and what the options of training promise."""

import dataclasses

import numpy as np
import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from heteromics.errors import FeaturesDiffer, ModelError
from heteromics.graphs import PairBatcher
from heteromics.graphs.pairs import EXPRESSES, OPENS
from heteromics.models import Bi2Former, Bi2FormerConfig, _pair_model, _pair_nodes, _pair_training
from heteromics.models._bi2former_network import Bi2FormerNetwork
from heteromics.models._pair_nodes import FeatureTable, Nodes
from heteromics.models._pair_training import MatchingPlan, calibrate
from heteromics.tasks import make_pairs
from tests.models.test_bi2former import SMALL, build, dense_rows, every_pair, network_of, random_graph, trained


def doubled(batch):
    return dataclasses.replace(batch, gene_value=batch.gene_value.double(), peak_value=batch.peak_value.double())


def spread(graph):
    """Positions up to 500 kb, rising on each chromosome."""
    for side, reach in (("gene", 30_000), ("peak", 10_000)):
        graph.ndata(side)["position"].mul_(reach // 1_000)
    return graph


def dense_nodes(network, nodes, graph, etype, row):
    """The projections of one profile, from [ID | value | one-hot | attributes] and the whole weight."""
    config = network.config
    ids, value = dense_rows(graph, etype, row)
    value = value.double()
    data = graph.ndata(etype[2])
    chrom = data["chrom"][ids].long()
    codes = 1 + int(max(graph.ndata(side)["chrom"].max() for side in ("gene", "peak")))
    one_hot = torch.zeros(len(ids), codes).double()
    one_hot[chrom >= 0, chrom[chrom >= 0]] = 1
    value = value if config.values == "raw" else torch.log1p(value)
    columns = [nodes.ids.weight[ids]] if config.ids else []
    columns.append(value[:, None])
    columns += [one_hot, data["attributes"][ids].double()] if config.attributes else []
    parts = list((torch.cat(columns, 1) @ nodes.project.weight.T + nodes.project.bias).split(config.parts, 1))
    if config.messages == "values":
        place = slice(config.parts[0], config.parts[0] + config.parts[1])
        slope = nodes.project.weight[place, config.id_width * config.ids]
        parts[1] = value[:, None] * slope + nodes.project.bias[place]
    return parts, chrom, data["position"][ids]


def dense_attention(layer, config, head, gene, peak, may, term):
    query, v_gene, _, *ask = gene
    key, v_peak, _, *answer = peak
    scale = query.shape[1] ** -0.5 if config.scaled else 1.0
    score = query @ key.T * scale + term
    if config.weights == "published":
        share = torch.sigmoid(score * may)
        best = share.topk(min(config.top_k, score.shape[1]), 1)
        weight = torch.zeros_like(share).scatter(1, best.indices, best.values.softmax(1)) * (share > config.threshold)
        return weight @ v_peak, weight.T @ v_gene
    kept = may.clone()
    if config.top_k is not None:
        best = score.masked_fill(~may, -torch.inf).topk(min(config.top_k, score.shape[1]), 1).indices
        kept &= torch.zeros_like(may).scatter(1, best, True)
    if config.threshold is not None:
        kept &= score.sigmoid() > config.threshold

    def weigh(score, dim):
        if config.weights == "sigmoid":
            return score.sigmoid() * kept
        raised = score.exp() * kept
        return raised / raised.sum(dim, keepdim=True).clamp(min=1e-300)

    weight = weigh(score, 1)
    back = weight if not ask else weigh(ask[0] @ answer[0].T * scale + term, 0)
    return weight @ v_peak, back.T @ v_gene


def dense_network(network, graph, i, j):
    """The logits of one pair with genes x peaks arrays, for every option of the network."""
    config = network.config
    roles, chroms, places = zip(
        dense_nodes(network, network.genes, graph, EXPRESSES, i),
        dense_nodes(network, network.peaks, graph, OPENS, j),
        strict=True,
    )
    same = (chroms[0][:, None] == chroms[1]) & (chroms[0][:, None] >= 0)
    apart = (places[0][:, None] - places[1]).abs()
    may = {"none": torch.ones_like(same), "chromosome": same, "window": same & (apart <= 60_000)}[config.mask]
    where = torch.log2(1 + apart.double() / 1_000)
    states = None
    for number, layer in enumerate(network.layers):
        if number:
            roles = [
                (state @ project.weight.T + project.bias).split(config.parts, 1)
                for state, project in zip(states, layer.project, strict=True)
            ]
        sent = []
        for head in range(config.heads):
            gene, peak = ([part.chunk(config.heads, 1)[head] for part in side] for side in roles)
            term = torch.zeros(())
            if config.distance_bias:
                hats = [(1 - (where - knot).abs()).clamp(min=0) for knot in range(19)]
                term = sum(h * hat for h, hat in zip(layer.heights[head], hats, strict=True)) * same
            sent.append(dense_attention(layer, config, head, gene, peak, may, term))
        new = []
        for side, messages in enumerate(zip(*sent, strict=True)):
            message = torch.cat(messages, 1)
            message = layer.mix[side](message) if config.heads > 1 else message
            state = layer.update[side](torch.cat([message, roles[side][2]], 1))
            new.append(torch.nn.functional.gelu(state) if config.activation else state)
        states = new if states is None else [old + more for old, more in zip(states, new, strict=True)]
    read = [norm(state.mean(0)[None]) for norm, state in zip(network.norms, states, strict=True)]
    return network.classifier(torch.cat(read, 1))


@pytest.mark.parametrize(
    "changes",
    [
        {"layers": 2, "heads": 2},
        {"layers": 3, "heads": 4, "activation": False, "messages": "full", "weights": "softmax"},
        {"distance_bias": True, "heads": 2, "layers": 2},
        {"distance_bias": True, "top_k": None, "weights": "softmax", "mask": "window"},
        {"distance_bias": True, "mask": "none", "activation": False},
        {"directions": "separate"},
        {"directions": "separate", "weights": "softmax", "heads": 2, "layers": 2, "distance_bias": True},
        {"directions": "separate", "weights": "softmax", "top_k": None, "threshold": 0.5, "messages": "full"},
        {"ids": False, "values": "log1p", "threshold": 0.5, "scaled": False, "classifier": "mlp"},
        {"classifier": "compared", "layers": 2},
        {"weights": "published", "threshold": 0.5, "messages": "full", "activation": False, "scaled": False},
        {"weights": "published", "threshold": 0.6, "top_k": 10, "heads": 2, "layers": 2, "distance_bias": True},
    ],
    ids=lambda changes: "-".join(map(str, changes)),
)
def test_logits_and_gradients_are_those_of_dense_arrays(changes, monkeypatch):
    monkeypatch.setattr(_pair_nodes, "_ROWS", {"cpu": 7})  # several gathers per side
    graph = spread(random_graph(genes=24, peaks=60, seed=1))
    changes = {"mask": "chromosome", "top_k": 3, "hidden": 8, "values": "raw", **changes}
    network = network_of(graph, dataclasses.replace(SMALL, **changes)).double()
    for layer in network.layers:
        if network.config.distance_bias:
            torch.nn.init.normal_(layer.heights)
    for norm in network.norms:
        norm.running_mean.normal_()
    batcher = PairBatcher(graph, network.config.mask, 60_000, positions=True)
    pairs = [[0, 0], [3, 7], [19, 2]]
    found = network(doubled(batcher.batch(pairs)))
    expected = torch.cat([dense_network(network, graph, i, j) for i, j in pairs])
    torch.testing.assert_close(found, expected, rtol=1e-9, atol=1e-9)
    weigh = torch.tensor([[1.0, -0.5], [0.3, 2.0], [-1.0, 0.7]])
    gradients = [
        torch.autograd.grad((logits * weigh).sum(), list(network.parameters()), materialize_grads=True)
        for logits in (found, expected)
    ]
    for (name, _), mine, theirs in zip(network.named_parameters(), *gradients, strict=True):
        torch.testing.assert_close(mine, theirs, rtol=1e-8, atol=1e-9, msg=lambda text, name=name: f"{name}: {text}")


def test_peaks_weigh_the_genes_that_kept_them_in_their_own_way():
    graph = random_graph()
    network = network_of(graph, dataclasses.replace(SMALL, directions="separate", weights="softmax", top_k=4))
    _, (head,) = network.explained(PairBatcher(graph).batch([[4, 9], [1, 2]]))
    sent = head.messages
    for row, weight in ((sent.gene_row, sent.weight), (sent.peak_row, sent.back)):
        total = torch.bincount(row, weight.detach())
        torch.testing.assert_close(total[total > 0], torch.ones(int((total > 0).sum())))
    assert not torch.allclose(sent.weight, sent.back)


@pytest.mark.parametrize(
    "changes",
    [{"distance_bias": True}, {"directions": "separate"}, {"weights": "published", "threshold": 0.5}],
    ids=lambda changes: next(iter(changes)),
)
def test_options_train_save_and_predict_alike_in_any_batch(changes, tmp_path):
    graph = spread(random_graph())
    model = trained(graph, dataclasses.replace(SMALL, heads=2, **changes))
    together = model.predict(every_pair())
    alone = np.concatenate([model.predict(every_pair()[[place]]) for place in (0, 77, 399)])
    np.testing.assert_allclose(together[[0, 77, 399]], alone, rtol=1e-5)
    again = Bi2Former.load(model.save(tmp_path / "model"), graph)
    np.testing.assert_array_equal(again.predict(every_pair()), together)
    if "distance_bias" in changes:
        assert bool(model._network.layers[0].heights.any())
        with pytest.raises(ModelError, match=r"batch without positions. Fix: PairBatcher\(graph, positions=True\)"):
            model._network(PairBatcher(graph).batch([[0, 0]]))


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"activation": False, "messages": "full"},
        {"distance_bias": True, "directions": "separate", "top_k": None},
        {"weights": "published", "threshold": 0.5, "activation": False, "layers": 2},
    ],
    ids=lambda changes: next(iter(changes), "default"),
)
def test_bfloat16_stays_close(changes):
    graph = spread(random_graph(genes=40, peaks=120))
    whole = network_of(graph, dataclasses.replace(SMALL, **changes))
    if "distance_bias" in changes:
        torch.nn.init.normal_(whole.layers[0].heights)
    half = Bi2FormerNetwork(
        dataclasses.replace(whole.config, precision="bfloat16"), *(_table(side) for side in (whole.genes, whole.peaks))
    ).eval()
    half.load_state_dict(whole.state_dict())
    batch = PairBatcher(graph, positions=True).batch(every_pair()[::13])
    with torch.no_grad():
        (expected, _), (found, sent) = whole.explained(batch), half.explained(batch)
    assert found.dtype == torch.float32
    assert sent[0].gene.dtype == torch.bfloat16
    assert 0 < float((found - expected).norm() / expected.norm()) < 0.03
    gradients = []
    for network in (whole, half):
        network(batch).square().sum().backward()
        gradients.append(torch.cat([p.grad.flatten() for p in network.parameters()]))
    assert gradients[1].dtype == torch.float32
    assert float(torch.nn.functional.cosine_similarity(*gradients, dim=0)) > 0.99


def test_bfloat16_trains():
    graph = random_graph(genes=40, peaks=120)
    models = [trained(graph, dataclasses.replace(SMALL, precision=p, max_epochs=5)) for p in ("float32", "bfloat16")]
    losses = [[entry["train_loss"] for entry in model.history] for model in models]
    assert losses[1][-1] < losses[1][0]
    np.testing.assert_allclose(losses[1], losses[0], rtol=0.05)
    sums = [model.links(np.arange(20))["total"].sum() for model in models]
    assert sums[1] == pytest.approx(sums[0], rel=0.1)
    distinct = [len(np.unique(model.predict(every_pair()))) for model in models]  # rounded logits would tie
    assert distinct[1] > 0.9 * distinct[0]


def _table(nodes):
    return FeatureTable(nodes.attributes, nodes.chrom, nodes.position)


def test_sparse_gradients_and_their_first_step_are_those_of_dense_ones():
    graph = random_graph()
    dense = network_of(graph, dataclasses.replace(SMALL, weight_decay=0.0)).double()
    sparse = network_of(graph, dataclasses.replace(SMALL, weight_decay=0.0, sparse_ids=True)).double()
    sparse.load_state_dict(dense.state_dict())
    batch = doubled(PairBatcher(graph).batch([[0, 1], [2, 3], [2, 9]]))
    for network in (dense, sparse):
        (1e5 * network(batch)[:, 1].square().sum()).backward()  # far above the eps of both optimisers
    for (name, one), (_, other) in zip(dense.named_parameters(), sparse.named_parameters(), strict=True):
        assert other.grad.is_sparse == name.endswith("ids.weight")
        torch.testing.assert_close(other.grad.to_dense(), one.grad)
    for network in (dense, sparse):
        optimisers = MatchingPlan(network, network.config).configure_optimizers()
        for optimiser in optimisers if isinstance(optimisers, list) else [optimisers]:
            optimiser.step()
    for one, other in zip(dense.parameters(), sparse.parameters(), strict=True):
        torch.testing.assert_close(other, one, rtol=1e-6, atol=1e-7)


@pytest.mark.parametrize("most_nodes", [1, 60, 1 << 22])
def test_scales_are_those_of_the_training_cells_however_many_are_read_at_a_time(most_nodes, monkeypatch):
    monkeypatch.setattr(_pair_training, "_MOST_NODES", most_nodes)
    graph = random_graph(seed=3)
    network = network_of(graph, SMALL)
    pairs = np.array([[3, 4], [3, 9], [11, 9], [0, 1], [7, 7]])
    calibrate(network.genes, network.peaks, PairBatcher(graph), pairs)
    for nodes, etype, cells in ((network.genes, EXPRESSES, [0, 3, 7, 11]), (network.peaks, OPENS, [1, 4, 7, 9])):
        indptr, indices, _ = graph.adjacency(etype)
        dense = np.zeros((graph.num_nodes(etype[0]), graph.num_nodes(etype[2])))
        rows = np.repeat(np.arange(len(dense)), np.diff(indptr))
        dense[rows, indices] = graph.edata(etype)["weight"]
        dense = dense[cells]
        depth = np.sort(dense.sum(1))[1]  # torch's median: the lower of the two in the middle
        logs = np.where(dense > 0, np.log1p(dense / dense.sum(1, keepdims=True) * depth), np.nan)
        seen = (dense > 0).any(0)
        assert float(nodes.depth) == depth
        np.testing.assert_allclose(nodes.centre[seen], np.nanmean(logs[:, seen], 0), rtol=1e-5)
        np.testing.assert_allclose(nodes.spread[seen], np.nanstd(logs[:, seen], 0) + 0.1, rtol=1e-4)
        assert (~seen).any()
        np.testing.assert_allclose(nodes.centre[~seen], np.nanmean(logs), rtol=1e-5)
        np.testing.assert_allclose(nodes.spread[~seen], np.nanstd(logs) + 0.1, rtol=1e-4)


def test_large_pairs_are_scored_in_small_batches(monkeypatch):
    graph = random_graph()
    model = trained(graph)
    pairs = every_pair()
    expected, links = model.predict(pairs), model.links(pairs)
    monkeypatch.setattr(_pair_model, "MOST_NODES", 70)
    sizes = [len(batch.gene) + len(batch.peak) for batch in model._batches(graph, pairs, "cpu", "", progress=False)]
    nodes = [len(dense_rows(graph, EXPRESSES, i)[0]) + len(dense_rows(graph, OPENS, j)[0]) for i, j in pairs]
    assert sum(sizes) == sum(nodes)
    assert max(sizes) <= max(70, *nodes)
    np.testing.assert_allclose(model.predict(pairs), expected, rtol=1e-5)
    again = model.links(pairs).set_index(["gene", "peak"]).loc[list(zip(links["gene"], links["peak"], strict=True))]
    np.testing.assert_allclose(again["total"], links["total"], rtol=1e-5)
    np.testing.assert_allclose(again["score"], links["score"].to_numpy(), rtol=1e-4, atol=1e-9)


def test_where_nothing_is_pruned_batches_are_bounded_by_what_may_meet(monkeypatch):
    graph = random_graph()
    model = trained(graph, dataclasses.replace(SMALL, top_k=None, mask="none", max_epochs=1))
    pairs = every_pair()
    expected = model.predict(pairs)
    monkeypatch.setattr(_pair_model, "MOST_LINKS", 600)
    batches = list(model._batches(graph, pairs, "cpu", "", progress=False))
    edges = [int(batch.edges()[0][-1]) for batch in batches]
    assert [batch.most_edges for batch in batches] == edges
    assert sum(map(len, batches)) == len(pairs)
    assert all(number <= 600 or len(batch) == 1 for number, batch in zip(edges, batches, strict=True))
    assert max(map(len, batches)) > 1
    np.testing.assert_allclose(model.predict(pairs), expected, rtol=1e-5)


@pytest.mark.parametrize("changes", [{"distance_bias": True}, {"mask": "window"}, {}], ids=str)
def test_other_positions_are_refused_where_they_are_an_input(changes):
    graph = random_graph()
    model = trained(graph, dataclasses.replace(SMALL, max_epochs=1, **changes))
    known = int((graph.ndata("gene")["chrom"] >= 0).sum())
    moved = spread(random_graph())
    if not changes:
        np.testing.assert_array_equal(model.predict([[0, 0]], moved), model.predict([[0, 0]]))
        return
    with pytest.raises(FeaturesDiffer, match=f"with {known} of 18 gene names at other positions"):
        model.predict([[0, 0]], moved)


class Largest(TorchDispatchMode):
    """Remembers the most numbers of any tensor that is made."""

    most = 0

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        made = function(*args, **(kwargs or {}))
        for each in made if isinstance(made, (tuple, list)) else [made]:
            if isinstance(each, torch.Tensor) and each.layout == torch.strided:
                self.most = max(self.most, each.untyped_storage().nbytes() // each.element_size())
        return made


def test_what_is_averaged_over_pairs_is_not_laid_out_for_every_node():
    graph = random_graph()
    config = dataclasses.replace(SMALL, hidden=4, key_width=4, activation=False, messages="full")
    wide = FeatureTable(torch.randn(50, 64), graph.ndata("peak")["chrom"].long(), graph.ndata("peak")["position"])
    nodes = Nodes(config, wide, 3, [4, 4, 4], pooled=[2])
    batch = PairBatcher(graph).batch(every_pair()[:60])
    with Largest() as seen, torch.no_grad():
        nodes(batch.peak, batch.peak_value, batch.peak_offsets)
    assert 50 * 64 <= seen.most < len(batch.peak) * 64 / 4


@pytest.mark.parametrize("values", ["raw", "standardised"])
def test_a_pair_without_nodes_reads_as_zero_however_it_is_pooled(values):
    rng = np.random.default_rng(0)
    rna, atac = rng.poisson(0.6, (6, 18)), rng.poisson(0.5, (6, 50))
    rna[2], atac[4] = 0, 0
    graph = build(rna, atac)
    config = dataclasses.replace(SMALL, activation=False, values=values)
    pooled, whole = (network_of(graph, dataclasses.replace(config, sparse_ids=sparse)) for sparse in (False, True))
    whole.load_state_dict(pooled.state_dict())
    batch = PairBatcher(graph).batch([[2, 0], [0, 4], [1, 1], [2, 4]])
    torch.testing.assert_close(pooled(batch), whole(batch))


def test_means_of_sparse_embeddings_are_refused():
    graph = random_graph()
    with pytest.raises(ModelError, match="pooled projections need dense gradients"):
        Nodes(dataclasses.replace(SMALL, sparse_ids=True), FeatureTable.of(graph, "gene"), 3, [4, 4], pooled=[1])


@pytest.mark.parametrize(
    "parts", [("ids",), ("attributes",), ("pruning",), ("edges",), ("attributes", "pruning", "edges")], ids="-".join
)
@pytest.mark.parametrize("published", [False, True])
def test_ablations_take_out_what_they_name(parts, published):
    config = dataclasses.replace(Bi2FormerConfig.as_published(), id_width=8, hidden=8) if published else SMALL
    config = dataclasses.replace(config, max_epochs=1)
    model = trained(random_graph(), config.without(*parts))
    names = dict(model._network.named_parameters())
    assert ("genes.ids.weight" in names) == ("ids" not in parts)
    assert model._network.genes.attributes.shape[1] == 2 * ("attributes" not in parts)
    assert model.mask == ("none" if "edges" in parts else "chromosome")
    batch = PairBatcher(model.graph, model.mask).batch([[4, 9]])
    _, (head,) = model._network.explained(batch)
    kept = torch.bincount(head.messages.gene_row, minlength=len(batch.gene))
    if "pruning" in parts:
        assert torch.equal(kept, batch.edges()[0].diff())
    else:
        assert int(kept.max()) <= 10


def test_ablations_of_unknown_parts_and_of_all_that_tells_nodes_apart_are_refused():
    with pytest.raises(ModelError, match="found edge, mask; expected some of attributes, edges, ids, pruning"):
        SMALL.without("ids", "edge", "mask")
    with pytest.raises(ModelError, match="nothing tells nodes apart"):
        SMALL.without("ids", "attributes")
    with pytest.raises(ModelError, match="one weight for both directions"):
        dataclasses.replace(Bi2FormerConfig.as_published(), directions="separate")


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
@pytest.mark.parametrize("changes", [{}, {"distance_bias": True, "directions": "separate"}, {"sparse_ids": True}])
def test_cuda_trains_as_the_cpu_does(precision, changes):
    graph = spread(random_graph(genes=40, peaks=120))
    config = dataclasses.replace(SMALL, precision=precision, max_epochs=3, **changes)
    here = trained(graph, config)
    pairs, labels = make_pairs(np.arange(12), np.zeros(12), mode="random")
    validation = make_pairs(np.arange(12, 20), np.zeros(8), mode="random")
    there = Bi2Former(graph, config=config).fit(pairs, labels, validation=validation, device="cuda", progress=False)
    tolerance = 1e-2 if precision == "float32" else 0.1
    losses = [[entry["train_loss"] for entry in model.history] for model in (here, there)]
    np.testing.assert_allclose(*losses, rtol=tolerance)
    np.testing.assert_allclose(there.predict(pairs, device="cuda"), there.predict(pairs, device="cpu"), atol=tolerance)
    one, other = (there.links(np.arange(20), device=device) for device in ("cpu", "cuda"))
    assert one["total"].sum() == pytest.approx(other["total"].sum(), rel=tolerance)

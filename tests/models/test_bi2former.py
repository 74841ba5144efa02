import dataclasses

import numpy as np
import pytest
import torch
from scipy import sparse

from heteromics.errors import FeaturesDiffer, GraphError, ModelError
from heteromics.graphs import HeteroGraph, PairBatcher
from heteromics.graphs._dgl import Compressed
from heteromics.graphs.pairs import EXPRESSES, OPENS
from heteromics.models import Bi2Former, Bi2FormerConfig
from heteromics.models._bi2former_network import Bi2FormerNetwork
from heteromics.models._pair_nodes import FeatureTable
from heteromics.tasks import auroc, make_pairs

SMALL = Bi2FormerConfig(id_width=8, hidden=8, key_width=8, max_epochs=2)


def build(rna, atac, n_chrom=3, seed=0, names=None):
    """A bipartite graph of two count matrices; features lie on chromosomes in order, the first ones nowhere."""
    rng = np.random.default_rng(seed)
    edges, ndata, edata, node_names = {}, {}, {}, {}
    for etype, counts in ((EXPRESSES, rna), (OPENS, atac)):
        matrix = sparse.csr_matrix(counts.astype(np.float32))
        matrix.sort_indices()
        edges[etype] = Compressed("src", torch.from_numpy(matrix.indptr), torch.from_numpy(matrix.indices))
        edata[etype] = {"weight": torch.from_numpy(matrix.data)}
        size = counts.shape[1]
        chrom = np.sort(rng.integers(0, n_chrom, size))
        chrom[:1] = -1
        ndata[etype[2]] = {
            "chrom": torch.tensor(chrom, dtype=torch.int32),
            "position": torch.arange(size) * 1_000,
            "attributes": torch.tensor(rng.normal(size=(size, 2)), dtype=torch.float32),
            "store_row": torch.arange(size),
        }
        node_names[etype[0]] = [f"c{i}" for i in range(counts.shape[0])]
        node_names[etype[2]] = (names or {}).get(etype[2], [f"{etype[2]}{i:03}" for i in range(size)])
    meta = {"mask": "chromosome", "within_bp": 3_000, "attribute_names": {"gene": ["a", "b"], "peak": ["a", "b"]}}
    return HeteroGraph.from_compressed(
        edges, names=node_names, ndata=ndata, edata=edata, kind="bipartite", meta=meta
    ).validate()


def random_graph(cells=20, genes=18, peaks=50, seed=0, **options):
    rng = np.random.default_rng(seed)
    rna, atac = rng.poisson(0.6, (cells, genes)), rng.poisson(0.5, (cells, peaks))
    rna[:, 1], atac[:, 1] = 1, 1
    return build(rna, atac, seed=seed, **options)


def planted(cells=400, genes=16, seed=0):
    """Each gene has one driving and two idle peaks; only agreement of the driving one tells a cell from another."""
    rng = np.random.default_rng(seed)
    state = rng.random((cells, genes)) < 0.5
    rna = rng.poisson(np.where(state, 8.0, 1.0)) + 1
    peaks = rng.random((cells, 3, genes)) < 0.5
    peaks[:, 0] = state
    return build(rna, np.hstack([np.moveaxis(peaks, 1, 2).reshape(cells, -1), np.ones((cells, 1), bool)]), n_chrom=1)


def network_of(graph, config, seed=0):
    torch.manual_seed(seed)
    return Bi2FormerNetwork(config, FeatureTable.of(graph, "gene"), FeatureTable.of(graph, "peak")).eval()


def trained(graph, config=SMALL, **options):
    pairs, labels = make_pairs(np.arange(12), np.zeros(12), mode="random")
    validation = make_pairs(np.arange(12, 20), np.zeros(8), mode="random")
    return Bi2Former(graph, config=config).fit(
        pairs, labels, validation=validation, device="cpu", progress=False, **options
    )


def every_pair(cells=20):
    return np.stack(np.meshgrid(np.arange(cells), np.arange(cells), indexing="ij"), -1).reshape(-1, 2)


def dense_rows(graph, etype, row):
    indptr, indices, _ = graph.adjacency(etype)
    part = slice(int(indptr[row]), int(indptr[row + 1]))
    return indices[part].long(), graph.edata(etype)["weight"][part]


def dense_reference(network, graph, i, j):
    """The public code for one pair, step by step: digest of the paper, section 3, one layer, one head."""
    inputs, chroms = [], []
    codes = 1 + int(max(graph.ndata(side)["chrom"].max() for side in ("gene", "peak")))
    for nodes, etype, row in ((network.genes, EXPRESSES, i), (network.peaks, OPENS, j)):
        ids, value = dense_rows(graph, etype, row)
        chrom = graph.ndata(etype[2])["chrom"][ids].long()
        one_hot = torch.zeros(len(ids), codes)
        one_hot[chrom >= 0, chrom[chrom >= 0]] = 1
        x = torch.cat([nodes.ids.weight[ids], value[:, None], one_hot, graph.ndata(etype[2])["attributes"][ids]], 1)
        inputs.append((x @ nodes.project.weight.T + nodes.project.bias).chunk(3, 1))
        chroms.append(chrom)
    (q, v_gene, s_gene), (k, v_peak, s_peak) = inputs
    mask = (chroms[0][:, None] == chroms[1]) & (chroms[0][:, None] >= 0)
    share = torch.sigmoid((q @ k.T) * mask)
    best = share.topk(min(10, share.shape[1]), dim=1)
    alpha = torch.zeros_like(share).scatter(1, best.indices, best.values.softmax(1)) * (share > 0.5)
    update = network.layers[0].update
    gene = update[0](torch.cat([alpha @ v_peak, s_gene], 1))
    peak = update[1](torch.cat([alpha.T @ v_gene, s_peak], 1))
    return network.classifier(torch.cat([gene.mean(0), peak.mean(0)])[None]), alpha


def test_published_setting_does_not_depend_on_the_config_it_is_asked_of():
    assert Bi2FormerConfig(hidden=8, heads=2, spread_floor=1.0).as_published() == Bi2FormerConfig.as_published()


def test_published_form_is_the_public_code():
    graph = random_graph(genes=30, peaks=90, seed=2)
    config = dataclasses.replace(Bi2FormerConfig().as_published(), id_width=16, hidden=12)
    network = network_of(graph, config)
    batcher = PairBatcher(graph)
    for i, j in ((0, 0), (3, 7), (19, 2)):
        with torch.no_grad():
            logits, sent = network.explained(batcher.batch([[i, j]]))
            expected, alpha = dense_reference(network, graph, i, j)
        torch.testing.assert_close(logits, expected, atol=1e-5, rtol=1e-5)
        found = torch.zeros_like(alpha)
        found[sent[0].messages.gene_row, sent[0].messages.peak_row] = sent[0].messages.weight
        torch.testing.assert_close(found, alpha, atol=1e-6, rtol=1e-5)
        assert 0 < len(sent[0].messages.weight) <= 10 * len(alpha)


def test_published_form_trains_on_one_pair_at_a_time():
    config = dataclasses.replace(Bi2FormerConfig().as_published(), id_width=8, hidden=8, max_epochs=1)
    model = trained(random_graph(), config)
    assert len(model.history) == 1
    assert 0 <= model.history[0]["validation_accuracy"] <= 1


@pytest.mark.parametrize("mask", ["chromosome", "window", "none"])
def test_sigmoid_weights_are_those_of_the_dense_equation(mask):
    graph = random_graph()
    network = network_of(graph, dataclasses.replace(SMALL, top_k=None, mask=mask))
    with torch.no_grad():
        batch = PairBatcher(graph, mask).batch([[4, 9]])
        q, v_gene, _ = network.genes(batch.gene, batch.gene_value, batch.gene_offsets)
        k, v_peak, _ = network.peaks(batch.peak, batch.peak_value, batch.peak_offsets)
        _, (head,) = network.explained(batch)
    alpha = torch.sigmoid(q @ k.T / 8**0.5)
    if mask != "none":
        alpha *= (batch.gene_chrom[:, None] == batch.peak_chrom) & (batch.gene_chrom[:, None] >= 0)
    if mask == "window":
        alpha *= (batch.gene_position[:, None] - batch.peak_position).abs() <= 3_000
    torch.testing.assert_close(head.messages.gene, alpha @ v_peak, atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(head.messages.peak, alpha.T @ v_gene, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("weights", ["sigmoid", "softmax"])
@pytest.mark.parametrize("threshold", [None, 0.55])
@pytest.mark.parametrize("mask", ["chromosome", "window"])
def test_no_pruning_is_pruning_to_more_links_than_there_are(weights, threshold, mask):
    graph = random_graph()
    options = {"weights": weights, "threshold": threshold, "mask": mask}
    logits = []
    for top_k in (None, 50):
        network = network_of(graph, dataclasses.replace(SMALL, top_k=top_k, **options))
        batch = PairBatcher(graph, mask).batch(every_pair()[::17])
        logits.append(network(batch))
    torch.testing.assert_close(logits[0], logits[1], atol=1e-5, rtol=1e-5)


def test_values_alone_travel_unless_asked_otherwise():
    graph = random_graph()
    network = network_of(graph, dataclasses.replace(SMALL, values="raw"))
    batch = PairBatcher(graph).batch([[0, 0]])
    _, message, _ = network.genes(batch.gene, batch.gene_value, batch.gene_offsets)
    same = batch.gene_value == 1
    assert same.sum() > 1
    torch.testing.assert_close(message[same], message[same][:1].expand_as(message[same]))


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"weights": "softmax", "messages": "full", "classifier": "mlp"},
        {"layers": 2, "heads": 2, "activation": False},
        {"ids": False, "values": "log1p"},
        {"attributes": False, "mask": "window", "top_k": None},
        {"sparse_ids": True, "normalise": False},
    ],
    ids=lambda changes: "-".join(changes) or "default",
)
def test_every_switch_trains_saves_and_predicts_alike_in_any_batch(changes, tmp_path):
    graph = random_graph()
    model = trained(graph, dataclasses.replace(SMALL, **changes))
    pairs = every_pair()
    together = model.predict(pairs)
    assert together.shape == (400,)
    assert ((together > 0) & (together < 1)).all()
    alone = np.concatenate([model.predict(pairs[[place]]) for place in (0, 77, 399)])
    np.testing.assert_allclose(together[[0, 77, 399]], alone, rtol=1e-5)
    again = Bi2Former.load(model.save(tmp_path / "model"), graph)
    np.testing.assert_array_equal(again.predict(pairs), together)
    assert again.history == model.history
    assert again.config == model.config


def test_it_learns_planted_agreement_and_finds_the_driving_peaks():
    graph = planted()
    config = Bi2FormerConfig(id_width=16, hidden=8, key_width=16, top_k=None, max_epochs=30, patience=30, batch_size=32)
    train, validation, test = np.arange(280), np.arange(280, 340), np.arange(340, 400)

    def draw(epoch):
        return make_pairs(train, np.zeros(280), mode="random", seed=epoch)

    model = Bi2Former(graph, config=config).fit(
        draw,
        validation=make_pairs(validation, np.zeros(60), mode="random"),
        device="cpu",
        progress=False,
    )
    pairs, labels = make_pairs(test, np.zeros(60), mode="hard", seed=5)
    assert auroc(labels, model.predict(pairs)) > 0.9
    links = model.links(train)
    gene, peak = (links[side].str[4:].astype(int) for side in ("gene", "peak"))
    own = links[peak // 3 == gene]
    ranked = own.sort_values("score", ascending=False).groupby("gene").head(1)
    driving = ranked["peak"].str[4:].astype(int) % 3 == 0
    assert len(ranked) >= 14
    assert driving.mean() > 0.7  # by chance a third


def test_the_order_of_genes_and_peaks_in_the_input_does_not_matter():
    from heteromics.graphs import bipartite
    from tests.graphs.test_bipartite import toy

    rna, atac, store = toy(cells=20)
    rng = np.random.default_rng(0)
    shuffled = bipartite(rna[:, rng.permutation(rna.n_vars)], atac[:, rng.permutation(atac.n_vars)], store)
    model = trained(bipartite(rna, atac, store))
    np.testing.assert_array_equal(model.predict(every_pair(), shuffled), model.predict(every_pair()))


def test_the_same_seed_gives_the_same_model_and_a_resumed_one_goes_on(tmp_path):
    graph = random_graph()
    config = dataclasses.replace(SMALL, max_epochs=4, dropout=0.3, patience=10)
    straight = trained(graph, config, seed=3)
    np.testing.assert_array_equal(straight.predict(every_pair()), trained(graph, config, seed=3).predict(every_pair()))
    assert (straight.predict(every_pair()) != trained(graph, config, seed=4).predict(every_pair())).any()
    trained(graph, config, seed=3, max_epochs=2, folder=tmp_path)
    resumed = trained(graph, config, seed=3, folder=tmp_path, resume=True)
    assert [entry["epoch"] for entry in resumed.history] == [0, 1, 2, 3]
    np.testing.assert_allclose(resumed.predict(every_pair()), straight.predict(every_pair()), rtol=1e-5)


def test_sparse_gradients_touch_the_genes_seen_alone():
    graph = random_graph()
    config = dataclasses.replace(SMALL, sparse_ids=True)
    network = network_of(graph, config, seed=0)
    network.train()
    batch = PairBatcher(graph).batch([[0, 1], [2, 3]])
    network(batch).sum().backward()
    gradient = network.genes.ids.weight.grad
    assert gradient.is_sparse
    assert set(gradient.coalesce().indices()[0].tolist()) == set(batch.gene.tolist())


def test_other_features_are_refused(tmp_path):
    graph = random_graph()
    model = trained(graph)
    model.save(tmp_path / "model")
    renamed = random_graph(names={"peak": [f"peak{i:03}" for i in range(49)] + ["new"]})
    with pytest.raises(FeaturesDiffer, match="50 peak names, found 50: 1 missing .peak049., 1 unknown .new."):
        Bi2Former.load(tmp_path / "model", renamed)
    turned = random_graph(names={"gene": [f"gene{i:03}" for i in range(18)][::-1]})
    with pytest.raises(FeaturesDiffer, match="the same 18 gene names in another order"):
        model.predict([[0, 0]], turned)
    moved = random_graph(n_chrom=1)
    with pytest.raises(FeaturesDiffer, match=r"of 18 gene names on other chromosomes"):
        model.predict([[0, 0]], moved)


def test_misuse_is_explained(tmp_path):
    graph = random_graph()
    with pytest.raises(ModelError, match="found task 'prediction', expected 'matching'"):
        Bi2Former(graph, task="prediction")
    with pytest.raises(ModelError, match="not fitted"):
        Bi2Former(graph).predict([[0, 0]])
    other = HeteroGraph.from_edges({("a", "to", "b"): ([0], [0])}, names={"a": ["x"], "b": ["y"]})
    with pytest.raises(ModelError, match="kind 'custom', expected 'bipartite'"):
        Bi2Former(other)
    pairs, labels = make_pairs(np.arange(12), np.zeros(12), mode="random")
    for wrong, message in (
        (labels[:-1], "found 24 pairs and labels of shape \\(23,\\)"),
        (labels + 1, "12 of them neither 0 nor 1"),
        (np.ones_like(labels), "all 24 labels are alike"),
    ):
        with pytest.raises(ModelError, match=message):
            Bi2Former(graph).fit(pairs, wrong, validation=(pairs, labels), progress=False)
    with pytest.raises(GraphError, match="rows of rna_cell lie outside 0 to 19"):
        Bi2Former(graph).fit(pairs + 10, labels, validation=(pairs, labels), progress=False)
    model = trained(graph)
    with pytest.raises(ModelError, match="found shape \\(2,\\) for 20 pairs"):
        model.links(np.arange(20), groups=["a", "b"])
    loaded = Bi2Former.load(model.save(tmp_path / "model"))
    with pytest.raises(ModelError, match="a loaded model holds no graph"):
        loaded.predict([[0, 0]])

    def shrinking(epoch):
        return (pairs, labels) if epoch == 0 else (pairs[:-1], labels[:-1])

    with pytest.raises(ModelError, match="found 23 in one epoch and 24 in the first"):
        Bi2Former(graph, config=SMALL).fit(shrinking, validation=(pairs, labels), device="cpu", progress=False)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"sparse_ids": True, "ids": False}, "sparse_ids=True with ids=False"),
        ({"hidden": 10, "heads": 3}, "hidden=10 is not a multiple of heads=3"),
        ({"top_k": 0}, "top_k=0"),
        ({"weights": "published"}, "needs a threshold of at least 0.5"),
        ({"weights": "published", "threshold": 0.5, "top_k": None}, "a softmax over the top_k, which is None"),
        ({"spread_floor": 0.0}, "spread_floor=0.0 leaves what one training cell has without a scale"),
        ({"batch_size": 1}, "batches of two pairs or more"),
        ({"ids": False, "attributes": False}, "nothing tells nodes apart"),
        ({"threshold": 1.0, "dropout": 1.0}, "threshold=1.0; dropout=1.0"),
    ],
)
def test_impossible_settings(changes, message):
    with pytest.raises(ModelError, match=message):
        Bi2FormerConfig(**changes)


@pytest.mark.parametrize("epochs", [0, -2])
def test_epochs_below_one_are_refused(epochs):
    with pytest.raises(ModelError, match=f"max_epochs: found {epochs}, expected 1 or more"):
        trained(random_graph(), max_epochs=epochs)

"""Attribution of matches to links, against networks that are run again with what is attributed taken away."""

import dataclasses

import numpy as np
import pandas as pd
import pytest
import torch

from heteromics.errors import GraphError, ModelError
from heteromics.graphs import PairBatcher
from heteromics.interpret import attribute
from heteromics.interpret.attribution import METHODS
from heteromics.models import Bi2Former
from heteromics.models._bi2former_attribution import AfterAttention
from tests.models.test_bi2former import SMALL, every_pair, network_of, random_graph, trained

FORMS = {
    "sigmoid": {},
    "unpruned": {"top_k": None},
    "compared": {"classifier": "compared"},
    "heads": {"heads": 2, "messages": "full", "activation": False},
    "softmax": {"weights": "softmax", "classifier": "mlp", "messages": "full"},
    "softmax-heads": {"weights": "softmax", "heads": 2, "top_k": 3},
    "separate": {"weights": "softmax", "directions": "separate", "heads": 2, "top_k": 4},
    "published": {
        "weights": "published",
        "threshold": 0.5,
        "top_k": 4,
        "scaled": False,
        "classifier": "mlp",
        "activation": False,
    },
}


def in_double(graph, pairs, changes=None, seed=0):
    """An untrained network and a batch of pairs, both float64; the norms have met data."""
    network = network_of(graph, dataclasses.replace(SMALL, **(changes or {})), seed).double()
    batch = PairBatcher(graph).batch(pairs)
    batch = dataclasses.replace(batch, gene_value=batch.gene_value.double(), peak_value=batch.peak_value.double())
    network.train()
    network(PairBatcher(graph).batch(every_pair()[::9]))
    return network.eval(), batch


def small_graph():
    return random_graph(genes=12, peaks=30)


def dense_weights(sent, skip=None, renormalise=None, which="weight"):
    """The weights of a head, genes x peaks, without one link; by formula where the others share its weight."""
    weight = getattr(sent, which).double().clone()
    if skip is not None:
        gone = (sent.gene_row == skip[0]) & (sent.peak_row == skip[1])
        row = sent.gene_row == skip[0]
        if renormalise == "softmax" and gone.any():
            weight[row & ~gone] = sent.score.double()[row & ~gone].softmax(0)
        if renormalise == "published" and gone.any():
            raised = torch.sigmoid(sent.score.double()).exp()
            total = raised[gone] / weight[gone] - raised[gone]
            weight[row & ~gone] = raised[row & ~gone] / total
        weight[gone] = 0
    dense = weight.new_zeros(len(sent.gene), len(sent.peak))
    dense[sent.gene_row, sent.peak_row] = weight
    return dense


def both_ways(sent, *changes):
    return [[dense_weights(head.messages, *changes, which=way) for way in ("weight", "back")] for head in sent]


def log_odds(network, batch, sent, weights):
    """Run a network again with other weights, dense, two matrices for each head: to the gene and to the peak."""
    (layer,) = network.layers
    whole, heads = layer._attend, iter(zip(sent, weights, strict=True))

    def attend(*parts, **options):
        head, (weight, back) = next(heads)
        gene, peak = weight @ head.peak.detach().double(), back.T @ head.gene.detach().double()
        made = whole(*parts, **options)
        return dataclasses.replace(made, gene=gene.to(made.gene.dtype), peak=peak.to(made.peak.dtype))

    layer._attend = attend
    try:
        logits = network(batch)
    finally:
        del layer._attend
    return logits[:, 1] - logits[:, 0]


@torch.no_grad()
def brute_force(network, batch, links, renormalise=None):
    """What the log odds of a batch lose when each link is taken out in turn."""
    _, sent = network.explained(batch)
    whole = log_odds(network, batch, sent, both_ways(sent)).sum()
    lost = [whole - log_odds(network, batch, sent, both_ways(sent, link, renormalise)).sum() for link in links]
    return torch.stack(lost).numpy()


def ways_to_ablate():
    """Every form alone, and renormalised those whose weights add up over a gene, both ways alike."""
    for name, changes in FORMS.items():
        yield pytest.param(changes, None, id=f"{name}-alone")
        if "weights" in changes and "directions" not in changes:
            yield pytest.param(changes, changes["weights"], id=f"{name}-renormalised")


@pytest.mark.parametrize(("changes", "renormalise"), list(ways_to_ablate()))
def test_ablation_is_running_the_network_without_the_link(changes, renormalise, monkeypatch):
    monkeypatch.setattr("heteromics.models._bi2former_attribution._HELD", 300)  # a few links at a time
    network, batch = in_double(small_graph(), [[4, 9], [3, 3]], changes)
    after = AfterAttention.of(network, batch)
    rows = after.links()
    shuffled = torch.randperm(len(rows[0]), generator=torch.Generator().manual_seed(0))
    rows = [part[shuffled] for part in rows]
    found = after.ablation(*rows, renormalise=renormalise is not None)
    expected = brute_force(network, batch, list(zip(*map(torch.Tensor.tolist, rows), strict=True)), renormalise)
    assert len(found) > 20
    assert np.abs(expected).max() > 1e-4
    np.testing.assert_allclose(found.numpy(), expected, rtol=1e-7, atol=1e-12)


def test_a_pair_that_no_head_linked_is_worth_nothing():
    network, batch = in_double(random_graph(), [[4, 9]], {"top_k": 1})
    after = AfterAttention.of(network, batch)
    linked = set(zip(*map(torch.Tensor.tolist, after.links()), strict=True))
    free = next((g, p) for g in range(len(batch.gene)) for p in range(len(batch.peak)) if (g, p) not in linked)
    assert after.ablation(torch.tensor([free[0]]), torch.tensor([free[1]])).tolist() == [0.0]
    assert after.ablation(torch.empty(0).long(), torch.empty(0).long()).shape == (0,)


SMOOTH = {name: form for name, form in FORMS.items() if name != "compared"}  # bends between the 40 points of the path


@pytest.mark.parametrize("changes", SMOOTH.values(), ids=SMOOTH)
def test_integrated_gradients_are_the_path_integral_of_the_jacobian(changes):
    network, batch = in_double(small_graph(), [[4, 9]], changes)
    after = AfterAttention.of(network, batch)
    found, explained = after.integrated_gradients(steps=24 if changes.get("activation", True) else 500)
    with torch.no_grad():
        _, sent = network.explained(batch)
        weights = tuple(matrix for ways in both_ways(sent) for matrix in ways)

    def odds(*flat):
        return log_odds(network, batch, sent, list(zip(flat[::2], flat[1::2], strict=True)))

    path = (np.arange(40) + 0.5) / 40
    total = [torch.zeros_like(weight) for weight in weights]
    for place in path:
        at = tuple(weight * place for weight in weights)
        slopes = torch.autograd.functional.jacobian(lambda *at: odds(*at).sum(), at)
        for sum_, slope in zip(total, slopes, strict=True):
            sum_ += slope / len(path)
    dense = [weight * slope for weight, slope in zip(weights, total, strict=True)]
    for head, values, to_gene, to_peak in zip(after.sent, found, dense[::2], dense[1::2], strict=True):
        rows = head.messages.gene_row, head.messages.peak_row
        np.testing.assert_allclose(values, (to_gene + to_peak)[rows], rtol=1e-3, atol=1e-8)
    with torch.no_grad():
        difference = odds(*weights) - odds(*(weight * 0 for weight in weights))
    torch.testing.assert_close(explained, difference, rtol=1e-9, atol=1e-12)
    if changes.get("classifier") != "mlp":  # a rectifier bends the path, the rule of Gauss needs smoothness
        torch.testing.assert_close(after.summed(found), explained, rtol=1e-9, atol=1e-12)
    torch.testing.assert_close(after.summed(found), explained, rtol=2e-2, atol=1e-6)


def test_more_steps_miss_less():
    network, batch = in_double(random_graph(), [[4, 9], [1, 2]], {"key_width": 4})
    after = AfterAttention.of(network, batch)
    missing = []
    for steps in (1, 3, 9):
        found, explained = after.integrated_gradients(steps)
        missing.append(float((after.summed(found) - explained).abs().max()))
    assert missing[0] > missing[1] > missing[2]


@pytest.mark.parametrize(
    "changes",
    [{"distance_bias": True, "mask": "window"}, {"heads": 2, "weights": "softmax", "top_k": 3}],
    ids=["distance", "heads"],
)
def test_attributions_are_means_over_the_pairs_that_have_both(changes):
    graph = small_graph()
    model = trained(graph, dataclasses.replace(SMALL, **changes))
    pairs = np.array([[3, 3], [7, 12], [3, 9]])
    groups = np.array(list("aba"))
    links = model.links(pairs).sample(frac=1, random_state=0)[["gene", "peak"]].reset_index(drop=True)
    links.loc[len(links)] = ["gene000", "peak029"]  # on no chromosome
    methods = ("attention", "ablation", "effect", "ablation_renormalised", "integrated_gradients")
    table = attribute(model, graph, pairs, links, methods, groups)
    assert list(table) == ["gene", "peak", "group", "score", *methods, "n_pairs", "frequency"]
    plain = model.links(pairs, groups, candidates=links)
    for name, column in {"attention": "attention", "effect": "score", "score": "score", "n_pairs": "n_pairs"}.items():
        np.testing.assert_allclose(table[name], plain[column], rtol=1e-6)
    network, batcher = model._network, model._batcher(graph)
    sums = {group: {name: np.zeros((12, 30)) for name in ("alone", "shared")} for group in "ab"}
    for pair, group in zip(pairs, groups, strict=True):
        batch = batcher.batch(pair[None])
        rows = AfterAttention.of(network, batch).links()
        ends = batch.gene[rows[0]].long(), batch.peak[rows[1]].long()
        listed = list(zip(*map(torch.Tensor.tolist, rows), strict=True))
        for name, rule in (("alone", None), ("shared", changes.get("weights"))):
            sums[group][name][ends] += brute_force(network, batch, listed, rule)
    for group, part in table.groupby("group"):
        place = graph.index("gene", part["gene"]), graph.index("peak", part["peak"])
        for name, column in (("alone", "ablation"), ("shared", "ablation_renormalised")):
            expected = sums[group][name][place] / np.maximum(part["n_pairs"], 1)
            assert np.abs(expected).max() > 1e-4
            np.testing.assert_allclose(part[column], expected, rtol=1e-3, atol=1e-6)
    assert table[list(methods)].iloc[-1].eq(0).all()
    path = table.attrs["integrated_gradients"]
    assert path["steps"] == 16
    assert path["missing"] < 1e-6 * path["explained"]
    of_links = (table["integrated_gradients"] * table["n_pairs"]).sum()  # all links are candidates
    signed = [
        float(AfterAttention.of(network, batcher.batch(pair[None])).integrated_gradients(16)[1]) for pair in pairs
    ]
    np.testing.assert_allclose(of_links, sum(signed), rtol=1e-5)


def test_batches_and_the_order_of_pairs_do_not_matter(monkeypatch):
    graph = random_graph()
    model = trained(graph)
    links = model.links(np.arange(20))[["gene", "peak"]]
    whole = attribute(model, None, np.arange(20), links)
    monkeypatch.setattr("heteromics.models._pair_model.FEWEST_PAIRS", 3)
    model.config = dataclasses.replace(model.config, batch_size=3)
    parts = attribute(model, graph, np.arange(20)[::-1], links)
    pd.testing.assert_frame_equal(whole, parts, rtol=1e-4, atol=1e-7)


def test_candidates_that_are_never_met_are_worth_nothing():
    graph = random_graph()
    model = trained(graph)
    links = pd.DataFrame({"gene": ["gene000", "gene000"], "peak": ["peak049", "peak001"]})  # on no chromosome
    for pairs in (np.arange(20), np.empty((0, 2), int)):
        table = attribute(model, graph, pairs, links, METHODS[:-1])
        assert table[[*METHODS[:-1], "score", "frequency"]].eq(0).all(axis=None)
    assert table["n_pairs"].eq(0).all()
    assert attribute(model, graph, [0, 3], pd.concat([links, links]))["peak"].tolist() == ["peak049", "peak001"] * 2


def test_half_precision_is_explained_in_full():
    graph = random_graph()
    model = trained(graph, dataclasses.replace(SMALL, precision="bfloat16"))
    links = model.links(np.arange(10))[["gene", "peak"]]
    table = attribute(model, graph, np.arange(10), links)
    path = table.attrs["integrated_gradients"]
    assert path["missing"] < 5e-3 * path["explained"]  # messages are rounded to 8 bits
    model.config = dataclasses.replace(model.config, precision="float32")
    model._network.config = model.config
    full = attribute(model, graph, np.arange(10), links)
    assert table["ablation"].corr(full["ablation"]) > 0.99


def test_several_layers_have_effects_and_no_ablation():
    graph = random_graph()
    model = trained(graph, dataclasses.replace(SMALL, layers=2))
    links = model.links(np.arange(4))[["gene", "peak"]]
    assert len(attribute(model, graph, np.arange(4), links, ["attention", "effect", "gradient_product"])) == len(links)
    for method in ("integrated_gradients", "ablation", "ablation_renormalised"):
        with pytest.raises(ModelError, match="found 2 attention layers"):
            attribute(model, graph, np.arange(4), links, [method])


def test_weights_that_genes_and_peaks_share_apart_are_not_renormalised():
    graph = random_graph()
    model = trained(graph, dataclasses.replace(SMALL, weights="softmax", directions="separate"))
    links = model.links(np.arange(4))[["gene", "peak"]]
    assert attribute(model, graph, np.arange(4), links, ["ablation"])["ablation"].abs().max() > 0
    with pytest.raises(ModelError, match="found weights that both the links of a gene and those of a peak share"):
        attribute(model, graph, np.arange(4), links, ["ablation_renormalised"])


def test_misuse_is_explained():
    graph = random_graph()
    model = trained(graph)
    links = pd.DataFrame({"gene": ["gene001"], "peak": ["peak001"]})
    for methods, found in ((["saliency"], "found saliency"), ("attention", "found attention"), ([], "found none")):
        with pytest.raises(ModelError, match=f"methods: {found}; expected some of attention"):
            attribute(model, graph, [0], links, methods)
    with pytest.raises(ModelError, match="steps: found 0, expected 1 or more"):
        attribute(model, graph, [0], links, steps=0)
    with pytest.raises(ModelError, match="found a str; links are attributed in Bi2Former"):
        attribute("model", graph, [0], links)
    with pytest.raises(ModelError, match="not fitted"):
        attribute(Bi2Former(graph), graph, [0], links)
    with pytest.raises(GraphError, match="1 of 1 names are not among the 50 nodes of type 'peak'"):
        attribute(model, graph, [0], links.assign(peak="nowhere"))
    assert attribute(model, graph, [0], links[:0]).empty

"""Agreement of attributions, what randomised models leave of them, and whether they find what was planted."""

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from heteromics.data.synthetic import SyntheticConfig, simulate
from heteromics.errors import DataError, FeaturesDiffer, ModelError
from heteromics.graphs import PairBatcher, bipartite
from heteromics.interpret import agreement, attribute, candidate_links, compare_links, sanity_check
from heteromics.interpret._attribution_checks import rerandomised
from heteromics.models import Bi2Former, Bi2FormerConfig
from heteromics.models._bi2former_attribution import AfterAttention
from heteromics.priors import PriorStore
from heteromics.tasks import auroc, make_pairs
from tests.interpret.test_attribution import brute_force
from tests.models.test_bi2former import planted, random_graph, trained

EFFECTS = ["effect", "integrated_gradients", "ablation"]


def fitted(graph, train, validation, **changes):
    """A model trained on random negatives, drawn anew in every epoch."""
    config = Bi2FormerConfig(**{"hidden": 8, "top_k": None, "patience": 50, "batch_size": 32, **changes})
    return Bi2Former(graph, config=config).fit(
        lambda epoch: make_pairs(train, np.zeros(len(train)), mode="random", seed=epoch),
        validation=make_pairs(validation, np.zeros(len(validation)), mode="random"),
        device="cpu",
        progress=False,
    )


@pytest.fixture(scope="module")
def agreeing():
    """A model that matches by the driving peak of each gene, its graph and its training cells."""
    graph, train = planted(cells=260, genes=12), np.arange(200)
    model = fitted(graph, train, np.arange(200, 260), id_width=16, key_width=16, max_epochs=20)
    return model, graph, train


def random_table(n=300, seed=0):
    rng = np.random.default_rng(seed)
    table = pd.DataFrame({"effect": rng.normal(size=n), "n_pairs": 1})
    return table.assign(attention=rng.random(n), ablation=table["effect"] + rng.normal(size=n) / 2)


def test_agreement_is_that_of_scipy_and_of_sets():
    table = random_table()
    found = agreement(table, ["effect", "ablation"], k=[30, 10, 5000])
    assert found["k"].tolist() == [10, 30, 300]
    assert found["n"].eq(300).all()
    np.testing.assert_allclose(found["spearman"], stats.spearmanr(table["effect"], table["ablation"])[0])
    for row in found.itertuples():
        top = [set(table[name].nlargest(row.k).index) for name in ("effect", "ablation")]
        assert row.shared == len(top[0] & top[1])
        assert row.expected == row.k**2 / 300
        table_of_counts = [[row.shared, row.k - row.shared], [row.k - row.shared, 300 - 2 * row.k + row.shared]]
        assert row.p == pytest.approx(stats.fisher_exact(table_of_counts, alternative="greater")[1], rel=1e-6)


def test_agreement_leaves_out_links_that_were_never_met_and_goes_by_group():
    table = random_table().assign(group=np.repeat(list("ab"), 150))
    table.loc[::10, "n_pairs"] = 0
    found = agreement(table, k=[20])
    assert list(zip(found["left"], found["right"], strict=True))[:3] == [
        ("attention", "effect"), ("attention", "ablation"), ("effect", "ablation")
    ]  # fmt: skip
    assert found["n"].eq(135).all()
    alone = agreement(table[(table["group"] == "b") & (table["n_pairs"] > 0)].drop(columns="group"), k=[20])
    pd.testing.assert_frame_equal(found[found["group"] == "b"].drop(columns="group").reset_index(drop=True), alone)


def test_ties_do_not_look_like_agreement():
    n = 400
    table = pd.DataFrame({"effect": np.zeros(n), "ablation": np.zeros(n), "attention": np.arange(n) == 3})
    shared = [agreement(table, ["effect", "ablation"], k=[100], seed=seed)["shared"].item() for seed in range(30)]
    assert np.mean(shared) == pytest.approx(25, abs=3)
    assert agreement(table, ["effect", "ablation"])["spearman"].eq(0).all()


def test_agreement_explains_misuse():
    table = random_table()
    with pytest.raises(DataError, match=r"found 2 of which 1 are no columns of the table \(saliency\)"):
        agreement(table, ["effect", "saliency"])
    with pytest.raises(DataError, match=r"found 1 of which 0 are no columns of the table"):
        agreement(table, ["effect"])
    table.loc[:1, "effect"] = np.nan
    with pytest.raises(DataError, match=r"found 2 values that are not finite and k=\(100, 1000\)"):
        agreement(table)
    with pytest.raises(DataError, match=r"found 0 values that are not finite and k=\(0,\)"):
        agreement(random_table(), k=(0,))
    with pytest.raises(DataError, match=r"no link of group b has n_pairs above 0"):
        agreement(random_table(4).assign(group=list("aabb"), n_pairs=[1, 1, 0, 0]))


def test_attributions_find_the_planted_links(agreeing):
    model, graph, train = agreeing
    links = model.links(train)[["gene", "peak"]]
    gene, peak = (links[side].str[4:].astype(int) for side in ("gene", "peak"))
    driving = ((peak // 3 == gene) & (peak % 3 == 0)).to_numpy()
    table = attribute(model, graph, train, links, EFFECTS)
    assert driving.sum() == 11  # of 396: gene 0 lies on no chromosome
    for method in EFFECTS:
        best = table[method].nlargest(12).index
        assert driving[best].sum() >= 5  # by chance 0.3
        assert auroc(driving, table[method]) > 0.75
    close = agreement(table, EFFECTS, k=[12])
    assert close["spearman"].min() > 0.8
    assert close["shared"].min() >= 7


def test_attributions_of_random_weights_are_others(agreeing):
    model, graph, train = agreeing
    links = model.links(train)[["gene", "peak"]]
    before = {name: value.clone() for name, value in model._network.state_dict().items()}
    again = rerandomised(model, 7)
    assert again._network is not model._network
    np.testing.assert_array_equal(again.predict([[0, 1]]), rerandomised(model, 7).predict([[0, 1]]))
    assert (again.predict([[0, 1]]) != rerandomised(model, 8).predict([[0, 1]])).all()
    for side in ("genes", "peaks"):
        for scale in ("depth", "centre", "spread"):
            assert (
                getattr(getattr(again._network, side), scale) == getattr(getattr(model._network, side), scale)
            ).all()
    methods = ["attention", *EFFECTS]
    found = sanity_check(model, graph, train[:80], links, methods, others={"itself": model}, k=[12])
    assert list(found.columns) == ["method", "against", "n", "spearman", "k", "shared", "expected", "p"]
    assert found["against"].tolist() == ["random 0", "random 1", "random 2", "itself"] * 4
    itself = found[found["against"] == "itself"]
    assert itself["shared"].eq(12).all()
    np.testing.assert_allclose(itself["spearman"], 1)
    drawn = found[found["against"] != "itself"]
    assert drawn["spearman"].abs().groupby(drawn["method"]).mean().max() < 0.35
    for name, value in model._network.state_dict().items():
        assert (value == before[name]).all()


def test_sanity_checks_need_something_to_compare_with(agreeing):
    model, graph, train = agreeing
    links = pd.DataFrame({"gene": ["gene001"], "peak": ["peak003"]})
    with pytest.raises(ModelError, match="found no seeds and no other models"):
        sanity_check(model, graph, train, links, seeds=())
    with pytest.raises(FeaturesDiffer, match="gene names"):
        sanity_check(model, graph, train, links, seeds=(), others={"other": trained(random_graph())})


def test_on_a_synthetic_multiome_they_are_exact_and_enriched(tmp_path):
    sizes = {"n_cell_types": 2, "n_genes": 40, "n_peaks": 160, "n_tfs": 6, "n_proteins": 4, "n_chromosomes": 2}
    made = simulate(SyntheticConfig(n_cells=400, cell_effect=1.0, peak_effect=1.0, **sizes), seed=100)
    files = made.write(tmp_path / "synthetic")
    with PriorStore.build("demo", tmp_path / "priors.duckdb", sets=[f"source.folder={files}"], progress=False) as store:
        graph = bipartite(made.mdata["rna"], made.mdata["atac"], store, mask="window")
        candidates = candidate_links(graph, store)
    cells = np.arange(400)
    settings = {"id_width": 32, "key_width": 32, "max_epochs": 20, "learning_rate": 1e-2}
    model = fitted(graph, cells[:340], cells[340:], **settings)
    table = attribute(model, graph, cells, candidates, EFFECTS)
    assert table.attrs["integrated_gradients"]["missing"] < 1e-5 * table.attrs["integrated_gradients"]["explained"]
    scored = compare_links(
        {name: table.assign(score=table[name]) for name in EFFECTS}, made.truth[made.truth["sign"] > 0], candidates
    )
    assert scored["auroc"].min() > 0.55
    assert scored["lift"].min() > 1.5
    batch = PairBatcher(graph, model.mask).batch([[3, 3]])
    after = AfterAttention.of(model._network, batch)
    rows = [part[::4] for part in after.links()]
    links = list(zip(*(part.tolist() for part in rows), strict=True))
    expected = brute_force(model._network.double(), batch, links)
    assert len(expected) > 5
    np.testing.assert_allclose(after.ablation(*rows), expected, rtol=2e-3, atol=1e-6)

"""Several models and controls in one run: the same pairs, the same numbers as alone, and what is refused."""

import numpy as np
import pandas as pd
import pytest
import torch

from heteromics.errors import DataError, ModelError
from heteromics.models import Bi2Former, Bi2FormerConfig
from heteromics.tasks import Contender, paired_rows, run_matching, split_paired
from heteromics.tasks import metrics as measure
from heteromics.tasks.matching import Scale
from heteromics.tasks.matching_scores import score
from tests.tasks.test_matching import typed_graph

TINY = Bi2FormerConfig(id_width=4, hidden=4, key_width=4, max_epochs=1)
CODES = np.repeat([0, 1, 2], [50, 15, 25])
QUIET = {"device": "cpu", "progress": False}


def with_batches(graph, batches=3, seed=5):
    """Give the cells batches, the same in both modalities, with some of each type in each."""
    code = torch.from_numpy(np.random.default_rng(seed).integers(0, batches, graph.num_nodes("rna_cell")))
    for side in ("rna_cell", "atac_cell"):
        graph.dgl.nodes[side].data["batch"] = code
    graph.meta["categories"]["batch"] = [f"b{number}" for number in range(batches)]
    return graph


@pytest.fixture(scope="module")
def both():
    models = ["CellTypeMatcher", Contender("one", "Bi2Former", TINY), Contender("two", Bi2Former, TINY)]
    return run_matching(typed_graph(), CODES, models=models, test_negatives=("easy", "random"), **QUIET)


def test_models_in_one_run_are_those_of_runs_of_their_own(both):
    alone = run_matching(typed_graph(), CODES, config=TINY, test_negatives=("easy", "random"), **QUIET)
    assert list(both.models) == ["one", "two"]
    assert both.model is both.models["one"]
    pd.testing.assert_series_equal(both.pairs["one"], both.pairs["two"], check_names=False)
    pd.testing.assert_series_equal(both.pairs["one"], alone.pairs["Bi2Former"], check_names=False)
    pd.testing.assert_series_equal(both.pairs["CellTypeMatcher"], alone.pairs["CellTypeMatcher"])
    assert both.scales["one"] == both.scales["two"] == alone.scales["Bi2Former"]
    assert both.scales["CellTypeMatcher"] == alone.scales["CellTypeMatcher"]
    assert set(both.scales) == set(both.seconds) == {"CellTypeMatcher", "one", "two"}


def test_calibration_is_of_the_kept_scores_scaled_alike_for_models_and_controls(both):
    table = both.metrics.set_index(["model", "negatives", "metric"])["value"]
    for kind, part in both.pairs.groupby("negatives"):
        for model in ("CellTypeMatcher", "one"):
            probability = both.scales[model](part[model])
            assert table[model, kind, "brier"] == pytest.approx(measure.brier(part["label"], probability))
            assert table[model, kind, "accuracy"] == ((probability > 0.5) == part["label"]).mean()
            bins = both.reliability.query("model == @model and negatives == @kind")
            gap = np.average((bins["predicted"] - bins["observed"]).abs(), weights=bins["n"])
            assert table[model, kind, "ece"] == pytest.approx(gap)
            assert bins["n"].sum() == len(part)
        assert table["one", kind, "accuracy_raw"] == ((part["one"] > 0.5) == part["label"]).mean()
        assert table["one", kind, "brier_raw"] == pytest.approx(measure.brier(part["label"], part["one"]))
        own = measure.expected_calibration_error(part["label"], part["one"])
        assert table["one", kind, "ece_raw"] == pytest.approx(own)
    assert table["CellTypeMatcher", "easy", "brier"] < 0.1
    raw = both.metrics[both.metrics["metric"].str.endswith("_raw")]
    assert set(raw["model"]) == {"one", "two"}  # the chance that types are alike is not that of one cell


def test_probabilities_that_are_wrong_by_a_known_curve_are_set_right():
    rng = np.random.default_rng(0)
    right = rng.uniform(0.02, 0.98, 20_000)
    labels = (rng.random(20_000) < right).astype(int)
    log_odds = np.log(right / (1 - right))
    told = (1 / (1 + np.exp(-(4 * log_odds + 2)))).astype(np.float32)  # too sure, and too often
    scale = Scale.fit(labels[:10_000], told[:10_000])
    assert (scale.slope, scale.intercept) == (pytest.approx(0.25, rel=0.1), pytest.approx(-0.5, abs=0.1))
    pairs = pd.DataFrame({"negatives": "easy", "label": labels[10_000:], "model": told[10_000:]})
    found = score(pairs, {"model": scale}).set_index("metric")["value"]
    assert found["ece"] < 0.02 < 0.1 < found["ece_raw"]
    assert found["brier"] < found["brier_raw"]
    assert found["accuracy"] > found["accuracy_raw"]
    assert np.isfinite(scale(np.float32([0, 1]))).all()
    share = Scale.fit(labels, told, "share")
    assert share(told) == pytest.approx(Scale.fit(labels, told)(told))
    assert not {"accuracy_raw"} & set(score(pairs, {"model": share})["metric"])


def test_a_falling_scale_does_not_turn_the_curve_of_the_scores():
    pairs = pd.DataFrame({"negatives": "easy", "label": [1, 1, 0, 0], "model": [0.9, 0.7, 0.4, 0.1]})
    found = score(pairs, {"model": Scale(-1.0, 0.0)}).set_index("metric")["value"]
    assert (found["auroc"], found["auprc"], found["accuracy_raw"], found["accuracy"]) == (1, 1, 1, 0)


def test_controls_alone_leave_no_model():
    result = run_matching(typed_graph(), CODES, models=["DepthMatcher"], **QUIET)
    assert result.models == {}
    with pytest.raises(ModelError, match=r"only controls were run \(DepthMatcher\)"):
        _ = result.model


def test_every_known_model_can_be_run():
    from heteromics import models

    graph = typed_graph(cells=40)
    names = ["PairMLP", "PairGCNII", "PairSAGE", "PairTransformer"]
    asked = [Contender(name, None, getattr(models, f"{name}Config")(id_width=4, hidden=8)) for name in names]
    codes = np.repeat([0, 1, 2], [20, 10, 10])
    result = run_matching(graph, codes, models=[*asked, "BilinearMatcher"], max_epochs=1, **QUIET)
    assert list(result.models) == names
    assert np.isfinite(result.pairs[[*names, "BilinearMatcher"]]).all().all()
    assert {name for name, scale in result.scales.items() if scale.kind == "probability"} == {*names, "BilinearMatcher"}


@pytest.mark.parametrize(
    ("models", "config", "message"),
    [
        (["Bi2Formr"], None, "no model of pairs called 'Bi2Formr'. Did you mean 'Bi2Former'"),
        ([], None, "models: found none, expected one or more"),
        (["Bi2Former", "Bi2Former"], None, "models: found Bi2Former, Bi2Former"),
        (["DepthMatcher"], TINY, "found a config for Bi2Former, which is not among the models DepthMatcher"),
    ],
)
def test_models_that_cannot_be_run(models, config, message):
    with pytest.raises(ModelError, match=message):
        run_matching(typed_graph(cells=12), CODES[:12], models=models, config=config, **QUIET)


def test_a_control_has_no_configuration():
    with pytest.raises(ModelError, match="DepthMatcher: found a configuration for a control"):
        Contender("DepthMatcher", None, TINY)


@pytest.mark.parametrize("protocol", ["cells", "pairs"])
def test_negatives_stay_within_batches(protocol):
    graph = with_batches(typed_graph())
    options = {"split": CODES} if protocol == "cells" else {"protocol": "pairs"}
    result = run_matching(graph, models=["DepthMatcher"], within="batch", **options, **QUIET)
    batch = graph.ndata("rna_cell")["batch"].numpy()
    left, right = (batch[graph.index(side, result.pairs[side])] for side in ("rna_cell", "atac_cell"))
    assert (left == right).all()
    free = run_matching(graph, models=["DepthMatcher"], **options, **QUIET)
    left, right = (batch[graph.index(side, free.pairs[side])] for side in ("rna_cell", "atac_cell"))
    assert (left != right).any()


def test_batches_that_are_not_there():
    with pytest.raises(DataError, match="the graph has no batches"):
        run_matching(typed_graph(), CODES, within="batch", **QUIET)
    graph = with_batches(typed_graph())
    graph.dgl.nodes["rna_cell"].data["batch"][:3] = -1
    with pytest.raises(DataError, match="3 of 90 cells have no batch"):
        run_matching(graph, CODES, within="batch", **QUIET)


@pytest.mark.parametrize("by", ["batch", "cell_type"])
def test_whole_groups_are_held_out(by):
    graph = with_batches(typed_graph())
    codes = split_paired(graph, by, seed=1)
    group = graph.ndata("rna_cell")[by].numpy()
    assert all(np.unique(codes[group == each]).size == 1 for each in range(3))
    assert set(codes) == {0, 1, 2}
    name = graph.meta["categories"][by][2]
    named = split_paired(graph, by, test=[name], seed=1)
    assert ((named == 2) == (group == 2)).all()
    assert set(named[group != 2]) == {0, 1}


def test_cells_without_a_type_are_in_no_part_of_a_split_by_type():
    graph = typed_graph()
    types = graph.ndata("rna_cell")["cell_type"].clone()
    types[:7] = -1
    graph.dgl.nodes["rna_cell"].data["cell_type"] = types
    codes = split_paired(graph, "cell_type", test=["b"], seed=0)
    assert (codes == -1).tolist() == [True] * 7 + [False] * 83
    result = run_matching(graph, codes, models=["DepthMatcher"], test_negatives=("hard",), **QUIET)
    tested = {int(name[1:]) for name in result.pairs["rna_cell"]}
    assert tested == set(np.flatnonzero(codes == 2))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"by": "donor"}, "found by='donor' with 0 groups"),
        ({"by": "cell", "test": ["a"]}, "found by='cell' with 1 groups"),
        ({"by": "cell_type", "test": ["z"]}, r"1 of 1 groups have no cell \(z\)"),
    ],
)
def test_splits_that_cannot_be(options, message):
    with pytest.raises(DataError, match=message):
        split_paired(typed_graph(), seed=0, **options)


def test_cells_left_out_are_in_no_pair():
    codes = CODES.copy()
    codes[60:65] = codes[80:] = -1
    result = run_matching(typed_graph(), codes, models=["DepthMatcher"], **QUIET)
    seen = {int(name[1:]) for side in ("rna_cell", "atac_cell") for name in result.pairs[side]}
    assert seen <= set(range(65, 80))
    assert paired_rows(typed_graph())[0].shape == (90, 2)

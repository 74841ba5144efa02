"""Protocols and studies over seeds: what they train and test on, that finished runs are kept, and their summaries."""

import json
from io import StringIO

import numpy as np
import pandas as pd
import pytest
from rich.console import Console

from heteromics import _progress
from heteromics.errors import DataError
from heteromics.graphs.hashing import graph_hash
from heteromics.models import Bi2FormerConfig
from heteromics.models._pair_training import MatchingPlan
from heteromics.tasks import (
    Contender,
    Protocol,
    ablations,
    across_types,
    few_shot,
    leak_worth,
    paired_rows,
    paper_results,
    read_runs,
    repeat_matching,
    run_matching,
    split_paired,
    summarise_runs,
    with_training_cells,
)
from heteromics.tasks import matching_runs as runs_module
from heteromics.tasks.matching import LEAKING
from heteromics.tasks.matching_studies import ablated, type_groups
from tests.tasks.test_contenders import TINY, with_batches
from tests.tasks.test_matching import typed_graph
from tests.workflows.small import make_files

QUIET = {"device": "cpu", "progress": False}
CONTROLS = ("CellTypeMatcher", "DepthMatcher")
DIGEST = runs_module.code_digest()
MODEL = Contender("tiny", "Bi2Former", TINY)
PROTOCOLS = {"pairs, easy": Protocol("pairs", "easy"), "cells, easy": Protocol("cell", "easy", redraw=False)}


def graph_with_summaries(seed=0):
    """A typed graph whose attributes are means and shares, as those of the builder."""
    graph = with_batches(typed_graph(seed=seed))
    graph.meta["attribute_names"] = {"gene": ["mean", "share"], "peak": ["share", "a"]}
    return graph


@pytest.fixture
def asked(monkeypatch):
    """Record what every run was asked, and do it."""
    seen = []

    def spy(graph, split=None, **options):
        seen.append((graph, split, options))
        return run_matching(graph, split, **options)

    monkeypatch.setattr(runs_module, "run_matching", spy)
    return seen


def test_attributes_are_those_of_a_graph_built_for_the_training_cells(tmp_path):
    from heteromics.data import read
    from heteromics.graphs import bipartite
    from heteromics.priors import PriorStore

    _, data, db = make_files(tmp_path)
    rna, atac = (read(data, modality=name, layer="X") for name in ("rna", "atac"))
    with PriorStore.open(db) as store:
        for standardise in (True, False):
            whole = bipartite(rna, atac, store, standardise=standardise)
            before = graph_hash(whole, node_data=True)
            codes = split_paired(whole, seed=3)
            training = whole.names["rna_cell"][paired_rows(whole)[0][codes == 0, 0]]
            built = bipartite(rna, atac, store, standardise=standardise, training_cells=training)
            made = with_training_cells(whole, codes)
            assert graph_hash(made, node_data=True) == graph_hash(built, node_data=True) != before
            assert made.meta == built.meta
            assert graph_hash(whole, node_data=True) == before
    with pytest.raises(DataError, match="found 2 codes for 80 paired cells, 1 of them training"):
        with_training_cells(whole, [0, 1])


def test_protocols_are_repeated_with_new_splits_and_identical_pairs(asked):
    graph = graph_with_summaries()
    table = repeat_matching(graph, PROTOCOLS, models=CONTROLS, seeds=(0, 1), **QUIET)
    assert len(table) == 2 * 2 * 6 * (1 + 3)
    assert list(table.columns) == [
        "protocol", "seed", "model", "split", "negatives", "metric", "value", "seconds", "epochs", "peak_mb", "code",
    ]  # fmt: skip
    leaking = table["protocol"] == "pairs, easy"
    assert set(table.loc[leaking, "split"]) == {LEAKING}
    assert set(table.loc[leaking, "negatives"]) == {"easy"}
    assert set(table.loc[~leaking, "negatives"]) == {"easy", "hard", "random"}
    splits = [split for _, split, _ in asked]
    assert [split is None for split in splits] == [True, True, False, False] * 2
    assert np.array_equal(splits[2], splits[3])
    assert not np.array_equal(splits[2], splits[6])
    assert [(splits[2] == code).sum() for code in range(3)] == [72, 9, 9]
    assert [options.get("redraw", False) for _, _, options in asked] == [False] * 8  # as many negatives on both sides
    assert asked[0][0] is graph
    training = asked[2][0].ndata("rna_cell")["training"].numpy()
    assert np.array_equal(training, splits[2] == 0)
    by_hand = run_matching(with_training_cells(graph, splits[2]), splits[2], models=CONTROLS, negatives="easy", **QUIET)
    kept = by_hand.metrics.query("negatives == 'easy'").reset_index(drop=True)
    ours = table.query("protocol == 'cells, easy' and seed == 0 and negatives == 'easy'").reset_index(drop=True)
    pd.testing.assert_frame_equal(ours[kept.columns], kept)


def test_finished_runs_are_read_back_and_others_are_not(asked, tmp_path):
    graph = graph_with_summaries()
    first = repeat_matching(graph, PROTOCOLS, models=[MODEL], seeds=(0,), folder=tmp_path, **QUIET)
    assert len(asked) == 2
    again = repeat_matching(graph, PROTOCOLS, models=[MODEL, "DepthMatcher"], seeds=(0,), folder=tmp_path, **QUIET)
    assert len(asked) == 4
    pd.testing.assert_frame_equal(again[again["model"] == "tiny"].reset_index(drop=True), first, check_exact=True)
    changed = Contender("tiny", "Bi2Former", Bi2FormerConfig(id_width=4, hidden=4, key_width=4, dropout=0.2))
    repeat_matching(graph, PROTOCOLS, models=[changed], seeds=(0,), max_epochs=1, folder=tmp_path, **QUIET)
    repeat_matching(
        graph_with_summaries(seed=1), PROTOCOLS, models=["DepthMatcher"], seeds=(0,), folder=tmp_path, **QUIET
    )
    assert len(asked) == 8
    assert sorted(path.suffix for path in tmp_path.iterdir()) == [".json"] * 8
    kept = read_runs(tmp_path)
    assert len(kept) == 2 * (9 + 6) * (1 + 3)
    bins = read_runs(tmp_path, "reliability")
    assert {"protocol", "seed", "model", "negatives", "n", "predicted", "observed"} <= set(bins)
    record = json.loads(next(iter(sorted(tmp_path.glob("*tiny*.json")))).read_text())
    assert record["asked"]["config"]["hidden"] == 4
    assert len(record["history"]) == record["cost"]["epochs"] == 1
    assert (record["made"]["code"], record["made"]["device"]) == ([runs_module.code_digest()], "cpu")


def test_what_a_graph_says_beside_its_nodes_and_edges_is_another_run(asked, tmp_path):
    graph, plan = graph_with_summaries(), {"pairs, easy": PROTOCOLS["pairs, easy"]}
    options = {"models": ["DepthMatcher"], "seeds": np.arange(1), "folder": tmp_path, **QUIET}
    repeat_matching(graph, plan, **options)
    for key, value in (("within_bp", 5), ("mask", "window"), ("attribute_names", {"gene": ["mean"], "peak": []})):
        graph.meta[key] = value
        repeat_matching(graph, plan, **options)
    assert len(asked) == 4
    repeat_matching(graph, plan, **options)
    assert len(asked) == 4


def test_code_is_told_and_costs_no_run(asked, tmp_path, monkeypatch, capsys):
    graph, plan = graph_with_summaries(), {"pairs, easy": PROTOCOLS["pairs, easy"]}
    options = {"models": ["DepthMatcher"], "folder": tmp_path, "device": "cpu"}
    repeat_matching(graph, plan, seeds=(0,), **options)
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("DepthMatcher; protocol pairs, easy; seed 0: AUROC 0.")
    assert line.endswith("(easy); 0 s, 0 epochs")
    monkeypatch.setattr(runs_module, "code_digest", lambda: "other")
    table = repeat_matching(graph, plan, seeds=(0, 1), **options)
    assert len(asked) == 2
    assert len(capsys.readouterr().err.splitlines()) == 1
    assert table.groupby("seed")["code"].unique().map(list).tolist() == [[DIGEST], ["other"]]
    assert summarise_runs(table)["code"].tolist() == [f"{DIGEST}, other"]
    assert (table["peak_mb"] > 50).all()


def test_a_run_shows_its_epochs_below_the_runs(monkeypatch):
    shown = Console(file=StringIO(), force_terminal=True, width=120)
    monkeypatch.setattr(_progress, "stderr", shown)
    repeat_matching(graph_with_summaries(), PROTOCOLS, models=[MODEL], seeds=[0], device="cpu")
    text = shown.file.getvalue()
    assert "training MatchingPlan" in text
    assert "2/2" in text
    assert any("matching" in frame and "MatchingPlan" in frame for frame in text.split("\x1b[1A"))


def test_the_digest_is_of_the_sources_that_compute(tmp_path, monkeypatch):
    for room in runs_module.ROOMS:
        (tmp_path / room / "below").mkdir(parents=True)
        (tmp_path / room / "below" / "a.py").write_text("a = 1")
    (tmp_path / "plot").mkdir()
    monkeypatch.setattr(runs_module.heteromics, "__file__", str(tmp_path / "__init__.py"))
    digest = runs_module.code_digest.__wrapped__
    first = digest()
    (tmp_path / "plot" / "b.py").write_text("b = 1")
    assert digest() == first
    (tmp_path / "nn" / "below" / "a.py").write_text("a = 2")
    assert digest() != first


def test_an_interrupted_run_goes_on_from_its_checkpoint(asked, tmp_path, monkeypatch):
    graph, plan = graph_with_summaries(), {"cells": Protocol("cell")}
    longer = Contender("tiny", "Bi2Former", Bi2FormerConfig(id_width=4, hidden=4, key_width=4, patience=9))
    options = {"models": [longer], "seeds": (0,), "max_epochs": 3, **QUIET}
    whole = repeat_matching(graph, plan, **options)
    trained, end = [], MatchingPlan.on_validation_epoch_end

    def epoch_end(plan):
        end(plan)
        trained.append(plan.current_epoch)

    with monkeypatch.context() as patch:
        patch.setattr(MatchingPlan, "on_validation_epoch_end", epoch_end)
        patch.setattr(MatchingPlan, "on_train_epoch_start", _break_the_third)
        patch.setattr(runs_module, "code_digest", lambda: "before")
        with pytest.raises(Broken):
            repeat_matching(graph, plan, folder=tmp_path, **options)
    assert trained == [0, 1]
    assert len(list(tmp_path.rglob("last.ckpt"))) == 1
    monkeypatch.setattr(MatchingPlan, "on_validation_epoch_end", epoch_end)
    table = repeat_matching(graph, plan, folder=tmp_path, **options)
    assert asked[-1][2]["resume"] is True
    assert trained == [0, 1, 2]
    columns = ["negatives", "metric", "value", "epochs"]
    pd.testing.assert_frame_equal(table[columns], whole[columns], check_exact=True)
    assert set(table["code"]) == {f"before+{DIGEST}"}
    assert [path.suffix for path in tmp_path.iterdir()] == [".json"]


class Broken(Exception):
    """A machine that goes off; Lightning makes an exit of the interrupt itself."""


def _break_the_third(plan):
    if plan.current_epoch == 2:
        raise Broken


def test_few_cells_nest_and_are_tested_alike(asked):
    graph = graph_with_summaries()
    codes = np.repeat([0, 1, 2], [60, 12, 18])
    table = few_shot(graph, codes, shares=(0.2, 0.5, 1.0), models=["DepthMatcher"], seeds=(0, 1), **QUIET)
    assert table.groupby("share")["n_cells"].first().to_dict() == {0.2: 12, 0.5: 30, 1.0: 60}
    few, more, every, other, *_ = (split for _, split, _ in asked)
    assert np.array_equal(every, codes)
    assert [(split == 0).sum() for split in (few, more)] == [12, 30]
    assert set(np.flatnonzero(few == 0)) < set(np.flatnonzero(more == 0))
    assert not np.array_equal(few, other)
    for split in (few, other):
        assert np.array_equal(split[60:], codes[60:])
        assert set(split[:60]) == {0, -1}
    graph_of_few = asked[0][0]
    assert int(graph_of_few.ndata("rna_cell")["training"].sum()) == 12
    for share in (0.0, 1.5):
        with pytest.raises(DataError, match=f"shares: found {share}, expected each above 0"):
            few_shot(graph, codes, shares=(share,), **QUIET)


def test_types_held_out_are_in_no_training_or_validation_cell(asked):
    graph = graph_with_summaries()
    groups = {"first": ["a", "c"], "second": ["b", "c"]}
    across_types(graph, held_out=groups, models=["DepthMatcher"], seeds=(0,), **QUIET)
    types = paired_rows(graph)[1]
    for (_, split, _), held in zip(asked, groups.values(), strict=True):
        assert set(types[split == 2]) == set(held)
        assert set(types[split < 2]) == {"a", "b", "c"} - set(held)
        assert (split == 1).sum() == pytest.approx(0.1 * (split < 2).sum(), abs=1)
    with pytest.raises(DataError, match=r"found 3 cell types \(a, b, c\) for 4 groups"):
        across_types(graph, **QUIET)


def test_groups_of_types_are_alike_in_number_and_size():
    size = np.array([40, 30, 20, 10, 9, 8, 7, 6, 1])
    types = np.repeat([f"t{i}" for i in range(9)], size)
    groups = type_groups(np.append(types, "unknown"), 4)
    assert sorted(name for names in groups.values() for name in names) == [f"t{i}" for i in range(9)]
    assert sorted(map(len, groups.values())) == [2, 2, 2, 3]
    assert groups["group 1"] == ["t0", "t7", "t8"]


def test_ablations_change_what_they_say_and_nothing_else():
    for config in (Bi2FormerConfig(), Bi2FormerConfig.as_published()):
        off = ablated(config)
        changed = {
            name: {field for field in Bi2FormerConfig.__slots__ if getattr(each, field) != getattr(config, field)}
            for name, each in off.items()
        }
        assert changed["none"] == set()
        assert changed["ids"] == {"ids"}
        assert changed["attributes"] == {"attributes"}
        assert changed["edges"] == {"mask"}
        assert changed["pruning"] <= {"top_k", "threshold", "weights"}
        assert off["pruning"].top_k is None
        assert off["pruning"].threshold is None
        assert changed["attributes, pruning and edges"] == {"attributes", "mask"} | changed["pruning"]


def test_points_lost_are_against_the_same_protocol_seed_and_pairs():
    protocols = {"pairs": Protocol("pairs", "easy"), "cells": Protocol(test_negatives=("easy",))}
    table = ablations(graph_with_summaries(), protocols, model=MODEL, seeds=(0,), **QUIET)
    assert table["ablation"].nunique() == 6
    assert set(table.loc[table["protocol"] == "pairs", "split"]) == {LEAKING}
    wide = table.pivot_table(index=["protocol", "seed", "metric"], columns="ablation", values=["value", "lost"])
    assert len(wide) == 2 * 9
    for name in table["ablation"].unique():
        np.testing.assert_allclose(wide["lost", name], wide["value", "none"] - wide["value", name])
    assert (table.loc[table["ablation"] == "none", "lost"] == 0).all()
    summary = summarise_runs(table, paper_results("mean of five", "ablations"))
    assert summary.loc[summary["source"] == "paper", "lost"].tolist() == pytest.approx(
        [0.0378, 0.0293, 0.0143, 0.0428, 0.1152]
    )
    ours = summary[summary["source"] == "here"].set_index(["protocol", "ablation"])
    raw = table[table["metric"] == "accuracy_raw"].set_index(["protocol", "ablation"])["lost"]
    pd.testing.assert_series_equal(ours["lost"], raw.loc[ours.index])


@pytest.fixture(scope="module")
def made_up():
    rows = [
        ("pairs, easy", seed, model, LEAKING, "easy", metric, value + 0.01 * seed, 1.0, 2)
        for seed in range(3)
        for model, metric, value in (("A", "auroc", 0.8), ("A", "accuracy", 0.7), ("B", "auroc", 0.6))
    ]
    rows += [
        ("cells, easy", seed, "A", "test", kind, "auroc", 0.7 + 0.02 * seed, 1.0, 2)
        for seed in range(4)
        for kind in ("easy", "hard")
    ]
    columns = ["protocol", "seed", "model", "split", "negatives", "metric", "value", "seconds", "epochs"]
    return pd.DataFrame(rows, columns=columns)


def test_summaries_are_means_and_standard_deviations_beside_the_paper(made_up):
    paper = paper_results("SNARE-seq")
    table = summarise_runs(made_up, paper, protocol="pairs, easy", negatives="easy")
    ours = table[(table["source"] == "here") & (table["protocol"] == "pairs, easy")].set_index("model")
    assert ours.loc["A", ["auroc", "auroc_sd", "accuracy", "seeds"]].tolist() == pytest.approx([0.81, 0.01, 0.71, 3])
    assert np.isnan(ours.loc["B", "accuracy"])
    theirs = table[table["source"] == "paper"].set_index("model")
    assert theirs.loc["Bi2Former", ["accuracy_raw", "accuracy_raw_sd", "auroc", "auroc_sd"]].tolist() == pytest.approx(
        [0.7356, 0.0037, 0.7730, 0.0021]
    )
    assert theirs.loc[["scMoGNN", "GT"], ["accuracy_raw", "auroc"]].to_numpy().ravel().tolist() == pytest.approx(
        [0.6903, 0.7232, 0.6874, 0.7389]
    )
    assert set(theirs["protocol"]) == {"pairs, easy"}
    with pytest.raises(DataError, match="are of runs that stand in the table twice"):
        summarise_runs(pd.concat([made_up, made_up]))
    with pytest.raises(DataError, match="labels: protocl are no columns of the runs"):
        summarise_runs(made_up, paper, protocl="pairs, easy")


def test_the_leak_is_the_difference_of_the_same_seeds_and_negatives(made_up):
    table = leak_worth(made_up)
    assert table[["model", "negatives", "metric", "seeds"]].to_numpy().tolist() == [["A", "easy", "auroc", 3]]
    row = table.iloc[0]
    assert (row["leaking"], row["honest"]) == (pytest.approx(0.81), pytest.approx(0.72))
    assert (row["gain"], row["gain_sd"]) == (pytest.approx(0.09), pytest.approx(0.01))
    with pytest.raises(DataError, match="found no run of protocol 'cells, hard'; there are"):
        leak_worth(made_up, honest="cells, hard")


def test_the_paper_is_quoted_for_all_its_data_sets():
    found = {
        name: paper_results(name).iloc[0] for name in ("ISSAAC-seq", "10xPBMC", "SHARE-seq", "SNARE-seq", "10xMultiome")
    }
    mean = paper_results("mean of five").iloc[0]
    for metric in ("accuracy", "auroc"):
        assert np.mean([row[metric] for row in found.values()]) == pytest.approx(mean[metric], abs=1e-4)
        assert all(row["model"] == "Bi2Former" for row in found.values())
    assert paper_results("10xMultiome", "across_types").empty
    with pytest.raises(DataError, match="found data set 'SNARE' and study 'matching'. Did you mean 'SNARE-seq'"):
        paper_results("SNARE")


def test_what_is_no_run(tmp_path):
    with pytest.raises(DataError, match="holds no finished run"):
        read_runs(tmp_path)
    (tmp_path / "a.json").write_text("{}")
    with pytest.raises(
        DataError, match="a.json is no matching run of this release: it lacks cost, labels, made, metrics, reliab"
    ):
        read_runs(tmp_path)
    (tmp_path / "a.json").write_text("{")
    with pytest.raises(DataError, match=r"a.json is no JSON file"):
        read_runs(tmp_path)

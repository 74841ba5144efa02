import dataclasses
import json

import anndata
import numpy as np
import pandas as pd
import pytest

from heteromics.data import load_manifest, read
from heteromics.errors import DataError, FetchError
from heteromics.graphs.hashing import graph_hash
from heteromics.models import Bi2FormerConfig
from heteromics.tasks import matching_runs as runs
from heteromics.tasks.matching import LEAKING
from heteromics.workflows import _reproduction as data_room
from heteromics.workflows import _reproduction_plan as plan
from heteromics.workflows import reproduce as room
from heteromics.workflows.reproduce import reproduce
from tests.workflows.small import changed

code_digest = runs.code_digest
NAME = "bi2former-snare"
TWO = ("pairs, easy", "cells, easy")
CONTROLS = ("CellTypeMatcher", "DepthMatcher")


def quick(files, out, **options):
    options = {"data": [files.data], "db": files.db, "small": True, "seeds": 1, "protocols": TWO, **options}
    return reproduce(NAME, out=out, device="cpu", progress=False, **options)


@pytest.fixture(scope="module")
def first(small, tmp_path_factory):
    out = tmp_path_factory.mktemp("reproduced") / "snare"
    return out, quick(small, out, models=("Bi2Former", *CONTROLS))


def test_tables_are_written_thrice_and_say_what_they_are_of(first):
    out, result = first
    assert set(result.tables) == {"protocols_runs", "protocols_summary", "leak", "reliability_runs"}
    for title, table in result.tables.items():
        assert set(table["reproduction"]) == {NAME}
        (what,) = set(table["data"])
        assert what.startswith(
            "small sample, 80 cells x 60 genes x 200 peaks (0 sampled cells without counts left out)"
        )
        assert "of given file multiome.h5mu: 80 cells x 60 genes x 200 peaks; the paper's has 9,190 x" in what
        assert what.endswith("; at most 2 epochs")
        kept = pd.read_parquet(out / f"{title}.parquet")
        pd.testing.assert_frame_equal(*(each.astype(object).where(each.notna(), "none") for each in (kept, table)))
        texts = pd.read_csv(out / f"{title}.tsv", sep="\t"), pd.read_json(out / f"{title}.json")
        for read_back in texts:
            assert read_back.shape == table.shape
            assert read_back["data"].tolist() == table["data"].tolist()
    assert sorted(path.name for path in out.iterdir()) == sorted(
        [
            "provenance.json",
            "runs",
            *(f"{title}.{form}" for title in result.tables for form in ("parquet", "tsv", "json")),
        ]
    )


def test_the_paper_stands_beside_and_the_leak_is_told(first):
    _, result = first
    table = result.tables["protocols_summary"]
    paper = table[table["source"] == "paper"].set_index("model")
    assert paper.loc["Bi2Former", ["accuracy_raw", "auroc"]].tolist() == pytest.approx([0.7356, 0.7730])
    assert set(paper["protocol"]) == {"pairs, easy"}
    here = table[table["source"] == "here"]
    assert set(here.loc[here["protocol"] == "pairs, easy", "split"]) == {LEAKING}
    assert set(here.loc[here["model"] == "Bi2Former", "epochs"]) <= {1, 2}
    printed = result.summaries()["protocols_summary"]
    assert {"split", "note", "epochs", "accuracy_raw", "auprc", "brier", "ece"} <= set(printed[0])
    assert {row["note"] for row in printed if row["source"] == "paper"} > {"best baseline by accuracy"}
    values = result.tables["protocols_runs"].set_index(["protocol", "model", "negatives", "metric"])["value"]
    leak = result.tables["leak"].set_index(["model", "metric"])
    for model in ("Bi2Former", *CONTROLS):
        expected = values["pairs, easy", model, "easy", "auroc"] - values["cells, easy", model, "easy", "auroc"]
        assert leak.loc[(model, "auroc"), "gain"] == pytest.approx(expected)
        assert f"{leak.loc[(model, 'auroc'), 'leaking']:.3f} by pair" in result.notes[f"leak, {model}"]
        assert "(1 seed; easy negatives)" in result.notes[f"leak, {model}"]
    here = [
        f"AUROC {values['cells, easy', model, 'hard', 'auroc']:.3f}, "
        f"accuracy {values['cells, easy', model, 'hard', 'accuracy']:.3f}"
        for model in ("CellTypeMatcher", "Bi2Former")
    ]
    assert result.notes["cell types alone, cells, easy, hard negatives"] == "; Bi2Former ".join(here)
    assert not [name for name in result.notes if name.startswith("code")]


def test_provenance_says_all_that_decides(first, small):
    out, _ = first
    found = json.loads((out / "provenance.json").read_text())
    assert set(found["sha256"]) == {"multiome.h5mu"}
    assert found["models"]["Bi2Former"]["batch_size"] == 64
    assert found["models"]["DepthMatcher"] is None
    assert found["protocols"]["pairs, easy"]["split"] == "pairs"
    assert found["settings"] == {"max_epochs": 2, "small": True}
    assert found["versions"]["heteromics"]
    assert (found["seeds"], found["paper"]) == (1, "SNARE-seq")
    assert found["code"] == {"protocols": {code_digest(): 6}}
    input_ = data_room.read_input(room.reproduction(NAME), [small.data], small=True)
    ((graph, _),) = room._graphs(input_, small.db, [plan.contender("Bi2Former")])
    assert found["graphs"] == {"standardised": graph_hash(graph, node_data=True)}
    assert found["store"]["content_hash"] == graph.meta["store"]["content_hash"]


def test_a_second_call_adds_to_the_first(first, small):
    out, before = first
    stamps = {path: path.stat().st_mtime_ns for path in (out / "runs").rglob("*.json")}
    after = quick(small, out, models=("DepthMatcher",), seeds=2)
    assert all(path.stat().st_mtime_ns == stamp for path, stamp in stamps.items())
    table = after.tables["protocols_runs"]
    assert set(table["model"]) == {"Bi2Former", *CONTROLS}
    assert table.groupby("model")["seed"].nunique().to_dict() == {
        "Bi2Former": 1,
        "CellTypeMatcher": 1,
        "DepthMatcher": 2,
    }
    old = table[(table["seed"] == 0) & (table["model"] == "DepthMatcher")].reset_index(drop=True)
    was = before.tables["protocols_runs"].query("model == 'DepthMatcher'").reset_index(drop=True)
    pd.testing.assert_frame_equal(old, was)
    found = json.loads((out / "provenance.json").read_text())
    assert (found["seeds"], set(found["models"])) == (2, {"Bi2Former", *CONTROLS})


@pytest.fixture
def no_training(monkeypatch):
    """Let no run begin."""

    def refuse(*_, **__):
        pytest.fail("trained before it was refused")

    monkeypatch.setattr(runs, "run_matching", refuse)


def test_runs_of_other_settings_do_not_mix(first, small, no_training, monkeypatch):
    out, _ = first
    with pytest.raises(DataError, match="holds runs of other settings: max_epochs was 2, is 1. Fix: another --out"):
        quick(small, out, models=CONTROLS, max_epochs=1)
    with pytest.raises(DataError, match="holds runs of other settings: small was True, is False"):
        quick(small, out, models=CONTROLS, small=False, max_epochs=2)
    with monkeypatch.context() as patch:
        patch.setitem(plan.PROTOCOLS, "cells, easy", dataclasses.replace(plan.PROTOCOLS["cells, easy"], redraw=True))
        message = "holds runs of other protocols: cells, easy, redraw was False, is True"
        with pytest.raises(DataError, match=message):
            quick(small, out, models=CONTROLS)
    with monkeypatch.context() as patch:
        patch.setattr(room, "_configuration", lambda _: {"batch_size": 65})
        with pytest.raises(DataError, match="holds runs of other models: Bi2Former, .*batch_size was 64, is 65"):
            quick(small, out, models=("Bi2Former",))
    monkeypatch.setattr(room, "installed_versions", lambda: {"heteromics": "0"})
    with pytest.raises(DataError, match=r"holds runs of other versions: heteromics was .*, is 0\. Fix"):
        quick(small, out, models=CONTROLS)


def test_other_data_are_refused_before_the_store_is_touched(small, no_training, tmp_path, monkeypatch):
    def build(_, data, out, *, progress):
        (out / "priors.yaml").write_text(str(data.peaks_file))
        return small.db

    monkeypatch.setattr(room, "build_store", build)
    monkeypatch.setattr(room, "_run", lambda *_, **__: None)
    out = tmp_path / "run"
    out.mkdir()
    with pytest.raises(DataError, match="holds no finished run"):  # stopped before the first was done
        quick(small, out, models=CONTROLS, db=None)
    before = (out / "priors.yaml").read_text()
    other = changed(small.made, tmp_path / "multiome.h5mu", lambda _, data: data[:70])
    with pytest.raises(DataError, match=r"holds runs of other sha256: multiome.h5mu was \w+, is \w+\. Fix: another"):
        quick(small, out, models=CONTROLS, db=None, data=[other])
    assert (out / "priors.yaml").read_text() == before


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"studies": ("protocols", "ablations"), "models": CONTROLS}, "ablations are of Bi2Former, which is not among"),
        ({"studies": ("protocols", "across_types")}, r"found 2 cell types \(type_1, type_2\) for 4 groups"),
        ({"protocols": ("batches, random, within batches",)}, "found 2 batches, expected 3 or more in the column batc"),
    ],
)
def test_what_the_data_do_not_allow_is_refused_before_anything_is_trained(
    small, no_training, tmp_path, options, message
):
    with pytest.raises(DataError, match=message):
        quick(small, tmp_path / "run", **options)
    assert list(tmp_path.iterdir()) == []


def test_tables_are_written_after_each_study_and_runs_of_other_code_are_told(small, tmp_path, monkeypatch):
    options = {"models": CONTROLS, "protocols": ("pairs, easy",)}
    quick(small, tmp_path, **options)

    def stop(*_, **__):
        raise RuntimeError("off")

    monkeypatch.setattr(runs, "code_digest", lambda: "other")
    with monkeypatch.context() as patch:
        patch.setattr(room, "few_shot", stop)
        with pytest.raises(RuntimeError, match="off"):
            quick(small, tmp_path, **{**options, "protocols": TWO}, studies=("protocols", "few_shot"))
    table = pd.read_parquet(tmp_path / "protocols_summary.parquet").query("source == 'here'")
    assert set(table["protocol"]) == set(TWO)
    assert set(table.groupby("protocol")["code"].first()) == {code_digest(), "other"}
    assert json.loads((tmp_path / "provenance.json").read_text())["code"]["protocols"] == {code_digest(): 2, "other": 2}
    notes = quick(small, tmp_path, **options).notes
    assert notes["code, protocols"] == (f"runs are of 2 versions of the code: {code_digest()} (2 runs), other (2 runs)")


def test_published_settings_have_raw_attributes(small, tmp_path):
    published, data = "Bi2Former, as published", tmp_path / "few.h5mu"
    options = {"models": (published, "DepthMatcher"), "max_epochs": 1, "protocols": ("pairs, easy",)}
    quick(small, tmp_path / "run", data=[changed(small.made, data, lambda _, side: side[:40])], **options)
    found = json.loads((tmp_path / "run" / "provenance.json").read_text())
    assert set(found["graphs"]) == {"standardised", "raw attributes"}
    assert found["models"][published]["weights"] == "published"


def test_every_study_has_a_summary(small, tmp_path):
    def eight_types(_, data):
        data.obs["cell_type"] = [f"t{number % 8}" for number in range(data.n_obs)]
        return data

    result = quick(
        small,
        tmp_path / "run",
        data=[changed(small.made, tmp_path / "eight.h5mu", eight_types)],
        models=("Bi2Former", "DepthMatcher"),
        max_epochs=1,
        protocols=("pairs, easy",),
        studies=plan.STUDIES,
    )
    tables = result.tables
    assert "leak" not in tables
    assert set(tables["few_shot_runs"]["share"]) == {0.3, 1.0}
    assert set(tables["few_shot_summary"]["model"]) == {"Bi2Former", "DepthMatcher"}
    assert result.notes["few_shot"].startswith("one split for all seeds")

    across = tables["across_types_summary"].query("model == 'DepthMatcher' and negatives == 'hard'")
    groups = across.set_index("held_out")["auroc"]
    assert groups["mean of the groups"] == pytest.approx(groups[[f"group {n}" for n in range(1, 5)]].mean())
    assert across.loc[across["held_out"] == "group 1", "types"].tolist() == ["t0, t7"]
    paper = tables["across_types_summary"].query("source == 'paper'")
    assert paper["held_out"].tolist() == ["not stated"] * 2
    assert paper["accuracy_raw"].tolist() == pytest.approx([0.7128, 0.6785])

    ablations = tables["ablations_summary"]
    assert set(ablations["protocol"]) == {"pairs, easy"}
    assert set(ablations.loc[ablations["source"] == "here", "model"]) == {"Bi2Former"}
    printed = [row for row in result.summaries()["ablations_summary"] if row["source"] == "paper"]
    assert {row["note"] for row in printed} == {"mean over the five data sets; metric not stated, taken for accuracy"}
    assert {row["split"] for row in printed} == {LEAKING}


@pytest.mark.parametrize("model", ["Bi2Former", "PairSAGE"])
def test_endings_of_names_set_configurations(model):
    plain = plan.contender(model)
    assert (plain.name, plain.model, plain.config) == (model, model, None)
    kind = plain.pair_model().config_type
    asked = {
        ", as published": kind.as_published(),
        ", sparse IDs": dataclasses.replace(kind(), sparse_ids=True),
        ", as published, sparse IDs": dataclasses.replace(kind.as_published(), sparse_ids=True),
    }
    for ending, config in asked.items():
        found = plan.contender(f"{model}{ending}")
        assert (found.name, found.model, found.config) == (f"{model}{ending}", model, config)


def test_bi2former_alone_has_a_setting_for_matching():
    assert plan.contender("Bi2Former, for matching").config == Bi2FormerConfig.for_matching()
    with pytest.raises(DataError, match="no model called 'PairMLP, for matching': PairMLP has no such setting"):
        plan.contender("PairMLP, for matching")


def test_an_ending_for_one_model_is_refused_for_another(monkeypatch):
    monkeypatch.setitem(plan.ENDINGS, ", few links", lambda config: dataclasses.replace(config, top_k=5))
    assert plan.contender("Bi2Former, as published, few links").config.top_k == 5
    with pytest.raises(DataError, match="no model called 'PairMLP, few links': PairMLP has no such setting"):
        plan.contender("PairMLP, few links")


def test_protocols_within_batches_need_batches():
    cells = pd.DataFrame({"batch": ["b1", "b2", "b3", None]})
    assert list(plan.possible(None, cells[[]])) == ["pairs, easy", "cells, easy", "cells, random", "cells, hard"]
    assert list(plan.possible(None, cells[:2])) == [*plan.PROTOCOLS][:-1]
    assert list(plan.possible(None, cells)) == list(plan.PROTOCOLS)
    assert list(plan.possible(["cells, hard"], cells)) == ["cells, hard"]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"models": ["Bi2Formr"]}, "no model called 'Bi2Formr'. Did you mean 'Bi2Former'"),
        ({"models": ["DepthMatcher, as published"]}, "no model called 'DepthMatcher, as published'"),
        ({"models": ["PairSAGE, sparse IDs, as published"]}, "no model called 'PairSAGE, sparse IDs, as published'"),
        ({"protocols": ["pairs"]}, "no protocol called 'pairs'. Did you mean 'pairs, easy'"),
        ({"studies": ["fewshot"]}, "no study called 'fewshot'. Did you mean 'few_shot'"),
        ({"data": ["a.h5mu"]}, "--data a.h5mu: no such file"),
        ({"data": ["a", "b", "c"]}, "--data: found 3 files"),
    ],
)
def test_what_is_not_known(small, tmp_path, options, message):
    with pytest.raises(DataError, match=message):
        quick(small, tmp_path / "run", **options)
    with pytest.raises(DataError, match="no reproduction called 'snare'. Did you mean 'bi2former-snare'"):
        reproduce("snare", out=tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_two_files_whose_cells_are_named_by_modality(small, tmp_path):
    for name, order in (("rna", slice(None)), ("atac", slice(None, 4, -1))):
        side = read(small.data, modality=name, layer="X")[order]
        side.obs_names = [f"{cell}_{name.upper()}" for cell in side.obs_names]
        anndata.AnnData(side.X, side.obs[["cell_type"]], side.var[[]]).write_h5ad(tmp_path / f"{name}.h5ad")
    files = [tmp_path / "rna.h5ad", tmp_path / "atac.h5ad"]
    found = data_room.read_input(room.reproduction(NAME), files, small=False)
    whole = read(small.data, modality="rna", layer="X")
    assert found.rna.obs_names.tolist() == found.atac.obs_names.tolist() == whole.obs_names[5:].tolist()
    assert set(found.sha256) == {"rna.h5ad", "atac.h5ad"}
    assert (found.rna.X != whole[5:].X).nnz == 0


def test_a_sample_keeps_what_is_seen_most_and_drops_empty_cells(monkeypatch):
    rng = np.random.default_rng(0)
    rna, atac = (anndata.AnnData(rng.poisson(0.2, (50, size)).astype(np.float32)) for size in (30, 40))
    for side in (rna, atac):
        side.obs_names = [f"c{number}" for number in range(50)]
    rna.X[7] = 0
    for word, size in (("CELLS", 50), ("GENES", 6), ("PEAKS", 9)):
        monkeypatch.setattr(data_room, f"SMALL_{word}", size)
    small_rna, small_atac, dropped = data_room._sample(rna, atac, 0)
    assert (small_rna.n_vars, small_atac.n_vars) == (6, 9)
    assert small_rna.n_obs == small_atac.n_obs == 50 - dropped < 50
    assert "c7" not in small_rna.obs_names
    assert (small_rna.X.sum(axis=1) > 0).all()
    seen = (rna.X > 0).sum(axis=0)
    kept = rna.var_names.get_indexer(small_rna.var_names)
    assert seen[kept].min() >= np.delete(seen, kept).max()


def test_data_that_cannot_be_had_are_asked_for(tmp_path, monkeypatch):
    monkeypatch.delenv("HETEROMICS_DATA", raising=False)
    for name in ("issaac", "10xmultiome"):
        with pytest.raises(
            FetchError, match=r"(?s)data could not be had: .*mirror only.*Fix: give them, --data FILE.h5mu"
        ):
            reproduce(f"bi2former-{name}", out=tmp_path / "run")
    assert list(tmp_path.iterdir()) == []


def test_all_five_data_sets_are_items_of_the_manifest():
    manifest, known = load_manifest(), data_room.reproductions()
    assert set(known) == {f"bi2former-{name}" for name in ("snare", "share", "10xpbmc", "issaac", "10xmultiome")}
    for each in known.values():
        for source in filter(None, (each.full, each.reduced)):
            item = manifest[source.item]
            assert {source.rna, source.atac} <= {file.name for file in item.files}
        assert not manifest[each.full.item].verified
        assembly = data_room._table().assemblies[each.assembly]
        for name in (*assembly.gtf, assembly.sizes.removeprefix("manifest:")):
            item_name, _, file = name.partition("/")
            assert manifest[item_name][file]

import json
from types import SimpleNamespace

import pandas as pd
import pytest

from heteromics.workflows import demo as demo_room
from tests.workflows.small import BI2FORMER, SCMOGNN, make_files


def sets(assignments):
    return [word for assignment in assignments for word in ("--set", assignment)]


@pytest.fixture(scope="module")
def small(tmp_path_factory):
    folder = tmp_path_factory.mktemp("cli")
    _, data, db = make_files(folder)
    return SimpleNamespace(data=data, db=db, folder=folder)


@pytest.fixture
def scmognn(run, small):
    """A finished run, trained by the first test that asks."""
    out = small.folder / "scmognn"
    if not out.exists():
        done = run("train", "scmognn", "--task", "prediction", "--data", small.data, "--out", out, *sets(SCMOGNN))
        assert done.code == 0, done.err
    return out


@pytest.fixture
def bi2former(run, small):
    out = small.folder / "bi2former"
    if not out.exists():
        files = ("--data", small.data, "--db", small.db, "--out", out)
        done = run("train", "bi2former", "--task", "matching", *files, *sets(BI2FORMER))
        assert done.code == 0, done.err
    return out


@pytest.fixture
def graph(run, small):
    out = small.folder / "graph"
    if not out.exists():
        done = run("graph", "build", "bipartite", "--data", small.data, "--db", small.db, "--out", out)
        assert done.code == 0, done.err
    return out


def test_train_prints_a_table_on_stdout_and_nothing_else(run, small, tmp_path):
    command = ("train", "scmognn", "--task", "prediction", "--data", small.data, "--out", tmp_path / "run")
    done = run(*command, *sets(SCMOGNN))
    assert (done.code, done.err) == (0, "")
    assert "scmognn · prediction · held-out test cells" in done.out
    for word in ("ScMoGNN", "SVDRidge", "FeatureMean", "rmse", "pearson", "test cells", str(tmp_path / "run")):
        assert word in done.out
    again = run(*command, *sets(SCMOGNN))
    assert (again.code, again.out) == (1, "")
    assert f"error: {tmp_path / 'run'} holds a finished run. Fix: another --out, or delete the folder." in again.err


def test_train_prints_json(run, small, tmp_path):
    files = ("--data", small.data, "--db", small.db, "--out", tmp_path / "run")
    done = run("train", "bi2former", "--task", "matching", *files, *sets(BI2FORMER), "--device", "cpu", "--json")
    assert (done.code, done.err) == (0, "")
    assert done.json["scored_on"] == "held-out test cells"
    assert {"model", "split", "negatives", "auroc", "auprc", "accuracy"} <= set(done.json["metrics"][0])
    assert done.json["test cells"] == 12
    assert json.loads((tmp_path / "run" / "run.json").read_text())["model"] == "bi2former"


@pytest.mark.parametrize(
    ("words", "message"),
    [
        pytest.param(["--set", "fit.max_epoch=3"], "unknown key 'max_epoch'. Did you mean 'max_epochs'?", id="set"),
        pytest.param(["--set", "model.widht=3"], "unknown key 'widht'. Did you mean 'width'?", id="model"),
        pytest.param(["--db", "none.duckdb"], "--db none.duckdb: no such file.", id="db"),
        pytest.param(["--resume"], "holds no unfinished run. Fix: drop --resume.", id="resume"),
        pytest.param(["--graph", "g"], "--graph: found one for scmognn", id="graph"),
        pytest.param(["--device", "tpu"], "device: found 'tpu', expected 'auto', 'cpu' or 'cuda'.", id="device"),
    ],
)
def test_train_refuses_in_one_line_and_leaves_no_folder(run, small, tmp_path, words, message):
    done = run("train", "scmognn", "--task", "prediction", "--data", small.data, "--out", tmp_path / "run", *words)
    assert (done.code, done.out) == (1, "")
    assert message in done.err
    assert "Traceback" not in done.err
    assert list(tmp_path.iterdir()) == []


def test_train_needs_its_options_and_a_model_that_is_there(run, small, tmp_path):
    missing = run("train", "scmognn", "--task", "prediction", "--out", tmp_path / "run")
    assert missing.code == 2
    assert "--data" in missing.err
    wrong = run("train", "glue", "--task", "matching", "--data", small.data, "--out", tmp_path / "run")
    assert wrong.code == 1
    assert "found model 'glue' with task 'matching', expected one of: scmognn --task prediction" in wrong.err


def test_evaluate_own_and_other_data(run, small, scmognn, bi2former):
    for folder, model in ((scmognn, "ScMoGNN"), (bi2former, "Bi2Former")):
        own = run("evaluate", folder, "--json")
        assert own.code == 0
        assert own.json["scored_on"] == "held-out test cells"
        trained = pd.DataFrame(json.loads((folder / "metrics.json").read_text())).query("model == @model")
        found = {name: value for row in own.json["metrics"][:1] for name, value in row.items()}
        first = trained if "negatives" not in trained else trained[trained["negatives"] == found["negatives"]]
        for metric, value in zip(first["metric"], first["value"], strict=True):
            assert found[metric] == value
        other = run("evaluate", folder, "--data", small.data)
        assert other.code == 0
        assert f"all 80 cells of {small.data}" in other.out
        assert model in other.out


def test_evaluate_names_what_is_no_run(run, tmp_path):
    done = run("evaluate", tmp_path)
    assert (done.code, done.out) == (1, "")
    assert f"error: {tmp_path} holds no finished run: run.json is missing. Fix: `heteromics train" in done.err


def test_explain(run, bi2former, tmp_path):
    done = run("explain", bi2former, "--out", tmp_path / "links", "--json")
    assert (done.code, done.err) == (0, "")
    assert done.json["cells"] == 80
    assert done.json["table"] == str(tmp_path / "links" / "links.parquet")
    strongest = done.json["strongest"][0]
    assert {"gene", "peak", "distance", "score", "z", "fdr", "fdr_distance"} <= set(strongest)
    assert done.json["files"][done.json["bedpe"]] == "start site and peak of each, for genome browsers"
    one = run("explain", bi2former, "--out", tmp_path / "one", "--gene", strongest["gene"], "--cell-type", "type_1")
    assert one.code == 0
    assert f"strongest links of {strongest['gene']}" in one.out
    assert (tmp_path / "one" / f"locus_{strongest['gene']}.png").is_file()
    assert str(tmp_path / "one" / f"locus_{strongest['gene']}.png") in one.out


def test_explain_refuses_in_one_line(run, scmognn, bi2former, tmp_path):
    wrong = run("explain", scmognn, "--out", tmp_path / "links")
    assert (wrong.code, wrong.out) == (1, "")
    assert "is a run of scmognn, which has no attention between genes and peaks" in wrong.err
    gene = run("explain", bi2former, "--out", tmp_path / "links", "--gene", "SYN000600")
    assert gene.code == 1
    assert "gene 'SYN000600' is not in the graph. Nearest: SYN00060" in gene.err
    assert list(tmp_path.iterdir()) == []


def test_graph_plan(run, small):
    planned = run("graph", "plan", "bipartite", "--data", small.data, "--db", small.db, "--json")
    assert planned.code == 0
    assert planned.json["nodes"] == {"rna_cell": 80, "atac_cell": 80, "gene": 60, "peak": 200}
    assert "planned graph" in run("graph", "plan", "cell_feature", "--data", small.data).out
    without = run("graph", "plan", "bipartite", "--data", small.data)
    assert (without.code, without.out) == (1, "")
    assert "from a prior store, found none. Fix: --db FILE" in without.err


def test_graph_build_and_card(run, small, graph, tmp_path):
    built = run("graph", "build", "cell_feature", "--data", small.data, "--out", tmp_path / "g", "--json")
    assert built.code == 0
    assert built.json == run("graph", "card", tmp_path / "g", "--json").json
    text = run("graph", "card", graph)
    assert text.code == 0
    for word in ("bipartite", "rna_cell", "peak", "expresses"):
        assert word in text.out
    again = run("graph", "build", "cell_feature", "--data", small.data, "--out", tmp_path / "g")
    assert again.code == 0


def test_graph_build_refuses_in_one_line(run, small, tmp_path):
    (tmp_path / "thesis.txt").write_text("years")
    held = run("graph", "build", "cell_feature", "--data", small.data, "--out", tmp_path)
    assert (held.code, held.out) == (1, "")
    assert f"{tmp_path} exists and is no heteromics graph, so it is left as it is" in held.err
    key = run("graph", "build", "cell_feature", "--data", small.data, "--out", tmp_path / "g", "--set", "ob=[batch]")
    assert key.code == 1
    assert "unknown key 'ob'. Did you mean 'obs'?" in key.err
    gone = run("graph", "build", "cell_feature", "--data", tmp_path / "none.h5mu", "--out", tmp_path / "g")
    assert gone.code == 1
    assert "none.h5mu" in gone.err
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.txt"]


def test_graph_in_shards(run, small, tmp_path):
    whole = run("graph", "build", "cell_feature", "--data", small.data, "--out", tmp_path / "g", "--json").json
    out = tmp_path / "shards"
    built = run("graph", "build", "cell_feature", "--data", small.data, "--out", out, "--cells-per-shard", 70, "--json")
    assert built.code == 0
    assert built.json["nodes"]["cell"]["number"] == whole["nodes"]["cell"]["number"]
    assert [edge["number"] for edge in built.json["edges"].values()] == [e["number"] for e in whole["edges"].values()]
    assert built.json == run("graph", "card", out, "--json").json
    shards = sorted(path for path in out.iterdir() if path.is_dir())
    assert (
        sum(run("graph", "card", one, "--json").json["nodes"]["cell"]["number"] for one in shards)
        == (whole["nodes"]["cell"]["number"])
    )
    refused = run(
        "graph", "build", "bipartite", "--data", small.data, "--db", small.db, "--out", tmp_path / "b",
        "--cells-per-shard", 70,
    )  # fmt: skip
    assert refused.code == 1
    assert "a bipartite graph is not divided into shards by cells" in refused.err


def test_graph_card_as_a_page(run, graph, tmp_path):
    done = run("graph", "card", graph, "--html", tmp_path / "card.html")
    assert done.code == 0
    page = (tmp_path / "card.html").read_text(encoding="utf-8")
    assert page.lower().startswith("<!doctype html>")
    assert "rna_cell" in page


def test_graph_card_names_what_is_no_graph(run, tmp_path):
    done = run("graph", "card", tmp_path)
    assert (done.code, done.out) == (1, "")
    assert str(tmp_path) in done.err
    assert "Traceback" not in done.err


def test_graph_diff(run, small, graph, tmp_path):
    other = tmp_path / "window"
    run("graph", "build", "bipartite", "--data", small.data, "--db", small.db, "--out", other, "--set", "mask=window")
    rows = run("graph", "diff", graph, other, "--json").json
    assert {row["what"]: (row["a"], row["b"]) for row in rows}["parameter mask"] == ("chromosome", "window")
    same = run("graph", "diff", graph, graph, "--json")
    assert (same.code, same.json) == (0, [])
    assert "parameter mask" in run("graph", "diff", graph, other).out
    gone = run("graph", "diff", graph, tmp_path / "none")
    assert gone.code == 1
    assert "none" in gone.err


@pytest.mark.parametrize(("prediction", "code"), [(None, 1), ([{"model": "ScMoGNN", "rmse": 0.1}], 0)])
def test_a_demo_without_its_real_part_is_a_failure(run, monkeypatch, tmp_path, prediction, code):
    asked = {}

    def work(out, *, seed):
        asked.update(out=out, seed=seed)
        return demo_room.Demo(prediction, [{"model": "Bi2Former"}], [{"method": "distance"}], {"seed": seed})

    monkeypatch.setattr(demo_room, "demo", work)
    done = run("demo", "--out", tmp_path, "--seed", "3", "--json")
    assert (done.code, done.json["complete"]) == (code, not code)
    assert asked == {"out": tmp_path, "seed": 3}
    table = run("demo", "--out", tmp_path)
    assert table.code == code
    assert "synthetic: recovery of planted links" in table.out
    assert ("PBMC" in table.out) == (prediction is not None)

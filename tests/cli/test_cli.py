import subprocess
import sys

import pytest

from heteromics import __version__
from heteromics.data.synthetic import SyntheticConfig, simulate
from heteromics.errors import PriorError

COMMANDS = [
    (),
    ("doctor",),
    ("train",),
    ("evaluate",),
    ("explain",),
    ("demo",),
    *(("data", verb) for verb in ("list", "fetch", "simulate")),
    *(("priors", verb) for verb in ("plan", "build", "show", "report")),
    *(("graph", verb) for verb in ("plan", "build", "card", "diff")),
]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    config = SyntheticConfig(
        n_cells=60, n_cell_types=2, n_genes=60, n_peaks=200, n_tfs=6, n_proteins=6, n_chromosomes=2
    )
    return simulate(config, seed=0).write(tmp_path_factory.mktemp("cli") / "synthetic")


@pytest.mark.parametrize("command", COMMANDS, ids=" ".join)
def test_help_teaches(run, command):
    done = run(*command, "--help")
    assert done.code == 0
    assert "Usage: heteromics" in " ".join(done.out.split())
    assert len(done.out.split()) > 40


def test_entry_point_and_version():
    done = subprocess.run([sys.executable, "-m", "heteromics", "--version"], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == __version__


def test_unknown_command_is_status_2(run):
    assert run("trian").code == 2


def test_doctor(run):
    done = run("doctor", "--json")
    assert done.code == 0
    assert done.json["ok"] is True
    assert {"torch", "dgl", "mirror"} <= {check["check"] for check in done.json["checks"]}
    assert "heteromics" in run("doctor").out


def test_doctor_fails_when_something_needed_is_missing(run, monkeypatch, tmp_path):
    monkeypatch.setenv("HETEROMICS_DATA", str(tmp_path / "nowhere"))
    done = run("doctor")
    assert done.code == 1
    assert "is no folder" in done.out


def test_data_list_says_where_things_are(run, tmp_path, monkeypatch):
    monkeypatch.delenv("HETEROMICS_DATA", raising=False)
    rows = run("data", "list", "--json").json
    assert {"name", "licence", "bytes", "verified", "here"} <= set(rows[0])
    assert "cite_mosaic_pbmc_midas" in run("data", "list").out


def test_an_unknown_item_is_one_clear_line(run):
    done = run("data", "fetch", "cite_mosaic_pbmc_mida")
    assert done.code == 1
    assert done.out == ""
    assert "Did you mean 'cite_mosaic_pbmc_midas'?" in done.err
    assert "Traceback" not in done.err


def test_simulate(run, tmp_path):
    done = run("data", "simulate", "--out", tmp_path / "s", "--set", "n_cells=120", "--set", "n_cell_types=3", "--json")
    assert done.code == 0
    assert done.json["cells"] == 120
    assert (tmp_path / "s" / "truth.parquet").is_file()
    wrong = run("data", "simulate", "--out", tmp_path / "t", "--set", "n_cell=120")
    assert wrong.code == 1
    assert "unknown key 'n_cell'. Did you mean 'n_cells'?" in wrong.err
    assert not (tmp_path / "t").exists()


def test_priors_from_plan_to_report(run, folder, tmp_path):
    sets = ("--set", f"source.folder={folder}")
    db = tmp_path / "priors.duckdb"
    planned = run("priors", "plan", "demo", *sets, "--json")
    assert planned.code == 0
    assert planned.json["ready"] is True
    built = run("priors", "build", "demo", "--db", db, *sets, "--json")
    assert built.code == 0
    rows = {table["table"]: table["rows"] for table in built.json["tables"]}
    assert (rows["gene"], rows["peak"]) == (60, 200)
    assert "gene_peak" in run("priors", "show", db).out
    report = run("priors", "report", db, "--json").json
    assert {row["outcome"] for row in report["summary"]} >= {"matched"}
    again = run("priors", "build", "demo", "--db", db, *sets)
    assert again.code == 0
    assert again.out.startswith(f"{db}: up to date\n")
    changed = (*sets, "--set", "edges.gene_peak.within_bp=2000")
    kept = {
        table["table"]: table["kept"]
        for table in run("priors", "plan", "demo", "--db", db, *changed, "--json").json["tables"]
    }
    assert (kept["gene"], kept["gene_peak"]) == (True, False)
    refused = run("priors", "build", "demo", "--db", db, *changed)
    assert refused.code == 1
    assert "edges.gene_peak" in refused.err
    assert "--force" in refused.err
    replaced = run("priors", "build", "demo", "--db", db, "--force", *changed, "--json").json
    assert "edges.gene_peak" in replaced["made"]
    assert {"nodes.gene", "nodes.peak"} <= set(replaced["kept"])
    assert run("priors", "build", "demo", "--db", db, "--force", "--fresh", *sets, "--json").json["kept"] == []


def test_a_plan_without_its_sources_fails_and_says_how_to_give_them(run):
    done = run("priors", "plan", "demo")
    assert done.code == 1
    assert "--set source.folder=DIR" in done.out + done.err


def test_an_unknown_recipe_key_offers_the_nearest(run, folder, tmp_path):
    done = run("priors", "build", "demo", "--db", tmp_path / "p.duckdb", "--set", "edges.gene_peaks.within_bp=10")
    assert done.code == 1
    assert "unknown key 'gene_peaks'. Did you mean 'gene_peak'?" in done.err
    assert list(tmp_path.iterdir()) == []


def test_a_missing_store_says_how_to_build_one(run, tmp_path):
    done = run("priors", "show", tmp_path / "none.duckdb")
    assert done.code == 1
    assert "heteromics priors build" in done.err


@pytest.mark.parametrize(("error", "end"), [(PriorError("it broke"), "error: it broke"), (KeyboardInterrupt(), "")])
def test_what_is_noted_of_a_stopped_build_is_printed(run, folder, tmp_path, monkeypatch, error, end):
    def stop(*_):
        raise error

    monkeypatch.setattr("heteromics.priors._writer.Writer.close", stop)
    done = run("priors", "build", "demo", "--db", tmp_path / "p.duckdb", "--set", f"source.folder={folder}")
    (left,) = tmp_path.glob("p.duckdb.building-*")
    assert done.code != 0
    assert end in done.err
    assert f"note: What was finished stays in {left.name}; the next build goes on from there." in done.err
    assert "Traceback" not in done.err

"""`heteromics reproduce`: tables on stdout, files in --out, and what it refuses."""

import pytest

from tests.workflows.small import make_files

MODELS = ("--model", "CellTypeMatcher", "--model", "DepthMatcher")


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    _, data, db = make_files(tmp_path_factory.mktemp("cli_reproduce"))
    return "--data", data, "--db", db


def test_tables_and_json(run, files, tmp_path):
    command = ("reproduce", "bi2former-snare", "--small", *files, *MODELS, "--seeds", 1, "--out", tmp_path / "run")
    done = run(*command, "--protocol", "pairs, easy", "--protocol", "cells, easy")
    assert done.code == 0
    assert [line.partition(":")[0] for line in done.err.splitlines()] == [
        f"{model}; protocol {protocol}; seed 0"
        for protocol in ("pairs, easy", "cells, easy")
        for model in ("CellTypeMatcher", "DepthMatcher")
    ]
    for words in (
        "protocols_summary",
        "small sample, 80 cells",
        "paper",
        "0.7356",
        "leak, CellTypeMatcher",
        "best baseline by accuracy",
        "cells seen in training",
    ):
        assert words in done.out
    again = run(*command, "--protocol", "pairs, easy", "--json")
    assert (again.code, again.err) == (0, "")
    assert again.json["data"].startswith("small sample")
    assert {row["source"] for row in again.json["protocols_summary"]} == {"here", "paper"}
    assert (tmp_path / "run" / "protocols_summary.tsv").is_file()


def test_models_and_protocols_are_listed(run):
    assert "Bi2Former, as published" in run("reproduce", "bi2former-snare", "--model", "list").out
    assert "pairs, easy" in run("reproduce", "bi2former-snare", "--protocol", "list", "--json").json


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["bi2former-snar"], "no reproduction called 'bi2former-snar'. Did you mean 'bi2former-snare'?"),
        (["bi2former-snare", "--study", "few"], "no study called 'few'"),
        (["bi2former-snare", "--data", "none.h5mu"], "--data none.h5mu: no such file."),
    ],
)
def test_what_is_refused(run, tmp_path, words, message):
    done = run("reproduce", *words, "--out", tmp_path / "run")
    assert (done.code, done.out) == (1, "")
    assert message in done.err
    assert not (tmp_path / "run").exists()

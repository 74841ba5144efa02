import json
import re

import pandas as pd
import pytest

from heteromics.data import fetch
from heteromics.errors import DataError, FetchError
from heteromics.tasks.metrics import auprc
from heteromics.workflows import demo as room
from heteromics.workflows.demo import PBMC, DemoConfig, demo
from tests.workflows.small import BI2FORMER, CONFIG, SCMOGNN

TINY = DemoConfig(CONFIG, SCMOGNN, BI2FORMER)
METHODS = ["Bi2Former", "Bi2Former, attention alone", "correlation", "correlation within types", "distance"]


def nowhere(name, **_):
    raise FetchError(f"{name} [main]: no mirror and no network.\n  Fix: set HETEROMICS_DATA.")


@pytest.fixture
def offline(monkeypatch):
    monkeypatch.setattr(fetch, "locate", nowhere)


@pytest.fixture
def online(monkeypatch, small):
    """The small multiome stands in for the real cells."""
    monkeypatch.setattr(fetch, "locate", lambda name: small.data)


@pytest.fixture(scope="module")
def partial(tmp_path_factory):
    """A demo without its real part: folder and result."""
    out = tmp_path_factory.mktemp("demo") / "partial"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(fetch, "locate", nowhere)
        return out, demo(out, config=TINY)


def titles(html):
    return re.findall(r"<h2[^>]*>(.*?)</h2>", html)


def test_without_real_data_the_rest_is_done_and_called_incomplete(partial):
    out, result = partial
    assert not result.complete
    assert result.prediction is None
    assert result.notes["left out"] == f"{PBMC} [main]: no mirror and no network."
    assert sorted(row["method"] for row in result.links) == METHODS
    assert {row["model"] for row in result.matching} >= {"Bi2Former", "CellTypeMatcher"}
    stored = json.loads((out / "metrics.json").read_text())
    assert stored["complete"] is False
    assert stored["links"] == result.links
    assert [title.split(":")[0] for title in result.tables()] == ["synthetic", "synthetic"]


def test_links_stand_beside_the_truth(partial):
    out, _ = partial
    links = pd.read_parquet(out / "links.parquet")
    columns = ["gene", "peak", "distance_bp", "signed_offset", "weight", *METHODS, "planted", "planted_sign"]
    assert sorted(links.columns) == sorted(columns)
    assert not links.duplicated(["gene", "peak"]).any()
    truth = pd.read_parquet(out / "synthetic" / "truth.parquet").set_index(["gene", "peak"])["sign"]
    planted = links[links["planted"]].set_index(["gene", "peak"])["planted_sign"]
    assert planted.to_dict() == truth.to_dict()
    assert (links.loc[~links["planted"], "planted_sign"] == 0).all()
    assert (links["distance"] == -links["distance_bp"]).all()
    assert links["distance_bp"].between(0, 150_000).all()


def test_recovery_is_that_of_the_links_that_were_written(partial):
    out, result = partial
    links = pd.read_parquet(out / "links.parquet")
    rows = {row["method"]: row for row in result.links}
    for name in METHODS:
        values = links[name].abs() if name.startswith("correlation") else links[name]
        assert rows[name]["auprc"] == pytest.approx(auprc(links["planted"], values))


def test_report_is_one_page_that_needs_nothing_else(partial):
    out, result = partial
    html = (out / "report.html").read_text(encoding="utf-8")
    without_namespaces = re.sub(r'xmlns(:\w+)?="[^"]*"', "", html)
    assert not re.search(r"""(?:src|href)\s*=\s*["'](?!#|data:)""", without_namespaces)
    assert "@import" not in html
    assert not re.search(r"<(script|link|iframe)\b", html)
    assert "These data are synthetic" in html
    assert f"Left out, the data could not be had: {result.notes['left out']}" in html
    assert html.count("<svg") == 4
    figures = {path.name for path in (out / "figures").iterdir()}
    names = ("links_auprc", "links_recall", "locus", "matching_training")
    assert figures == {f"{name}.{form}" for name in names for form in ("png", "svg")}


def test_a_complete_demo_is_not_run_again(online, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(room, "_code_hash", lambda: "code")
    out = tmp_path / "demo"
    first = demo(out, config=TINY)
    assert first.complete
    assert {row["model"] for row in first.prediction} == {"ScMoGNN", "SVDRidge", "FeatureMean"}
    page = (out / "report.html").read_text()
    assert page.count("<svg") == 7
    written = (out / "report.html").stat().st_mtime_ns
    capsys.readouterr()
    again = demo(out, config=TINY)
    assert again.as_dict() == json.loads(json.dumps(first.as_dict()))
    assert (out / "report.html").stat().st_mtime_ns == written
    assert "holds this demo, finished" in capsys.readouterr().err
    assert sorted(path.name for path in out.iterdir()) == [
        "bi2former", "demo.json", "figures", "links.parquet", "metrics.json", "pbmc", "priors.duckdb", "report.html",
        "synthetic",
    ]  # fmt: skip
    monkeypatch.setattr(fetch, "locate", nowhere)
    monkeypatch.setattr(room, "_code_hash", lambda: "other code")
    assert not demo(out, config=TINY).complete
    assert not (out / "pbmc").exists()


def test_an_incomplete_demo_is_run_again_with_the_same_numbers_and_one_line_on_stderr(offline, partial, capsys):
    out, first = partial
    written = (out / "report.html").stat().st_mtime_ns
    again = demo(out, config=TINY)
    assert (out / "report.html").stat().st_mtime_ns > written
    assert (again.matching, again.links) == (first.matching, first.links)
    printed = capsys.readouterr()
    assert printed.out == ""
    lines = [line for line in printed.err.splitlines() if "left out" in line]
    assert lines == [f"(a) is left out, its data could not be had: {PBMC} [main]: no mirror and no network."]


@pytest.mark.parametrize("name", ["thesis.txt", "figures", ".env", "metrics.json"])
def test_what_no_demo_wrote_is_left_alone(offline, tmp_path, name):
    (tmp_path / name).write_text("[]")
    with pytest.raises(DataError, match=rf"holds {re.escape(name)}, which no demo wrote\. Fix: choose another --out"):
        demo(tmp_path, config=TINY)
    assert [path.name for path in tmp_path.iterdir()] == [name]


def test_files_put_beside_a_demo_are_left_alone(offline, partial):
    out, _ = partial
    mine = [out / "notes.md", out / "figures_of_mine", out / ".cache"]
    for path in mine:
        path.write_text("mine")
    with pytest.raises(DataError, match=r"holds \.cache, figures_of_mine, notes\.md, which no demo wrote"):
        demo(out, seed=5, config=TINY)
    assert (out / "report.html").is_file()
    for path in mine:
        path.unlink()


def test_a_demo_that_was_interrupted_is_begun_anew(offline, tmp_path, monkeypatch):
    out = tmp_path / "demo"

    def die(*arguments, **options):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(room, "train", die)
        with pytest.raises(KeyboardInterrupt):
            demo(out, config=TINY)
    assert {path.name for path in out.iterdir()} >= {"demo.json", "synthetic", "priors.duckdb"}
    assert demo(out, config=TINY).links


def test_out_must_be_a_folder(tmp_path):
    (tmp_path / "file").write_text("x")
    with pytest.raises(DataError, match=r"file is a file\. Fix: name a folder"):
        demo(tmp_path / "file", config=TINY)

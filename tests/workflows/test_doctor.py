import importlib.metadata

from heteromics.workflows import doctor as room
from heteromics.workflows.doctor import doctor


def by_name(checks):
    return {check.name: check for check in checks}


def test_this_installation_is_fit_for_work():
    checks = by_name(doctor())
    assert not [check for check in checks.values() if check.state == "missing"]
    assert checks["torch"].found == importlib.metadata.version("torch")
    assert "priors/demo" in checks["recipes"].found
    assert checks["dgl"].found.startswith(importlib.metadata.version("dgl"))


def test_what_is_missing_comes_with_the_way_to_get_it(monkeypatch):
    def absent(name):
        raise importlib.metadata.PackageNotFoundError(name)

    monkeypatch.setattr(room.importlib.metadata, "version", absent)
    monkeypatch.setattr(room.shutil, "which", lambda name: None)
    checks = by_name(doctor())
    assert checks["duckdb"].state == "missing"
    assert checks["duckdb"].fix == "pip install duckdb"
    assert checks["scglue"].state == "optional"
    assert checks["scglue"].fix == "pip install 'heteromics[bench]'"
    assert checks["bedtools"].fix == "apt-get install bedtools"


def test_mirror_states(monkeypatch, tmp_path):
    monkeypatch.delenv("HETEROMICS_DATA", raising=False)
    assert by_name(doctor())["mirror"].state == "optional"
    monkeypatch.setenv("HETEROMICS_DATA", str(tmp_path / "nowhere"))
    assert by_name(doctor())["mirror"].state == "missing"
    (tmp_path / "set").mkdir()
    monkeypatch.setenv("HETEROMICS_DATA", str(tmp_path))
    assert by_name(doctor())["mirror"].found.endswith("(1 data sets)")

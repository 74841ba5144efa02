"""The scripts beside the recipes, run as a user runs them."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from heteromics.graphs import HeteroGraph
from heteromics.priors import PriorStore

pytestmark = pytest.mark.realdata

ROOT = Path(__file__).resolve().parents[2]


def run(script, mirror, folder, *arguments):
    command = [sys.executable, "-W", "error", ROOT / script, *arguments]
    environment = {**os.environ, "HETEROMICS_DATA": str(mirror)}
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_priors_of_mouse_cortex(mirror, tmp_path):
    said = run("priors/build_mouse_cortex.py", mirror, tmp_path, "cortex.duckdb", "edges.gene_peak.within_bp=100_000")
    assert "21 genes of the data are not in the annotation: 6430573F11Rik, " in said
    assert [path.name for path in tmp_path.iterdir()] == ["cortex.duckdb"]
    with PriorStore.open(tmp_path / "cortex.duckdb") as store:
        assert "within_bp: 100000" in store.info["recipe_yaml"]
        near = store.neighbors("Rorb", edges="gene_peak")["node"]
        links = store.frame("gene_peak").merge(store.frame("gene"), on="gene_id").query("symbol == 'Rorb'")
        assert set(near) == set(links["peak_id"])
        assert f"{len(near)} peaks within reach of Rorb" in said
        nearest = links.sort_values(["distance", "peak_id"])["peak_id"].head(5).tolist()
    assert [line.split()[0] for line in said.splitlines()[-5:]] == nearest


def test_graph_of_the_mouse_preoptic_area(mirror, tmp_path):
    said = run("graphs/build_mouse_preoptic_area.py", mirror, tmp_path, "area")
    graph = HeteroGraph.load(tmp_path / "area").validate()
    assert graph.num_nodes("cell") == 6_509
    assert {"laplacian", "random_walk", "position"} <= set(graph.ndata("cell"))
    measured, null = (float(line.split(": ")[1].split()[0]) for line in said.splitlines()[-2:])
    spread = float(said.rsplit("sd ", 1)[1].split()[0])
    assert measured > null + 10 * spread

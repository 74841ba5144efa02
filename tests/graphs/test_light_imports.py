"""Graph folders built elsewhere must be usable where only NumPy, SciPy, torch, Lightning and DGL are installed."""

import subprocess
import sys

import pytest

BLOCKED = ("pandas", "pyarrow", "safetensors", "anndata", "mudata", "duckdb", "scanpy", "sklearn", "pyranges")
WITHOUT = """
import sys

class Without:
    '''A finder that does not know some packages, as if they were not installed.'''

    def __init__(self, finder):
        self.finder = finder

    def find_spec(self, name, *rest):
        return None if name.partition(".")[0] in {blocked!r} else self.finder.find_spec(name, *rest)

    def __getattr__(self, name):
        return getattr(self.finder, name)

sys.meta_path[:] = [Without(finder) for finder in sys.meta_path]
"""


def run(code, blocked=()):
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", WITHOUT.format(blocked=set(blocked)) + code],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.split()


@pytest.mark.parametrize("room", ["graphs", "nn", "models"])
def test_rooms_import_without_data_libraries(room):
    use = "[getattr(room, name) for name in room.__all__]"
    loaded = run(f"import heteromics.{room} as room; {use}; print(*sys.modules)", BLOCKED)
    assert f"heteromics.{room}" in loaded
    assert not set(BLOCKED) & set(loaded)


def test_heteromics_alone_loads_nothing_heavy():
    loaded = run("import heteromics; dir(heteromics); print(*sys.modules)")
    assert not {"torch", "dgl", "numpy", "scipy", "lightning", *BLOCKED} & set(loaded)


def test_graphs_are_made_and_used_without_data_libraries():
    code = """
import torch
from heteromics.graphs import HeteroGraph
from heteromics.nn import Relation
etype = ("cell", "expresses", "feature")
graph = HeteroGraph.from_edges({etype: ([0, 1], [1, 0])}, names={"cell": ["a", "b"], "feature": ["x", "y"]}).validate()
print(Relation.from_graph(graph, etype, weight=None).spmm(torch.eye(2)).tolist(), graph.card.kind)
"""
    assert run(code, BLOCKED)[-1] == "custom"

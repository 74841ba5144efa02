from types import SimpleNamespace

import pytest

from heteromics.graphs import recipe as graphs
from heteromics.workflows.train import train
from tests.workflows.small import BI2FORMER, SCMOGNN, make_files


@pytest.fixture(scope="session")
def small(tmp_path_factory):
    """The multiome ``made``, its file ``data`` and its store ``db``."""
    made, data, db = make_files(tmp_path_factory.mktemp("small"))
    return SimpleNamespace(made=made, data=data, db=db)


@pytest.fixture(scope="session")
def scmognn_run(small, tmp_path_factory):
    """A finished run: its folder ``out`` and the ``scores`` that training gave."""
    out = tmp_path_factory.mktemp("runs") / "scmognn"
    scores = train("scmognn", "prediction", small.data, out=out, db=small.db, sets=SCMOGNN, device="cpu")
    return SimpleNamespace(out=out, scores=scores)


@pytest.fixture(scope="session")
def bi2former_run(small, tmp_path_factory):
    """A finished run: its folder ``out`` and the ``scores`` that training gave."""
    out = tmp_path_factory.mktemp("runs") / "bi2former"
    scores = train("bi2former", "matching", small.data, out=out, db=small.db, sets=BI2FORMER, device="cpu")
    return SimpleNamespace(out=out, scores=scores)


@pytest.fixture(scope="session")
def graph_folder(small, tmp_path_factory):
    """A bipartite graph built before, its attributes made of the training cells of the column ``part``."""
    graph = graphs.build("bipartite", small.data, small.db, sets=["training.column=part"])
    return graph.save(tmp_path_factory.mktemp("graph") / "bipartite")

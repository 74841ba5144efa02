import json
import shutil

import numpy as np
import pandas as pd
import pytest

from heteromics.errors import DataError, FeaturesDiffer, ModelError
from heteromics.workflows.evaluate import evaluate
from heteromics.workflows.prediction import read_split
from heteromics.workflows.run import CARD
from heteromics.workflows.train import train
from tests.workflows.small import BI2FORMER, SCMOGNN, changed

NAMES = {"scmognn": "ScMoGNN", "bi2former": "Bi2Former"}


@pytest.fixture(params=["scmognn", "bi2former"])
def run(request, scmognn_run, bi2former_run):
    """A finished run of each model with the rows of its own metrics."""
    found = {"scmognn": scmognn_run, "bi2former": bi2former_run}[request.param]
    found.own = found.scores.metrics[found.scores.metrics["model"] == NAMES[request.param]].reset_index(drop=True)
    return found


def permute(name, data):
    """Other cells, features in another order."""
    order = np.random.default_rng(1).permutation(data.n_vars)
    return data[20:, order]


def test_own_run_gives_the_metrics_of_training_to_the_last_bit(run):
    again = evaluate(run.out)
    pd.testing.assert_frame_equal(again.metrics[run.own.columns], run.own, check_exact=True)
    assert again.scored_on == "held-out test cells"
    assert json.dumps(again.as_dict())


def test_order_of_features_in_other_data_does_not_matter(small, run, tmp_path):
    straight = changed(small.made, tmp_path / "straight.h5mu", lambda name, data: data[20:])
    mixed = changed(small.made, tmp_path / "mixed.h5mu", permute)
    one, other = evaluate(run.out, data=straight), evaluate(run.out, data=mixed)
    np.testing.assert_allclose(one.metrics["value"], other.metrics["value"], rtol=1e-4)
    assert other.scored_on == f"all 60 cells of {mixed}"
    assert set(other.metrics["split"]) == {"other data"}
    assert set(other.metrics["model"]) == set(run.own["model"])


@pytest.mark.parametrize("side", ["rna", "other"])
def test_other_features_are_counted_and_named(small, run, tmp_path, side, request):
    other = "atac" if "bi2former" in request.node.name else "protein"

    def fewer(name, data):
        return data[:, 2:] if name == (side if side == "rna" else other) else data

    data = changed(small.made, tmp_path / "fewer.h5mu", fewer)
    gone = small.made.mdata["rna" if side == "rna" else other].var_names[:2]
    with pytest.raises(FeaturesDiffer, match=rf"2 missing \({', '.join(sorted(gone))}\), 0 unknown \(none\)"):
        evaluate(run.out, data=data)


def test_new_features_are_named_too(small, run, tmp_path):
    def renamed(name, data):
        data.var_names = [f"x{v}" if name == "rna" and i < 3 else v for i, v in enumerate(data.var_names)]
        return data

    data = changed(small.made, tmp_path / "renamed.h5mu", renamed)
    with pytest.raises(FeaturesDiffer, match=r"60 \w+ names, found 60: 3 missing .*, 3 unknown \(x"):
        evaluate(run.out, data=data)


def test_data_that_changed_since_training_are_not_scored_as_the_runs_own(small, tmp_path):
    data = tmp_path / "data.h5mu"
    shutil.copy(small.data, data)
    train("scmognn", "prediction", data, out=tmp_path / "run", device="cpu", sets=SCMOGNN)
    changed(small.made, data, permute)
    with pytest.raises(DataError, match=r"data\.h5mu has changed since the run was trained on it\. Fix: score it with"):
        evaluate(tmp_path / "run")
    assert evaluate(tmp_path / "run", data=data).notes["cells"] == 60
    data.unlink()
    with pytest.raises(DataError, match=r"data\.h5mu: the data of the run is gone"):
        evaluate(tmp_path / "run")


def test_a_matching_run_needs_its_data_no_more(small, tmp_path):
    data = tmp_path / "data.h5mu"
    shutil.copy(small.data, data)
    scores = train("bi2former", "matching", data, out=tmp_path / "run", db=small.db, device="cpu", sets=BI2FORMER)
    data.unlink()
    own = scores.metrics[scores.metrics["model"] == "Bi2Former"].reset_index(drop=True)
    pd.testing.assert_frame_equal(evaluate(tmp_path / "run").metrics, own, check_exact=True)


def test_a_graph_run_scores_its_own_cells_and_no_other_data(small, graph_folder, tmp_path):
    options = {"out": tmp_path / "run", "graph": graph_folder, "device": "cpu", "sets": BI2FORMER}
    scores = train("bi2former", "matching", small.data, **options)
    own = scores.metrics[scores.metrics["model"] == "Bi2Former"].reset_index(drop=True)
    pd.testing.assert_frame_equal(evaluate(tmp_path / "run").metrics, own, check_exact=True)
    with pytest.raises(ModelError, match=r"trained on a graph folder, without a store\. Fix: train with --db to score"):
        evaluate(tmp_path / "run", data=small.data)


def test_what_is_no_run_or_no_file_is_named(small, run, tmp_path):
    with pytest.raises(DataError, match=r"holds no finished run: run\.json is missing"):
        evaluate(tmp_path)
    with pytest.raises(DataError, match=r"--data .*none\.h5mu: no such file"):
        evaluate(run.out, data=tmp_path / "none.h5mu")


def test_a_run_of_a_cuda_device_is_scored_without_one(run, tmp_path, monkeypatch):
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    shutil.copytree(run.out, tmp_path / "run")
    card = json.loads((run.out / CARD).read_text())
    (tmp_path / "run" / CARD).write_text(json.dumps({**card, "device": "cuda"}))
    pd.testing.assert_frame_equal(evaluate(tmp_path / "run").metrics[run.own.columns], run.own, check_exact=True)


def test_cells_of_a_split_that_are_gone_are_counted(small, scmognn_run):
    cells = small.made.mdata.obs_names.to_numpy(str)
    assert len(read_split(scmognn_run.out, cells, "test")) == 12
    with pytest.raises(
        DataError, match=r"12 of 12 test cells of the run are not in the data\. Fix: evaluate on the fi"
    ):
        read_split(scmognn_run.out, cells[:0], "test")

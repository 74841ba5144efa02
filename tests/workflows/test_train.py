import json
import re
import shutil

import numpy as np
import pandas as pd
import pytest

from heteromics.errors import DataError, ModelError, RecipeError
from heteromics.models import _training
from heteromics.workflows import prediction
from heteromics.workflows.evaluate import evaluate
from heteromics.workflows.run import BEGUN, CARD, Run
from heteromics.workflows.train import train
from tests.workflows.small import BI2FORMER, SCMOGNN

LONG = ("fit.max_epochs=14", "model.width=8", "model.layers=1")


class Killed(Exception):
    """What ends a process, for a test."""


def quick(data, out, *sets, **options):
    return train("scmognn", "prediction", data, out=out, device="cpu", **{"sets": (*SCMOGNN, *sets), **options})


@pytest.fixture
def killed_in(monkeypatch):
    """Let training die in an epoch, of the first network or of a later one."""

    def arrange(epoch, member=0):
        begin, networks = _training._Best.on_train_epoch_end, []

        def die(self, trainer, module):
            if module not in networks:
                networks.append(module)
            if trainer.current_epoch == epoch and len(networks) == member + 1:
                raise Killed
            begin(self, trainer, module)

        monkeypatch.setattr(_training._Best, "on_train_epoch_end", die)

    return arrange


def history(run):
    return json.loads((run / "history.json").read_text())


def test_a_run_killed_half_way_goes_on(small, tmp_path, killed_in, monkeypatch):
    out = tmp_path / "run"
    killed_in(12)
    with pytest.raises(Killed):
        quick(small.data, out, sets=LONG)
    assert sorted(path.name for path in out.iterdir()) == ["checkpoints", BEGUN]
    with pytest.raises(DataError, match=r"holds no finished run: run\.json is missing"):
        evaluate(out)
    with pytest.raises(DataError, match=r"holds an unfinished run\. Fix: --resume to go on with it, or another --out"):
        quick(small.data, out, sets=LONG)
    monkeypatch.undo()
    scores = quick(small.data, out, sets=LONG, resume=True)
    assert [entry["epoch"] for entry in history(out)] == list(range(14))
    assert CARD in {path.name for path in out.iterdir()}
    assert not {BEGUN, "checkpoints"} & {path.name for path in out.iterdir()}
    pd.testing.assert_frame_equal(
        evaluate(out).metrics, scores.metrics.query("model == 'ScMoGNN'"), check_exact=True, check_like=True
    )


def test_of_several_networks_the_one_that_was_killed_goes_on(small, tmp_path, killed_in, monkeypatch):
    out, sets = tmp_path / "run", (*LONG, "model.members=2")
    killed_in(11, member=1)
    with pytest.raises(Killed):
        quick(small.data, out, sets=sets)
    assert sorted(path.name for path in out.iterdir()) == ["member_0", "member_1", BEGUN]
    with pytest.raises(DataError, match="holds an unfinished run"):
        quick(small.data, out, sets=sets)
    monkeypatch.undo()
    quick(small.data, out, sets=sets, resume=True)
    assert [(entry["member"], entry["epoch"]) for entry in history(out)] == [(m, e) for m in (0, 1) for e in range(14)]
    assert not [path.name for path in out.iterdir() if path.name.startswith("member")]


def test_a_matching_run_killed_half_way_goes_on(small, tmp_path, killed_in, monkeypatch):
    sets = ("fit.max_epochs=12", *BI2FORMER[1:])
    options = {"out": tmp_path / "run", "db": small.db, "sets": sets, "device": "cpu"}
    killed_in(10)
    with pytest.raises(Killed):
        train("bi2former", "matching", small.data, **options)
    monkeypatch.undo()
    train("bi2former", "matching", small.data, resume=True, **options)
    epochs = [entry["epoch"] for entry in history(tmp_path / "run")]
    assert epochs == list(range(len(epochs)))
    assert len(epochs) > 10


def test_a_run_killed_while_it_is_written_goes_on(small, tmp_path, monkeypatch):
    def die(*arguments):
        raise Killed

    out = tmp_path / "run"
    with monkeypatch.context() as patch:
        patch.setattr(prediction, "write_json", die)
        with pytest.raises(Killed):
            quick(small.data, out, sets=LONG)
    assert (out / "model").is_dir()
    scores = quick(small.data, out, sets=LONG, resume=True)
    assert len(history(out)) == scores.notes["epochs"] == 14


def test_a_run_killed_before_its_first_checkpoint_is_begun_anew(small, tmp_path, killed_in, monkeypatch, scmognn_run):
    for resume in (False, True):
        out = tmp_path / f"run {resume}"
        killed_in(1)
        with pytest.raises(Killed):
            quick(small.data, out, db=small.db)
        monkeypatch.undo()
        scores = quick(small.data, out, db=small.db, resume=resume)
        pd.testing.assert_frame_equal(scores.metrics, scmognn_run.scores.metrics, check_exact=True)


def test_another_run_is_not_gone_on_with(small, tmp_path, killed_in, monkeypatch):
    """Another split would turn training cells into test cells."""
    out, data = tmp_path / "run", tmp_path / "data.h5mu"
    shutil.copy(small.data, data)
    killed_in(12)
    with pytest.raises(Killed):
        quick(data, out, sets=LONG)
    monkeypatch.undo()
    with pytest.raises(DataError, match=r"was begun otherwise: seed was 0, is 1\. Fix: the same arguments with --resu"):
        quick(data, out, sets=LONG, seed=1, resume=True)
    with pytest.raises(DataError, match=r"otherwise: model\.width was 8, is 16; split\.test_share was 0\.15, is 0\.2"):
        quick(data, out, sets=(*LONG, "model.width=16", "split.test_share=0.2"), resume=True)
    shutil.copy(small.db, data)
    with pytest.raises(DataError, match=r"otherwise: sha256\.data was [0-9a-f]{64}, is [0-9a-f]{64}"):
        quick(data, out, sets=LONG, resume=True)


def test_a_folder_that_holds_something_is_left_alone(small, scmognn_run, tmp_path):
    with pytest.raises(DataError, match=r"holds a finished run\. Fix: another --out, or delete the folder"):
        quick(small.data, scmognn_run.out)
    with pytest.raises(DataError, match=r"holds a finished run"):
        quick(small.data, scmognn_run.out, resume=True)
    (tmp_path / "thesis.txt").write_text("years")
    with pytest.raises(DataError, match=r"holds thesis\.txt, which is no run to go on with\. Fix: another --out"):
        quick(small.data, tmp_path)
    with pytest.raises(DataError, match=r"thesis\.txt is a file\. Fix: name a folder"):
        quick(small.data, tmp_path / "thesis.txt")
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.txt"]


def test_there_must_be_something_to_resume(small, tmp_path):
    with pytest.raises(DataError, match=r"run holds no unfinished run\. Fix: drop --resume"):
        quick(small.data, tmp_path / "run", resume=True)
    assert list(tmp_path.iterdir()) == []


def test_an_empty_folder_will_do(small, tmp_path):
    quick(small.data, tmp_path)
    assert Run.read(tmp_path).model == "scmognn"


@pytest.mark.parametrize(
    ("model", "task"),
    [("scmognn", "matching"), ("bi2former", "prediction"), ("scmogn", "prediction"), ("scmognn", "integration")],
)
def test_models_come_with_their_task(small, tmp_path, model, task):
    message = (
        f"found model '{model}' with task '{task}', expected one of: "
        "scmognn --task prediction, bi2former --task matching."
    )
    with pytest.raises(ModelError, match=re.escape(message)):
        train(model, task, small.data, out=tmp_path / "run")


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        pytest.param({"db": "no.duckdb"}, DataError, "--db no.duckdb: no such file.", id="store"),
        pytest.param(
            {"device": "tpu"}, ModelError, "device: found 'tpu', expected 'auto', 'cpu' or 'cuda'", id="device"
        ),
        pytest.param({"sets": ["model.widht=3"]}, RecipeError, "unknown key 'widht'. Did you mean 'width'?", id="set"),
        pytest.param({"sets": ["data.gmt=no.gmt"]}, DataError, "no.gmt", id="gmt"),
    ],
)
def test_what_is_not_there_is_named_and_leaves_no_folder(small, tmp_path, options, error, message):
    with pytest.raises(error, match=re.escape(message)):
        train("scmognn", "prediction", small.data, out=tmp_path / "run", **{"device": "cpu", **options})
    assert list(tmp_path.iterdir()) == []


def test_missing_data_are_named(tmp_path):
    with pytest.raises(DataError, match=r"--data .*none\.h5mu: no such file"):
        quick(tmp_path / "none.h5mu", tmp_path / "run")
    assert list(tmp_path.iterdir()) == []


def test_the_random_state_of_the_caller_is_left_alone(small, tmp_path):
    np.random.seed(5)  # noqa: NPY002
    state = np.random.get_state()[1].copy()  # noqa: NPY002
    quick(small.data, tmp_path / "run")
    np.testing.assert_array_equal(np.random.get_state()[1], state)  # noqa: NPY002

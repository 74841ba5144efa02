import dataclasses
import json

import pytest

from heteromics import __version__
from heteromics._files import sha256_of
from heteromics.errors import DataError
from heteromics.workflows.run import CARD, Run, installed_versions


@pytest.fixture
def card(tmp_path):
    data = tmp_path / "data.h5mu"
    data.write_bytes(b"cells")
    return Run("scmognn", "prediction", str(data), None, None, {"data": sha256_of(data)}, 3, "cpu", {"fit": {}})


def test_card_round_trip(card, tmp_path):
    card.write(tmp_path / "run")
    assert Run.read(tmp_path / "run") == card
    assert card.checked_data().read_bytes() == b"cells"
    assert card.versions["heteromics"] == __version__
    assert {"python", "torch", "numpy", "duckdb"} <= set(installed_versions())
    assert card.created.endswith("+00:00")


def test_cards_of_training_say_everything(small, scmognn_run, bi2former_run):
    for run, model, task in (
        (scmognn_run, "scmognn", "prediction"),
        (bi2former_run, "bi2former", "matching"),
    ):
        card = Run.read(run.out)
        assert (card.model, card.task, card.seed, card.device, card.graph) == (model, task, 0, "cpu", None)
        assert (card.data, card.db) == (str(small.data.resolve()), str(small.db.resolve()))
        assert card.sha256 == {"data": sha256_of(small.data), "db": sha256_of(small.db)}
        assert set(card.settings) >= {"data", "split", "model", "fit"}
        assert card.settings["model"]["learning_rate"] > 0
        assert card.settings["split"]["test_share"] == 0.15


def test_data_that_changed_or_went_is_named(card, tmp_path):
    path = tmp_path / "data.h5mu"
    path.write_bytes(b"others")
    with pytest.raises(DataError, match=r"data\.h5mu has changed since the run was trained on it\. Fix: score it with"):
        card.checked_data()
    path.unlink()
    with pytest.raises(DataError, match=r"data\.h5mu: the data of the run is gone\. Fix: put it back, or score other"):
        card.checked_data()


def test_a_folder_without_a_card_is_no_finished_run(tmp_path):
    with pytest.raises(DataError, match=r"holds no finished run: run\.json is missing\. Fix: `heteromics train"):
        Run.read(tmp_path)


@pytest.mark.parametrize("text", ["{", "[]", json.dumps({"model": "scmognn"}), json.dumps({"odd": 1})])
def test_a_broken_card_is_named(tmp_path, text):
    (tmp_path / CARD).write_text(text)
    with pytest.raises(DataError, match=r"run\.json is no card of a run \(.+\)\. Fix: train again"):
        Run.read(tmp_path)


def test_a_run_of_a_cuda_device_can_be_used_without_one(card):
    assert card.place == "cpu"
    assert dataclasses.replace(card, device="cuda").place == "auto"

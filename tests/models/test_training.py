import lightning as L
import numpy as np
import pytest
import torch

from heteromics.errors import FeaturesDiffer, ModelError
from heteromics.models._io import SavedModel, check_features, load_model, save_model
from heteromics.models._training import LAST_CHECKPOINT, fit_module, pick_device, seeded
from heteromics.nn import Relation


class Line(L.LightningModule):
    """Least squares by gradient descent, with dropout so that the seed matters."""

    def __init__(self, rate=0.05):
        super().__init__()
        self.rate = rate
        self.layer = torch.nn.Linear(3, 1)
        self.seen = 0

    def training_step(self, batch, _):
        x, y = batch
        loss = torch.nn.functional.mse_loss(self.layer(torch.nn.functional.dropout(x, 0.2)), y)
        self.log("training_loss", loss, on_step=False, on_epoch=True)
        return loss

    def validation_step(self, batch, _):
        x, y = batch
        self.log("validation_loss", torch.nn.functional.mse_loss(self.layer(x), y))

    def configure_optimizers(self):
        return torch.optim.Adam(self.parameters(), lr=self.rate)


def fresh(seed=0):
    with seeded(seed):
        return Line()


@pytest.fixture(scope="module")
def batches():
    rng = np.random.default_rng(0)
    x = torch.from_numpy(rng.normal(size=(64, 3)).astype("float32"))
    return [(x, x @ torch.tensor([[1.0], [-2.0], [0.5]]) + 1)]


def fit(module, batches, **kwargs):
    options = {"max_epochs": 12, "patience": 50, "seed": 3, "device": "cpu", "progress": False}
    return fit_module(module, batches, batches, **(options | kwargs))


def test_learns_and_records_every_epoch(batches):
    module = fresh()
    history = fit(module, batches, max_epochs=200, patience=200, progress=True)
    assert [entry["epoch"] for entry in history] == list(range(200))
    assert history[-1]["validation_loss"] < 0.05 * history[0]["validation_loss"]


def test_same_seed_same_weights_and_callers_random_state_is_kept(batches):
    torch.manual_seed(11)
    expected = torch.rand(3)
    torch.manual_seed(11)
    one, two = fresh(), fresh()
    fit(one, batches)
    fit(two, batches)
    assert torch.equal(torch.rand(3), expected)
    assert torch.equal(one.layer.weight, two.layer.weight)
    other = fresh()
    fit(other, batches, seed=4)
    assert not torch.equal(one.layer.weight, other.layer.weight)


class Told(Line):
    """Logs given validation values, one per epoch."""

    def __init__(self, values):
        super().__init__()
        self.values = values

    def validation_step(self, batch, _):
        self.log("validation_loss", torch.tensor(self.values[self.current_epoch]), batch_size=1)


def test_patience_that_ran_out_before_min_epochs_starts_anew_when_the_value_gets_better(batches):
    early = [1.0] * 5 + [2.0] * 7  # patience 3 is over after epoch 7
    better = [0.9 - 0.01 * epoch for epoch in range(8)]
    module = Told(early + better + [1.0] * 20)
    assert len(fit(module, batches, max_epochs=40, min_epochs=15, patience=3)) == len(early + better) + 3
    still_bad = Told(early + [2.0] * 28)
    assert len(fit(still_bad, batches, max_epochs=40, min_epochs=15, patience=3)) == 15


def test_best_weights_are_restored_and_training_stops(batches):
    module = fresh()
    module.rate = 1.5
    history = fit(module, batches, max_epochs=400, patience=5)
    values = [entry["validation_loss"] for entry in history]
    x, y = batches[0]
    assert len(values) < 400
    assert values[-1] > min(values)
    assert torch.nn.functional.mse_loss(module.layer(x), y).item() == pytest.approx(min(values))


class Dropping(Line):
    """Drops edges of a relation too."""

    relation = Relation.from_csr([0, 2, 4], [0, 1, 0, 1], shape=(2, 2))

    def training_step(self, batch, number):
        edges = self.relation.spmm(torch.ones(2, 2), dropout=0.5).sum()
        return super().training_step(batch, number) * (1 + edges)


@pytest.mark.parametrize("every", [1, 10])  # written in an epoch, and at the end
def test_resume_equals_one_long_run(batches, tmp_path, every):
    whole, first = Dropping(), Dropping()
    first.load_state_dict(whole.state_dict())
    expected = fit(whole, batches, max_epochs=12)
    fit(first, batches, max_epochs=6, folder=tmp_path, checkpoint_every=every)
    assert (tmp_path / LAST_CHECKPOINT).is_file()
    second = Dropping()
    history = fit(second, batches, max_epochs=12, folder=tmp_path, resume=True, checkpoint_every=every)
    assert [entry["epoch"] for entry in history] == list(range(12))
    assert history == expected
    assert torch.equal(second.layer.weight, whole.layer.weight)


class Fragile(Line):
    """Dies at the start of one epoch."""

    def on_train_epoch_start(self):
        if self.current_epoch == 7:
            raise KeyError("power")


def test_training_that_dies_left_a_checkpoint_and_only_the_last(batches, tmp_path):
    with pytest.raises(KeyError, match="power"):
        fit(Fragile(), batches, max_epochs=12, folder=tmp_path, checkpoint_every=3)
    assert [path.name for path in (tmp_path / LAST_CHECKPOINT).parent.iterdir()] == [LAST_CHECKPOINT.name]
    history = fit(fresh(), batches, max_epochs=12, folder=tmp_path, resume=True, checkpoint_every=3)
    assert [entry["epoch"] for entry in history] == list(range(12))


def test_resume_without_checkpoint_says_so(batches, tmp_path):
    with pytest.raises(ModelError, match=r"found no checkpoint at .*last\.ckpt"):
        fit(fresh(), batches, folder=tmp_path, resume=True)


def test_a_loss_that_is_not_finite_is_an_error(batches):
    x, y = batches[0]
    with pytest.raises((ModelError, RuntimeError), match="validation_loss"):
        fit(fresh(), [(x, y * float("nan"))])


def test_devices_are_checked():
    with pytest.raises(ModelError, match="found 'tpu', expected 'auto', 'cpu' or 'cuda'"):
        pick_device("tpu")
    if not torch.cuda.is_available():
        with pytest.raises(ModelError, match="no CUDA device"):
            pick_device("cuda")
        assert pick_device("auto") == "cpu"


def saved(kind="Line"):
    return SavedModel(kind, {"rate": 0.1}, {"w": torch.arange(3.0)}, {"gene": ("A", "B")}, {"note": 1})


def test_model_folder_round_trip_and_replacement(tmp_path):
    save_model(tmp_path / "m", saved())
    save_model(tmp_path / "m", saved())
    again = load_model(tmp_path / "m", "Line")
    assert again.config == {"rate": 0.1}
    assert again.features == {"gene": ("A", "B")}
    assert again.extra == {"note": 1}
    assert torch.equal(again.weights["w"], torch.arange(3.0))
    assert [path.name for path in tmp_path.iterdir()] == ["m"]


def test_model_folder_errors(tmp_path):
    with pytest.raises(ModelError, match=r"holds no saved model: model\.json is missing"):
        load_model(tmp_path, "Line")
    save_model(tmp_path / "m", saved())
    with pytest.raises(ModelError, match="found a Line model, expected ScMoGNN"):
        load_model(tmp_path / "m", "ScMoGNN")
    (tmp_path / "m" / "weights.safetensors").write_bytes(b"short")
    with pytest.raises(ModelError, match="the saved model is broken"):
        load_model(tmp_path / "m", "Line")
    (tmp_path / "notes").mkdir()
    (tmp_path / "notes" / "thesis.txt").write_text("years of work")
    with pytest.raises(ModelError, match=r"is not a model folder \(thesis\.txt\)"):
        save_model(tmp_path / "notes", saved())
    assert (tmp_path / "notes" / "thesis.txt").read_text() == "years of work"


@pytest.mark.parametrize(
    ("found", "message"),
    [
        pytest.param(["B", "A"], "same 2 gene names in another order", id="order"),
        pytest.param(["A", "C", "D"], r"found 3: 1 missing \(B\), 2 unknown \(C, D\)", id="names"),
        pytest.param([], r"found 0: 2 missing \(A, B\), 0 unknown \(none\)", id="none"),
    ],
)
def test_features_are_checked(found, message):
    with pytest.raises(FeaturesDiffer, match=message):
        check_features({"gene": ["A", "B"]}, {"gene": found}, "Line")

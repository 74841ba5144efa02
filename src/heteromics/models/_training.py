"""One way to train: Lightning with early stopping, best weights kept, checkpoints, resume, seed and progress."""

from __future__ import annotations

import logging
import math
import warnings
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal

import lightning as L
import torch
from lightning.pytorch.callbacks import Callback, EarlyStopping, ModelCheckpoint
from lightning.pytorch.utilities.seed import isolate_rng
from rich.progress import Progress, TaskID
from torch import Tensor

from heteromics._progress import bar
from heteromics.errors import ModelError

Device = Literal["auto", "cpu", "cuda"]
LAST_CHECKPOINT = Path("checkpoints") / "last.ckpt"

_NOISE = (
    ".*does not have many workers.*",
    ".*GPU available but not used.*",
    ".*Checkpoint directory .* exists and is not empty.*",
    ".*`isinstance\\(treespec, LeafSpec\\)` is deprecated.*",
)


@contextmanager
def seeded(seed: int) -> Iterator[None]:
    """Seed Python, NumPy and torch inside the block and give the caller's random state back after it."""
    with isolate_rng(), _quiet():
        L.seed_everything(seed, workers=True, verbose=False)
        yield


def pick_device(device: str) -> str:
    """Return ``"cpu"`` or ``"cuda"`` for ``"auto"``, ``"cpu"`` or ``"cuda"``.

    Raises
    ------
    ModelError
        For another word, or for ``"cuda"`` where torch sees no CUDA device.
    """
    if device not in ("auto", "cpu", "cuda"):
        raise ModelError(f"device: found {device!r}, expected 'auto', 'cpu' or 'cuda'.")
    if device == "cuda" and not torch.cuda.is_available():
        raise ModelError(
            "device 'cuda' was asked for and torch sees no CUDA device. "
            "Fix: device='cpu', or install a CUDA build of torch."
        )
    return "cuda" if device != "cpu" and torch.cuda.is_available() else "cpu"


def epochs_or(asked: int | None, default: int) -> int:
    """Return the number of epochs asked for, or the default where none was.

    Raises
    ------
    ModelError
        For fewer than one.
    """
    if asked is not None and asked < 1:
        raise ModelError(f"max_epochs: found {asked}, expected 1 or more, or None for the config's {default}.")
    return default if asked is None else asked


def fit_module(
    module: L.LightningModule,
    train: Collection[Any],
    validation: Collection[Any],
    *,
    max_epochs: int,
    patience: int,
    min_epochs: int = 1,
    monitor: str = "validation_loss",
    mode: Literal["min", "max"] = "min",
    seed: int = 0,
    device: str = "auto",
    folder: Path | str | None = None,
    resume: bool = False,
    progress: bool = True,
    checkpoint_every: int = 10,
) -> list[dict[str, float]]:
    """Train ``module`` until the validation value stops improving and leave its best weights in it.

    Parameters
    ----------
    module
        Its ``validation_step`` logs ``monitor`` once per epoch.
    train, validation
        Batches: a list, a ``DataLoader`` or anything with a length that can be iterated again and again.
    max_epochs, min_epochs, patience
        Epochs; training stops after ``patience`` epochs without a better ``monitor``, never before ``min_epochs``.
    monitor, mode
        The logged value to watch and whether lower or higher is better.
    seed
        Seeds Python, NumPy and torch; the caller's random state is restored afterwards.
    device
        ``"auto"``, ``"cpu"`` or ``"cuda"``.
    folder
        Where ``checkpoints/last.ckpt`` is kept, every ``checkpoint_every`` epochs and at the end; None: nowhere
    resume
        Go on from that checkpoint: same optimiser state, epoch, best weights and random state of torch, so that dropout
        goes on as it would have without the break.

    Returns
    -------
    list of dict
        One entry per epoch, in order, with ``epoch`` and every logged value; a resumed run has the earlier ones too.

    Raises
    ------
    ModelError
        When ``resume`` finds no checkpoint, the device is not there, or the watched value is not finite.
    """
    checkpoint = None if folder is None else Path(folder) / LAST_CHECKPOINT
    if resume and (checkpoint is None or not checkpoint.is_file()):
        raise ModelError(
            f"resume: found no checkpoint at {checkpoint}. Fix: train once with this folder, or drop resume."
        )
    best = _Best(monitor, mode)
    callbacks: list[Callback] = [
        best,
        _Randomness(),
        _Patience(monitor, patience=patience, mode=mode, check_finite=True, check_on_train_epoch_end=True),
    ]
    if checkpoint is not None:
        callbacks.append(
            ModelCheckpoint(
                checkpoint.parent, checkpoint.stem, every_n_epochs=checkpoint_every, enable_version_counter=False
            )
        )
    if progress:
        callbacks.append(_EpochProgress(monitor))
    with seeded(seed), _quiet():
        trainer = L.Trainer(
            accelerator="gpu" if pick_device(device) == "cuda" else "cpu",
            devices=1,
            max_epochs=max_epochs,
            min_epochs=min_epochs,
            callbacks=callbacks,
            logger=False,
            enable_checkpointing=checkpoint is not None,
            enable_progress_bar=False,
            enable_model_summary=False,
            num_sanity_val_steps=0,
        )
        loaders = _Batches(train), _Batches(validation)
        trainer.fit(module, *loaders, ckpt_path=checkpoint if resume else None, weights_only=True)
        if checkpoint is not None and trainer.current_epoch % checkpoint_every:
            trainer.save_checkpoint(checkpoint)
    best.restore(module)
    return best.history


class _Batches:
    """Any re-iterable of batches as one loader; Lightning takes a bare list for a list of loaders."""

    def __init__(self, batches: Collection[Any]) -> None:
        self.batches = batches

    def __len__(self) -> int:
        return len(self.batches)

    def __iter__(self) -> Iterator[Any]:
        return iter(self.batches)


class _Patience(EarlyStopping):
    """Early stopping whose patience must be at its end when ``min_epochs`` are over, not at some time before.

    Lightning remembers a stop that was asked for earlier and stops at ``min_epochs``, also when the value has become
    better since.
    """

    def on_train_epoch_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        asked = trainer.should_stop
        super().on_train_epoch_end(trainer, pl_module)
        if trainer.current_epoch + 1 < (trainer.min_epochs or 1):
            trainer.should_stop = asked


class _Best(Callback):
    """Keeps the history and, in memory, the weights of the best epoch; both travel with the checkpoints."""

    def __init__(self, monitor: str, mode: str) -> None:
        self.monitor, self.sign = monitor, 1.0 if mode == "min" else -1.0
        self.value = math.inf
        self.weights: dict[str, Tensor] = {}
        self.history: list[dict[str, float]] = []

    def on_train_epoch_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        values = {name: float(value) for name, value in trainer.callback_metrics.items()}
        if self.monitor not in values:
            raise ModelError(
                f"the module logs {', '.join(sorted(values)) or 'nothing'}, expected '{self.monitor}' among them."
            )
        self.history.append({"epoch": float(trainer.current_epoch), **values})
        value = values[self.monitor] * self.sign
        if not math.isfinite(value):
            raise ModelError(
                f"{self.monitor} became {values[self.monitor]} in epoch {trainer.current_epoch}. "
                "Fix: a lower learning rate, or look for huge values in the input."
            )
        if value < self.value:
            self.value = value
            self.weights = {name: tensor.detach().cpu().clone() for name, tensor in pl_module.state_dict().items()}

    def restore(self, module: L.LightningModule) -> None:
        if self.weights:
            module.load_state_dict(self.weights)

    def state_dict(self) -> dict[str, Any]:
        return {"value": self.value, "weights": self.weights, "history": self.history}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.value, self.weights, self.history = (
            state_dict["value"],
            state_dict["weights"],
            state_dict["history"],
        )


class _Randomness(Callback):
    """Lets the random state of torch travel with the checkpoints."""

    def __init__(self) -> None:
        self.loaded: dict[str, Any] = {}

    def state_dict(self) -> dict[str, Any]:
        cuda = torch.cuda.get_rng_state_all() if torch.cuda.is_available() else []
        return {"cpu": torch.get_rng_state(), "cuda": cuda}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.loaded = state_dict

    def on_train_epoch_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Take up the loaded state: what was drawn since, to set up the run, does not count."""
        if self.loaded:
            torch.set_rng_state(self.loaded["cpu"])
            if self.loaded["cuda"] and torch.cuda.device_count() == len(self.loaded["cuda"]):
                torch.cuda.set_rng_state_all(self.loaded["cuda"])
            self.loaded = {}


class _EpochProgress(Callback):
    """Epochs, and batches where there are several, with time left."""

    def __init__(self, monitor: str) -> None:
        self.monitor = monitor
        self.display: Progress | None = None
        self.epochs: TaskID | None = None
        self.batches: TaskID | None = None

    def on_fit_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        self.display = bar()
        self.display.start()
        name = type(pl_module).__name__.lstrip("_")
        self.epochs = self.display.add_task(
            f"training {name}", total=trainer.max_epochs, completed=trainer.current_epoch
        )

    def on_train_epoch_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        if self.display is not None and trainer.num_training_batches > 1:
            if self.batches is not None:
                self.display.remove_task(self.batches)
            self.batches = self.display.add_task("  batches", total=trainer.num_training_batches)

    def on_train_batch_end(self, *args: Any, **kwargs: Any) -> None:
        if self.display is not None and self.batches is not None:
            self.display.advance(self.batches)

    def on_train_epoch_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        if self.display is not None and self.epochs is not None:
            value = trainer.callback_metrics.get(self.monitor)
            shown = "" if value is None else f" ({self.monitor.replace('_', ' ')} {float(value):.4f})"
            name = type(pl_module).__name__.lstrip("_")
            self.display.update(self.epochs, advance=1, description=f"training {name}{shown}")

    def teardown(self, trainer: L.Trainer, pl_module: L.LightningModule, stage: str) -> None:
        if self.display is not None:
            self.display.stop()


@contextmanager
def _quiet() -> Iterator[None]:
    """Hold back Lightning's advertisements; its errors still come through."""
    loggers = [logging.getLogger(name) for name in ("lightning.pytorch", "lightning.fabric")]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            for message in _NOISE:
                warnings.filterwarnings("ignore", message=message)
            yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)

"""Train a model from files and leave a run folder: card, model, split, metrics, predictions, history."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from pathlib import Path

from heteromics import _config
from heteromics._files import sha256_of
from heteromics.errors import DataError, ModelError
from heteromics.models._training import pick_device
from heteromics.workflows.matching import train_matching
from heteromics.workflows.prediction import train_prediction
from heteromics.workflows.results import Scores
from heteromics.workflows.run import CARD, Run
from heteromics.workflows.settings import MatchingSettings, PredictionSettings, read_settings

TASKS = {"scmognn": "prediction", "bi2former": "matching"}


def train(
    model: str,
    task: str,
    data: Path | str,
    *,
    out: Path | str,
    db: Path | str | None = None,
    graph: Path | str | None = None,
    seed: int = 0,
    device: str = "auto",
    sets: Sequence[str] = (),
    resume: bool = False,
) -> Scores:
    """Train, score on held-out test cells, and write the run.

    Parameters
    ----------
    model, task
        ``"scmognn"`` for ``"prediction"`` or ``"bi2former"`` for ``"matching"``.
    data
        MuData or AnnData file with the modalities of the task.
    out
        Folder of the run. The card ``run.json`` is written last: a folder without it is an unfinished run.
    db
        Prior store; needed for matching unless ``graph`` is given.
    graph
        Folder of a bipartite graph built before; matching only.
    seed, device
        Same seed, same result; ``"auto"``, ``"cpu"`` or ``"cuda"``.
    sets
        ``group.key=value`` over the defaults of :mod:`heteromics.workflows.settings`.
    resume
        Go on from the last checkpoint in ``out``.

    Returns
    -------
    Scores
        Metrics of the model and of its baselines on test cells alone.

    Raises
    ------
    ModelError
        For a model or task that is not there.
    DataError
        When ``out`` holds another run or a file is missing.
    """
    if TASKS.get(model) != task:
        known = ", ".join(f"{name} --task {its}" for name, its in TASKS.items())
        raise ModelError(f"found model '{model}' with task '{task}', expected one of: {known}.")
    data, out = Path(data), Path(out)
    files = {"data": data, "db": None if db is None else Path(db)}
    for role, path in files.items():
        if path is not None and not path.is_file():
            raise DataError(f"--{role} {path}: no such file.")
    if graph is not None and model != "bi2former":
        raise ModelError(
            "--graph: found one for scmognn, which builds its graph from the data and the split. Fix: drop it."
        )
    device = pick_device(device)
    settings: PredictionSettings | MatchingSettings
    if model == "scmognn":
        settings = read_settings(PredictionSettings, sets)
        prepare(out, resume=resume)
        scores = train_prediction(data, settings, out, files["db"], seed=seed, device=device, resume=resume)
    else:
        settings = read_settings(MatchingSettings, sets)
        prepare(out, resume=resume)
        place = None if graph is None else Path(graph)
        scores = train_matching(data, settings, out, files["db"], place, seed=seed, device=device, resume=resume)
    Run(
        model=model,
        task=task,
        data=str(data.resolve()),
        db=None if db is None else str(Path(db).resolve()),
        sha256={role: sha256_of(path) for role, path in files.items() if path is not None},
        seed=seed,
        device=device,
        settings=_config.as_dict(settings),
    ).write(out)
    shutil.rmtree(out / "checkpoints", ignore_errors=True)
    return scores


def prepare(out: Path, *, resume: bool) -> None:
    """Make the run's folder; one that holds a finished run or other files is refused.

    Raises
    ------
    DataError
        Says what is there.
    """
    if (out / CARD).is_file():
        raise DataError(f"{out} holds a finished run. Fix: another --out, or delete the folder.")
    if out.exists() and any(out.iterdir()) and not (out / "checkpoints").is_dir():
        raise DataError(f"{out} exists and holds no run to go on with. Fix: another --out.")
    if out.exists() and (out / "checkpoints").is_dir() and not resume:
        raise DataError(f"{out} holds an unfinished run. Fix: --resume to go on with it, or another --out.")
    out.mkdir(parents=True, exist_ok=True)

"""Train a model from files and leave a run folder: card, model, split, metrics, predictions, history."""

from __future__ import annotations

import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from heteromics import _config
from heteromics._files import sha256_of
from heteromics.errors import DataError, HeteromicsError, ModelError, some
from heteromics.models._training import LAST_CHECKPOINT, pick_device
from heteromics.workflows.matching import train_matching
from heteromics.workflows.prediction import train_prediction
from heteromics.workflows.results import Scores
from heteromics.workflows.run import BEGUN, CARD, Run
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
        Prior store; needed for matching unless ``graph`` is given. With ``graph``, the store it was built with.
    graph
        Folder of a bipartite graph built before; matching only.
    seed, device
        Same seed, same result; ``"auto"``, ``"cpu"`` or ``"cuda"``.
    sets
        ``group.key=value`` over the defaults of :mod:`heteromics.workflows.settings`.
    resume
        Go on from the last checkpoint in ``out``, with the same data, seed and settings.

    Returns
    -------
    Scores
        Metrics of the model and of its baselines on test cells alone.

    Raises
    ------
    ModelError
        For a model or task that is not there.
    DataError
        When ``out`` holds another run or a file is missing. A folder is left behind only once there is a checkpoint.
    """
    if TASKS.get(model) != task:
        known = ", ".join(f"{name} --task {its}" for name, its in TASKS.items())
        raise ModelError(f"found model '{model}' with task '{task}', expected one of: {known}.")
    data, out = Path(data), Path(out)
    files = _files(model, data, db, graph)
    settings: PredictionSettings | MatchingSettings
    settings = read_settings(PredictionSettings, sets) if model == "scmognn" else read_settings(MatchingSettings, sets)
    card = Run(
        model=model,
        task=task,
        data=str(data.resolve()),
        db=None if db is None else str(Path(db).resolve()),
        graph=None if graph is None else str(Path(graph).resolve()),
        sha256={role: sha256_of(path) for role, path in files.items()},
        seed=seed,
        device=pick_device(device),
        settings=_config.as_dict(settings),
    )
    go_on = prepare(out, card, resume=resume)
    card.write(out, BEGUN)
    options: dict[str, Any] = {"seed": seed, "device": card.device, "resume": go_on}
    try:
        if isinstance(settings, PredictionSettings):
            scores = train_prediction(data, settings, out, files.get("db"), **options)
        else:
            place = None if graph is None else Path(graph)
            scores = train_matching(data, settings, out, files.get("db"), place, **options)
    except HeteromicsError:
        _leave_nothing(out)
        raise
    card.write(out)
    (out / BEGUN).unlink()
    for checkpoint in list(out.rglob(LAST_CHECKPOINT.name)):
        _remove_with_empty_parents(checkpoint.parent, out)
    return scores


def _files(model: str, data: Path, db: Path | str | None, graph: Path | str | None) -> dict[str, Path]:
    """Return the files to read by role, made sure to be there; that of a graph is its schema."""
    files = {"data": data} if db is None else {"data": data, "db": Path(db)}
    for role, path in files.items():
        if not path.is_file():
            raise DataError(f"--{role} {path}: no such file.")
    if graph is None:
        return files
    if model != "bi2former":
        raise ModelError(
            "--graph: found one for scmognn, which builds its graph from the data and the split. Fix: drop it."
        )
    schema = Path(graph) / "schema.json"
    if not schema.is_file():
        raise DataError(f"--graph {graph} holds no graph. Fix: `heteromics graph build bipartite --out {graph}`.")
    return {**files, "graph": schema}


def prepare(out: Path, card: Run, *, resume: bool) -> bool:
    """Say whether there is a checkpoint to go on from in the run's folder, and refuse folders that hold other things.

    A run that ended before its first checkpoint is begun anew.

    Raises
    ------
    DataError
        Says what is there, or how an unfinished run differs from the one asked for.
    """
    if out.exists() and not out.is_dir():
        raise DataError(f"--out {out} is a file. Fix: name a folder.")
    there = sorted(path.name for path in out.iterdir()) if out.exists() else []
    if CARD in there:
        raise DataError(f"{out} holds a finished run. Fix: another --out, or delete the folder.")
    if there and BEGUN not in there:
        raise DataError(f"{out} holds {some(there)}, which is no run to go on with. Fix: another --out.")
    if resume and not there:
        raise DataError(f"{out} holds no unfinished run. Fix: drop --resume.")
    begun = any(out.rglob(LAST_CHECKPOINT.name))
    if begun and not resume:
        raise DataError(f"{out} holds an unfinished run. Fix: --resume to go on with it, or another --out.")
    if begun:
        _check_same(out, Run.read_begun(out), card)
    return begun


def _check_same(out: Path, begun: Run, card: Run) -> None:
    """Refuse to go on with other data, another split or another model: test cells would have been trained on."""
    before, now = (_flat({"model": r.model, "seed": r.seed, "sha256": r.sha256, **r.settings}) for r in (begun, card))
    differing = [f"{key} was {before.get(key)}, is {now.get(key)}" for key in sorted({*before, *now})
                 if before.get(key) != now.get(key)]  # fmt: skip
    if differing:
        raise DataError(
            f"{out} holds an unfinished run that was begun otherwise: {'; '.join(differing)}. "
            "Fix: the same arguments with --resume, or another --out."
        )


def _flat(values: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for key, value in values.items():
        flat |= _flat(value, f"{prefix}{key}.") if isinstance(value, Mapping) else {f"{prefix}{key}": value}
    return flat


def _leave_nothing(out: Path) -> None:
    """Remove the folder of a run that failed before it had anything to keep."""
    if [path.name for path in out.iterdir()] == [BEGUN]:
        (out / BEGUN).unlink()
        out.rmdir()


def _remove_with_empty_parents(folder: Path, top: Path) -> None:
    shutil.rmtree(folder)
    while folder.parent != top and not any(folder.parent.iterdir()):
        folder = folder.parent
        folder.rmdir()

"""Score a finished run again: on its own held-out test cells, or on all cells of other data."""

from __future__ import annotations

from pathlib import Path

from heteromics.errors import DataError
from heteromics.workflows.matching import evaluate_matching
from heteromics.workflows.prediction import evaluate_prediction
from heteromics.workflows.results import Scores
from heteromics.workflows.run import Run


def evaluate(run: Path | str, *, data: Path | str | None = None) -> Scores:
    """Score the model of a run.

    Parameters
    ----------
    run
        Folder that :func:`heteromics.workflows.train.train` wrote.
    data
        Other data, with the features the model was trained on: every cell is scored. None: the run's own test cells.

    Returns
    -------
    Scores

    Raises
    ------
    DataError
        When the folder holds no finished run, or the data it would read again is gone or has changed. A run of
        bi2former keeps its graph and reads none.
    FeaturesDiffer
        When other data has other features.
    """
    folder, other = Path(run), None if data is None else Path(data)
    card = Run.read(folder)
    if other is not None and not other.is_file():
        raise DataError(f"--data {other}: no such file.")
    work = evaluate_prediction if card.model == "scmognn" else evaluate_matching
    return work(card, folder, other)

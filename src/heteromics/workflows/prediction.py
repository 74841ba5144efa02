"""Modality prediction from a file to a finished run."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from heteromics import _config
from heteromics._files import write_json
from heteromics.data.splits import TEST, TRAIN, VALIDATION, split_cells
from heteromics.errors import DataError, MissingLayer, some
from heteromics.models._io import check_features
from heteromics.models.baselines import as_dense
from heteromics.workflows.results import Scores
from heteromics.workflows.run import Run
from heteromics.workflows.settings import PredictionData, PredictionSettings, SplitSettings

if TYPE_CHECKING:
    from anndata import AnnData

    from heteromics.tasks.prediction import PredictionResult

PARTS = {"train": TRAIN, "validation": VALIDATION, "test": TEST}


@dataclass(frozen=True, slots=True)
class PredictionInput:
    """Paired and transformed modalities: the same cells in the same order."""

    rna: AnnData
    target: AnnData
    notes: dict[str, Any]


def read_pair(path: Path | str, settings: PredictionData) -> PredictionInput:
    """Read input and target of one file, keep the cells that have both, and transform counts.

    Input counts are scaled to 10,000 per cell, then log1p (scanpy); target counts are log1p-transformed.

    Raises
    ------
    DataError
        When no cell has both modalities.
    """
    from heteromics.data.readers import read
    from heteromics.data.transforms import transform

    rna = read(path, modality=settings.modality, layer=settings.layer, expect=settings.values)
    target = read(path, modality=settings.target, layer=settings.target_layer, expect=settings.target_values)
    both = rna.obs_names.intersection(target.obs_names, sort=False)
    if both.empty:
        raise DataError(
            f"{path}: none of {rna.n_obs:,} cells with {settings.modality} ({some(rna.obs_names)}) is among the "
            f"{target.n_obs:,} cells with {settings.target} ({some(target.obs_names)}). Fix: name cells alike in both."
        )
    notes = {
        "paired cells": len(both),
        f"cells with {settings.modality} only": rna.n_obs - len(both),
        f"cells with {settings.target} only": target.n_obs - len(both),
    }
    rna = transform(rna[both], "log1p_cp10k" if settings.values == "counts" else "none")
    target = transform(target[both], "log1p" if settings.target_values == "counts" else "none")
    _name_batches(rna, settings.batch)
    return PredictionInput(rna, target, notes)


def _name_batches(data: AnnData, column: str | None) -> None:
    """Keep the batch column under the name the graph looks for, or none."""
    if column is None:
        data.obs = data.obs.drop(columns="batch", errors="ignore")
    elif column in data.obs:
        data.obs["batch"] = data.obs[column].astype(str).to_numpy()
    elif column != "batch":
        raise MissingLayer(f"data.batch: found no column '{column}' in obs. Columns: {some(data.obs.columns, 12)}.")


def split_codes(data: AnnData, settings: SplitSettings, seed: int) -> NDArray[np.int8]:
    """Return 0, 1 or 2 for training, validation and test per cell, drawn or read from a column of ``obs``.

    Raises
    ------
    MissingLayer
        When a column that was asked for is not there.
    DataError
        When the split column holds other words than ``train``, ``validation`` and ``test``.
    """
    for column in (settings.column, settings.group_column):
        if column is not None and column not in data.obs:
            raise MissingLayer(f"split: found no column '{column}' in obs. Columns: {some(data.obs.columns, 12)}.")
    if settings.column is not None:
        words = data.obs[settings.column].astype(str).to_numpy()
        unknown = sorted(set(words) - set(PARTS))
        if unknown:
            raise DataError(
                f"split column '{settings.column}': found {some(unknown)}, expected train, validation, test."
            )
        return np.asarray([PARTS[word] for word in words], dtype=np.int8)
    shares = (1 - settings.validation_share - settings.test_share, settings.validation_share, settings.test_share)
    groups = None if settings.group_column is None else data.obs[settings.group_column].astype(str).to_numpy()
    return split_cells(data.obs_names.to_numpy(str), shares=shares, seed=seed, groups=groups)


def train_prediction(
    path: Path, settings: PredictionSettings, out: Path, db: Path | None, *, seed: int, device: str, resume: bool
) -> Scores:
    """Train scMoGNN on a file, score it beside its baselines on test cells, and write the run's files to ``out``."""
    pair = read_pair(path, settings.data)
    codes = split_codes(pair.rna, settings.split, seed)
    result = fit_prediction(pair, codes, settings, db, folder=out, seed=seed, device=device, resume=resume)
    write_prediction(out, pair.target, codes, result)
    counts = {f"{word} cells": int((codes == code).sum()) for word, code in PARTS.items()}
    return Scores(result.metrics, notes={**pair.notes, **counts, "epochs": len(result.model.history)})


def fit_prediction(
    pair: PredictionInput,
    codes: NDArray[np.int8],
    settings: PredictionSettings,
    db: Path | None,
    *,
    folder: Path | None,
    seed: int,
    device: str,
    resume: bool = False,
) -> PredictionResult:
    """Fit scMoGNN and the baselines as the settings say; pathways come from the store or from a GMT file."""
    from heteromics.tasks.prediction import predict_modality

    options: dict[str, Any] = {
        "config": settings.model,
        "max_epochs": settings.fit.max_epochs,
        "seed": seed,
        "device": device,
        "folder": folder,
        "resume": resume,
    }
    if db is not None:
        from heteromics.priors import PriorStore

        with PriorStore.open(db) as store:
            return predict_modality(pair.rna, pair.target, codes, pathways=store, **options)
    pathways = None
    if settings.data.gmt is not None:
        from heteromics.priors.pathways import read_gmt

        if not settings.data.gmt.is_file():
            raise DataError(f"--set data.gmt={settings.data.gmt}: no such file.")
        pathways = read_gmt(settings.data.gmt)
    return predict_modality(pair.rna, pair.target, codes, pathways=pathways, **options)


def write_prediction(out: Path, target: AnnData, codes: NDArray[np.int8], result: PredictionResult) -> None:
    """Write model, split, measured and predicted values of test cells, metrics per model and feature, and history."""
    import pandas as pd

    result.model.save(out / "model")
    words = {int(code): word for word, code in PARTS.items()}
    pd.DataFrame({"cell": target.obs_names.to_numpy(str), "split": [words[int(code)] for code in codes]}).to_parquet(
        out / "split.parquet"
    )
    test = target[codes == TEST]
    measured = pd.DataFrame(as_dense(test), index=test.obs_names, columns=list(map(str, test.var_names)))
    measured.to_parquet(out / "measured.parquet")
    for name, table in result.predictions.items():
        table.to_parquet(out / f"predictions_{name.lower()}.parquet")
    result.features.to_parquet(out / "features.parquet")
    write_json(out / "metrics.json", result.metrics.to_dict("records"))
    write_json(out / "history.json", result.model.history)


def evaluate_prediction(run: Run, folder: Path, data: Path | None) -> Scores:
    """Score the saved model of a run on its own test cells, or on every cell of other data.

    Cells of other data are a graph of their own: the inductive setting.
    """
    from heteromics.graphs import cell_feature
    from heteromics.models.scmognn import ScMoGNN
    from heteromics.tasks.prediction import score

    settings = _config.build(PredictionSettings, run.settings, f"{folder}/run.json")
    pair = read_pair(data or run.checked_data(), settings.data)
    model = ScMoGNN.load(folder / "model")
    for role, adata in (("feature", pair.rna), ("target", pair.target)):
        check_features({role: sorted(model.features[role])}, {role: sorted(map(str, adata.var_names))}, "ScMoGNN")
    rna, target = pair.rna[:, list(model.features["feature"])], pair.target[:, list(model.features["target"])]
    cells = rna.obs_names.to_numpy(str)
    chosen = cells if data is not None else read_split(folder, cells, "test")
    predicted = model.predict(cell_feature(rna), list(chosen), device=run.place)
    truth = as_dense(target[chosen])
    metrics, _ = score({"ScMoGNN": predicted.to_numpy()}, truth, list(predicted.columns))
    where = "held-out test cells" if data is None else f"all {len(chosen):,} cells of {data}"
    return Scores(
        metrics.assign(split="test" if data is None else "other data"), where, {**pair.notes, "cells": len(chosen)}
    )


def read_split(folder: Path, cells: NDArray[np.str_], part: str) -> NDArray[np.str_]:
    """Return the cells of one part of a run's split, in the order of ``cells``.

    Raises
    ------
    DataError
        When the data no longer holds them all.
    """
    import pandas as pd

    table = pd.read_parquet(folder / "split.parquet")
    wanted = table.loc[table["split"] == part, "cell"].to_numpy(str)
    chosen = cells[np.isin(cells, wanted)]
    if chosen.size != wanted.size:
        raise DataError(
            f"{folder}: {wanted.size - chosen.size:,} of {wanted.size:,} {part} cells of the run are not in the data. "
            "Fix: evaluate on the file the run was trained on."
        )
    return chosen

"""Predicting one modality from another: scMoGNN beside the baselines, scored on held-out test cells alone."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from heteromics.data.splits import TEST, TRAIN, VALIDATION
from heteromics.errors import DataError, some
from heteromics.models.baselines import FeatureMean, SVDRidge, as_csr, as_dense
from heteromics.models.scmognn import ScMoGNN, ScMoGNNConfig
from heteromics.tasks.metrics import regression_scores, regression_table

if TYPE_CHECKING:
    from anndata import AnnData
    from pandas import DataFrame


@dataclass(frozen=True, slots=True)
class PredictionResult:
    """What a prediction run gives.

    Attributes
    ----------
    metrics
        One row per model and metric: ``model, split, metric, value``; split is ``"test"`` throughout.
    features
        One row per model and target: ``model, feature, rmse, mae, pearson``.
    predictions
        By model, test cells x targets.
    model
        The fitted scMoGNN.
    ridge
        Components and penalty chosen for the linear baseline.
    """

    metrics: DataFrame
    features: DataFrame
    predictions: dict[str, DataFrame]
    model: ScMoGNN
    ridge: dict[str, float]


def predict_modality(
    rna: AnnData,
    target: AnnData,
    split: ArrayLike,
    *,
    config: ScMoGNNConfig | None = None,
    pathways: Any = None,
    threshold: float = 0.1,
    inductive: bool = False,
    max_epochs: int | None = None,
    seed: int = 0,
    device: str = "auto",
    folder: Path | str | None = None,
    resume: bool = False,
    progress: bool = True,
) -> PredictionResult:
    """Fit scMoGNN, truncated SVD + ridge and the per-feature mean, and score them on the test cells.

    Nothing of a test cell's target is seen before scoring: every model is fitted on training cells, the stopping epoch
    of scMoGNN and the parameters of the ridge are chosen on validation cells. Once chosen, the two baselines are fitted
    on training and validation cells together, which favours them.

    Parameters
    ----------
    rna
        Input, cells x features, normalised values (the edge weights) in ``X``; ``obs["batch"]`` where there is one.
    target
        The same cells in the same order x values to predict.
    split
        One code per cell: 0 training, 1 validation, 2 test (:mod:`heteromics.data.splits`), shape (cells,).
    config
        Of scMoGNN.
    pathways, threshold
        Gene-pathway pairs or a prior store, and the smallest cosine of an edge; see
        :func:`heteromics.graphs.cell_feature`.
    inductive
        False: test cells are in the training graph with their features (the paper's setting). True: the model is
        trained on a graph without them and predicts on one that holds all cells.
    max_epochs, seed, device, folder, resume, progress
        As in :meth:`heteromics.models.scmognn.ScMoGNN.fit`; the ridge's SVD takes the seed too.

    Returns
    -------
    PredictionResult

    Raises
    ------
    DataError
        When the cells of the two modalities differ, or a split is empty.

    Examples
    --------
    >>> from anndata import AnnData
    >>> from scipy import sparse
    >>> rna = AnnData(sparse.csr_matrix(np.random.default_rng(0).poisson(2.0, (40, 12)).astype(np.float32)))
    >>> protein = AnnData(rna.X[:, :2].toarray() + 1)
    >>> split = np.repeat([0, 1, 2], [24, 8, 8])
    >>> small = ScMoGNNConfig(width=8, layers=1, max_epochs=3)
    >>> result = predict_modality(rna, protein, split, config=small, device="cpu", progress=False)
    >>> result.metrics["model"].unique().tolist(), result.predictions["ScMoGNN"].shape
    (['ScMoGNN', 'SVDRidge', 'FeatureMean'], (8, 2))
    """
    import pandas as pd

    from heteromics.graphs import cell_feature

    codes = _checked_split(rna, target, split)
    names = np.asarray(rna.obs_names, dtype=str)
    seen, test = codes != TEST, codes == TEST
    config = config or ScMoGNNConfig()
    options = {"pathways": pathways, "threshold": threshold}
    whole = cell_feature(rna, training_cells=names[codes == TRAIN], **options)
    graph = cell_feature(rna[seen], training_cells=names[codes == TRAIN], **options) if inductive else whole
    model = ScMoGNN(graph, config=config).fit(
        target[seen],
        validation=names[codes == VALIDATION],
        max_epochs=max_epochs,
        seed=seed,
        device=device,
        folder=folder,
        resume=resume,
        progress=progress,
    )
    known, labels, unseen = as_csr(rna)[seen], as_dense(target[seen]), as_csr(rna)[test]
    ridge = SVDRidge.choose(known, labels, codes[seen] == VALIDATION, non_negative=config.non_negative, seed=seed)
    arrays = {
        "ScMoGNN": model.predict(whole, names[test], device=device).to_numpy(),
        "SVDRidge": ridge.predict(unseen),
        "FeatureMean": FeatureMean().fit(known, labels).predict(unseen),
    }
    columns = list(map(str, target.var_names))
    metrics, features = score(arrays, as_dense(target[test]), columns)
    tables = {name: pd.DataFrame(array, index=names[test], columns=columns) for name, array in arrays.items()}
    return PredictionResult(
        metrics, features, tables, model, {"n_components": ridge.n_components, "alpha": ridge.alpha}
    )


def score(
    predictions: Mapping[str, ArrayLike], truth: ArrayLike, names: Sequence[str], split: str = "test"
) -> tuple[DataFrame, DataFrame]:
    """Score several models on the same cells.

    Parameters
    ----------
    predictions
        By model, cells x targets.
    truth
        cells x targets.
    names
        Of the targets.
    split
        What to call the cells.

    Returns
    -------
    metrics, features
        Tidy tables as in :class:`PredictionResult`.

    Examples
    --------
    >>> metrics, _ = score({"mean": [[2.0], [2.0]]}, [[1.0], [3.0]], ["CD3"])
    >>> metrics.to_numpy().tolist()
    [['mean', 'test', 'rmse', 1.0], ['mean', 'test', 'mae', 1.0], ['mean', 'test', 'pearson', 0.0]]
    """
    import pandas as pd

    rows = [
        (model, split, metric, value)
        for model, predicted in predictions.items()
        for metric, value in regression_scores(predicted, truth).items()
    ]
    tables = []
    for model, predicted in predictions.items():
        table = regression_table(predicted, truth, names)
        table.insert(0, "model", model)
        tables.append(table)
    return pd.DataFrame(rows, columns=["model", "split", "metric", "value"]), pd.concat(tables, ignore_index=True)


def _checked_split(rna: AnnData, target: AnnData, split: ArrayLike) -> NDArray[np.int64]:
    left, right = list(map(str, rna.obs_names)), list(map(str, target.obs_names))
    if left != right:
        only = sorted(set(left) ^ set(right))
        raise DataError(
            f"found {len(left)} cells of input and {len(right)} of target, {len(only)} in one of them only "
            f"({some(only) or 'the order differs'}). Fix: index both with the cells they share, in one order."
        )
    codes = np.asarray(split, dtype=np.int64).ravel()
    counts = [int((codes == code).sum()) for code in (TRAIN, VALIDATION, TEST)]
    if codes.size != len(left) or sum(counts) != codes.size or not all(counts):
        raise DataError(
            f"split: found {codes.size} codes for {len(left)} cells, {counts[0]} training (0), "
            f"{counts[1]} validation (1), {counts[2]} test (2). Expected one code per cell and each of the three."
        )
    return codes

"""Cross-modal matching: do an RNA and an ATAC profile come from the same cell? Pairs, splits and an honest protocol.

The paper draws one set of pairs, negatives of other cell types, and splits the *pairs* (Bi2Former, public code): the
RNA of a cell can be in a positive pair for training and in a negative one for testing, and telling cell types apart is
enough. Here cells are split before pairs are drawn, hard negatives of the same type are always scored too, and two
controls stand beside the model: a classifier that sees cell types alone, and sequencing depth alone, since a rich cell
is often rich in both modalities. The published protocol can be run beside it, ``run_matching(protocol="pairs")``.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from numpy.typing import ArrayLike, NDArray

from heteromics.errors import DataError, ModelError
from heteromics.models._pair_model import PairModel
from heteromics.models._training import LAST_CHECKPOINT
from heteromics.models.bi2former import Bi2FormerConfig
from heteromics.tasks._paired import batches_of, counts, paired_rows
from heteromics.tasks.matching_models import (
    DEFAULT,
    Contender,
    Scorer,
    contenders,
    depth_scores,
    fit_contender,
    fit_control,
)
from heteromics.tasks.matching_scores import Scale, reliability_table, score
from heteromics.tasks.matching_splits import LEAKING, Cells, Sets, split_by_cell, split_by_pair
from heteromics.tasks.pairs import Negatives, labelled, make_pairs

if TYPE_CHECKING:
    from pandas import DataFrame

    from heteromics.graphs import HeteroGraph

__all__ = [
    "LEAKING",
    "Contender",
    "MatchingResult",
    "Scale",
    "counts",
    "depth_scores",
    "fit_control",
    "make_pairs",
    "paired_rows",
    "run_matching",
    "score",
]


@dataclass(frozen=True, slots=True)
class MatchingResult:
    """What a matching run gives.

    Attributes
    ----------
    metrics
        One row per model, kind of test negatives and metric: ``model, split, negatives, metric, value``. ``split`` is
        ``"test"``, or with ``protocol="pairs"`` says that cells leak. ``auroc`` and ``auprc`` are of the scores.
        ``accuracy`` (at 0.5), ``brier`` and ``ece``, the expected calibration error, are of probabilities that were
        scaled on validation pairs, alike for models and controls. ``accuracy_raw, brier_raw, ece_raw`` are of a model's
        own probabilities, unscaled: the paper's accuracy is of that kind. ``prevalence`` is the share of positives.
    reliability
        Per model, kind of test negatives and bin of scaled probability: ``model, split, negatives, lower, upper, n,
        predicted, observed``; see :func:`heteromics.tasks.reliability`.
    pairs
        One row per scored pair: ``negatives, rna_cell, atac_cell, label`` and a column of scores per model.
    models
        The fitted models of pairs by name, in the order asked for; controls are not among them.
    scales
        By model and control, the :class:`Scale` that turns its scores into probabilities.
    seconds
        Time to fit, by model.
    unlabelled
        Number of paired cells without a cell type, which are in no easy or hard pair.
    """

    metrics: DataFrame
    reliability: DataFrame
    pairs: DataFrame
    models: dict[str, PairModel]
    scales: dict[str, Scale]
    seconds: dict[str, float]
    unlabelled: int

    @property
    def model(self) -> Any:
        """The first model of pairs: the fitted Bi2Former, unless other models were asked for.

        Raises
        ------
        ModelError
            When controls alone were run.
        """
        if not self.models:
            raise ModelError(f"only controls were run ({', '.join(self.scales)}), which are not kept.")
        return next(iter(self.models.values()))


def run_matching(
    graph: HeteroGraph,
    split: ArrayLike | None = None,
    *,
    models: Iterable[str | Contender] = DEFAULT,
    protocol: Literal["cells", "pairs"] = "cells",
    cells: ArrayLike | None = None,
    config: Bi2FormerConfig | None = None,
    negatives: Negatives = "random",
    test_negatives: tuple[Negatives, ...] | None = None,
    within: Literal["batch"] | None = None,
    ratio: float = 1.0,
    redraw: bool = True,
    max_epochs: int | None = None,
    seed: int = 0,
    device: str = "auto",
    folder: Path | str | None = None,
    resume: bool = False,
    progress: bool = True,
) -> MatchingResult:
    """Fit models of pairs and controls on the same training pairs and score all on the same pairs of test cells.

    Parameters
    ----------
    graph
        From :func:`heteromics.graphs.bipartite`, with cell types; its attributes should be those of training cells, see
        :func:`heteromics.tasks.with_training_cells`. Cells count as paired by name.
    split
        One code per cell: 0 training, 1 validation, 2 test, -1 left out, as from :func:`heteromics.tasks.split_paired`
        by cell, by batch or by cell type. None with ``protocol="pairs"``.
    models
        Names of models and controls, or a :class:`~heteromics.tasks.Contender` with a configuration of its own.
    protocol
        ``"cells"``: cells are split, then paired within each part. ``"pairs"``, as published and for comparison with
        the paper only: all cells are paired once and the pairs are split by :func:`split_pairs`, so that the cells of
        test pairs are known from training; ``metrics`` say so. The paper's pairs have ``negatives="easy"``.
    cells
        Rows of the RNA and ATAC profiles that the codes belong to, shape (n, 2), some of ``paired_rows(graph)``; None
        takes all of those, in their order.
    config
        Of Bi2Former. The default is made for reading links; with thousands of training cells
        ``Bi2FormerConfig.for_matching()`` tells cells apart better.
    negatives
        Kind of training and validation negatives.
    test_negatives
        Kinds to score, default easy and hard. With ``protocol="pairs"`` they are those of ``negatives``.
    within
        ``"batch"``: negatives of every part are of one batch of the graph, so that none is told by its batch.
    ratio
        Negatives per positive, in training, validation and test.
    redraw
        Draw training negatives anew in every epoch. Never with ``protocol="pairs"``.
    max_epochs, seed, device, progress
        As in :meth:`heteromics.models.bi2former.Bi2Former.fit`, for every model of pairs.
    folder, resume
        As there; where there are several models of pairs, each has a folder of its name below, and those without a
        checkpoint begin anew.

    Returns
    -------
    MatchingResult

    Raises
    ------
    DataError
        When a split is empty, the graph has no cell types, batches or paired cells, no cell of a part has a type and
        easy or hard pairs are asked for, a cell would be in two splits, or arguments do not go with the protocol.
    ModelError
        For an unknown model, or two of one name.
    """
    asked = contenders(models, config)
    rows, types = paired_rows(graph)
    chosen = Cells(rows, types, batches_of(graph, rows) if within == "batch" else None)
    if cells is not None:
        chosen = chosen.among(cells)
    if protocol == "cells" and split is not None:
        kinds = ("easy", "hard") if test_negatives is None else test_negatives
        sets = split_by_cell(split, chosen, negatives, kinds, ratio, redraw=redraw, seed=seed)
    elif protocol == "pairs" and split is None and test_negatives is None:
        sets = split_by_pair(chosen, negatives, ratio, seed=seed)
    else:
        raise DataError(
            f"found protocol={protocol!r} with split {'not ' * (split is None)}given and "
            f"test_negatives={test_negatives}; expected 'cells' with one code per cell, or 'pairs' with neither."
        )
    places = _places(asked, folder)
    fitted: dict[str, PairModel] = {}
    scorers: dict[str, Scorer] = {}
    seconds: dict[str, float] = {}
    for each in asked:
        place = places.get(each.name)
        go_on = resume and (len(places) == 1 or (place is not None and (place / LAST_CHECKPOINT).is_file()))
        began = time.perf_counter()
        model, scorers[each.name] = fit_contender(
            each,
            graph,
            sets,
            max_epochs=max_epochs,
            seed=seed,
            device=device,
            folder=place,
            resume=go_on,
            progress=progress,
        )
        seconds[each.name] = time.perf_counter() - began
        if model is not None:
            fitted[each.name] = model
    scales = _scaled(sets, scorers, asked)
    scored = _scored(graph, sets, scorers)
    metrics, table = score(scored, scales, sets.split), reliability_table(scored, scales, sets.split)
    return MatchingResult(metrics, table, scored, fitted, scales, seconds, int((~labelled(types)).sum()))


def _places(asked: list[Contender], folder: Path | str | None) -> dict[str, Path | None]:
    """Folder of each model of pairs: the one given, or one below it for each of several."""
    names = [each.name for each in asked if not each.is_control]
    if folder is None:
        return dict.fromkeys(names)
    if len(names) == 1:
        return {names[0]: Path(folder)}
    return {name: Path(folder) / re.sub(r"\W+", "_", name.lower()) for name in names}


def _scaled(sets: Sets, scorers: Mapping[str, Scorer], asked: Iterable[Contender]) -> dict[str, Scale]:
    """Fit the scale of every contender on the validation pairs."""
    pairs, truth = sets.validation
    return {each.name: Scale.fit(truth, scorers[each.name](pairs), each.scores) for each in asked}


def _scored(graph: HeteroGraph, sets: Sets, scorers: Mapping[str, Callable[..., NDArray[Any]]]) -> DataFrame:
    """Score all test pairs."""
    import pandas as pd

    tables = []
    for kind, (pairs, labels) in sets.tests.items():
        table: dict[str, Any] = {"negatives": kind, "rna_cell": graph.names["rna_cell"][pairs[:, 0]]}
        table |= {"atac_cell": graph.names["atac_cell"][pairs[:, 1]], "label": labels}
        tables.append(pd.DataFrame(table | {name: scorer(pairs) for name, scorer in scorers.items()}))
    return pd.concat(tables, ignore_index=True)

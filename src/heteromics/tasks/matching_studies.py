"""Studies of matching: protocols repeated over seeds, few cells, types never seen, switches of the model turned off.

Each returns a tidy table, one row per run, kind of test negatives and metric: ``model, split, negatives, metric,
value``, before them the labels of the study and ``seed``, behind them ``seconds, epochs, peak_mb, code`` (see
:func:`heteromics.tasks.read_runs`). With a folder every finished run is kept there and read back the next time; see
:mod:`heteromics.tasks.matching_runs`. Models see identical pairs: those of a seed are drawn alike for all. Attributes
of genes and peaks are made of the training cells of each run.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from heteromics.data.splits import TRAIN, few_cells
from heteromics.errors import DataError, some
from heteromics.models._bi2former_config import Part
from heteromics.models.bi2former import Bi2FormerConfig
from heteromics.tasks._paired import LEFT_OUT, paired_rows, split_paired
from heteromics.tasks.matching_models import DEFAULT, Contender, contenders
from heteromics.tasks.matching_runs import Planned, run_all
from heteromics.tasks.pairs import NEGATIVES, Negatives, labelled

if TYPE_CHECKING:
    from pandas import DataFrame

    from heteromics.graphs import HeteroGraph

Models = Iterable[str | Contender]


@dataclass(frozen=True, slots=True)
class Protocol:
    """How cells are split and paired.

    Attributes
    ----------
    split
        ``"pairs"`` as published, cells leak and attributes are made of all cells; ``"cell"``; ``"batch"`` or
        ``"cell_type"``, whole ones held out.
    negatives
        Of training and validation pairs.
    test_negatives
        Kinds to score; those of ``negatives`` with ``"pairs"``.
    within
        ``"batch"``: all negatives are of one batch.
    shares
        Of training, validation and test, of pairs or of cells; those of the paper.
    redraw
        Draw training negatives anew in every epoch; never with ``"pairs"``. A protocol to be compared with that one
        does without, or it sees many times the negatives.
    """

    split: Literal["pairs", "cell", "batch", "cell_type"] = "cell"
    negatives: Negatives = "random"
    test_negatives: tuple[Negatives, ...] = NEGATIVES
    within: Literal["batch"] | None = None
    shares: tuple[float, float, float] = (0.8, 0.1, 0.1)
    redraw: bool = True

    def __post_init__(self) -> None:
        if self.split == "pairs" and self.shares != (0.8, 0.1, 0.1):
            raise DataError(f"split='pairs' is 0.8, 0.1, 0.1 as published, found {self.shares}.")

    def options(self, seed: int, max_epochs: int | None) -> dict[str, Any]:
        """Return the options of :func:`heteromics.tasks.run_matching`."""
        kinds = {} if self.split == "pairs" else {"test_negatives": self.test_negatives, "redraw": self.redraw}
        return {
            "protocol": "pairs" if self.split == "pairs" else "cells",
            "negatives": self.negatives,
            "within": self.within,
            "max_epochs": max_epochs,
            "seed": seed,
            **kinds,
        }


def repeat_matching(
    graph: HeteroGraph,
    protocols: Mapping[str, Protocol],
    *,
    models: Models = DEFAULT,
    seeds: Sequence[int] = range(5),
    max_epochs: int | None = None,
    device: str = "auto",
    folder: Path | str | None = None,
    progress: bool = True,
) -> DataFrame:
    """Run models under several protocols, with a new split, new pairs and new weights for every seed.

    Parameters
    ----------
    graph
        From :func:`heteromics.graphs.bipartite`, attributes made of all cells (as published; made anew where cells are
        split).
    protocols
        By name.
    models, max_epochs, device
        See :func:`heteromics.tasks.run_matching`.
    seeds
        Of splits, pairs and weights.
    folder
        Keeps finished runs; None keeps none.
    progress
        Show a bar over the runs and a line for each that is done.

    Returns
    -------
    DataFrame
        ``protocol, seed`` before the columns of every study.

    Raises
    ------
    DataError, ModelError
        As :func:`heteromics.tasks.run_matching`.
    """
    planned = []
    asked = contenders(models)
    for seed in seeds:
        for name, protocol in protocols.items():
            codes = _split(graph, protocol, seed)
            options = protocol.options(seed, max_epochs)
            planned += [Planned({"protocol": name, "seed": seed}, each, codes, options) for each in asked]
    return run_all(graph, planned, device=device, folder=folder, progress=progress)


def few_shot(
    graph: HeteroGraph,
    split: ArrayLike,
    *,
    shares: Sequence[float] = (0.01, 0.03, 0.1, 0.3, 1.0),
    models: Models = DEFAULT,
    seeds: Sequence[int] = range(5),
    negatives: Negatives = "random",
    test_negatives: tuple[Negatives, ...] = NEGATIVES,
    max_epochs: int | None = None,
    device: str = "auto",
    folder: Path | str | None = None,
    progress: bool = True,
) -> DataFrame:
    """Train on a share of the training cells, smaller shares within larger ones, and test on the same test cells.

    Parameters
    ----------
    graph, models, max_epochs, device, folder, progress
        As in :func:`repeat_matching`.
    split
        One code per paired cell, as in :func:`heteromics.tasks.run_matching`; validation and test cells stay.
    shares
        Of the training cells, above 0 and at most 1.
    seeds
        Of the cells taken (:func:`heteromics.data.few_cells`), of pairs and of weights. The split stays, so that the
        spread over seeds has no part of another choice of test cells.
    negatives, test_negatives
        Kinds in training and in the test.

    Returns
    -------
    DataFrame
        ``share, n_cells, seed`` before the columns of every study; ``n_cells`` counts training cells.

    Raises
    ------
    DataError
        For shares outside (0, 1], or so few cells that there is no such pair.
    """
    codes = np.asarray(split, dtype=np.int8).ravel()
    training = codes == TRAIN
    if not all(0 < share <= 1 for share in shares):
        raise DataError(f"shares: found {', '.join(map(str, shares))}, expected each above 0 and at most 1.")
    names = graph.names["rna_cell"][paired_rows(graph)[0][:, 0]]
    if codes.size != names.size:
        raise DataError(f"split: found {codes.size} codes for {names.size} paired cells, expected one per cell.")
    asked = contenders(models)
    protocol = Protocol(negatives=negatives, test_negatives=test_negatives)
    planned = []
    for seed in seeds:
        for share in shares:
            number = max(round(share * int(training.sum())), 2)
            chosen = few_cells(names, number, among=training, seed=seed)
            kept = np.where(training & ~chosen, LEFT_OUT, codes)
            labels = {"share": float(share), "n_cells": number, "seed": seed}
            planned += [Planned(labels, each, kept, protocol.options(seed, max_epochs)) for each in asked]
    return run_all(graph, planned, device=device, folder=folder, progress=progress, what="few-shot")


def across_types(
    graph: HeteroGraph,
    *,
    held_out: Mapping[str, Sequence[str]] | None = None,
    models: Models = DEFAULT,
    seeds: Sequence[int] = range(5),
    negatives: Negatives = "random",
    test_negatives: tuple[Negatives, ...] = NEGATIVES,
    validation: float = 0.1,
    max_epochs: int | None = None,
    device: str = "auto",
    folder: Path | str | None = None,
    progress: bool = True,
) -> DataFrame:
    """Test on cell types that no training or validation cell is of.

    Parameters
    ----------
    graph, models, max_epochs, device, folder, progress
        As in :func:`repeat_matching`.
    held_out
        Types to test on, by a name for the group; two or more each where easy negatives are scored. None: the groups
        of :func:`type_groups`. The paper does not say which types it held out.
    seeds
        Of validation cells, pairs and weights; the groups stay.
    negatives, test_negatives
        Kinds in training and in the test.
    validation
        Share of the cells of the other types.

    Returns
    -------
    DataFrame
        ``held_out, types, seed`` before the columns of every study.

    Raises
    ------
    DataError
        For an unknown type, or too few types.
    """
    groups = type_groups(paired_rows(graph)[1]) if held_out is None else held_out
    asked = contenders(models)
    protocol = Protocol(negatives=negatives, test_negatives=test_negatives)
    planned = []
    for seed in seeds:
        for name, types in groups.items():
            codes = split_paired(
                graph, "cell_type", test=list(types), shares=(1 - validation, validation, 0.0), seed=seed
            )
            labels: dict[str, str | int] = {"held_out": name, "types": ", ".join(types), "seed": seed}
            planned += [Planned(labels, each, codes, protocol.options(seed, max_epochs)) for each in asked]
    return run_all(graph, planned, device=device, folder=folder, progress=progress, what="across types")


def type_groups(types: ArrayLike, number: int = 4) -> dict[str, list[str]]:
    """Deal cell types, by falling size, to groups of nearly as many types each, back and forth so that sizes are alike.

    Raises
    ------
    DataError
        When there are fewer than two types per group, or fewer than two groups.

    Examples
    --------
    >>> type_groups(["a"] * 5 + ["b"] * 4 + ["c"] * 3 + ["d"] * 2, number=2)
    {'group 1': ['a', 'd'], 'group 2': ['b', 'c']}
    """
    given: NDArray[Any] = np.asarray(types)
    names, size = np.unique(given[labelled(given)], return_counts=True)
    if number < 2 or names.size < 2 * number:
        raise DataError(
            f"found {names.size} cell types ({some(names)}) for {number} groups, expected two or more groups of two "
            "types or more. Fix: fewer groups, or held_out=..."
        )
    turns = [*range(number), *reversed(range(number))]
    groups: dict[str, list[str]] = {f"group {place + 1}": [] for place in range(number)}
    for rank, place in enumerate(np.argsort(-size, kind="stable")):
        groups[f"group {turns[rank % (2 * number)] + 1}"].append(str(names[place]))
    return groups


def ablated(config: Bi2FormerConfig) -> dict[str, Bi2FormerConfig]:
    """Return the configuration and what the paper turns off in it, by name.

    ``"edges"`` lets genes and peaks of all chromosomes meet; ``"pruning"`` keeps all links, for weights of the public
    code by the paper's equation, as its softmax knows no unpruned form.

    Examples
    --------
    >>> list(ablated(Bi2FormerConfig()))
    ['none', 'ids', 'attributes', 'pruning', 'edges', 'attributes, pruning and edges']
    """
    off: dict[str, tuple[Part, ...]] = {
        "none": (),
        "ids": ("ids",),
        "attributes": ("attributes",),
        "pruning": ("pruning",),
        "edges": ("edges",),
        "attributes, pruning and edges": ("attributes", "pruning", "edges"),
    }
    return {name: config.without(*parts) for name, parts in off.items()}


def ablations(
    graph: HeteroGraph,
    protocols: Mapping[str, Protocol] | None = None,
    *,
    model: Contender | None = None,
    seeds: Sequence[int] = range(5),
    max_epochs: int | None = None,
    device: str = "auto",
    folder: Path | str | None = None,
    progress: bool = True,
) -> DataFrame:
    """Turn off what the paper turns off in Bi2Former: IDs, attributes, pruning, the edge mask, and the last three.

    Parameters
    ----------
    graph, seeds, max_epochs, device, folder, progress
        As in :func:`repeat_matching`.
    protocols
        By name; None: ``"cells, random"``, a split by cell and random negatives.
    model
        A Bi2Former with a configuration of its own; None: the default.

    Returns
    -------
    DataFrame
        ``protocol, ablation, seed`` before the columns of every study; ``lost``, the value without an ablation minus
        this one, same protocol, seed, pairs and negatives, behind ``value``.
    """
    whole = model or Contender("Bi2Former")
    planned = []
    for seed in seeds:
        for protocol, chosen in ({"cells, random": Protocol()} if protocols is None else protocols).items():
            codes = _split(graph, chosen, seed)
            options = chosen.options(seed, max_epochs)
            planned += [
                Planned(
                    {"protocol": protocol, "ablation": name, "seed": seed},
                    replace(whole, config=changed),
                    codes,
                    options,
                )
                for name, changed in ablated(whole.config or Bi2FormerConfig()).items()
            ]
    return with_lost(run_all(graph, planned, device=device, folder=folder, progress=progress, what="ablations"))


def _split(graph: HeteroGraph, protocol: Protocol, seed: int) -> NDArray[np.int8] | None:
    """Split cells as a protocol says; None where it splits pairs."""
    if protocol.split == "pairs":
        return None
    return split_paired(graph, protocol.split, shares=protocol.shares, seed=seed)


def with_lost(runs: DataFrame) -> DataFrame:
    """Add to runs of ablations what each lost against the same protocol, model, seed, negatives and metric without."""
    keys = ["protocol", "model", "seed", "negatives", "metric"]
    whole = runs[runs["ablation"] == "none"].set_index(keys)["value"]
    lost = whole.reindex(runs.set_index(keys).index).to_numpy() - runs["value"]
    table = runs.copy()
    table.insert(list(table.columns).index("value") + 1, "lost", lost)
    return table

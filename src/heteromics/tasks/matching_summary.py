"""Matching runs in one table: mean and spread over seeds, the paper's rows beside them, what a leak is worth."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from heteromics._config import read_yaml
from heteromics.errors import DataError, did_you_mean, some

if TYPE_CHECKING:
    from pandas import DataFrame

PAPER = Path(__file__).with_name("bi2former_paper.yaml")
COSTS = ("seconds", "epochs", "peak_mb")
NOT_LABELS = ("seed", "metric", "value", "lost", "code", *COSTS)
Study = Literal["matching", "across_types", "ablations"]


def paper_results(dataset: str, study: Study = "matching") -> DataFrame:
    """Return what the Bi2Former paper prints for a data set, as shares of one.

    Parameters
    ----------
    dataset
        ``"ISSAAC-seq"``, ``"10xPBMC"``, ``"SHARE-seq"``, ``"SNARE-seq"``, ``"10xMultiome"`` or ``"mean of five"``.
    study
        ``"matching"``: random split of pairs, easy negatives; ``"across_types"``; ``"ablations"`` (of the mean alone).

    Returns
    -------
    DataFrame
        ``model`` and what there is of ``accuracy, accuracy_sd, auroc, auroc_sd, ablation, lost, note``; no row where
        the paper has nothing.

    Raises
    ------
    DataError
        For a data set or study the paper does not have.

    Examples
    --------
    >>> paper_results("SNARE-seq")[["model", "accuracy", "auroc"]].round(4).to_dict("records")[0]
    {'model': 'Bi2Former', 'accuracy': 0.7356, 'auroc': 0.773}
    """
    import pandas as pd

    paper = read_yaml(PAPER)
    known = list(paper["matching"])
    if dataset not in known or study not in ("matching", "across_types", "ablations"):
        raise DataError(
            f"found data set '{dataset}' and study '{study}'. {did_you_mean(dataset, known)}The paper has "
            f"{', '.join(known)}; studies matching, across_types, ablations."
        )
    rows = pd.DataFrame(paper[study].get(dataset, []), columns=None)
    for name in rows.columns.difference(["model", "ablation", "note"]):
        rows[name] = rows[name].astype(float) / 100
    return rows


def summarise_runs(runs: DataFrame, paper: DataFrame | None = None, **labels: str) -> DataFrame:
    """Return mean and standard deviation over seeds, one row per model, setting and kind of test negatives.

    Parameters
    ----------
    runs
        From :func:`heteromics.tasks.repeat_matching` or a study.
    paper
        From :func:`paper_results`: its rows are put below, ``source`` says which are which.
    labels
        Columns of the paper's rows that say where they belong, such as ``protocol="pairs, easy"``.

    Returns
    -------
    DataFrame
        ``source`` (``"here"`` or ``"paper"``), the labels of the runs, ``model, split, negatives, seeds`` (how many),
        for every metric its mean under its own name and its standard deviation (n - 1) as ``<metric>_sd``, missing
        for a single seed; for ablations ``lost`` and ``lost_sd``, of ``accuracy_raw``; means of ``seconds, epochs,
        peak_mb``; and ``code``, the digests of the code that its runs were made with. The paper's accuracy is of a
        model's own probabilities at 0.5, or the larger of two, and so stands in ``accuracy_raw``.

    Raises
    ------
    DataError
        When a run stands in the table twice, or a label is no column of the runs.
    """
    import pandas as pd

    keys = [name for name in runs.columns if name not in NOT_LABELS]
    if (twice := runs.duplicated([*keys, "seed", "metric"])).any():
        raise DataError(
            f"{int(twice.sum())} of {len(runs)} rows are of runs that stand in the table twice. "
            "Fix: keep runs of other graphs, configurations or releases in another folder."
        )
    if unknown := sorted(set(labels) - set(keys)):
        raise DataError(f"labels: {some(unknown)} are no columns of the runs, which have {', '.join(keys)}.")
    wide = runs.groupby(keys, sort=False)["seed"].nunique().to_frame("seeds")
    for metric in runs["metric"].unique():
        of_metric = runs[runs["metric"] == metric].groupby(keys, sort=False)
        wide[metric], wide[f"{metric}_sd"] = of_metric["value"].mean(), of_metric["value"].std()
        if "lost" in runs and metric == "accuracy_raw":
            wide["lost"], wide["lost_sd"] = of_metric["lost"].mean(), of_metric["lost"].std()
    grouped = runs.groupby(keys, sort=False)
    for name in COSTS:
        if name in runs:
            wide[name] = grouped[name].mean()
    if "code" in runs:
        wide["code"] = grouped["code"].agg(lambda found: ", ".join(codes_of(found)))
    table = wide.reset_index().astype({"seeds": "Int64"})
    table.insert(0, "source", "here")
    if paper is None or paper.empty:
        return table
    own = {f"accuracy{end}": f"accuracy_raw{end}" for end in ("", "_sd")}
    beside = paper.rename(columns=own).assign(source="paper", **labels)
    return pd.concat([table, beside.dropna(axis=1, how="all")], ignore_index=True)


def codes_of(column: Iterable[str]) -> list[str]:
    """Return the digests of code in the column ``code`` of runs, each once; a run may have gone on with another code.

    Examples
    --------
    >>> codes_of(["4f", "4f+a1", "4f"])
    ['4f', 'a1']
    """
    return list(dict.fromkeys(code for codes in column for code in codes.split("+")))


def leak_worth(
    runs: DataFrame,
    *,
    leaking: str = "pairs, easy",
    honest: str = "cells, easy",
    metrics: Sequence[str] = ("accuracy", "auroc"),
) -> DataFrame:
    """Say what a score gains from cells known in training: by pair minus by cell, same model, seed and test negatives.

    Parameters
    ----------
    runs
        From :func:`heteromics.tasks.repeat_matching` with both protocols; where the second has ``redraw=False``, they
        differ in the split and in nothing else but that attributes are made of all cells in the first, as published.
    leaking, honest
        Names of the two protocols.
    metrics
        To compare. The two have not quite the same share of positives, which average precision depends on.

    Returns
    -------
    DataFrame
        ``model, negatives, metric, leaking, honest, gain, gain_sd, seeds``: means, the mean difference and its standard
        deviation over the seeds that both have.

    Raises
    ------
    DataError
        When a protocol is not among the runs, or they have no seed and negatives in common.
    """
    import pandas as pd

    keys = ["model", "negatives", "metric"]
    sides = []
    for name in (leaking, honest):
        part = runs[(runs["protocol"] == name) & runs["metric"].isin(metrics)]
        if part.empty:
            raise DataError(f"found no run of protocol '{name}'; there are {some(runs['protocol'].unique(), 12)}.")
        sides.append(part.set_index([*keys, "seed"])["value"])
    both = pd.concat(sides, axis=1, keys=["leaking", "honest"], join="inner").reset_index()
    if both.empty:
        raise DataError(f"'{leaking}' and '{honest}' have no model, seed and kind of negatives in common.")
    both["gain"] = both["leaking"] - both["honest"]
    grouped = both.groupby(keys, sort=False)
    table = grouped[["leaking", "honest", "gain"]].mean()
    table["gain_sd"], table["seeds"] = grouped["gain"].std(), grouped["seed"].nunique()
    return table.reset_index()

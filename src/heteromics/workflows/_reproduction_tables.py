"""Tables of a reproduction: runs in order, summaries with the paper's rows below, and what they say in a line each."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from heteromics.models.bi2former import Bi2FormerConfig
from heteromics.tasks.matching_models import CONTROLS
from heteromics.tasks.matching_splits import LEAKING
from heteromics.tasks.matching_studies import ablated, with_lost
from heteromics.tasks.matching_summary import COSTS, codes_of, leak_worth, paper_results, summarise_runs
from heteromics.workflows._reproduction_plan import CONTENDERS, PROTOCOLS

if TYPE_CHECKING:
    from pandas import DataFrame

LABELS = ("model", "protocol", "share", "held_out", "types", "ablation", "split", "negatives", "source", "note")
NUMBERS = ("accuracy", "accuracy_sd", "accuracy_raw", "accuracy_raw_sd", "auroc", "auroc_sd", "auprc", "brier", "ece")
SHOWN = (*LABELS, "seeds", "epochs", *NUMBERS, "lost", "lost_sd")
AS_PUBLISHED = {"protocol": "pairs, easy", "split": LEAKING, "negatives": "easy"}
MEAN_OF_GROUPS = "mean of the groups"


def in_order(runs: DataFrame) -> DataFrame:
    """Order runs as protocols and models are listed, then by seed; runs of earlier calls are among them."""
    ranks = {"protocol": [*PROTOCOLS], "ablation": [*ablated(Bi2FormerConfig())], "model": [*CONTENDERS]}
    by = [name for name in ("protocol", "share", "held_out", "ablation", "model", "seed") if name in runs]
    place = {name: {word: rank for rank, word in enumerate(words)} for name, words in ranks.items()}
    return runs.sort_values(
        by, kind="stable", ignore_index=True, key=lambda c: c.map(place[c.name]) if c.name in place else c
    )


def tables_of(study: str, runs: DataFrame, paper: str) -> dict[str, DataFrame]:
    """Return runs and summary of one study, the rows of the paper's data set below; of the protocols also the leak."""
    import pandas as pd

    tables = {}
    if study == "protocols":
        summary = summarise_runs(runs, paper_results(paper), **AS_PUBLISHED)
        if {"pairs, easy", "cells, easy"} <= set(runs["protocol"]):
            tables["leak"] = leak_worth(runs)
    elif study == "across_types":
        beside = paper_results(paper, "across_types").assign(note="negatives not stated, taken for easy")
        labels = {"held_out": "not stated", "split": "test", "negatives": "easy"}
        summary = summarise_runs(pd.concat([runs, _mean_of_groups(runs)]), beside, **labels)
    elif study == "ablations":
        runs = with_lost(runs)
        note = "mean over the five data sets; metric not stated, taken for accuracy"
        summary = summarise_runs(runs, paper_results("mean of five", "ablations").assign(note=note), **AS_PUBLISHED)
    else:
        summary = summarise_runs(runs)
    return {f"{study}_runs": runs, f"{study}_summary": summary, **tables}


def _mean_of_groups(runs: DataFrame) -> DataFrame:
    """Return the mean over the groups of types for each seed, to set beside the paper's one number."""
    grouped = runs.groupby(["seed", "model", "split", "negatives", "metric"], sort=False)
    means = grouped[["value", *COSTS]].mean()
    means["code"] = grouped["code"].agg(lambda found: "+".join(codes_of(found)))
    return means.reset_index().assign(held_out=MEAN_OF_GROUPS, types=f"{runs['held_out'].nunique()} groups")


def shown(tables: Mapping[str, DataFrame]) -> dict[str, list[dict[str, Any]]]:
    """Return the tables that are no runs for printing: labels, number of seeds, mean and spread of the main metrics."""
    import pandas as pd

    found = {}
    for name, table in tables.items():
        if not name.endswith("_runs"):
            kept = table if name == "leak" else table[[column for column in SHOWN if column in table]]
            rows = kept.drop(columns=["reproduction", "data"], errors="ignore").to_dict("records")
            found[name] = [{str(key): None if pd.isna(value) else value for key, value in row.items()} for row in rows]
    return found


def runs_by_code(runs: DataFrame) -> dict[str, int]:
    """Count the runs of one study by the digest of their code."""
    columns = list(runs.columns)
    one = runs.drop_duplicates([*columns[: columns.index("model") + 1]])
    return {str(code): int(number) for code, number in one["code"].value_counts(sort=False).items()}


def said(tables: Mapping[str, DataFrame]) -> dict[str, str]:
    """Say what the leak is worth, what cell types alone get beside the models, and what else a reader has to know."""
    notes = {}
    if "leak" in tables:
        for row in tables["leak"].query("metric == 'auroc'").to_dict("records"):
            over = "1 seed" if row["seeds"] == 1 else f"sd {row['gain_sd']:.3f}, {row['seeds']} seeds"
            notes[f"leak, {row['model']}"] = (
                f"AUROC {row['leaking']:.3f} by pair, {row['honest']:.3f} by cell, gain {row['gain']:+.3f} "
                f"({over}; easy negatives)"
            )
    if "protocols_summary" in tables:
        notes |= _types_alone(tables["protocols_summary"].query("source == 'here'"))
    if "few_shot_summary" in tables:
        notes["few_shot"] = "one split for all seeds: the spread has no part of another choice of test cells"
    for name, table in tables.items():
        if name.endswith("_runs") and "metric" in table and len(codes := runs_by_code(table)) > 1:
            listed = ", ".join(f"{code} ({number} runs)" for code, number in codes.items())
            notes[f"code, {name.removesuffix('_runs')}"] = f"runs are of {len(codes)} versions of the code: {listed}"
    return notes


def _types_alone(summary: DataFrame) -> dict[str, str]:
    """Say for each protocol and kind of negatives what cell types alone get, and beside it every model."""
    notes = {}
    for (protocol, kind), rows in summary.groupby(["protocol", "negatives"], sort=False):
        words = {
            row["model"]: f"AUROC {row['auroc']:.3f}, accuracy {row['accuracy']:.3f}" for row in rows.to_dict("records")
        }
        if alone := words.pop("CellTypeMatcher", None):
            models = "".join(f"; {name} {text}" for name, text in words.items() if name not in CONTROLS)
            notes[f"cell types alone, {protocol}, {kind} negatives"] = alone + models
    return notes

"""Run the Bi2Former paper again: its protocol and honest ones, its baselines and controls, its numbers beside ours.

Every finished run is a file in ``runs``; the same command again goes on where it stopped, and more seeds, models or
protocols add to what is there. Tables and provenance are written anew after each seed.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from heteromics import _config
from heteromics._files import write_json, write_text
from heteromics.errors import DataError, did_you_mean
from heteromics.models.bi2former import Bi2FormerConfig
from heteromics.tasks._paired import split_paired
from heteromics.tasks.matching_models import CONTROLS, MODELS, Contender
from heteromics.tasks.matching_runs import read_runs
from heteromics.tasks.matching_splits import LEAKING
from heteromics.tasks.matching_studies import (
    Protocol,
    ablated,
    ablations,
    across_types,
    few_shot,
    repeat_matching,
    with_lost,
)
from heteromics.tasks.matching_summary import leak_worth, paper_results, summarise_runs
from heteromics.workflows._reproduction import Input, Reproduction, build_store, read_input, reproduction
from heteromics.workflows.run import installed_versions

if TYPE_CHECKING:
    from pandas import DataFrame

    from heteromics.graphs import HeteroGraph

STUDIES = ("protocols", "few_shot", "across_types", "ablations")
PUBLISHED, SPARSE = ", as published", ", sparse IDs"
CONTENDERS = ("Bi2Former", f"Bi2Former{PUBLISHED}", *MODELS[1:], *CONTROLS)
PROTOCOLS = {
    "pairs, easy": Protocol("pairs", "easy"),
    "cells, easy": Protocol("cell", "easy", redraw=False),  # as many negatives as by pair
    "cells, random": Protocol("cell", "random"),
    "cells, hard": Protocol("cell", "hard"),
    "cells, random, within batches": Protocol("cell", "random", within="batch"),
    "batches, random, within batches": Protocol("batch", "random", within="batch"),
}
PROVENANCE = "provenance.json"
SHARES, SMALL_SHARES = (0.01, 0.03, 0.1, 0.3, 1.0), (0.3, 1.0)
SMALL_EPOCHS, SMALL_SEEDS, SEEDS = 2, 2, 5
SHOWN = ("model", "protocol", "share", "held_out", "ablation", "negatives", "source", "seeds")
NUMBERS = ("accuracy", "accuracy_sd", "auroc", "auroc_sd", "brier", "ece", "lost")


@dataclass(frozen=True, slots=True)
class Reproduced:
    """Tables by name, each also in a file of that name, and what to know of them.

    Attributes
    ----------
    tables
        ``<study>_runs`` and ``<study>_summary`` of every study, and of the protocols ``leak`` and
        ``reliability_runs``, by bins of probability.
    notes
        What the data are, what the leak is worth, what cell types alone get, and where everything lies.
    """

    tables: dict[str, DataFrame]
    notes: dict[str, Any] = field(default_factory=dict)

    def summaries(self) -> dict[str, list[dict[str, Any]]]:
        """Return the summary tables for printing: labels, mean and standard deviation of the main metrics."""
        import pandas as pd

        shown = {}
        for name, table in self.tables.items():
            if not name.endswith("_runs"):
                kept = table if name == "leak" else table[[c for c in (*SHOWN, *NUMBERS) if c in table]]
                rows = kept.drop(columns=["reproduction", "data"], errors="ignore").to_dict("records")
                shown[name] = [
                    {str(key): None if pd.isna(value) else value for key, value in row.items()} for row in rows
                ]
        return shown

    def as_dict(self) -> dict[str, Any]:
        """Return notes and summaries as JSON values."""
        return {**self.notes, **self.summaries()}


def reproduce(
    name: str,
    *,
    out: Path | str,
    data: Sequence[Path | str] = (),
    db: Path | str | None = None,
    small: bool = False,
    seeds: int | None = None,
    studies: Sequence[str] = ("protocols",),
    models: Sequence[str] = CONTENDERS,
    protocols: Sequence[str] | None = None,
    max_epochs: int | None = None,
    device: str = "auto",
    progress: bool = True,
) -> Reproduced:
    """Run one data set of the paper and write runs, summaries with the paper's rows, and provenance.

    Parameters
    ----------
    name
        ``bi2former-snare``, ``-share``, ``-10xpbmc``, ``-issaac`` or ``-10xmultiome``.
    out
        Folder; that of an earlier call with the same data goes on.
    data
        One file with both modalities, or that of RNA and that of ATAC; none takes them from the manifest. Cell types
        are in the column ``cell_type``, batches, where there are any, in ``batch``.
    db
        Prior store built before; None builds one in ``out``.
    small
        A sample of cells and features, two epochs, two seeds unless more are asked for: to see that all of it runs. All
        tables say so.
    seeds
        How many, from 0; 5 unless told.
    studies
        ``"protocols"``; ``"few_shot"``, ``"across_types"`` and ``"ablations"`` beside it.
    models
        Names of models and controls; a model's name followed by ``", as published"`` has the setting of the public code
        and attributes that are not standardised, followed by ``", sparse IDs"`` updates the ID embeddings that a batch
        has and no others (sparse Adam, no weight decay on IDs): on a CPU the published setting, one pair per step, is
        otherwise spent on updating all of them. Ablations are of Bi2Former alone, of all of its settings given.
    protocols
        Names in ``PROTOCOLS``; None takes all that the data allow, those with batches only where there are batches.
    max_epochs
        In place of the models' own.
    device, progress
        ``"auto"``, ``"cpu"`` or ``"cuda"``; whether bars are shown.

    Returns
    -------
    Reproduced

    Raises
    ------
    DataError
        For an unknown name, study, model or protocol, data that cannot be used, or a folder with runs of other data.
    FetchError
        When data could not be had; says how to give them.
    """
    which, out = reproduction(name), Path(out)
    _check_known("study", studies, STUDIES)
    forms = ("", PUBLISHED, SPARSE, f"{PUBLISHED}{SPARSE}")
    _check_known("model", models, (*(f"{model}{form}" for model in MODELS for form in forms), *CONTROLS))
    _check_known("protocol", protocols or (), PROTOCOLS)
    number = seeds or (SMALL_SEEDS if small else SEEDS)
    epochs = max_epochs or (SMALL_EPOCHS if small else None)
    found = read_input(which, [Path(path) for path in data], small=small)
    store = build_store(which, found, out, progress=progress) if db is None else Path(db)
    graphs = _graphs(found, store, models)
    chosen = _possible(protocols, graphs[0][0])
    about = {"reproduction": name, "data": found.what}
    provenance = _provenance(which, found, graphs, store, {"max_epochs": epochs, "small": small})
    provenance = _checked(out, provenance)
    write_json(out / PROVENANCE, {**about, **provenance})
    tables: dict[str, DataFrame] = {}
    for upto in range(1, number + 1):
        for study in studies:
            options = {"seeds": range(upto), "max_epochs": epochs, "device": device, "progress": progress}
            folder = out / "runs" / study
            _run(study, graphs, chosen, {**options, "folder": folder}, small=small)
            tables |= _tables(study, _in_order(read_runs(folder)), which)
            if study == "protocols":
                tables["reliability_runs"] = _in_order(read_runs(folder, "reliability"))
        for title, table in tables.items():
            _write(out, title, table.assign(**about)[[*about, *table.columns]])
        write_json(out / PROVENANCE, {**about, **provenance, "seeds": max(upto, provenance["seeds"])})
    notes = {**about, "priors": store, "tables": out, **_said(tables)}
    return Reproduced(
        {title: table.assign(**about)[[*about, *table.columns]] for title, table in tables.items()}, notes
    )


Graphs = list[tuple["HeteroGraph", list[Contender]]]


def _graphs(found: Input, store: Path, models: Sequence[str]) -> Graphs:
    """Build the graph with standardised attributes, and with raw ones where a model is as published."""
    from heteromics.graphs import bipartite
    from heteromics.priors import PriorStore

    groups: dict[bool, list[Contender]] = {}
    for name in models:
        groups.setdefault(PUBLISHED not in name, []).append(_contender(name))
    with PriorStore.open(store) as opened:
        return [
            (bipartite(found.rna, found.atac, opened, standardise=standardise), group)
            for standardise, group in sorted(groups.items(), reverse=True)
        ]


def _contender(name: str) -> Contender:
    """Return the contender of a name, with the configuration that its endings ask for."""
    model, *endings = re.split(f"(?={PUBLISHED}|{SPARSE})", name)
    contender = Contender(name, model)
    if not endings:
        return contender
    kind: Any = contender.pair_model().config_type
    config = kind.as_published() if PUBLISHED in endings else kind()
    return replace(contender, config=replace(config, sparse_ids=SPARSE in endings))


def _possible(protocols: Sequence[str] | None, graph: HeteroGraph) -> dict[str, Protocol]:
    """Protocols asked for, or all that the data allow."""
    if protocols is not None:
        return {name: PROTOCOLS[name] for name in protocols}
    batches = len(graph.meta["categories"].get("batch", ()))
    enough = {"cell": 2, "batch": 3}
    return {name: each for name, each in PROTOCOLS.items() if each.within is None or batches >= enough[each.split]}


def _run(
    study: str, graphs: Graphs, protocols: Mapping[str, Protocol], options: dict[str, Any], *, small: bool
) -> None:
    """Do one study on every graph with the models that go with it; the runs are kept in its folder."""
    if study == "ablations" and not any(each.model == "Bi2Former" for _, models in graphs for each in models):
        raise DataError("ablations are of Bi2Former, which is not among the models. Fix: add it.")
    for graph, models in graphs:
        if study == "protocols":
            repeat_matching(graph, protocols, models=models, **options)
        elif study == "few_shot":
            codes = split_paired(graph, shares=(0.8, 0.1, 0.1), seed=0)
            few_shot(graph, codes, shares=SMALL_SHARES if small else SHARES, models=models, **options)
        elif study == "across_types":
            across_types(graph, models=models, **options)
        else:
            for each in models:
                if each.model == "Bi2Former":
                    ablations(graph, model=each, **options)


def _in_order(runs: DataFrame) -> DataFrame:
    """Order runs as protocols and models are listed, then by seed; runs of earlier calls are among them."""
    ranks = {"protocol": [*PROTOCOLS], "ablation": [*ablated(Bi2FormerConfig())], "model": [*CONTENDERS]}
    by = [name for name in ("protocol", "share", "held_out", "ablation", "model", "seed") if name in runs]
    place = {name: {word: rank for rank, word in enumerate(words)} for name, words in ranks.items()}
    return runs.sort_values(
        by, kind="stable", ignore_index=True, key=lambda c: c.map(place[c.name]) if c.name in place else c
    )


def _tables(study: str, runs: DataFrame, which: Reproduction) -> dict[str, DataFrame]:
    """Return runs and summary of one study, the paper's rows below."""
    if study == "protocols":
        labels = {"protocol": "pairs, easy", "split": LEAKING, "negatives": "easy"}
        tables = {"protocols_summary": summarise_runs(runs, paper_results(which.paper), **labels)}
        if {"pairs, easy", "cells, easy"} <= set(runs["protocol"]):
            tables["leak"] = leak_worth(runs)
    elif study == "across_types":
        beside = paper_results(which.paper, "across_types")
        tables = {"across_types_summary": summarise_runs(runs, beside, held_out="not stated")}
    elif study == "ablations":
        beside = paper_results("mean of five", "ablations").assign(note="mean over the five data sets")
        runs = with_lost(runs)
        tables = {"ablations_summary": summarise_runs(runs, beside)}
    else:
        tables = {"few_shot_summary": summarise_runs(runs)}
    return {f"{study}_runs": runs, **tables}


def _said(tables: Mapping[str, DataFrame]) -> dict[str, str]:
    """Say what the leak is worth and what cell types alone get, in a line each."""
    said = {}
    if "leak" in tables:
        for row in tables["leak"].to_dict("records"):
            if row["metric"] == "auroc":
                over = "1 seed" if row["seeds"] == 1 else f"sd {row['gain_sd']:.3f}, {row['seeds']} seeds"
                said[f"leak, {row['model']}"] = (
                    f"AUROC {row['leaking']:.3f} by pair, {row['honest']:.3f} by cell, gain {row['gain']:+.3f} "
                    f"({over}; easy negatives)"
                )
    if "protocols_summary" in tables:
        here = tables["protocols_summary"].query("source == 'here' and model == 'CellTypeMatcher'")
        for row in here.to_dict("records"):
            said[f"cell types alone, {row['protocol']}, {row['negatives']} negatives"] = f"AUROC {row['auroc']:.3f}"
    return said


def _provenance(
    which: Reproduction, found: Input, graphs: Graphs, store: Path, settings: Mapping[str, Any]
) -> dict[str, Any]:
    """Name data, priors, graphs, settings of every model, protocols and versions."""
    from heteromics.graphs.hashing import graph_hash

    return {
        "paper": which.paper,
        "sha256": found.sha256,
        "store": {"path": str(store.resolve()), **graphs[0][0].meta["store"]},
        "graphs": {
            "standardised" if graph.meta["standardised"] else "raw attributes": graph_hash(graph, node_data=True)
            for graph, _ in graphs
        },
        "models": {each.name: _configuration(each) for _, group in graphs for each in group},
        "protocols": {name: _config.as_dict(protocol) for name, protocol in PROTOCOLS.items()},
        "settings": dict(settings),
        "versions": installed_versions(),
        "seeds": 0,
        "begun": datetime.now(UTC).isoformat(timespec="seconds"),
    }


def _configuration(each: Contender) -> dict[str, Any] | None:
    if each.is_control:
        return None
    return _config.as_dict(each.config or each.pair_model().config_type())


def _checked(out: Path, provenance: dict[str, Any]) -> dict[str, Any]:
    """Refuse a folder with runs of other data, priors or epochs, for its tables would mix them; add what is there.

    Raises
    ------
    DataError
        Naming what differs.
    """
    path = out / PROVENANCE
    if not path.is_file():
        return provenance
    before = json.loads(path.read_text(encoding="utf-8"))
    for key in ("sha256", "graphs", "settings"):
        was, now = before[key], provenance[key]
        names = sorted(set(was) | set(now) if key == "sha256" else set(was) & set(now))
        if differing := [name for name in names if was.get(name) != now.get(name)]:
            listed = "; ".join(f"{name} was {was.get(name)}, is {now.get(name)}" for name in differing)
            raise DataError(f"{out} holds runs of another {key}: {listed}. Fix: another --out.")
    kept = {key: {**before[key], **provenance[key]} for key in ("graphs", "models")}
    return {**provenance, **kept, "seeds": before["seeds"], "begun": before["begun"]}


def _write(out: Path, title: str, table: DataFrame) -> None:
    """Write one table as Parquet, TSV and JSON, each whole or not at all."""
    out.mkdir(parents=True, exist_ok=True)
    fresh = out / f".{title}.parquet.part"
    table.to_parquet(fresh, index=False)
    fresh.replace(out / f"{title}.parquet")
    write_text(out / f"{title}.tsv", table.to_csv(sep="\t", index=False))
    write_text(out / f"{title}.json", table.to_json(orient="records", indent=2) + "\n")


def _check_known(what: str, asked: Iterable[str], known: Iterable[str]) -> None:
    known = list(known)
    for name in asked:
        if name not in known:
            raise DataError(f"no {what} called '{name}'. {did_you_mean(name, known)}Known: {'; '.join(known)}.")

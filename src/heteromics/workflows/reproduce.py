"""Run the Bi2Former paper again: its protocol and honest ones, its baselines and controls, its numbers beside ours.

Every finished run is a file in ``runs``; the same command again goes on where it stopped, and more seeds, models or
protocols add to what is there. Tables and provenance are written anew after each seed.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from heteromics import _config
from heteromics._files import whole_file, write_json, write_text
from heteromics.errors import DataError
from heteromics.tasks._paired import split_paired
from heteromics.tasks.matching_models import Contender
from heteromics.tasks.matching_runs import read_runs
from heteromics.tasks.matching_studies import Protocol, ablations, across_types, few_shot, repeat_matching
from heteromics.workflows._reproduction import Input, Reproduction, build_store, read_input, reproduction
from heteromics.workflows._reproduction_plan import (
    CONTENDERS,
    PROTOCOLS,
    PUBLISHED,
    STUDIES,
    check_data,
    check_known,
    contender,
    possible,
)
from heteromics.workflows._reproduction_tables import in_order, runs_by_code, said, shown, tables_of
from heteromics.workflows.run import installed_versions

if TYPE_CHECKING:
    from pandas import DataFrame

    from heteromics.graphs import HeteroGraph

PROVENANCE = "provenance.json"
SHARES, SMALL_SHARES = (0.01, 0.03, 0.1, 0.3, 1.0), (0.3, 1.0)
SMALL_EPOCHS, SMALL_SEEDS, SEEDS = 2, 2, 5


@dataclass(frozen=True, slots=True)
class Reproduced:
    """Tables by name, each also in a file of that name, and what to know of them.

    Attributes
    ----------
    tables
        ``<study>_runs`` and ``<study>_summary`` of every study, and of the protocols ``leak`` and
        ``reliability_runs``, by bins of probability.
    notes
        What the data are, what the leak is worth, what cell types alone get beside the models, whether runs are of
        several versions of the code, and where everything lies.
    """

    tables: dict[str, DataFrame]
    notes: dict[str, Any] = field(default_factory=dict)

    def summaries(self) -> dict[str, list[dict[str, Any]]]:
        """Return the summary tables for printing: labels, mean and standard deviation of the main metrics."""
        return shown(self.tables)

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
        Folder; that of an earlier call with the same data goes on. One call at a time: two would build one store.
    data
        One file with both modalities, or that of RNA and that of ATAC; none takes them from the manifest. Cell types
        are in the column ``cell_type``, batches, where there are any, in ``batch``.
    db
        Prior store built before; None builds one in ``out``.
    small
        A sample of cells and features, two epochs, two seeds unless more are asked for: to see that all of it runs. All
        tables say so in ``data``.
    seeds
        How many, from 0; 5 unless told.
    studies
        ``"protocols"``; ``"few_shot"``, ``"across_types"`` and ``"ablations"`` beside it.
    models
        Names of models and controls. ``"Bi2Former, for matching"`` compares both modalities outside the attention
        (:meth:`heteromics.models.Bi2FormerConfig.for_matching`). A model's name followed by ``", as published"`` has
        the setting of the public code and attributes that are not standardised, followed by ``", sparse IDs"`` it
        updates the ID embeddings that a batch has and no others (sparse Adam, no weight decay on IDs): on a CPU the
        published setting, one pair per step, is otherwise spent on updating all of them. Ablations are of Bi2Former
        alone, of all of its settings given.
    protocols
        Names in ``PROTOCOLS``, of the study of protocols and of ablations; None takes all that the data allow, those
        with batches only where there are batches, and for ablations ``"cells, random"``. The other studies split as
        they must and draw random negatives.
    max_epochs
        In place of the models' own; all tables say so in ``data``.
    device, progress
        ``"auto"``, ``"cpu"`` or ``"cuda"``; whether bars, and a line for each run that is done, are shown.

    Returns
    -------
    Reproduced

    Raises
    ------
    DataError
        For an unknown name, study, model or protocol, data that cannot be used or do not allow what is asked for, or a
        folder with runs of other data, priors, configurations or releases; all before anything is trained.
    FetchError
        When data could not be had; says how to give them.
    """
    which, out, asked = reproduction(name), Path(out), [contender(model) for model in models]
    check_known("study", studies, STUDIES)
    check_known("protocol", protocols or (), PROTOCOLS)
    number = seeds or (SMALL_SEEDS if small else SEEDS)
    epochs = max_epochs or (SMALL_EPOCHS if small else None)
    found = read_input(which, [Path(path) for path in data], small=small)
    check_data(studies, asked, found.rna.obs)
    chosen = possible(protocols, found.rna.obs)
    provenance = _checked(out, _provenance(which, found, asked, chosen, {"max_epochs": epochs, "small": small}))
    store = build_store(which, found, out, progress=progress) if db is None else Path(db)
    graphs = _graphs(found, store, asked)
    provenance = _checked(out, {**provenance, **_marks(graphs, store)})
    what = found.what if epochs is None else f"{found.what}; at most {epochs} epoch{'s' * (epochs > 1)}"
    about = {"reproduction": name, "data": what}
    write_json(out / PROVENANCE, {**about, **provenance})
    tables: dict[str, DataFrame] = {}
    for upto in range(1, number + 1):
        for study in studies:
            options = {"seeds": range(upto), "max_epochs": epochs, "device": device, "progress": progress}
            folder = out / "runs" / study
            ours = chosen if study == "protocols" or protocols is not None else None
            _run(study, graphs, ours, {**options, "folder": folder}, small=small)
            fresh = tables_of(study, in_order(read_runs(folder)), which.paper)
            if study == "protocols":
                fresh["reliability_runs"] = in_order(read_runs(folder, "reliability"))
            provenance["code"][study] = runs_by_code(fresh[f"{study}_runs"])
            for title, table in fresh.items():
                tables[title] = table.assign(**about)[[*about, *table.columns]]
                _write(out, title, tables[title])
            write_json(out / PROVENANCE, {**about, **provenance})
        provenance["seeds"] = max(upto, provenance["seeds"])
        write_json(out / PROVENANCE, {**about, **provenance})
    return Reproduced(tables, {**about, "priors": store, "tables": out, **said(tables)})


Graphs = list[tuple["HeteroGraph", list[Contender]]]


def _graphs(found: Input, store: Path, models: Sequence[Contender]) -> Graphs:
    """Build the graph with standardised attributes, and with raw ones where a model is as published."""
    from heteromics.graphs import bipartite
    from heteromics.priors import PriorStore

    groups: dict[bool, list[Contender]] = {}
    for each in models:
        groups.setdefault(PUBLISHED not in each.name, []).append(each)
    with PriorStore.open(store) as opened:
        return [
            (bipartite(found.rna, found.atac, opened, standardise=standardise), group)
            for standardise, group in sorted(groups.items(), reverse=True)
        ]


def _run(
    study: str, graphs: Graphs, protocols: Mapping[str, Protocol] | None, options: dict[str, Any], *, small: bool
) -> None:
    """Do one study on every graph with the models that go with it; the runs are kept in its folder."""
    for graph, models in graphs:
        if study == "protocols":
            repeat_matching(graph, protocols or {}, models=models, **options)
        elif study == "few_shot":
            codes = split_paired(graph, shares=(0.8, 0.1, 0.1), seed=0)
            few_shot(graph, codes, shares=SMALL_SHARES if small else SHARES, models=models, **options)
        elif study == "across_types":
            across_types(graph, models=models, **options)
        else:
            for each in models:
                if each.model == "Bi2Former":
                    ablations(graph, protocols, model=each, **options)


def _provenance(
    which: Reproduction,
    found: Input,
    models: Sequence[Contender],
    protocols: Mapping[str, Protocol],
    settings: Mapping[str, Any],
) -> dict[str, Any]:
    """Name data, settings of every model, protocols and versions; ``code`` counts the runs of each study by code."""
    return {
        "paper": which.paper,
        "sha256": found.sha256,
        "models": {each.name: _configuration(each) for each in models},
        "protocols": {name: _config.as_dict(protocol) for name, protocol in protocols.items()},
        "settings": dict(settings),
        "versions": installed_versions(),
        "code": {},
        "seeds": 0,
        "begun": datetime.now(UTC).isoformat(timespec="seconds"),
    }


def _marks(graphs: Graphs, store: Path) -> dict[str, Any]:
    """Name priors and graphs."""
    from heteromics.graphs.hashing import graph_hash

    return {
        "store": {"path": str(store.resolve()), **graphs[0][0].meta["store"]},
        "graphs": {
            "standardised" if graph.meta["standardised"] else "raw attributes": graph_hash(graph, node_data=True)
            for graph, _ in graphs
        },
    }


def _configuration(each: Contender) -> dict[str, Any] | None:
    if each.is_control:
        return None
    return _config.as_dict(each.config or each.pair_model().config_type())


def _checked(out: Path, provenance: dict[str, Any]) -> dict[str, Any]:
    """Refuse a folder whose runs are of something else, for its tables would mix them; add what is there.

    Raises
    ------
    DataError
        Naming what differs.
    """
    path = out / PROVENANCE
    if not path.is_file():
        return provenance
    before = json.loads(path.read_text(encoding="utf-8"))
    for key in ("sha256", "settings", "models", "protocols", "graphs", "versions"):
        was, now = before.get(key, {}), provenance.get(key, {})
        names = set(was) & set(now) if key != "versions" else {"heteromics"}
        if differing := _differences(was, now, set(was) | set(now) if key == "sha256" else names):
            raise DataError(f"{out} holds runs of other {key}: {'; '.join(differing)}. Fix: another --out.")
    kept = {
        key: {**before.get(key, {}), **provenance.get(key, {})} for key in ("graphs", "models", "protocols", "code")
    }
    return {**before, **provenance, **kept, "seeds": before["seeds"], "begun": before["begun"]}


def _differences(was: Mapping[str, Any], now: Mapping[str, Any], names: set[str]) -> list[str]:
    """Say what differs, entry by entry, and inside of entries that have entries."""
    listed = []
    for name in sorted(names):
        old, new = was.get(name), now.get(name)
        if isinstance(old, dict) and isinstance(new, dict):
            listed += [f"{name}, {each}" for each in _differences(old, new, set(old) | set(new))]
        elif old != new:
            listed.append(f"{name} was {old}, is {new}")
    return listed


def _write(out: Path, title: str, table: DataFrame) -> None:
    """Write one table as Parquet, TSV and JSON, each whole or not at all."""
    with whole_file(out / f"{title}.parquet") as fresh:
        table.to_parquet(fresh, index=False)
    write_text(out / f"{title}.tsv", table.to_csv(sep="\t", index=False))
    write_text(out / f"{title}.json", table.to_json(orient="records", indent=2) + "\n")

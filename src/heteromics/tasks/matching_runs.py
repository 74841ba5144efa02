"""Matching runs that are kept: each one file, read back when it was done before, so that hours can be spread.

The name of the file ends in a hash of all that decides the result: graph, split, model, configuration and options.
Other settings are other files; nothing is mistaken for what it is not, and nothing is run twice.
"""

from __future__ import annotations

import hashlib
import json
import re
import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray

from heteromics import __version__, _config
from heteromics._files import write_json
from heteromics._progress import track
from heteromics.errors import DataError
from heteromics.graphs.hashing import graph_hash
from heteromics.models._training import LAST_CHECKPOINT
from heteromics.tasks._paired import with_training_cells
from heteromics.tasks.matching import run_matching
from heteromics.tasks.matching_models import Contender

if TYPE_CHECKING:
    from pandas import DataFrame

    from heteromics.graphs import HeteroGraph

Labels = Mapping[str, str | int | float]
Table = Literal["metrics", "reliability"]


@dataclass(frozen=True, slots=True)
class Planned:
    """A run to do: how it is labelled in the tables, what runs, the split by cell if there is one, and the options."""

    labels: Labels
    contender: Contender
    split: NDArray[np.int8] | None
    options: Mapping[str, Any] = field(default_factory=dict)


def run_all(
    graph: HeteroGraph,
    planned: Sequence[Planned],
    *,
    device: str,
    folder: Path | str | None,
    progress: bool,
    what: str = "matching",
) -> DataFrame:
    """Do the runs that are not in ``folder`` yet and return the metrics of all, labelled, one row per number.

    With a split, attributes of the graph are made of the training cells of the run alone.
    """
    import pandas as pd

    if not planned:
        raise DataError("found no run to do, expected at least one model, seed and protocol.")
    mark = graph_hash(graph, node_data=True)
    made: dict[bytes, HeteroGraph] = {}

    def graph_of(split: NDArray[np.int8] | None) -> HeteroGraph:
        if split is None:
            return graph
        key = split.tobytes()
        if key not in made:
            made.clear()  # runs of one split follow each other; one graph is kept
            made[key] = with_training_cells(graph, split)
        return made[key]

    tables = []
    for each in track(planned, what, len(planned), enabled=progress):
        record = _record(each, mark, graph_of, device=device, folder=None if folder is None else Path(folder))
        tables.append(_table(record, "metrics"))
    return pd.concat(tables, ignore_index=True)


def read_runs(folder: Path | str, table: Table = "metrics") -> DataFrame:
    """Return what the finished runs in a folder hold, in the order of their names.

    Parameters
    ----------
    folder
        As given to :func:`heteromics.tasks.repeat_matching` and the studies.
    table
        ``"metrics"``, or ``"reliability"`` (see :func:`heteromics.tasks.reliability`), each with the labels of its run.

    Raises
    ------
    DataError
        When the folder holds no finished run.
    """
    import pandas as pd

    files = sorted(Path(folder).glob("*.json"))
    if not files:
        raise DataError(f"{folder} holds no finished run. Fix: give it to repeat_matching or a study as folder.")
    return pd.concat([_table(_read(path), table) for path in files], ignore_index=True)


def _record(
    each: Planned,
    mark: str,
    graph_of: Callable[[NDArray[np.int8] | None], HeteroGraph],
    *,
    device: str,
    folder: Path | None,
) -> dict[str, Any]:
    asked = _asked(each, mark)
    digest = hashlib.sha256(json.dumps(asked, sort_keys=True, default=int).encode()).hexdigest()
    words = re.sub(r"[^\w.]+", "-", "-".join(map(str, [*each.labels.values(), each.contender.name])).lower())
    path = None if folder is None else folder / f"{words[:80]}-{digest[:16]}.json"
    if path is not None and path.is_file():
        return _read(path)
    work = None if path is None else path.with_suffix("")
    result = run_matching(
        graph_of(each.split),
        each.split,
        models=[each.contender],
        device=device,
        folder=work,
        resume=work is not None and (work / LAST_CHECKPOINT).is_file(),
        progress=False,
        **each.options,
    )
    name = each.contender.name
    history = result.models[name].history if name in result.models else []
    record = {
        "asked": asked,
        "labels": {**each.labels, "seconds": round(result.seconds[name], 3), "epochs": len(history)},
        "metrics": result.metrics.to_dict("records"),
        "reliability": result.reliability.to_dict("records"),
        "threshold": result.thresholds[name],
        "history": history,
    }
    if path is not None and work is not None:
        write_json(path, record)
        shutil.rmtree(work, ignore_errors=True)
    return record


def _asked(each: Planned, mark: str) -> dict[str, Any]:
    """All that decides a result, as JSON values."""
    kind = each.contender.model or each.contender.name
    config = each.contender.config
    if config is None and not each.contender.is_control:
        config = each.contender.pair_model().config_type()
    return {
        "heteromics": __version__,
        "graph": mark,
        "split": None if each.split is None else hashlib.sha256(each.split.tobytes()).hexdigest(),
        "labels": dict(each.labels),
        "name": each.contender.name,
        "model": kind if isinstance(kind, str) else kind.__qualname__,
        "config": None if config is None else _config.as_dict(config),
        "options": {name: list(value) if isinstance(value, tuple) else value for name, value in each.options.items()},
    }


def _read(path: Path) -> dict[str, Any]:
    try:
        record: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise DataError(f"{path} is no JSON file ({error}). Fix: delete it, and it is run again.") from error
    if absent := sorted({"labels", "metrics", "reliability"} - set(record)):
        raise DataError(f"{path} is no matching run: it lacks {', '.join(absent)}. Fix: keep other files elsewhere.")
    return record


def _table(record: Mapping[str, Any], what: Table) -> DataFrame:
    import pandas as pd

    rows = pd.DataFrame(record[what])
    labels = pd.DataFrame([record["labels"]] * len(rows), index=rows.index)
    late = [name for name in ("seconds", "epochs") if name in labels]
    return pd.concat([labels.drop(columns=late), rows, labels[late]], axis=1)

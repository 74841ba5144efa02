"""Matching runs that are kept: each one file, read back when it was done before, so that hours can be spread.

The name of the file ends in a hash of all that was asked: graph, split, model, configuration, options and release.
Other settings are other files; nothing is mistaken for what it is not, and nothing is run twice. What it was made with
is no part of the name, for a comment would cost hours, but kept in the file: device, release of torch and ``code``, a
digest of the sources of :mod:`heteromics` that compute. Runs of several digests can so be told from those of one.
"""

from __future__ import annotations

import hashlib
import json
import re
import shutil
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray

import heteromics
from heteromics import __version__, _config
from heteromics._files import write_json
from heteromics._progress import stderr, track
from heteromics.errors import DataError
from heteromics.graphs.hashing import graph_hash
from heteromics.models._training import LAST_CHECKPOINT, pick_device
from heteromics.tasks._paired import with_training_cells
from heteromics.tasks.matching import run_matching
from heteromics.tasks.matching_models import Contender

if TYPE_CHECKING:
    from pandas import DataFrame

    from heteromics.graphs import HeteroGraph

Labels = Mapping[str, str | int | float]
Table = Literal["metrics", "reliability"]
Record = dict[str, Any]
ROOMS = ("graphs", "nn", "models", "tasks")
ON_GRAPH = ("mask", "within_bp", "attribute_names", "categories", "standardised")  # of meta, not in the hash of a graph
KEPT = frozenset({"labels", "metrics", "reliability", "cost", "made"})
CODES = "code.json"


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
    mark = {"hash": graph_hash(graph, node_data=True), **{name: graph.meta.get(name) for name in ON_GRAPH}}
    made: dict[bytes, HeteroGraph] = {}

    def graph_of(split: NDArray[np.int8] | None) -> HeteroGraph:
        if split is None:
            return graph
        key = split.tobytes()
        if key not in made:
            made.clear()  # runs of one split follow each other; one graph is kept
            made[key] = with_training_cells(graph, split)
        return made[key]

    asked = [_asked(each, mark) for each in planned]
    paths = [
        None if folder is None else _path(Path(folder), each, its) for each, its in zip(planned, asked, strict=True)
    ]
    records = [_read(path) if path is not None and path.is_file() else None for path in paths]
    todo = [place for place, record in enumerate(records) if record is None]
    for place in track(todo, what, len(todo), enabled=progress):
        record = records[place] = _record(
            planned[place], asked[place], graph_of, device=device, path=paths[place], progress=progress
        )
        if progress:
            stderr.print(_line(record), markup=False, highlight=False, soft_wrap=True)
    return pd.concat([_table(record, "metrics") for record in records if record is not None], ignore_index=True)


def read_runs(folder: Path | str, table: Table = "metrics") -> DataFrame:
    """Return what the finished runs in a folder hold, in the order of their names.

    Parameters
    ----------
    folder
        As given to :func:`heteromics.tasks.repeat_matching` and the studies.
    table
        ``"metrics"``, or ``"reliability"`` (see :func:`heteromics.tasks.reliability`), each with the labels of its run
        and, behind, ``seconds`` (to fit; of a run that was broken off, since it went on), ``epochs``, ``peak_mb``
        (largest resident memory of the process while it ran, MiB; missing where the system does not tell) and ``code``.

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


@cache
def code_digest() -> str:
    """Return 12 hexadecimal digits that tell the sources that compute, as they are at the first call, from others."""
    home, digest = Path(heteromics.__file__).parent, hashlib.sha256()
    for path in sorted(path for room in ROOMS for path in (home / room).rglob("*.py")):
        text = path.read_bytes()
        digest.update(f"{path.relative_to(home).as_posix()} {len(text)} ".encode() + text)
    return digest.hexdigest()[:12]


def _path(folder: Path, each: Planned, asked: Mapping[str, Any]) -> Path:
    digest = hashlib.sha256(json.dumps(asked, sort_keys=True, default=int).encode()).hexdigest()
    words = re.sub(r"[^\w.]+", "-", "-".join(map(str, [*each.labels.values(), each.contender.name])).lower())
    return folder / f"{words[:80]}-{digest[:16]}.json"


def _record(
    each: Planned,
    asked: Mapping[str, Any],
    graph_of: Callable[[NDArray[np.int8] | None], HeteroGraph],
    *,
    device: str,
    path: Path | None,
    progress: bool,
) -> Record:
    """Do a run, or go on with one that was broken off, and keep it."""
    work = None if path is None else path.with_suffix("")
    resume = work is not None and (work / LAST_CHECKPOINT).is_file()
    codes = _codes(work, resume=resume)
    forget_peak()
    result = run_matching(
        graph_of(each.split),
        each.split,
        models=[each.contender],
        device=device,
        folder=work,
        resume=resume,
        progress=progress,
        **each.options,
    )
    name = each.contender.name
    history = result.models[name].history if name in result.models else []
    record = {
        "asked": asked,
        "labels": dict(each.labels),
        "cost": {"seconds": round(result.seconds[name], 3), "epochs": len(history), "peak_mb": peak_mb()},
        "made": {"code": codes, "device": pick_device(device), "torch": torch.__version__},
        "metrics": result.metrics.to_dict("records"),
        "reliability": result.reliability.to_dict("records"),
        "scale": _config.as_dict(result.scales[name]),
        "history": history,
    }
    if path is not None and work is not None:
        write_json(path, record)
        shutil.rmtree(work, ignore_errors=True)
    return record


def _codes(work: Path | None, *, resume: bool) -> list[str]:
    """Return the digests of the code that has a part in a run, and keep them beside its checkpoint."""
    if work is None:
        return [code_digest()]
    path = work / CODES
    before = json.loads(path.read_text(encoding="utf-8")) if resume and path.is_file() else []
    codes = [*(code for code in before if code != code_digest()), code_digest()]
    write_json(path, codes)
    return codes


def forget_peak() -> None:
    """Set the largest resident memory back to what is held now, where the system can (Linux)."""
    with suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5")


def peak_mb() -> float | None:
    """Return the largest resident memory of this process since :func:`forget_peak`, MiB; None where it is not told."""
    with suppress(OSError):
        for line in Path("/proc/self/status").read_text().splitlines():
            if line.startswith("VmHWM:"):
                return round(int(line.split()[1]) / 1024, 1)
    return None


def _line(record: Record) -> str:
    """Say in a line what a run was and gave."""
    labels = "; ".join(f"{name} {value}" for name, value in record["labels"].items())
    found = [row for row in record["metrics"] if row["metric"] == "auroc"]
    scores = ", ".join(f"{row['value']:.3f} ({row['negatives']})" for row in found)
    cost = record["cost"]
    return f"{found[0]['model']}; {labels}: AUROC {scores}; {cost['seconds']:,.0f} s, {cost['epochs']} epochs"


def _asked(each: Planned, mark: Mapping[str, Any]) -> dict[str, Any]:
    """All that was asked, as JSON values."""
    kind = each.contender.model or each.contender.name
    config = each.contender.config
    if config is None and not each.contender.is_control:
        config = each.contender.pair_model().config_type()
    return {
        "heteromics": __version__,
        "graph": dict(mark),
        "split": None if each.split is None else hashlib.sha256(each.split.tobytes()).hexdigest(),
        "labels": dict(each.labels),
        "name": each.contender.name,
        "model": kind if isinstance(kind, str) else kind.__qualname__,
        "config": None if config is None else _config.as_dict(config),
        "options": {name: list(value) if isinstance(value, tuple) else value for name, value in each.options.items()},
    }


def _read(path: Path) -> Record:
    try:
        record: Record = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise DataError(f"{path} is no JSON file ({error}). Fix: delete it, and it is run again.") from error
    if absent := sorted(KEPT - set(record)):
        raise DataError(
            f"{path} is no matching run of this release: it lacks {', '.join(absent)}. "
            "Fix: delete it, and it is run again; keep other files elsewhere."
        )
    return record


def _table(record: Mapping[str, Any], what: Table) -> DataFrame:
    import pandas as pd

    rows = pd.DataFrame(record[what])
    labels, behind = record["labels"], {**record["cost"], "code": "+".join(record["made"]["code"])}
    before, after = (pd.DataFrame([each] * len(rows), index=rows.index) for each in (labels, behind))
    return pd.concat([before, rows, after.astype({"peak_mb": float})], axis=1)

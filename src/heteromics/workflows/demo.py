"""The whole way in a few minutes: real RNA to protein, then planted regulation from priors to recovered links."""

from __future__ import annotations

import hashlib
import json
import shutil
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import heteromics
from heteromics import _config
from heteromics._files import write_json
from heteromics._progress import stderr
from heteromics.data.synthetic import SyntheticConfig, simulate
from heteromics.errors import DataError, FetchError, some
from heteromics.workflows.demo_report import write_demo_report
from heteromics.workflows.results import Scores
from heteromics.workflows.run import installed_versions
from heteromics.workflows.train import train

if TYPE_CHECKING:
    import pandas as pd

PBMC = "cite_mosaic_pbmc_midas/quickstart_pbmc_mosaic.h5mu"
PBMC_SETS = (
    "data.batch=null",
    "model.layers=2",
    "model.dropout=0.5",
    "model.edge_dropout=0.5",
    "model.members=3",
    "model.max_epochs=300",
    "model.patience=50",
)
SYNTHETIC_SETS = ("data.mask=window", "model.top_k=null")
MARK = "demo.json"
DONE = "metrics.json"
WRITTEN = ("pbmc", "synthetic", "bi2former", "figures", "priors.duckdb", "links.parquet", "report.html", MARK, DONE)


@dataclass(frozen=True, slots=True)
class DemoConfig:
    """Sizes and settings of the demo.

    Attributes
    ----------
    synthetic
        Of the simulation.
    prediction, matching
        ``group.key=value`` over the settings of the two trainings.
    """

    synthetic: SyntheticConfig = field(default_factory=SyntheticConfig)
    prediction: tuple[str, ...] = PBMC_SETS
    matching: tuple[str, ...] = SYNTHETIC_SETS


@dataclass(frozen=True, slots=True)
class Demo:
    """Outcome of the demo.

    Attributes
    ----------
    prediction
        Metrics on held-out PBMC, one row per model; None when the data could not be had.
    matching
        Metrics of matching held-out cells of the synthetic multiome, one row per model and kind of negatives.
    links
        Recovery of planted links, one row per method.
    notes
        Paths, seconds and counts.
    """

    prediction: list[dict[str, Any]] | None
    matching: list[dict[str, Any]]
    links: list[dict[str, Any]]
    notes: Mapping[str, Any] = field(default_factory=dict)

    @property
    def complete(self) -> bool:
        """Whether both parts ran."""
        return self.prediction is not None

    def tables(self) -> dict[str, list[dict[str, Any]]]:
        """Return titled tables for printing."""
        real = {} if self.prediction is None else {"PBMC: proteins from RNA, held-out cells": self.prediction}
        return {
            **real,
            "synthetic: match RNA and ATAC profiles, held-out cells": self.matching,
            "synthetic: recovery of planted links": self.links,
        }

    def as_dict(self) -> dict[str, Any]:
        """Return everything as JSON values."""
        return {"complete": self.complete, **asdict(self)}


def demo(out: Path | str, *, seed: int = 0, config: DemoConfig | None = None) -> Demo:
    """Run the demo and write ``metrics.json``, ``links.parquet``, ``figures/`` and ``report.html`` into ``out``.

    ``links.parquet`` has every candidate pair of the synthetic multiome: ``gene, peak``, from the store ``distance_bp,
    signed_offset, weight``, one column of scores per method, ``planted`` and ``planted_sign`` (0 where not planted).

    Parameters
    ----------
    out
        Folder. A complete demo of the same code, seed and configuration there is not run again; another one is
        replaced.
    seed
        Of the simulation, the splits and the training.
    config
        Sizes; those of ``make demo`` by default.

    Returns
    -------
    Demo

    Raises
    ------
    DataError
        When ``out`` holds something that is no demo.
    """
    out, config = Path(out), config or DemoConfig()
    mark = {"code": _code_hash(), "seed": seed, "config": _config.as_dict(config)}
    if (finished := _finished(out, mark)) is not None:
        text = f"{out} holds this demo, finished; delete the folder to run it again."
        stderr.print(text, markup=False, highlight=False, soft_wrap=True)
        return finished
    _clear(out)
    write_json(out / MARK, mark)
    begun = time.perf_counter()
    prediction, why = _predict_pbmc(out, seed, config.prediction)
    made, matching, candidates, links = _recover_links(out, seed, config)
    candidates.to_parquet(out / "links.parquet", index=False)
    result = Demo(
        None if prediction is None else prediction.rows(),
        matching.rows(),
        [{str(key): value for key, value in row.items()} for row in links.to_dict("records")],
        {
            "report": str(out / "report.html"),
            "seconds": round(time.perf_counter() - begun, 1),
            "seed": seed,
            "versions": installed_versions(),
            **({} if why is None else {"left out": why}),
        },
    )
    write_demo_report(out, result, made, candidates)
    write_json(out / DONE, result.as_dict())
    return result


def _predict_pbmc(out: Path, seed: int, sets: tuple[str, ...]) -> tuple[Scores | None, str | None]:
    from heteromics.data.fetch import locate

    stderr.print("(a) real PBMC: surface proteins from RNA", style="bold")
    try:
        path = locate(PBMC)
    except FetchError as error:
        why = str(error).splitlines()[0]
        stderr.print(
            f"(a) is left out, its data could not be had: {why}",
            style="yellow",
            markup=False,
            highlight=False,
            soft_wrap=True,
        )
        return None, why
    return train("scmognn", "prediction", path, out=out / "pbmc", seed=seed, sets=sets), None


def _recover_links(out: Path, seed: int, config: DemoConfig) -> tuple[Any, Scores, pd.DataFrame, pd.DataFrame]:
    from heteromics.graphs import HeteroGraph
    from heteromics.interpret import compare_links
    from heteromics.models.bi2former import Bi2Former
    from heteromics.priors import PriorStore

    stderr.print("(b) synthetic multiome: planted regulation", style="bold")
    made = simulate(config.synthetic, seed=seed)
    folder, db = made.write(out / "synthetic"), out / "priors.duckdb"
    with PriorStore.build("demo", db, sets=[f"source.folder={folder}"], force=True) as store:
        run = out / "bi2former"
        data = folder / "multiome.h5mu"
        matching = train("bi2former", "matching", data, out=run, db=db, seed=seed, sets=config.matching)
        graph = HeteroGraph.load(run / "graph")
        model = Bi2Former.load(run / "model", graph)
        tables = score_candidates(made, graph, model, store)
    candidates = tables.pop("candidates")
    recovered = compare_links(tables, made.truth, candidates, absolute=ABSOLUTE)
    candidates = candidates.rename(columns={"distance": "distance_bp"})
    for name, table in tables.items():
        candidates[name] = table["score"].to_numpy()
    truth = made.truth.set_index(["gene", "peak"])["sign"]
    pairs = candidates.set_index(["gene", "peak"]).index
    candidates["planted"] = pairs.isin(truth.index)
    candidates["planted_sign"] = truth.reindex(pairs).fillna(0).astype(int).to_numpy()
    return made, matching, candidates, recovered


ABSOLUTE = ("correlation", "correlation within types")


def score_candidates(made: Any, graph: Any, model: Any, store: Any) -> dict[str, pd.DataFrame]:
    """Score every gene-peak pair of the store by Bi2Former, distance and correlation; ``candidates`` is among them."""
    from heteromics.interpret import candidate_links, correlation_links, distance_links
    from heteromics.tasks.matching import paired_rows

    candidates = candidate_links(graph, store)
    rows, types = paired_rows(graph)
    rna, atac = made.mdata["rna"], made.mdata["atac"]
    links = model.links(rows, candidates=candidates)
    return {
        "candidates": candidates,
        "Bi2Former": links,
        "Bi2Former, attention alone": links.assign(score=links["attention"]),
        "correlation": correlation_links(rna, atac, candidates),
        "correlation within types": correlation_links(rna, atac, candidates, within=types),
        "distance": distance_links(candidates),
    }


def _code_hash() -> str:
    root = Path(heteromics.__file__).parent
    digest = hashlib.sha256()
    for path in sorted(root.rglob("*.py")):
        digest.update(path.relative_to(root).as_posix().encode() + b"\0" + path.read_bytes())
    return digest.hexdigest()


def _finished(out: Path, mark: Mapping[str, Any]) -> Demo | None:
    if not all((out / name).is_file() for name in (MARK, DONE, "report.html")):
        return None
    if json.loads((out / MARK).read_text(encoding="utf-8")) != mark:
        return None
    stored = json.loads((out / DONE).read_text(encoding="utf-8"))
    if not stored["complete"]:
        return None
    return Demo(**{key: stored[key] for key in ("prediction", "matching", "links", "notes")})


def _clear(out: Path) -> None:
    """Remove an earlier demo; what no demo wrote is left alone and refused."""
    if out.exists() and not out.is_dir():
        raise DataError(f"--out {out} is a file. Fix: name a folder.")
    there = sorted(path.name for path in out.iterdir()) if out.is_dir() else []
    half_written = tuple(f"{dot}{name}." for name in WRITTEN for dot in ("", "."))
    ours = [name for name in there if MARK in there and (name in WRITTEN or name.startswith(half_written))]
    if strange := sorted(set(there) - set(ours)):
        raise DataError(f"{out} holds {some(strange)}, which no demo wrote. Fix: choose another --out.")
    for name in ours:
        path = out / name
        shutil.rmtree(path) if path.is_dir() else path.unlink()
    out.mkdir(parents=True, exist_ok=True)

"""Figures and the page of the demo."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from heteromics import plot
from heteromics.workflows.report import Detail, Picture, Section, Table, picture, table, write_report

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure

    from heteromics.workflows.demo import Demo

METHODS = ("Bi2Former", "Bi2Former, attention alone", "correlation", "correlation within types", "distance")
SIGNED = ("correlation", "correlation within types")

CAPTIONS = {
    "pbmc_rmse": "Root mean squared error over 224 proteins of held-out cells (log1p counts); lower is better.",
    "pbmc_scatter": "Each hexagon counts protein values of held-out cells, scMoGNN against measured.",
    "pbmc_training": "First of the three networks that are averaged; it is kept as it was at the marked epoch.",
    "links_recall": "Every gene-peak pair within 150 kb is a candidate; those that were planted are to be found.",
    "links_auprc": "Area under the precision-recall curve of the same rankings.",
    "matching_training": "Cross-entropy of matching pairs; negatives are drawn anew in every epoch.",
    "locus": "Strongest links of one gene by Bi2Former. Wider arcs are stronger; orange was planted.",
}

TEXTS = {
    "prediction": (
        "800 blood cells with 500 genes and 224 surface proteins. scMoGNN passes messages between cells and genes "
        "along every non-zero count; test cells take part with their RNA alone. All figures are of held-out cells.",
        "The linear baseline was tuned on validation cells and then fitted on training and validation cells together, "
        "which favours it.",
    ),
    "matching": (
        "Do an RNA profile and an ATAC profile come from one cell? Easy negatives pair cells of different types, hard "
        "ones cells of one type. The control sees nothing but predicted cell types: what it reaches on easy pairs "
        "needs no regulation, and on hard pairs it can only guess.",
    ),
    "links": (
        "The effect of each gene-peak link on the log odds that two profiles match (attention times its gradient), "
        "averaged over the cells where the gene is expressed and the peak is open, and the attention alone, against "
        "the planted links. Distractor peaks near the same genes are as open in every cell type, but fluctuate "
        "independently of the gene. Correlation is ranked by size.",
        "The settings of Bi2Former were chosen with seed 0 and its truth in view: judge it by another seed.",
    ),
    "synthetic": (
        "These data are synthetic: simulated with planted regulation, so that links can be scored against a truth.",
    ),
}


def figures(out: Path, made: Any, candidates: pd.DataFrame) -> dict[str, Figure]:
    """Return the figures by name; those of real data only where that part ran."""
    scores = {name: _ranked(candidates, name) for name in METHODS}
    truth = candidates["planted"].to_numpy()
    drawn = _prediction_figures(out / "pbmc") if (out / "pbmc" / "run.json").is_file() else {}
    drawn["links_recall"] = plot.precision_recall(scores, truth, title="Planted links found")
    areas = {name: _area(truth, values) for name, values in scores.items()}
    drawn["links_auprc"] = plot.metric_bars(
        areas, "AUPRC (higher is better)", chance=truth.mean(), title="Planted links found"
    )
    history = json.loads((out / "bi2former" / "history.json").read_text(encoding="utf-8"))
    drawn["matching_training"] = plot.training_curve(history, title="Bi2Former, training")
    drawn["locus"] = _locus(made, candidates)
    return drawn


def _ranked(candidates: pd.DataFrame, name: str) -> np.ndarray:
    values = candidates[name].to_numpy(float)
    return np.abs(values) if name in SIGNED else values


def _area(truth: np.ndarray, values: np.ndarray) -> float:
    from heteromics.tasks.metrics import auprc

    return auprc(truth, values)


def _prediction_figures(run: Path) -> dict[str, Figure]:
    import pandas as pd

    metrics = pd.DataFrame(json.loads((run / "metrics.json").read_text(encoding="utf-8")))
    chosen = metrics[metrics["metric"] == "rmse"]
    errors = dict(zip(chosen["model"], chosen["value"], strict=True))
    measured, predicted = (pd.read_parquet(run / f"{name}.parquet") for name in ("measured", "predictions_scmognn"))
    history = json.loads((run / "history.json").read_text(encoding="utf-8"))
    first = [entry for entry in history if entry.get("member", 0) == 0]
    return {
        "pbmc_rmse": plot.metric_bars(errors, "RMSE (lower is better)", title="Proteins from RNA"),
        "pbmc_scatter": plot.predicted_against_measured(measured, predicted, unit="log1p counts", title="scMoGNN"),
        "pbmc_training": plot.training_curve(first, title="scMoGNN, training"),
    }


def _locus(made: Any, candidates: pd.DataFrame) -> Figure:
    """Draw the gene with most planted links, the first by name among equals."""
    from heteromics.priors.peaks import parse_peak_names

    counts = candidates[candidates["planted"]].groupby("gene").size()
    name = min(counts[counts == counts.max()].index)
    links = candidates[candidates["gene"] == name].reset_index(drop=True)
    peaks, _ = parse_peak_names(links["peak"].tolist())
    atac = made.mdata["atac"]
    share = np.asarray((atac.X > 0).mean(axis=0)).ravel()[atac.var_names.get_indexer(links["peak"])]
    links = links.assign(chrom_start=peaks.start, chrom_end=peaks.end, openness=share, score=links["Bi2Former"])
    row = made.genes.loc[made.genes["gene"] == name].iloc[0].rename({"gene": "symbol"})
    return plot.locus(row, links, title=f"{name} (synthetic): links by Bi2Former")


def write_demo_report(out: Path, result: Demo, made: Any, candidates: pd.DataFrame) -> Path:
    """Write every figure as PNG and SVG into ``out/figures``, and the self-contained page."""
    drawn = figures(out, made, candidates)
    for name, figure in drawn.items():
        plot.save_figure(figure, out / "figures", name)
    shown = {name: picture(figure, CAPTIONS[name]) for name, figure in drawn.items()}
    sections = [_prediction_section(result, shown), *_synthetic_sections(result, shown), _origin_section(out, result)]
    versions = result.notes["versions"]
    subtitle = (
        f"heteromics {versions['heteromics']}, seed {result.notes['seed']}, {result.notes['seconds']:,.0f} seconds"
    )
    return write_report(out / "report.html", "heteromics demo", subtitle, sections)


def _table(rows: list[dict[str, Any]], caption: str, by: str, *, lowest: bool = False) -> Table:
    import pandas as pd

    frame = pd.DataFrame(rows)
    best = frame[by].argmin() if lowest else frame[by].argmax()
    return table(frame, caption, best=int(best))


def _prediction_section(result: Demo, shown: dict[str, Picture]) -> Section:
    title = "Surface proteins from RNA: real PBMC"
    if result.prediction is None:
        return Section(title, notes=[f"Left out, the data could not be had: {result.notes['left out']}"])
    return Section(
        title,
        TEXTS["prediction"],
        tables=[_table(result.prediction, "Held-out test cells, log1p counts", "rmse", lowest=True)],
        figures=[shown[name] for name in ("pbmc_rmse", "pbmc_scatter", "pbmc_training")],
    )


def _synthetic_sections(result: Demo, shown: dict[str, Picture]) -> list[Section]:
    return [
        Section(
            "Matching RNA and ATAC profiles: synthetic multiome",
            TEXTS["matching"],
            TEXTS["synthetic"],
            [_table(result.matching, "Held-out test cells; no cell is in two splits", "auroc")],
            [shown["matching_training"]],
        ),
        Section(
            "Which peaks regulate which genes?",
            TEXTS["links"],
            TEXTS["synthetic"],
            [_table(result.links, "Candidates: every gene-peak pair within 150 kb", "auprc")],
            [shown[name] for name in ("links_recall", "links_auprc", "locus")],
        ),
    ]


def _origin_section(out: Path, result: Demo) -> Section:
    runs = {name: out / name / "run.json" for name in ("pbmc", "bi2former")}
    details = [
        Detail(f"{name}: run.json", path.read_text(encoding="utf-8")) for name, path in runs.items() if path.is_file()
    ]
    versions = Table(
        "Versions",
        ("package", "version"),
        tuple((name, version) for name, version in result.notes["versions"].items()),
    )
    paragraph = (
        f"Seed {result.notes['seed']} for simulation, splits and training. The same seed gives the same numbers."
    )
    return Section("How this was made", [paragraph], tables=[versions], details=details)

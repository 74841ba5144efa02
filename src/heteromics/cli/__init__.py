"""The command line: one command per verb; argument parsing and printing, nothing else.

Results go to stdout, progress and warnings to stderr. Exit status 0 means that everything asked for was done,
1 that it was not (the reason is printed), 2 that the command was not understood.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from heteromics import __version__
from heteromics._progress import stderr
from heteromics.cli import data, graph, priors
from heteromics.cli._show import Json, Sets, show_json, show_mapping, show_table
from heteromics.cli.reproduce import reproduce
from heteromics.errors import HeteromicsError

# Threads of torch that wait by spinning make small kernels ten times slower as soon as another process wants a core;
# OpenMP reads this once, when torch is first imported.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")


class _Telling(TyperGroup):
    """Commands of which an interrupted one prints the notes of its interrupt, which Typer does not show."""

    def invoke(self, ctx: Any) -> Any:
        try:
            return super().invoke(ctx)
        except KeyboardInterrupt as stopped:
            _say(*_notes(stopped))
            raise


app = typer.Typer(
    name="heteromics",
    cls=_Telling,
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode="markdown",
    help="""Heterogeneous graphs for multi-omics: priors, graphs, models, explained regulation.

The usual way, from files to explained links:

    heteromics priors build human_grch38 --db priors.duckdb --set source.peaks=multiome.h5mu

    heteromics train bi2former --task matching --data multiome.h5mu --db priors.duckdb --out runs/mine

    heteromics evaluate runs/mine

    heteromics explain runs/mine --out links

`heteromics demo` shows all of it on data that need no network.""",
)
app.add_typer(data.app, name="data")
app.add_typer(priors.app, name="priors")
app.add_typer(graph.app, name="graph")
app.command()(reproduce)

RunFolder = Annotated[Path, typer.Argument(metavar="RUN", help="Folder that `heteromics train --out` wrote.")]


def main() -> None:
    """Run the command line; an error raised on purpose is printed with its notes, not a traceback, with status 1."""
    try:
        app(prog_name="heteromics")
    except HeteromicsError as error:
        _say(f"error: {error}", *_notes(error))
        sys.exit(1)


def _notes(error: BaseException) -> list[str]:
    return [f"note: {note}" for note in getattr(error, "__notes__", ())]


def _say(*lines: str) -> None:
    for line in lines:
        stderr.print(line, style="red", markup=False, highlight=False, soft_wrap=True)


def _version(asked: bool) -> None:
    if asked:
        typer.echo(__version__)
        raise typer.Exit


@app.callback()
def common(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version and leave.")
    ] = False,
) -> None:
    """Take the options that stand before any command."""


@app.command()
def doctor(as_json: Json = False) -> None:
    """Say what this installation can do and how to get what is missing.

    Looks at versions, the device, DGL, recipes and the local mirror of data. Leaves with status 1 when something
    needed is missing; what only the benchmarks need is optional.
    """
    from heteromics.workflows.doctor import doctor as look

    checks = look()
    rows = [{"check": c.name, "state": c.state, "found": c.found, "fix": c.fix} for c in checks]
    if as_json:
        show_json({"ok": all(c.state != "missing" for c in checks), "checks": rows})
    else:
        show_table(rows)
    if any(check.state == "missing" for check in checks):
        raise typer.Exit(1)


@app.command()
def train(
    model: Annotated[str, typer.Argument(metavar="MODEL", help="scmognn or bi2former.")],
    task: Annotated[str, typer.Option(help="prediction (scmognn) or matching (bi2former).")],
    data_file: Annotated[Path, typer.Option("--data", help="MuData file (.h5mu) with the modalities of the task.")],
    out: Annotated[Path, typer.Option(help="Folder of the run; must not hold another run unless --resume.")],
    db: Annotated[Path | None, typer.Option(help="Prior store; bi2former needs one.")] = None,
    graph_folder: Annotated[Path | None, typer.Option("--graph", help="Graph folder built before.")] = None,
    seed: Annotated[int, typer.Option(help="Same seed, same result.")] = 0,
    device: Annotated[str, typer.Option(help="auto, cpu or cuda.")] = "auto",
    resume: Annotated[bool, typer.Option("--resume", help="Go on from the last checkpoint in --out.")] = False,
    sets: Sets = None,
    as_json: Json = False,
) -> None:
    """Train a model, score it on held-out cells beside its baselines, and keep all of it in one folder.

    Settings are grouped: `--set data.layer=counts`, `--set model.width=64`, `--set fit.max_epochs=300`.
    An unknown one is refused and the nearest known one offered.

    The folder holds run.json, model/, metrics.json, split.parquet, the predictions and history.json.
    """
    from heteromics.workflows.train import train as work

    result = work(
        model,
        task,
        data_file,
        out=out,
        db=db,
        graph=graph_folder,
        seed=seed,
        device=device,
        sets=sets or (),
        resume=resume,
    )
    if as_json:
        show_json(result.as_dict())
        return
    show_table(result.rows(), f"{model} · {task} · held-out test cells")
    show_mapping({"run": out, **result.notes})


@app.command()
def evaluate(
    run: RunFolder,
    data_file: Annotated[Path | None, typer.Option("--data", help="Other data; the run's own by default.")] = None,
    as_json: Json = False,
) -> None:
    """Score a trained model: on the held-out test cells of its run, or on all cells of other data.

    Other data must have the features the model was trained on; what differs is counted and named.
    """
    from heteromics.workflows.evaluate import evaluate as work

    result = work(run, data=data_file)
    if as_json:
        show_json(result.as_dict())
        return
    show_table(result.rows(), f"{run} · {result.scored_on}")
    show_mapping(result.notes)


@app.command()
def explain(
    run: RunFolder,
    out: Annotated[Path, typer.Option(help="Folder for the tables, the BEDPE file and the figure.")],
    gene: Annotated[str | None, typer.Option(help="Only this gene (symbol or id); adds a figure of its locus.")] = None,
    cell_type: Annotated[str | None, typer.Option(help="Only cells of this type.")] = None,
    factor: Annotated[
        str | None, typer.Option(help="Transcription factor or motif to mark in the figure; needs --gene.")
    ] = None,
    permutations: Annotated[
        int, typer.Option(help="How often cells are exchanged; each takes as long as the links themselves.")
    ] = 10,
    least_expected: Annotated[
        float, typer.Option(help="Test pairs that chance alone would bring together in as many cells.")
    ] = 10.0,
    reach: Annotated[
        int, typer.Option(metavar="BP", help="Half the width of the figure; the tables have all links.")
    ] = 250_000,
    as_json: Json = False,
) -> None:
    """Test the gene-peak links that a trained bi2former rests on, and write them.

    `heteromics explain runs/mine --gene Rorb --cell-type E3Rorb --out links`

    **score** is what the log odds of "same cell" would lose without the link, the mean over cells that express the gene
    and have the peak open (**n_pairs**).

    **z, p, fdr**: against cells exchanged within their type, batch and depth. A z far above 0 says that gene and peak
    go together cell by cell, one far below that they avoid each other or, more often, that gene or peak has its link
    elsewhere. **z_distance** and so on: against links as long on the same chromosome. A link worth following is above
    both (**fdr_both**); **posterior** brings z and distance together, for links of either sign, and the table is in its
    order.

    Tested are the pairs that the prior store of the run links and that would meet in some cells by chance alone.
    Attention is no proof of regulation: look for evidence (motifs, ChIP, regulons) with `heteromics.interpret`.
    """
    from heteromics.workflows.explain import explain as work

    result = work(
        run,
        out=out,
        gene=gene,
        cell_type=cell_type,
        factor=factor,
        permutations=permutations,
        least_expected=least_expected,
        reach_bp=reach,
    )
    if as_json:
        show_json(result.as_dict())
        return
    show_table(result.rows(), f"strongest links of {gene or 'all genes'}, {cell_type or 'all cells'}")
    show_mapping({name: value for name, value in result.notes.items() if value not in result.files})
    show_table([{"file": str(path), "holds": what} for path, what in result.files.items()])


@app.command()
def demo(
    out: Annotated[Path, typer.Option(help="Folder for report.html, metrics.json, links.parquet and figures.")] = Path(
        "runs/demo"
    ),
    seed: Annotated[int, typer.Option(help="Same seed, same result.")] = 0,
    as_json: Json = False,
) -> None:
    """Show the whole way in a few minutes: data, priors, graphs, two models, metrics, links, report.

    (a) Real PBMC: surface proteins predicted from RNA by scMoGNN, beside its baselines, on held-out cells.
    (b) A synthetic multiome with planted regulation: priors from its GTF, FASTA and peaks, Bi²Former, and how well
    its links recover what was planted, beside distance and correlation.

    Where the real data cannot be had, one line says so and (b) goes on alone; the status is 1 then.
    """
    from heteromics.workflows.demo import demo as work

    result = work(out, seed=seed)
    if as_json:
        show_json(result.as_dict())
    else:
        for title, rows in result.tables().items():
            show_table(rows, title)
        show_mapping(result.notes)
    if not result.complete:
        raise typer.Exit(1)

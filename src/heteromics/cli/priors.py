"""``heteromics priors``: one DuckDB file of priors, from plan to report."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from heteromics.cli import priors_graph
from heteromics.cli._show import Json, Sets, show_json, show_mapping, show_table

app = typer.Typer(
    no_args_is_help=True,
    rich_markup_mode="markdown",
    help="""Build and read the prior store: genes, peaks, links, pathways and interactions in one DuckDB file.

A recipe says which sources, which tables, which parameters. Shipped: `demo`, `human_grch38`, `mouse_grcm38`; or give a
path. Inputs that no manifest names are given by `--set source.gtf=genes.gtf.gz --set source.peaks=multiome.h5mu`.

A store answers questions: `schema` explains its tables, `neighbors`, `paths` and `components` follow its edges, `why`
gives the evidence for one edge, `diff` compares two stores, `export` writes one for other programs.""",
)

Recipe = Annotated[str, typer.Argument(metavar="RECIPE", help="Name of a shipped recipe, or a YAML file.")]
Store = Annotated[Path, typer.Argument(metavar="FILE", help="Prior store (.duckdb).")]
Mirror = Annotated[Path | None, typer.Option(help="Local mirror of data; HETEROMICS_DATA by default.")]


@app.command()
def plan(
    recipe: Recipe,
    db: Annotated[
        Path | None, typer.Option(help="Also say which tables of this store a build would keep; reads the sources.")
    ] = None,
    sets: Sets = None,
    mirror: Mirror = None,
    as_json: Json = False,
) -> None:
    """Say what a build would read and make: sources, whether they are at hand, tables, rough rows, bytes and seconds.

    Looks at the beginnings of the sources and writes nothing. Leaves with status 1 when a source is missing.

        heteromics priors plan human_grch38 --set source.peaks=multiome.h5mu --db priors.duckdb
    """
    from heteromics.priors import PriorStore

    planned = PriorStore.plan(recipe, sets=sets or (), db=db, mirror=mirror)
    if as_json:
        show_json(planned.as_dict())
    else:
        totals = {key: value for key, value in planned.totals.items() if key != "unknown"}
        unknown = f"of {planned.totals['unknown']} tables not known" if planned.totals["unknown"] else ""
        show_table(planned.source_rows(), "sources")
        show_table([*planned.table_rows(), {"table": "in all", "sources": unknown, **totals}], "tables")
    if planned.missing:
        raise typer.Exit(1)


@app.command()
def build(
    recipe: Recipe,
    db: Annotated[Path, typer.Option(help="The store to write; an old one stays whole until the new one is complete.")],
    force: Annotated[
        bool, typer.Option("--force", help="Replace a store that is already there, keeping its unchanged tables.")
    ] = False,
    fresh: Annotated[
        bool, typer.Option("--fresh", help="Keep nothing of earlier builds: make every table anew.")
    ] = False,
    sets: Sets = None,
    mirror: Mirror = None,
    as_json: Json = False,
) -> None:
    """Build the store and say, table by table, how many rows it has and how many names of each source did not join.

    Tables whose settings, sources and code are unchanged are kept: those of the store that `--force` replaces, and
    those that a build finished before it was killed or stopped at a bad source. A store in which nothing has changed
    is left as it is.

        heteromics priors build human_grch38 --db priors.duckdb --set source.peaks=multiome.h5mu

        heteromics priors build human_grch38 --db priors.duckdb --set edges.gene_peak.within_bp=1_000_000 --force
    """
    from heteromics.priors import PriorStore
    from heteromics.priors.build import run_build

    done = run_build(recipe, db, sets=sets or (), force=force, fresh=fresh, mirror=mirror)
    with PriorStore.open(done.path) as store:
        tables = store.summary().to_dict("records")
        if as_json:
            said = {"up_to_date": done.up_to_date, "made": done.made, "kept": done.kept}
            show_json({"db": db, **store.info, **said, "tables": tables})
            return
        state = "up to date" if done.up_to_date else f"{len(done.made)} steps made, {len(done.kept)} kept"
        show_table(tables, f"{db}: {state}")
        show_table(store.match_summary().to_dict("records"), "names (details: heteromics priors report)")


@app.command()
def show(db: Store, as_json: Json = False) -> None:
    """Show what a store holds: assembly, recipe, tables with rows, and where each came from."""
    from heteromics.priors import PriorStore

    with PriorStore.open(db) as store:
        tables, sources = store.summary().to_dict("records"), store.provenance().to_dict("records")
        if as_json:
            show_json({**store.info, "tables": tables, "provenance": sources})
            return
        show_mapping({key: value for key, value in store.info.items() if key != "recipe_yaml"}, str(db))
        show_table(tables, "tables")
        show_table(sources, "sources", columns=["table_name", "source", "version", "licence", "rows", "seconds"])


@app.command()
def report(
    db: Store,
    table: Annotated[str | None, typer.Option(help="Only names that were to join this table.")] = None,
    outcome: Annotated[str | None, typer.Option(help="Only this outcome, such as absent or ambiguous.")] = None,
    most: Annotated[int, typer.Option(help="Rows to print; --json prints all.")] = 40,
    as_json: Json = False,
) -> None:
    """Name every name that did not join as it stood, and why: version stripped, alias, ambiguous, absent."""
    from heteromics.priors import PriorStore

    with PriorStore.open(db) as store:
        summary = store.match_summary().to_dict("records")
        rows = store.match_report(table, outcome).to_dict("records")
    if as_json:
        show_json({"summary": summary, "names": rows})
        return
    show_table(summary, "joined and not")
    show_table(rows[:most], f"names ({min(most, len(rows)):,} of {len(rows):,})")


for command in priors_graph.COMMANDS:
    app.command()(command)

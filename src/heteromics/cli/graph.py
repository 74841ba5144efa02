"""``heteromics graph``: heterographs from data and priors."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from heteromics.cli._show import Json, Sets, show_json, show_table

app = typer.Typer(
    no_args_is_help=True,
    rich_markup_mode="markdown",
    help="""Build and look at heterographs.

Shipped recipes: `cell_feature` (cells and features joined by every non-zero value) and `bipartite` (attributed
bipartite graphs of RNA and ATAC profiles). A graph is a folder of Parquet edges, safetensors features and a schema.""",
)

Recipe = Annotated[str, typer.Argument(metavar="RECIPE", help="Name of a shipped recipe, or a YAML file.")]
Data = Annotated[Path, typer.Option("--data", help="AnnData or MuData file.")]
Db = Annotated[Path | None, typer.Option(help="Prior store, where the recipe uses one.")]
Folder = Annotated[Path, typer.Argument(metavar="DIR", help="Graph folder.")]


@app.command()
def plan(recipe: Recipe, data: Data, db: Db = None, sets: Sets = None, as_json: Json = False) -> None:
    """Say how many nodes, edges and bytes a graph would have, from the files' metadata alone."""
    from heteromics.graphs import recipe as room

    planned = room.plan(recipe, data, db, sets=sets or ())
    if as_json:
        show_json(planned.as_dict())
        return
    show_table(planned.rows(), "planned graph")


@app.command()
def build(
    recipe: Recipe,
    data: Data,
    out: Annotated[Path, typer.Option(help="Graph folder to write; an old graph there is replaced when complete.")],
    db: Db = None,
    sets: Sets = None,
    as_json: Json = False,
) -> None:
    """Build a graph, check it, write it, and print its card."""
    from heteromics.graphs import recipe as room

    graph = room.build(recipe, data, db, sets=sets or ()).validate()
    graph.save(out)
    show_json(graph.card.as_dict()) if as_json else typer.echo(graph.card.text())


@app.command()
def card(folder: Folder, as_json: Json = False) -> None:
    """Print the card of a graph: counts, degrees, isolated nodes, coverage per chromosome, origin, bytes."""
    from heteromics.graphs import HeteroGraph

    shown = HeteroGraph.load(folder).card
    show_json(shown.as_dict()) if as_json else typer.echo(shown.text())


@app.command()
def diff(
    a: Annotated[Path, typer.Argument(metavar="A", help="Graph folder.")],
    b: Annotated[Path, typer.Argument(metavar="B", help="Another graph folder.")],
    as_json: Json = False,
) -> None:
    """Compare two graphs: node and edge types, counts, names gained and lost, parameters."""
    from heteromics.graphs import HeteroGraph
    from heteromics.graphs.compare import diff as differences

    rows = differences(HeteroGraph.load(a), HeteroGraph.load(b))
    show_json(rows) if as_json else show_table(rows, f"{a} and {b}")

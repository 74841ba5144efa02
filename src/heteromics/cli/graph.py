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

Shipped recipes:

- `cell_feature`: cells and features joined by every non-zero value (scMoGNN)
- `bipartite`: attributed bipartite graphs of RNA and ATAC profiles (Bi²Former)
- `multiomics`: cells, genes, proteins and peaks with what a prior store knows of them (scMoFormer)
- `mutual_neighbors`: cells of two modalities that are nearest to each other (GRACE)
- `spatial`: cells that lie near each other in a tissue (SpaFormer, CellPLM)

A graph is a folder of Parquet edges, safetensors features and a schema; a graph of more cells than memory holds is a
folder of such folders (`build --cells-per-shard`).""",
)

Recipe = Annotated[str, typer.Argument(metavar="RECIPE", help="Name of a shipped recipe, or a YAML file.")]
Data = Annotated[Path, typer.Option("--data", help="AnnData or MuData file.")]
Db = Annotated[Path | None, typer.Option(help="Prior store, where the recipe uses one.")]
Folder = Annotated[Path, typer.Argument(metavar="DIR", help="Graph folder, or folder of shards.")]


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
    cells_per_shard: Annotated[
        int | None,
        typer.Option(
            help="Write shards of so many cells, each a graph folder; the file is read block by block, so that memory "
            "holds one shard."
        ),
    ] = None,
    sets: Sets = None,
    as_json: Json = False,
) -> None:
    """Build a graph, check it, write it, and print its card."""
    from heteromics.graphs import recipe as room
    from heteromics.graphs import shards

    if cells_per_shard is None:
        graph = room.build(recipe, data, db, sets=sets or ()).validate()
        graph.save(out)
        made = graph.card
    else:
        made = shards.build_in_shards(recipe, data, out, cells_per_shard, db, sets=sets or ()).card
    show_json(made.as_dict()) if as_json else typer.echo(made.text())


@app.command()
def card(
    folder: Folder,
    html: Annotated[Path | None, typer.Option(help="Also write the card as an HTML page.")] = None,
    as_json: Json = False,
) -> None:
    """Print the card of a graph: counts, degrees, isolated nodes, coverage per chromosome, origin, bytes."""
    from heteromics.graphs import HeteroGraph
    from heteromics.graphs.shards import ShardedGraph, read_index

    shown = HeteroGraph.load(folder).card if read_index(folder) is None else ShardedGraph.open(folder).card
    if html is not None:
        shown.save_html(html)
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

"""``heteromics priors``, the questions: what a store's tables mean, what is linked, why, and what differs."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from heteromics.cli._show import Json, show_json, show_mapping, show_table

Store = Annotated[Path, typer.Argument(metavar="FILE", help="Prior store (.duckdb).")]
Edges = Annotated[
    list[str] | None,
    typer.Option("--edges", metavar="TABLE", help="Walk along this edge table only; give it again for more."),
]
Scores = Annotated[
    list[str] | None,
    typer.Option(
        "--min-score",
        metavar="[TABLE=]NUMBER",
        help="Least score of an edge, for all tables that have a score or for one; others keep their edges.",
    ),
]
SHOWN_NODES = 3


def schema(
    db: Annotated[Path | None, typer.Argument(metavar="FILE", help="Prior store; without it all tables known.")] = None,
    table: Annotated[str | None, typer.Option(help="Only this table.")] = None,
    as_json: Json = False,
) -> None:
    """Explain the tables and columns of a store, or of all stores: types, keys, what edges link, scores, meaning.

    The same comments stand in the file itself, for `duckdb FILE` and any other reader (`duckdb_columns()`).

        heteromics priors schema

        heteromics priors schema priors.duckdb --table gene_peak
    """
    from heteromics.errors import StoreError, did_you_mean
    from heteromics.priors import PriorStore
    from heteromics.priors.query import described

    if db is None:
        tables = described()
    else:
        with PriorStore.open(db) as store:
            tables = described(store)
    known = [each["table"] for each in tables]
    if table is not None and table not in known:
        raise StoreError(f"no table '{table}'. {did_you_mean(table, known)}Tables: {', '.join(known)}.")
    tables = [each for each in tables if table in (None, each["table"])]
    if as_json:
        show_json({"tables": tables})
        return
    show_table([{"table": t["table"], "kind": t["kind"], "links": _links(t), "comment": t["comment"]} for t in tables])
    columns = ["column", "type", "role", "end", "nullable", "comment"]
    for each in tables:
        show_table(each["columns"], f"\n{each['table']}", columns=columns)


def _links(table: dict[str, Any]) -> str:
    arrow = " to " if table["directed"] else " and "
    return arrow.join(end["table"] for end in table["ends"])


def neighbors(
    db: Store,
    nodes: Annotated[list[str], typer.Argument(metavar="NODE", help="Identifier or symbol; or kind:NAME.")],
    hops: Annotated[int, typer.Option(help="How far to go.")] = 1,
    edges: Edges = None,
    direction: Annotated[str, typer.Option(help="both; out: first end to second, such as gene to peak; in.")] = "both",
    min_score: Scores = None,
    as_json: Json = False,
) -> None:
    """List what lies within some hops of a node, or of several, each once, with the edge tables of the last hop.

    heteromics priors neighbors priors.duckdb GATA1

    heteromics priors neighbors priors.duckdb GATA1 TAL1 --hops 2 --edges gene_peak --edges tf_peak

    heteromics priors neighbors priors.duckdb GATA1 --edges gene_gene --min-score 0.7
    """
    from heteromics.priors import PriorStore
    from heteromics.priors.names import with_labels

    with PriorStore.open(db) as store:
        found = store.neighbors(nodes, hops, edges, direction, _scores(min_score))  # type: ignore[arg-type]
        rows = _records(with_labels(store, found))
    if as_json:
        show_json(rows)
    else:
        show_table(rows, f"{len(rows):,} nodes within {hops} of {', '.join(nodes)}")


def paths(
    db: Store,
    a: Annotated[str, typer.Argument(metavar="A", help="Identifier or symbol; or kind:NAME.")],
    b: Annotated[str, typer.Argument(metavar="B", help="Another.")],
    max_hops: Annotated[int, typer.Option(help="Longest path to look for.")] = 3,
    edges: Edges = None,
    min_score: Scores = None,
    most: Annotated[int, typer.Option(help="Number of paths to list.")] = 20,
    as_json: Json = False,
) -> None:
    """List the shortest paths between two nodes, with what links each step; status 1 when there is none.

    heteromics priors paths priors.duckdb GATA1 HBB

    heteromics priors paths priors.duckdb GATA1 chrX:48785000-48786000 --max-hops 4 --min-score gene_gene=0.9
    """
    from heteromics._progress import stderr
    from heteromics.priors import PriorStore
    from heteromics.priors.names import with_labels

    with PriorStore.open(db) as store:
        found = store.paths(a, b, max_hops, edges, _scores(min_score), most)
        rows, in_all = _records(with_labels(store, found)), found.attrs["n_paths"]
    if as_json:
        show_json({"n_paths": in_all, "steps": rows})
    elif rows:
        listed = rows[-1]["path"] + 1
        show_table(rows, f"{listed:,} of {in_all:,} shortest paths, {rows[-1]['step']} hops")
    if not rows:
        stderr.print(f"no path of at most {max_hops} hops between {a} and {b}", markup=False, highlight=False)
        raise typer.Exit(1)


def why(
    db: Store,
    edge: Annotated[list[str], typer.Argument(metavar="EDGE", help="Two nodes, as A,B or as two words: A B.")],
    as_json: Json = False,
) -> None:
    """Give all evidence for the edge between two nodes: each edge table's row, its sources, and what else supports it.

    For a gene and a peak that is also which transcription factors with a motif in the peak regulate the gene, what
    regions the peak overlaps, and what it lies on, where the store has these tables.

        heteromics priors why priors.duckdb GATA1,chrX:48785000-48786000

        heteromics priors why priors.duckdb "HALLMARK_HYPOXIA" VEGFA --json
    """
    from heteromics.priors import PriorStore

    a, b = _ends(edge)
    with PriorStore.open(db) as store:
        (row,) = _records(store.why(a, b))
    show_json(row) if as_json else show_mapping(row, f"{a} and {b}")


def _ends(edge: list[str]) -> list[str]:
    ends = [end.strip() for end in edge[0].split(",")] if len(edge) == 1 else edge
    if len(ends) != 2 or not all(ends):
        raise typer.BadParameter(f"found {' '.join(edge)!r}, expected two nodes: A,B, or A B where a name has a comma.")
    return ends


def components(
    db: Store,
    edges: Edges = None,
    min_score: Scores = None,
    most: Annotated[int, typer.Option(help="Components to print, the largest first; --json prints all.")] = 20,
    as_json: Json = False,
) -> None:
    """Count the connected components: their sizes, what kinds of nodes they hold, and a few of their nodes.

    heteromics priors components priors.duckdb --edges gene_gene --min-score 0.9
    """
    from heteromics.priors import PriorStore
    from heteromics.priors.names import with_labels

    with PriorStore.open(db) as store:
        found = store.components(edges, _scores(min_score))
        first = with_labels(store, found.groupby("component").head(SHOWN_NODES))
    named = first["label"].where(first["label"] != "", first["node"]).groupby(first["component"]).agg(list)
    counted = found.groupby(["component", "node_type"]).size().unstack(fill_value=0)
    counted = counted.assign(nodes=counted.sum(axis=1), first=named).reset_index()
    rows = _records(counted)
    if as_json:
        show_json(rows)
        return
    alone = sum(row["nodes"] == 1 for row in rows)
    title = f"{len(rows):,} components of {len(found):,} nodes; {alone:,} of one node without an edge"
    show_table(rows[:most], title)


def export(
    db: Store,
    out: Annotated[Path, typer.Option(help="Folder (parquet, tsv) or file (graphml, bedpe) to write.")],
    form: Annotated[str, typer.Option("--format", help="parquet, tsv, graphml or bedpe.")] = "parquet",
    tables: Annotated[
        list[str] | None, typer.Option("--table", help="Only this table; give it again for more. Edges for graphml.")
    ] = None,
    min_score: Scores = None,
    force: Annotated[bool, typer.Option("--force", help="Replace an earlier export.")] = False,
    as_json: Json = False,
) -> None:
    """Write a store for other programs; whole or not at all.

    parquet and tsv: a folder with one file per table and schema.json. graphml: nodes and edges, for networkx, igraph,
    Cytoscape, Gephi. bedpe: gene-peak links from start site to peak, for bedtools and genome browsers.

        heteromics priors export priors.duckdb --out tables

        heteromics priors export priors.duckdb --out links.bedpe --format bedpe --min-score 0.5

        heteromics priors export priors.duckdb --out net.graphml --format graphml --table gene_gene --table tf_gene
    """
    from heteromics.priors import PriorStore

    with PriorStore.open(db) as store:
        files = store.export(out, form, tables, _scores(min_score), force=force)  # type: ignore[arg-type]
    rows = [{"file": path, "bytes": path.stat().st_size} for path in files]
    show_json(rows) if as_json else show_table(rows, str(out))


def diff(
    a: Annotated[Path, typer.Argument(metavar="A", help="Prior store.")],
    b: Annotated[Path, typer.Argument(metavar="B", help="Another.")],
    most: Annotated[int, typer.Option(help="Keys to name as examples, per table and kind of change.")] = 3,
    as_json: Json = False,
) -> None:
    """Compare two stores: tables, rows gained, lost and changed by key, sources, recipe. Status 0, equal or not.

    Dates and times do not count as differences.

        heteromics priors diff old.duckdb new.duckdb
    """
    from heteromics.priors import PriorStore

    with PriorStore.open(a) as store:
        found = store.diff(b, most)
    if as_json:
        show_json(found.as_dict())
        return
    verdict = "equal: the same tables, rows, sources and recipe" if found.equal else "not equal"
    show_table(found.rows(), f"{a} and {b}: {verdict}")
    changes = [
        {
            "table": table.table,
            "change": what,
            "examples": keys,
            "columns": [f"{column} ({n:,})" for column, n in table.changed_in.items()] if what == "changed" else [],
        }
        for table in found.tables
        for what, keys in table.examples.items()
    ]
    for title, rows in (("rows", changes), ("sources", found.sources), ("recipe", found.recipe)):
        if rows:
            show_table(rows, f"\n{title}")


def _scores(given: list[str] | None) -> float | dict[str, float] | None:
    """Read ``0.7`` or ``gene_gene=0.7``, the latter once per table."""
    if not given:
        return None
    named = [text.rpartition("=") for text in given]
    try:
        scores = {table: float(number) for table, _, number in named}
    except ValueError:
        raise typer.BadParameter(f"--min-score {' '.join(given)}: expected a number or TABLE=NUMBER.") from None
    if "" in scores and len(given) > 1:
        raise typer.BadParameter("--min-score: give one number for all tables, or TABLE=NUMBER for each.")
    return scores.get("", scores)


def _records(frame: Any) -> list[dict[str, Any]]:
    """Return rows as mappings, with None for what is not there."""
    rows: list[dict[str, Any]] = frame.astype(object).where(frame.notna(), None).to_dict("records")
    return rows


COMMANDS = (schema, neighbors, paths, why, components, export, diff)
"""Commands of this module, in the order they are listed."""

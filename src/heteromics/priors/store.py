"""The prior store: one DuckDB file with tables of genes, peaks and what links them, read by many, written by one."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Literal, Self

import duckdb

from heteromics.errors import StoreError, did_you_mean
from heteromics.priors import compare, components, evidence, export, query, subgraph, walk
from heteromics.priors._opening import opened
from heteromics.priors.schemas import SCHEMAS

if TYPE_CHECKING:
    import networkx as nx
    import pandas as pd

    from heteromics.priors.plan import Plan


class PriorStore:
    """An open prior store.

    Open one with :meth:`open`, make one with :meth:`build`. It is a context manager; what it returns as DataFrame or
    graph outlives it, relations do not.

    Attributes
    ----------
    path
        The DuckDB file.
    info
        ``assembly``, ``chrom_style``, ``recipe``, ``recipe_hash``, ``content_hash`` (over the settings, sources, code
        and rows of all steps; stores of earlier releases lack it), ``recipe_yaml``, ``heteromics_version``,
        ``format_version`` and ``created`` (UTC), all text.

    Examples
    --------
    >>> from heteromics.priors import PriorStore
    >>> PriorStore.open("nowhere.duckdb")
    Traceback (most recent call last):
        ...
    heteromics.errors.StoreError: nowhere.duckdb: no such store. Fix: heteromics priors build RECIPE --db nowhere.duckdb
    """

    def __init__(self, path: Path, connection: duckdb.DuckDBPyConnection, info: dict[str, str]) -> None:
        self.path = path
        self.info = info
        self._connection: duckdb.DuckDBPyConnection | None = connection

    @classmethod
    def open(cls, path: str | Path) -> PriorStore:
        """Open a store for reading; any number of processes may.

        Raises
        ------
        StoreError
            When there is no file, it is no prior store, or it has another format version.
        """
        path = Path(path)
        if not path.is_file():
            raise StoreError(f"{path}: no such store. Fix: heteromics priors build RECIPE --db {path}")
        return cls(path, *opened(path))

    @classmethod
    def build(
        cls,
        recipe: str | Path,
        db: str | Path,
        *,
        sets: Sequence[str] = (),
        force: bool = False,
        fresh: bool = False,
        mirror: str | Path | None = None,
        progress: bool = True,
    ) -> PriorStore:
        """Build a store from a recipe and open it; see :func:`heteromics.priors.build.build_store`."""
        from heteromics.priors.build import build_store

        return cls.open(build_store(recipe, db, sets=sets, force=force, fresh=fresh, mirror=mirror, progress=progress))

    @staticmethod
    def plan(
        recipe: str | Path,
        *,
        sets: Sequence[str] = (),
        db: str | Path | None = None,
        mirror: str | Path | None = None,
    ) -> Plan:
        """Say what a recipe needs and would make, before any work; see :func:`heteromics.priors.plan.make_plan`."""
        from heteromics.priors.plan import make_plan

        return make_plan(recipe, sets=sets, db=db, mirror=mirror)

    def close(self) -> None:
        """Close the file; closing again does nothing."""
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def __repr__(self) -> str:
        state = "closed" if self._connection is None else ", ".join(self.tables())
        return f"PriorStore({self.path}, {self.info['assembly']}: {state})"

    @property
    def connection(self) -> duckdb.DuckDBPyConnection:
        """The DuckDB connection, for questions in SQL; the file is attached read-only as ``store``, which is in use.

        A ``cursor()`` of it, as each further thread needs one, begins with ``USE store``.
        """
        if self._connection is None:
            raise StoreError(f"{self.path} is closed. Fix: PriorStore.open it again.")
        return self._connection

    def tables(self) -> list[str]:
        """Return the names of the tables this store has: nodes, edges, attributes, then the books."""
        sql = "SELECT table_name FROM duckdb_tables() WHERE database_name = current_database()"
        there = {name for (name,) in self.connection.execute(sql).fetchall()}
        return [name for name in SCHEMAS if name in there]

    def table(self, name: str) -> duckdb.DuckDBPyRelation:
        """Return a table as a DuckDB relation, to be filtered and joined lazily; a relation keeps no result.

        Raises
        ------
        StoreError
            When the store has no such table; the nearest name is offered.
        """
        there = self.tables()
        if name not in there:
            hint = did_you_mean(name, there)
            known = "Its recipe did not build it. " if name in SCHEMAS else ""
            raise StoreError(f"{self.path} has no table '{name}'. {known}{hint}Tables: {', '.join(there)}.")
        return self.connection.table(name)

    def frame(self, name: str) -> pd.DataFrame:
        """Return a whole table as a DataFrame, in stored order."""
        return self.table(name).df()

    def neighbors(
        self,
        node: str | Sequence[str],
        hops: int = 1,
        edges: str | Sequence[str] | None = None,
        direction: Literal["both", "out", "in"] = "both",
        min_score: float | Mapping[str, float] | None = None,
    ) -> pd.DataFrame:
        """Return the nodes within some hops of a node, or of several, each once at its smallest number of hops.

        Parameters
        ----------
        node
            Identifier of any node, or symbol or other name of a gene, protein, motif or transcript; ``gene:NAME`` and
            so on where a name is of two kinds.
        hops
            How far to go, 1 or more.
        edges
            Edge tables to walk along; all of the store when None.
        direction
            ``out`` goes from the first end of an edge to the second (gene to peak), ``in`` the other way. Undirected
            tables (``gene_gene``, ``protein_protein``, ``cell_cell``) are walked both ways always.
        min_score
            Least score of the edges to walk along, in the units of each table's score (:meth:`schema` names it): one
            number for every table that has a score, or one by table. Edges of tables without a score are kept.

        Returns
        -------
        pandas.DataFrame
            ``node, node_type, hop, via`` (edge tables of the last step), by hop, node type and node.

        Raises
        ------
        StoreError
            For a node that is not there (the nearest names are offered) or is ambiguous, an unknown edge table, or a
            least score for a table that has no score.
        """
        return walk.neighbors(self, node, hops, edges, direction, min_score)

    def paths(
        self,
        a: str,
        b: str,
        max_hops: int = 3,
        edges: str | Sequence[str] | None = None,
        min_score: float | Mapping[str, float] | None = None,
        most: int = 100,
    ) -> pd.DataFrame:
        """Return the shortest paths between two nodes, all of the one smallest length, in whatever direction.

        Parameters
        ----------
        a, b
            Two nodes, named as for :meth:`neighbors`.
        max_hops
            Longest path to look for.
        edges, min_score
            As for :meth:`neighbors`.
        most
            Number of paths to list; the first ones in the order of their nodes.

        Returns
        -------
        pandas.DataFrame
            ``path`` (from 0), ``step`` (0 is ``a``), ``node, node_type``, ``via`` (the edge tables that link the node
            to the one before) and ``score`` (the highest score of that link; NaN where its table has none, or where
            several tables link the two, whose scores do not compare: :meth:`why` shows them). Two paths differ in a
            node. No rows when no path is short enough. ``attrs["n_paths"]`` is the number of all shortest paths.

        Raises
        ------
        StoreError
            As :meth:`neighbors`; also when both names mean one node.
        """
        return walk.paths(self, a, b, max_hops, edges, min_score, most)

    def components(
        self,
        edges: str | Sequence[str] | None = None,
        min_score: float | Mapping[str, float] | None = None,
    ) -> pd.DataFrame:
        """Return the connected component of each node, along edges in whatever direction.

        Parameters
        ----------
        edges, min_score
            As for :meth:`neighbors`. Nodes of the kinds these edges link are looked at; one that has no edge is a
            component of its own.

        Returns
        -------
        pandas.DataFrame
            ``node, node_type, component`` (0 is the largest) and ``size`` (nodes in it), by component, node type and
            node.

        Raises
        ------
        StoreError
            As :meth:`neighbors`.
        """
        return components.components(self, edges, min_score)

    def why(self, a: str, b: str) -> pd.DataFrame:
        """Return all evidence for the edge between two nodes in one row.

        Parameters
        ----------
        a, b
            Two nodes, named as for :meth:`neighbors`, in either order.

        Returns
        -------
        pandas.DataFrame
            One row. ``a_type, a, b_type, b``; ``edge_tables``, those that link the two; the columns of each such edge,
            led by its table (``gene_peak.distance``), by ``table:source`` where a table keeps several sources apart
            (``gene_gene:string.weight``), with ``:back`` where a directed edge goes from ``b`` to ``a``; and
            ``TABLE.sources``, the files that table was made from, with version and the beginning of the checksum.

            For a gene and a peak also what supports the link indirectly, where the store has the tables:
            ``regulators.*``, the transcription factors with a motif in the peak that regulate the gene, best motif
            first (lists; sign and source hold one entry per source); ``regions.*``, the regions of named sets that the
            peak overlaps; ``peak_annotation.*``.

        Raises
        ------
        StoreError
            When no edge links the two; what edges they have is said. As :meth:`neighbors` for their names.
        """
        return evidence.why(self, a, b)

    def subgraph(self, nodes: Sequence[str]) -> nx.MultiDiGraph:
        """Return the nodes named and all edges among them as a networkx graph.

        Nodes carry ``node_type``, their node table's columns and those of the attribute tables that have one row per
        node, NULL as None and arrays as lists; a column name that several of these tables have is led by its table
        (``peak_summary.feature``). Edges have the edge table as key (``table:source`` where a table keeps several
        sources apart) and its other columns as attributes. An undirected edge stands in both directions, with
        ``directed=False``.

        Raises
        ------
        StoreError
            As :meth:`neighbors`; also when two of the nodes are of different kinds but have the same name.
        """
        return subgraph.subgraph(self, nodes)

    def export(
        self,
        out: str | Path,
        format: export.Format = "parquet",  # noqa: A002  the word users look for
        tables: str | Sequence[str] | None = None,
        min_score: float | Mapping[str, float] | None = None,
        *,
        force: bool = False,
        progress: bool = True,
    ) -> list[Path]:
        """Write tables, or all nodes and edges as one graph, for other programs; whole or not at all.

        Parameters
        ----------
        out
            Folder to write (``parquet``, ``tsv``) or file (``graphml``, ``bedpe``).
        format
            ``parquet`` and ``tsv``: one file per table, and ``schema.json`` with columns, types and comments. NULL is
            an empty field of a TSV file, an array a list in brackets. ``graphml``: nodes and edges as in
            :meth:`subgraph`, with arrays as numbers separated by blanks, NULL left out, and a name that nodes of two
            kinds share led by the kind (``peak:NAME``). ``bedpe``: table ``gene_peak`` with the transcription start
            of the gene as first and the peak as second place, weight as score.
        tables
            Tables to write, all when None; for ``graphml`` the edge tables, whose ends are then the nodes.
        min_score
            As for :meth:`neighbors`: rows of edge tables below it are left out.
        force
            Replace what stands at ``out``.
        progress
            Whether to show the tables done on stderr.

        Returns
        -------
        list of Path
            The files written.

        Raises
        ------
        StoreError
            When ``out`` exists and ``force`` is not set or cannot be written, for an unknown format or table, or a
            table that the format cannot hold.
        """
        return export.export(self, Path(out), format, tables, min_score, force=force, progress=progress)

    def diff(self, other: PriorStore | str | Path, most: int = 5) -> compare.StoreDiff:
        """Compare this store with another: tables, rows gained, lost and changed by key, sources, recipe.

        Parameters
        ----------
        other
            The other store, or its file.
        most
            Number of keys to name as examples, for each table and kind of change.

        Returns
        -------
        StoreDiff
            ``equal`` says whether nothing differs but dates and times.
        """
        if isinstance(other, PriorStore):
            return compare.diff(self, other, most)
        with PriorStore.open(other) as opened:
            return compare.diff(self, opened, most)

    def schema(self) -> pd.DataFrame:
        """Return every column of this store's tables with its meaning, as the file itself says (``COMMENT ON``).

        Returns
        -------
        pandas.DataFrame
            ``table, kind`` (node, edge, attribute, books), ``column, type``, ``role`` (key, score or empty), ``end``
            (node table an edge's column points to, or empty), ``nullable, comment``.
        """
        return query.schema(self)

    def provenance(self) -> pd.DataFrame:
        """Return which file each table was made from: version, checksum, licence, recipe hash, rows, seconds."""
        return self.frame("provenance")

    def match_report(self, table: str | None = None, outcome: str | None = None) -> pd.DataFrame:
        """Return the names that needed a rule to join or did not join, of one table or outcome where given.

        Raises
        ------
        StoreError
            For a table or outcome that nobody knows.
        """
        return query.match_report(self, table, outcome)

    def match_summary(self) -> pd.DataFrame:
        """Return how many names of each source had each outcome, those that simply joined included."""
        return self.frame("match_summary")

    def summary(self) -> pd.DataFrame:
        """Return ``table, kind, rows, bytes, description`` of every table.

        ``bytes`` is about what the table takes in the file: its storage blocks, or the length of its values where
        these would not fill them. The file is larger by the blocks that are not full, up to 256 KiB a table.
        """
        return query.summary(self)

import shutil

import duckdb
import networkx as nx
import numpy as np
import pyarrow as pa
import pytest

from heteromics.errors import StoreError
from heteromics.priors import PriorStore, build_store
from heteromics.priors.query import WIDTHS
from heteromics.priors.schemas import SCHEMAS
from heteromics.priors.tables import FORMAT_VERSION
from tests.priors.toy_stores import write_store

A, B, C, D = (f"ENSG0000000000{n}" for n in (1, 2, 3, 4))


def test_tables_frames_and_relations(store):
    assert store.tables()[:4] == ["chromosome", "gene", "peak", "pathway"]
    near = store.table("gene_peak").filter("distance = 0").project("gene_id, peak_id")
    assert sorted(near.fetchall()) == [(A, "chr1:900-1100")]
    assert store.frame("chromosome").values.tolist() == [["chr1", 0, 10_000], ["chr2", 1, 5_000]]
    assert store.info["assembly"] == "tiny"
    assert repr(store).startswith(f"PriorStore({store.path}, tiny: chromosome, gene")


def test_an_unknown_table_offers_the_nearest(store):
    with pytest.raises(StoreError, match="has no table 'genes'. Did you mean 'gene'"):
        store.table("genes")
    with pytest.raises(StoreError, match="no table 'protein'. Its recipe did not build it"):
        store.frame("protein")


def test_the_store_is_read_only_and_can_be_closed_twice(store):
    with pytest.raises(duckdb.Error, match="read-only"):
        store.connection.execute("DELETE FROM gene")
    store.close()
    store.close()
    with pytest.raises(StoreError, match="is closed. Fix: PriorStore.open"):
        store.tables()
    assert repr(store).endswith("closed)")


def links(store):
    """All edges as an undirected graph of (type, name), from whole tables: the oracle of neighbors."""
    graph = nx.Graph()
    for table in (SCHEMAS[name] for name in store.tables() if SCHEMAS[name].kind == "edge"):
        (start, start_type), (end, end_type) = table.ends
        for row in store.frame(table.name).to_dict("records"):
            graph.add_edge((start_type, row[start]), (end_type, row[end]))
    return graph


@pytest.mark.parametrize("hops", [1, 2, 3, 6])
@pytest.mark.parametrize("node", [("gene", A), ("peak", "chr1:6300-6400"), ("pathway", "SET_ONE")])
def test_neighbors_agree_with_networkx(store, node, hops):
    expected = nx.single_source_shortest_path_length(links(store), node, cutoff=hops)
    found = store.neighbors(node[1], hops)
    assert {(row.node_type, row.node): row.hop for row in found.itertuples()} == {
        name: distance for name, distance in expected.items() if distance
    }
    assert found.equals(found.sort_values(["hop", "node_type", "node"], ignore_index=True))


def test_neighbors_by_symbol_edges_and_direction(store):
    assert store.neighbors("ALPHA", edges="gene_pathway").values.tolist() == [["SET_ONE", "pathway", 1, "gene_pathway"]]
    assert store.neighbors("SET_ONE", direction="out").empty
    assert store.neighbors("SET_ONE", direction="in")["node"].tolist() == [A, B]
    both = store.neighbors(["ALPHA", "pathway:SET_TWO"], edges=["gene_pathway", "gene_gene"])
    assert both.values.tolist() == [
        [B, "gene", 1, "gene_gene, gene_pathway"],
        ["SET_ONE", "pathway", 1, "gene_pathway"],
    ]


def test_undirected_edges_are_walked_both_ways(store):
    for symbol, other in (("ALPHA", B), ("BETA", A)):
        for direction in ("out", "in", "both"):
            assert store.neighbors(symbol, edges="gene_gene", direction=direction)["node"].tolist() == [other]


def test_nodes_that_cannot_be_found_are_named_with_the_nearest(store):
    with pytest.raises(StoreError) as error:
        store.neighbors(["ALPHAA", "GAMMA", "BETA"])
    message = str(error.value)
    assert message.startswith("2 of 3 nodes cannot be found")
    assert "'ALPHAA' is not in the store. Nearest names: ALPHA, " in message
    assert f"'GAMMA' is ambiguous. Fix: give an id instead: {C}, {D}." in message


def test_a_name_of_two_kinds_asks_for_its_kind(recipe):
    recipe.with_name("sets.gmt").write_text("chr1:900-1100\tna\tALPHA\tBETA\n")
    with PriorStore.build(recipe, recipe.with_name("two.duckdb"), progress=False) as store:
        with pytest.raises(StoreError, match="Fix: give its kind: peak:chr1:900-1100, pathway:chr1:900-1100"):
            store.neighbors("chr1:900-1100")
        assert store.neighbors("peak:chr1:900-1100")["node"].tolist() == [A]
        with pytest.raises(StoreError, match="is both a peak and a pathway"):
            store.subgraph(["peak:chr1:900-1100", "pathway:chr1:900-1100"])


def test_a_node_given_twice_counts_once(store):
    once = store.neighbors("ALPHA", 2)
    assert store.neighbors(["ALPHA", "gene:ALPHA", A, f"gene:{A}"], 2).equals(once)
    assert set(store.subgraph(["ALPHA", f"gene:{A}"])) == {A}


def test_names_are_parameters_not_sql(store):
    for name in ("'; DROP TABLE gene; --", 'x" OR 1=1', "%"):
        with pytest.raises(StoreError, match="is not in the store"):
            store.neighbors(name)
    with pytest.raises(StoreError, match="no edge table 'gene; DROP"):
        store.neighbors("ALPHA", edges="gene; DROP TABLE gene")


@pytest.mark.parametrize(
    ("asked", "said"), [({"hops": 0}, "hops: found 0"), ({"direction": "up"}, "direction: found 'up'")]
)
def test_impossible_questions_are_errors(store, asked, said):
    with pytest.raises(StoreError, match=said):
        store.neighbors("ALPHA", **asked)


def test_a_subgraph_carries_attributes_and_every_edge_among_its_nodes(store):
    graph = store.subgraph(["ALPHA", B, "chr1:900-1100", "chr1:6300-6400", "SET_ONE"])
    assert isinstance(graph, nx.MultiDiGraph)
    assert set(graph.nodes) == {A, B, "chr1:900-1100", "chr1:6300-6400", "SET_ONE"}
    alpha = graph.nodes[A]
    assert (alpha["node_type"], alpha["symbol"], alpha["tss"], alpha["exon_length"]) == ("gene", "ALPHA", 1000, 300)
    assert graph.nodes["chr1:900-1100"]["width"] == 200
    assert set(graph.edges(keys=True)) == {
        (A, "chr1:900-1100", "gene_peak"),
        (B, "chr1:6300-6400", "gene_peak"),
        (A, "SET_ONE", "gene_pathway"),
        (B, "SET_ONE", "gene_pathway"),
        (A, B, "gene_gene:pathway"),
        (B, A, "gene_gene:pathway"),
    }
    assert graph.edges[A, B, "gene_gene:pathway"]["weight"] == 0.5  # one of two sets is shared
    assert graph.edges[A, B, "gene_gene:pathway"]["directed"] is False
    assert graph.edges[A, "chr1:900-1100", "gene_peak"]["distance"] == 0
    assert "evidence" in graph.edges[A, "SET_ONE", "gene_pathway"]


def test_the_match_report_can_be_narrowed(store):
    assert store.match_report()["name"].tolist().count("NOGENE") == 1
    assert store.match_report("gene").empty
    assert store.match_report(outcome="absent")["name"].tolist() == ["NOGENE"]
    with pytest.raises(StoreError, match="unknown key 'abset'. Did you mean 'absent'"):
        store.match_report(outcome="abset")
    with pytest.raises(StoreError, match="no table 'genez'"):
        store.match_report("genez")


def test_the_summary_counts_rows_and_the_bytes_of_tables_small_and_large(store, tmp_path):
    summary = store.summary().set_index("table")
    assert list(summary.index) == store.tables()
    assert summary.loc["chromosome"].to_dict() == {
        "kind": "node", "rows": 2, "bytes": 2 * (len("chr1") + 4 + 8), "description": SCHEMAS["chromosome"].comment,
    }  # fmt: skip
    filled = store.frame("gene_attribute").count()  # a NULL takes no byte
    widths = {column.name: WIDTHS.get(column.type, len(A)) for column in SCHEMAS["gene_attribute"].columns}
    assert summary.loc["gene_attribute", "bytes"] == sum(widths[name] * n for name, n in filled.items())
    assert summary["bytes"].sum() < 20_000  # of a file of several blocks of 256 KiB
    large = tmp_path / "large.duckdb"
    shutil.copyfile(store.path, large)
    with duckdb.connect(str(large)) as connection:
        before = used_bytes(connection)
        numbers = pa.table({"n": np.random.default_rng(0).integers(0, 2**62, 200_000)})  # noqa: F841  read by name
        connection.execute("INSERT INTO chromosome SELECT n::VARCHAR, 0, n FROM numbers")
        connection.execute("CHECKPOINT")
        grown = used_bytes(connection) - before
    with PriorStore.open(large) as store:
        assert store.summary().set_index("table")["bytes"]["chromosome"] == pytest.approx(grown, rel=0.1)
    assert 10 * 2**18 < grown < 200_000 * (19 + 4 + 8)  # compressed, in many blocks


def used_bytes(connection):
    ((bytes_,),) = connection.execute("SELECT block_size * used_blocks FROM pragma_database_size()").fetchall()
    return bytes_


def test_the_schema_of_every_table_can_be_measured():
    assert {column.type.removesuffix("[]") for table in SCHEMAS.values() for column in table.columns} == {
        "VARCHAR",
        *WIDTHS,
    }


def test_a_path_may_hold_any_character(store, tmp_path):
    odd = tmp_path / 'it\'s a "store"; --.duckdb'
    shutil.copyfile(store.path, odd)
    with PriorStore.open(odd) as same:
        assert same.frame("gene").equals(store.frame("gene"))


def test_questions_in_sql_and_from_other_threads(store):
    comments = "SELECT table_name, comment FROM duckdb_tables() WHERE database_name = 'store'"
    assert dict(store.connection.execute(comments).fetchall())["gene"] == SCHEMAS["gene"].comment
    cursor = store.connection.cursor()
    cursor.execute("USE store")
    assert cursor.execute("SELECT count(*) FROM gene").fetchall() == [(4,)]
    with pytest.raises(duckdb.Error, match="read-only"):
        cursor.execute("CREATE TABLE mine (a INTEGER)")
    assert store.tables() == [name for name in SCHEMAS if name in store.tables()]


def test_files_that_are_no_store_are_told_apart(tmp_path, recipe):
    with pytest.raises(StoreError, match="no such store. Fix: heteromics priors build RECIPE --db"):
        PriorStore.open(tmp_path / "none.duckdb")
    text = tmp_path / "text.duckdb"
    text.write_text("no database" * 2000)
    with pytest.raises(StoreError, match="cannot be opened as a DuckDB file"):
        PriorStore.open(text)
    other = tmp_path / "other.duckdb"
    with duckdb.connect(str(other)) as connection:
        connection.execute("CREATE TABLE x (a INTEGER)")
    with pytest.raises(StoreError, match="is a DuckDB file but no prior store"):
        PriorStore.open(other)


@pytest.mark.parametrize(
    ("version", "fix"),
    [
        ("0", r"Fix: heteromics priors build tiny --db .* --force\."),
        (str(FORMAT_VERSION + 1), r"Fix: upgrade heteromics\."),
    ],
)
def test_other_format_versions_are_refused_with_the_fix(recipe, version, fix):
    db = build_store(recipe, recipe.with_name("old.duckdb"), progress=False)
    with duckdb.connect(str(db)) as connection:
        connection.execute("UPDATE store_info SET value = ? WHERE key = 'format_version'", [version])
    with pytest.raises(
        StoreError,
        match=rf"has format version {version}, written by heteromics .*; expected {FORMAT_VERSION}\.\s+{fix}",
    ):
        PriorStore.open(db)


def test_a_store_that_was_cut_off_and_a_file_with_another_store_info_are_told(store, tmp_path):
    cut = tmp_path / "cut.duckdb"
    whole = store.path.read_bytes()
    cut.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(StoreError, match=r"cannot be read: (.|\n)*Fix: copy it again"):
        PriorStore.open(cut)
    other = tmp_path / "other.duckdb"
    with duckdb.connect(str(other)) as connection:
        connection.execute("CREATE TABLE store_info (a INTEGER)")
    with pytest.raises(StoreError, match="no prior store: it has no table store_info of keys and values"):
        PriorStore.open(other)


def test_an_identifier_that_begins_like_a_kind_is_found_whole(tmp_path):
    region = "peak:chr1:5-9"
    tables = {
        "peak": [{"peak_id": "chr1:5-9"}, {"peak_id": "chr1:50-90"}],
        "region": [{"region_id": region}, {"region_id": "peak:chr1:70-80"}],
        "peak_region": [
            {"peak_id": "chr1:5-9", "region_id": region},
            {"peak_id": "chr1:50-90", "region_id": "peak:chr1:70-80"},
        ],
    }
    with PriorStore.open(write_store(tmp_path / "regions.duckdb", tables)) as store:
        assert store.neighbors(region)["node"].tolist() == ["chr1:5-9"]
        assert store.neighbors("peak:chr1:70-80")["node"].tolist() == ["chr1:50-90"]
        assert store.neighbors(f"region:{region}")["node"].tolist() == ["chr1:5-9"]
        assert store.neighbors("chr1:5-9")["node"].tolist() == [region]
        assert store.neighbors("peak:chr1:50-90")["node"].tolist() == ["peak:chr1:70-80"]

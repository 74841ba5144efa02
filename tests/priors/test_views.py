import duckdb
import pytest

from heteromics.priors import PriorStore
from heteromics.priors.query import described
from heteromics.priors.query import schema as schema_of
from heteromics.priors.schemas import SCHEMAS
from heteromics.priors.views import edge_view_sql, table_comment
from tests.priors.toy_stores import random_store, random_tables, write_store


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    with random_store(tmp_path_factory.mktemp("views"), 0) as store:
        yield store


def test_the_view_holds_every_edge_once(store):
    expected = []
    for name in ("gene_peak", "gene_pathway", "gene_gene", "tf_gene"):
        (start, start_type), (end, end_type) = SCHEMAS[name].ends
        score = SCHEMAS[name].score
        for row in store.frame(name).to_dict("records"):
            expected.append((start_type, row[start], end_type, row[end], name, row[score] if score else None))
    found = store.connection.execute("FROM edge").fetchall()
    assert sorted(found, key=str) == sorted(expected, key=str)


def test_the_view_is_no_table_and_can_be_read_from_the_file_itself(tmp_path):
    path = write_store(tmp_path / "toy.duckdb", random_tables(1))
    with PriorStore.open(path) as store:
        assert "edge" not in store.tables()
    with duckdb.connect(str(path), read_only=True) as shell:
        ((n,),) = shell.execute("SELECT count(*) FROM edge WHERE edge_table = 'gene_peak'").fetchall()
        assert n == len(random_tables(1)["gene_peak"])
        comments = shell.execute(
            "SELECT column_name, comment FROM duckdb_columns() WHERE table_name = 'edge'"
        ).fetchall()
        assert all(comment for _, comment in comments)
        assert [name for name, _ in comments] == [
            *("source_type", "source", "target_type", "target", "edge_table", "score")
        ]


def test_comments_of_edges_say_what_they_connect():
    assert table_comment(SCHEMAS["protein_protein"]).endswith(
        "; edges between protein (protein_a) and protein (protein_b), undirected, score combined_score"
    )
    assert table_comment(SCHEMAS["gene_pathway"]).endswith(
        "edges from gene (gene_id) to pathway (pathway_id), no score"
    )
    for name, schema in SCHEMAS.items():
        assert table_comment(schema).startswith(schema.comment), name


def test_all_known_edges_make_a_view():
    with duckdb.connect() as connection:
        for schema in SCHEMAS.values():
            connection.execute(schema.create_sql())
        connection.execute(edge_view_sql(SCHEMAS))
        assert connection.execute("FROM edge").fetchall() == []


def test_the_schema_of_a_store_has_its_own_types_and_comments(tmp_path):
    tables = {"peak_kmer": [{"peak_id": "p", "frequency": [0.5, 0.5, 0.0]}], "gene_peak": []}
    path = write_store(tmp_path / "kmer.duckdb", tables)
    with duckdb.connect(str(path)) as writer:
        writer.execute("COMMENT ON COLUMN gene_peak.weight IS 'as the file says'")
    with PriorStore.open(path) as store:
        found = store.schema().set_index(["table", "column"])
        assert found.loc[("peak_kmer", "frequency"), "type"] == "FLOAT[3]"
        weight = found.loc[("gene_peak", "weight")]
        assert (weight["role"], weight["comment"], weight["type"]) == ("score", "as the file says", "DOUBLE")
        assert (found.loc[("gene_peak", "peak_id"), ["role", "end"]] == ["key", "peak"]).all()
        assert [table["table"] for table in described(store)] == store.tables()


def test_the_schema_of_all_stores_has_every_column():
    found = schema_of(None)
    assert len(found) == sum(len(table.columns) for table in SCHEMAS.values())
    assert (found["comment"] != "").all()
    assert [table["table"] for table in described()] == list(SCHEMAS)

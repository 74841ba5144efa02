"""The commands that ask a prior store questions, on a store whose every answer can be worked out by hand."""

import networkx as nx
import pytest

from tests.priors.toy_stores import write_store

VERBS = ("schema", "neighbors", "paths", "why", "components", "export", "diff")
TABLES = {
    "gene": [
        {"gene_id": f"E{n}", "symbol": f"S{n}", "chrom": "chr1", "tss": 10 * n, "strand": "+"} for n in range(1, 6)
    ],
    "peak": [{"peak_id": "chr1:5-9", "chrom": "chr1", "chrom_start": 5, "chrom_end": 9}],
    "pathway": [{"pathway_id": "SET, ONE"}],
    "gene_gene": [
        {"gene_a": a, "gene_b": b, "source": "string", "weight": weight}
        for a, b, weight in (("E1", "E2", 0.9), ("E2", "E3", 0.5), ("E1", "E4", 0.9), ("E3", "E4", 0.2))
    ],
    "gene_peak": [{"gene_id": "E3", "peak_id": "chr1:5-9", "distance": 21, "weight": 0.5}],
    "gene_pathway": [{"gene_id": "E1", "pathway_id": "SET, ONE"}],
}


@pytest.fixture(scope="module")
def db(tmp_path_factory):
    return write_store(tmp_path_factory.mktemp("kg") / "kg.duckdb", TABLES)


@pytest.mark.parametrize("verb", VERBS)
def test_help_teaches_by_example(run, verb):
    done = run("priors", verb, "--help")
    assert done.code == 0
    assert f"heteromics priors {verb}" in " ".join(done.out.replace("Usage: heteromics priors", "").split())
    assert len(done.out.split()) > 60


def test_schema_of_all_stores_and_of_one(run, db):
    known = run("priors", "schema", "--json").json["tables"]
    there = run("priors", "schema", db, "--json").json["tables"]
    assert {table["table"] for table in there} < {table["table"] for table in known}
    shown = run("priors", "schema", db, "--table", "gene_gene").out
    assert "gene and gene" in shown
    assert "weight" in shown
    assert "gene_peak" not in shown
    wrong = run("priors", "schema", db, "--table", "gene_gena")
    assert wrong.code == 1
    assert "Did you mean 'gene_gene'?" in wrong.err


def test_neighbors_with_labels_scores_and_tables(run, db):
    rows = run("priors", "neighbors", db, "S1", "--json").json
    assert rows == [
        {"node": "E2", "label": "S2", "node_type": "gene", "hop": 1, "via": "gene_gene"},
        {"node": "E4", "label": "S4", "node_type": "gene", "hop": 1, "via": "gene_gene"},
        {"node": "SET, ONE", "label": "", "node_type": "pathway", "hop": 1, "via": "gene_pathway"},
    ]
    strong = run("priors", "neighbors", db, "S2", "E5", "--min-score", "gene_gene=0.6", "--hops", "2", "--json").json
    assert [row["node"] for row in strong] == ["E1", "E4", "SET, ONE"]
    table = run("priors", "neighbors", db, "S3", "--edges", "gene_peak", "--direction", "out")
    assert "1 nodes within 1 of S3" in table.out
    assert "chr1:5-9" in table.out


@pytest.mark.parametrize(
    ("given", "code", "said"),
    [
        (("--min-score", "high"), 2, "expected a number or TABLE=NUMBER"),
        (("--min-score", "0.5", "--min-score", "gene_gene=0.5"), 2, "one number for all tables"),
        (("--min-score", "gene_pathway=0.5"), 1, "edges of 'gene_pathway' have no score"),
        (("--edges", "gene_gena"), 1, "Did you mean 'gene_gene'?"),
        (("--direction", "up"), 1, "expected one of both, out, in"),
    ],
)
def test_impossible_questions_leave_with_one_clear_reason(run, db, given, code, said):
    done = run("priors", "neighbors", db, "S1", *given)
    assert done.code == code
    assert said in " ".join(done.err.replace("│", " ").split())
    assert done.out == ""


def test_paths_and_the_status_when_there_is_none(run, db):
    found = run("priors", "paths", db, "S1", "S3", "--json").json
    assert found["n_paths"] == 2
    assert [row["node"] for row in found["steps"]] == ["E1", "E2", "E3", "E1", "E4", "E3"]
    assert [row["score"] for row in found["steps"]] == [None, 0.9, 0.5, None, 0.9, 0.2]
    assert "1 of 2 shortest paths, 2 hops" in run("priors", "paths", db, "S1", "S3", "--most", "1").out
    none = run("priors", "paths", db, "S1", "S3", "--max-hops", "1", "--json")
    assert (none.code, none.json) == (1, {"n_paths": 0, "steps": []})
    assert "no path of at most 1 hops between S1 and S3" in none.err


def test_why_takes_two_nodes_in_one_word_or_two(run, db):
    row = run("priors", "why", db, "S3,chr1:5-9", "--json").json
    assert (row["edge_tables"], row["gene_peak.distance"]) == (["gene_peak"], 21)
    shown = run("priors", "why", db, "SET, ONE", "S1").out
    assert "gene_pathway.evidence" in shown
    assert run("priors", "why", db, "S1").code == 2
    assert "expected two nodes" in run("priors", "why", db, "SET, ONE,S1").err.replace("│", " ")
    none = run("priors", "why", db, "S1,S3")
    assert none.code == 1
    assert "no edge between gene 'E1' and gene 'E3'" in none.err


def test_components_are_counted(run, db):
    rows = run("priors", "components", db, "--edges", "gene_gene", "--json").json
    assert rows == [
        {"component": 0, "gene": 4, "nodes": 4, "first": ["S1", "S2", "S3"]},
        {"component": 1, "gene": 1, "nodes": 1, "first": ["S5"]},
    ]
    shown = run("priors", "components", db, "--most", "1").out
    assert "2 components of 7 nodes; 1 of one node without an edge" in shown
    assert "S5" not in shown


def test_export_writes_what_it_lists(run, db, tmp_path):
    out = tmp_path / "out.graphml"
    done = run("priors", "export", db, "--out", out, "--format", "graphml", "--table", "gene_gene", "--json")
    assert done.code == 0
    assert [row["file"] for row in done.json] == [str(out)]
    assert nx.read_graphml(out).number_of_edges() == 2 * 4
    again = run("priors", "export", db, "--out", out, "--format", "graphml")
    assert again.code == 1
    assert "--force" in again.err
    assert run("priors", "export", db, "--out", out, "--format", "graphml", "--force").code == 0
    assert "gene_gene.parquet" in run("priors", "export", db, "--out", tmp_path / "folder").out


def test_diff_says_equal_or_what_differs(run, db, tmp_path):
    same = run("priors", "diff", db, db)
    assert same.code == 0
    assert ": equal: the same tables" in same.out
    other = write_store(tmp_path / "other.duckdb", TABLES | {"gene_gene": TABLES["gene_gene"][1:]})
    differs = run("priors", "diff", db, other)
    assert differs.code == 0
    assert "not equal" in differs.out
    assert "E1 E2 string" in differs.out
    found = run("priors", "diff", db, other, "--json").json
    assert found["equal"] is False
    assert {t["table"]: t["lost"] for t in found["tables"] if t["lost"]} == {"gene_gene": 1}

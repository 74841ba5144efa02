import pytest

from heteromics.errors import StoreError
from heteromics.priors import PriorStore
from tests.priors.toy_stores import write_store

PEAK = "chr1:100-200"
TABLES = {
    "gene": [{"gene_id": name, "symbol": symbol} for name, symbol in (("E1", "JUN"), ("E2", "FOS"), ("E3", "MYC"))],
    "peak": [{"peak_id": PEAK}, {"peak_id": "chr1:300-400"}],
    "pathway": [{"pathway_id": "SET, ONE"}],
    "region": [{"region_id": "ccre:chr1:50-150"}, {"region_id": "chip:chr1:190-250"}],
    "gene_peak": [{"gene_id": "E3", "peak_id": PEAK, "distance": 40, "weight": 0.5, "in_promoter": True}],
    "gene_pathway": [{"gene_id": "E3", "pathway_id": "SET, ONE", "evidence": "GMT"}],
    "gene_gene": [
        {"gene_a": "E1", "gene_b": "E2", "source": source, "weight": weight}
        for source, weight in (("pathway", 0.25), ("string", 0.75))
    ],
    "tf_gene": [
        {"tf_id": tf, "gene_id": gene, "source": source, "sign": sign, "weight": 1.0}
        for tf, gene, source, sign in (
            ("E1", "E3", "dorothea", 1),
            ("E1", "E3", "trrust", -1),
            ("E2", "E3", "trrust", 0),
            ("E2", "E1", "trrust", 1),
            ("E1", "E1", "trrust", 1),
        )
    ],
    "tf_peak": [
        {"tf_id": "E1", "peak_id": PEAK, "motifs": 1, "score": 8.0, "p_value": 1e-5},
        {"tf_id": "E2", "peak_id": PEAK, "motifs": 2, "score": 9.5, "p_value": 1e-6},
        {"tf_id": "E3", "peak_id": PEAK, "motifs": 1, "score": 7.0, "p_value": 1e-4},
    ],
    "peak_region": [
        {"peak_id": PEAK, "region_id": "ccre:chr1:50-150", "overlap": 50},
        {"peak_id": PEAK, "region_id": "chip:chr1:190-250", "overlap": 10},
    ],
    "peak_annotation": [{"peak_id": PEAK, "feature": "promoter", "nearest_gene": "E3", "nearest_distance": -40}],
    "provenance": [
        {"table_name": "gene_peak", "source": "tables gene, peak"},
        {"table_name": "tf_gene", "source": "trrust.tsv", "version": "2", "sha256": "ab" * 32},
        {"table_name": "tf_gene", "source": "dorothea.csv", "sha256": "cd" * 32},
    ],
}


@pytest.fixture(scope="module")
def linked(tmp_path_factory):
    with PriorStore.open(write_store(tmp_path_factory.mktemp("why") / "why.duckdb", TABLES)) as store:
        yield store


def row_of(frame):
    (row,) = frame.to_dict("records")
    return row


def test_a_gene_and_a_peak_come_with_all_that_supports_them(linked):
    row = row_of(linked.why("MYC", PEAK))
    assert [row[name] for name in ("a_type", "a", "b_type", "b")] == ["gene", "E3", "peak", PEAK]
    assert row["edge_tables"] == ["gene_peak", "tf_peak"]
    assert (row["gene_peak.distance"], row["gene_peak.weight"], row["gene_peak.in_promoter"]) == (40, 0.5, True)
    assert row["tf_peak.score"] == 7.0
    assert {name: value for name, value in row.items() if name.startswith("regulators.")} == {
        "regulators.gene_id": ["E2", "E1"],  # the stronger motif first; E3 does not regulate itself
        "regulators.symbol": ["FOS", "JUN"],
        "regulators.motif_score": [9.5, 8.0],
        "regulators.p_value": [1e-6, 1e-5],
        "regulators.sign": [[0], [1, -1]],
        "regulators.source": [["trrust"], ["dorothea", "trrust"]],
    }
    assert row["regions.region_id"] == ["ccre:chr1:50-150", "chip:chr1:190-250"]
    assert row["regions.overlap"] == [50, 10]
    assert (row["peak_annotation.feature"], row["peak_annotation.nearest_distance"]) == ("promoter", -40)
    assert row["gene_peak.sources"] == ["tables gene, peak"]
    assert row["tf_gene.sources"] == ["dorothea.csv sha256:" + "cd" * 6, "trrust.tsv 2 sha256:" + "ab" * 6]


def test_the_order_of_the_two_does_not_matter(linked):
    there, back = row_of(linked.why("E3", PEAK)), row_of(linked.why(PEAK, "E3"))
    ends = {"a", "b", "a_type", "b_type"}
    assert {name: there[name] for name in there if name not in ends} == {n: back[n] for n in back if n not in ends}


def test_sources_and_directions_stand_apart(linked):
    row = row_of(linked.why("JUN", "FOS"))
    assert row["edge_tables"] == ["gene_gene", "tf_gene"]
    assert (row["gene_gene:pathway.weight"], row["gene_gene:string.weight"]) == (0.25, 0.75)
    assert (row["tf_gene:trrust:back.tf_id"], row["tf_gene:trrust:back.gene_id"]) == ("E2", "E1")
    assert "tf_gene:trrust.tf_id" in linked.why("FOS", "JUN")
    itself = row_of(linked.why("JUN", "E1"))
    assert (itself["edge_tables"], itself["tf_gene:trrust.sign"]) == (["tf_gene"], 1)
    assert not [name for name in itself if name.startswith("regulators")]


def test_tables_that_are_not_there_give_no_columns(tmp_path):
    few = {name: TABLES[name] for name in ("gene", "peak", "gene_peak", "tf_gene")}
    with PriorStore.open(write_store(tmp_path / "few.duckdb", few)) as store:
        row = row_of(store.why("MYC", PEAK))
    assert {name.partition(".")[0] for name in row} == {"a_type", "a", "b_type", "b", "edge_tables", "gene_peak"}


def test_no_evidence_is_an_error_that_says_what_either_has(linked):
    with pytest.raises(StoreError) as error:
        linked.why("FOS", "chr1:300-400")
    assert "no edge between gene 'E2' and peak 'chr1:300-400'" in str(error.value)
    assert "E2: edges 2 of gene_gene, 2 of tf_gene, 1 of tf_peak" in str(error.value)
    assert "chr1:300-400: no edges at all" in str(error.value)
    with pytest.raises(StoreError, match="'NOGENE' is not in the store"):
        linked.why("NOGENE", "MYC")

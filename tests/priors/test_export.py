import json
from typing import get_args

import duckdb
import networkx as nx
import numpy as np
import pandas as pd
import pytest
from pyarrow import csv, parquet

from heteromics.errors import StoreError
from heteromics.priors import PriorStore, export
from heteromics.priors.schemas import SCHEMAS
from tests.priors.toy_stores import random_tables, write_store

ODD = 'a "quoted"\tname,\r\nwith <all> & \x01 of it'


@pytest.fixture(scope="module")
def rich(tmp_path_factory):
    """Random edges, arrays, NULLs, places, odd texts and an attribute column that two tables have."""
    tables = random_tables(0)
    for row, gene in enumerate(tables["gene"]):
        gene |= {"chrom": "chr1", "tss": 1000 + row, "strand": "+-."[row % 3], "biotype": ODD if row == 3 else ""}
    for row, peak in enumerate(tables["peak"]):
        peak |= {"chrom": "chr2", "chrom_start": row * 100, "chrom_end": row * 100 + 50}
    peaks = [peak["peak_id"] for peak in tables["peak"]]
    tables |= {
        "peak_attribute": [
            {"peak_id": peak, "width": 50, "gc": 0.5 if row else None} for row, peak in enumerate(peaks)
        ],
        "peak_annotation": [{"peak_id": peak, "feature": "exon"} for peak in peaks[:9]],
        "peak_summary": [{"peak_id": peak, "feature": peak, "mean": float("nan")} for peak in peaks],
        "peak_kmer": [{"peak_id": peak, "frequency": [row / 8, 0.5, 0.25]} for row, peak in enumerate(peaks)],
        "gene_alias": [{"gene_id": "E01", "alias": "one"}, {"gene_id": "E01", "alias": "uno"}],
        "motif": [{"motif_id": "MA1", "probabilities": [0.25] * 4}, {"motif_id": "MA2", "probabilities": [0.5] * 8}],
        "motif_peak": [{"motif_id": "MA1", "peak_id": peaks[0], "score": -1.5, "strand": "-"}],
    }
    with PriorStore.open(write_store(tmp_path_factory.mktemp("rich") / "rich.duckdb", tables)) as store:
        yield store


def everything(store):
    nodes = [
        f"{name}:{node}"
        for name in store.tables()
        if SCHEMAS[name].kind == "node"
        for node in store.frame(name)[SCHEMAS[name].key[0]]
    ]
    return store.subgraph(nodes)


def test_parquet_gives_every_table_back(rich, tmp_path):
    files = rich.export(tmp_path / "all", progress=False)
    assert sorted(files) == sorted((tmp_path / "all").iterdir())
    for name in rich.tables():
        found = duckdb.sql(f"SELECT * FROM '{tmp_path}/all/{name}.parquet'").to_arrow_table().to_pylist()
        np.testing.assert_equal(found, rich.table(name).to_arrow_table().to_pylist())
    assert parquet.read_schema(tmp_path / "all" / "peak_kmer.parquet").field("frequency").type.list_size == 3
    described = json.loads((tmp_path / "all" / "schema.json").read_text())
    assert [table["table"] for table in described["tables"]] == rich.tables()
    assert described["store"] == rich.info
    links = next(table for table in described["tables"] if table["table"] == "gene_peak")
    assert (links["key"], links["score"], links["directed"]) == (["gene_id", "peak_id"], "weight", True)
    assert links["columns"][0] == {
        "column": "gene_id", "type": "VARCHAR", "role": "key", "end": "gene", "nullable": False, "comment": "gene",
    }  # fmt: skip


def test_tsv_keeps_numbers_texts_and_nulls_apart(rich, tmp_path):
    rich.export(tmp_path / "tsv", "tsv", progress=False)
    for name in rich.tables():
        arrays = [f'"{one.name}"::VARCHAR AS "{one.name}"' for one in SCHEMAS[name].columns if "[" in one.type]
        as_text = f"REPLACE ({', '.join(arrays)})" if arrays else ""
        expected = rich.connection.sql(f"SELECT * {as_text} FROM {name}").to_arrow_table()
        read = csv.read_csv(
            tmp_path / "tsv" / f"{name}.tsv",
            parse_options=csv.ParseOptions(delimiter="\t", newlines_in_values=True),
            convert_options=csv.ConvertOptions(
                column_types=expected.schema,
                strings_can_be_null=True,
                quoted_strings_can_be_null=False,
                null_values=[""],
            ),
        )
        np.testing.assert_equal(read.to_pylist(), expected.to_pylist())
    lines = (tmp_path / "tsv" / "pathway.tsv").read_text().splitlines()
    assert lines[:2] == ["pathway_id\tdescription\tsize", 'P1\t""\t0']


def test_graphml_is_the_graph_of_all_nodes(rich, tmp_path):
    (file,) = rich.export(tmp_path / "all.graphml", "graphml", progress=False)
    found, expected = nx.read_graphml(file), everything(rich)
    assert isinstance(found, nx.MultiDiGraph)
    assert dict(found.nodes(data=True)) == {node: as_written(data) for node, data in expected.nodes(data=True)}
    edges = {(a, b, key): data for a, b, key, data in found.edges(keys=True, data=True)}
    assert {edge: without_key(data) for edge, data in edges.items()} == {
        (a, b, key): as_written(data) for a, b, key, data in expected.edges(keys=True, data=True)
    }
    assert all(data["key"] == key for (_, _, key), data in edges.items())


def without_key(data):
    return {name: value for name, value in data.items() if name != "key"}


def as_written(data):
    """NULL is left out, arrays are text, characters that XML forbids are replaced; NaN is not equal to itself."""
    written = {}
    for name, value in data.items():
        if isinstance(value, list):
            value = " ".join(map(str, value))
        elif isinstance(value, str):
            value = value.replace("\x01", "\ufffd")
        if value is not None:
            written[name] = pytest.approx(value, nan_ok=True) if isinstance(value, float) else value
    return written


def test_a_column_of_two_attribute_tables_is_led_by_its_table(rich):
    node = rich.subgraph(["chr1:000-050"]).nodes["chr1:000-050"]
    assert node["peak_annotation.feature"] == "exon"
    assert node["peak_summary.feature"] == "chr1:000-050"
    assert "feature" not in node
    assert (node["width"], node["gc"], node["frequency"]) == (50, None, [0.0, 0.5, 0.25])
    assert "alias" not in rich.subgraph(["E01"]).nodes["E01"]


def test_edge_tables_chosen_bring_the_nodes_they_link(rich, tmp_path):
    (file,) = rich.export(tmp_path / "some.graphml", "graphml", ["gene_pathway", "gene_gene"], 0.6, progress=False)
    found = nx.read_graphml(file)
    assert {data["node_type"] for _, data in found.nodes(data=True)} == {"gene", "pathway"}
    assert found.number_of_nodes() == 24 + 3
    strong = rich.frame("gene_gene").query("weight >= 0.6")
    assert 0 < len(strong) < len(rich.frame("gene_gene"))
    assert found.number_of_edges() == 2 * len(strong) + len(rich.frame("gene_pathway"))


def test_a_name_of_two_kinds_is_led_by_its_kind_in_graphml(tmp_path):
    link = {"gene_id": "A", "pathway_id": "A"}
    tables = {"gene": [{"gene_id": "A"}], "pathway": [{"pathway_id": "A"}], "gene_pathway": [link]}
    with PriorStore.open(write_store(tmp_path / "two.duckdb", tables)) as store:
        (file,) = store.export(tmp_path / "two.graphml", "graphml", progress=False)
    assert list(nx.read_graphml(file).edges) == [("gene:A", "pathway:A")]


def test_bedpe_has_the_places_of_both_ends(rich, tmp_path):
    (file,) = rich.export(tmp_path / "links.bedpe", "bedpe", min_score=0.4, progress=False)
    assert '"' not in file.read_text()
    found = pd.read_csv(file, sep="\t")
    assert list(found)[:10] == [
        *("#chrom1", "start1", "end1", "chrom2", "start2", "end2", "name", "score", "strand1", "strand2")
    ]
    expected = rich.frame("gene_peak").query("weight >= 0.4").reset_index(drop=True)
    assert 0 < len(expected) < len(rich.frame("gene_peak"))
    assert found["name"].tolist() == (expected["gene_id"] + "|" + expected["peak_id"]).tolist()
    assert found["score"].tolist() == expected["weight"].tolist()
    gene = rich.frame("gene").set_index("gene_id").loc[expected["gene_id"]]
    peak = rich.frame("peak").set_index("peak_id").loc[expected["peak_id"]]
    assert found["start1"].tolist() == gene["tss"].tolist()
    assert (found["end1"] - found["start1"] == 1).all()
    assert found["strand1"].tolist() == gene["strand"].tolist()
    assert set(found["#chrom1"]) == {"chr1"}
    assert found[["chrom2", "start2", "end2"]].to_numpy().tolist() == peak.to_numpy().tolist()
    assert set(found["strand2"]) == {"."}


@pytest.mark.parametrize("form", ["parquet", "tsv"])
def test_low_scores_and_other_tables_are_left_out(rich, tmp_path, form):
    files = rich.export(tmp_path / "some", form, ["gene_gene", "gene"], {"gene_gene": 0.6}, progress=False)
    assert [file.name for file in files] == [f"gene.{form}", f"gene_gene.{form}", "schema.json"]
    read = pd.read_parquet(files[1]) if form == "parquet" else pd.read_csv(files[1], sep="\t")
    assert read["weight"].min() >= 0.6
    assert len(read) == (rich.frame("gene_gene")["weight"] >= 0.6).sum()


@pytest.mark.parametrize(
    ("asked", "said"),
    [
        ({"format": "parket"}, "found 'parket'. Did you mean 'parquet'"),
        ({"tables": "genes"}, "has no table 'genes'. Did you mean 'gene'"),
        (
            {"format": "graphml", "tables": ["gene", "gene_gene"]},
            "graphml cannot hold table gene. It can hold gene_peak",
        ),
        ({"format": "bedpe", "tables": ["gene_gene"]}, "bedpe cannot hold table gene_gene. It can hold gene_peak"),
        ({"tables": "gene", "min_score": 0.5}, "none of the edge tables has a score"),
        ({"tables": "gene_gene", "min_score": {"gene_peak": 0.5}}, "'gene_peak' is not among"),
    ],
)
def test_what_cannot_be_written_is_an_error_that_leaves_nothing(rich, tmp_path, asked, said):
    with pytest.raises(StoreError, match=said):
        rich.export(tmp_path / "out", progress=False, **asked)
    assert list(tmp_path.iterdir()) == []


def test_bedpe_needs_links(tmp_path):
    with (
        PriorStore.open(write_store(tmp_path / "bare.duckdb", {"gene": [{"gene_id": "A"}]})) as store,
        pytest.raises(StoreError, match="no table 'gene_peak'. Its recipe did not build it"),
    ):
        store.export(tmp_path / "links.bedpe", "bedpe")


def test_what_stands_there_is_kept_or_replaced_whole(rich, tmp_path, monkeypatch):
    folder, file = tmp_path / "all", tmp_path / "links.bedpe"
    for out, form in ((folder, "parquet"), (file, "bedpe")):
        rich.export(out, form, progress=False)
        with pytest.raises(StoreError, match="exists already. Fix: --force"):
            rich.export(out, form, progress=False)
    rich.export(folder, "tsv", "gene", force=True, progress=False)
    assert sorted(path.name for path in folder.iterdir()) == ["gene.tsv", "schema.json"]
    with pytest.raises(StoreError, match="is a folder, which is not replaced"):
        rich.export(folder, "bedpe", force=True, progress=False)
    with pytest.raises(StoreError, match="is a file, which is not replaced"):
        rich.export(file, "parquet", force=True, progress=False)
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.tex").write_text("years of work")
    with pytest.raises(StoreError, match="holds other files than an export"):
        rich.export(tmp_path / "mine", force=True, progress=False)

    def full_disk(*_):
        raise OSError("no space left on device")

    for writer in ("_write_tsv", "_write_bedpe"):
        monkeypatch.setattr(export, writer, full_disk)
    before = file.read_bytes(), sorted(folder.iterdir())
    for out, form in ((folder, "tsv"), (file, "bedpe")):
        with pytest.raises(OSError, match="no space left"):
            rich.export(out, form, force=True, progress=False)
    assert (file.read_bytes(), sorted(folder.iterdir())) == before
    assert sorted(path.name for path in tmp_path.iterdir()) == ["all", "links.bedpe", "mine"]


@pytest.mark.parametrize("form", get_args(export.Format))
def test_a_place_that_cannot_be_written_is_named(rich, tmp_path, form):
    (tmp_path / "file").write_text("mine")
    with pytest.raises(StoreError, match=r"file/out could not be written; what was there is as it was(.|\n)*Fix: "):
        rich.export(tmp_path / "file" / "out", form, progress=False)
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


def test_a_full_disk_leaves_the_earlier_export(rich, tmp_path, monkeypatch):
    out = tmp_path / "tables"
    files = rich.export(out, "tsv", progress=False)
    before = {path: path.read_bytes() for path in files}

    def full(*_):
        raise duckdb.IOException("No space left on device")

    monkeypatch.setattr(export, "_write_tsv", full)
    with pytest.raises(StoreError, match=r"could not be written(.|\n)*No space left"):
        rich.export(out, "tsv", force=True, progress=False)
    assert {path: path.read_bytes() for path in tmp_path.rglob("*.*")} == before

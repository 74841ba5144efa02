import json

import numpy as np
import pandas as pd
import pytest

from heteromics.cli._show import _plain
from heteromics.errors import DataError, ModelError, StoreError
from heteromics.graphs import HeteroGraph
from heteromics.models import Bi2Former
from heteromics.tasks import paired_rows
from heteromics.workflows.explain import cells_to_explain, explain
from heteromics.workflows.train import train
from tests.workflows.small import BI2FORMER, changed

PNG, SVG = b"\x89PNG", "<svg"


@pytest.fixture(scope="module")
def everything(bi2former_run, tmp_path_factory):
    """All links of all cells, and their folder."""
    out = tmp_path_factory.mktemp("links")
    return explain(bi2former_run.out, out=out), out


@pytest.fixture(scope="module")
def ids_run(small, tmp_path_factory):
    """A run on data whose genes are named by id, with a gene that no store knows."""
    folder = tmp_path_factory.mktemp("ids")

    def by_id(name, data):
        if name == "rna":
            data.var_names = [*data.var["gene_id"].iloc[:-1], "mystery"]
            data.var = data.var.drop(columns="gene_id")
        return data

    data = changed(small.made, folder / "ids.h5mu", by_id)
    train("bi2former", "matching", data, out=folder / "run", db=small.db, device="cpu", sets=BI2FORMER)
    return folder / "run"


def test_links_are_written_as_parquet_and_tsv(everything):
    found, out = everything
    assert sorted(path.name for path in out.iterdir()) == ["links.parquet", "links.tsv"]
    parquet, tsv = pd.read_parquet(out / "links.parquet"), pd.read_csv(out / "links.tsv", sep="\t")
    assert list(parquet.columns[:5]) == ["gene", "peak", "chrom", "distance_bp", "score"]
    assert {"n_pairs", "frequency"} < set(parquet.columns)
    pd.testing.assert_frame_equal(parquet, found.links)
    pd.testing.assert_frame_equal(parquet, tsv, check_dtype=False)
    assert found.notes == {"cells": 80, "links": len(parquet), "table": out / "links.parquet"}
    assert parquet["score"].is_monotonic_decreasing
    assert len(found.rows()) == 20
    assert json.loads(json.dumps(found.as_dict(), default=_plain))["links"] == len(parquet)


def test_links_are_those_of_the_model_with_their_place(small, bi2former_run, everything):
    links = everything[0].links
    graph = HeteroGraph.load(bi2former_run.out / "graph")
    model = Bi2Former.load(bi2former_run.out / "model", graph)
    own = model.links(paired_rows(graph)[0], device="cpu")
    pd.testing.assert_frame_equal(links[own.columns], own)
    genes, peaks = small.made.genes.set_index("gene"), small.made.peaks.set_index("peak")
    gene, peak = genes.loc[links["gene"]], peaks.loc[links["peak"]]
    assert (links["chrom"].to_numpy() == gene["chrom"].to_numpy()).all()
    assert (links["chrom"].to_numpy() == peak["chrom"].to_numpy()).all()
    middle = (peak["chrom_start"].to_numpy() + peak["chrom_end"].to_numpy()) // 2
    np.testing.assert_allclose(links["distance_bp"], np.abs(gene["tss"].to_numpy() - middle), atol=1)


@pytest.mark.parametrize("column", ["gene", "gene_id"])
def test_one_gene_by_symbol_and_by_id(small, bi2former_run, everything, tmp_path, column):
    row = small.made.genes.iloc[3]
    found = explain(bi2former_run.out, out=tmp_path / "deep" / "l", gene=row[column])
    assert set(found.links["gene"]) == {row["gene"]}
    whole = everything[0].links
    pd.testing.assert_frame_equal(found.links, whole[whole["gene"] == row["gene"]].reset_index(drop=True))
    assert found.notes["figure"] == tmp_path / "deep" / "l" / f"locus_{row['gene']}.png"
    assert found.notes["figure"].read_bytes().startswith(PNG)
    svg = found.notes["figure"].with_suffix(".svg").read_text()
    assert SVG in svg


@pytest.mark.parametrize("column", ["gene", "gene_id"])
def test_genes_named_by_id_are_found_by_symbol_too(small, ids_run, tmp_path, column):
    row = small.made.genes.iloc[3]
    found = explain(ids_run, out=tmp_path, gene=row[column])
    assert set(found.links["gene"]) == {row["gene_id"]}
    assert found.notes["figure"].name == f"locus_{row['gene']}.png"


def test_a_gene_without_a_chromosome_has_no_links(ids_run, tmp_path):
    found = explain(ids_run, out=tmp_path, gene="mystery")
    assert found.notes["links"] == 0
    assert "figure" not in found.notes


@pytest.mark.parametrize("form", ["gene", "gene_id"])
def test_an_unknown_gene_names_the_nearest(small, ids_run, tmp_path, form):
    near = small.made.genes[form].iloc[3]
    with pytest.raises(DataError, match=rf"gene '{near}x' is not in the graph\. Nearest: .*{near}"):
        explain(ids_run, out=tmp_path / "l", gene=f"{near}x")
    with pytest.raises(DataError, match=r"gene '§§' is not in the graph\. Nearest: none\."):
        explain(ids_run, out=tmp_path / "l", gene="§§")
    assert list(tmp_path.iterdir()) == []


def test_one_cell_type(small, bi2former_run, tmp_path):
    found = explain(bi2former_run.out, out=tmp_path, cell_type="type_1")
    number = int((small.made.mdata["rna"].obs["cell_type"] == "type_1").sum())
    assert found.notes["cells"] == number
    assert found.links["n_pairs"].max() <= number


def test_an_unknown_cell_type_lists_the_types(bi2former_run, tmp_path):
    with pytest.raises(DataError, match=r"no cell of type 'type_3' has both profiles\. Types: type_1, type_2\."):
        explain(bi2former_run.out, out=tmp_path / "l", cell_type="type_3")
    assert list(tmp_path.iterdir()) == []


def test_all_cells_or_those_of_a_type(small, bi2former_run):
    graph = HeteroGraph.load(bi2former_run.out / "graph")
    types = small.made.mdata["rna"].obs["cell_type"]
    rows = {kind: cells_to_explain(graph, kind) for kind in (None, "type_1", "type_2")}
    assert len(rows[None]) == 80
    np.testing.assert_array_equal(np.sort(np.concatenate([rows["type_1"], rows["type_2"]]), axis=0), rows[None])
    assert set(types[graph.names["rna_cell"][rows["type_2"][:, 0]]]) == {"type_2"}


def test_a_run_without_attention_is_refused(scmognn_run, tmp_path):
    with pytest.raises(
        ModelError, match=r"is a run of scmognn, which has no attention between genes and peaks\. Fix: "
    ):
        explain(scmognn_run.out, out=tmp_path / "l")
    with pytest.raises(DataError, match="holds no finished run"):
        explain(tmp_path, out=tmp_path / "l")
    assert list(tmp_path.iterdir()) == []


def test_a_graph_run_is_explained_and_its_genes_need_a_store(small, graph_folder, tmp_path):
    options = {"graph": graph_folder, "device": "cpu", "sets": BI2FORMER}
    train("bi2former", "matching", small.data, out=tmp_path / "alone", **options)
    gene = small.made.genes["gene"].iloc[3]
    assert explain(tmp_path / "alone", out=tmp_path / "all").notes["links"] > 0
    with pytest.raises(StoreError, match=r"without a store to look genes up\. Fix: train with --db too"):
        explain(tmp_path / "alone", out=tmp_path / "one", gene=gene)
    assert not (tmp_path / "one").exists()
    train("bi2former", "matching", small.data, out=tmp_path / "both", db=small.db, **options)
    assert explain(tmp_path / "both", out=tmp_path / "one", gene=gene).notes["figure"].is_file()

import json

import numpy as np
import pandas as pd
import pytest

from heteromics import interpret
from heteromics.cli._show import _plain
from heteromics.errors import DataError, ModelError, StoreError
from heteromics.graphs import HeteroGraph
from heteromics.interpret import candidate_links
from heteromics.models import Bi2Former
from heteromics.priors import PriorStore
from heteromics.tasks import paired_rows
from heteromics.workflows.explain import _counts, cells_to_explain, explain
from heteromics.workflows.run import Run
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
    train(
        "bi2former",
        "matching",
        data,
        out=folder / "run",
        db=small.db,
        device="cpu",
        sets=[*BI2FORMER, "model.classifier=compared"],
    )
    return folder / "run"


def test_links_are_written_as_parquet_tsv_and_bedpe(small, everything):
    found, out = everything
    assert sorted(path.name for path in out.iterdir()) == ["links.bedpe", "links.parquet", "links.tsv"]
    assert set(found.files) == set(out.iterdir())
    parquet, tsv = pd.read_parquet(out / "links.parquet"), pd.read_csv(out / "links.tsv", sep="\t")
    assert list(parquet.columns[:5]) == ["gene", "peak", "chrom", "distance", "score"]
    assert {"n_pairs", "frequency", "z", "p", "fdr", "z_distance", "p_distance", "fdr_distance"} < set(parquet.columns)
    pd.testing.assert_frame_equal(parquet, found.links)
    pd.testing.assert_frame_equal(parquet, tsv, check_dtype=False)
    bedpe = pd.read_csv(out / "links.bedpe", sep="\t").rename(columns=lambda name: name.removeprefix("#"))
    genes, peaks = small.made.genes.set_index("gene"), small.made.peaks.set_index("peak")
    assert (bedpe["start1"].to_numpy() == genes.loc[parquet["gene"], "tss"].to_numpy()).all()
    assert (bedpe["end2"].to_numpy() == peaks.loc[parquet["peak"], "chrom_end"].to_numpy()).all()
    assert (bedpe["chrom2"] == parquet["chrom"]).all()
    assert parquet["posterior"].is_monotonic_decreasing
    assert len(found.rows()) == 20
    assert json.loads(json.dumps(found.as_dict(), default=_plain))["links"] == len(parquet)


def test_counts_are_those_of_the_table(small, everything):
    found, _ = everything
    links, notes = found.links, found.notes
    assert (notes["cells"], notes["tested"], notes["links"]) == (80, len(links), len(links))
    assert notes["kept"] == (links["frequency"] > 0).sum() > 0
    assert links["tested"].all()
    assert 0 < notes["cells_trained_on"] < 80
    assert "the model was trained on some of these cells" in notes["note"]


def test_links_below_their_null_are_counted_apart():
    links = pd.DataFrame({"frequency": 1.0, "z": [-5.0, 5.0, 5.0], "fdr": 1e-6, "fdr_above": [1.0, 1e-6, 1e-6]})
    links = links.assign(z_distance=[-5.0, -5.0, 5.0], fdr_above_distance=[1, 1, 1e-6], fdr_both=[1, 1, 1e-6])
    counted = _counts(links)
    assert (counted["passed_cells"], counted["passed_distance"], counted["passed_both"]) == (2, 1, 1)
    assert counted["avoid"] == 1


def test_pairs_that_chance_would_hardly_bring_together_are_counted_and_not_tested(
    small, bi2former_run, everything, tmp_path
):
    graph = HeteroGraph.load(bi2former_run.out / "graph")
    with PriorStore.open(small.db) as store:
        candidates = candidate_links(graph, store)
    every = interpret.links(
        Bi2Former.load(bi2former_run.out / "model", graph),
        graph,
        groups=None,
        candidates=candidates,
        least_expected=0,
        seed=Run.read(bi2former_run.out).seed,
        device="cpu",
        progress=False,
    )
    for found, least in ((everything[0], 10.0), (explain(bi2former_run.out, out=tmp_path, least_expected=14.0), 14.0)):
        kept = candidates[every["tested"] & (every["expected"] >= least)]
        assert {*zip(found.links["gene"], found.links["peak"], strict=True)} == {
            *zip(kept["gene"], kept["peak"], strict=True)
        }
        assert (found.notes["tested"], found.notes["too_few_cells"]) == (len(kept), len(candidates) - len(kept))
        assert found.notes["too_few_cells"] > 0
    with pytest.raises(
        DataError, match=rf"none of {len(candidates)} pairs is expected to meet in 90 of 80 cells and varies\. Fix: "
    ):
        explain(bi2former_run.out, out=tmp_path, least_expected=90.0)


def test_links_are_those_of_the_model_with_their_place(small, bi2former_run, everything):
    links = everything[0].links
    graph = HeteroGraph.load(bi2former_run.out / "graph")
    model = Bi2Former.load(bi2former_run.out / "model", graph)
    own = model.links(paired_rows(graph)[0], candidates=links[["gene", "peak"]], device="cpu")
    pd.testing.assert_frame_equal(links[own.columns], own)
    whole = model.links(paired_rows(graph)[0], device="cpu")["total"].sum()
    assert everything[0].notes["untested_attention"] == pytest.approx(1 - own["total"].sum() / whole, abs=1e-4)
    genes, peaks = small.made.genes.set_index("gene"), small.made.peaks.set_index("peak")
    gene, peak = genes.loc[links["gene"]], peaks.loc[links["peak"]]
    assert (links["chrom"].to_numpy() == gene["chrom"].to_numpy()).all()
    assert (links["chrom"].to_numpy() == peak["chrom"].to_numpy()).all()
    middle = (peak["chrom_start"].to_numpy() + peak["chrom_end"].to_numpy()) // 2
    np.testing.assert_allclose(links["distance"], np.abs(gene["tss"].to_numpy() - middle), atol=1)


def test_the_same_seed_gives_the_same_table(bi2former_run, everything, tmp_path):
    again = explain(bi2former_run.out, out=tmp_path)
    pd.testing.assert_frame_equal(again.links, everything[0].links)


@pytest.mark.parametrize("column", ["gene", "gene_id"])
def test_one_gene_by_symbol_and_by_id(small, bi2former_run, everything, tmp_path, column):
    row = small.made.genes.iloc[3]
    found = explain(bi2former_run.out, out=tmp_path / "deep" / "l", gene=row[column])
    assert found.notes["tested"] == everything[0].notes["tested"]  # rates are over all pairs, not those of the gene
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
    assert len((tmp_path / "links.bedpe").read_text().splitlines()) == 1  # names of columns


def test_a_classifier_that_sees_both_modalities_is_said(ids_run, everything, tmp_path):
    said = "its answers need not rest on the links"
    assert said in explain(ids_run, out=tmp_path).notes["note"]
    assert said not in everything[0].notes["note"]


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
    assert set(found.links["group"]) == {"type_1"}


def test_a_factor_is_marked_and_far_links_are_counted(small, bi2former_run, tmp_path):
    with PriorStore.open(small.db) as store:
        hit = store.frame("motif_peak").merge(store.frame("motif"), on="motif_id").iloc[0]
        linked = store.frame("gene_peak")
        gene = linked.loc[linked["peak_id"] == hit["peak_id"], "gene_id"].iloc[0]
    found = explain(bi2former_run.out, out=tmp_path, gene=gene, cell_type="type_2", factor=hit["name"], reach_bp=60_000)
    svg = found.notes["figure"].with_suffix(".svg").read_text()
    assert f"<!-- motif {hit['name']} -->" in svg
    assert "<!-- type_1 -->" in svg
    far = int((found.links["distance"] > 60_000).sum())
    said = found.files[found.notes["figure"]]
    assert said == "the locus, 60,000 bp to each side" + (f"; {far} links lie farther" if far else "")


def test_factors_that_cannot_be_marked_are_refused_before_anything_is_written(small, bi2former_run, tmp_path):
    gene = small.made.genes["gene"].iloc[3]
    with pytest.raises(DataError, match=r"factor 'SYNTF01' has no motif in the store\. Nearest: SYNTF00"):
        explain(bi2former_run.out, out=tmp_path / "l", gene=gene, factor="SYNTF01")
    with pytest.raises(DataError, match=r"factor 'SYNTF001' is marked in the figure of a gene.*Fix: --gene GENE"):
        explain(bi2former_run.out, out=tmp_path / "l", factor="SYNTF001")
    with pytest.raises(DataError, match=r"none of its \d+ links is within 0 bp"):
        explain(bi2former_run.out, out=tmp_path / "l", gene=gene, reach_bp=0)
    assert list(tmp_path.iterdir()) == []


def test_an_unknown_cell_type_lists_the_types(bi2former_run, tmp_path):
    with pytest.raises(
        DataError, match=r"no cell of type 'type_3' has both profiles\. Types: type_1, type_2\. Nearest: type_"
    ):
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
    alone = explain(tmp_path / "alone", out=tmp_path / "all")
    assert alone.notes["links"] == alone.notes["kept"] > 0  # no candidates: what the model kept
    assert "p is too small" in alone.notes["note"]
    bedpe = pd.read_csv(tmp_path / "all" / "links.bedpe", sep="\t")
    tss = small.made.genes.set_index("gene").loc[alone.links["gene"], "tss"].to_numpy()
    assert (bedpe["start1"].to_numpy() == tss).all()
    with pytest.raises(StoreError, match=r"without a store to look genes up\. Fix: train with --db too"):
        explain(tmp_path / "alone", out=tmp_path / "one", gene=gene)
    assert not (tmp_path / "one").exists()
    train("bi2former", "matching", small.data, out=tmp_path / "both", db=small.db, **options)
    assert explain(tmp_path / "both", out=tmp_path / "one", gene=gene).notes["figure"].is_file()

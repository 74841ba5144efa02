import tracemalloc

import anndata
import h5py
import mudata
import numpy as np
import pandas as pd
import pytest
from scipy import sparse

from heteromics import _config
from heteromics.errors import DataError, MissingLayer, NotCounts, PriorError, RecipeError, UnreadableFile
from heteromics.priors import PriorStore
from heteromics.priors._streams import Block, open_matrices
from heteromics.priors.moments import summarise
from heteromics.priors.planning import PlanContext
from heteromics.priors.schemas import SCHEMAS
from heteromics.priors.sources import AtHand
from heteromics.priors.summaries import SummaryConfig, build_summaries, estimate_summaries
from tests.priors.prior_files import context_with, fits, tally, written
from tests.priors.test_moments import counts_of

FORMATS = {"csr": sparse.csr_matrix, "csc": sparse.csc_matrix, "dense": np.asarray}
GENES = ["ENSG01", "gapdh", "Y_RNA", "NOPE", "TP53", *(f"x{n}" for n in range(45))]
ALL = SummaryConfig(all_cells=True)


def h5ad(path, counts, features=None, **var):
    cells, width = counts.shape
    names = list(features) if features is not None else [f"f{n}" for n in range(width)]
    table = pd.DataFrame(var, index=names)
    data = anndata.AnnData(counts, obs=pd.DataFrame(index=[f"c{n}" for n in range(cells)]), var=table)
    data.layers["twice"] = counts * 2
    data.write_h5ad(path)
    return path


def rows_of(built, table):
    return {row["feature"]: row for row in built.tables[table].to_pylist()}


@pytest.mark.parametrize("form", FORMATS)
@pytest.mark.parametrize("entries", [1, 300, 1 << 20])
def test_every_form_on_disk_and_size_of_block_says_the_same(tmp_path, form, entries):
    counts = counts_of(90, 40)
    rows = np.flatnonzero(np.random.default_rng(1).random(90) < 0.8)
    path = h5ad(tmp_path / "a.h5ad", FORMATS[form](counts))
    with open_matrices(path, {}) as matrices:
        blocks = list(matrices["rna"].blocks(rows, entries))
        got = summarise(lambda: matrices["rna"].blocks(rows, entries), rows.size, 40, top=9)
    assert (len(blocks) > 1) == (entries < 1000)
    expected = summarise(lambda: [Block(0, sparse.csr_array(counts[rows]))], rows.size, 40, top=9)
    for one, other in zip(got, expected, strict=True):
        np.testing.assert_array_equal(one, other)


@pytest.mark.parametrize("form", FORMATS)
def test_cells_that_are_not_named_change_nothing(tmp_path, form):
    counts = counts_of(80, 50)
    cells = written(tmp_path / "train.txt", "c3\r\nc1\n\n" + "\n".join(f"c{n}" for n in range(10, 60)) + "\n")
    answers = []
    for fill in (0, 7, 0.25, np.nan, -1):
        other = counts.copy()
        other[[0, 2, *range(4, 10), *range(60, 80)]] = fill
        path = h5ad(tmp_path / f"{fill}.h5ad", FORMATS[form](other), GENES)
        built = build_summaries(context_with({"summary_data": path, "summary_cells": cells}), SummaryConfig())
        answers.append((built.tables["gene_summary"], built.tables["summary_cell"]))
    for table, kept in answers[1:]:
        assert table.equals(answers[0][0])
        assert kept.equals(answers[0][1])
    assert set(answers[0][0]["cells"].to_pylist()) == {52}
    assert answers[0][1]["cell_id"].to_pylist()[:3] == ["c1", "c3", "c10"]
    np.testing.assert_allclose(
        rows_of(built, "gene_summary")["ENSG01"]["mean"], counts[[1, 3, *range(10, 60)], 0].mean(), rtol=1e-6
    )


def test_features_join_the_nodes_and_those_that_do_not_are_named(tmp_path):
    context = context_with({"summary_data": h5ad(tmp_path / "a.h5ad", counts_of(30, 50), GENES)})
    built = build_summaries(context, ALL)
    assert fits(built)
    assert {name: row["gene_id"] for name, row in rows_of(built, "gene_summary").items()} == {
        "ENSG01": "ENSG01",
        "gapdh": "ENSG02",
    }
    assert tally(built, "gene_summary") == {
        "matched": 1,
        "case_folded": 1,
        "ambiguous": 1,
        "duplicated": 1,
        "absent": 46,
    }
    said = {match.name: (match.outcome, match.detail) for match in built.matches["gene_summary"]}
    assert said["TP53"] == ("duplicated", "ENSG01 is summarised as ENSG01")
    assert "NOPE" in said
    assert "ENSG01" not in said


def test_gene_ids_of_10x_are_asked_before_the_names(tmp_path):
    names = [f"n{row}" for row in range(20)]
    path = h5ad(tmp_path / "a.h5ad", counts_of(30, 20), names, gene_ids=["ENSG03.1", *names[1:]])
    built = build_summaries(context_with({"summary_data": path}), ALL)
    assert [(row["gene_id"], row["feature"]) for row in built.tables["gene_summary"].to_pylist()] == [("ENSG03", "n0")]


def with_nodes(files):
    context = context_with(files)
    for place in (("chr1:5-9", "chr1", 5, 9), ("chr1:20-90", "chr1", 20, 90), ("chr2-4-8", "chr2", 4, 8)):
        context.connection.execute("INSERT INTO peak VALUES (?, ?, ?, ?)", list(place))
    context.connection.execute(SCHEMAS["protein"].create_sql())
    for protein in (("ADT_CD3", "CD3"), ("ADT_CD4", "CD4"), ("ADT_CD4b", "CD4")):
        context.connection.execute("INSERT INTO protein (protein_id, symbol) VALUES (?, ?)", list(protein))
    return context


PEAKS = ["chr1:5-9", "1_20_90", "chr2:4-8", "chr2:5-9", "odd", *(f"chr1:{n}-{n + 2}" for n in range(500, 515))]


def test_mudata_gives_each_modality_its_table(tmp_path):
    parts = {}
    for name, features, cells in (
        ("rna", GENES, range(40)),
        ("atac", PEAKS, range(20, 50)),
        ("prot", ["CD3", "CD4", "ADT_CD4"], range(50)),
    ):
        counts = sparse.csr_matrix(counts_of(len(cells), len(features), seed=len(features)))
        obs = pd.DataFrame(index=[f"c{n}" for n in cells])
        parts[name] = anndata.AnnData(counts, obs=obs, var=pd.DataFrame(index=features))
    with mudata.set_options(pull_on_update=False):
        mudata.MuData(parts).write_h5mu(tmp_path / "a.h5mu")
    cells = written(tmp_path / "train.txt", "\n".join(f"c{n}" for n in range(15, 45)))
    built = build_summaries(
        with_nodes({"summary_data": tmp_path / "a.h5mu", "summary_cells": cells}), SummaryConfig(top_peaks=4)
    )
    assert fits(built)
    assert {name: row["peak_id"] for name, row in rows_of(built, "peak_summary").items()} == {
        "chr1:5-9": "chr1:5-9",
        "1_20_90": "chr1:20-90",
        "chr2:4-8": "chr2-4-8",
    }
    assert tally(built, "peak_summary") == {"matched": 1, "same_place": 2, "absent": 16, "unparsable": 1}
    assert {name: row["protein_id"] for name, row in rows_of(built, "protein_summary").items()} == {
        "CD3": "ADT_CD3",
        "ADT_CD4": "ADT_CD4",
    }
    assert tally(built, "protein_summary") == {"matched": 2, "ambiguous": 1}
    assert {row["normalised_variance"] for row in rows_of(built, "protein_summary").values()} == {None}
    cells = built.tables["summary_cell"].to_pandas()
    assert cells.groupby("modality").size().to_dict() == {"rna": 25, "atac": 25, "protein": 30}
    assert {source.label for source in built.sources["peak_summary"]} == {"a.h5mu", "train.txt"}


def test_feature_types_split_one_matrix_whatever_its_form(tmp_path):
    kinds = np.array(["Gene Expression", "Peaks"] * 20)
    names = [GENES[n // 2] if n % 2 == 0 else PEAKS[n // 2] for n in range(40)]
    counts = counts_of(30, 40)
    tables = []
    for form, write in FORMATS.items():
        path = h5ad(tmp_path / f"{form}.h5ad", write(counts), names, feature_types=kinds)
        tables.append(build_summaries(with_nodes({"summary_data": path}), ALL).tables)
    for other in tables[1:]:
        assert other["gene_summary"].equals(tables[0]["gene_summary"])
        assert other["peak_summary"].equals(tables[0]["peak_summary"])
    means = {row["feature"]: row["mean"] for row in tables[0]["peak_summary"].to_pylist()}
    assert means["chr1:5-9"] == pytest.approx(counts[:, 1].mean())


def test_modalities_may_lie_in_several_files_but_only_once(tmp_path):
    rna = h5ad(tmp_path / "rna.h5ad", counts_of(30, 50), GENES)
    intervals = [name for name in PEAKS if ":" in name]
    atac = h5ad(tmp_path / "atac.h5ad", counts_of(30, len(intervals)), intervals)
    built = build_summaries(with_nodes({"summary_data": rna, "summary_data_atac": atac}), ALL)
    assert sorted(built.tables) == ["gene_summary", "peak_summary", "summary_cell"]
    assert [source.label for source in built.sources["summary_cell"]] == ["rna.h5ad", "atac.h5ad"]
    with pytest.raises(DataError, match=r"rna.h5ad holds rna again; rna.h5ad does already"):
        build_summaries(with_nodes({"summary_data": rna, "summary_data_again": rna}), ALL)


def test_a_layer_and_a_modality_can_be_named(tmp_path):
    path = h5ad(tmp_path / "a.h5ad", counts_of(30, 50), ["CD3", *GENES[1:]])
    config = SummaryConfig(all_cells=True, layers={"protein": "twice"}, holds="protein")
    built = build_summaries(with_nodes({"summary_data": path}), config)
    assert sorted(built.tables) == ["protein_summary", "summary_cell"]
    assert rows_of(built, "protein_summary")["CD3"]["mean"] == pytest.approx(2 * counts_of(30, 50)[:, 0].mean())
    with pytest.raises(MissingLayer, match="a.h5ad has no layer 'counts': found X, twice"):
        build_summaries(with_nodes({"summary_data": path}), SummaryConfig(all_cells=True, layers={"rna": "counts"}))


def test_bad_input_is_named(tmp_path):
    path = h5ad(tmp_path / "a.h5ad", counts_of(30, 50), GENES)

    def build(cells=None, config=None, **files):
        files = {"summary_data": path, **files}
        if cells is not None:
            files["summary_cells"] = written(tmp_path / "cells.txt", cells)
        return build_summaries(context_with(files), config or SummaryConfig(all_cells=cells is None))

    with pytest.raises(DataError, match=r"cells.txt: 1 of 3 names are no cell of the data: zebra"):
        build("c1\nc2\nzebra\n")
    with pytest.raises(DataError, match=r"2 of 2 names are no cell of the data: c1-1, c2-1.\n  cells: c0, c1"):
        build("c1-1\nc2-1\n")
    with pytest.raises(DataError, match="cells.txt: no cell in it"):
        build("\n")
    with pytest.raises(DataError, match="found 1 of the cells to look at, expected 2 or more"):
        build("c1\n")
    with pytest.raises(RecipeError, match=r"all_cells is set, and source summary_cells names some"):
        build("c1\n", ALL)
    with pytest.raises(NotCounts, match=r"a.h5ad, rna, X, rows counted(.|\n)*fractional"):
        build(summary_data=h5ad(tmp_path / "a.h5ad", counts_of(30, 50) / 3, GENES))
    with pytest.raises(PriorError, match=r"none of its 50 rna features is in table gene: f0, f1, f2"):
        build(summary_data=h5ad(tmp_path / "a.h5ad", counts_of(30, 50)))
    with pytest.raises(PriorError, match="no table gene, peak or protein for what the data hold"):
        build(config=SummaryConfig(all_cells=True, holds="protein"))
    with pytest.raises(UnreadableFile, match="not a readable HDF5 file"):
        build(summary_data=written(tmp_path / "b.h5ad", "nothing"))
    with h5py.File(tmp_path / "c.h5ad", "w") as file:
        file["X"] = np.ones((2, 2))
    with pytest.raises(UnreadableFile, match=r"c.h5ad: found X, expected X, obs and var"):
        build(summary_data=tmp_path / "c.h5ad")
    odd = h5ad(tmp_path / "d.h5ad", counts_of(3, 2), feature_types=["Custom", "CRISPR"])
    with pytest.raises(DataError, match="d.h5ad holds neither rna nor atac nor protein"):
        build(summary_data=odd)


def test_counts_in_raw_have_features_of_their_own(tmp_path):
    counts = counts_of(30, 50)
    whole = anndata.AnnData(counts, obs=pd.DataFrame(index=[f"c{n}" for n in range(30)]), var=pd.DataFrame(index=GENES))
    part = whole[:, ["x1", "ENSG01"]].copy()
    part.X = part.X / 3
    part.raw = whole
    part.layers["raw"] = part.X * 7  # where .raw is there, it is what the name means
    part.write_h5ad(tmp_path / "a.h5ad")
    context = context_with({"summary_data": tmp_path / "a.h5ad"})
    raw = build_summaries(context, SummaryConfig(all_cells=True, layers={"rna": "raw"})).tables["gene_summary"]
    plain = build_summaries(context_with({"summary_data": h5ad(tmp_path / "b.h5ad", counts, GENES)}), ALL)
    assert raw.equals(plain.tables["gene_summary"])
    with h5py.File(tmp_path / "a.h5ad", "r+") as file:
        del file["X"]
        file.create_group("X").attrs["h5sparse_format"] = "csr"
    with pytest.raises(UnreadableFile, match="layer 'X' is a group, expected a dense, CSR or CSC matrix"):
        build_summaries(context, ALL)


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ({"layers": {"adt": "counts"}}, "layers: found adt, expected rna, atac, protein"),
        ({"top_genes": -1}, "found -1, 20000, 50 features to flag"),
        ({"span": 0}, "span: found 0"),
    ],
)
def test_recipe_keys_are_checked(keys, message):
    with pytest.raises(RecipeError, match=message):
        _config.build(SummaryConfig, keys, "attributes.summaries")


@pytest.mark.parametrize("form", ["csr_matrix", "csc_matrix", "dense"])
def test_memory_does_not_grow_with_the_matrix(tmp_path, form):
    rng = np.random.default_rng(0)
    cells, features, per_row = 40_000, 500, 100
    path = tmp_path / "big.h5ad"
    small = anndata.AnnData(
        sparse.csr_matrix((1, features)), var=pd.DataFrame(index=[f"f{n}" for n in range(features)])
    )
    small.write_h5ad(path)
    with h5py.File(path, "r+") as file:
        del file["X"], file["obs/_index"]
        file["obs/_index"] = [f"c{n}" for n in range(cells)]
        if form == "dense":
            file.create_dataset("X", data=rng.integers(0, 3, (cells, features)).astype(np.float32))
            whole = cells * features * 4
        else:
            major, minor = (cells, features) if form == "csr_matrix" else (features, cells)
            per = cells * per_row // major
            indices = np.sort(np.argpartition(rng.random((min(major, 500), minor)), per, axis=1)[:, :per], axis=1)
            group = file.create_group("X")
            group["indices"] = np.resize(indices, (major, per)).ravel().astype(np.int32)
            group["data"] = rng.integers(1, 9, major * per).astype(np.float32)
            group["indptr"] = np.arange(major + 1) * per
            group.attrs.update({"encoding-type": form, "encoding-version": "0.1.0", "shape": (cells, features)})
            whole = cells * per_row * 8
    rows = np.arange(0, cells, 2)
    with open_matrices(path, {}) as matrices:
        tracemalloc.start()
        summarise(lambda: matrices["rna"].blocks(rows, 1 << 16), rows.size, features, top=10)
        _, peak = tracemalloc.get_traced_memory()
        tracemalloc.stop()
    assert peak < whole / 4


def test_a_recipe_builds_summaries_and_says_which_cells(recipe):
    names = ["ALPHA", "BETA", "ENSG00000000003", *(f"x{n}" for n in range(30))]
    h5ad(recipe.parent / "cells.h5ad", counts_of(40, 33), names)
    written(recipe.parent / "train.txt", "\n".join(f"c{n}" for n in range(25)))
    text = recipe.read_text().replace("sources: {", "sources: {summary_data: cells.h5ad, summary_cells: train.txt, ")
    recipe.write_text(text + "attributes:\n  summaries: {}\n")
    with PriorStore.build(recipe, recipe.with_name("s.duckdb"), progress=False) as store:
        assert store.frame("gene_summary")["feature"].tolist() == names[:3]
        assert len(store.frame("summary_cell")) == 25
        sources = store.frame("provenance").query("table_name == 'gene_summary'")["source"]
        assert set(sources) == {"cells.h5ad", "train.txt"}
    plan = PriorStore.plan(recipe)
    assert {table.table: table.rows for table in plan.tables}["summary_cell"] == 25
    recipe.write_text(recipe.read_text().replace("summary_cells: train.txt, ", ""))
    with pytest.raises(RecipeError, match=r"source summary_cells \(training cells(.|\n)*no test cell leaks"):
        PriorStore.build(recipe, recipe.with_name("t.duckdb"), progress=False)


def test_the_plan_counts_features_and_cells(tmp_path):
    path = h5ad(tmp_path / "a.h5ad", counts_of(30, 50), GENES)
    plan = PlanContext(None, {"summary_data": AtHand("summary_data", "a", "file", path, 1)})
    plan.rows["gene"] = 20
    assert estimate_summaries(plan, ALL) == {"gene_summary": 20, "summary_cell": 30}
    assert estimate_summaries(PlanContext(None, {}), ALL) == {"summary_cell": None}

import gzip
import hashlib
import re
import shutil
import subprocess
import sys

import anndata
import h5py
import mudata
import numpy as np
import pandas as pd
import pytest
import scanpy
import scipy.io
from scipy import sparse

from heteromics.data import _sparse, modalities, read
from heteromics.data._modality import SPELLINGS, canonical
from heteromics.errors import (
    DataError,
    DuplicateNames,
    MissingLayer,
    MissingModality,
    NotCounts,
    UnreadableFile,
)

RNG = np.random.default_rng(3)
COUNTS = RNG.poisson(0.7, (30, 12)).astype(np.float32)
CELLS = [f"cell{i}" for i in range(30)]
TYPES = np.array(["Gene Expression"] * 6 + ["Peaks"] * 4 + ["Antibody Capture"] * 2)
IDS = [f"ENSG{i}" for i in range(6)] + [f"chr1:{i}00-{i}50" for i in range(4)] + ["CD3_TotalB", "CD4_TotalB"]
NAMES = ["A", "B", "B", "C", "D", "E", *IDS[6:10], "CD3", "CD4"]


def annotated(matrix=COUNTS, **more):
    data = anndata.AnnData(
        matrix,
        obs=pd.DataFrame({"kind": pd.Categorical(["x", "y"] * 15)}, index=CELLS),
        var=pd.DataFrame({"gene_ids": IDS}, index=[f"g{i}" for i in range(12)]),
        **more,
    )
    data.obsm["spatial"] = np.arange(60.0).reshape(30, 2)
    return data


def h5ad(tmp_path, data=None, **more):
    data = annotated(**more) if data is None else data
    data.write_h5ad(tmp_path / "a.h5ad")
    return tmp_path / "a.h5ad"


def dense(data):
    return data.X.toarray()  # 30 x 12


def test_h5ad_keeps_tables_and_notes_its_source(tmp_path):
    path = h5ad(tmp_path)
    data = read(path, modality="rna", layer="X")
    assert isinstance(data.X, sparse.csr_matrix)
    assert data.X.dtype == np.float32
    assert data.X.has_sorted_indices
    assert np.array_equal(dense(data), COUNTS)
    assert list(data.obs["kind"][:2]) == ["x", "y"]
    assert list(data.var["gene_id"]) == IDS
    assert np.array_equal(data.obsm["spatial"], np.arange(60.0).reshape(30, 2))
    assert data.uns["heteromics"] == {
        "modality": "rna", "layer": "X", "source": "a.h5ad", "sha256": hashlib.sha256(path.read_bytes()).hexdigest()
    }  # fmt: skip


@pytest.mark.parametrize("form", [sparse.csr_matrix, sparse.csc_matrix, np.asarray], ids=["csr", "csc", "dense"])
@pytest.mark.parametrize("dtype", [np.int64, np.float64, np.uint16, np.float32])
def test_every_storage_and_number_type_gives_the_same_matrix(tmp_path, form, dtype):
    data = read(h5ad(tmp_path, matrix=form(COUNTS.astype(dtype))), modality="rna", layer="X")
    assert np.array_equal(dense(data), COUNTS)
    assert (data.X.data != 0).all()


@pytest.mark.parametrize("chunks", [None, (7, 5), (30, 12), (30, 3), (1, 12)])
@pytest.mark.parametrize("block_bytes", [1, 100, 500, 10_000])
def test_dense_matrices_are_never_held_whole(tmp_path, monkeypatch, chunks, block_bytes):
    monkeypatch.setattr(_sparse, "BLOCK_BYTES", block_bytes)
    with h5py.File(tmp_path / "x.h5", "w") as file:
        stored = file.create_dataset("x", data=COUNTS, chunks=chunks)
        seen = []

        class Watched:
            shape, dtype, chunks = stored.shape, stored.dtype, stored.chunks

            def __getitem__(self, at):
                seen.append(stored[at].nbytes)
                return stored[at]

        assert np.array_equal(_sparse.sparse_by_blocks(Watched()).toarray(), COUNTS)
        one_chunk = 4 * (chunks[0] * chunks[1] if chunks else 12)
        assert max(seen) <= max(block_bytes, one_chunk)
        assert sum(seen) == COUNTS.nbytes


@pytest.mark.parametrize("shape", [(0, 4), (4, 0)])
def test_dense_matrices_without_rows_or_columns(tmp_path, shape):
    with h5py.File(tmp_path / "x.h5", "w") as file:
        assert _sparse.sparse_by_blocks(file.create_dataset("x", data=np.zeros(shape))).shape == shape


def test_layers_raw_and_matrices_beside(tmp_path):
    data = annotated(matrix=np.log1p(COUNTS), layers={"counts": sparse.csc_matrix(COUNTS)})
    data.raw = annotated(matrix=COUNTS * 2)[:, :12]
    data = data[:, :5].copy()
    data.obsm["protein_expression"] = pd.DataFrame(COUNTS[:, 5:], index=CELLS, columns=IDS[5:])
    data.obsm["unnamed"] = COUNTS[:, :3]
    data.uns["protein_names"] = np.array(["CD3", "CD4", "CD8"])
    path = h5ad(tmp_path, data)
    assert np.array_equal(dense(read(path, modality="rna", layer="counts")), COUNTS[:, :5])
    assert read(path, modality="rna", layer="raw").shape == (30, 12)
    assert np.array_equal(dense(read(path, modality="rna", layer="raw")), COUNTS * 2)
    beside = read(path, modality="protein", layer="obsm/protein_expression")
    assert list(beside.var_names) == IDS[5:]
    assert np.array_equal(dense(beside), COUNTS[:, 5:])
    assert list(read(path, modality="protein", layer="obsm/unnamed").var_names) == ["CD3", "CD4", "CD8"]
    with pytest.raises(
        DataError, match=r"a\.h5ad: obsm/spatial has 2 columns without names; found 0 arrays of 2 names in uns"
    ):
        read(path, modality="protein", layer="obsm/spatial", expect="any")


def test_a_missing_layer_lists_what_is_there(tmp_path):
    path = h5ad(tmp_path, layers={"counts": COUNTS})
    with pytest.raises(
        MissingLayer, match=r"a\.h5ad has no layer 'spliced'. There: X, counts, obsm/spatial\.\n  Fix: ask"
    ):
        read(path, modality="rna", layer="spliced")


def test_what_are_no_counts_is_told_with_the_layers_that_are_there(tmp_path):
    path = h5ad(tmp_path, matrix=np.log1p(COUNTS), layers={"counts": COUNTS})
    with pytest.raises(NotCounts) as caught:
        read(path, modality="rna", layer="X")
    assert str(caught.value).startswith("a.h5ad, rna, layer 'X' (there: X, counts, obsm/spatial): expected counts")
    fractional = (np.log1p(COUNTS) % 1 != 0).sum()
    assert f"found {fractional} fractional of {(COUNTS > 0).sum()} stored values" in str(caught.value)
    values = read(path, modality="rna", layer="X", expect="normalised")
    assert np.allclose(dense(values), np.log1p(COUNTS))


@pytest.mark.parametrize(("wrong", "kind"), [(np.nan, "NaN"), (-1.0, "negative")])
def test_nan_and_negative_values_are_no_counts(tmp_path, wrong, kind):
    matrix = COUNTS.copy()
    matrix[4, 7] = wrong
    path = h5ad(tmp_path, matrix=matrix)
    with pytest.raises(NotCounts, match=f"found 1 {kind} of .* in row 4, column 7"):
        read(path, modality="rna", layer="X")
    if kind == "NaN":
        with pytest.raises(DataError, match="expected finite values.\n  found 1 NaN or infinite"):
            read(path, modality="rna", layer="X", expect="normalised")
    assert read(path, modality="rna", layer="X", expect="any").shape == (30, 12)


def test_an_unknown_expectation_is_refused(tmp_path):
    with pytest.raises(DataError, match="found expect='count', expected one of 'counts', 'normalised', 'any'"):
        read(h5ad(tmp_path), modality="rna", layer="X", expect="count")


def test_repeated_names_are_never_made_unique_in_silence(tmp_path):
    data = annotated()
    data.var_names = pd.Index(["same"] * 3 + [f"g{i}" for i in range(9)])
    with pytest.raises(DuplicateNames) as caught:
        read(h5ad(tmp_path, data), modality="rna", layer="X")
    assert "a.h5ad: features: 1 of 10 names are used more than once, by 3 of 12 entries: same." in str(caught.value)
    assert "Fix: name the features by var['gene_ids'], which is unique." in str(caught.value)
    data = annotated()
    data.obs_names = pd.Index(["cell"] * 2 + CELLS[2:])
    with pytest.raises(DuplicateNames, match=r"a\.h5ad: cells: 1 of 29 names .*: cell\.\n  Fix: add the batch"):
        read(h5ad(tmp_path, data), modality="rna", layer="X")


def test_modalities_by_feature_type_share_one_h5ad(tmp_path):
    data = annotated()
    data.var["feature_types"] = pd.Categorical(["GEX"] * 6 + ["ATAC"] * 4 + ["ADT"] * 2)
    path = h5ad(tmp_path, data)
    assert modalities(path) == ["rna", "atac", "protein"]
    for asked, columns in (("rna", slice(0, 6)), ("Peaks", slice(6, 10)), ("antibody capture", slice(10, 12))):
        part = read(path, modality=asked, layer="X")
        assert np.array_equal(dense(part), COUNTS[:, columns])
        assert part.uns["heteromics"]["modality"] == canonical(asked)
    two = h5ad(tmp_path, data[:, :10].copy())
    with pytest.raises(MissingModality) as caught:
        read(two, modality="protein", layer="X")
    assert "a.h5ad has no modality 'protein'. There: rna (as 'GEX'), atac (as 'ATAC')." in str(caught.value)


def test_a_file_that_does_not_say_is_taken_at_its_word_but_peaks_are_peaks(tmp_path):
    path = h5ad(tmp_path)
    assert modalities(path) == []
    assert read(path, modality="protein", layer="X").shape == (30, 12)
    with pytest.raises(
        MissingModality, match="a.h5ad has no modality 'methylation'. There: not said; known names are rna"
    ):
        read(path, modality="methylation", layer="X")
    data = annotated()
    data.var_names = [f"chr{i}:10-20" for i in range(12)]
    path = h5ad(tmp_path, data)
    assert modalities(path) == ["atac"]
    with pytest.raises(MissingModality, match=r"no modality 'rna'. There: atac \(as 'peak names'\)"):
        read(path, modality="rna", layer="X")


def test_what_was_read_once_remembers_its_modality(tmp_path):
    first = read(h5ad(tmp_path), modality="protein", layer="X")
    again = h5ad(tmp_path, first)
    assert modalities(again) == ["protein"]
    with pytest.raises(MissingModality, match="no modality 'rna'. There: protein"):
        read(again, modality="rna", layer="X")


@pytest.fixture
def h5mu(tmp_path):
    rna = annotated()[:20].copy()
    adt = anndata.AnnData(sparse.csr_matrix(COUNTS[10:, :3]), obs=pd.DataFrame(index=CELLS[10:]))
    adt.var_names = ["CD3", "CD4", "CD8"]
    with mudata.set_options(pull_on_update=False):
        data = mudata.MuData({"rna": rna, "adt": adt, "hto": adt.copy()[:, :0]})
        data.obs["batch"] = [f"b{int(name[4:]) % 2}" for name in data.obs_names]
        data.obsm["place"] = np.array([[int(name[4:]), 0] for name in data.obs_names])
        data.uns["synthetic"] = True
        data.write(tmp_path / "a.h5mu")
    return tmp_path / "a.h5mu"


def test_h5mu_hands_tables_of_all_cells_to_each_modality(h5mu):
    assert sorted(modalities(h5mu)) == ["hto", "protein", "rna"]
    protein = read(h5mu, modality="protein", layer="X")
    assert np.array_equal(dense(protein), COUNTS[10:, :3])
    assert list(protein.obs_names) == CELLS[10:]
    assert list(protein.obs["batch"]) == [f"b{i % 2}" for i in range(10, 30)]
    assert list(protein.obsm["place"][:, 0]) == list(range(10, 30))
    assert protein.uns["synthetic"]
    rna = read(h5mu, modality="gex", layer="X")
    assert list(rna.obs["kind"][:2]) == ["x", "y"]
    assert read(h5mu, modality="hto", layer="X").shape == (20, 0)


def test_h5mu_lists_what_is_there(h5mu):
    with pytest.raises(
        MissingModality, match=r"a\.h5mu has no modality 'atac'. There: protein \(as 'adt'\), hto, rna\."
    ):
        read(h5mu, modality="atac", layer="X")
    with pytest.raises(MissingLayer, match=r"a\.h5mu, modality 'rna' has no layer 'counts'. There: X, obsm/spatial\."):
        read(h5mu, modality="rna", layer="counts")
    assert read(h5mu, modality="rna", layer="X").n_obs == 20
    with h5py.File(h5mu, "r+") as file:
        file["obs/_index"][0] = "another"
    with pytest.raises(
        UnreadableFile, match=r"a\.h5mu: the cells of 'rna' are not all, each once, in its obs of all cells"
    ):
        read(h5mu, modality="rna", layer="X")
    with h5py.File(h5mu, "r+") as file:
        file.copy("mod/adt", "mod/prot")
    with pytest.raises(MissingModality, match="'adt' and 'prot' both mean protein"):
        modalities(h5mu)


def write_10x_h5(path, *, genome=None):
    by_cell = sparse.csr_matrix(COUNTS.astype(np.int32))
    with h5py.File(path, "w") as file:
        group = file.create_group(genome or "matrix")
        n = 6 if genome else 12
        stored = by_cell[:, :n]
        group["barcodes"] = np.array(CELLS, "S")
        group["shape"] = np.array([n, 30], np.int32)
        for key in ("data", "indices", "indptr"):
            group[key] = getattr(stored, key)
        if genome:
            group["genes"], group["gene_names"] = np.array(IDS[:n], "S"), np.array(NAMES[:n], "S")
        else:
            group["features/id"], group["features/name"] = np.array(IDS, "S"), np.array(NAMES, "S")
            group["features/feature_type"] = TYPES.astype("S")
            group["features/genome"] = np.array(["GRCh38"] * 10 + [""] * 2, "S")
            group["features/_all_tag_keys"] = np.array(["genome"], "S")


@pytest.mark.parametrize("genome", [None, "GRCh38"], ids=["v3", "v2"])
@pytest.mark.filterwarnings("ignore:Variable names are not unique:UserWarning")
def test_10x_h5_agrees_with_scanpy(tmp_path, genome):
    path = tmp_path / "filtered.h5"
    write_10x_h5(path, genome=genome)
    reference = scanpy.read_10x_h5(path, gex_only=False)
    data = read(path, modality="rna", layer="X")
    assert np.array_equal(dense(data), reference.X.toarray()[:, :6])
    assert list(data.obs_names) == list(reference.obs_names)
    assert list(data.var["symbol"]) == list(reference.var_names[:6])
    assert list(data.var_names) == list(data.var["gene_id"]) == list(reference.var["gene_ids"][:6])
    assert modalities(path) == (["rna"] if genome else ["rna", "atac", "protein"])
    if not genome:
        assert np.array_equal(dense(read(path, modality="protein", layer="X")), COUNTS[:, 10:])
        assert list(read(path, modality="atac", layer="X").var_names) == IDS[6:10]


def test_10x_h5_errors(tmp_path):
    path = tmp_path / "raw.h5"
    write_10x_h5(path, genome="GRCh38")
    with pytest.raises(MissingModality, match=r"raw\.h5 has no modality 'atac'. There: rna \(as 'Gene Expression'\)"):
        read(path, modality="atac", layer="X")
    with pytest.raises(MissingLayer, match=r"raw\.h5 has no layer 'counts'. There: X\."):
        read(path, modality="rna", layer="counts")
    with h5py.File(path, "r+") as file:
        file.copy("GRCh38", "mm10")
    with pytest.raises(UnreadableFile, match=r"found 2 genomes \(GRCh38, mm10\) among GRCh38, mm10"):
        modalities(path)
    with h5py.File(path, "r+") as file:
        del file["mm10"], file["GRCh38/indices"]
    with pytest.raises(UnreadableFile, match=r"raw\.h5: a 10x matrix lacks indices"):
        modalities(path)
    write_10x_h5(path)
    with h5py.File(path, "r+") as file:
        del file["matrix/barcodes"]
        file["matrix/barcodes"] = np.array(CELLS[:7], "S")
    with pytest.raises(
        UnreadableFile, match=r"raw\.h5 is 12 features x 30 cells, but 12 features and 7 barcodes are named"
    ):
        read(path, modality="rna", layer="X")


def write_mtx(folder, *, version=3, gz=True, prefix=""):
    folder.mkdir(exist_ok=True)
    n = 12 if version == 3 else 6
    scipy.io.mmwrite(folder / f"{prefix}matrix.mtx", sparse.coo_matrix(COUNTS[:, :n].T.astype(int)))
    table = pd.DataFrame({0: IDS[:n], 1: NAMES[:n]} | ({2: TYPES} if version == 3 else {}))
    name = "features.tsv" if version == 3 else "genes.tsv"
    table.to_csv(folder / f"{prefix}{name}", sep="\t", header=False, index=False)
    (folder / f"{prefix}barcodes.tsv").write_text("\n".join(CELLS) + "\n")
    if gz:
        for path in list(folder.iterdir()):
            with path.open("rb") as plain, gzip.open(f"{path}.gz", "wb") as packed:
                shutil.copyfileobj(plain, packed)
            path.unlink()
    return folder


@pytest.mark.parametrize("version", [2, 3])
@pytest.mark.parametrize("gz", [True, False], ids=["gz", "plain"])
def test_10x_mtx_of_both_versions_agrees_with_scanpy(tmp_path, version, gz):
    folder = write_mtx(tmp_path / "m", version=version, gz=gz)
    data = read(folder, modality="rna", layer="X")
    assert np.array_equal(dense(data), COUNTS[:, :6])
    assert list(data.var_names) == IDS[:6]
    assert list(data.var["symbol"]) == NAMES[:6]
    assert modalities(folder) == (["rna", "atac", "protein"] if version == 3 else ["rna"])
    if (version, gz) in {(3, True), (2, False)}:
        reference = scanpy.read_10x_mtx(folder, var_names="gene_ids", gex_only=False, cache=False)
        assert np.array_equal(dense(data), reference.X.toarray()[:, :6])
        assert list(data.obs_names) == list(reference.obs_names)
    lines = "".join(f"{hashlib.sha256(p.read_bytes()).hexdigest()}  {p.name}\n" for p in sorted(folder.iterdir()))
    assert data.uns["heteromics"]["sha256"] == hashlib.sha256(lines.encode()).hexdigest()


def test_10x_mtx_by_its_matrix_with_a_prefix(tmp_path):
    folder = write_mtx(tmp_path / "m", prefix="GSM1_")
    write_mtx(folder, version=2, prefix="GSM2_", gz=False)
    assert read(folder / "GSM1_matrix.mtx.gz", modality="atac", layer="X").shape == (30, 4)
    assert read(folder / "GSM2_matrix.mtx", modality="rna", layer="X").shape == (30, 6)


def test_10x_mtx_errors(tmp_path):
    folder = write_mtx(tmp_path / "m", gz=False)
    with pytest.raises(MissingLayer, match=r"m has no layer 'counts'. There: X"):
        read(folder, modality="rna", layer="counts")
    (folder / "barcodes.tsv").write_text("one\ntwo\n")
    with pytest.raises(UnreadableFile, match=r"matrix\.mtx is 12 features x 30 cells, but 12 features and 2 barcodes"):
        read(folder, modality="rna", layer="X")
    (folder / "matrix.mtx").write_text((folder / "matrix.mtx").read_text()[:200])
    with pytest.raises(UnreadableFile, match=r"matrix\.mtx is no whole Matrix Market file"):
        read(folder, modality="rna", layer="X")
    (folder / "features.tsv").write_text("")
    with pytest.raises(UnreadableFile, match=r"features\.tsv is no readable table: No columns"):
        modalities(folder)
    (folder / "features.tsv").unlink()
    with pytest.raises(
        UnreadableFile, match=r"none of features\.tsv, features\.tsv\.gz, genes\.tsv.*There: barcodes\.tsv, m"
    ):
        modalities(folder)
    (tmp_path / "empty").mkdir()
    with pytest.raises(
        UnreadableFile, match=r"none of matrix\.mtx, matrix\.mtx\.gz\. There: nothing\.\n  Fix: put matrix\.mtx"
    ):
        modalities(tmp_path / "empty")


def write_loom(path, **rows):
    with h5py.File(path, "w") as file:
        file.create_dataset("matrix", data=COUNTS.T.astype(np.int64), chunks=(5, 7), compression="gzip")
        file["layers/spliced"] = np.log1p(np.maximum(COUNTS.T, 0))
        file["col_attrs/CellID"] = np.array(CELLS, "S")
        file["col_attrs/Age"] = np.arange(30)
        file["col_attrs/UMAP"] = np.arange(60.0).reshape(30, 2)
        for key, value in ({"Gene": NAMES} | rows).items():
            file[f"row_attrs/{key}"] = np.array(value, "S")


def test_loom(tmp_path, monkeypatch):
    monkeypatch.setattr(_sparse, "BLOCK_BYTES", 1000)
    path = tmp_path / "a.loom"
    write_loom(path, Accession=IDS, feature_types=TYPES)
    assert modalities(path) == ["rna", "atac", "protein"]
    data = read(path, modality="rna", layer="X")
    assert np.array_equal(dense(data), COUNTS[:, :6])
    assert list(data.obs_names) == CELLS
    assert list(data.obs["Age"]) == list(range(30))
    assert data.obsm["UMAP"].shape == (30, 2)
    assert list(data.var_names) == list(data.var["gene_id"]) == IDS[:6]
    assert list(data.var["symbol"]) == NAMES[:6]
    spliced = read(path, modality="rna", layer="spliced", expect="normalised")
    assert np.allclose(dense(spliced), np.log1p(COUNTS[:, :6]))
    with pytest.raises(MissingLayer, match=r"a\.loom has no layer 'unspliced'. There: X, spliced"):
        read(path, modality="rna", layer="unspliced")
    write_loom(path)
    assert modalities(path) == []
    with pytest.raises(DuplicateNames, match="features: 1 of 11 names are used more than once, by 2 of 12 entries: B"):
        read(path, modality="rna", layer="X")
    write_loom(path, Gene=[f"chr1:{i}-{i + 5}" for i in range(12)])
    assert modalities(path) == ["atac"]
    with pytest.raises(MissingModality, match="no modality 'protein'. There: atac"):
        read(path, modality="protein", layer="X")


def test_loom_errors(tmp_path):
    path = tmp_path / "a.loom"
    write_loom(path)
    with h5py.File(path, "r+") as file:
        file.move("col_attrs/CellID", "col_attrs/Cell")
    with pytest.raises(
        UnreadableFile, match=r"a\.loom: col_attrs has none of CellID, obs_names. There: Age, Cell, UMAP\."
    ):
        read(path, modality="rna", layer="X")
    with h5py.File(path, "r+") as file:
        file["row_attrs/Short"] = np.arange(3)
    with pytest.raises(UnreadableFile, match=r"a\.loom: row_attrs Short have not 12 entries"):
        modalities(path)
    with h5py.File(path, "r+") as file:
        del file["matrix"]
    with pytest.raises(UnreadableFile, match=r"a\.loom is no loom file: found no matrix"):
        modalities(path)


FORMATS = ("h5ad", "h5mu", "10x h5", "mtx", "loom")


def written(tmp_path, form):
    """Write COUNTS under the names IDS in any format."""
    tmp_path.mkdir(exist_ok=True)
    if form in {"h5ad", "h5mu"}:
        data = annotated(COUNTS)
        data.var_names = IDS
        if form == "h5ad":
            return h5ad(tmp_path, data)
        with mudata.set_options(pull_on_update=False):
            mudata.MuData({"rna": data}).write(tmp_path / "a.h5mu")
        return tmp_path / "a.h5mu"
    path = tmp_path / {"10x h5": "a.h5", "mtx": "a", "loom": "a.loom"}[form]
    {"10x h5": write_10x_h5, "mtx": write_mtx, "loom": lambda path: write_loom(path, Gene=IDS)}[form](path)
    return path


@pytest.mark.parametrize("form", FORMATS)
@pytest.mark.filterwarnings("ignore:var_names are not unique:UserWarning", "ignore:Variable names are not:UserWarning")
def test_values_and_names_are_checked_in_every_format(tmp_path, monkeypatch, form):
    spoiled = COUNTS.copy()
    spoiled[4, 3] = -1
    with monkeypatch.context() as patch:
        patch.setitem(globals(), "COUNTS", spoiled)
        path = written(tmp_path / "values", form)
    with pytest.raises(NotCounts, match=r", rna, layer 'X' (.|\n)*found 1 negative of .*-1.* in row 4, column 3"):
        read(path, modality="rna", layer="X")
    with monkeypatch.context() as patch:
        patch.setitem(globals(), "IDS", [IDS[0], IDS[0], *IDS[2:]])
        path = written(tmp_path / "names", form)
    with pytest.raises(DuplicateNames, match=rf"{path.name}: features: 1 of .* more than once, by 2 of .*: ENSG0\."):
        read(path, modality="rna", layer="X")
    with pytest.raises(MissingModality, match=rf"{path.name} has no modality 'hashtags'\. There: "):
        read(written(tmp_path / "good", form), modality="hashtags", layer="X")


def test_files_that_cannot_be_read(tmp_path):
    with pytest.raises(UnreadableFile, match=r"nothing\.h5ad: no such file or folder"):
        read(tmp_path / "nothing.h5ad", modality="rna", layer="X")
    (tmp_path / "a.csv").write_text("x")
    with pytest.raises(
        UnreadableFile, match=re.escape("a.csv: found ending '.csv', expected .h5ad, .h5mu, .h5 (10x), .loom")
    ):
        modalities(tmp_path / "a.csv")
    path = h5ad(tmp_path)
    path.write_bytes(path.read_bytes()[:5000])
    with pytest.raises(
        UnreadableFile, match=r"a\.h5ad \(5,000 bytes\) is no whole HDF5 file: .*\n  Fix: fetch or copy it again"
    ):
        read(path, modality="rna", layer="X")
    with h5py.File(tmp_path / "b.h5ad", "w") as file:
        file["obs"] = 1
    with pytest.raises(UnreadableFile, match=r"b\.h5ad is no AnnData file: found no var"):
        modalities(tmp_path / "b.h5ad")
    with h5py.File(tmp_path / "b.h5mu", "w"):
        pass
    with pytest.raises(UnreadableFile, match=r"b\.h5mu is no MuData file: found no group 'mod'"):
        modalities(tmp_path / "b.h5mu")


def test_an_h5ad_whose_parts_do_not_fit(tmp_path):
    path = h5ad(tmp_path)
    with h5py.File(path, "r+") as file:
        del file["X"]
        file["X"] = COUNTS[:7]
    with pytest.raises(UnreadableFile, match=r"a\.h5ad: layer 'X' is 7 x 12, expected 30 cells x 12 features"):
        read(path, modality="rna", layer="X")
    with h5py.File(path, "r+") as file:
        del file["X"], file["obsm/spatial"]
        file.create_group("X").attrs.update({"encoding-type": "dict", "encoding-version": "0.1.0"})
        file["obsm/spatial"] = np.zeros((30, 2, 2))
    with pytest.raises(UnreadableFile, match=r"a\.h5ad: layer 'X' is a dict, expected a matrix"):
        read(path, modality="rna", layer="X")
    with pytest.raises(UnreadableFile, match=r"a\.h5ad: obsm/spatial has 3 dimensions, expected 2"):
        read(path, modality="rna", layer="obsm/spatial")
    with h5py.File(path, "r+") as file:
        del file["obs"], file["X"]
        file["X"] = COUNTS
        file["obs"] = np.zeros(30, dtype=[("index", "i4")])
    with pytest.raises(
        UnreadableFile, match=r"a\.h5ad: obs is stored as ndarray, as before AnnData 0\.7\.\n  Fix: write"
    ):
        read(path, modality="rna", layer="X")


@pytest.mark.parametrize(
    ("name", "spelling"), [(name, s) for name, all_of in SPELLINGS.items() for s in sorted(all_of)]
)
def test_spellings(name, spelling):
    assert canonical(spelling) == name
    assert canonical(spelling.upper().replace(" ", "_")) == name


def test_no_spelling_means_two_things():
    spellings = [s for all_of in SPELLINGS.values() for s in all_of]
    assert len(spellings) == len(set(spellings))


def test_reading_an_h5ad_needs_no_scanpy():
    code = "import sys; from heteromics.data import read; print('scanpy' in sys.modules, 'torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["False", "False"]

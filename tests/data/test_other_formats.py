import hashlib

import h5py
import numpy as np
import pytest
import scanpy

from heteromics.data import modalities, read
from heteromics.errors import DuplicateNames, MissingLayer, MissingModality, NotCounts, UnreadableFile
from tests.data import reader_files
from tests.data.reader_files import (
    CELLS,
    COUNTS,
    FORMATS,
    IDS,
    NAMES,
    TYPES,
    dense,
    write_10x_h5,
    write_loom,
    write_mtx,
    written,
)


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


def test_loom(tmp_path):
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


@pytest.mark.parametrize("form", FORMATS)
@pytest.mark.filterwarnings("ignore:var_names are not unique:UserWarning", "ignore:Variable names are not:UserWarning")
def test_values_and_names_are_checked_in_every_format(tmp_path, monkeypatch, form):
    spoiled = COUNTS.copy()
    spoiled[4, 3] = -1
    with monkeypatch.context() as patch:
        patch.setattr(reader_files, "COUNTS", spoiled)
        path = written(tmp_path / "values", form)
    with pytest.raises(NotCounts, match=r", rna, layer 'X' (.|\n)*found 1 negative of .*-1.* in row 4, column 3"):
        read(path, modality="rna", layer="X")
    with monkeypatch.context() as patch:
        patch.setattr(reader_files, "IDS", [IDS[0], IDS[0], *IDS[2:]])
        path = written(tmp_path / "names", form)
    with pytest.raises(DuplicateNames, match=rf"{path.name}: features: 1 of .* more than once, by 2 of .*: ENSG0\."):
        read(path, modality="rna", layer="X")
    with pytest.raises(MissingModality, match=rf"{path.name} has no modality 'hashtags'\. There: "):
        read(written(tmp_path / "good", form), modality="hashtags", layer="X")

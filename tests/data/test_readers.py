import hashlib
import re
import subprocess
import sys

import anndata
import h5py
import mudata
import numpy as np
import pandas as pd
import pytest
from scipy import sparse

from heteromics.data import modalities, read
from heteromics.data._modality import SPELLINGS, canonical
from heteromics.errors import (
    DataError,
    DuplicateNames,
    MissingLayer,
    MissingModality,
    NotCounts,
    UnreadableFile,
)
from tests.data.reader_files import CELLS, COUNTS, IDS, annotated, dense, h5ad


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


def test_files_that_cannot_be_read(tmp_path):
    with pytest.raises(UnreadableFile, match=r"nothing\.h5ad: no such file or folder"):
        read(tmp_path / "nothing.h5ad", modality="rna", layer="X")
    (tmp_path / "a.csv").write_text("x")
    with pytest.raises(
        UnreadableFile,
        match=re.escape("a.csv: found ending '.csv', expected .h5ad, .h5mu, .zarr (AnnData, MuData)"),
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

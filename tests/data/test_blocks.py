"""Blocks of matrices: every form and place gives the same values, in bounded memory, and says what is wrong where."""

import subprocess
import sys
import tracemalloc
import warnings

import anndata
import h5py
import mudata
import numpy as np
import pandas as pd
import pytest
import zarr
from anndata.io import sparse_dataset
from scipy import sparse

from heteromics.data import modalities, read, size_of
from heteromics.data.blocks import as_csr, assemble, open_backed, row_blocks
from heteromics.errors import DataError, DuplicateNames, MissingLayer, MissingModality, NotCounts, UnreadableFile
from tests.data.reader_files import COUNTS, TYPES, annotated, h5ad, write_loom

MEMORY = {
    "csr": sparse.csr_matrix,
    "csc": sparse.csc_matrix,
    "coo": sparse.coo_matrix,
    "csr_array": sparse.csr_array,
    "dense": np.asarray,
}
DISK = [f"{place}-{form}" for place in ("h5", "zarr") for form in ("csr", "csc", "dense")]
FORMS = [*MEMORY, *DISK]


def placed(folder, counts, form):
    """The same matrix in some form, in memory or on disk."""
    if form in MEMORY:
        return MEMORY[form](counts)
    place, kind = form.split("-")
    matrix = {"csr": sparse.csr_matrix, "csc": sparse.csc_matrix, "dense": np.asarray}[kind](counts)
    return on_disk(folder, matrix, place)


def on_disk(folder, matrix, place):
    path = folder / f"{len(list(folder.iterdir()))}.{place}"
    file = h5py.File(path, "w") if place == "h5" else zarr.open_group(path, mode="w")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of anndata, on versions of zarr to come
        anndata.io.write_elem(file, "X", matrix)
    return sparse_dataset(file["X"]) if sparse.issparse(matrix) else file["X"]


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("most_values", [1, 7, 40, 10_000])
def test_row_blocks_put_together_are_the_matrix(tmp_path, form, most_values):
    blocks = list(row_blocks(placed(tmp_path, COUNTS, form), most_values=most_values))
    assert [first for first, _ in blocks] == np.cumsum([0, *(block.shape[0] for _, block in blocks)])[:-1].tolist()
    assert np.array_equal(np.vstack([block.toarray() for _, block in blocks]), COUNTS)
    row = 12 if "dense" in form else int((COUNTS != 0).sum(axis=1).max())
    if form != "zarr-dense":  # one chunk
        assert max(block.nnz for _, block in blocks) <= max(most_values, row)


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("most_values", [1, 7, 40, 10_000])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_as_csr_agrees_with_scipy(tmp_path, form, most_values, dtype):
    made = as_csr(placed(tmp_path, COUNTS, form), "x", "counts", dtype, most_values=most_values)
    expected = sparse.csr_array(COUNTS)
    for name in ("indptr", "indices", "data"):
        assert np.array_equal(getattr(made, name), getattr(expected, name))
    assert made.data.dtype == dtype
    assert made.indices.dtype == made.indptr.dtype == np.int32
    assert made.has_canonical_format


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("shape", [(0, 4), (4, 0), (1, 1), (1, 5), (5, 1)])
def test_matrices_without_rows_or_with_one(tmp_path, form, shape):
    counts = np.arange(shape[0] * shape[1], dtype=np.float32).reshape(shape)
    matrix = placed(tmp_path, counts, form)
    assert np.array_equal(as_csr(matrix, "x", "counts").toarray(), counts)
    assert sum(block.shape[0] for _, block in row_blocks(matrix)) == shape[0]


@pytest.mark.parametrize("form", ["csr", "csc", "h5-csr", "h5-csc", "zarr-csc"])
@pytest.mark.parametrize("most_values", [1, 5, 1000])
def test_unsorted_doubled_and_zero_entries_become_canonical(tmp_path, form, most_values):
    rng = np.random.default_rng(5)
    row, column = rng.integers(0, 9, 120), rng.integers(0, 6, 120)
    value = rng.integers(-1, 3, 120).astype(np.float32)
    by_row = form.endswith("csr")
    order = np.argsort(row if by_row else column, kind="stable")
    lines = np.bincount(row if by_row else column, minlength=9 if by_row else 6)
    parts = (value[order], (column if by_row else row)[order].astype(np.int32), np.concatenate([[0], lines.cumsum()]))
    held = (sparse.csr_matrix if by_row else sparse.csc_matrix)((9, 6))
    held.data, held.indices, held.indptr = parts[0], parts[1], parts[2].astype(np.int32)
    kept = [array.copy() for array in parts]
    matrix = held
    if "-" in form:
        matrix = on_disk(tmp_path, held, form.split("-")[0])
    made, zeros = assemble(matrix, "x", "any", most_values=most_values)
    dense = np.zeros((9, 6))
    np.add.at(dense, (row, column), value)
    assert np.array_equal(made.toarray(), dense)
    assert made.nnz == np.count_nonzero(dense)
    assert zeros == len({*zip(row.tolist(), column.tolist(), strict=True)}) - made.nnz
    assert sparse.csr_array((made.data, made.indices, made.indptr), shape=made.shape).has_canonical_format
    for now, before in zip((held.data, held.indices, held.indptr), kept, strict=True):
        assert np.array_equal(now, before)


@pytest.mark.parametrize("form", ["csr", "csc", "h5-csr", "h5-csc"])
@pytest.mark.parametrize(("dtype", "total"), [(np.uint8, 300), (np.int8, 200), (np.bool_, 2)])
def test_what_stands_twice_is_summed_beyond_its_type(tmp_path, form, dtype, total):
    held = (sparse.csr_matrix if form.endswith("csr") else sparse.csc_matrix)((3, 3), dtype=dtype)
    held.data = np.array([200, 100] if dtype is np.uint8 else [100, 100]).astype(dtype)
    held.indices, held.indptr = np.array([1, 1], np.int32), np.array([0, 2, 2, 2], np.int32)
    matrix = on_disk(tmp_path, held, "h5") if "-" in form else held
    assert as_csr(matrix, "x", "counts").data.tolist() == [total]


@pytest.mark.parametrize("matrix", [np.asarray, sparse.csr_array, sparse.csc_array])
def test_values_too_small_for_the_type_are_zeros(matrix):
    made, zeros = assemble(matrix(np.array([[1e-60, 1.0], [2.0, 0.0]])), "x", "normalised")
    assert (made.data.tolist(), zeros) == ([1, 2], 1)
    assert as_csr(matrix(np.array([[1e-60, 1.0]])), "x", "normalised", np.float64).nnz == 2


@pytest.mark.parametrize("dtype", [np.float16, ">f4", ">i4", "<u2"])
@pytest.mark.parametrize("where", ["memory", "file"])
def test_types_of_numbers_that_scipy_lacks(tmp_path, dtype, where):
    stored = COUNTS.astype(dtype)
    with h5py.File(tmp_path / "x.h5", "w") as file:
        matrix = stored if where == "memory" else file.create_dataset("x", data=stored)
        assert np.array_equal(as_csr(matrix, "x", "counts").toarray(), COUNTS)
        assert np.array_equal(np.vstack([block.toarray() for _, block in row_blocks(matrix)]), COUNTS)


@pytest.mark.parametrize("dtype", [np.float16, ">f4"])
@pytest.mark.parametrize("form", ["csr", "dense"])
def test_files_with_types_of_numbers_that_scipy_lacks(tmp_path, form, dtype):
    path = h5ad(tmp_path, annotated(sparse.csr_matrix(COUNTS) if form == "csr" else COUNTS))
    with h5py.File(path, "r+") as file:
        where = "X/data" if form == "csr" else "X"
        attrs, values = dict(file[where].attrs), file[where][:].astype(dtype)
        del file[where]
        file[where] = values
        file[where].attrs.update(attrs)
    with open_backed(path, modality="rna", layer="X") as backed:
        assert np.array_equal(as_csr(backed.X, "x", "counts").toarray(), COUNTS)
    assert np.array_equal(read(path, modality="rna", layer="X").X.toarray(), COUNTS)


@pytest.mark.parametrize("form", ["csr", "csc", "dense"])
def test_the_result_shares_no_memory_with_the_input(form):
    matrix = MEMORY[form](COUNTS)
    made = as_csr(matrix, "x", "counts")
    for mine in (made.data, made.indices, made.indptr):
        for given in (matrix,) if form == "dense" else (matrix.data, matrix.indices, matrix.indptr):
            assert not np.shares_memory(mine, given)


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("most_values", [5, 10_000])
def test_what_is_wrong_is_counted_in_all_and_placed_in_the_whole(tmp_path, form, most_values):
    spoiled = COUNTS.copy()
    spoiled[[7, 21, 29], [3, 3, 3]] = [0.5, -1, 2.5]
    with pytest.raises(NotCounts) as caught:
        as_csr(placed(tmp_path, spoiled, form), "counts of x", "counts", most_values=most_values)
    assert str(caught.value).startswith("counts of x: expected counts")
    assert "found 1 negative of " in str(caught.value)
    assert "found 2 fractional of " in str(caught.value)
    assert "the first is 0.5 in row 7, column 3" in str(caught.value)
    assert "the first is -1.0 in row 21, column 3" in str(caught.value)
    spoiled[4, 11] = np.nan
    with pytest.raises(
        DataError, match="x: expected finite values.\n  found 1 NaN or infinite of .* in row 4, column 11"
    ):
        as_csr(placed(tmp_path, spoiled, form), "x", "normalised", most_values=most_values)
    assert np.isnan(as_csr(placed(tmp_path, spoiled, form), "x", "any").data).sum() == 1


def test_values_beyond_the_type_are_not_finite():
    with pytest.raises(DataError, match="found 1 NaN or infinite"):
        as_csr(np.array([[1.0, 1e300]]), "x", "normalised")
    assert as_csr(np.array([[1.0, 1e300]]), "x", "normalised", np.float64).data[1] == 1e300


def test_other_forms_and_expectations_are_refused():
    with pytest.raises(DataError, match="x: found a list, expected SciPy sparse, NumPy, or a backed matrix"):
        as_csr([[1, 2]], "x", "any")
    with pytest.raises(DataError, match="x: found 1 dimensions, expected 2"):
        as_csr(np.ones(3), "x", "any")
    with pytest.raises(DataError, match="x: found values of type object, expected numbers"):
        as_csr(np.array([[1, None]]), "x", "any")

    class Lazy:  # as a dask array
        shape, dtype, chunks = (2, 3), np.dtype("f4"), ((1, 1), (3,))

    with pytest.raises(DataError, match="x: found a Lazy, expected SciPy sparse, NumPy, or a backed matrix"):
        as_csr(Lazy(), "x", "any")
    with pytest.raises(DataError, match="found expect='whole', expected 'counts', 'normalised' or 'any'"):
        as_csr(COUNTS, "x", "whole")


def test_a_broken_file_is_not_read_beyond_its_matrix(tmp_path):
    for form in ("h5-csr", "h5-csc"):
        matrix = placed(tmp_path, COUNTS, form)
        matrix.group["indices"][3] = 999
        with pytest.raises(UnreadableFile, match="1 of .* indices of lines 0 to .* lie outside 0 to"):
            as_csr(matrix, "x", "counts")


@pytest.mark.parametrize("chunks", [None, (7, 5), (30, 12), (30, 3), (1, 12)])
@pytest.mark.parametrize("most_values", [1, 25, 125, 2_500])
def test_dense_matrices_are_never_held_whole(tmp_path, chunks, most_values):
    with h5py.File(tmp_path / "x.h5", "w") as file:
        stored = file.create_dataset("x", data=COUNTS, chunks=chunks)
        seen = []

        class Watched:
            shape, dtype, chunks = stored.shape, stored.dtype, stored.chunks

            def __getitem__(self, at):
                seen.append(stored[at].size)
                return stored[at]

        assert np.array_equal(as_csr(Watched(), "x", "counts", most_values=most_values).toarray(), COUNTS)
        one_chunk = chunks[0] * chunks[1] if chunks else 12
        assert max(seen) <= max(most_values, one_chunk)
        assert sum(seen) == COUNTS.size


@pytest.mark.parametrize("form", ["csr", "csc"])
def test_compressed_matrices_are_read_by_blocks(tmp_path, form):
    matrix = placed(tmp_path, COUNTS, f"h5-{form}")
    seen = {"data": [], "indices": []}

    class Watched:
        attrs = matrix.group.attrs

        def keys(self):
            return matrix.group.keys()

        def __getitem__(self, name):
            if name == "indptr":
                return matrix.group[name]
            stored = matrix.group[name]

            class Array:
                dtype, shape = stored.dtype, stored.shape

                def __getitem__(self, at):
                    seen[name].append(stored[at].size)
                    return stored[at]

            return Array()

    assert np.array_equal(as_csr(Watched(), "x", "counts", most_values=40).toarray(), COUNTS)
    assert max(seen["data"]) <= 40
    assert sum(seen["data"]) == np.count_nonzero(COUNTS)
    assert sum(seen["indices"]) == np.count_nonzero(COUNTS) * (1 if form == "csr" else 2)


def big(folder, form):
    """4 M values in an h5ad, whose two arrays take 32 MB; dense, 8 times its non-zeros."""
    rng = np.random.default_rng(0)
    cells, features, per = (40_000, 2_000, 100) if form != "dense" else (20_000, 1_600, 200)
    lines, width = (features, cells) if form == "csc" else (cells, features)
    size = cells * per // lines
    starts = rng.integers(0, width - size, lines)
    indices = (starts[:, None] + np.arange(size)).ravel().astype(np.int32)
    path = folder / "big.h5ad"
    with h5py.File(path, "w") as file:
        if form == "dense":
            stored = file.create_dataset("X", (cells, features), np.float32, chunks=(100, features))
            for first in range(0, cells, 1000):
                dense = np.zeros((1000, features), np.float32)
                np.put_along_axis(dense, indices.reshape(cells, per)[first : first + 1000], 2, axis=1)
                stored[first : first + 1000] = dense
        else:
            group = file.create_group("X")
            group["data"] = rng.integers(1, 9, indices.size).astype(np.float32)
            group["indices"], group["indptr"] = indices, np.arange(lines + 1) * size
            group.attrs.update({"encoding-type": f"{form}_matrix", "encoding-version": "0.1.0"})
            group.attrs["shape"] = (cells, features)
    return path, indices.size


@pytest.mark.parametrize("form", ["csr", "csc", "dense"])
def test_memory_is_the_result_and_a_block(tmp_path, form):
    path, values = big(tmp_path, form)
    with h5py.File(path) as file:
        matrix = file["X"]
        tracemalloc.start()
        made = as_csr(matrix, "x", "counts", most_values=1 << 17)
        _, peak = tracemalloc.get_traced_memory()
        tracemalloc.stop()
    assert made.nnz == values
    assert peak < 1.3 * (made.data.nbytes + made.indices.nbytes + made.indptr.nbytes)


# Files


def written(folder, data, ending):
    path = folder / f"a{ending}"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        data.write_h5ad(path) if ending == ".h5ad" else data.write_zarr(path)
    return path


@pytest.mark.parametrize("ending", [".h5ad", ".zarr"])
@pytest.mark.parametrize("form", [sparse.csr_matrix, sparse.csc_matrix, np.asarray], ids=["csr", "csc", "dense"])
def test_backed_and_read_are_the_same(tmp_path, ending, form):
    data = annotated(form(COUNTS))
    data.layers["twice"] = form(2 * COUNTS)
    data.raw = annotated(sparse.csr_matrix(3 * COUNTS))
    path = written(tmp_path, data, ending)
    for layer, times in (("X", 1), ("twice", 2), ("raw", 3)):
        whole = read(path, modality="rna", layer=layer)
        with open_backed(path, modality="rna", layer=layer) as backed:
            assert not sparse.issparse(backed.X)
            assert not isinstance(backed.X, np.ndarray)
            assert np.array_equal(as_csr(backed.X, "x", "counts").toarray(), times * COUNTS)
            pd.testing.assert_frame_equal(backed.obs, whole.obs)
            pd.testing.assert_frame_equal(backed.var, whole.var)
            assert np.array_equal(backed.obsm["spatial"], whole.obsm["spatial"])
            assert backed.uns["heteromics"] == whole.uns["heteromics"]
        assert np.array_equal(whole.X.toarray(), times * COUNTS)
        size = size_of(path, modality="rna", layer=layer)
        sparse_on_disk = form is not np.asarray or layer == "raw"
        assert (size.cells, size.features) == (30, 12)
        assert size.values == (np.count_nonzero(COUNTS) if sparse_on_disk else None)


def test_zarr_stores_say_what_they_hold(tmp_path):
    path = written(tmp_path, annotated(sparse.csr_matrix(COUNTS)), ".zarr")
    assert modalities(path) == []
    assert size_of(path, modality="rna", layer="X") == (
        type(size_of(path, modality="rna", layer="X"))(30, 12, int(np.count_nonzero(COUNTS)))
    )
    with pytest.raises(MissingLayer, match=r"a\.zarr has no layer 'counts'. There: X, obsm/spatial"):
        read(path, modality="rna", layer="counts")
    before = read(path, modality="rna", layer="X").uns["heteromics"]["sha256"]
    again = written(tmp_path / "other", annotated(sparse.csr_matrix(COUNTS)), ".zarr")
    assert read(again, modality="rna", layer="X").uns["heteromics"]["sha256"] == before
    changed = written(tmp_path / "third", annotated(sparse.csr_matrix(2 * COUNTS)), ".zarr")
    assert read(changed, modality="rna", layer="X").uns["heteromics"]["sha256"] != before
    (tmp_path / "b.zarr").mkdir()
    with pytest.raises(UnreadableFile, match=r"b\.zarr is no zarr store: .*\n  Fix: copy the whole folder again"):
        modalities(tmp_path / "b.zarr")


@pytest.mark.parametrize("ending", [".h5mu", ".zarr"])
def test_mudata_by_modality(tmp_path, ending):
    rna, adt = annotated(sparse.csr_matrix(COUNTS)), annotated(sparse.csc_matrix(COUNTS))[:, :3].copy()
    with mudata.set_options(pull_on_update=False), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        both = mudata.MuData({"rna": rna, "adt": adt})
        both.obs["batch"] = [f"b{n % 2}" for n in range(30)]
        path = tmp_path / f"a{ending}"
        both.write(path) if ending == ".h5mu" else both.write_zarr(path)
    with open_backed(path, modality="protein", layer="X") as backed:
        assert np.array_equal(as_csr(backed.X, "x", "counts").toarray(), COUNTS[:, :3])
        assert list(backed.obs["batch"][:2]) == ["b0", "b1"]
    assert sorted(modalities(path)) == ["protein", "rna"]
    with pytest.raises(MissingModality, match="There: protein"), open_backed(path, modality="atac", layer="X"):
        pass


MIXED = {"rna": [0, 2, 3, 5, 7, 9], "atac": [1, 4, 8, 11], "protein": [6, 10]}  # apart, and side by side


@pytest.mark.parametrize("ending", [".h5ad", ".zarr"])
@pytest.mark.parametrize("form", [sparse.csr_matrix, sparse.csc_matrix, np.asarray], ids=["csr", "csc", "dense"])
@pytest.mark.parametrize("apart", [False, True])
def test_columns_of_one_modality_are_read_where_types_are_mixed(tmp_path, ending, form, apart):
    types = np.empty(12, dtype=object)
    for name, columns in MIXED.items():
        types[columns] = {"rna": "Gene Expression", "atac": "Peaks", "protein": "Antibody Capture"}[name]
    types = types if apart else TYPES
    data = annotated(form(COUNTS))
    data.var["feature_types"] = types
    path = written(tmp_path, data, ending)
    for modality, word in (("rna", "Gene Expression"), ("atac", "Peaks"), ("protein", "Antibody Capture")):
        with open_backed(path, modality=modality, layer="X") as backed:
            whole = read(path, modality=modality, layer="X")
            assert np.array_equal(backed.X.toarray(), COUNTS[:, types == word])
            assert np.array_equal(whole.X.toarray(), COUNTS[:, types == word])
            assert backed.var_names.tolist() == whole.var_names.tolist() == data.var_names[types == word].tolist()
        size = size_of(path, modality=modality, layer="X")
        assert (size.cells, size.features, size.values) == (30, (types == word).sum(), None)


@pytest.mark.parametrize("form", [sparse.csr_matrix, sparse.csc_matrix, np.asarray], ids=["csr", "csc", "dense"])
def test_types_are_mixed_in_raw_alone(tmp_path, form):
    data, raw = annotated(form(COUNTS)), annotated(form(3 * COUNTS))
    raw.var["feature_types"], data.var["feature_types"] = TYPES, TYPES
    data = data[:, :6].copy()
    data.raw = raw
    path = h5ad(tmp_path, data)
    with open_backed(path, modality="rna", layer="raw") as backed:
        assert np.array_equal(as_csr(backed.X, "x", "counts").toarray(), 3 * COUNTS[:, :6])
    assert size_of(path, modality="rna", layer="raw").features == 6
    with pytest.raises(MissingModality, match="There: rna"):
        size_of(path, modality="atac", layer="raw")


@pytest.mark.parametrize("form", ["csr", "csc", "dense"])
def test_memory_for_one_of_mixed_modalities_is_its_values_and_a_block(tmp_path, form):
    path, values = big(tmp_path, form)
    with h5py.File(path) as file:
        width = int(file["X"].shape[1] if form == "dense" else file["X"].attrs["shape"][1])
        columns = np.arange(0, width, 10)
        whole = as_csr(file["X"], "x", "any")[:, columns]
        tracemalloc.start()
        made, _ = assemble(file["X"], "x", "counts", most_values=1 << 17, columns=columns)
        _, peak = tracemalloc.get_traced_memory()
        tracemalloc.stop()
    assert (made != whole).nnz == 0
    assert peak < 2 * values  # bytes; all values take 8 each, those of a tenth of the columns 0.8


def test_files_that_cannot_be_opened_in_parts(tmp_path):
    write_loom(tmp_path / "a.loom")
    with (
        pytest.raises(DataError, match=r"a\.loom: found ending '\.loom', expected \.h5ad, \.h5mu or \.zarr"),
        open_backed(tmp_path / "a.loom", modality="rna", layer="X"),
    ):
        pass
    twice = annotated(sparse.csr_matrix(COUNTS))
    twice.obs_names = ["c"] * 30
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        path = written(tmp_path, twice, ".h5ad")
    with pytest.raises(DuplicateNames, match="1 of 1 names"), open_backed(path, modality="rna", layer="X"):
        pass


def test_the_module_needs_no_table_library():
    heavy = "pandas", "anndata", "h5py", "zarr", "scanpy"
    code = f"import sys, heteromics.data.blocks; print([m for m in {heavy} if m in sys.modules])"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout.strip() == "[]"


def test_a_modality_nobody_knows_is_not_taken_to_be_there(tmp_path):
    path = h5ad(tmp_path, annotated(sparse.csr_matrix(COUNTS)))
    with (
        pytest.raises(MissingModality, match="no modality 'methylation'. There: not said; known names are rna, atac"),
        open_backed(path, modality="methylation", layer="X"),
    ):
        pass

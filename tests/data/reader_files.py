"""Small files of every format that is read, all with the same counts and names."""

import gzip
import shutil

import anndata
import h5py
import mudata
import numpy as np
import pandas as pd
import scipy.io
from scipy import sparse

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


def write_loom(path, **rows):
    with h5py.File(path, "w") as file:
        file.create_dataset("matrix", data=COUNTS.T.astype(np.int64), chunks=(5, 7), compression="gzip")
        file["layers/spliced"] = np.log1p(np.maximum(COUNTS.T, 0))
        file["col_attrs/CellID"] = np.array(CELLS, "S")
        file["col_attrs/Age"] = np.arange(30)
        file["col_attrs/UMAP"] = np.arange(60.0).reshape(30, 2)
        for key, value in ({"Gene": NAMES} | rows).items():
            file[f"row_attrs/{key}"] = np.array(value, "S")


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

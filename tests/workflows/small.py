"""A synthetic multiome small enough to train on in a second, its prior store, and changed copies of its file."""

import mudata
import numpy as np
import pandas as pd

from heteromics.data.synthetic import SyntheticConfig, simulate
from heteromics.priors import PriorStore

CONFIG = SyntheticConfig(n_cells=80, n_cell_types=2, n_genes=60, n_peaks=200, n_tfs=6, n_proteins=6, n_chromosomes=2)
SCMOGNN = ("fit.max_epochs=3", "model.width=8", "model.layers=1")
BI2FORMER = ("fit.max_epochs=2", "model.hidden=8", "model.id_width=8", "model.key_width=8")
MADE_PARTS = np.repeat(["train", "validation", "test"], [50, 14, 16])


def make_files(folder):
    """Write the multiome and its store; returns what was made, the data file and the store."""
    made = simulate(CONFIG, seed=0)
    for data in made.mdata.mod.values():
        data.obs["part"] = MADE_PARTS
        data.obs["donor"] = [f"donor_{number % 8}" for number in range(data.n_obs)]
    files = made.write(folder / "synthetic")
    db = folder / "priors.duckdb"
    PriorStore.build("demo", db, sets=[f"source.folder={files}"], progress=False).close()
    return made, files / "multiome.h5mu", db


def changed(made, path, change):
    """Write a copy of the multiome in which ``change(name, data)`` replaced each modality."""
    with mudata.set_options(pull_on_update=False):
        mods = {name: change(name, data.copy()) for name, data in made.mdata.mod.items()}
        mudata.MuData(mods).write(path)
    return path


def split_of(run):
    """Parts by cell."""
    return pd.read_parquet(run / "split.parquet").set_index("cell")["split"]

"""RNA to surface protein on real cells: NeurIPS 2021 bone marrow across donors, and paired PBMC of two batches."""

import anndata
import numpy as np
import pytest
from scipy import sparse

from heteromics.data import TEST, TRAIN, VALIDATION, read
from heteromics.models.baselines import log_normalised
from heteromics.models.scmognn import ScMoGNNConfig
from heteromics.tasks.prediction import predict_modality

pytestmark = [pytest.mark.realdata, pytest.mark.slow]


def splits(test, seed=0, share=0.15):
    """Codes per cell, with validation cells drawn from those that are not test cells."""
    codes = np.where(test, TEST, TRAIN)
    rest = np.flatnonzero(~test)
    codes[np.random.default_rng(seed).permutation(rest)[: round(share * rest.size)]] = VALIDATION
    return codes


def scores(result):
    return result.metrics.pivot_table(index="model", columns="metric", values="value")


@pytest.fixture(scope="module")
def marrow(mirror):
    folder = mirror / "cite_bmmc_neurips2021" / "predict_modality"
    part = {
        (split, modality): read(folder / f"{split}_{file}.h5ad", modality=modality, layer="X", expect="normalised")
        for split in ("train", "test")
        for modality, file in (("rna", "mod1"), ("protein", "mod2"))
    }
    rna, protein = (anndata.concat([part["train", name], part["test", name]]) for name in ("rna", "protein"))
    return rna, protein, np.repeat([False, True], [part["train", "rna"].n_obs, part["test", "rna"].n_obs])


def test_marrow_is_split_by_donor_site_and_normalised(marrow):
    """X is normalised and logged; training and test cells are of different batches."""
    rna, protein, test = marrow
    assert (rna.shape, protein.shape, int(test.sum())) == ((600, 1000), (600, 134), 289)
    assert set(rna.obs["batch"][~test]) == {"s1d1"}
    assert set(rna.obs["batch"][test]) == {"s1d2"}
    assert rna.X.max() < 13
    assert np.any(rna.X.data % 1)


def test_scmognn_beats_svd_ridge_on_marrow(marrow):
    """Five seeds gave RMSE 0.494 (0.486 to 0.500, r 0.675) against 0.544 (r 0.618) of the ridge and 0.794 of the mean.

    One network alone: 0.506 to 0.540. The configuration was chosen on validation cells.
    """
    rna, protein, test = marrow
    config = ScMoGNNConfig(layers=2, cell_init="svd", members=4, max_epochs=150, patience=30)
    result = predict_modality(rna, protein, splits(test), config=config, seed=0, device="cpu", progress=False)
    table = scores(result)
    assert table.loc["ScMoGNN", "rmse"] < table.loc["SVDRidge", "rmse"] - 0.025
    assert table.loc["ScMoGNN", "pearson"] > table.loc["SVDRidge", "pearson"] + 0.03
    assert table.loc["ScMoGNN", "rmse"] < 0.66 * table.loc["FeatureMean", "rmse"]
    assert 0.53 < table.loc["SVDRidge", "rmse"] < 0.55  # an honest opponent: 100 or 150 components, penalty 100
    assert set(result.model.validation_cells) <= set(rna.obs_names[~test])


@pytest.fixture(scope="module")
def blood(mirror):
    path = mirror / "cite_mosaic_pbmc_midas" / "quickstart_pbmc_mosaic.h5mu"
    rna, protein = (read(path, modality=name, layer="X") for name in ("rna", "protein"))
    paired = rna.obs_names.intersection(protein.obs_names)
    rna, protein = rna[paired].copy(), protein[paired].copy()
    rna.X = sparse.csr_matrix(log_normalised(sparse.csr_array(rna.X)))
    protein.X = protein.X.log1p()
    return rna, protein


def test_scmognn_beats_svd_ridge_on_blood_by_a_little(blood):
    """Five random splits gave RMSE 0.530 (r 0.504) against 0.535 (r 0.496) of the ridge and 0.696 of the mean.

    The ridge won one of the five.
    """
    rna, protein = blood
    config = ScMoGNNConfig(layers=2, dropout=0.5, edge_dropout=0.5, members=3, max_epochs=300, patience=50)
    tables = []
    for seed in (0, 1):
        test = np.zeros(rna.n_obs, bool)
        test[np.random.default_rng(seed).permutation(rna.n_obs)[:120]] = True
        codes = splits(test, seed)
        tables.append(
            scores(predict_modality(rna, protein, codes, config=config, seed=seed, device="cpu", progress=False))
        )
    mean = sum(tables) / len(tables)
    assert mean.loc["ScMoGNN", "rmse"] < mean.loc["SVDRidge", "rmse"]
    assert mean.loc["ScMoGNN", "rmse"] < 0.78 * mean.loc["FeatureMean", "rmse"]
    assert mean.loc["ScMoGNN", "pearson"] > mean.loc["SVDRidge", "pearson"] - 0.005

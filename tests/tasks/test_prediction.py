import numpy as np
import pytest
from anndata import AnnData
from scipy import sparse
from scipy.stats import pearsonr
from sklearn.metrics import mean_absolute_error, root_mean_squared_error

from heteromics.errors import DataError
from heteromics.models.scmognn import ScMoGNNConfig
from heteromics.tasks.metrics import mae, pearson, regression_scores, regression_table, rmse
from heteromics.tasks.prediction import predict_modality, score


@pytest.fixture(scope="module")
def arrays():
    rng = np.random.default_rng(0)
    truth = rng.normal(size=(50, 6))
    return truth + rng.normal(size=truth.shape), truth


def test_scores_agree_with_scikit_learn_and_scipy(arrays):
    predicted, truth = arrays
    assert rmse(predicted, truth) == pytest.approx(root_mean_squared_error(truth.ravel(), predicted.ravel()))
    assert mae(predicted, truth) == pytest.approx(mean_absolute_error(truth.ravel(), predicted.ravel()))
    want = [pearsonr(predicted[:, i], truth[:, i]).statistic for i in range(6)]
    np.testing.assert_allclose(pearson(predicted, truth), want)
    assert regression_scores(predicted, truth)["pearson"] == pytest.approx(np.mean(want))
    table = regression_table(predicted, truth, list("abcdef"))
    np.testing.assert_allclose(table["pearson"], want)
    np.testing.assert_allclose(table["rmse"], root_mean_squared_error(truth, predicted, multioutput="raw_values"))
    np.testing.assert_allclose(table["mae"], mean_absolute_error(truth, predicted, multioutput="raw_values"))


def test_constant_truth_has_no_correlation_and_constant_prediction_has_none_of_it(arrays):
    predicted, truth = (array.copy() for array in arrays)
    truth[:, 0], predicted[:, 1], truth[:, 2], predicted[:, 2] = 3.3, 0.1, 1.0, 1.0
    r = pearson(predicted, truth)
    assert np.isnan(r[[0, 2]]).all()
    assert r[1] == 0
    assert regression_scores(predicted, truth)["pearson"] == pytest.approx(np.nanmean(r))


def test_correlation_does_not_depend_on_scale_or_origin(arrays):
    predicted, truth = arrays
    np.testing.assert_allclose(pearson(predicted * 1e-3 + 1e3, truth), pearson(predicted, truth), rtol=1e-6)
    np.testing.assert_allclose(pearson(-predicted, truth), -pearson(predicted, truth))


def test_shapes_that_differ_and_missing_values_are_refused():
    with pytest.raises(DataError, match=r"predictions of shape \(2, 3\) and truth of shape \(3, 2\)"):
        rmse(np.ones((2, 3)), np.ones((3, 2)))
    with pytest.raises(DataError, match="found 2 values that are NaN or infinite"):
        mae([[np.nan, 1.0]], [[1.0, np.inf]])


@pytest.fixture(scope="module")
def pair():
    rng = np.random.default_rng(0)
    programme = rng.gamma(1.0, 1.0, (180, 3))
    rna = AnnData(sparse.csr_matrix(np.log1p(rng.poisson(programme @ rng.gamma(0.5, 2.0, (3, 30)))).astype(np.float32)))
    target = AnnData(np.column_stack([programme, programme[:, 0] * programme[:, 1]]).astype(np.float32))
    for data, name in ((rna, "g"), (target, "p")):
        data.obs_names = [f"c{i}" for i in range(180)]
        data.var_names = [f"{name}{i}" for i in range(data.n_vars)]
    rna.obs["batch"] = "one"
    return rna, target, np.repeat([0, 1, 2], [120, 30, 30])


CONFIG = ScMoGNNConfig(width=16, layers=2, max_epochs=100, patience=30)


@pytest.mark.parametrize("inductive", [False, True])
def test_models_and_baselines_are_scored_on_test_cells(pair, inductive):
    rna, target, split = pair
    result = predict_modality(rna, target, split, config=CONFIG, inductive=inductive, device="cpu", progress=False)
    table = result.metrics.pivot_table(index="model", columns="metric", values="value")
    assert set(result.metrics["split"]) == {"test"}
    assert set(table.index) == {"ScMoGNN", "SVDRidge", "FeatureMean"}
    assert table.loc["ScMoGNN", "rmse"] < 0.7 * table.loc["FeatureMean", "rmse"]
    assert table.loc["FeatureMean", "pearson"] == 0
    assert len(result.features) == 3 * 4
    for name, predicted in result.predictions.items():
        assert list(predicted.index) == list(rna.obs_names[150:])
        found = rmse(predicted.to_numpy(), target[150:].X)
        assert table.loc[name, "rmse"] == pytest.approx(found)
    assert set(result.model.validation_cells) == set(rna.obs_names[120:150])
    assert len(result.model.graph.names["cell"]) == (150 if inductive else 180)


def test_targets_of_test_cells_change_no_prediction(pair):
    rna, target, split = pair
    spoilt = target.copy()
    spoilt.X[split == 2] = 1e5
    options = {"config": CONFIG, "max_epochs": 10, "device": "cpu", "progress": False}
    honest, blind = (predict_modality(rna, data, split, **options) for data in (target, spoilt))
    for name in honest.predictions:
        assert honest.predictions[name].equals(blind.predictions[name])
    assert not honest.metrics.equals(blind.metrics)


def test_cells_and_splits_that_do_not_fit_are_refused(pair):
    rna, target, split = pair
    with pytest.raises(DataError, match=r"180 cells of input and 170 of target, 10 in one of them only \(c170, c171"):
        predict_modality(rna, target[:170], split)
    with pytest.raises(DataError, match="180 codes for 180 cells, 150 training .0., 30 validation .1., 0 test"):
        predict_modality(rna, target, np.minimum(split, 1) * (split == 1))
    with pytest.raises(DataError, match="the order differs"):
        predict_modality(rna, target[::-1], split)


def test_score_is_tidy():
    truth = np.arange(6.0).reshape(3, 2)
    metrics, features = score({"a": truth, "b": truth + 1}, truth, ["x", "y"], split="held out")
    assert metrics.columns.tolist() == ["model", "split", "metric", "value"]
    assert metrics.query("metric == 'rmse'")["value"].tolist() == [0.0, 1.0]
    assert set(metrics["split"]) == {"held out"}
    assert features.columns.tolist() == ["model", "feature", "rmse", "mae", "pearson"]
    assert features["feature"].tolist() == ["x", "y", "x", "y"]

import dataclasses
import shutil

import numpy as np
import pytest
import torch
from anndata import AnnData
from scipy import sparse

from heteromics import _config
from heteromics.errors import DataError, FeaturesDiffer, GraphError, ModelError, RecipeError
from heteromics.graphs import cell_feature
from heteromics.graphs._dgl import dgl
from heteromics.models._scmognn_network import CellFeatureNetwork, CellFeatureTensors, WeightedSAGE
from heteromics.models.baselines import FeatureMean, SVDRidge
from heteromics.models.scmognn import ScMoGNN, ScMoGNNConfig
from heteromics.nn.relation import Relation

SMALL = ScMoGNNConfig(width=16, layers=2, max_epochs=40, patience=20)


def planted(n_cells=400, n_genes=40, seed=0):
    """Cells that run four programmes; targets are minima, maxima and comparisons of programmes: not linear in them."""
    rng = np.random.default_rng(seed)
    programme = rng.gamma(1.0, 1.0, (n_cells, 4))
    loading = np.random.default_rng(99).gamma(0.3, 1.0, (4, n_genes))
    X = sparse.csr_matrix(np.log1p(rng.poisson(programme @ loading * 10)).astype(np.float32))
    low, high = programme[:, :2].min(1), programme[:, 2:].max(1)
    Y = np.column_stack([low * 4, high * 2, (programme[:, 0] > programme[:, 1]) * 5.0])
    names = [f"cell{i}" for i in range(n_cells)]
    rna = AnnData(X)
    rna.obs_names, rna.var_names = names, [f"g{i}" for i in range(n_genes)]
    rna.obs["batch"] = np.where(np.arange(n_cells) % 2, "b1", "b2")
    target = AnnData(Y.astype(np.float32))
    target.obs_names, target.var_names = names, [f"p{i}" for i in range(Y.shape[1])]
    return rna, target


@pytest.fixture(scope="module")
def data():
    rna, target = planted()
    labelled = np.arange(400) < 300
    return rna, target, labelled


@pytest.fixture(scope="module")
def graph(data):
    rna, _, labelled = data
    return cell_feature(rna, training_cells=labelled)


@pytest.fixture(scope="module")
def model(data, graph):
    _, target, labelled = data
    return ScMoGNN(graph, config=SMALL).fit(target[labelled], seed=1, device="cpu", progress=False)


def tensors(n_cells=7, n_features=5, seed=0, pathway=False):
    rng = np.random.default_rng(seed)
    matrix = rng.random((n_cells, n_features)) * (rng.random((n_cells, n_features)) < 0.6)
    matrix[3] = 0
    related = np.triu(rng.random((n_features, n_features)), 1) * 0.5
    return matrix, CellFeatureTensors(
        Relation.from_scipy(sparse.csr_array(matrix.astype(np.float32))),
        torch.from_numpy(rng.random((n_cells, 9)).astype(np.float32)),
        Relation.from_scipy(sparse.csr_array((related + related.T).astype(np.float32))) if pathway else None,
    )


# ---- the network, against plain dense arithmetic and DGL


def test_convolution_agrees_with_dense_arithmetic():
    matrix, graph = tensors()
    torch.manual_seed(0)
    layer = WeightedSAGE(4, 3, edge_dropout=0.3).eval()
    cell, feature = torch.randn(7, 4), torch.randn(5, 4)
    degree = np.maximum((matrix != 0).sum(1, keepdims=True), 1)
    mean = torch.from_numpy((matrix / degree).astype(np.float32)) @ feature
    want = cell @ layer.own.weight.T + layer.own.bias + mean @ layer.neighbour.weight.T
    torch.testing.assert_close(layer(graph.expression, feature, cell), want)


def test_convolution_agrees_with_dgl():
    matrix, graph = tensors()
    torch.manual_seed(0)
    layer = WeightedSAGE(4, 3, edge_dropout=0.0)
    peer = dgl.nn.SAGEConv((4, 4), 3, "mean")
    with torch.no_grad():
        peer.fc_neigh.weight.copy_(layer.neighbour.weight)
        peer.fc_self.weight.copy_(layer.own.weight)
        bias = peer.fc_self.bias if peer.fc_self.bias is not None else peer.bias
        bias.copy_(layer.own.bias)
    cells, features = np.nonzero(matrix)
    block = dgl.heterograph(
        {("feature", "to", "cell"): (torch.as_tensor(features), torch.as_tensor(cells))},
        num_nodes_dict={"feature": 5, "cell": 7},
    )
    weight = torch.from_numpy(matrix[cells, features].astype(np.float32))
    cell, feature = torch.randn(7, 4), torch.randn(5, 4)
    want = peer(block, (feature, cell), edge_weight=weight)
    torch.testing.assert_close(layer(graph.expression, feature, cell), want)


def test_edge_dropout_acts_on_weights_in_training_only():
    _, graph = tensors(200, 50)
    layer = WeightedSAGE(4, 8, edge_dropout=0.5)
    cell, feature = torch.zeros(200, 4), torch.ones(50, 4)
    sure = layer.eval()(graph.expression, feature, cell)
    torch.testing.assert_close(sure, layer(graph.expression, feature, cell))
    torch.manual_seed(0)
    drawn = torch.stack([layer.train()(graph.expression, feature, cell) for _ in range(300)])
    assert drawn.std(0).mean() > 0.01
    torch.testing.assert_close(drawn.mean(0), sure, atol=0.05, rtol=0)


def norm(states, groups, layer):
    grouped = states.reshape(len(states), groups, -1)
    centred = grouped - grouped.mean(-1, keepdims=True)
    scaled = centred / np.sqrt((centred**2).mean(-1, keepdims=True) + 1e-5)
    return scaled.reshape(states.shape) * layer.weight.detach().numpy() + layer.bias.detach().numpy()


def gelu(x):
    from scipy.special import erf

    return 0.5 * x * (1 + erf(x / np.sqrt(2)))


@pytest.mark.parametrize("residual", ["initial", "previous", "none"])
@pytest.mark.parametrize("readout", ["weighted_sum", "concat"])
def test_whole_network_agrees_with_dense_arithmetic(residual, readout):
    matrix, graph = tensors(pathway=True)
    config = ScMoGNNConfig(
        width=8,
        layers=3,
        groups=2,
        residual=residual,
        readout=readout,
        batch_statistics="raw",
        pathway_share=0.3,
        activate_features=residual == "initial",
    )
    torch.manual_seed(0)
    network = CellFeatureNetwork(config, 5, 2, 0, pathway=True).eval()
    if network.layer_weight is not None:
        torch.nn.init.normal_(network.layer_weight)

    def array(tensor):
        return tensor.detach().numpy().astype(float)

    def convolve(layer, adjacency, source, destination):
        degree = np.maximum((adjacency != 0).sum(1, keepdims=True), 1)
        own = destination @ array(layer.own.weight).T + array(layer.own.bias)
        return own + (adjacency / degree) @ source @ array(layer.neighbour.weight).T

    related = np.zeros((5, 5))
    rows = np.repeat(np.arange(5), np.diff(graph.pathway.indptr.numpy()))
    related[rows, graph.pathway.indices.numpy()] = graph.pathway.weight.numpy()
    leaky = lambda x: np.where(x > 0, x, 0.01 * x)  # noqa: E731
    batch = array(graph.statistics) @ array(network.batch.weight).T + array(network.batch.bias)
    cell = leaky(array(network.cell.weight)) + leaky(batch)
    feature = array(network.feature.weight)
    states = [(cell, leaky(feature) if config.activate_features else feature)]
    for index, layer in enumerate(network.layers):
        cell, feature = states[-1]
        if index and residual != "none":
            kept = states[0] if residual == "initial" else states[-2]
            cell, feature = np.hstack([cell, kept[0]]), np.hstack([feature, kept[1]])
        heard = norm(convolve(layer.to_cell, matrix, feature, cell), 2, layer.cell_norm)
        if layer.last:
            states.append((gelu(heard), None))
            break
        told = norm(convolve(layer.to_feature, matrix.T, cell, feature), 2, layer.feature_norm)
        along = norm(convolve(layer.along_pathway, related, feature, feature), 2, layer.pathway_norm)
        states.append((gelu(heard), gelu(0.7 * told + 0.3 * along)))
    cells = [cell for cell, _ in states[1:]]
    if readout == "concat":
        final = np.hstack(cells)
    else:
        share = np.exp(array(network.layer_weight)) / np.exp(array(network.layer_weight)).sum()
        final = sum(weight * cell for weight, cell in zip(share, cells, strict=True))
    want = final @ array(network.readout.weight).T + array(network.readout.bias)
    np.testing.assert_allclose(array(network(graph)), want, atol=1e-4)


@pytest.mark.parametrize(
    "switch",
    [{"groups": 0}, {"pathway_share": None}, {"cell_init": "svd"}, {"batch_statistics": "none"}],
    ids=lambda switch: next(iter(switch)),
)
def test_every_switch_gives_gradients_to_all_its_weights(switch):
    _, graph = tensors(pathway=True)
    network = CellFeatureNetwork(ScMoGNNConfig(width=8, layers=2, **switch), 5, 2, 3, pathway=True)
    if "projection" in dict(network.named_buffers()):
        network.projection.copy_(torch.randn(5, 3))
    network(graph).square().sum().backward()
    for name, weight in network.named_parameters():
        assert weight.grad is not None, name


def test_permuted_cells_and_features_give_permuted_predictions():
    _, graph = tensors(30, 12, pathway=True)
    torch.manual_seed(0)
    network = CellFeatureNetwork(ScMoGNNConfig(width=8, layers=3), 12, 2, 0, pathway=True).eval()
    cells, features = torch.randperm(30), torch.randperm(12)

    def moved(relation, rows, columns):
        csr = sparse.csr_array((relation.weight, relation.indices, relation.indptr), shape=relation.shape)
        return Relation.from_scipy(sparse.csr_array(csr[rows.numpy()][:, columns.numpy()]))

    want = network(graph)[cells]
    by_cell = CellFeatureTensors(
        moved(graph.expression, cells, features), graph.statistics[cells], moved(graph.pathway, features, features)
    )
    with torch.no_grad():
        network.feature.weight.copy_(network.feature.weight[features].clone())
    torch.testing.assert_close(network(by_cell), want, atol=1e-5, rtol=1e-4)


def test_statistics_of_an_unseen_batch_stay_within_those_of_training():
    torch.manual_seed(0)
    network = CellFeatureNetwork(ScMoGNNConfig(width=8, layers=1, groups=1), 5, 2, 0, pathway=False).eval()
    seen = torch.ones(6, 9)
    seen[:3, 0] = 3.0  # two batches that differ in one statistic
    network.start_at(torch.tensor([1.0, 2.0]), seen, None)
    assert network.statistics_scale.tolist() == [1.0] + [0.0] * 8
    _, graph = tensors()

    def predict(first, others):
        statistics = torch.full((7, 9), others)
        statistics[:, 0] = first
        return network(dataclasses.replace(graph, statistics=statistics))

    torch.testing.assert_close(predict(50.0, -7.0), predict(3.0, 1.0))
    torch.testing.assert_close(predict(-50.0, 99.0), predict(1.0, 1.0))
    assert not torch.allclose(predict(2.0, 1.0), predict(3.0, 1.0))


def test_raw_statistics_are_used_as_they_are():
    torch.manual_seed(0)
    network = CellFeatureNetwork(
        ScMoGNNConfig(width=8, layers=1, groups=1, batch_statistics="raw"), 5, 2, 0, pathway=False
    ).eval()
    network.start_at(torch.zeros(2), torch.ones(6, 9), None)
    _, graph = tensors()
    far = dataclasses.replace(graph, statistics=graph.statistics + 5)
    assert not torch.allclose(network(far), network(graph))


# ---- training


def test_learns_a_planted_signal_and_beats_mean_and_ridge(data, graph):
    rna, target, labelled = data
    config = ScMoGNNConfig(width=32, layers=3, max_epochs=250)
    fitted = ScMoGNN(graph, config=config).fit(target[labelled], seed=0, device="cpu", progress=False)
    truth = target[~labelled].X
    error = {
        "model": fitted.predict(cells=rna.obs_names[~labelled]).to_numpy() - truth,
        "mean": FeatureMean().fit(rna[labelled], target[labelled]).predict(rna[~labelled]) - truth,
        "ridge": SVDRidge.choose(
            rna[labelled],
            target[labelled],
            np.isin(rna.obs_names[labelled], fitted.validation_cells),
            n_components=(5, 10, 20, 39),
            non_negative=True,
        ).predict(rna[~labelled])
        - truth,
    }
    rmse = {name: float(np.sqrt((value**2).mean())) for name, value in error.items()}
    assert rmse["model"] < 0.6 * rmse["mean"]
    assert rmse["model"] < 0.85 * rmse["ridge"]


def test_history_counts_epochs_and_the_best_weights_are_kept(data, model):
    _, target, _ = data
    losses = [entry["validation_loss"] for entry in model.history]
    assert len(losses) <= 40
    assert {"epoch", "train_loss", "validation_loss"} <= set(model.history[0])
    cells = list(model.validation_cells)
    assert len(cells) == 45
    error = model.predict(cells=cells).to_numpy() - target[cells].X
    assert np.square(error).mean() == pytest.approx(min(losses), rel=1e-4)


def test_same_seed_same_model_other_seed_another(data, graph, model):
    _, target, labelled = data
    again = ScMoGNN(graph, config=SMALL).fit(target[labelled], seed=1, device="cpu", progress=False)
    assert again.predict().equals(model.predict())
    assert again.validation_cells == model.validation_cells
    other = ScMoGNN(graph, config=SMALL).fit(target[labelled], seed=2, max_epochs=5, device="cpu", progress=False)
    assert other.validation_cells != model.validation_cells


def test_validation_cells_do_not_depend_on_the_order_of_cells(data, graph, model):
    _, target, labelled = data
    shuffled = target[labelled][np.random.default_rng(0).permutation(300)]
    again = ScMoGNN(graph, config=SMALL).fit(shuffled, seed=1, max_epochs=2, device="cpu", progress=False)
    assert set(again.validation_cells) == set(model.validation_cells)


def test_named_validation_cells_are_used_and_must_be_labelled(data, graph):
    _, target, labelled = data
    cells = list(target.obs_names[:20])
    model = ScMoGNN(graph, config=SMALL)
    model.fit(target[labelled], validation=cells, max_epochs=2, device="cpu", progress=False)
    assert set(model.validation_cells) == set(cells)
    with pytest.raises(ModelError, match=r"validation: 1 of 2 cells have no target \(cell350\)"):
        model.fit(target[labelled], validation=["cell1", "cell350"], progress=False)
    with pytest.raises(ModelError, match="validation: 300 of 300 labelled cells, expected at least one and not all"):
        model.fit(target[labelled], validation=list(target.obs_names[labelled]), progress=False)


def test_unlabelled_targets_are_never_read(data, graph, model):
    """Test cells take part with their features alone: their targets are not even passed."""
    _, target, labelled = data
    spoilt = target.copy()
    spoilt.X[~labelled] = 1e6
    again = ScMoGNN(graph, config=SMALL).fit(spoilt[labelled], seed=1, device="cpu", progress=False)
    assert again.predict().equals(model.predict())


def test_sparse_and_dense_targets_are_alike(data, graph, model):
    _, target, labelled = data
    thin = target[labelled].copy()
    thin.X = sparse.csr_matrix(thin.X)
    again = ScMoGNN(graph, config=SMALL).fit(thin, seed=1, device="cpu", progress=False)
    assert again.predict().equals(model.predict())


def test_members_are_averaged_and_kept_on_disk(data, graph, tmp_path):
    _, target, labelled = data
    options = {"max_epochs": 8, "device": "cpu", "progress": False}
    both = ScMoGNN(graph, config=dataclasses.replace(SMALL, members=2))
    both.fit(target[labelled], seed=4, folder=tmp_path / "run", **options)
    alone = [
        ScMoGNN(graph, config=SMALL).fit(target[labelled], list(both.validation_cells), seed=seed, **options)
        for seed in (4, 5)
    ]
    np.testing.assert_allclose(both.predict(), (alone[0].predict() + alone[1].predict()) / 2, rtol=1e-5, atol=1e-6)
    assert both.embed().shape == (400, 32)
    assert {entry["member"] for entry in both.history} == {0.0, 1.0}
    both.save(tmp_path / "model")
    assert ScMoGNN.load(tmp_path / "model", graph).predict().equals(both.predict())
    again = ScMoGNN(graph, config=both.config)
    again.fit(target[labelled], seed=4, folder=tmp_path / "run", resume=True, **{**options, "max_epochs": 12})
    assert len(again.history) == 24
    shutil.rmtree(tmp_path / "run" / "member_1")  # stopped before the second one had begun
    again.fit(target[labelled], seed=4, folder=tmp_path / "run", resume=True, **{**options, "max_epochs": 14})
    assert len(again.history) == 28


def test_resume_goes_on_from_the_checkpoint(data, graph, tmp_path):
    _, target, labelled = data
    config = dataclasses.replace(SMALL, patience=100)
    assert config.edge_dropout > 0
    options = {"seed": 3, "device": "cpu", "progress": False}
    straight = ScMoGNN(graph, config=config).fit(target[labelled], max_epochs=30, **options)
    ScMoGNN(graph, config=config).fit(target[labelled], max_epochs=20, folder=tmp_path, **options)
    resumed = ScMoGNN(graph, config=config).fit(
        target[labelled], max_epochs=30, resume=True, folder=tmp_path, **options
    )
    assert [entry["epoch"] for entry in resumed.history] == list(range(30))
    np.testing.assert_allclose(resumed.predict(), straight.predict(), rtol=1e-5, atol=1e-6)


# ---- prediction


def test_predictions_are_named_clipped_and_of_the_cells_asked_for(data, model):
    rna, target, _ = data
    table = model.predict()
    assert list(table.index) == list(rna.obs_names)
    assert list(table.columns) == list(target.var_names)
    assert table.to_numpy().min() >= 0
    assert model.predict(cells=["cell7", "cell3"]).equals(table.loc[["cell7", "cell3"]])
    assert model.embed(cells=["cell7"]).shape == (1, 16)


def test_negative_targets_are_reached_when_asked(data, graph):
    _, target, labelled = data
    shifted = AnnData(target.X - 10, obs=target.obs, var=target.var)
    config = dataclasses.replace(SMALL, non_negative=False)
    fitted = ScMoGNN(graph, config=config).fit(shifted[labelled], max_epochs=30, device="cpu", progress=False)
    assert fitted.predict().to_numpy().mean() < -5


def test_inductive_prediction_on_unseen_cells(data):
    rna, target, labelled = data
    train = cell_feature(rna[labelled], training_cells=np.ones(300, bool))
    config = ScMoGNNConfig(width=32, layers=3, max_epochs=150)
    fitted = ScMoGNN(train, config=config).fit(target[labelled], seed=0, device="cpu", progress=False)
    fresh_rna, fresh_target = planted(300, seed=5)
    found = fitted.predict(cell_feature(fresh_rna, training_cells=None))
    mean = target[labelled].X.mean(0)
    assert np.sqrt(np.square(found - fresh_target.X).to_numpy().mean()) < 0.7 * np.sqrt(
        np.square(mean - fresh_target.X).mean()
    )


def test_cells_in_another_order_are_predicted_alike(data, model):
    rna, _, labelled = data
    order = np.random.default_rng(0).permutation(rna.n_obs)
    shuffled = cell_feature(rna[order], training_cells=labelled[order])
    want = model.predict().iloc[order]
    found = model.predict(shuffled)
    assert list(found.index) == list(want.index)
    np.testing.assert_allclose(found, want, atol=1e-4)


# ---- on disk


@pytest.mark.parametrize("cell_init", ["shared", "svd"])
def test_round_trip_through_disk(data, tmp_path, cell_init):
    import pandas as pd

    rna, target, labelled = data
    members = pd.DataFrame({"gene_id": [f"g{i}" for i in range(12)], "pathway_id": ["A"] * 6 + ["B"] * 6})
    graph = cell_feature(rna, pathways=members, training_cells=labelled, threshold=-1.0)
    config = dataclasses.replace(SMALL, cell_init=cell_init, svd_components=6)
    fitted = ScMoGNN(graph, config=config).fit(target[labelled], max_epochs=5, device="cpu", progress=False)
    fitted.save(tmp_path / "model")
    loaded = ScMoGNN.load(tmp_path / "model", graph)
    assert loaded.predict().equals(fitted.predict())
    assert loaded.embed().equals(fitted.embed())
    assert (loaded.config, loaded.history, loaded.features) == (fitted.config, fitted.history, fitted.features)
    bare = cell_feature(rna, training_cells=labelled)  # pathway edges are those of training
    assert loaded.predict(bare).equals(fitted.predict())


def test_other_features_are_refused(data, model, tmp_path):
    rna, _, _ = data
    model.save(tmp_path / "model")
    loaded = ScMoGNN.load(tmp_path / "model")
    renamed = rna.copy()
    renamed.var_names = ["x0", "x1", *rna.var_names[2:]]
    with pytest.raises(FeaturesDiffer, match=r"trained on 40 feature names, found 40: 2 missing \(g0, g1\), 2 unknown"):
        loaded.predict(cell_feature(renamed, training_cells=None))
    with pytest.raises(FeaturesDiffer, match="the same 40 feature names in another order"):
        loaded.predict(cell_feature(rna[:, ::-1], training_cells=None))
    with pytest.raises(FeaturesDiffer, match="found 30: 10 missing"):
        ScMoGNN.load(tmp_path / "model", cell_feature(rna[:, :30], training_cells=None))
    with pytest.raises(ModelError, match="a loaded model holds no graph"):
        loaded.predict()


# ---- what is refused


def test_misuse_is_refused(data, graph):
    _, target, labelled = data
    with pytest.raises(ModelError, match="found task 'joint', expected 'prediction'"):
        ScMoGNN(graph, task="joint")
    with pytest.raises(ModelError, match="the model is not fitted"):
        ScMoGNN(graph).predict()
    stranger = target[:3].copy()
    stranger.obs_names = ["cell0", "cell1", "elsewhere"]
    with pytest.raises(GraphError, match="elsewhere"):
        ScMoGNN(graph).fit(stranger, progress=False)
    broken = target[labelled].copy()
    broken.X[2, 1] = np.nan
    with pytest.raises(DataError, match="1 of 900 values are NaN or infinite"):
        ScMoGNN(graph).fit(broken, progress=False)
    with pytest.raises(DataError, match=r"found shape \(300, 0\)"):
        ScMoGNN(graph).fit(target[labelled, []], progress=False)
    with pytest.raises(ModelError, match="max_epochs: found 0, expected 1 or more, or None for the config's 600"):
        ScMoGNN(graph).fit(target[labelled], max_epochs=0, progress=False)


@pytest.mark.parametrize("share", [-0.1, 0, 0.0, 1, 1.5])
def test_a_share_of_validation_cells_that_cannot_be(data, graph, share):
    _, target, labelled = data
    with pytest.raises(ModelError, match=f"validation: found a share of {share}, expected one between 0 and 1"):
        ScMoGNN(graph).fit(target[labelled], share, progress=False)


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"width": 10}, "width=10 is not a multiple of groups=4"),
        ({"layers": 0}, "layers=0"),
        ({"edge_dropout": 1.0}, "edge_dropout=1.0"),
        ({"pathway_share": -1.0}, "pathway_share=-1.0"),
    ],
)
def test_impossible_configs_are_refused(wrong, message):
    with pytest.raises(ModelError, match=message):
        ScMoGNNConfig(**wrong)
    with pytest.raises(RecipeError, match=message):
        _config.build(ScMoGNNConfig, wrong, "config")


def test_published_setting_is_the_reported_one():
    published = ScMoGNNConfig.as_published()
    assert (published.width, published.weight_decay, published.edge_dropout, published.dropout) == (256, 1e-4, 0.4, 0.3)
    assert (published.batch_statistics, published.min_epochs, published.patience) == ("raw", 1500, 200)
    assert published.activate_features
    assert ScMoGNNConfig(width=8).as_published() == published
    assert _config.build(ScMoGNNConfig, _config.as_dict(published), "config") == published


def test_published_setting_trains(data, graph):
    _, target, labelled = data
    config = ScMoGNNConfig.as_published()
    fitted = ScMoGNN(graph, config=config).fit(target[labelled], max_epochs=2, device="cpu", progress=False)
    assert len(fitted.history) == 2

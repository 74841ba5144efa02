"""Encodings of a graph: values by hand and by libraries, components, permutation, error bounds, the cache."""

from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pandas as pd
import pytest
import torch
from safetensors.torch import load_file, save_file
from scipy import sparse
from scipy.spatial import cKDTree

from heteromics.errors import DataError, GraphError
from heteromics.graphs import (
    HeteroGraph,
    _laplacian,
    _random_walk,
    add_encoding,
    encodings,
    laplacian_encoding,
    patch_codes,
    random_walk_encoding,
    sinusoid_encoding,
    unit_square,
)
from heteromics.graphs._dgl import dgl
from heteromics.graphs.encodings import estimated_returns, laplacian_eigenvectors, return_probabilities

LINKS = ("gene", "interacts", "gene")


def random_graph(size, edges, seed=0, weighted=True, hubs=False):
    """Symmetric weights without self-loops; with hubs, ends are drawn by a steep power of their number."""
    rng = np.random.default_rng(seed)
    ends = rng.random((2, edges)) ** (2.5 if hubs else 1)
    source, target = (ends * size).astype(int)
    kept = source != target
    weight = rng.uniform(0.2, 1, kept.sum()) if weighted else np.ones(kept.sum())
    half = sparse.coo_array((weight, (source[kept], target[kept])), shape=(size, size)).tocsr()
    matrix = (half + half.T).tocsr()
    if not weighted:
        matrix.data[:] = 1
    return matrix


def near_points(size, radius, seed=0):
    points = np.random.default_rng(seed).random((size, 2))
    a, b = cKDTree(points).query_pairs(radius, output_type="ndarray").T
    return sparse.coo_array((np.ones(2 * len(a)), (np.r_[a, b], np.r_[b, a])), shape=(size, size)).tocsr()


def torus(rows, columns):
    """A grid closed in both directions: its eigenvalues come in pairs and fours."""
    ring = [sparse.diags_array([1.0] * 4, offsets=[1, -1, n - 1, 1 - n], shape=(n, n)) for n in (rows, columns)]
    return sparse.csr_array(sparse.kronsum(*ring))


def as_graph(matrix, directed=False):
    """All edges as they are, or, of a symmetric matrix, as both directions."""
    coo = matrix.tocoo()
    names = {"gene": [f"g{number}" for number in range(matrix.shape[0])]}
    weight = {LINKS: {"weight": torch.from_numpy(coo.data).float()}}
    return HeteroGraph.from_edges({LINKS: (coo.row, coo.col)}, names=names, edata=weight)


def dense_laplacian(matrix):
    dense = matrix.toarray()
    degree = dense.sum(1)
    root = np.where(degree > 0, degree, 1) ** -0.5
    return np.eye(len(dense)) - root[:, None] * dense * root


def check_spectrum(matrix, k, spectrum):
    """Each component against numpy.linalg.eigh: eigenvalues, orthonormal, and the spaces of equal eigenvalues."""
    vectors, component = spectrum.vectors.double().numpy(), spectrum.component.numpy()
    count, expected = sparse.csgraph.connected_components(matrix, directed=False)
    assert np.array_equal(component, expected)
    assert spectrum.values.shape == (count, k)
    for part in range(count):
        nodes = np.flatnonzero(component == part)
        most = min(k, len(nodes) - 1)
        own = vectors[nodes]
        assert not own[:, most:].any()
        assert not spectrum.values[part, most:].any()
        if not most:
            continue
        values, basis = np.linalg.eigh(dense_laplacian(matrix[nodes][:, nodes]))
        np.testing.assert_allclose(spectrum.values[part, :most], values[1 : most + 1], atol=2e-6)
        np.testing.assert_allclose(own[:, :most].T @ own[:, :most], np.eye(most), atol=1e-5)
        close = np.split(np.arange(1, len(values)), np.flatnonzero(np.diff(values[1:]) > 1e-5) + 1)
        for block in close:  # a space of equal eigenvalues that is taken whole has one projector
            if block[-1] <= most:
                ours, theirs = own[:, block - 1], basis[:, block]
                np.testing.assert_allclose(ours @ ours.T, theirs @ theirs.T, atol=2e-4)
            elif block[0] <= most:  # cut: what was taken lies within it
                ours, theirs = own[:, block[0] - 1 : most], basis[:, block]
                np.testing.assert_allclose(theirs @ (theirs.T @ ours), ours, atol=2e-4)


GRAPHS = {
    "path": sparse.diags_array([1.0, 1.0], offsets=[1, -1], shape=(9, 9)).tocsr(),
    "star": sparse.csr_array(np.pad(np.ones((1, 6)), ((0, 6), (1, 0))) + np.pad(np.ones((1, 6)), ((0, 6), (1, 0))).T),
    "many small components and lone nodes": random_graph(400, 230, seed=3),
    "weighted, with hubs": random_graph(700, 3_000, hubs=True),
    "plane": near_points(700, 0.07),
    "torus with equal eigenvalues": torus(24, 24),
    "self-loops": random_graph(60, 150) + sparse.diags_array(np.arange(60) % 3.0),
}


@pytest.mark.parametrize("name", GRAPHS)
@pytest.mark.parametrize("k", [1, 7])
def test_eigenvectors_of_every_component_are_those_of_numpy(name, k):
    matrix = sparse.csr_array(GRAPHS[name])
    check_spectrum(matrix, k, laplacian_eigenvectors(matrix, k))


@pytest.mark.parametrize("plane", [True, False])
@pytest.mark.parametrize("name", ["weighted, with hubs", "plane", "torus with equal eigenvalues"])
def test_both_ways_of_iterating_and_the_dense_way_agree(name, plane, monkeypatch):
    matrix = sparse.csr_array(GRAPHS[name])
    monkeypatch.setattr(_laplacian, "_lies_in_a_plane", lambda scaled: plane)
    check_spectrum(matrix, 5, laplacian_eigenvectors(matrix, 5))


def test_spatial_graphs_are_factorised_and_gene_networks_are_not():
    assert _laplacian._lies_in_a_plane(near_points(3_000, 0.04))
    assert not _laplacian._lies_in_a_plane(random_graph(3_000, 30_000, hubs=True))


def test_signs_and_start_are_the_same_on_every_run():
    matrix = near_points(1_500, 0.05)
    one, other = (laplacian_eigenvectors(matrix, 4, seed=1) for _ in range(2))
    assert torch.equal(one.vectors, other.vectors)
    parts = [one.vectors[one.component == part] for part in one.component.unique()]
    for part in parts:
        largest = part.abs().amax(0)
        first = (part.abs() >= largest * (1 - 1e-5)).int().argmax(0)
        assert (part[first, torch.arange(4)] >= 0).all()
    other_seed = laplacian_eigenvectors(matrix, 4, seed=2)
    torch.testing.assert_close(one.vectors, other_seed.vectors, atol=1e-5, rtol=0)


def test_permuted_nodes_have_permuted_eigenvectors():
    matrix = random_graph(700, 2_000, seed=5)
    order = np.random.default_rng(1).permutation(700)
    ours = laplacian_eigenvectors(matrix, 4).vectors[order]
    theirs = laplacian_eigenvectors(matrix[order][:, order], 4).vectors
    torch.testing.assert_close(ours, theirs, atol=1e-4, rtol=0)


def test_two_graphs_in_one_have_the_encodings_of_each_apart():
    parts = [random_graph(40, 200, seed=1), near_points(500, 0.15, seed=2)]
    union = sparse.csr_array(sparse.block_diag(parts))
    together, apart = laplacian_eigenvectors(union, 6), [laplacian_eigenvectors(part, 6) for part in parts]
    torch.testing.assert_close(together.vectors, torch.cat([one.vectors for one in apart]), atol=1e-5, rtol=0)
    torch.testing.assert_close(together.values, torch.cat([one.values for one in apart]), atol=1e-6, rtol=0)
    walks = return_probabilities(union, 7), [return_probabilities(part, 7) for part in parts]
    torch.testing.assert_close(walks[0], torch.cat(walks[1]), atol=1e-6, rtol=0)


def test_an_edge_stored_once_counts_as_both_directions_in_the_laplacian():
    matrix = random_graph(80, 300)
    both, once = laplacian_eigenvectors(matrix, 3), laplacian_eigenvectors(sparse.triu(matrix).tocsr(), 3)
    torch.testing.assert_close(both.vectors, once.vectors, atol=1e-5, rtol=0)


@pytest.mark.parametrize("scale", [1e-200, 1e200])
def test_the_unit_of_weights_does_not_count_however_small_or_large(scale):
    for matrix in (near_points(700, 0.07), random_graph(60, 300), DIRECTED):
        spectra = [laplacian_eigenvectors(one, 3) for one in (matrix, matrix * scale)]
        torch.testing.assert_close(spectra[1].values, spectra[0].values, atol=1e-6, rtol=0)
        torch.testing.assert_close(spectra[1].vectors, spectra[0].vectors, atol=1e-5, rtol=0)
        walks = [return_probabilities(one, 6) for one in (matrix, matrix * scale)]
        torch.testing.assert_close(walks[1], walks[0], atol=1e-6, rtol=0)


@pytest.mark.filterwarnings("ignore:The given NumPy array is not writable", "ignore::DeprecationWarning")
def test_eigenvalues_are_those_of_dgl_where_the_graph_is_one_component():
    matrix = random_graph(40, 200, weighted=False)
    coo = matrix.tocoo()
    graph = dgl.graph((torch.from_numpy(coo.row), torch.from_numpy(coo.col)), num_nodes=40)
    values = dgl.lap_pe(graph, 5, return_eigval=True)[1]
    torch.testing.assert_close(laplacian_eigenvectors(matrix, 5).values[0], values, atol=1e-5, rtol=0)


@pytest.mark.parametrize("matrix", [sparse.csr_array((0, 0)), sparse.csr_array((1, 1)), sparse.csr_array((3, 3))])
def test_graphs_without_edges_have_zeros(matrix):
    spectrum = laplacian_eigenvectors(matrix, 2)
    size = matrix.shape[0]
    assert spectrum.vectors.shape == spectrum.values.shape == (size, 2)
    assert not spectrum.vectors.any()
    assert spectrum.component.tolist() == list(range(size))
    assert return_probabilities(matrix, 3).tolist() == [[0.0] * 3] * size
    assert estimated_returns(matrix, 3, samples=2).value.tolist() == [[0.0] * 3] * size


# Random walks


def dense_returns(matrix, steps):
    dense = matrix.toarray()
    degree = dense.sum(1, keepdims=True)
    walk = dense / np.where(degree > 0, degree, 1)
    powers = [walk]
    for _ in range(steps - 1):
        powers.append(powers[-1] @ walk)
    return np.stack([power.diagonal() for power in powers], 1)


DIRECTED = random_graph(90, 400, seed=4).multiply(np.random.default_rng(0).random((90, 90)) < 0.6).tocsr()


@pytest.mark.parametrize("full", [0.0, 2.0], ids=["dense blocks", "sparse powers"])
@pytest.mark.parametrize("steps", [1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13])
@pytest.mark.parametrize("name", ["path", "star", "many small components and lone nodes", "self-loops", "directed"])
def test_returns_are_the_diagonals_of_dense_powers(name, steps, full, monkeypatch):
    monkeypatch.setattr(_random_walk, "_FULL", full)
    monkeypatch.setattr(_random_walk, "_WIDEST", 29)  # several blocks, the last of them smaller
    matrix = DIRECTED if name == "directed" else sparse.csr_array(GRAPHS[name])
    expected = dense_returns(matrix, steps)
    for most_bytes in (1 << 28, 16 * 7 * matrix.shape[0]):  # blocks of 29 columns, and of 7
        ours = return_probabilities(matrix, steps, most_bytes=most_bytes)
        assert ours.dtype == torch.float32
        np.testing.assert_allclose(ours, expected, rtol=2e-5, atol=1e-7)


@pytest.mark.filterwarnings("ignore:The given NumPy array is not writable", "ignore::DeprecationWarning")
@pytest.mark.parametrize("weight", [None, "weight"])
def test_returns_are_those_of_dgl(weight):
    graph = as_graph(random_graph(120, 700, hubs=True))
    peer = dgl.random_walk_pe(dgl.to_homogeneous(graph.dgl, edata=["weight"]), 6, eweight_name=weight)
    torch.testing.assert_close(random_walk_encoding(graph, LINKS, 6, weight=weight), peer, atol=1e-5, rtol=1e-4)


def test_walks_that_cannot_go_on_do_not_return():
    one_way = sparse.csr_array([[0, 1.0, 0], [0, 0, 1.0], [0, 0, 0]])
    assert not return_probabilities(one_way, 4).any()


@pytest.mark.parametrize("matrix", [random_graph(300, 1_500, hubs=True), DIRECTED], ids=["symmetric", "directed"])
def test_estimates_have_the_stated_error_and_no_bias(matrix):
    steps, samples, runs = 8, 256, 24
    truth = dense_returns(matrix, steps)
    found = [estimated_returns(matrix, steps, samples=samples, seed=seed) for seed in range(runs)]
    assert not found[0].error[:, :2].any()
    np.testing.assert_allclose(found[0].value[:, :2], truth[:, :2], rtol=1e-5, atol=1e-7)
    value = np.stack([one.value.double().numpy() for one in found])[:, :, 2:]
    error = np.stack([one.error.double().numpy() for one in found])[:, :, 2:]
    truth = truth[:, 2:]
    spread = value.std(axis=0, ddof=1)
    moves = spread > 1e-7
    np.testing.assert_allclose(np.sqrt((error**2).mean(0))[moves].mean(), spread[moves].mean(), rtol=0.05)
    score = (value.mean(0) - truth)[moves] / (np.sqrt((error**2).mean(0)) / np.sqrt(runs))[moves]
    assert abs(score).max() < 6
    over_nodes = value.sum(1) - truth.sum(0)  # a bias of one sign would add up
    assert (abs(over_nodes.mean(0)) < 4 * over_nodes.std(0, ddof=1) / np.sqrt(runs)).all()


def test_error_of_even_steps_is_a_share_of_the_value_itself():
    matrix = random_graph(300, 1_500, hubs=True)
    samples = 512
    truth = dense_returns(matrix, 8)
    nodes = truth[:, 1] > 0
    found = [estimated_returns(matrix, 8, samples=samples, seed=seed).value.numpy() for seed in range(30)]
    for step in (4, 6, 8):
        share = np.stack([one[nodes, step - 1] / truth[nodes, step - 1] - 1 for one in found])
        assert np.sqrt((share**2).mean(0)).mean() <= np.sqrt(2 / samples) * 1.02
    for step in (3, 5, 7):  # bound of an odd step: the even steps on both sides of it
        before, after = (truth[nodes, side] for side in (step - 2, step))
        bound = np.sqrt((before * after + truth[nodes, step - 1] ** 2) / samples)
        share = np.stack([(one[nodes, step - 1] - truth[nodes, step - 1]) / bound for one in found])
        assert np.sqrt((share**2).mean(0)).mean() <= 1.02


def test_same_seed_gives_the_same_estimate():
    matrix = random_graph(50, 300)
    one, same, other = (estimated_returns(matrix, 5, samples=200, seed=seed).value for seed in (1, 1, 2))
    assert torch.equal(one, same)
    assert not torch.equal(one, other)


def test_impossible_requests_are_refused_with_numbers():
    matrix = random_graph(30, 60)
    with pytest.raises(GraphError, match="found k = 0 eigenvectors"):
        laplacian_eigenvectors(matrix, 0)
    with pytest.raises(GraphError, match="found 0 steps"):
        return_probabilities(matrix, 0)
    with pytest.raises(GraphError, match="found 1 samples"):
        estimated_returns(matrix, 3, samples=1)
    with pytest.raises(GraphError, match=r"found ndarray of shape \(2, 2\), expected a square SciPy sparse"):
        laplacian_eigenvectors(np.eye(2), 1)
    wrong = matrix.copy()
    wrong.data[:3] = [-1, np.nan, np.inf]
    with pytest.raises(GraphError, match=f"3 of {matrix.nnz} edge weights are negative or not finite"):
        return_probabilities(wrong, 2)


# Places


def test_unit_square_is_that_of_each_field_alone():
    rng = np.random.default_rng(0)
    position, field = rng.normal(50, 20, (60, 2)), rng.integers(0, 3, 60) * 7 - 1
    ours = unit_square(position, field)
    for one in np.unique(field):
        own = position[field == one]
        expected = (own - own.min(0)) / (own.max(0) - own.min(0)).max()
        np.testing.assert_allclose(ours[torch.from_numpy(field == one)], expected, atol=1e-6)
    assert unit_square(np.full((3, 2), 5.0)).tolist() == [[0.0, 0.0]] * 3
    assert unit_square(np.zeros((0, 2))).shape == (0, 2)


@pytest.mark.parametrize(
    "form",
    [
        pytest.param(lambda a: np.ascontiguousarray(a[:, ::-1])[:, ::-1], id="turned"),
        pytest.param(lambda a: np.frombuffer(a.tobytes()).reshape(a.shape), id="read-only"),
        pytest.param(lambda a: a.astype(">f8"), id="other byte order"),
        pytest.param(lambda a: a.astype(object), id="objects"),
        pytest.param(lambda a: pd.DataFrame(a, index=[f"c{i}" for i in range(len(a))]), id="data frame"),
        pytest.param(lambda a: a.tolist(), id="lists"),
        pytest.param(torch.from_numpy, id="tensor"),
    ],
)
def test_places_in_any_form(form):
    position = np.random.default_rng(0).random((20, 2))
    unit = unit_square(torch.from_numpy(position))
    assert torch.equal(unit_square(form(position)), unit)
    assert torch.equal(patch_codes(form(position)), patch_codes(torch.from_numpy(position)))
    assert torch.equal(sinusoid_encoding(form(position), 8), sinusoid_encoding(torch.from_numpy(position), 8))


@pytest.mark.parametrize("form", [list, np.array, pd.Series, pd.Categorical, lambda g: pd.Series(g, dtype="string")])
def test_groups_may_be_names(form):
    position, field = np.random.default_rng(0).random((20, 2)), np.random.default_rng(1).integers(0, 3, 20)
    names = [f"fov {number}" for number in field.tolist()]
    assert torch.equal(unit_square(position, form(names)), unit_square(position, field))
    frame = pd.DataFrame({"fov": form(names)}).set_index(pd.Index([f"c{i}" for i in range(20)]))
    assert torch.equal(unit_square(position, frame["fov"]), unit_square(position, field))


@pytest.mark.parametrize("groups", [[1.0, np.nan, 1.0], ["a", None, "a"], pd.Categorical(["a", None, "a"])])
def test_cells_without_a_group_are_counted(groups):
    with pytest.raises(DataError, match="1 of 3 cells have no group"):
        unit_square(np.zeros((3, 2)), groups)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
def test_places_on_cuda_are_those_of_the_cpu():
    position, field = torch.rand(50, 2, dtype=torch.float64), torch.arange(50) % 3
    unit = unit_square(position.cuda(), field.cuda())
    assert unit.device.type == "cuda"
    torch.testing.assert_close(unit.cpu(), unit_square(position, field))
    assert torch.equal(patch_codes(unit).cpu(), patch_codes(unit.cpu()))
    torch.testing.assert_close(sinusoid_encoding(unit, 8).cpu(), sinusoid_encoding(unit.cpu(), 8))


@pytest.mark.parametrize(
    ("place", "scheme", "grid", "code"),
    [
        pytest.param((0, 0), "spaformer", (100, 100), 0, id="corner"),
        pytest.param((0.125, 0.75), "spaformer", (100, 100), 12 * 100 + 75, id="inside"),
        pytest.param((1, 1), "spaformer", (100, 100), 99 * 100 + 99, id="far corner is cut"),
        pytest.param((1, 1), "spaformer", (110, 100), 100 * 100 + 99, id="rows for shifts"),
        pytest.param((1.1, -0.05), "spaformer", (110, 100), 109 * 100, id="shifted beyond"),
        pytest.param((0, 0), "cellplm", (100, 100), 0, id="margin below is cut"),
        pytest.param((0.5, 0.25), "cellplm", (100, 100), 50 * 100 + 24, id="51 - 1 and 25.5 - 1"),
        pytest.param((1, 1), "cellplm", (100, 100), 9_999, id="101 is cut"),
    ],
)
def test_patches_by_hand(place, scheme, grid, code):
    assert patch_codes([place], scheme=scheme, grid=grid).tolist() == [code]


def test_sinusoid_is_the_formula_written_out():
    position, width = np.array([[3.0, 41.0], [0.5, 99.25], [0, 0]]), 12
    ours = sinusoid_encoding(position, width)
    half = width // 2
    for cell, (first, second) in enumerate(position):
        for axis, value in enumerate((second, first)):
            for m in range(half // 2):
                angle = value / 10_000 ** (2 * m / half)
                assert ours[cell, axis * half + 2 * m] == pytest.approx(np.sin(angle), abs=1e-6)
                assert ours[cell, axis * half + 2 * m + 1] == pytest.approx(np.cos(angle), abs=1e-6)
    assert sinusoid_encoding(np.zeros((0, 2)), 8).shape == (0, 8)


def test_wrong_places_are_counted():
    with pytest.raises(DataError, match=r"found positions of shape \(2, 3\)"):
        unit_square(np.zeros((2, 3)))
    with pytest.raises(DataError, match="1 of 3 cells have coordinates that are not finite"):
        unit_square([[0.0, 1.0], [np.nan, 0.0], [1.0, 1.0]])
    with pytest.raises(DataError, match="2 of 3 cells lie outside the unit square, between 0 and 950"):
        patch_codes([[0.0, 950.0], [800.0, 0.0], [1.0, 1.0]])
    with pytest.raises(DataError, match=r"found grid \(0, 5\), expected two numbers of patches"):
        patch_codes([[0.0, 0.0]], grid=(0, 5))
    with pytest.raises(DataError, match="found grid 100, expected two numbers of patches"):
        patch_codes([[0.0, 0.0]], grid=100)
    with pytest.raises(DataError, match="found scheme 'bins'"):
        patch_codes([[0.0, 0.0]], scheme="bins")
    with pytest.raises(DataError, match="found width 6, expected a multiple of 4"):
        sinusoid_encoding([[0.0, 0.0]], 6)
    with pytest.raises(DataError, match=r"found groups of shape \(2,\), expected one for each of 1 cells"):
        unit_square([[0.0, 0.0]], [1, 2])


# Graphs


def test_graph_functions_use_the_weights_they_are_told():
    matrix = random_graph(50, 200)
    graph, plain = as_graph(matrix), matrix.copy()
    plain.data[:] = 1
    for weight, expected in (("weight", matrix), (None, plain)):
        ours = laplacian_encoding(graph, LINKS, 3, weight=weight)
        torch.testing.assert_close(ours.values, laplacian_eigenvectors(expected, 3).values, atol=1e-5, rtol=0)
        walks = random_walk_encoding(graph, LINKS, 5, weight=weight)
        np.testing.assert_allclose(walks, dense_returns(expected, 5), atol=1e-5)
    sampled = random_walk_encoding(graph, LINKS, 5, samples=64, seed=3)
    assert torch.equal(sampled, estimated_returns(matrix.astype(np.float32), 5, samples=64, seed=3).value)


def test_edges_between_two_types_and_missing_weights_are_refused():
    graph = HeteroGraph.from_edges({("cell", "has", "gene"): ([0], [0])}, names={"cell": ["c"], "gene": ["g"]})
    with pytest.raises(GraphError, match="join 'cell' with 'gene'"):
        laplacian_encoding(graph, ("cell", "has", "gene"), 2, weight=None)
    with pytest.raises(GraphError, match="have no data called 'score'; they have: weight"):
        random_walk_encoding(as_graph(random_graph(9, 20)), LINKS, 2, weight="score")


def test_encodings_are_stored_with_a_note_and_survive_the_disk(tmp_path):
    graph = as_graph(random_graph(30, 90))
    graph.dgl.nodes["gene"].data["position"] = torch.rand(30, 2) * 900
    graph.dgl.nodes["gene"].data["library"] = torch.arange(30) % 2
    add_encoding(graph, "laplacian", LINKS, k=4, cache=tmp_path / "cache")
    add_encoding(graph, "random_walk", LINKS, steps=5)
    add_encoding(graph, "random_walk", LINKS, steps=3, weight=None)  # replaces the one before
    add_encoding(graph, "sinusoid", "gene", width=8)
    add_encoding(graph, "patches", "gene", name="patch", scheme="cellplm")
    assert [(note["name"], note["kind"]) for note in graph.meta["encodings"]] == [
        ("laplacian", "laplacian"),
        ("random_walk", "random_walk"),
        ("sinusoid", "sinusoid"),
        ("patch", "patches"),
    ]
    assert graph.meta["encodings"][0] == {
        "node": "gene", "name": "laplacian", "kind": "laplacian", "etype": list(LINKS), "k": 4
    }  # fmt: skip
    data = HeteroGraph.load(graph.validate().save(tmp_path / "graph")).ndata("gene")
    assert torch.equal(data["laplacian"], laplacian_encoding(graph, LINKS, 4).vectors)
    assert torch.equal(data["random_walk"], random_walk_encoding(graph, LINKS, 3, weight=None))
    unit = unit_square(graph.ndata("gene")["position"], torch.arange(30) % 2)
    assert torch.equal(data["sinusoid"], sinusoid_encoding(100 * unit, 8))
    assert torch.equal(data["patch"], patch_codes(unit, scheme="cellplm"))
    with pytest.raises(GraphError, match="Did you mean 'laplacian'"):
        add_encoding(graph, "laplace", LINKS)
    with pytest.raises(GraphError, match="nodes 'gene' have no data called 'position'; they have: none"):
        add_encoding(as_graph(random_graph(9, 20)), "patches", "gene")


def test_cache_is_read_only_for_the_same_graph_and_parameters(tmp_path, monkeypatch):
    graph, other = as_graph(random_graph(30, 90)), as_graph(random_graph(30, 90, seed=1))
    first = laplacian_encoding(graph, LINKS, 3, cache=tmp_path)
    walks = random_walk_encoding(graph, LINKS, 3, cache=tmp_path)
    assert len(list(tmp_path.iterdir())) == 2
    with monkeypatch.context() as patch:
        patch.setattr(encodings, "laplacian_eigenvectors", None)
        patch.setattr(encodings, "return_probabilities", None)
        again = laplacian_encoding(graph, LINKS, 3, cache=tmp_path)
        assert all(torch.equal(ours, theirs) for ours, theirs in zip(first, again, strict=True))
        assert torch.equal(random_walk_encoding(graph, LINKS, 3, cache=tmp_path), walks)
    laplacian_encoding(other, LINKS, 3, cache=tmp_path)
    laplacian_encoding(graph, LINKS, 4, cache=tmp_path)
    laplacian_encoding(graph, LINKS, 3, weight=None, cache=tmp_path)
    assert len(list(tmp_path.iterdir())) == 5
    assert not [path for path in tmp_path.iterdir() if path.suffix != ".safetensors"]


def test_threads_may_fill_one_cache(tmp_path):
    graph = as_graph(random_graph(300, 900))
    expected = random_walk_encoding(graph, LINKS, 3)
    for turn in range(8):
        with ThreadPoolExecutor(8) as pool:
            made = [pool.submit(random_walk_encoding, graph, LINKS, 3, cache=tmp_path / str(turn)) for _ in range(8)]
        assert all(torch.equal(one.result(), expected) for one in made)
        assert len(list((tmp_path / str(turn)).iterdir())) == 1


def test_numbers_of_numpy_are_those_of_python_in_cache_and_note(tmp_path):
    graph = as_graph(random_graph(30, 90))
    for one in (int, np.int64, np.int32):
        random_walk_encoding(graph, LINKS, one(3), samples=one(4), seed=one(1), cache=tmp_path / "cache")
        laplacian_encoding(graph, LINKS, one(3), cache=tmp_path / "cache")
    assert len(list((tmp_path / "cache").iterdir())) == 2
    add_encoding(graph, "laplacian", LINKS, k=np.int64(3)).save(tmp_path / "graph")
    assert HeteroGraph.load(tmp_path / "graph").meta["encodings"][0]["k"] == 3


@pytest.mark.parametrize("damage", ["cut", "changed", "other key"])
def test_a_damaged_cache_is_told_and_written_again(tmp_path, damage):
    graph = as_graph(random_graph(30, 90))
    first = random_walk_encoding(graph, LINKS, 3, cache=tmp_path)
    path = next(tmp_path.iterdir())
    whole = path.read_bytes()
    if damage == "cut":
        path.write_bytes(whole[:-7])
    elif damage == "changed":
        path.write_bytes(whole[:-1] + bytes([whole[-1] ^ 1]))
    else:
        save_file(load_file(path), path, {"key": "{}"})
    with pytest.warns(UserWarning, match="is computed again and replaced"):
        assert torch.equal(random_walk_encoding(graph, LINKS, 3, cache=tmp_path), first)
    assert torch.equal(random_walk_encoding(graph, LINKS, 3, cache=tmp_path), first)  # without a warning
    assert len(path.read_bytes()) == len(whole)

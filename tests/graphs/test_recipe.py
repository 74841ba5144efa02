import anndata
import mudata
import numpy as np
import pytest
import torch

from heteromics.data import SyntheticConfig, simulate, size_of
from heteromics.errors import DataError, GraphError, MissingLayer, MissingModality, RecipeError
from heteromics.graphs import HeteroGraph
from heteromics.graphs.compare import diff
from heteromics.graphs.recipe import build, load_recipe, plan
from heteromics.priors import PriorStore


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    config = SyntheticConfig(
        n_cells=80, n_cell_types=2, n_genes=60, n_peaks=200, n_tfs=6, n_proteins=6, n_chromosomes=2
    )
    multiome = simulate(config, seed=0)
    for part in multiome.mdata.mod.values():
        part.obs["part"] = np.where(np.arange(80) < 50, "train", "test")
    folder = multiome.write(tmp_path_factory.mktemp("recipe") / "synthetic")
    db = folder.parent / "priors.duckdb"
    PriorStore.build("demo", db, sets=[f"source.folder={folder}"], progress=False).close()
    return multiome, folder / "multiome.h5mu", db


PLANS = [
    ("cell_feature", []),
    ("cell_feature", ["interactions.use=true"]),
    ("cell_feature", ["other_modalities=[{modality: protein, values: normalised}]"]),
    ("bipartite", []),
    ("bipartite", ["mask=window"]),
    ("multiomics", ["n_components=8"]),
    ("multiomics", ["n_components=8", "atac={modality: atac}", "protein=null"]),
    ("mutual_neighbors", ["right={modality: protein, values: normalised}", "space.obsm=spatial", "within=3"]),
    ("spatial", []),
]


@pytest.mark.parametrize(("recipe", "sets"), PLANS, ids=[" ".join([name, *sets]) for name, sets in PLANS])
def test_plan_counts_what_build_makes(made, recipe, sets):
    _, data, db = made
    planned, graph = plan(recipe, data, db, sets=sets), build(recipe, data, db, sets=sets).validate()
    assert planned.nodes == {ntype: graph.num_nodes(ntype) for ntype in graph.ntypes}
    long = any("-" in key for key in planned.edges)
    there = {"-".join(etype) if long else etype[1]: graph.num_edges(etype) for etype in graph.canonical_etypes}
    assert set(there) == set(planned.edges)
    known = {relation: n for relation, n in planned.edges.items() if n is not None}
    assert known == {relation: there[relation] for relation in known}
    assert planned.rows()[-1]["number"] == planned.bytes


@pytest.mark.parametrize("form", ["dense", "mixed"])
def test_plan_promises_no_number_that_metadata_do_not_tell(made, tmp_path, form):
    multiome, _, _ = made
    rna, protein = (multiome.mdata[name].copy() for name in ("rna", "protein"))
    path = tmp_path / "a.h5ad"
    if form == "dense":
        rna.X = rna.X.toarray()
        rna.write_h5ad(path)
    else:
        rna.var["feature_types"], protein.var["feature_types"] = "Gene Expression", "Antibody Capture"
        anndata.concat([rna, protein], axis=1, merge="same").write_h5ad(path)
    planned, graph = plan("cell_feature", path), build("cell_feature", path)
    assert planned.nodes == {"cell": 80, "feature": graph.num_nodes("feature")}
    assert planned.edges == {"expresses": None, "expressed_by": None}


def test_sizes_come_from_metadata(made):
    multiome, data, _ = made
    size = size_of(data, modality="atac", layer="X")
    assert (size.cells, size.features, size.values) == (80, 200, multiome.mdata["atac"].X.nnz)
    with pytest.raises(MissingModality):
        size_of(data, modality="spatial", layer="X")


def test_formats_that_do_not_tell_say_so(tmp_path):
    (tmp_path / "matrix.mtx").write_text("%%MatrixMarket matrix coordinate integer general\n1 1 1\n1 1 1\n")
    (tmp_path / "genes.tsv").write_text("ENSG1\tA\n")
    (tmp_path / "barcodes.tsv").write_text("AAC\n")
    with pytest.raises(DataError, match=r"matrix\.mtx: its size is known once it is read"):
        size_of(tmp_path / "matrix.mtx", modality="rna", layer="X")


def test_built_graph_is_in_order_and_carries_its_recipe(made, tmp_path):
    _, data, db = made
    graph = build("bipartite", data, db, sets=["mask=window", "within_bp=50_000"]).validate()
    assert graph.meta["recipe"]["within_bp"] == 50_000
    assert ("gene", "reaches", "peak") in graph.canonical_etypes
    again = HeteroGraph.load(graph.save(tmp_path / "g"))
    assert diff(graph, again) == []
    assert again.meta["recipe"] == graph.meta["recipe"]


def test_training_cells_come_from_a_column(made):
    _, data, db = made
    graph = build("cell_feature", data, db, sets=["training.column=part"])
    assert graph.meta["parameters"]["training_cells"] == 50
    with pytest.raises(MissingLayer, match="training: found no column 'parts'"):
        build("cell_feature", data, sets=["training.column=parts"])
    with pytest.raises(GraphError, match=r"no cell has part = 'validation'; found test, train"):
        build("cell_feature", data, sets=["training.column=part", "training.value=validation"])


def test_training_cells_of_modalities_whose_cells_differ(made, tmp_path):
    multiome, _, db = made
    rna, atac = (multiome.mdata[name].copy() for name in ("rna", "atac"))
    atac = atac[20:].copy()
    atac.obs_names = [f"atac_{name}" if place >= 20 else name for place, name in enumerate(atac.obs_names)]
    with mudata.set_options(pull_on_update=False):
        both = mudata.MuData({"rna": rna, "atac": atac})
        both.write(tmp_path / "apart.h5mu")
        graph = build("bipartite", tmp_path / "apart.h5mu", db, sets=["training.column=part"])
        assert graph.ndata("rna_cell")["training"].tolist() == [place < 50 for place in range(80)]
        assert graph.ndata("atac_cell")["training"].tolist() == [place < 30 for place in range(60)]
        both["atac"].obs.iloc[3, both["atac"].obs.columns.get_loc("part")] = "test"
        both.write(tmp_path / "disputed.h5mu")
    with pytest.raises(GraphError, match="1 cells have part = 'train' in one modality alone: cell_24"):
        build("bipartite", tmp_path / "disputed.h5mu", db, sets=["training.column=part"])


def test_diff_names_what_differs(made):
    _, data, db = made
    with_paths, without = build("cell_feature", data, db), build("cell_feature", data)
    rows = {row["what"]: (row["a"], row["b"]) for row in diff(with_paths, without)}
    assert rows["feature-pathway-feature edges"][1] is None
    assert rows["parameter threshold"] == (0.1, None)
    assert diff(without, without) == []
    chromosome, window = build("bipartite", data, db), build("bipartite", data, db, sets=["mask=window"])
    rows = {row["what"]: (row["a"], row["b"]) for row in diff(chromosome, window)}
    assert rows["parameter mask"] == ("chromosome", "window")
    assert rows["gene-reaches-peak edges"][0] is None


def test_diff_sees_other_values_and_other_edges_of_equal_number():
    etype = ("a", "to", "b")

    def graph(dst=(0, 1), weight=(1.0, 2.0), **features):
        return HeteroGraph.from_edges(
            {etype: ([0, 1], list(dst))},
            names={"a": ["x", "y"], "b": ["p", "q"]},
            edata={etype: {"weight": torch.tensor(weight)}},
            ndata={"a": {name: torch.tensor(values) for name, values in features.items()}},
        )

    def rows(one, other):
        return {row["what"]: (row["a"], row["b"]) for row in diff(one, other)}

    assert rows(graph(), graph(weight=(1.0, 3.0))) == {"a-to-b weight": ("float32 (2,)", "1 of 2 values differ")}
    assert rows(graph(), graph(dst=(1, 0))) == {"a-to-b ends": ("as given", "as many edges between other nodes")}
    assert rows(graph(u=[1, 2]), graph(v=[1.0, 2.0])) == {"a u": ("int64 (2,)", None), "a v": (None, "float32 (2,)")}
    turned = graph()
    turned.names["a"] = turned.names["a"][::-1]
    assert rows(graph(), turned) == {"a order": ("as named", "the same names in another order")}


@pytest.mark.parametrize(
    ("recipe", "sets", "error", "message"),
    [
        pytest.param("bipartite", ["mask=windows"], RecipeError, "mask: found 'windows', expected one of", id="value"),
        pytest.param("bipartite", ["maks=window"], RecipeError, "unknown key 'maks'. Did you mean 'mask'?", id="key"),
        pytest.param(
            "bipartit", [], RecipeError, "no graphs recipe named 'bipartit'. Shipped: bipartite, cell_f", id="name"
        ),
        pytest.param(
            "bipartite", ["graph=hyper"], RecipeError, "graph: found 'hyper', expected cell_feature or", id="kind"
        ),
    ],
)
def test_bad_recipes_are_named(recipe, sets, error, message):
    with pytest.raises(error) as caught:
        load_recipe(recipe, sets)
    assert message in str(caught.value)


def test_bipartite_without_a_store_says_how_to_get_one(made):
    _, data, _ = made
    for work in (plan, build):
        with pytest.raises(GraphError, match="from a prior store, found none. Fix: --db FILE"):
            work("bipartite", data)

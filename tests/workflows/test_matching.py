import json
import re
import shutil

import mudata
import numpy as np
import pandas as pd
import pytest

from heteromics._files import sha256_of
from heteromics.errors import DataError, MissingLayer, MissingModality, ModelError
from heteromics.graphs import HeteroGraph
from heteromics.graphs import recipe as graphs
from heteromics.graphs.compare import diff
from heteromics.models import Bi2Former
from heteromics.priors import PriorStore
from heteromics.tasks import matching as room
from heteromics.tasks import metrics
from heteromics.tasks.matching import Scale
from heteromics.workflows.evaluate import evaluate
from heteromics.workflows.run import Run
from heteromics.workflows.train import train
from tests.workflows.small import BI2FORMER, MADE_PARTS, changed, split_of

FILES = [
    "graph", "history.json", "metrics.json", "model", "pairs.parquet", "run.json", "scales.json", "split.parquet",
]  # fmt: skip


def quick(data, out, *sets, **options):
    return train("bi2former", "matching", data, out=out, device="cpu", sets=(*BI2FORMER, *sets), **options)


def test_a_finished_run_holds_everything_and_no_checkpoint(bi2former_run):
    assert sorted(path.name for path in bi2former_run.out.iterdir()) == FILES
    table = pd.DataFrame(json.loads((bi2former_run.out / "metrics.json").read_text()))
    pd.testing.assert_frame_equal(table, bi2former_run.scores.metrics)
    models = set(json.loads((bi2former_run.out / "scales.json").read_text()))
    assert models > {"Bi2Former", "CellTypeMatcher"}
    for kind in ("easy", "hard"):
        assert set(table.loc[table["negatives"] == kind, "model"]) == models
    notes = bi2former_run.scores.notes
    assert (notes["genes without a chromosome"], notes["peaks without a chromosome"]) == (0, 0)
    assert notes["epochs"] == len(json.loads((bi2former_run.out / "history.json").read_text())) == 2
    graph = HeteroGraph.load(bi2former_run.out / "graph")
    assert Bi2Former.load(bi2former_run.out / "model", graph).features["gene"] == tuple(graph.names["gene"])


def test_scored_pairs_are_of_test_cells_alone(small, bi2former_run):
    pairs, split = pd.read_parquet(bi2former_run.out / "pairs.parquet"), split_of(bi2former_run.out)
    types = small.made.mdata["rna"].obs["cell_type"]
    for side in ("rna_cell", "atac_cell"):
        assert set(pairs[side]) == set(split.index[split == "test"])
    same_cell = pairs["rna_cell"] == pairs["atac_cell"]
    assert (same_cell == (pairs["label"] == 1)).all()
    same_type = types.loc[pairs["rna_cell"]].to_numpy() == types.loc[pairs["atac_cell"]].to_numpy()
    assert not same_type[(pairs["label"] == 0) & (pairs["negatives"] == "easy")].any()
    assert same_type[(pairs["label"] == 0) & (pairs["negatives"] == "hard")].all()


def test_metrics_are_those_of_the_kept_scores(bi2former_run):
    pairs = pd.read_parquet(bi2former_run.out / "pairs.parquet")
    scales = json.loads((bi2former_run.out / "scales.json").read_text())
    table = bi2former_run.scores.metrics.set_index(["model", "negatives", "metric"])["value"]
    for model in scales:
        for kind, part in pairs.groupby("negatives"):
            assert table[model, kind, "auroc"] == metrics.auroc(part["label"], part[model])
            assert table[model, kind, "auprc"] == metrics.auprc(part["label"], part[model])
            right = (Scale(**scales[model])(part[model]) > 0.5) == (part["label"] == 1)
            assert table[model, kind, "accuracy"] == pytest.approx(right.mean())
            assert table[model, kind, "prevalence"] == 0.5


def test_same_seed_same_numbers_other_seed_other_split(small, bi2former_run, tmp_path):
    again = quick(small.data, tmp_path / "again", db=small.db)
    pd.testing.assert_frame_equal(again.metrics, bi2former_run.scores.metrics, check_exact=True)
    quick(small.data, tmp_path / "other", db=small.db, seed=1)
    assert not split_of(tmp_path / "other").equals(split_of(bi2former_run.out))


def test_attributes_are_made_of_training_cells(small, bi2former_run):
    split = split_of(bi2former_run.out)
    graph = HeteroGraph.load(bi2former_run.out / "graph")
    rna = small.made.mdata["rna"]
    column = graph.meta["attribute_names"]["gene"].index("share")
    training = rna[split.index[split == "train"]]
    share = pd.Series(np.asarray((training.X > 0).mean(axis=0)).ravel(), index=rna.var_names)
    found = graph.ndata("gene")["attributes"][:, column].numpy()
    expected = share.loc[graph.names["gene"]].to_numpy()
    np.testing.assert_allclose(found, (expected - expected.mean()) / expected.std(), atol=1e-5)


def test_split_and_group_columns_are_honoured(small, tmp_path):
    quick(small.data, tmp_path / "fixed", "split.column=part", db=small.db)
    assert split_of(tmp_path / "fixed").tolist() == MADE_PARTS.tolist()
    quick(small.data, tmp_path / "grouped", "split.group_column=donor", db=small.db)
    split = split_of(tmp_path / "grouped")
    donor = small.made.mdata["rna"].obs["donor"].loc[split.index]
    assert (split.groupby(donor.to_numpy()).nunique() == 1).all()
    assert set(split) == {"train", "validation", "test"}


def test_a_split_follows_its_cells_where_some_have_one_profile(small, tmp_path):
    def drop(name, data):
        return data[::-1][5:] if name == "atac" else data[3:]

    data = changed(small.made, tmp_path / "some.h5mu", drop)
    quick(data, tmp_path / "run", "split.column=part", db=small.db)
    parts = pd.Series(MADE_PARTS, index=small.made.mdata.obs_names)
    split = split_of(tmp_path / "run")
    assert split.to_dict() == parts.iloc[3:-5].to_dict()
    graph = HeteroGraph.load(tmp_path / "run" / "graph")
    assert (graph.num_nodes("rna_cell"), graph.num_nodes("atac_cell")) == (77, 75)


def test_negatives_within_batches(small, tmp_path, monkeypatch):
    quick(small.data, tmp_path / "run", "within=batch", db=small.db)
    pairs, batch = pd.read_parquet(tmp_path / "run" / "pairs.parquet"), small.made.mdata["rna"].obs["batch"]
    assert (batch.loc[pairs["rna_cell"]].to_numpy() == batch.loc[pairs["atac_cell"]].to_numpy()).all()
    assert batch.nunique() > 1
    seen, draw = [], room.make_pairs
    monkeypatch.setattr(
        room, "make_pairs", lambda *args, **options: seen.append(options["within"]) or draw(*args, **options)
    )
    evaluate(tmp_path / "run", data=small.data)
    assert [list(each) for each in seen] == [batch.tolist()] * 2
    (tmp_path / "run" / "scales.json").unlink()
    with pytest.raises(DataError, match=r"lacks scales.json: it is of an earlier version. Fix: train again"):
        evaluate(tmp_path / "run")
    with pytest.raises(DataError, match="the graph has no batches. Fix: bipartite"):
        quick(small.data, tmp_path / "other", "within=batch", "data.batch=donors", db=small.db)


def test_window_mask_is_kept(small, tmp_path):
    quick(small.data, tmp_path / "run", "data.mask=window", "data.within_bp=50_000", db=small.db)
    graph = HeteroGraph.load(tmp_path / "run" / "graph")
    model = Bi2Former.load(tmp_path / "run" / "model", graph)
    assert (graph.meta["mask"], model.mask, model.within_bp) == ("window", "window", 50_000)


def test_a_graph_built_before_will_do(small, graph_folder, tmp_path):
    scores = quick(small.data, tmp_path / "run", graph=graph_folder)
    card = Run.read(tmp_path / "run")
    assert (card.db, card.graph) == (None, str(graph_folder.resolve()))
    assert card.sha256["graph"] == sha256_of(graph_folder / "schema.json")
    assert diff(HeteroGraph.load(graph_folder), HeteroGraph.load(tmp_path / "run" / "graph")) == []
    assert set(scores.metrics["negatives"]) == {"easy", "hard"}
    split = split_of(tmp_path / "run").to_numpy()
    np.testing.assert_array_equal(split == "train", MADE_PARTS == "train")
    assert sorted(split[split != "train"]) == ["test"] * 15 + ["validation"] * 15


def test_a_graph_that_knows_its_test_cells_is_refused(small, tmp_path):
    folder = graphs.build("bipartite", small.data, small.db).save(tmp_path / "g")
    with pytest.raises(ModelError, match=r"attributes mean, share, variance were made from all 80 cells, so that test"):
        quick(small.data, tmp_path / "run", graph=folder)
    sets = ["gene_attributes=[strand, log_length]", "peak_attributes=[log_width]"]
    folder = graphs.build("bipartite", small.data, small.db, sets=sets).save(tmp_path / "g")
    quick(small.data, tmp_path / "run", graph=folder)
    assert split_of(tmp_path / "run").value_counts().to_dict() == {"train": 56, "validation": 12, "test": 12}


def test_a_graph_has_no_columns_to_split_by(small, graph_folder, tmp_path):
    for column in ("column", "group_column"):
        with pytest.raises(ModelError, match="--graph: a graph holds no columns to split by"):
            quick(small.data, tmp_path / "run", f"split.{column}=donor", graph=graph_folder)
    assert list(tmp_path.iterdir()) == []


def test_a_graph_comes_with_its_own_store(small, graph_folder, tmp_path):
    quick(small.data, tmp_path / "run", graph=graph_folder, db=small.db)
    again, other = tmp_path / "again.duckdb", tmp_path / "other.duckdb"
    sets = [f"source.folder={small.data.parent}"]
    PriorStore.build("demo", again, sets=sets, progress=False).close()
    quick(small.data, tmp_path / "run2", graph=graph_folder, db=again)
    PriorStore.build("demo", other, sets=[*sets, "edges.gene_peak.within_bp=1_000"], progress=False).close()
    with pytest.raises(ModelError, match=r"other\.duckdb: the graph was .* this one has content \w+\. Fix: give the"):
        quick(small.data, tmp_path / "wrong", graph=graph_folder, db=other)


def test_a_store_built_again_from_other_files_is_another_store(small, graph_folder, tmp_path):
    sources, db = tmp_path / "synthetic", tmp_path / "priors.duckdb"
    shutil.copytree(small.data.parent, sources)
    changed_sets = sources / "pathways.gmt"
    changed_sets.write_text(changed_sets.read_text().split("\n", 1)[1])
    PriorStore.build("demo", db, sets=[f"source.folder={sources}"], progress=False).close()
    with pytest.raises(ModelError, match=r"the same recipe, but other sources or code"):
        quick(small.data, tmp_path / "wrong", graph=graph_folder, db=db)


def test_another_kind_of_graph_is_refused(small, tmp_path):
    folder = graphs.build("cell_feature", small.data).save(tmp_path / "g")
    with pytest.raises(ModelError, match="found a graph of kind cell_feature, expected bipartite"):
        quick(small.data, tmp_path / "run", graph=folder)
    with pytest.raises(DataError, match=r"--graph .*nowhere holds no graph\. Fix: `heteromics graph build bipartite"):
        quick(small.data, tmp_path / "run", graph=tmp_path / "nowhere")
    assert [path.name for path in tmp_path.iterdir()] == ["g"]


def unpaired(name, data):
    data.obs_names = [f"{name}_{cell}" for cell in data.obs_names]
    return data


def test_no_paired_cell_is_an_error_and_leaves_no_folder(small, tmp_path):
    data = changed(small.made, tmp_path / "unpaired.h5mu", unpaired)
    with pytest.raises(DataError, match=r"unpaired\.h5mu: no cell has both profiles\. Fix: name cells alike in both"):
        quick(data, tmp_path / "run", db=small.db)
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("sets", "error", "message"),
    [
        pytest.param(
            ["split.column=cell_type"], DataError, "found type_1, type_2, expected train, validation, test", id="words"
        ),
        pytest.param(["data.rna_layer=spliced"], DataError, "spliced", id="layer"),
        pytest.param(
            ["data.cell_type=type"],
            MissingLayer,
            "found no column 'type' in obs of rna. Columns: cell",
            id="cell types",
        ),
    ],
)
def test_what_is_not_in_the_data_is_named_and_leaves_no_folder(small, tmp_path, sets, error, message):
    with pytest.raises(error, match=re.escape(message)):
        quick(small.data, tmp_path / "run", *sets, db=small.db)
    assert list(tmp_path.iterdir()) == []


def test_a_modality_that_is_not_there_is_named(small, tmp_path):
    with mudata.set_options(pull_on_update=False):
        mudata.MuData({name: small.made.mdata[name].copy() for name in ("rna", "protein")}).write(tmp_path / "rna.h5mu")
    with pytest.raises(MissingModality, match="atac"):
        quick(tmp_path / "rna.h5mu", tmp_path / "run", db=small.db)
    assert not (tmp_path / "run").exists()


def test_neither_store_nor_graph(small, tmp_path):
    with pytest.raises(ModelError, match=r"needs chromosomes and positions\. Fix: --db FILE"):
        quick(small.data, tmp_path / "run")
    assert list(tmp_path.iterdir()) == []

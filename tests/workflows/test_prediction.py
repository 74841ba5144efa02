import json
import re

import numpy as np
import pandas as pd
import pytest
from scipy import sparse

from heteromics.errors import DataError, MissingLayer, MissingModality, ModelError
from heteromics.models import ScMoGNN
from heteromics.workflows.prediction import read_pair, split_codes
from heteromics.workflows.settings import PredictionData, SplitSettings
from heteromics.workflows.train import train
from tests.workflows.small import MADE_PARTS, SCMOGNN, changed, split_of

FILES = [
    "features.parquet", "history.json", "measured.parquet", "metrics.json", "model", "predictions_featuremean.parquet",
    "predictions_scmognn.parquet", "predictions_svdridge.parquet", "run.json", "split.parquet",
]  # fmt: skip


def quick(data, out, *sets, **options):
    return train("scmognn", "prediction", data, out=out, device="cpu", sets=(*SCMOGNN, *sets), **options)


def test_a_finished_run_holds_everything_and_no_checkpoint(scmognn_run):
    assert sorted(path.name for path in scmognn_run.out.iterdir()) == FILES
    assert len(json.loads((scmognn_run.out / "history.json").read_text())) == scmognn_run.scores.notes["epochs"] == 3
    metrics = pd.DataFrame(json.loads((scmognn_run.out / "metrics.json").read_text()))
    pd.testing.assert_frame_equal(metrics, scmognn_run.scores.metrics)
    assert set(metrics["model"]) == {"ScMoGNN", "SVDRidge", "FeatureMean"}
    assert ScMoGNN.load(scmognn_run.out / "model").features["target"] == tuple(
        pd.read_parquet(scmognn_run.out / "measured.parquet").columns
    )


def test_metrics_are_those_of_test_cells_alone(small, scmognn_run):
    run = scmognn_run.out
    split = split_of(run)
    test = split.index[split == "test"]
    measured = pd.read_parquet(run / "measured.parquet")
    assert list(measured.index) == list(test)
    protein = small.made.mdata["protein"][test]
    np.testing.assert_allclose(measured, np.log1p(protein.X.toarray()), rtol=1e-6)
    for model in ("ScMoGNN", "SVDRidge", "FeatureMean"):
        predicted = pd.read_parquet(run / f"predictions_{model.lower()}.parquet")
        assert list(predicted.index) == list(test)
        rmse = float(np.sqrt(np.mean((predicted.to_numpy(float) - measured.to_numpy(float)) ** 2)))
        rows = scmognn_run.scores.metrics.query("model == @model and metric == 'rmse'")
        assert rows["value"].item() == pytest.approx(rmse, rel=1e-6)


def test_nothing_of_a_test_cells_proteins_reaches_a_model(small, scmognn_run, tmp_path):
    test = (split_of(scmognn_run.out) == "test").to_numpy()

    def spoil(name, data):
        if name == "protein":
            data.X = sparse.csr_matrix(np.where(test[:, None], 999, data.X.toarray()))
        return data

    data = changed(small.made, tmp_path / "spoilt.h5mu", spoil)
    quick(data, tmp_path / "run", db=small.db)
    for name in ("scmognn", "svdridge", "featuremean"):
        file = f"predictions_{name}.parquet"
        pd.testing.assert_frame_equal(pd.read_parquet(tmp_path / "run" / file), pd.read_parquet(scmognn_run.out / file))


def test_same_seed_same_numbers_other_seed_other_split(small, scmognn_run, tmp_path):
    again = quick(small.data, tmp_path / "again", db=small.db)
    pd.testing.assert_frame_equal(again.metrics, scmognn_run.scores.metrics, check_exact=True)
    other = quick(small.data, tmp_path / "other", db=small.db, seed=1)
    assert not split_of(tmp_path / "other").equals(split_of(scmognn_run.out))
    assert not other.metrics.equals(scmognn_run.scores.metrics)


def test_split_column_is_taken_as_it_is(small, tmp_path):
    scores = quick(small.data, tmp_path / "run", "split.column=part")
    assert split_of(tmp_path / "run").tolist() == MADE_PARTS.tolist()
    assert [scores.notes[f"{part} cells"] for part in ("train", "validation", "test")] == [50, 14, 16]


def test_no_group_is_in_two_parts(small, tmp_path):
    quick(small.data, tmp_path / "run", "split.group_column=donor")
    split = split_of(tmp_path / "run")
    donor = small.made.mdata["rna"].obs["donor"].loc[split.index]
    assert (split.groupby(donor.to_numpy()).nunique() == 1).all()
    assert set(split) == {"train", "validation", "test"}


def test_pathways_come_from_a_gmt_file(small, tmp_path):
    gmt = small.data.parent / "pathways.gmt"
    quick(small.data, tmp_path / "run", f"data.gmt={gmt}")
    assert ScMoGNN.load(tmp_path / "run" / "model")._pathway is not None
    assert json.loads((tmp_path / "run" / "run.json").read_text())["settings"]["data"]["gmt"] == str(gmt)


def test_cells_with_both_modalities_are_kept_and_the_others_counted(small, tmp_path):
    data = changed(small.made, tmp_path / "part.h5mu", lambda name, x: x[10:] if name == "protein" else x[:70])
    pair = read_pair(data, PredictionData())
    assert list(pair.rna.obs_names) == list(pair.target.obs_names) == list(small.made.mdata.obs_names[10:70])
    assert pair.notes == {"paired cells": 60, "cells with rna only": 10, "cells with protein only": 10}


def test_counts_are_transformed_and_normalised_values_are_not(small):
    counts = small.made.mdata["rna"].X.toarray()
    pair = read_pair(small.data, PredictionData())
    np.testing.assert_allclose(
        pair.rna.X.toarray(), np.log1p(counts / counts.sum(1, keepdims=True) * 1e4), rtol=1e-5, atol=1e-6
    )
    as_given = read_pair(small.data, PredictionData(values="normalised", target_values="normalised"))
    np.testing.assert_array_equal(as_given.rna.X.toarray(), counts)


@pytest.mark.parametrize(
    ("batch", "found"),
    [
        pytest.param("donor", [f"donor_{i}" for i in range(8)], id="another column"),
        pytest.param("batch", ["section_1", "section_2"], id="the usual column"),
        pytest.param(None, None, id="none"),
    ],
)
def test_batches_come_from_the_column_asked_for(small, batch, found):
    obs = read_pair(small.data, PredictionData(batch=batch)).rna.obs
    assert (sorted(set(obs["batch"])) if "batch" in obs else None) == found


def unpaired(name, data):
    data.obs_names = [f"{name}_{cell}" for cell in data.obs_names]
    return data


def test_no_paired_cell_names_both_sides_and_leaves_no_folder(small, tmp_path):
    data = changed(small.made, tmp_path / "unpaired.h5mu", unpaired)
    with pytest.raises(
        DataError, match=r"none of 80 cells with rna \(rna_cell_01, .*\) is among the 80 cells with pro"
    ):
        quick(data, tmp_path / "run")
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("sets", "error", "message"),
    [
        pytest.param(["split.column=parts"], MissingLayer, "found no column 'parts' in obs. Columns: ", id="column"),
        pytest.param(["split.group_column=dono"], MissingLayer, "found no column 'dono' in obs", id="group column"),
        pytest.param(
            ["split.column=cell_type"],
            DataError,
            "split column 'cell_type': found type_1, type_2, expected train, validation, test",
            id="words",
        ),
        pytest.param(["data.batch=bach"], MissingLayer, "data.batch: found no column 'bach' in obs", id="batch"),
        pytest.param(["data.modality=spliced"], MissingModality, "spliced", id="modality"),
        pytest.param(["data.layer=counts"], MissingLayer, "counts", id="layer"),
    ],
)
def test_what_is_not_in_the_data_is_named_and_leaves_no_folder(small, tmp_path, sets, error, message):
    with pytest.raises(error, match=re.escape(message)):
        quick(small.data, tmp_path / "run", *sets)
    assert list(tmp_path.iterdir()) == []


def test_an_empty_part_is_counted(small, tmp_path):
    def without_test(name, data):
        data.obs["part"] = np.where(data.obs["part"] == "test", "train", data.obs["part"])
        return data

    data = changed(small.made, tmp_path / "data.h5mu", without_test)
    with pytest.raises(DataError, match=r"66 training \(0\), 14 validation \(1\), 0 test \(2\)"):
        quick(data, tmp_path / "run", "split.column=part")
    assert not (tmp_path / "run").exists()


def test_drawn_shares_are_met(small):
    rna = small.made.mdata["rna"]
    codes = split_codes(rna, SplitSettings(validation_share=0.25, test_share=0.5), seed=3)
    assert np.bincount(codes).tolist() == [20, 20, 40]


def test_a_graph_is_refused(small, bi2former_run, tmp_path):
    with pytest.raises(ModelError, match="--graph: found one for scmognn"):
        quick(small.data, tmp_path / "run", graph=bi2former_run.out / "graph")

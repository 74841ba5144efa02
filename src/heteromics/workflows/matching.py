"""Cross-modal matching from files to a finished run."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray

from heteromics import _config
from heteromics._files import write_json
from heteromics.data.splits import split_cells
from heteromics.errors import DataError, MissingLayer, ModelError, some
from heteromics.models._io import check_features
from heteromics.workflows.prediction import PARTS, split_codes
from heteromics.workflows.results import Scores
from heteromics.workflows.settings import MatchingData, MatchingSettings, SplitSettings

if TYPE_CHECKING:
    from anndata import AnnData

    from heteromics.graphs import HeteroGraph
    from heteromics.tasks.matching import MatchingResult
    from heteromics.workflows.run import Run

SCALES = "scales.json"
OTHER_DATA = "other data"


def train_matching(
    path: Path,
    settings: MatchingSettings,
    out: Path,
    db: Path | None,
    graph_folder: Path | None,
    *,
    seed: int,
    device: str,
    resume: bool,
) -> Scores:
    """Train Bi2Former on a file, score it beside the cell-type-only control on test cells, write the run to ``out``.

    Attributes of genes and peaks are made from training cells; a graph built before brings its own.
    """
    from heteromics.tasks.matching import run_matching

    graph, codes = _graph_and_split(path, settings, db, graph_folder, seed)
    result = run_matching(
        graph,
        codes,
        config=settings.model,
        negatives=settings.negatives,
        within=settings.within,
        max_epochs=settings.fit.max_epochs,
        seed=seed,
        device=device,
        folder=out,
        resume=resume,
    )
    write_matching(out, graph, codes, result)
    cells = {f"{word} cells": int((codes == code).sum()) for word, code in PARTS.items()}
    unplaced = {
        f"{side}s without a chromosome": len(graph.meta["match"][side]["unplaced"]) for side in ("gene", "peak")
    }
    return Scores(result.metrics, notes={**cells, **unplaced, "epochs": len(result.model.history)})


def read_multiome(path: Path | str, settings: MatchingData) -> tuple[AnnData, AnnData]:
    """Read RNA and ATAC counts of one file; cells need not be the same.

    Raises
    ------
    MissingLayer
        When the column with cell types is not there.
    """
    from heteromics.data.readers import read

    rna = read(path, modality="rna", layer=settings.rna_layer, expect="counts")
    if settings.cell_type not in rna.obs:
        raise MissingLayer(
            f"data.cell_type: found no column '{settings.cell_type}' in obs of rna. "
            f"Columns: {some(rna.obs.columns, 12)}."
        )
    return rna, read(path, modality="atac", layer=settings.atac_layer, expect="counts")


def _graph_and_split(
    path: Path, settings: MatchingSettings, db: Path | None, folder: Path | None, seed: int
) -> tuple[HeteroGraph, NDArray[np.int8]]:
    """Build the graph, or load it, and give each cell with both profiles its part, in the order of its RNA rows."""
    from heteromics.graphs import HeteroGraph
    from heteromics.tasks.matching import paired_rows

    if folder is not None:
        if settings.split.column or settings.split.group_column:
            raise ModelError(
                "--graph: a graph holds no columns to split by. Fix: drop split.column, or build with --db."
            )
        graph = HeteroGraph.load(folder)
        if graph.kind != "bipartite":
            raise ModelError(f"--graph {folder}: found a graph of kind {graph.kind}, expected bipartite.")
        _check_store(graph, db)
        rows, _ = paired_rows(graph)
        return graph, _split_of_graph(graph, rows, settings.split, seed, folder)
    if db is None:
        raise ModelError(
            "matching needs chromosomes and positions. Fix: --db FILE (heteromics priors build), or --graph."
        )
    rna, atac = read_multiome(path, settings.data)
    paired = rna[rna.obs_names.isin(atac.obs_names)]
    if not paired.n_obs:
        raise DataError(f"{path}: no cell has both profiles. Fix: name cells alike in both modalities.")
    codes = split_codes(paired, settings.split, seed)
    training = paired.obs_names[codes == PARTS["train"]].to_numpy(str)
    return build_bipartite(rna, atac, settings.data, db, training), codes


SUMMARIES = {"mean", "variance", "share"}


def _split_of_graph(
    graph: HeteroGraph, rows: NDArray[np.int64], share: SplitSettings, seed: int, folder: Path
) -> NDArray[np.int8]:
    """Split paired cells so that no cell whose values are in the attributes is validated or tested on.

    Raises
    ------
    ModelError
        When attributes over cells were made from all of them.
    """
    training = np.logical_and(
        *(
            graph.ndata(side)
            .get("training", torch.ones(graph.num_nodes(side), dtype=torch.bool))
            .numpy()[rows[:, column]]
            for column, side in enumerate(("rna_cell", "atac_cell"))
        )
    )
    names = graph.names["rna_cell"][rows[:, 0]]
    if not training.all():
        held_out = share.validation_share + share.test_share
        codes = np.full(len(rows), PARTS["train"], dtype=np.int8)
        shares = (0.0, share.validation_share / held_out, share.test_share / held_out)
        codes[~training] = split_cells(names[~training], shares=shares, seed=seed)
        return codes
    summaries = sorted(SUMMARIES & {name for side in graph.meta["attribute_names"].values() for name in side})
    if summaries:
        raise ModelError(
            f"--graph {folder}: its attributes {', '.join(summaries)} were made from all {len(rows):,} cells, so that "
            "test cells would be known in training.\n"
            "  Fix: heteromics graph build bipartite ... --set training.column=COLUMN, or train with --db instead."
        )
    shares = (1 - share.validation_share - share.test_share, share.validation_share, share.test_share)
    return split_cells(names, shares=shares, seed=seed)


def _check_store(graph: HeteroGraph, db: Path | None) -> None:
    """Make sure that a store given beside a graph is the one the graph was built with."""
    from heteromics.graphs.hashing import other_store
    from heteromics.priors import PriorStore

    if db is None:
        return
    with PriorStore.open(db) as store:
        if why := other_store(graph.meta["store"], store.info):
            raise ModelError(f"--db {db}: {why}. Fix: give the store of the graph, or build the graph again.")


def build_bipartite(
    rna: AnnData, atac: AnnData, settings: MatchingData, db: Path | str, training: NDArray[np.str_] | None
) -> HeteroGraph:
    """Build the graph with the store at ``db``."""
    from heteromics.graphs import bipartite
    from heteromics.priors import PriorStore

    options: dict[str, Any] = {"mask": settings.mask, "within_bp": settings.within_bp}
    options |= {"cell_type": settings.cell_type, "batch": settings.batch}
    with PriorStore.open(db) as store:
        return bipartite(rna, atac, store, training_cells=training, **options)


def write_matching(out: Path, graph: HeteroGraph, codes: NDArray[np.int8], result: MatchingResult) -> None:
    """Write model, graph, split, scored pairs, metrics and history."""
    import pandas as pd

    from heteromics.tasks.matching import paired_rows

    result.model.save(out / "model")
    graph.save(out / "graph")
    cells = graph.names["rna_cell"][paired_rows(graph)[0][:, 0]]
    words = {int(code): word for word, code in PARTS.items()}
    split = pd.DataFrame({"cell": cells, "split": [words[int(code)] for code in codes]})
    split.to_parquet(out / "split.parquet")
    result.pairs.to_parquet(out / "pairs.parquet")
    write_json(out / SCALES, {name: _config.as_dict(scale) for name, scale in result.scales.items()})
    write_json(out / "metrics.json", result.metrics.to_dict("records"))
    write_json(out / "history.json", result.model.history)


def evaluate_matching(run: Run, folder: Path, data: Path | None) -> Scores:
    """Score the saved model on the test pairs of its run, or on easy and hard pairs of every cell of other data.

    Probabilities are scaled as in the run, on its validation pairs.
    """
    import pandas as pd

    from heteromics.graphs import HeteroGraph
    from heteromics.models.bi2former import Bi2Former
    from heteromics.tasks._paired import batches_of
    from heteromics.tasks.matching import Scale, make_pairs, paired_rows
    from heteromics.tasks.matching_scores import score

    if not (folder / SCALES).is_file():
        raise DataError(f"{folder} lacks {SCALES}: it is of an earlier version. Fix: train again.")
    if data is None:
        graph = HeteroGraph.load(folder / "graph")
        table = pd.read_parquet(folder / "pairs.parquet")[["negatives", "rna_cell", "atac_cell", "label"]]
        where, split = "held-out test cells", "test"
        pairs = np.stack([graph.index(side, table[side]) for side in ("rna_cell", "atac_cell")], axis=1)
    else:
        graph = _graph_of_other(run, folder, data)
        rows, types = paired_rows(graph)
        within = batches_of(graph, rows) if run.settings.get("within") == "batch" else None
        drawn = {mode: make_pairs(rows, types, mode=mode, within=within, seed=run.seed) for mode in ("easy", "hard")}
        table = pd.concat([pd.DataFrame({"negatives": mode, "label": y}) for mode, (_, y) in drawn.items()])
        where, split = f"all {len(rows):,} cells of {data}", OTHER_DATA
        pairs = np.concatenate([p for p, _ in drawn.values()])
    model = Bi2Former.load(folder / "model", graph)
    kinds = [np.flatnonzero(table["negatives"] == kind) for kind in table["negatives"].unique()]
    parts = [model.predict(pairs[rows], device=run.place, progress=True) for rows in kinds]
    table["Bi2Former"] = np.concatenate(parts)  # batches as in training, for the same numbers to the last bit
    scale = json.loads((folder / SCALES).read_text(encoding="utf-8"))["Bi2Former"]
    metrics = score(table.reset_index(drop=True), {"Bi2Former": Scale(**scale)}, split)
    return Scores(metrics, where, {"pairs": len(table)})


def _graph_of_other(run: Run, folder: Path, data: Path) -> HeteroGraph:
    """Build the graph of other data with exactly the genes and peaks of the run."""
    if run.db is None:
        raise ModelError(
            f"{folder} was trained on a graph folder, without a store. Fix: train with --db to score other data."
        )
    settings = _config.build(MatchingSettings, run.settings, f"{folder}/run.json").data
    rna, atac = read_multiome(data, settings)
    features = json.loads((folder / "model" / "model.json").read_text(encoding="utf-8"))["features"]
    for role, adata in (("gene", rna), ("peak", atac)):
        check_features({role: sorted(features[role])}, {role: sorted(map(str, adata.var_names))}, "Bi2Former")
    return build_bipartite(rna[:, features["gene"]], atac[:, features["peak"]], settings, run.db, None)

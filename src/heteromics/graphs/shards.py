"""Graphs of more cells than memory holds: a folder of shards, each a graph of some cells and all other nodes.

::

    shards.json    format, version, kind, cells and checksum of every shard, card and meta of the whole
    shard-00000/   a graph folder (:mod:`heteromics.graphs.io`): consecutive cells, all features, edges among features
    shard-00001/   ...

What a shard says of its nodes is what the whole says: averages over a batch are over all its cells in all shards, and
the degree of a feature counts all cells. Shards laid end to end are the graph that would have been built whole.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from heteromics import _config
from heteromics._files import sha256_of, whole_folder, write_text
from heteromics._progress import track
from heteromics.errors import GraphError, some
from heteromics.graphs._shard_build import CellFeatureShards, regrouped, shard_note
from heteromics.graphs._sharded import FORMAT, INDEX, SCHEMA, VERSION, ShardedGraph, read_index
from heteromics.graphs._subgraph import ROW, Cutter
from heteromics.graphs.card import CardSum
from heteromics.graphs.io import load_graph, save_graph
from heteromics.graphs.sampling import CELL
from heteromics.graphs.schema import HeteroGraph

if TYPE_CHECKING:
    from anndata import AnnData

    from heteromics.graphs._cell_values import Expect
    from heteromics.graphs._feature_edges import Interactions
    from heteromics.graphs.cell_feature import Weighting

__all__ = ["ShardedGraph", "build_in_shards", "build_shards", "save_shards"]


def build_shards(
    source: AnnData | Path | str,
    out: Path | str,
    *,
    cells_per_shard: int,
    blocks: Iterable[Any] | None = None,
    modality: str = "rna",
    layer: str = "X",
    pathways: Any = None,
    interactions: Interactions | None = None,
    training_cells: Any = None,
    threshold: float = 0.1,
    weighting: Weighting = "cosine",
    obs: Sequence[str] | None = None,
    expect: Expect = "normalised",
) -> ShardedGraph:
    """Build the cell-feature graph of any number of cells, shard by shard.

    Parameters
    ----------
    source
        An AnnData, in memory or backed, or the path of an ``.h5ad``, ``.h5mu`` or ``.zarr``, which is read block by
        block where its values are stored by row. (Of values stored by column, all are held in memory.)
    out
        Folder: new, empty, or older shards, which are replaced. It is whole or unchanged, whatever happens meanwhile.
    cells_per_shard
        Cells of each shard but the last.
    blocks
        The values of ``source``'s cells from top to bottom, in place of its ``X``, which may then be absent: CSR or
        dense, each (some rows, features), of any heights. A generator is read once.
    modality, layer
        For a path, as in :func:`heteromics.data.read`.
    pathways, interactions, training_cells, threshold, weighting, obs, expect
        As in :func:`heteromics.graphs.cell_feature`.

    Returns
    -------
    ShardedGraph

    Raises
    ------
    GraphError, DataError
        As :func:`heteromics.graphs.cell_feature`; nothing is left at ``out``.

    Notes
    -----
    One pass over the values. Statistics of cells are summed by batch in the order of cells, so that averages are those
    of the whole graph bit for bit; weights of pathway edges are sums over shards and may differ from those of the whole
    by float32 rounding (1e-6). One shard is written while the next is made. Memory: about eight times the values of one
    shard (index and value, 8 bytes each), and the names and codes of all cells: with 10,000 cells of 2,000 values to
    a shard, the process was seen to hold 1.4 GB at most; with 100,000, expect more than 12.

    Examples
    --------
    >>> import tempfile
    >>> import numpy as np
    >>> from anndata import AnnData
    >>> cells = AnnData(np.array([[1, 2], [0, 3], [4, 0]], np.float32))
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     sharded = build_shards(cells, folder, cells_per_shard=2)
    ...     print(sharded, [shard.num_edges(("cell", "expresses", "feature")) for shard in sharded])
    ShardedGraph(kind='cell_feature', 2 shards, 3 cells) [3, 1]
    """
    options = {
        "pathways": pathways,
        "interactions": interactions,
        "training_cells": training_cells,
        "threshold": threshold,
        "weighting": weighting,
        "obs": obs,
        "expect": expect,
        "check": expect,
        "transform": "none",
    }
    if isinstance(source, Path | str):
        from heteromics.data.blocks import open_backed

        with open_backed(source, modality=modality, layer=layer) as cells:
            return _build(cells, blocks, Path(out), cells_per_shard, options, {})
    return _build(source, blocks, Path(out), cells_per_shard, options, {})


def build_in_shards(
    recipe: str | Path,
    data: Path | str,
    out: Path | str,
    cells_per_shard: int,
    db: Path | str | None = None,
    *,
    sets: Sequence[str] = (),
) -> ShardedGraph:
    """Build the graph of a recipe in shards of cells.

    Parameters
    ----------
    recipe, data, db, sets
        As in :func:`heteromics.graphs.recipe.build`. A ``cell_feature`` graph is built shard by shard
        (:func:`build_shards`), from ``.h5ad``, ``.h5mu`` or ``.zarr``. A ``multiomics`` graph is built whole, in
        memory, and then cut (:func:`save_shards`).
    out, cells_per_shard
        As in :func:`build_shards`.

    Raises
    ------
    GraphError
        For a kind of graph that is not made of cells with their features.
    """
    from heteromics.data.blocks import open_backed
    from heteromics.graphs import recipe as recipes
    from heteromics.graphs.recipes.cell_feature import CellFeatureRecipe

    checked = recipes.load_recipe(recipe, sets)
    if checked.graph not in ("cell_feature", "multiomics"):
        raise GraphError(
            f"a {checked.graph} graph is not divided into shards by cells, only cell_feature and multiomics graphs "
            "are.\n  Fix: build it without --cells-per-shard."
        )
    _check_out(Path(out), cells_per_shard)
    if not isinstance(checked, CellFeatureRecipe) or checked.other_modalities:
        return save_shards(recipes.build(recipe, data, db, sets=sets), out, cells_per_shard=cells_per_shard)
    how = checked.data
    with open_backed(data, modality=how.modality, layer=how.layer) as cells, recipes._opened(db) as store:
        options = {
            "pathways": store,
            "interactions": checked.linked(store),
            "training_cells": checked.training.cells(cells),
            "threshold": checked.pathways.threshold,
            "weighting": checked.pathways.weighting,
            "obs": checked.obs,
            "expect": "normalised",
            "check": how.values,
            "transform": how.transform,
        }
        extra = {"recipe": _config.as_dict(checked)}
        return _build(cells, None, Path(out), cells_per_shard, options, extra)


def save_shards(graph: HeteroGraph, out: Path | str, *, cells_per_shard: int) -> ShardedGraph:
    """Write a graph that is in memory as shards of consecutive cells.

    Parameters
    ----------
    graph
        With nodes ``cell`` and no edges between cells, which would be torn.
    out, cells_per_shard
        As in :func:`build_shards`.

    Raises
    ------
    GraphError
        For another graph or a folder that holds something else.
    """
    out = Path(out)
    _check_out(out, cells_per_shard)
    if CELL not in graph.ntypes:
        raise GraphError(f"found a {graph.kind} graph with nodes {some(graph.ntypes, 8)}, expected nodes 'cell'.")
    if torn := [etype for etype in graph.canonical_etypes if etype[0] == etype[2] == CELL]:
        number = sum(map(graph.num_edges, torn))
        raise GraphError(
            f"{number:,} edges {some(torn)} join cells, which shards would tear apart.\n"
            "  Fix: leave them out, or train on the whole graph, or on its parts (partition_cells counts what it cuts)."
        )
    cells = graph.num_nodes(CELL)
    starts = range(0, cells, cells_per_shard)
    cutter, total = Cutter(graph, CELL), CardSum(CELL)
    with whole_folder(out) as work:
        folders = [work / f"shard-{number:05}" for number in range(len(starts))]
        for number, first in enumerate(track(starts, "writing shards", len(starts))):
            rows = torch.arange(first, min(first + cells_per_shard, cells))
            part = cutter.take({CELL: rows}, shard_note(number, len(starts), first))
            for ntype in part.ntypes:
                part.dgl.nodes[ntype].data.pop(ROW)
            save_graph(part, folders[number])
            total.add(part)
        _write_index(work, folders, [min(cells_per_shard, cells - first) for first in starts], total, graph.meta)
    return ShardedGraph.open(out)


def _build(
    cells: AnnData,
    blocks: Iterable[Any] | None,
    out: Path,
    cells_per_shard: int,
    options: Mapping[str, Any],
    extra: Mapping[str, Any],
) -> ShardedGraph:
    from heteromics.data.blocks import row_blocks

    _check_out(out, cells_per_shard)
    parts = CellFeatureShards(cells, size=cells_per_shard, **options)
    total = CardSum(CELL)
    rows = (block for _, block in row_blocks(cells.X)) if blocks is None else blocks
    sizes = []
    with whole_folder(out) as work:
        folders = [work / f"shard-{number:05}" for number in range(parts.number)]
        values = track(regrouped(rows, cells.n_obs, cells_per_shard), "building shards", parts.number)
        with ThreadPoolExecutor(1) as writer:
            written = None
            for number, block in enumerate(values):
                part = parts.part(number, block)
                total.add(part)
                sizes.append(part.num_nodes(CELL))
                if written is not None:
                    written.result()
                written = writer.submit(save_graph, part, folders[number])
                del part, block
            if written is not None:
                written.result()
        meta = parts.finish(folders, extra)
        _write_index(work, folders, sizes, total, meta)
    return ShardedGraph.open(out)


def _check_out(out: Path, cells_per_shard: int) -> None:
    if cells_per_shard < 1:
        raise GraphError(f"cells_per_shard: found {cells_per_shard}, expected 1 or more.")
    there = out.exists() and not (out.is_dir() and not any(out.iterdir()))
    if there and read_index(out) is None:
        raise GraphError(
            f"{out} exists and holds no shards of a heteromics graph, so it is left as it is.\n"
            "  Fix: name another folder, or remove this one yourself."
        )


def _write_index(
    work: Path, folders: Sequence[Path], sizes: Sequence[int], total: CardSum, meta: Mapping[str, Any]
) -> None:
    card = total.card(load_graph(folders[0], verify=False)).as_dict()
    del card["meta"]
    shards = [
        {"name": folder.name, "cells": cells, "sha256": sha256_of(folder / SCHEMA)}
        for folder, cells in zip(folders, sizes, strict=True)
    ]
    index = {"format": FORMAT, "version": VERSION, "kind": card["kind"], "shards": shards, "card": card, "meta": meta}
    write_text(work / INDEX, json.dumps(index, indent=1, ensure_ascii=False) + "\n")

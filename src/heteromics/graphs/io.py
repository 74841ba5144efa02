"""A graph on disk: a folder of Parquet edges and names, safetensors features and one schema.json; no pickles.

::

    schema.json                      format, version, kind, types, meta, checksum of every other file
    edges/<src>-<name>-<dst>.parquet src, dst and edge data, in the order of edge ids; none for a reverse type
    names/<type>.parquet             name, in the order of nodes
    features.safetensors             <type>/<feature>
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from heteromics._files import sha256_of, whole_folder
from heteromics.errors import GraphError, some
from heteromics.graphs import _dgl
from heteromics.graphs._dgl import Compressed, EdgeType
from heteromics.graphs.kinds import Data, short
from heteromics.graphs.schema import HeteroGraph

if TYPE_CHECKING:
    import pyarrow as pa

__all__ = ["FORMAT", "VERSION", "amend_graph", "load_graph", "read_names", "read_schema", "save_graph"]

FORMAT = "heteromics graph"
VERSION = 1
_SCHEMA = "schema.json"
_FEATURES = "features.safetensors"
_PLAIN = re.compile(r"\w+")


def save_graph(graph: HeteroGraph, folder: Path | str) -> Path:
    """Write a graph; the folder is complete or unchanged, whatever happens meanwhile.

    Parameters
    ----------
    graph
        Any valid graph.
    folder
        New, empty, or an older graph, which is replaced.

    Returns
    -------
    Path
        The folder.

    Raises
    ------
    GraphError
        When the graph is not valid, the folder holds something else, or a type or edge feature cannot be written.
    """
    folder = Path(folder)
    graph.validate()
    _check_writable(graph)
    _check_replaceable(folder)
    with whole_folder(folder) as work:
        (work / "edges").mkdir()
        (work / "names").mkdir()
        edges = []
        for etype in graph.canonical_etypes:
            if etype in graph.reverse:
                edges.append({"type": etype, "reverse_of": graph.reverse[etype]})
            else:
                edges.append({"type": etype, **_write_edges(graph, etype, work / _edge_file(etype))})
        nodes = {ntype: _write_names(graph, ntype, work / _name_file(ntype)) for ntype in graph.ntypes}
        _write_features(graph, work / _FEATURES)
        files = sorted(path for path in work.rglob("*") if path.is_file())
        schema = {
            "format": FORMAT,
            "version": VERSION,
            "kind": graph.kind,
            "nodes": nodes,
            "edges": edges,
            "meta": graph.meta,
            "files": {path.relative_to(work).as_posix(): sha256_of(path) for path in files},
        }
        _write_schema(work, schema)
    return folder


def amend_graph(
    folder: Path, *, ndata: Mapping[str, Data], meta: Mapping[str, Any], shared: HeteroGraph | None = None
) -> None:
    """Complete a saved graph without reading its edges.

    File after file is written, so only in a folder that nobody else reads yet.

    Parameters
    ----------
    folder
        Written by :func:`save_graph`.
    ndata
        Features of nodes to set or to replace.
    meta
        In place of what was there.
    shared
        A graph over node types of this one whose edges are added.
    """
    from safetensors.torch import load_file, save_file

    schema = read_schema(folder)
    tensors = load_file(folder / _FEATURES)
    for ntype, data in ndata.items():
        tensors |= {f"{ntype}/{name}": tensor.contiguous() for name, tensor in data.items()}
        schema["nodes"][ntype]["features"] |= {name: short(tensor.dtype) for name, tensor in data.items()}
    save_file(tensors, folder / _FEATURES)
    changed = [_FEATURES]
    if shared is not None:
        for etype in shared.canonical_etypes:
            schema["edges"].append({"type": etype, **_write_edges(shared, etype, folder / _edge_file(etype))})
            changed.append(_edge_file(etype))
    schema["meta"] = dict(meta)
    schema["files"] |= {name: sha256_of(folder / name) for name in changed}
    _write_schema(folder, schema)


def load_graph(folder: Path | str, *, verify: bool = True) -> HeteroGraph:
    """Read a graph; edges come in the order they had, and reverse types share the memory of what they reverse.

    Parameters
    ----------
    folder
        Written by :func:`save_graph`.
    verify
        Compare the checksum of every file. False spares that where the folder was read before.

    Raises
    ------
    GraphError
        When the folder is no graph, of a format this release does not know, or a file is missing or not the one that
        was written.
    """
    folder = Path(folder)
    schema = read_schema(folder)
    _check_files(folder, schema["files"], verify)
    from safetensors.torch import load_file

    names = {ntype: _read_names(folder, ntype, int(node["number"])) for ntype, node in schema["nodes"].items()}
    edges: dict[EdgeType, Compressed] = {}
    edata, reverse = {}, {}
    for entry in schema["edges"]:
        etype = _as_etype(entry["type"])
        if "reverse_of" in entry:
            reverse[etype] = _as_etype(entry["reverse_of"])
            continue
        table = _read_table(folder / _edge_file(etype), int(entry["number"]))
        edges[etype] = _compress(
            table, entry["stored_by"], etype, {ntype: len(listed) for ntype, listed in names.items()}
        )
        edata[etype] = {name: _as_tensor(table[name]) for name in table.column_names if name not in ("src", "dst")}
    ndata: dict[str, dict[str, Tensor]] = {ntype: {} for ntype in names}
    for key, tensor in load_file(folder / _FEATURES).items():
        ntype, _, name = key.partition("/")
        ndata[ntype][name] = tensor
    return HeteroGraph.from_compressed(
        edges, names=names, ndata=ndata, edata=edata, kind=schema["kind"], meta=schema["meta"], reverse=reverse
    )


def read_names(folder: Path | str, ntype: str) -> NDArray[np.str_]:
    """Read the names of one node type of a graph folder, and only those.

    Raises
    ------
    GraphError
        As :func:`read_schema`, and for a type that is not there.
    """
    nodes = read_schema(folder)["nodes"]
    if ntype not in nodes:
        raise GraphError(f"{folder}: no node type {ntype!r} there; it has {some(nodes, 8)}.")
    return _read_names(Path(folder), ntype, int(nodes[ntype]["number"]))


def read_schema(folder: Path | str) -> dict[str, Any]:
    """Read the schema.json of a graph folder, and only that.

    Raises
    ------
    GraphError
        When the folder is no graph, or of a format this release does not know.
    """
    path = Path(folder) / _SCHEMA
    try:
        schema = json.loads(path.read_text(encoding="utf-8"))
    except (FileNotFoundError, NotADirectoryError):
        raise GraphError(f"{folder}: no heteromics graph there ({_SCHEMA} not found).") from None
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise GraphError(f"{path} is broken: {error}. Fix: save the graph again.") from error
    if not isinstance(schema, dict) or schema.get("format") != FORMAT:
        raise GraphError(f"{path}: this is no schema of a heteromics graph.")
    if schema.get("version") != VERSION:
        raise GraphError(
            f"{folder}: found graph format {schema.get('version')}, this release reads format {VERSION}.\n"
            "  Fix: build the graph again, or read it with the release that wrote it."
        )
    if absent := [word for word in ("kind", "nodes", "edges", "meta", "files") if word not in schema]:
        raise GraphError(f"{path} is broken: no {some(absent)} in it. Fix: save the graph again.")
    return schema


def _read_names(folder: Path, ntype: str, number: int) -> NDArray[np.str_]:
    return np.array(_read_table(folder / _name_file(ntype), number)["name"].to_pylist(), dtype=str)


def _edge_file(etype: EdgeType) -> str:
    return f"edges/{'-'.join(etype)}.parquet"


def _name_file(ntype: str) -> str:
    return f"names/{ntype}.parquet"


def _as_etype(listed: list[str]) -> EdgeType:
    return listed[0], listed[1], listed[2]


def _check_writable(graph: HeteroGraph) -> None:
    words = {*graph.ntypes, *(etype[1] for etype in graph.canonical_etypes)}
    problems = [f"type {word!r}: letters, digits and _ only" for word in sorted(words) if not _PLAIN.fullmatch(word)]
    for etype in graph.canonical_etypes:
        for name, tensor in graph.edata(etype).items():
            flat = tensor.ndim <= 2 and tensor.shape[1:] != (0,)
            if not flat or tensor.dtype == torch.bfloat16 or tensor.is_complex() or name in ("src", "dst"):
                problems.append(
                    f"edges {etype}: '{name}' ({short(tensor.dtype)}, shape {tuple(tensor.shape)}): Parquet takes one "
                    "or two axes, the second not empty, of integers, floats or booleans, not called src or dst"
                )
    if problems:
        raise GraphError(f"this graph cannot be written: {'; '.join(problems)}.", problems)


def _check_replaceable(folder: Path) -> None:
    if folder.is_dir() and not any(folder.iterdir()):
        return
    if folder.exists():
        try:
            there = json.loads((folder / _SCHEMA).read_text(encoding="utf-8")).get("format")
        except (OSError, ValueError, AttributeError):
            there = None
        if there != FORMAT:
            raise GraphError(
                f"{folder} exists and is no heteromics graph, so it is left as it is.\n"
                "  Fix: name another folder, or remove this one yourself."
            )


def _write_edges(graph: HeteroGraph, etype: EdgeType, path: Path) -> dict[str, Any]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    part, order = _dgl.stored(graph.dgl, etype)
    rows = torch.repeat_interleave(torch.arange(len(part.indptr) - 1, dtype=part.indices.dtype), part.indptr.diff())
    ends = (rows, part.indices) if part.by == "src" else (part.indices, rows)
    columns = {"src": pa.array(ends[0].numpy()), "dst": pa.array(ends[1].numpy())}
    for name, tensor in sorted(graph.edata(etype).items()):
        values = tensor.detach().cpu() if order is None else tensor.detach().cpu()[order.long()]
        flat = pa.array(values.reshape(-1).numpy())
        columns[name] = flat if values.ndim == 1 else pa.FixedSizeListArray.from_arrays(flat, values.shape[1])
    dictionary = ["src" if part.by == "src" else "dst"]  # long runs; all else only costs time
    pq.write_table(pa.table(columns), path, compression="zstd", use_dictionary=dictionary)
    return {"number": len(part.indices), "stored_by": part.by}


def _write_names(graph: HeteroGraph, ntype: str, path: Path) -> dict[str, Any]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    pq.write_table(pa.table({"name": pa.array(graph.names[ntype].tolist(), pa.string())}), path, compression="zstd")
    return {"number": graph.num_nodes(ntype), "features": {k: short(v.dtype) for k, v in graph.ndata(ntype).items()}}


def _write_features(graph: HeteroGraph, path: Path) -> None:
    from safetensors.torch import save_file

    tensors: dict[str, Tensor] = {}
    seen: set[int] = set()
    for ntype in graph.ntypes:
        for name, tensor in graph.ndata(ntype).items():
            own = tensor.detach().cpu().contiguous()
            memory = own.untyped_storage().data_ptr()
            tensors[f"{ntype}/{name}"] = own.clone() if memory in seen else own
            seen.add(memory)
    save_file(tensors, path)


def _write_schema(folder: Path, schema: Mapping[str, Any]) -> None:
    (folder / _SCHEMA).write_text(json.dumps(schema, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")


def _check_files(folder: Path, promised: Mapping[str, str], verify: bool) -> None:
    absent = [name for name in promised if not (folder / name).is_file()]
    if absent:
        raise GraphError(f"{folder}: {len(absent)} of {len(promised)} files are missing: {some(absent)}.", absent)
    changed = [name for name, checksum in promised.items() if verify and sha256_of(folder / name) != checksum]
    if changed:
        raise GraphError(
            f"{folder}: {len(changed)} of {len(promised)} files are not what was saved (checksum): {some(changed)}.\n"
            "  Fix: save the graph again, or copy the folder again.",
            changed,
        )


def _read_table(path: Path, rows: int) -> pa.Table:
    import pyarrow.parquet as pq

    table = pq.read_table(path)
    if table.num_rows != rows:
        raise GraphError(f"{path}: found {table.num_rows} rows, {_SCHEMA} says {rows}.")
    return table


def _as_tensor(column: Any) -> Tensor:
    import pyarrow as pa

    if not pa.types.is_fixed_size_list(column.type):
        flat = column.to_numpy()
        return torch.from_numpy(flat if flat.flags.writeable else flat.copy())
    flat = np.array(column.combine_chunks().flatten().to_numpy(zero_copy_only=False))
    return torch.from_numpy(flat.reshape(len(column), column.type.list_size))


def _compress(table: pa.Table, by: _dgl.By, etype: EdgeType, sizes: Mapping[str, int]) -> Compressed:
    rows, indices = (_as_tensor(table[name]) for name in (("src", "dst") if by == "src" else ("dst", "src")))
    size = sizes[etype[0] if by == "src" else etype[2]]
    counts = torch.bincount(rows, minlength=size)
    if len(rows) and (bool((rows.diff() < 0).any()) or len(counts) > size):
        raise GraphError(f"edges {etype}: '{by}' must rise from 0 to at most {size - 1}; the file was changed.")
    indptr = torch.cat([counts.new_zeros(1), counts.cumsum(0)]).to(indices.dtype)
    return Compressed(by, indptr, indices)

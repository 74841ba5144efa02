from itertools import groupby, pairwise

import networkx as nx
import numpy as np
import pandas as pd
import pytest

from heteromics.errors import StoreError
from heteromics.priors import PriorStore
from heteromics.priors.schemas import SCHEMAS
from tests.priors.toy_stores import random_store, write_store

SEEDS = range(3)
FLOORS = [None, 0.5, {"gene_gene": 0.7, "tf_gene": 0.3}]
WALKS = [
    *((None, floors) for floors in FLOORS),
    ("gene_gene", 0.5),
    (["gene_peak", "gene_pathway"], None),
    (["gene_peak", "gene_pathway"], {"gene_peak": 0.4}),
]
PAIRS = [
    (("gene", "E00"), ("gene", "E13")),
    (("gene", "E01"), ("peak", "chr1:300-350")),
    (("pathway", "P1"), ("gene", "E20")),
]


@pytest.fixture(scope="module")
def stores(tmp_path_factory):
    folder = tmp_path_factory.mktemp("walk")
    opened = [random_store(folder, seed) for seed in SEEDS]
    yield opened
    for store in opened:
        store.close()


def network(store, edges=None, floors=None, direction="both"):
    """The oracle's graph, from whole tables: an arc for each way an edge may be walked, with table and score."""
    graph = nx.MultiDiGraph()
    names = [edges] if isinstance(edges, str) else edges
    for schema in (SCHEMAS[name] for name in store.tables() if SCHEMAS[name].kind == "edge"):
        if names is not None and schema.name not in names:
            continue
        floor = floors.get(schema.name) if isinstance(floors, dict) else floors
        (start, start_type), (end, end_type) = schema.ends
        for kind in (start_type, end_type):
            graph.add_nodes_from((kind, node) for node in store.frame(kind)[SCHEMAS[kind].key[0]])
        for row in store.frame(schema.name).to_dict("records"):
            if schema.score and floor is not None and row[schema.score] < floor:
                continue
            ends = (start_type, row[start]), (end_type, row[end])
            data = {"table": schema.name, "score": row[schema.score] if schema.score else np.nan}
            if direction in ("both", "out") or not schema.directed:
                graph.add_edge(*ends, **data)
            if direction in ("both", "in") or not schema.directed:
                graph.add_edge(*ends[::-1], **data)
    return graph


@pytest.mark.parametrize("direction", ["both", "out", "in"])
@pytest.mark.parametrize("floors", FLOORS, ids=str)
def test_neighbors_agree_with_networkx_in_every_direction_and_with_scores(stores, direction, floors):
    for store in stores:
        graph = network(store, None, floors, direction)
        for start in (("gene", "E00"), ("gene", "E13"), ("peak", "chr1:300-350"), ("pathway", "P1")):
            for hops in (1, 2, 5):
                expected = nx.single_source_shortest_path_length(graph, start, cutoff=hops)
                found = store.neighbors(f"{start[0]}:{start[1]}", hops, direction=direction, min_score=floors)
                rows = {(row.node_type, row.node): row.hop for row in found.itertuples()}
                assert rows == {node: hop for node, hop in expected.items() if hop}


def test_via_names_the_tables_of_the_last_hop(stores):
    for store in stores:
        graph = network(store)
        for row in store.neighbors("E00").itertuples():
            tables = {
                data["table"] for data in graph.get_edge_data(("gene", "E00"), (row.node_type, row.node)).values()
            }
            assert row.via == ", ".join(sorted(tables))


@pytest.mark.parametrize(("edges", "floors"), WALKS, ids=str)
def test_paths_are_all_the_shortest_ones(stores, edges, floors):
    seen = set()
    for store in stores:
        graph = network(store, edges, floors)
        for a, b in PAIRS:
            for max_hops in (2, 3, 7):
                expected = shortest(graph, a, b, max_hops)
                found = store.paths(":".join(a), ":".join(b), max_hops, edges, floors)
                assert nodes_of(found) == expected[:100]
                assert found.attrs["n_paths"] == len(expected)
                check_links(found, graph)
                seen.add(len(expected[0]) if expected else 0)
    assert len(seen) > 1


def shortest(graph, a, b, max_hops):
    if a not in graph or b not in graph:
        return []
    try:
        paths = sorted(nx.all_shortest_paths(nx.DiGraph(graph), a, b))
    except nx.NetworkXNoPath:
        return []
    return paths if len(paths[0]) - 1 <= max_hops else []


def nodes_of(found):
    rows = zip(found["path"], found["node_type"], found["node"], strict=True)
    return [[(kind, node) for _, kind, node in path] for _, path in groupby(rows, key=lambda row: row[0])]


def check_links(found, graph):
    rows = found.to_dict("records")
    for before, row in pairwise(rows):
        if not row["step"]:
            assert row["via"] == ""
            assert np.isnan(row["score"])
            continue
        assert row["step"] == before["step"] + 1
        links = graph.get_edge_data((before["node_type"], before["node"]), (row["node_type"], row["node"])).values()
        tables = sorted({link["table"] for link in links})
        assert row["via"] == ", ".join(tables)
        best = max(link["score"] for link in links) if len(tables) == 1 else np.nan
        np.testing.assert_equal(row["score"], best)


def test_paths_can_be_cut_short_without_listing_all(tmp_path):
    """Layers of ten genes, each linked with all of the next: 10**6 shortest paths, of which three are read off."""
    layers = [["A"], *([f"L{layer}_{row}" for row in range(10)] for layer in range(6)), ["Z"]]
    genes = [{"gene_id": name, "symbol": name.lower()} for layer in layers for name in layer]
    links = [tuple(sorted((a, b))) for one, other in pairwise(layers) for a in one for b in other]
    tables = {"gene": genes, "gene_gene": [{"gene_a": a, "gene_b": b, "source": "s", "weight": 1.0} for a, b in links]}
    with PriorStore.open(write_store(tmp_path / "layers.duckdb", tables)) as store:
        found = store.paths("A", "Z", 7, most=3)
        assert found.attrs["n_paths"] == 10**6
        assert [path[6][1] for path in nodes_of(found)] == ["L5_0", "L5_1", "L5_2"]
        assert nodes_of(found)[0] == [("gene", name) for name in ["A", *(f"L{layer}_0" for layer in range(6)), "Z"]]
        assert store.paths("A", "Z", 6).empty
        assert list(store.paths("A", "Z", 6)) == list(found)


def test_paths_read_the_same_from_either_end(stores):
    for store in stores:
        there, back = store.paths("E00", "E13", 6), store.paths("E13", "E00", 6)
        assert sorted(path[::-1] for path in nodes_of(back)) == nodes_of(there)


@pytest.mark.parametrize(("edges", "floors"), WALKS, ids=str)
def test_components_agree_with_networkx(stores, edges, floors):
    for store in stores:
        found = store.components(edges, floors)
        expected = {frozenset(part) for part in nx.weakly_connected_components(network(store, edges, floors))}
        parts = found.groupby("component").apply(
            lambda part: frozenset(zip(part["node_type"], part["node"], strict=True)), include_groups=False
        )
        assert set(parts) == expected
        sizes = parts.map(len).tolist()
        assert sizes == sorted(sizes, reverse=True)
        assert (found.groupby("component").size().loc[found["component"]].to_numpy() == found["size"]).all()
        assert found.equals(found.sort_values(["component", "node_type", "node"], ignore_index=True))


@pytest.mark.parametrize("shape", ["chain", "star", "grid", "rings"])
def test_components_of_long_and_of_bushy_shapes(tmp_path, shape):
    graph = {
        "chain": nx.path_graph(300),
        "star": nx.star_graph(300),
        "grid": nx.convert_node_labels_to_integers(nx.grid_2d_graph(15, 20)),
        "rings": nx.disjoint_union_all([nx.cycle_graph(size) for size in (50, 30, 3)]),
    }[shape]
    names = {node: f"c{number:03d}" for node, number in enumerate(np.random.default_rng(0).permutation(len(graph)))}
    tables = {
        "cell": [{"cell_id": name, "library": "one"} for name in [*names.values(), "alone"]],
        "cell_cell": [
            dict(zip(("cell_a", "cell_b"), sorted((names[a], names[b])), strict=True)) for a, b in graph.edges
        ],
    }
    with PriorStore.open(write_store(tmp_path / "cells.duckdb", tables)) as store:
        found = store.components().set_index("node")["size"]
    expected = {names[node]: len(part) for part in nx.connected_components(graph) for node in part} | {"alone": 1}
    assert found.to_dict() == expected


@pytest.mark.parametrize(
    ("asked", "said"),
    [
        ({"min_score": {"gene_pathway": 0.5}}, "edges of 'gene_pathway' have no score. Tables with a score: gene_peak"),
        (
            {"min_score": {"gene_gene": 0.5}, "edges": "tf_gene"},
            "'gene_gene' is not among the edge tables walked along",
        ),
        ({"min_score": {"genes": 0.5}}, "'genes' is not among"),
        ({"min_score": 0.5, "edges": "gene_pathway"}, "none of the edge tables has a score: gene_pathway"),
        ({"min_score": float("nan")}, "found nan, expected a finite number"),
        ({"min_score": "0.5"}, "found '0.5', expected a finite number"),
        ({"edges": "gene_gena"}, "no edge table 'gene_gena'. Did you mean 'gene_gene'"),
    ],
)
def test_impossible_scores_and_tables_are_errors_everywhere(stores, asked, said):
    store = stores[0]
    for question in (store.neighbors, store.components, lambda *a, **k: store.paths("E00", "E01", **k)):
        with pytest.raises(StoreError, match=said):
            question(*(["E00"] if question == store.neighbors else []), **asked)


def test_impossible_paths_are_errors(stores):
    store = stores[0]
    with pytest.raises(StoreError, match="'E00' and 'S0' are one node, gene E00"):
        store.paths("E00", "S0")
    with pytest.raises(StoreError, match="max_hops: found 0"):
        store.paths("E00", "E01", 0)
    with pytest.raises(StoreError, match="most: found 0"):
        store.paths("E00", "E01", most=0)
    with pytest.raises(StoreError, match="'E99' is not in the store. Nearest names: E"):
        store.paths("E00", "E99")


def test_a_store_without_edges_answers_with_no_rows(tmp_path):
    with PriorStore.open(
        write_store(tmp_path / "bare.duckdb", {"gene": [{"gene_id": "A"}, {"gene_id": "B"}]})
    ) as store:
        for frame in (store.neighbors("A"), store.paths("A", "B"), store.components()):
            assert isinstance(frame, pd.DataFrame)
            assert frame.empty


def test_names_are_identifiers_then_symbols_then_aliases(tmp_path):
    tables = {
        "gene": [{"gene_id": "E1", "symbol": "POU5F1"}, {"gene_id": "E2", "symbol": "CTCF"}, {"gene_id": "POU2F1"}],
        "protein": [{"protein_id": "9606.P1", "symbol": "CTCF"}, {"protein_id": "9606.P2", "symbol": "LONE"}],
        "motif": [{"motif_id": "MA1", "name": "CTCF", "probabilities": [0.25] * 4}],
        "gene_alias": [
            {"gene_id": gene_id, "alias": alias, "kind": kind}
            for gene_id, alias, kind in (
                ("E1", "OCT4", "alias"), ("E1", "OCT4", "previous_symbol"), ("E1", "BOTH", "alias"),
                ("E2", "BOTH", "alias"), ("E2", "POU5F1", "alias"),
            )
        ],
        "gene_protein": [{"gene_id": "E2", "protein_id": "9606.P1"}],
        "motif_tf": [{"gene_id": "E2", "motif_id": "MA1"}],
    }  # fmt: skip
    with PriorStore.open(write_store(tmp_path / "names.duckdb", tables)) as store:
        assert set(store.subgraph(["OCT4", "CTCF", "motif:CTCF", "protein:CTCF", "LONE"])) == {
            *("E1", "E2", "MA1", "9606.P1", "9606.P2")
        }
        assert list(store.subgraph(["POU5F1"])) == ["E1"]
        with pytest.raises(StoreError, match="'BOTH' is ambiguous. Fix: give an id instead: E1, E2"):
            store.subgraph(["BOTH"])
        with pytest.raises(StoreError, match="'motif:CTC' is not in the store. Nearest names: CTCF"):
            store.subgraph(["motif:CTC"])

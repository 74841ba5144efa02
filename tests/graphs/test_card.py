import json
from xml.etree import ElementTree as ET

import numpy as np
import pytest
import torch

from heteromics.graphs import Compressed, HeteroGraph
from heteromics.graphs.card import Card, CardSum, graph_bytes
from heteromics.graphs.sampling import subgraph

TO = ("gene", "reaches", "peak")
BACK = ("peak", "reached_by", "gene")


@pytest.fixture
def graph():
    part = Compressed("src", torch.tensor([0, 3, 4, 4, 4]), torch.tensor([0, 1, 2, 2]))
    return HeteroGraph.from_compressed(
        {TO: part},
        names={"gene": ["A", "B", "C", "D"], "peak": ["p", "q", "r"]},
        ndata={"gene": {"chrom": torch.tensor([0, 0, 1, -1]), "x": torch.rand(4, 3)}},
        edata={TO: {"weight": torch.rand(4)}},
        kind="links",
        meta={
            "chromosomes": ["chr1", "chr<2>"],
            "match": {"genes": {"matched": 4, "absent": 1_000}},
            "long": list(range(9)),
        },
        reverse={BACK: TO},
    )


def test_counts_by_hand(graph):
    card = graph.card
    assert (card.kind, card.nodes["gene"].number, card.nodes["gene"].isolated, card.nodes["peak"].isolated) == (
        "links",
        4,
        2,
        0,
    )
    out, back = card.edges["gene-reaches-peak"], card.edges["peak-reached_by-gene"]
    assert out.number == back.number == 4
    assert out.density == pytest.approx(4 / 12)
    assert (
        out.source_degree
        == back.destination_degree
        == {"least": 0, "quarter": 0, "median": 0, "three_quarters": 1, "most": 3}
    )
    assert out.destination_degree == {"least": 1, "quarter": 1, "median": 1, "three_quarters": 1, "most": 2}
    assert (out.reverse_of, back.reverse_of) == (None, "gene-reaches-peak")
    assert out.features == {"weight": "float32"}
    assert card.nodes["gene"].features == {"chrom": "int64", "x": "float32 x 3"}


def test_coverage_by_chromosome(graph):
    found = {label: (each.with_edges, each.nodes) for label, each in graph.card.nodes["gene"].chromosomes.items()}
    assert found == {"unknown": (0, 1), "chr1": (2, 2), "chr<2>": (0, 1)}


def test_bytes_count_shared_memory_once(graph):
    structure, features = 4 * (5 + 4), 4 * 8 + 4 * 3 * 4 + 4 * 4
    assert graph_bytes(graph) == {"structure": structure, "features": features, "names": 4 * 4 + 3 * 4}
    graph.adjacency(BACK, by="src")  # makes bounds, nodes and edge ids of the other side
    assert graph_bytes(graph)["structure"] == structure + 4 * (4 + 4 + 4)


def test_as_dict_is_json(graph):
    again = json.loads(json.dumps(graph.card.as_dict()))
    assert again["nodes"]["gene"]["chromosomes"]["chr1"] == {"nodes": 2, "with_edges": 2}
    assert again["meta"]["match"]["genes"] == {"matched": 4, "absent": 1000}


def test_text_is_aligned_and_tells_what_did_not_join(graph):
    text = graph.card.text()
    assert text.startswith("links graph, ")
    lines = text.splitlines()
    assert lines[2].split() == ["gene", "4", "2", "chrom", "int64,", "x", "float32", "x", "3"]
    assert any(line.split() == ["match.genes.absent", "1,000"] for line in lines)
    assert any(line.split() == ["chr1", "2", "/", "2"] for line in lines)
    assert "0, 1, 2, 3, 4, 5 ... (9 in all)" in text
    assert not any(line.endswith(" ") for line in lines)


def test_html_is_escaped(graph):
    page = graph.card._repr_html_()
    assert "chr&lt;2&gt;" in page
    assert "chr<2>" not in page
    assert page.count("<table>") == page.count("</table>") == 4


def test_a_graph_without_nodes_of_a_type():
    graph = HeteroGraph.from_edges({TO: ([], [])}, names={"gene": [], "peak": []})
    card = graph.card
    assert card.edges["gene-reaches-peak"].density == 0
    assert card.edges["gene-reaches-peak"].source_degree == {}
    assert np.isfinite(card.edges["gene-reaches-peak"].density)
    assert "0%" in card.text()


def test_a_page_stands_alone_and_is_written_whole(graph, tmp_path):
    page = graph.card.html()
    assert page.startswith("<!DOCTYPE html>")
    assert graph.card._repr_html_() in page
    assert graph.card.save_html(tmp_path / "deep" / "card.html").read_text(encoding="utf-8") == page
    root = ET.fromstring(page.replace("<!DOCTYPE html>", "").replace('<meta charset="utf-8">', ""))
    assert root.findtext("head/title") == "links graph"
    assert len(root.findall("body/table")) == 4


def test_a_card_comes_back_from_json(graph):
    assert Card.from_dict(json.loads(json.dumps(graph.card.as_dict()))) == graph.card


def test_cards_of_parts_add_up(graph):
    total = CardSum(along="gene")
    for genes in ([0], [1, 2], [3]):
        total.add(subgraph(graph, {"gene": genes}))
    whole, summed = graph.card, total.card(graph)
    assert (summed.nodes, summed.edges) == (whole.nodes, whole.edges)


def test_a_sum_of_one_part_is_its_card(graph):
    total = CardSum()
    total.add(graph)
    assert total.card(graph) == graph.card

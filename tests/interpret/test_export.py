import json
import shutil
import subprocess

import networkx as nx
import numpy as np
import pandas as pd
import pytest

from heteromics.errors import DataError
from heteromics.interpret import (
    regulatory_network,
    tf_gene_edges,
    to_networkx,
    write_bedpe,
    write_cx2,
    write_graphml,
    write_table,
)
from heteromics.interpret._cx2 import cx2_document
from heteromics.priors import PriorStore
from tests.interpret.test_network import random_links, tables
from tests.priors.toy_stores import write_store

ODD = "a \"quoted\" <name> & 'more' \\ é\u2028\U0001f9ec"


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    with PriorStore.open(write_store(tmp_path_factory.mktemp("export") / "toy.duckdb", tables())) as store:
        yield store


@pytest.fixture(scope="module")
def network(store):
    share = pd.DataFrame(0.5, index=[f"S{i}" for i in range(4)], columns=["A", "B"])  # one factor is not measured
    return regulatory_network(random_links().assign(fdr=0.01, z=1.5), store, tf_expressed=share)


def rows_of(table, columns):
    once = table[columns].drop_duplicates()
    return {tuple(None if value != value else value for value in row) for row in once.itertuples(index=False)}


def test_the_graph_holds_every_row_and_no_more(network):
    graph = to_networkx(network)
    types = dict(graph.nodes(data="node_type"))
    assert {name for name, kind in types.items() if kind == "tf"} == set(network["tf"])
    assert {name for name, kind in types.items() if kind == "gene"} == set(network["gene"]) - set(network["tf"])
    assert {name for name, kind in types.items() if kind == "peak"} == set(network["peak"])
    found = {"binds": set(), "links": set(), "regulates": set()}
    for start, end, data in graph.edges(data=True):
        columns = {
            "binds": ("group", "motif_score", "motif_p", "motifs", "expressed"),
            "links": ("group", "link_score", "z", "fdr"),
            "regulates": ("group", "n_peaks", "best", "summed", "best_peak", "sign", "collections", "weight"),
        }[data["interaction"]]
        found[data["interaction"]].add((start, end, *(data.get(name) for name in columns)))
        assert set(data) <= {"interaction", *columns}
    assert found["binds"] == rows_of(network, ["tf", "peak", "group", "motif_score", "motif_p", "motifs", "expressed"])
    assert found["links"] == rows_of(network, ["peak", "gene", "group", "link_score", "z", "fdr"])
    edges = tf_gene_edges(network)
    names = ["tf", "gene", "group", "n_peaks", "best", "summed", "best_peak", "sign", "source", "weight"]
    assert found["regulates"] == rows_of(edges, names)
    assert graph.number_of_edges() == sum(map(len, found.values()))


def test_nodes_know_their_place_and_identifier(network):
    graph = to_networkx(network)
    for row in network.itertuples():
        assert graph.nodes[row.tf]["gene_id"] == row.tf_id
        assert graph.nodes[row.gene]["gene_id"] == row.gene_id
        peak = graph.nodes[row.peak]
        place = int(row.peak.split(":")[1].split("-")[0])
        assert peak == {
            "node_type": "peak",
            "peak_id": row.peak_id,
            "chrom": "chr1",
            "chrom_start": place,
            "chrom_end": place + 500,
        }


def test_a_peak_named_as_a_gene_is_told_apart(network):
    same = network.replace({"peak": {network["peak"].iloc[0]: network["gene"].iloc[0]}})
    graph = to_networkx(same)
    name = network["gene"].iloc[0]
    assert graph.nodes[f"peak:{name}"]["node_type"] == "peak"
    assert graph.nodes[name]["node_type"] in {"tf", "gene"}
    assert graph.number_of_edges() == to_networkx(network).number_of_edges()
    best = {data["best_peak"] for *_, data in graph.edges(data=True) if data["interaction"] == "regulates"}
    assert best <= set(graph)


def odd(network):
    """The network with names that hold what formats have to escape."""
    gene, peak = network["gene"].iloc[0], network["peak"].iloc[0]
    return network.replace({"gene": {gene: ODD}, "tf": {gene: ODD}, "peak": {peak: "p\t<1>\n"}})


def plain(graph):
    nodes = {name: dict(data) for name, data in graph.nodes(data=True)}
    edges = sorted((start, end, sorted(data.items())) for start, end, data in graph.edges(data=True))
    return nodes, edges


def test_graphml_gives_the_graph_back(network, tmp_path):
    for number, table in enumerate((network, odd(network))):
        path = write_graphml(table, tmp_path / f"{number}.graphml")
        back = nx.read_graphml(path, force_multigraph=True)
        assert plain(back) == plain(to_networkx(table))
        keys = [key for *_, key in back.edges(keys=True)]
        assert len(set(keys)) == len(keys)  # Gephi takes edges of one id for one edge


def test_graphml_marks_what_xml_cannot_hold(network, tmp_path):
    gene = network["gene"].iloc[0]
    table = network.replace({"gene": {gene: "bad\x01"}, "tf": {gene: "bad\x01"}})
    back = nx.read_graphml(write_graphml(table, tmp_path / "a.graphml"), force_multigraph=True)
    assert "bad\ufffd" in back
    other = next(name for name in network["gene"] if name != gene)
    table = table.replace({"gene": {other: "bad\x02"}, "tf": {other: "bad\x02"}})
    with pytest.raises(DataError, match=r"1 of \d+ node names differ from another in characters alone"):
        write_graphml(table, tmp_path / "a.graphml")
    assert "bad\ufffd" in nx.read_graphml(tmp_path / "a.graphml")  # the former file stands


KINDS = {"string": str, "long": int, "integer": int, "double": (int, float), "boolean": bool}
LOOKS = {"NODE_BACKGROUND_COLOR", "NODE_SHAPE", "NODE_LABEL", "EDGE_LINE_COLOR", "EDGE_TARGET_ARROW_SHAPE"}


def read_cx2(path):
    """Check a document by the rules of the specification, and return its graph and the name of the network."""
    document = json.loads(path.read_text(encoding="utf-8"), parse_constant=lambda text: pytest.fail(f"{text} in JSON"))
    assert document[0] == {"CXVersion": "2.0", "hasFragments": False}
    assert all(len(aspect) == 1 for aspect in document[1:])
    names = [next(iter(aspect)) for aspect in document[1:]]
    assert len(set(names)) == len(names)
    assert names[0] == "metaData"
    assert names[1] == "attributeDeclarations"  # before all that it declares
    assert names[-1] == "status"
    aspects = {name: aspect[name] for name, aspect in zip(names, document[1:], strict=True)}
    assert aspects["status"] == [{"error": "", "success": True}]
    counted = {entry["name"]: entry["elementCount"] for entry in aspects["metaData"]}
    assert counted == {name: len(aspects[name]) for name in names[1:-1]}
    (declared,) = aspects["attributeDeclarations"]
    (network,) = aspects["networkAttributes"]
    elements = {
        "networkAttributes": [network],
        **{side: [one["v"] for one in aspects[side]] for side in ("nodes", "edges")},
    }
    for side, values in elements.items():
        for value in values:
            assert "id" not in value
            for name, one in value.items():
                kind = declared[side][name]["d"]
                assert isinstance(one, KINDS[kind])
                assert isinstance(one, bool) == (kind == "boolean")
    for side, allowed in (("nodes", {"id", "v"}), ("edges", {"id", "s", "t", "v"})):
        assert all(set(one) == allowed for one in aspects[side])
        assert len({one["id"] for one in aspects[side]}) == len(aspects[side])
    (style,) = aspects["visualProperties"]
    for side, mappings in (("nodes", style["nodeMapping"]), ("edges", style["edgeMapping"])):
        for look, mapping in mappings.items():
            assert look in LOOKS
            if mapping["definition"]["attribute"] in declared[side]:
                assert mapping["definition"]["type"] == declared[side][mapping["definition"]["attribute"]]["d"]
            if mapping["type"] == "DISCRETE":
                assert all(set(entry) == {"v", "vp"} for entry in mapping["definition"]["map"])
    graph = nx.MultiDiGraph()
    name_of = {one["id"]: one["v"]["name"] for one in aspects["nodes"]}
    for one in aspects["nodes"]:
        graph.add_node(one["v"].pop("name"), **one["v"])
    for one in aspects["edges"]:
        graph.add_edge(name_of[one["s"]], name_of[one["t"]], **one["v"])
    return graph, network["name"]


def test_cx2_keeps_the_specification_and_gives_the_graph_back(network, tmp_path):
    for table in (network, odd(network)):
        graph, name = read_cx2(write_cx2(table, tmp_path / "a.cx2", name=ODD))
        assert name == ODD
        assert plain(graph) == plain(to_networkx(table))


def test_cx2_leaves_out_what_json_does_not_know_and_refuses_mixed_kinds():
    graph = nx.MultiDiGraph()
    graph.add_node("a", id="x", value=np.float64("nan"), other=None, count=np.int64(3), yes=np.bool_(True))
    (nodes,) = [aspect["nodes"] for aspect in cx2_document(graph, "n") if "nodes" in aspect]
    assert nodes == [{"id": 0, "v": {"name": "a", "identifier": "x", "count": 3, "yes": True}}]
    graph.add_node("b", count="three")
    with pytest.raises(
        DataError, match="1 of 4 attributes of nodes have values of several kinds: 'count' has long, string"
    ):
        cx2_document(graph, "n")
    graph.nodes["b"]["count"] = [1]
    with pytest.raises(DataError, match="attribute 'count' of nodes has a list"):
        cx2_document(graph, "n")


def test_an_empty_network_is_written_and_read(network, store, tmp_path):
    empty = network.iloc[:0]
    assert to_networkx(empty).number_of_nodes() == 0
    assert nx.read_graphml(write_graphml(empty, tmp_path / "a.graphml")).number_of_nodes() == 0
    assert read_cx2(write_cx2(empty, tmp_path / "a.cx2"))[0].number_of_nodes() == 0
    assert read_bedpe(write_bedpe(empty, tmp_path / "a.bedpe", store)) == []
    for ending in ("tsv", "parquet"):
        write_table(empty, tmp_path / f"a.{ending}")
    assert list(pd.read_parquet(tmp_path / "a.parquet")) == list(pd.read_csv(tmp_path / "a.tsv", sep="\t"))


def read_bedpe(path):
    lines = path.read_text().splitlines()
    assert lines[0].startswith("#")
    names = lines[0][1:].split("\t")
    assert names[:10] == (
        ["chrom1", "start1", "end1", "chrom2", "start2", "end2", "name", "score", "strand1", "strand2"]
    )
    rows = [line.split("\t") for line in lines[1:]]
    assert {len(row) for row in rows} <= {len(names)}
    return [dict(zip(names, row, strict=True)) for row in rows]


def test_bedpe_is_the_start_site_and_the_peak_half_open(store, tmp_path):
    links = random_links()
    rows = read_bedpe(write_bedpe(links, tmp_path / "a.bedpe", store))
    assert len(rows) == len(links)
    for row, link in zip(rows, links.itertuples(), strict=True):
        place, peak = int(link.gene[1:]), int(link.peak.split(":")[1].split("-")[0])
        assert (row["chrom1"], row["chrom2"], row["strand2"]) == ("chr1", "chr1", ".")
        assert (int(row["start1"]), int(row["end1"])) == (1_000 * place, 1_000 * place + 1)
        assert (int(row["start2"]), int(row["end2"])) == (peak, peak + 500)
        assert row["strand1"] == "+-"[place % 2]
        assert float(row["score"]) == link.score
        assert row["name"] == f"{link.gene}|{link.peak}|{link.group}"
        assert (row["gene"], row["peak"], row["group"]) == (link.gene, link.peak, link.group)


def test_bedpe_without_a_store_takes_the_start_site_of_the_links(store, tmp_path):
    links = random_links(groups=("A",))
    place = links["gene"].str[1:].astype(int)
    strand = np.where(place % 2 == 0, "+", "-")
    given = links.assign(tss=1_000 * place, strand=strand)
    one, other = (tmp_path / name for name in ("a.bedpe", "b.bedpe"))
    assert read_bedpe(write_bedpe(given, one)) == read_bedpe(write_bedpe(links, other, store))
    given.loc[[0, 1], "tss"] = -1
    for row in read_bedpe(write_bedpe(given, one))[:2]:
        assert [row[name] for name in ("chrom1", "start1", "end1")] == [".", "-1", "-1"]
    across = given.assign(chrom=np.where(given.index == 2, "chrX", "chr1"))
    assert [row["chrom1"] for row in read_bedpe(write_bedpe(across, one))[:4]] == [".", ".", "chrX", "chr1"]
    with pytest.raises(DataError, match="1 of 4 expected ones are not there: tss"):
        write_bedpe(links, one)


def test_bedpe_writes_unknown_places_as_its_definition_says(store, tmp_path):
    links = pd.DataFrame({"gene": ["S1", "NOBODY"], "peak": ["odd one", "chr1:1000-1500"], "score": [1.0, np.nan]})
    first, second = read_bedpe(write_bedpe(links, tmp_path / "a.bedpe", store))
    assert [first[name] for name in ("chrom1", "start1", "end1")] == ["chr1", "1000", "1001"]
    assert [first[name] for name in ("chrom2", "start2", "end2")] == [".", "-1", "-1"]
    assert [second[name] for name in ("chrom1", "start1", "end1", "strand1")] == [".", "-1", "-1", "."]
    assert second["score"] == "."


def test_bedpe_of_a_network_has_each_link_once(network, store, tmp_path):
    rows = read_bedpe(write_bedpe(network, tmp_path / "a.bedpe", store))
    once = network.drop_duplicates(["gene", "peak", "group"])
    assert len(rows) == len(once) < len(network)
    assert [float(row["score"]) for row in rows] == once["link_score"].tolist()
    assert {row["fdr"] for row in rows} == {"0.01"}


def test_bedpe_quotes_nothing_and_refuses_what_it_cannot_hold(store, tmp_path):
    path = tmp_path / "a.bedpe"
    links = pd.DataFrame({"gene": ["S1"], "peak": ['a "b"'], "score": [1.0], "note": [7]})
    both = pd.concat([links, links.assign(peak="chr1:1000-1500")])
    row, _ = read_bedpe(write_bedpe(both, path, store))
    assert row["peak"] == 'a "b"'
    assert row["note"] == "7"
    with pytest.raises(DataError, match=r"BEDPE: 1 of 2 names in 'peak' hold a tab or line end.*'a\\tb'"):
        write_bedpe(both.replace({'a "b"': "a\tb"}), path, store)
    with pytest.raises(DataError, match=r"none of 1 genes has a place in .*toy.duckdb: NOBODY"):
        write_bedpe(both.assign(gene="NOBODY"), path, store)
    with pytest.raises(DataError, match="none of 1 peaks has a place in their names: nowhere"):
        write_bedpe(both.assign(peak="nowhere", tss=5), path)
    assert len(read_bedpe(path)) == 2  # the former file stands


@pytest.mark.skipif(shutil.which("bedtools") is None, reason="bedtools is not installed")
def test_bedtools_finds_links_by_either_end(store, tmp_path):
    links = random_links(groups=("A",))
    links = pd.concat(
        [links, pd.DataFrame({"gene": ["NOBODY"], "peak": ["chr1:1000-1500"], "group": "A", "score": [0.5]})]
    )
    path = write_bedpe(links, tmp_path / "a.bedpe", store)

    def hit(start, end):
        bed = tmp_path / "b.bed"
        bed.write_text(f"chr1\t{start}\t{end}\n")
        command = ["bedtools", "pairtobed", "-a", str(path), "-b", str(bed), "-type", "either"]
        out = subprocess.run(command, check=True, capture_output=True, text=True).stdout
        return {line.split("\t")[6] for line in out.splitlines()}

    def named(kept):
        return {f"{row.gene}|{row.peak}|A" for row in links[kept].itertuples()}

    gene, peak = links["gene"], links["peak"]
    assert hit(3_000, 3_001) == named((gene == "S3") | (peak == "chr1:3000-3500"))
    assert hit(3_001, 3_500) == named(peak == "chr1:3000-3500")
    assert hit(3_500, 4_000) == set()
    assert hit(1_499, 1_500) == named(peak == "chr1:1000-1500")


def test_tables_come_back(network, tmp_path):
    back = pd.read_parquet(write_table(network, tmp_path / "deep" / "a.parquet"))
    pd.testing.assert_frame_equal(back, network)
    assert back.attrs["match"] == network.attrs["match"]
    text = pd.read_csv(
        write_table(odd(network), tmp_path / "a.tsv"), sep="\t", keep_default_na=False, na_values={"expressed": ""}
    )
    assert text["peak"].tolist() == odd(network)["peak"].tolist()
    np.testing.assert_allclose(text["score"], network["score"])
    with pytest.raises(DataError, match=r"found ending '.xlsx', expected .tsv or .parquet"):
        write_table(network, tmp_path / "a.xlsx")


@pytest.mark.parametrize("write", [write_graphml, write_cx2, write_bedpe, write_table])
def test_a_failed_write_leaves_what_was_there(network, store, tmp_path, monkeypatch, write):
    path = tmp_path / "a.tsv"
    arguments = (store,) if write is write_bedpe else ()
    write(network, path, *arguments)
    before = path.read_bytes()

    def full(*_, **__):
        raise OSError("No space left on device")

    monkeypatch.setattr("pathlib.Path.replace", full)
    with pytest.raises(OSError, match="No space left"):
        write(network.iloc[:5], path, *arguments)
    assert path.read_bytes() == before


def test_a_table_that_is_no_network_is_refused(tmp_path):
    with pytest.raises(DataError, match="network: found columns tf, gene; 7 of 9 expected ones are not there: peak"):
        write_cx2(pd.DataFrame({"tf": [], "gene": []}), tmp_path / "a.cx2")

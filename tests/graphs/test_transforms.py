"""Transforms of graphs: what they keep, what they change, and that null models draw evenly."""

import itertools
from collections import Counter

import numpy as np
import pytest
import torch
from scipy import sparse, stats

from heteromics.errors import GraphError
from heteromics.graphs import HeteroGraph, _metapath, _rewire, transforms
from heteromics.graphs._rewire import Places, move_links, swap_edges

HAS, OF = ("cell", "has", "gene"), ("gene", "of", "cell")
WITH = ("gene", "with", "gene")
NEAR, REACHED = ("gene", "near", "peak"), ("peak", "reached_by", "gene")


def triples(graph, etype, data="weight"):
    """(source, destination, value) of every edge, by the destination side and by the source side."""
    sides = []
    for by in ("src", "dst"):
        indptr, indices, eids = graph.adjacency(etype, by)
        row = torch.repeat_interleave(torch.arange(len(indptr) - 1), indptr.diff().long())
        pair = (row, indices.long()) if by == "src" else (indices.long(), row)
        value = graph.edata(etype)[data][eids.long()]
        sides.append(sorted(zip(*(part.tolist() for part in (*pair, value)), strict=True)))
    assert sides[0] == sides[1]
    return sides[0]


def pairs_of(graph, etype):
    indptr, indices, _ = graph.adjacency(etype)
    return list(
        zip(np.repeat(np.arange(len(indptr) - 1), indptr.diff().numpy()).tolist(), indices.tolist(), strict=True)
    )


def cells_and_genes(seed=0, cells=30, genes=20, share=0.3):
    """A type with its reverse, and an undirected type with values of pairs."""
    rng = np.random.default_rng(seed)
    src, dst = np.nonzero(rng.random((cells, genes)) < share)
    a, b = np.nonzero(np.triu(rng.random((genes, genes)) < 0.3, 1))
    value = rng.normal(size=a.size).astype(np.float32)
    return HeteroGraph.from_edges(
        {HAS: (src, dst), WITH: (np.concatenate([a, b]), np.concatenate([b, a]))},
        names={"cell": [f"c{i}" for i in range(cells)], "gene": [f"g{i}" for i in range(genes)]},
        ndata={"gene": {"degree": torch.arange(genes)}},
        edata={
            HAS: {"weight": torch.from_numpy(rng.permutation(src.size).astype(np.float32))},
            WITH: {"weight": torch.from_numpy(np.concatenate([value, value]))},
        },
        reverse={OF: HAS},
    ).validate()


def unchanged(graph, made, etypes):
    """The first graph is as it was, and what did not change is the same memory."""
    assert "transforms" not in graph.meta
    for etype in etypes:
        for one, other in zip(graph.adjacency(etype), made.adjacency(etype), strict=True):
            assert torch.equal(one, other)
        for name, value in graph.edata(etype).items():
            assert value.data_ptr() == made.edata(etype)[name].data_ptr()
    assert graph.ndata("gene")["degree"].data_ptr() == made.ndata("gene")["degree"].data_ptr()
    assert made.names.keys() == graph.names.keys()


def test_an_edge_type_goes_with_its_reverse():
    graph = cells_and_genes()
    for named in (HAS, OF):
        made = transforms.drop_edge_type(graph, named).validate()
        assert made.canonical_etypes == [WITH]
        assert made.reverse == {}
        assert made.meta["transforms"] == [
            {"name": "drop_edge_type", "etype": list(HAS), "dropped": graph.num_edges(HAS)}
        ]
        unchanged(graph, made, [WITH])
    assert made.num_nodes("cell") == 30
    with pytest.raises(GraphError, match="drop_edge_type: no edge type would be left"):
        transforms.drop_edge_type(made, WITH)
    with pytest.raises(GraphError, match="no edge type"):
        transforms.drop_edge_type(graph, ("a", "b", "c"))


@pytest.mark.parametrize(
    ("options", "kept"),
    [
        ({"at_least": 50}, lambda w: w >= 50),
        ({"at_most": 20}, lambda w: w <= 20),
        ({"at_least": 10, "at_most": 30}, lambda w: 10 <= w <= 30),
        ({"at_least": 1e9}, lambda w: False),
    ],
)
@pytest.mark.parametrize("named", [HAS, OF])
def test_threshold_keeps_edges_between_bounds_in_both_directions(options, kept, named):
    graph = cells_and_genes()
    made = transforms.threshold(graph, named, "weight", **options).validate()
    expected = [edge for edge in triples(graph, HAS) if kept(edge[2])]
    assert triples(made, HAS) == expected
    assert triples(made, OF) == sorted((b, a, w) for a, b, w in expected)
    unchanged(graph, made, [WITH])
    assert (made.meta["transforms"][0]["kept"], made.meta["transforms"][0]["of"]) == (
        len(expected),
        graph.num_edges(HAS),
    )


def test_threshold_without_the_sign_and_its_errors():
    graph = cells_and_genes()
    made = transforms.threshold(graph, WITH, "weight", at_least=1.0, absolute=True)
    assert triples(made, WITH) == [edge for edge in triples(graph, WITH) if abs(edge[2]) >= 1]
    with pytest.raises(GraphError, match="found neither at_least nor at_most"):
        transforms.threshold(graph, WITH, "weight")
    with pytest.raises(GraphError, match=r"found data {'weight': \(\d+,\)}, expected 'score' with one number per edge"):
        transforms.threshold(graph, WITH, "score", at_least=0)


def test_reverse_adds_the_other_direction_or_turns():
    plain = transforms.drop_edge_type(cells_and_genes(), WITH)
    one_way = HeteroGraph(plain.dgl.edge_type_subgraph([HAS]), names=plain.names)
    both = transforms.reverse(one_way, HAS).validate()
    assert both.reverse == {("gene", "rev_has", "cell"): HAS}
    assert triples(both, ("gene", "rev_has", "cell")) == sorted((b, a, w) for a, b, w in triples(plain, HAS))
    shared = both.edata(HAS)["weight"].data_ptr()
    assert both.edata(("gene", "rev_has", "cell"))["weight"].data_ptr() == shared
    turned = transforms.reverse(one_way, HAS, "of", replace=True).validate()
    assert turned.canonical_etypes == [OF]
    assert triples(turned, OF) == triples(plain, OF)
    with pytest.raises(GraphError, match=r"reverse: .* has a reverse in this graph: \('cell', 'has', 'gene'\), "):
        transforms.reverse(plain, HAS)


@pytest.mark.parametrize(("options", "size"), [({"share": 0.25}, lambda n: round(n / 4)), ({"number": 7}, lambda n: 7)])
def test_a_part_of_the_edges(options, size):
    graph = cells_and_genes()
    made = transforms.subsample_edges(graph, OF, **options, seed=1).validate()
    assert set(triples(made, HAS)) < set(triples(graph, HAS))
    assert made.num_edges(HAS) == made.num_edges(OF) == size(graph.num_edges(HAS))
    assert triples(made, HAS) == triples(transforms.subsample_edges(graph, HAS, **options, seed=1), HAS)
    assert triples(made, HAS) != triples(transforms.subsample_edges(graph, HAS, **options, seed=2), HAS)
    unchanged(graph, made, [WITH])


def test_undirected_edges_are_kept_with_their_counterpart():
    graph = cells_and_genes()
    made = transforms.subsample_edges(graph, WITH, number=11, seed=0).validate()
    kept = triples(made, WITH)
    assert len(kept) == 22
    assert sorted((b, a, w) for a, b, w in kept) == kept


def test_edges_are_drawn_evenly_or_by_weight():
    graph = HeteroGraph.from_edges(
        {HAS: (np.zeros(4, int), np.arange(4))},
        names={"cell": ["a"], "gene": list("wxyz")},
        edata={HAS: {"weight": torch.tensor([0.0, 1.0, 2.0, 5.0])}},
    )
    draws = 400
    for weight, odds in ((None, [0.25] * 4), ("weight", [0, 1 / 8, 2 / 8, 5 / 8])):
        found = Counter(
            pairs_of(transforms.subsample_edges(graph, HAS, number=1, weight=weight, seed=seed), HAS)[0][1]
            for seed in range(draws)
        )
        seen = np.array([found[gene] for gene in range(4)])
        possible = np.array(odds) > 0
        assert seen[~possible].sum() == 0
        assert stats.chisquare(seen[possible], draws * np.array(odds)[possible]).pvalue > 1e-3
    with pytest.raises(GraphError, match="0 of 4 weights 'weight' are below 0 and 3 above, expected at least 4"):
        transforms.subsample_edges(graph, HAS, share=1.0, weight="weight", seed=0)
    for wrong in ({}, {"share": 0.5, "number": 2}, {"share": 1.5}, {"number": 5}):
        with pytest.raises(GraphError, match="expected a share or a number of 4"):
            transforms.subsample_edges(graph, HAS, **wrong, seed=0)


def test_a_part_of_the_nodes_with_the_edges_among_them():
    graph = cells_and_genes()
    made = transforms.subsample_nodes(graph, "gene", share=0.5, seed=3).validate()
    kept = graph.index("gene", made.names["gene"])
    assert kept.tolist() == sorted(kept)
    assert len(kept) == 10
    place = {int(row): new for new, row in enumerate(kept)}
    for etype in (HAS, WITH):
        expected = [
            (place.get(a, a) if etype is WITH else a, place[b], w)
            for a, b, w in triples(graph, etype)
            if b in place and (etype is HAS or a in place)
        ]
        assert triples(made, etype) == sorted(expected)
    assert made.meta["transforms"] == [{"name": "subsample_nodes", "ntype": "gene", "seed": 3, "kept": 10, "of": 20}]


def dense(graph, etype, data=None):
    table = np.zeros((graph.num_nodes(etype[0]), graph.num_nodes(etype[2])))
    for a, b, w in triples(graph, etype):
        table[a, b] = 1 if data is None else w
    return table


@pytest.mark.parametrize("path", [[HAS, OF], [OF, HAS], [HAS, WITH], [HAS, WITH, OF], [OF, HAS, OF, HAS]])
@pytest.mark.parametrize("weight", [None, "weight"])
def test_a_metapath_counts_paths_and_adds_products(path, weight, monkeypatch):
    monkeypatch.setattr(_metapath, "_WORK", 100)  # many blocks
    graph = cells_and_genes(share=0.15)
    made = transforms.metapath(graph, path, "joined", weight=weight, loops=True, progress=False).validate()
    new = (path[0][0], "joined", path[-1][2])
    counted, summed = dense(graph, path[0]), dense(graph, path[0], "weight")
    for etype in path[1:]:
        counted, summed = counted @ dense(graph, etype), summed @ dense(graph, etype, "weight")
    assert {(a, b): n for a, b, n in triples(made, new, "paths")} == {
        (a, b): counted[a, b] for a, b in zip(*np.nonzero(counted), strict=True)
    }
    if weight:
        for a, b, total in triples(made, new):
            assert total == pytest.approx(summed[a, b], rel=1e-5, abs=1e-4)
    else:
        assert set(made.edata(new)) == {"paths"}
    unchanged(graph, made, [HAS, OF, WITH])


def test_a_metapath_leaves_loops_out_and_keeps_sums_that_cancel():
    graph = HeteroGraph.from_edges(
        {HAS: ([0, 0, 1, 1], [0, 1, 0, 1])},
        names={"cell": ["a", "b"], "gene": ["x", "y"]},
        edata={HAS: {"weight": torch.tensor([1.0, 1.0, 1.0, -1.0])}},
        reverse={OF: HAS},
    )
    made = transforms.metapath(graph, [HAS, OF], "alike", weight="weight", progress=False)
    alike = ("cell", "alike", "cell")
    assert triples(made, alike) == [(0, 1, 0.0), (1, 0, 0.0)]
    assert made.edata(alike)["paths"].tolist() == [2, 2]


def test_a_metapath_that_would_be_too_large_is_refused_before_it_is_made():
    graph = cells_and_genes(cells=400, genes=30, share=0.5)
    with pytest.raises(
        GraphError, match=r"step 2 of the path would join about 1(60,000|59,\d\d\d) pairs, expected at most 1,000"
    ):
        transforms.metapath(graph, [HAS, OF], "joined", most_edges=1_000, progress=False)
    hub = HeteroGraph.from_edges(  # one cell in 2,000 has all genes: no sample is likely to see it
        {HAS: (np.r_[np.zeros(900, int), 1:2000], np.r_[:900, np.full(1999, 5)])},
        names={"cell": [str(i) for i in range(2000)], "gene": [str(i) for i in range(900)]},
        reverse={OF: HAS},
    )
    made = transforms.metapath(hub, [OF, HAS], "joined", loops=True, most_edges=900 * 900, progress=False)
    assert made.num_edges(("gene", "joined", "gene")) == 900 * 900
    with pytest.raises(GraphError, match=r"would join (about|more than) [\d,]+ pairs"):
        transforms.metapath(hub, [OF, HAS], "joined", loops=True, most_edges=400_000, progress=False)


def test_a_metapath_that_is_allowed_is_not_refused_by_an_unlucky_sample():
    rng = np.random.default_rng(0)
    degree = np.minimum(rng.pareto(1.1, 2_000) * 3 + 1, 1_000).astype(int)  # a sample may see too many hubs
    pair = np.unique(np.repeat(np.arange(2_000), degree) * 1_500 + rng.integers(0, 1_500, degree.sum()))
    for mix in range(10):
        src = np.random.default_rng(mix).permutation(2_000)[pair // 1_500]
        graph = HeteroGraph.from_edges(
            {HAS: (src, pair % 1_500)},
            names={"cell": [str(i) for i in range(2_000)], "gene": [str(i) for i in range(1_500)]},
            reverse={OF: HAS},
        )
        options = {"loops": True, "progress": False}
        made = transforms.metapath(graph, [HAS, OF], "joined", **options).num_edges(("cell", "joined", "cell"))
        transforms.metapath(graph, [HAS, OF], "joined", **options, most_edges=made)


def test_steps_of_a_metapath_follow_each_other():
    graph = cells_and_genes()
    for path, name in (([HAS], "x"), ([HAS, HAS], "x"), ([WITH, WITH], "with"), ([], "x")):
        with pytest.raises(GraphError, match=f"metapath: found {len(path)} steps"):
            transforms.metapath(graph, path, name, progress=False)


def test_steps_of_a_metapath_are_whole_types():
    with pytest.raises(GraphError, match=r"metapath: found steps 'has', 'of', expected \(source type, name, dest"):
        transforms.metapath(cells_and_genes(), ["has", "of"], "x", progress=False)


def degrees(graph, etype):
    return graph.adjacency(etype, "src")[0].diff().tolist(), graph.adjacency(etype, "dst")[0].diff().tolist()


@pytest.mark.parametrize("named", [HAS, OF])
def test_shuffled_edges_keep_degrees_and_the_values_of_their_source(named):
    graph = cells_and_genes()
    made = transforms.shuffle_edges(graph, named, seed=0, progress=False).validate()
    assert degrees(made, HAS) == degrees(graph, HAS)
    before, after = triples(graph, HAS), triples(made, HAS)
    assert len({edge[:2] for edge in after}) == len(before)
    assert sorted((a, w) for a, _, w in after) == sorted((a, w) for a, _, w in before)
    assert triples(made, OF) == sorted((b, a, w) for a, b, w in after)
    assert len(set(before) & set(after)) < 0.5 * len(before)
    unchanged(graph, made, [WITH])
    note = made.meta["transforms"][0]
    shared = {edge[:2] for edge in before} & {edge[:2] for edge in after}
    assert note["unchanged"][1] == pytest.approx(len(shared) / len(before), abs=1e-4)
    assert (note["mode"], note["loops"], note["dropped_data"]) == ("bipartite", 0, [])
    assert triples(transforms.shuffle_edges(graph, HAS, seed=0, progress=False), HAS) == after
    assert triples(transforms.shuffle_edges(graph, HAS, seed=1, progress=False), HAS) != after


def test_undirected_edges_stay_so_and_carry_the_value_of_their_pair():
    graph = cells_and_genes(genes=40)
    made = transforms.shuffle_edges(graph, WITH, seed=0, progress=False).validate()
    after = triples(made, WITH)
    assert made.meta["transforms"][0]["mode"] == "undirected"
    assert degrees(made, WITH) == degrees(graph, WITH)
    assert sorted((b, a, w) for a, b, w in after) == after
    assert all(a != b for a, b, _ in after)
    assert len({edge[:2] for edge in after}) == len(after)
    assert sorted(w for *_, w in after) == sorted(w for *_, w in triples(graph, WITH))
    assert after != triples(graph, WITH)


def test_undirected_edges_with_a_missing_value_are_undirected():
    graph = cells_and_genes()
    graph.edata(WITH)["weight"][graph.edata(WITH)["weight"] > 1] = torch.nan
    assert torch.isnan(graph.edata(WITH)["weight"]).sum() > 2
    made = transforms.shuffle_edges(graph, WITH, seed=0, progress=False)
    assert made.meta["transforms"][0]["mode"] == "undirected"
    kept = pairs_of(transforms.subsample_edges(graph, WITH, share=0.3, seed=0), WITH)
    assert sorted((b, a) for a, b in kept) == sorted(kept)


def directed(genes=30, seed=0):
    rng = np.random.default_rng(seed)
    src, dst = np.nonzero(rng.random((genes, genes)) < 0.2)
    weight = torch.from_numpy(rng.permutation(src.size))
    names = {"gene": [f"g{i}" for i in range(genes)]}
    return HeteroGraph.from_edges({WITH: (src, dst)}, names=names, edata={WITH: {"weight": weight}})


def test_directed_edges_keep_both_degrees_and_their_loops():
    graph = directed()
    made = transforms.shuffle_edges(graph, WITH, seed=0, progress=False).validate()
    assert made.meta["transforms"][0]["mode"] == "directed"
    assert degrees(made, WITH) == degrees(graph, WITH)
    loops = [edge for edge in triples(graph, WITH) if edge[0] == edge[1]]
    assert [edge for edge in triples(made, WITH) if edge[0] == edge[1]] == loops != []
    assert len(set(pairs_of(made, WITH))) == graph.num_edges(WITH)


def same_degrees(pairs, nodes, mode):
    """All graphs of the same degrees, by trying every set of edges."""
    if mode == "bipartite":
        every = list(itertools.product(range(nodes[0]), range(nodes[1])))
    elif mode == "directed":
        every = list(itertools.permutations(range(nodes[1]), 2))
    else:
        every = list(itertools.combinations(range(nodes[1]), 2))

    def shape(edges):
        if mode == "undirected":
            return Counter(itertools.chain(*edges))
        return Counter(a for a, _ in edges), Counter(b for _, b in edges)

    return {frozenset(edges) for edges in itertools.combinations(every, len(pairs)) if shape(edges) == shape(pairs)}


@pytest.mark.parametrize(
    ("mode", "nodes", "pairs"),
    [
        ("bipartite", (3, 4), [(0, 0), (0, 1), (1, 0), (1, 2), (2, 3)]),
        ("bipartite", (3, 3), [(0, 0), (0, 1), (1, 1), (1, 2), (2, 2)]),
        ("undirected", (6, 6), [(0, 1), (0, 2), (1, 2), (3, 4), (2, 5), (0, 3)]),
        ("undirected", (4, 4), [(0, 1), (2, 3)]),
        ("directed", (3, 3), [(0, 1), (1, 2), (2, 0)]),  # only a cycle of three can turn it around
        ("directed", (4, 4), [(0, 1), (1, 2), (2, 0), (0, 3), (3, 1)]),
    ],
)
def test_all_graphs_of_the_same_degrees_are_equally_likely(mode, nodes, pairs):
    possible = same_degrees(pairs, nodes, mode)
    src, dst = np.transpose(pairs)
    found = Counter()
    for seed in range(500):
        rng = np.random.default_rng([7, seed])
        made = swap_edges(src, dst, nodes[1], mode, rounds=25, rng=rng)
        ends = zip(made.src.tolist(), made.dst.tolist(), strict=True)
        found[frozenset(tuple(sorted(edge)) if mode == "undirected" else edge for edge in ends)] += 1
    assert found.keys() <= possible
    assert len(possible) > 1
    assert stats.chisquare([found[each] for each in possible]).pvalue > 1e-3


def test_the_mean_of_many_shuffles_is_even_over_nodes_of_one_degree():
    """In a graph where all genes have the same degree, an edge of any cell is equally often with each gene."""
    src = np.repeat(np.arange(12), 4)
    dst = (src + np.tile(np.arange(4), 12)) % 12
    seen = np.zeros((12, 12))
    for seed in range(300):
        made = swap_edges(src, dst, 12, "bipartite", rounds=25, rng=np.random.default_rng(seed))
        seen[made.src, made.dst] += 1
    assert np.abs(seen / 300 - 1 / 3).max() < 5 * np.sqrt(2 / 9 / 300)


def test_nothing_to_swap():
    none = np.empty(0, np.int64)
    assert swap_edges(none, none, 5, "bipartite", rounds=3, rng=np.random.default_rng(0)).unchanged == (1.0, 1.0)
    one = np.zeros(1, np.int64)
    made = swap_edges(one, one + 1, 2, "directed", rounds=3, rng=np.random.default_rng(0))
    assert (made.src.tolist(), made.dst.tolist(), made.made) == ([0], [1], 0)
    full = np.divmod(np.arange(12), 4)
    made = swap_edges(*full, 4, "bipartite", rounds=5, rng=np.random.default_rng(0))
    assert made.made == 0


def test_shuffles_that_cannot_be():
    graph = HeteroGraph.from_edges({HAS: ([0, 0, 1], [1, 1, 0])}, names={"cell": ["a", "b"], "gene": ["x", "y"]})
    with pytest.raises(GraphError, match="shuffle_edges: 1 of 3 edges stand twice"):
        transforms.shuffle_edges(graph, HAS, seed=0)
    with pytest.raises(GraphError, match="found swaps_per_edge=0"):
        transforms.shuffle_edges(graph, HAS, swaps_per_edge=0, seed=0)


BOUNDS = (0, 100, 300, 1_000)


def placed(seed=0, genes=25, peaks=200, share=0.4, within=1_400):
    """Links of genes to some of the peaks near them, some beyond the last bin; two genes and two peaks nowhere."""
    rng = np.random.default_rng(seed)
    ndata = {}
    for ntype, size in (("gene", genes), ("peak", peaks)):
        chrom = rng.integers(0, 3, size).astype(np.int32)
        chrom[:2] = -1
        ndata[ntype] = {"chrom": torch.from_numpy(chrom), "position": torch.from_numpy(rng.integers(0, 5_000, size))}
    gap = np.abs(ndata["gene"]["position"].numpy()[:, None] - ndata["peak"]["position"].numpy())
    same = ndata["gene"]["chrom"].numpy()[:, None] == ndata["peak"]["chrom"].numpy()
    src, dst = np.nonzero(same & (gap <= within) & (rng.random(gap.shape) < share))
    return HeteroGraph.from_edges(
        {NEAR: (src, dst)},
        names={"gene": [f"g{i}" for i in range(genes)], "peak": [f"p{i}" for i in range(peaks)]},
        ndata=ndata,
        edata={
            NEAR: {
                "weight": torch.from_numpy(rng.permutation(src.size).astype(np.float32)),
                "distance": torch.from_numpy(gap[src, dst]),
            }
        },
        reverse={REACHED: NEAR},
    ).validate()


def bin_of(graph, gene, peak):
    """Bin of a pair by looking at its two places, or None."""
    places = [
        (int(graph.ndata(t)["chrom"][i]), int(graph.ndata(t)["position"][i]))
        for t, i in (("gene", gene), ("peak", peak))
    ]
    if places[0][0] != places[1][0] or places[0][0] < 0:
        return None
    far = abs(places[0][1] - places[1][1])
    return next((n for n, (low, high) in enumerate(itertools.pairwise(BOUNDS)) if low <= far < high), None)


@pytest.mark.parametrize("share", [0.2, 0.7, 0.97])
@pytest.mark.parametrize("block", [1 << 22, 150])
def test_links_move_within_their_bin_as_far_as_there_are_others(share, block, monkeypatch):
    monkeypatch.setattr(_rewire, "_CANDIDATES", block)
    graph = placed(share=share)
    made = transforms.rewire_within_distance(graph, NEAR, bins_bp=BOUNDS, seed=4).validate()
    before, after = set(pairs_of(graph, NEAR)), set(pairs_of(made, NEAR))
    assert len(after) == len(before) == graph.num_edges(NEAR)
    outside = moved = 0
    for gene in range(25):
        for number in (0, 1, 2, None):
            reach = {peak for peak in range(200) if bin_of(graph, gene, peak) == number}
            old, new = ({peak for a, peak in edges if a == gene} & reach for edges in (before, after))
            assert len(new) == len(old)
            if number is None:
                assert new == old
                outside += len(old)
            else:
                assert len(new - old) == min(len(old), len(reach) - len(old))
                moved += len(new - old)
    note = made.meta["transforms"][0]
    assert (note["moved"], note["outside"], note["stayed"]) == (moved, outside, len(before) - moved - outside)
    assert sorted((a, w) for a, _, w in triples(made, NEAR)) == sorted((a, w) for a, _, w in triples(graph, NEAR))
    for gene, peak, far in triples(made, NEAR, "distance"):
        if int(graph.ndata("gene")["chrom"][gene]) >= 0:
            assert far == abs(int(graph.ndata("gene")["position"][gene]) - int(graph.ndata("peak")["position"][peak]))
    again = transforms.rewire_within_distance(graph, NEAR, bins_bp=BOUNDS, seed=4)
    assert triples(again, NEAR) == triples(made, NEAR)
    assert triples(made, REACHED) == sorted((b, a, w) for a, b, w in triples(made, NEAR))


def test_either_end_can_keep_its_numbers_by_either_name():
    graph = placed()
    by_gene = transforms.rewire_within_distance(graph, NEAR, bins_bp=BOUNDS, seed=0)
    assert triples(
        transforms.rewire_within_distance(graph, REACHED, keep="dst", bins_bp=BOUNDS, seed=0), NEAR
    ) == triples(by_gene, NEAR)
    by_peak = transforms.rewire_within_distance(graph, NEAR, keep="dst", bins_bp=BOUNDS, seed=0)
    assert degrees(by_gene, NEAR)[0] == degrees(graph, NEAR)[0]
    assert degrees(by_peak, NEAR)[1] == degrees(graph, NEAR)[1]
    assert degrees(by_gene, NEAR)[1] != degrees(graph, NEAR)[1]


def test_every_free_peak_is_as_likely():
    anchor, other = np.zeros(2, np.int64), np.array([1, 3])
    at = Places(np.zeros(1, np.int64), np.array([500]))
    to = Places(np.zeros(6, np.int64), np.array([400, 450, 500, 550, 590, 900]))
    found = Counter()
    for seed in range(600):
        moved = move_links(anchor, other, at, to, np.array([0, 101]), np.random.default_rng(seed))
        assert moved.moved.all()
        found[frozenset(moved.other.tolist())] += 1
    assert found.keys() == {frozenset(pair) for pair in itertools.combinations([0, 2, 4], 2)}
    assert stats.chisquare(list(found.values())).pvalue > 1e-3


def test_links_that_cannot_be_rewired():
    graph = placed(share=1.1, within=999)  # every peak in reach is linked
    with pytest.raises(
        GraphError, match=rf"none of {graph.num_edges(NEAR)} links of .* can move: 0 are outside 0 to 1000"
    ):
        transforms.rewire_within_distance(graph, NEAR, bins_bp=BOUNDS, seed=0)
    with pytest.raises(GraphError, match="joins nodes of one type, expected two"):
        transforms.rewire_within_distance(cells_and_genes(), WITH, seed=0)
    for wrong in ((0,), (0, 5, 5), (-1, 4)):
        with pytest.raises(GraphError, match="expected two or more bounds of 0 bp or more that rise"):
            transforms.rewire_within_distance(graph, NEAR, bins_bp=wrong, seed=0)
    with pytest.raises(GraphError, match="nodes 'cell' have no chrom and no position"):
        transforms.rewire_within_distance(cells_and_genes(), HAS, seed=0)


def test_a_shuffle_leaves_distances_of_other_pairs_out():
    made = transforms.shuffle_edges(placed(), NEAR, seed=0, progress=False).validate()
    assert set(made.edata(NEAR)) == set(made.edata(REACHED)) == {"weight"}
    assert made.meta["transforms"][0]["dropped_data"] == ["distance"]


def test_transforms_are_noted_one_after_the_other_and_survive_the_disk(tmp_path):
    graph = cells_and_genes()
    made = transforms.subsample_edges(transforms.threshold(graph, HAS, "weight", at_least=9), HAS, share=0.5, seed=0)
    made = transforms.shuffle_edges(transforms.subsample_nodes(made, "cell", number=20, seed=1), HAS, seed=2)
    names = ["threshold", "subsample_edges", "subsample_nodes", "shuffle_edges"]
    assert [note["name"] for note in made.meta["transforms"]] == names
    made.save(tmp_path / "graph")
    back = HeteroGraph.load(tmp_path / "graph").validate()
    assert back.meta["transforms"] == made.meta["transforms"]
    assert triples(back, HAS) == triples(made, HAS)
    assert "transforms[3].swaps" in back.card.text()


def test_the_kind_stays_while_its_rules_hold():
    from heteromics.graphs import Kind, register

    register(Kind("cells_and_genes_of_a_test", nodes={"cell": {}}, edges={HAS: {}}))
    graph = cells_and_genes()
    graph.kind = "cells_and_genes_of_a_test"
    assert transforms.shuffle_edges(graph, HAS, seed=0, progress=False).kind == graph.kind
    assert transforms.drop_edge_type(graph, WITH).kind == graph.kind
    assert transforms.drop_edge_type(graph, HAS).kind == "custom"


def test_a_graph_made_by_dgl_with_edges_in_any_order():
    from heteromics.graphs._dgl import dgl

    plain = dgl.heterograph({HAS: (torch.tensor([2, 0, 1, 0]), torch.tensor([0, 1, 1, 0]))})
    plain.edges[HAS].data["weight"] = torch.tensor([1.0, 2.0, 3.0, 4.0])
    plain.adj_tensors("csr", etype=HAS)
    graph = HeteroGraph(plain, names={"cell": list("abc"), "gene": list("xy")})
    made = transforms.threshold(graph, HAS, "weight", at_least=2)
    assert triples(made, HAS) == [(0, 0, 4.0), (0, 1, 2.0), (1, 1, 3.0)]


def test_paths_of_two_by_hand():
    table = sparse.csr_array(np.array([[1, 1, 0], [0, 0, 1]]))
    paths, none = _metapath.count_paths([table, table.T.tocsr()], None, 10)
    assert none is None
    np.testing.assert_array_equal(paths.toarray(), [[2, 0], [0, 1]])

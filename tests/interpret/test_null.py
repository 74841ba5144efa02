from itertools import pairwise

import numpy as np
import pandas as pd
import pytest
import torch
from scipy import stats

from heteromics import interpret
from heteromics.errors import DataError
from heteromics.graphs import HeteroGraph
from heteromics.graphs.pairs import EXPRESSES, OPENS
from heteromics.interpret._null_cells import blocks_of, exchanged
from heteromics.interpret._null_distance import FEWEST, rewired
from heteromics.interpret._null_mixture import link_probability
from heteromics.interpret.null import _Null
from heteromics.models import Bi2Former, Bi2FormerConfig
from heteromics.models._links import candidate_keys
from tests.models.test_bi2former import build, network_of, planted, random_graph

SMALL = Bi2FormerConfig(id_width=8, hidden=8, key_width=8, top_k=None)


def untrained(graph, config=SMALL, seed=0):
    """A model with the weights it starts from: its links say nothing, but vary as those of any model."""
    model = Bi2Former(graph, config=config)
    model._network = network_of(graph, config, seed)
    return model


def both(cells):
    return np.stack([np.arange(cells)] * 2, axis=1)


def every_link(graph):
    """All pairs of gene and peak on one chromosome, as candidates."""
    chrom = [graph.ndata(side)["chrom"].numpy() for side in ("gene", "peak")]
    gene, peak = np.nonzero((chrom[0][:, None] == chrom[1]) & (chrom[0][:, None] >= 0))
    return pd.DataFrame({"gene": graph.names["gene"][gene], "peak": graph.names["peak"][peak]})


def labelled_graph(cells, seed=0, **codes):
    """A random graph with codes of cells as bipartite() keeps them."""
    graph = random_graph(cells=cells, seed=seed)
    labels = {name: torch.as_tensor(code) for name, code in codes.items()}
    return HeteroGraph.from_compressed(
        {etype: graph.stored(etype)[0] for etype in (EXPRESSES, OPENS)},
        names=graph.names,
        ndata={side: labels if side.endswith("cell") else graph.ndata(side) for side in graph.ntypes},
        edata={etype: graph.edata(etype) for etype in (EXPRESSES, OPENS)},
        kind="bipartite",
        meta={**graph.meta, "categories": {n: [f"{n}{i}" for i in range(max(code) + 1)] for n, code in codes.items()}},
    )


class TestBlocks:
    def test_cells_of_a_block_share_label_and_depth(self):
        rng = np.random.default_rng(0)
        labels, depth = rng.integers(0, 4, 300), rng.integers(0, 1_000, 300)
        block = blocks_of(labels, depth, size=20)
        assert np.array_equal(np.unique(block), np.arange(block.max() + 1))
        for number in range(block.max() + 1):
            assert len(set(labels[block == number])) == 1
            assert 20 <= (block == number).sum() < 40
        for label in range(4):  # blocks do not overlap in depth
            ends = sorted((depth[block == b].min(), depth[block == b].max()) for b in set(block[labels == label]))
            assert all(low >= high for (_, high), (low, _) in pairwise(ends))

    def test_a_small_label_is_one_block(self):
        assert blocks_of(np.array([0, 1, 1]), np.array([1, 2, 3])).tolist() == [0, 1, 1]
        assert blocks_of(np.empty(0, int), np.empty(0, int)).size == 0


class TestExchangedCells:
    @pytest.mark.parametrize("heads", [1, 2])
    def test_moments_are_those_of_links_of_the_permuted_pairs(self, heads):
        graph = random_graph(cells=14)
        config = Bi2FormerConfig(id_width=8, hidden=8, key_width=8, heads=heads)
        model, candidates = untrained(graph, config), every_link(graph)
        block = np.array([0, 1, 0, 2, 1, 0, 2, 0, 1, 2, 0, 3, 1, 0])
        wanted = np.sort(candidate_keys(graph, candidates))
        rng = np.random.default_rng(5)
        found = exchanged(model, graph, both(14), block, wanted, 4, rng, "cpu", progress=False)
        again, sums = np.random.default_rng(5), np.zeros((4, 4, len(candidates)))  # by block and permutation
        for b in range(4):
            for turn in range(4):
                members = np.flatnonzero(block == b)
                pairs = np.stack([members, again.permutation(members)], axis=1)
                table = model.links(pairs, candidates=candidates)
                order = np.argsort(candidate_keys(graph, candidates))
                sums[b, turn] = (table["score"] * table["n_pairs"]).to_numpy()[order]
        var = sums.var(axis=1, ddof=1)
        np.testing.assert_allclose(found.mean, sums.mean(axis=1).sum(0), rtol=1e-4, atol=1e-7)
        np.testing.assert_allclose(found.var, var.sum(0), rtol=1e-3, atol=1e-11)
        varies = var.sum(0) > 1e-10
        assert varies.sum() > 100
        df = var.sum(0)[varies] ** 2 / (var[:, varies] ** 2 / 3).sum(0)
        np.testing.assert_allclose(found.df[varies], df, rtol=1e-3)

    def test_batches_of_strata_do_not_matter(self, monkeypatch):
        graph = random_graph(cells=20)
        model, candidates = untrained(graph), every_link(graph)
        tables = []
        for held in (8, 1024):
            monkeypatch.setattr("heteromics.interpret._null_cells._HELD", held)
            tables.append(
                interpret.links(model, graph, groups=None, cells=both(20), candidates=candidates, progress=False)
            )
        pd.testing.assert_frame_equal(*tables, rtol=1e-4, atol=1e-6)

    def test_p_is_uniform_where_profiles_have_nothing_to_do_with_each_other(self):
        graph = random_graph(cells=240, genes=16, peaks=60, seed=3)
        found = interpret.links(
            untrained(graph), graph, groups=None, cells=both(240), candidates=every_link(graph), progress=False
        )
        assert len(found) > 200
        assert found["z"].std() == pytest.approx(1, abs=0.15)
        for level in (0.5, 0.1, 0.05):
            assert (found["p"] < level).mean() == pytest.approx(level, abs=0.035)
        assert (found["fdr"] < 0.05).mean() < 0.01
        assert (found["posterior"] > 0.9).mean() < 0.01

    def test_what_types_have_in_common_is_no_link(self):
        """Half of all genes and peaks are of one type, half of the other; within a type they are independent."""
        rng = np.random.default_rng(0)
        kind = np.arange(200) % 2
        rna, atac = (rng.poisson(np.where(kind[:, None] == np.arange(n) % 2, 2.0, 0.3), (200, n)) for n in (12, 30))
        rna[:, 1], atac[:, 1] = 1, 1
        graph = build(rna, atac, n_chrom=1)
        options = {"groups": None, "cells": both(200), "candidates": every_link(graph), "progress": False}
        apart = interpret.links(untrained(graph), graph, within=kind, **options)
        mixed = interpret.links(untrained(graph), graph, **options)
        assert (apart["p"] < 0.05).mean() < 0.1
        assert (mixed["p"] < 0.05).mean() > 0.3


class TestDistance:
    def test_location_and_scale_are_those_of_peers(self):
        rng = np.random.default_rng(0)
        score, distance, chrom = rng.normal(size=900), rng.integers(0, 3_000, 900), rng.integers(0, 3, 900)
        bounds = np.array([0, 1_000, 2_000])
        location, scale = rewired(score, distance, chrom, bounds)
        for row in range(0, 900, 50):
            peers = score[(chrom == chrom[row]) & (distance // 1_000 == distance[row] // 1_000)]
            assert len(peers) >= FEWEST
            assert location[row] == pytest.approx(np.median(peers))
            assert scale[row] == pytest.approx(stats.median_abs_deviation(peers, scale="normal"))

    def test_few_peers_give_way_to_the_bin_and_then_to_all(self):
        score = np.arange(100.0)
        distance = np.where(np.arange(100) < 50, 10, 2_000)
        chrom = np.where(np.arange(100) < 10, 0, 1)
        distance[99] = -1
        location, _ = rewired(score, distance, chrom, np.array([0, 1_000, 5_000]))
        assert location[0] == np.median(score[:50])
        assert location[20] == np.median(score[10:50])
        assert location[60] == np.median(score[50:99])
        assert location[99] == np.median(score)

    def test_a_link_stands_out_among_links_of_its_length(self):
        graph = random_graph(cells=60)
        found = interpret.links(
            untrained(graph),
            graph,
            groups=None,
            cells=both(60),
            candidates=every_link(graph),
            null="distance",
            bins_bp=(0, 20_000, 100_000),
            progress=False,
        )
        assert "z_distance" not in found
        assert found["z"].median() == pytest.approx(0, abs=0.1)
        position = [graph.ndata(s)["position"].numpy()[graph.index(s, found[s])] for s in ("gene", "peak")]
        np.testing.assert_array_equal(found["distance"], np.abs(position[0] - position[1]))


class TestProbability:
    def test_agrees_with_the_mixture_that_the_data_were_drawn_from(self):
        rng = np.random.default_rng(0)
        distance = rng.integers(0, 150_000, 4_000)
        odds = 2.0 * (1 + distance / 1_000) ** -0.8
        prior = np.stack([np.ones(4_000), odds, odds / 2], axis=1) / (1 + 1.5 * odds)[:, None]
        kind = (rng.random(4_000)[:, None] > prior.cumsum(1)[:, :2]).sum(1)
        z = rng.normal(size=4_000) + np.array([0, 1, -1])[kind] * rng.exponential(3, 4_000)
        density = [stats.norm.pdf(z), stats.exponnorm.pdf(z, 3), stats.exponnorm.pdf(-z, 3)]
        joint = prior * np.stack(density, axis=1)
        found = link_probability(z, distance)
        np.testing.assert_allclose(found.sum(1), 1)
        off = np.abs(found - joint / joint.sum(1, keepdims=True))
        assert off.mean() < 0.015
        assert off.max() < 0.25

    def test_rises_with_z_and_falls_with_distance(self):
        rng = np.random.default_rng(1)
        distance = np.concatenate([rng.integers(0, 5_000, 300), rng.integers(50_000, 150_000, 2_000)])
        z = rng.normal(size=2_300) + np.where(np.arange(2_300) < 100, 4.0, 0.0)
        above = link_probability(z, distance)[:, 1]
        order = np.argsort(z[300:])
        odds = np.log(above[300:]) - np.log(link_probability(z, distance)[300:, 0])
        same = distance[300:][order] // 2_000
        for bin_ in np.unique(same)[:10]:
            assert stats.spearmanr(z[300:][order][same == bin_], odds[order][same == bin_])[0] > 0.95
        assert above[:100].mean() > above[(distance > 5_000) & (z > 2)].mean()

    def test_few_links_rest_on_the_prior(self):
        assert link_probability([0.1, -0.2], [100, 200])[:, 0].min() > 0.8
        assert link_probability([], []).shape == (0, 3)
        with pytest.raises(DataError, match="z: found shape \\(2,\\) with 1 values that are not finite"):
            link_probability([np.nan, 1.0], [1, 2])


@pytest.fixture(scope="module")
def learnt():
    """A model that has learnt which of three peaks drives a gene, and the table of its links."""
    from heteromics.tasks import make_pairs

    graph = planted(cells=400)
    config = Bi2FormerConfig(id_width=16, hidden=8, key_width=16, top_k=None, max_epochs=20, patience=20, batch_size=32)
    model = Bi2Former(graph, config=config).fit(
        lambda epoch: make_pairs(np.arange(280), np.zeros(280), mode="random", seed=epoch),
        validation=make_pairs(np.arange(280, 400), np.zeros(120), mode="random"),
        device="cpu",
        progress=False,
    )
    candidates = every_link(graph)
    options = {"groups": None, "cells": both(400), "candidates": candidates, "progress": False, "device": "cpu"}
    return model, graph, interpret.links(model, graph, **options), options


class TestLinks:
    def test_planted_links_are_found_and_idle_peaks_are_not(self, learnt):
        found = learnt[2]
        gene, peak = (found[side].str[4:].astype(int) for side in ("gene", "peak"))
        driver, idle = peak == 3 * gene, (peak % 3 > 0) | (peak == 48)
        assert driver.sum() >= 10
        assert (found["fdr"][driver] < 0.01).mean() > 0.8
        assert (found["p"][idle] < 0.05).mean() < 0.09
        assert (found["fdr"][idle] < 0.05).mean() < 0.02
        elsewhere = ~driver & ~idle  # peaks that drive another gene: shifted, since the model hears them through it
        assert (found["fdr_distance"][elsewhere] < 0.05).mean() < 0.05
        assert found["posterior"][driver].mean() > 0.9 > 0.2 > found["posterior"][idle].mean()

    def test_columns_of_the_model_are_as_the_model_gives_them(self, learnt):
        model, _, found, options = learnt
        own = model.links(both(400), candidates=options["candidates"])
        pd.testing.assert_frame_equal(found[own.columns], own)
        assert list(found.columns[-13:-1]) == [
            *("null_mean", "null_sd", "z", "p", "fdr", "fdr_above"),
            *(f"{name}_distance" for name in ("null_mean", "null_sd", "z", "p", "fdr", "fdr_above")),
        ]
        assert not found.isna().any(axis=None)

    def test_the_same_seed_gives_the_same_table_and_another_one_nearly(self, learnt):
        model, graph, _, options = learnt
        options = {**options, "cells": both(80)}
        found, again = (interpret.links(model, graph, **options) for _ in range(2))
        pd.testing.assert_frame_equal(found, again)
        other = interpret.links(model, graph, seed=1, **options)
        assert 0.8 < np.corrcoef(found["z"], other["z"])[0, 1] < 1
        fewer = interpret.links(model, graph, **{**options, "candidates": options["candidates"][10:40]})
        pd.testing.assert_frame_equal(
            fewer[["gene", "peak", "z", "p"]], found.loc[10:39, ["gene", "peak", "z", "p"]].reset_index(drop=True)
        )

    def test_groups_are_tested_apart(self):
        kind = np.arange(60) % 2
        graph = labelled_graph(60, cell_type=kind, batch=np.arange(60) // 30)
        model, candidates = untrained(graph), every_link(graph)
        found = interpret.links(model, graph, candidates=candidates, progress=False)
        assert found["group"].unique().tolist() == ["cell_type0", "cell_type1"]
        assert len(found) == 2 * len(candidates)
        assert found.attrs["null"] == {"blocks": 4, "cells_alone": 0, "groups_alone": []}
        first = interpret.links(
            model, graph, cells=both(60)[kind == 0], groups=None, candidates=candidates, progress=False
        )
        pd.testing.assert_series_equal(found["z"][: len(candidates)], first["z"])
        one = np.where(np.arange(60) == 7, "rare", "other")
        own = interpret.links(model, graph, groups=one, cells=both(60), null="cells", progress=False)
        assert own.attrs["null"]["groups_alone"] == ["rare"]
        rare = own[own["group"] == "rare"]
        assert len(rare) > 10
        assert (rare["z"] == 0).all()
        assert (rare["p"] == 1).all()
        assert own[own["group"] == "other"]["z"].std() > 0.5

    def test_links_that_never_meet_or_do_not_vary_are_none(self):
        graph = random_graph(cells=30)
        candidates = every_link(graph)
        lonely = pd.DataFrame({"gene": graph.names["gene"][[0]], "peak": graph.names["peak"][[5]]})  # no chromosome
        found = interpret.links(
            untrained(graph),
            graph,
            groups=None,
            cells=both(30),
            candidates=pd.concat([candidates, lonely]),
            progress=False,
        ).iloc[-1]
        assert (found["distance"], found["z"], found["p"], found["posterior"]) == (-1, 0, 1, 0)

    @pytest.mark.parametrize(
        ("options", "message"),
        [
            ({"null": "genes"}, "null: found g, e, n|null: found genes, expected one or both of cells, distance"),
            ({"null": ()}, "null: found none, expected one or both"),
            ({"permutations": 1}, "permutations: found 1, expected 2 or more"),
            ({"bins_bp": (5,)}, r"bins_bp: found \[5\], expected two or more bounds"),
            ({"groups": ["a"]}, r"groups: found shape \(1,\) for 20 cells"),
            ({"groups": "cell_type"}, "groups='cell_type': the graph has no such labels"),
            ({"within": ["a"]}, r"within: found shape \(1,\) for 20 cells"),
            ({"cells": np.arange(20)}, r"cells: found int64 of shape \(20,\), expected rows of the RNA and the ATAC"),
            ({"within": np.arange(20)}, r"found 1 of 1 groups \(all\) with no two cells of one type and batch"),
        ],
    )
    def test_refuses_what_it_cannot_use(self, options, message):
        graph = random_graph(cells=20)
        options = {"groups": None, "cells": both(20), "progress": False, **options}
        with pytest.raises(DataError, match=message):
            interpret.links(untrained(graph), graph, **options)


def test_links_chosen_above_their_null_hold_the_rate_though_many_avoid():
    rng = np.random.default_rng(0)
    z = np.concatenate([rng.normal(size=9_000), rng.normal(-6, 1, 1_000)])
    rows = len(z)
    tests = _Null(np.zeros(rows), np.ones(rows), np.full(rows, np.inf)).tests(z)
    assert ((tests["fdr"] <= 0.05) & (z > 0)).sum() >= 10  # chosen by sign after a two-sided test: all are false
    assert (tests["fdr_above"] <= 0.05).sum() == 0
    p = stats.norm.sf(z)
    np.testing.assert_allclose(tests["fdr_above"], stats.false_discovery_control(p))

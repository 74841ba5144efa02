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
from heteromics.interpret._expected import expected_pairs
from heteromics.interpret._null_cells import blocks_of, exchanged
from heteromics.models import Bi2Former, Bi2FormerConfig
from heteromics.models._links import candidate_keys, present
from tests.models.test_bi2former import build, network_of, planted, random_graph

SMALL = Bi2FormerConfig(id_width=8, hidden=8, key_width=8, top_k=None)


def untrained(graph, config=SMALL, seed=0):
    """A model with the weights it starts from: its links say nothing, but vary as those of any model."""
    model = Bi2Former(graph, config=config)
    model._network = network_of(graph, config, seed)
    return model


def error(share, number):
    return np.sqrt(share * (1 - share) / number)


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

    def test_depth_that_cells_share_makes_hardly_a_link_in_a_small_type(self):
        """Sums over permutations have their exact mean and variance here, so that nothing but the blocks is tested."""
        rng, z = np.random.default_rng(0), []
        for _ in range(20):
            depth = np.exp(rng.normal(0, 0.5, 60))
            block = blocks_of(np.zeros(60, int), rng.poisson(300 * depth))
            gene, peak = ((rng.random((60, 200)) < -np.expm1(-rate * depth)[:, None]) for rate in (0.4, 0.3))
            off = (gene & peak).sum(0).astype(float)
            var = np.zeros(200)
            for number in range(block.max() + 1):
                left, right = gene[block == number], peak[block == number]
                off -= left.sum(0) * right.mean(0)
                var += left.var(0, ddof=1) * right.var(0, ddof=1) * (len(left) - 1)
            z.extend(off / np.sqrt(var))
        assert len(z) == 4_000
        assert np.mean(z) < 0.2  # in one block of 60 cells 0.55
        assert np.mean(np.greater(z, 1.96)) < 0.045  # there 0.086


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
        third = stats.kstat(np.moveaxis(sums, 1, 0), 3, axis=0).sum(0)
        np.testing.assert_allclose(found.third[varies], third[varies], rtol=5e-3, atol=1e-4 * (var.sum(0) ** 1.5).max())

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
        tables = []
        for seed in (3, 4, 5):
            graph = random_graph(cells=160, genes=16, peaks=60, seed=seed)
            options = {"groups": None, "cells": both(160), "candidates": every_link(graph), "progress": False}
            tables.append(interpret.links(untrained(graph, seed=seed), graph, seed=seed, **options))
        found = pd.concat(tables, ignore_index=True)
        assert found["tested"].sum() > 600
        found = found[found["tested"]]
        assert found["z"].std() == pytest.approx(1, abs=0.1)
        for level in (0.5, 0.1, 0.05, 0.01, 0.001):
            assert (found["p"] < level).mean() == pytest.approx(level, abs=3 * error(level, len(found)))
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
        assert (apart["p"] < 0.05).mean() < 0.05 + 3 * error(0.05, len(apart))
        assert (mixed["p"] < 0.05).mean() > 0.3


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


@pytest.fixture(scope="module")
def sparse():
    """Even genes and peaks are seen in one type of cells alone, odd ones in the other: graph, types, pairs."""
    rng, kind = np.random.default_rng(0), np.arange(120) % 2
    rna, atac = (
        rng.poisson(np.where(kind[:, None] == np.arange(n) % 2, rng.uniform(0.3, 1.5, n), 0)) for n in (12, 40)
    )
    graph = build(rna, atac, n_chrom=1)
    return graph, kind, every_link(graph)


class TestLinks:
    def test_planted_links_are_found_and_idle_peaks_are_not(self, learnt):
        found = learnt[2]
        gene, peak = (found[side].str[4:].astype(int) for side in ("gene", "peak"))
        driver, idle = peak == 3 * gene, (peak % 3 > 0) | (peak == 48)
        assert driver.sum() >= 10
        assert (found["fdr"][driver] < 0.01).mean() > 0.8
        assert found["tested"].all()
        assert (found["fdr_both"][driver] < 0.05).mean() > 0.6
        for level in (0.05, 0.01, 0.001):
            assert (found["p"][idle] < level).mean() < level + 3 * error(level, idle.sum())
        assert (found["fdr"][idle] < 0.05).mean() < 0.02
        elsewhere = ~driver & ~idle  # peaks that drive another gene: shifted, since the model hears them through it
        assert (found["fdr_distance"][elsewhere] < 0.05).mean() < 0.05
        assert (found["posterior"][driver] > 0.9).mean() > 0.8
        assert found["posterior"][idle].mean() < 0.1

    def test_columns_of_the_model_are_as_the_model_gives_them(self, learnt):
        model, _, found, options = learnt
        own = model.links(both(400), candidates=options["candidates"])
        pd.testing.assert_frame_equal(found[own.columns], own)
        assert list(found.columns[-16:]) == [
            *("expected", "tested"),
            *("null_mean", "null_sd", "z", "p", "fdr", "fdr_above"),
            *(f"{name}_distance" for name in ("null_mean", "null_sd", "z", "p", "fdr", "fdr_above")),
            *("fdr_both", "posterior"),
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

    def test_distance_alone_and_in_bp(self):
        graph = random_graph(cells=60)
        options = {"groups": None, "cells": both(60), "candidates": every_link(graph), "progress": False}
        found = interpret.links(untrained(graph), graph, null="distance", bins_bp=(0, 20_000, 100_000), **options)
        assert not {"z_distance", "fdr_both"} & {*found}
        position = [graph.ndata(s)["position"].numpy()[graph.index(s, found[s])] for s in ("gene", "peak")]
        np.testing.assert_array_equal(found["distance"], np.abs(position[0] - position[1]))

    def test_groups_are_tested_apart(self):
        kind = np.arange(60) % 2
        graph = labelled_graph(60, cell_type=kind, batch=np.arange(60) // 30)
        model, candidates = untrained(graph), every_link(graph)
        found = interpret.links(model, graph, candidates=candidates, progress=False)
        assert found["group"].unique().tolist() == ["cell_type0", "cell_type1"]
        assert len(found) == 2 * len(candidates)
        few = (found["expected"] < 10).groupby(found["group"]).sum().to_dict()
        assert found.attrs["null"] == {
            "blocks": 4,
            "cells_alone": 0,
            "groups_alone": [],
            "too_few": few,
            "n_training": 0,
            "chosen_by_model": False,
        }
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

    def test_pairs_that_exchange_hardly_brings_together_are_not_tested_and_touch_no_other(self, sparse):
        graph, kind, candidates = sparse
        model, options = untrained(graph), {"groups": None, "cells": both(120), "within": kind, "progress": False}
        found = interpret.links(model, graph, candidates=candidates, **options)
        gene, peak = (found[side].str[4:].astype(int) for side in ("gene", "peak"))
        there = [graph.adjacency(etype)[1].numpy() for etype in (EXPRESSES, OPENS)]
        margin = [np.bincount(side)[at] for side, at in zip(there, (gene, peak), strict=True)]
        across = ((gene % 2) != (peak % 2)).to_numpy()
        assert (margin[0] * margin[1] / 120)[across].max() > 10  # enough, were cells exchanged across types
        assert found["expected"][across].max() == 0
        assert not found["tested"][across].any()
        enough = found["expected"] >= 10
        assert 50 < enough.sum() < (~across).sum()
        pd.testing.assert_series_equal(found["tested"], enough, check_names=False)
        rest = found[~found["tested"]]
        assert (rest[["z", "posterior", "z_distance"]] == 0).all(axis=None)
        assert (rest[["p", "fdr", "fdr_above", "fdr_distance", "fdr_above_distance", "fdr_both"]] == 1).all(axis=None)
        assert found.attrs["null"]["too_few"] == {"all": len(rest)}
        alone = interpret.links(model, graph, candidates=candidates[enough], **options)
        pd.testing.assert_frame_equal(alone, found[enough].reset_index(drop=True))
        whole = interpret.links(model, graph, candidates=candidates, least_expected=0, **options)
        assert whole["tested"].sum() > enough.sum()

    def test_expected_pairs_are_the_mean_over_exchanges(self, sparse):
        graph, kind, candidates = sparse
        block, rng = blocks_of(kind, np.arange(120)), np.random.default_rng(0)
        rna, atac = (present(graph, etype, np.arange(120)).toarray() for etype in (EXPRESSES, OPENS))  # 120 cells
        met = np.zeros((rna.shape[1], atac.shape[1]))
        for _ in range(400):
            dealt = np.empty(120, int)
            for number in range(block.max() + 1):
                members = np.flatnonzero(block == number)
                dealt[members] = rng.permutation(members)
            met += rna.T @ atac[dealt] / 400
        wanted = met[tuple(graph.index(side, candidates[side]) for side in ("gene", "peak"))]
        found = expected_pairs(graph, both(120), candidates, block)
        np.testing.assert_allclose(found, wanted, atol=6 * np.sqrt(wanted.max() / 400))
        assert np.corrcoef(found, wanted)[0, 1] > 0.999

    def test_what_p_are_worth_is_told(self):
        training = torch.arange(20) < 12
        graph = labelled_graph(20, training=training)
        model = untrained(graph)
        found = interpret.links(model, graph, groups=None, cells=both(20)[8:], progress=False)
        assert (found.attrs["null"]["n_training"], found.attrs["null"]["chosen_by_model"]) == (4, True)

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
            ({"null": "genes"}, "null: found genes, expected one or both of cells, distance"),
            ({"least_expected": -1}, "least_expected: found -1, expected a number of cells, 0 or more"),
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

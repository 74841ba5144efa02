"""Nulls as arrays: the tail of skewed sums, peers by distance, the posterior."""

import numpy as np
import pytest
from scipy import optimize, stats

from heteromics.errors import DataError
from heteromics.interpret._null_cells import Chance, _add_moments
from heteromics.interpret._null_distance import FEWEST, rewired
from heteromics.interpret._null_mixture import _minus_log_likelihood, link_probability
from heteromics.interpret._null_tests import Null, of_peers, of_sums


def test_sums_of_few_meetings_have_the_tail_they_are_said_to_have():
    """Ten meetings in ten blocks are expected, each adding an exponential; by t alone the tail is far too thin."""
    rng, rows, blocks, turns = np.random.default_rng(0), 60_000, 10, 10
    moments = tuple(np.zeros(rows) for _ in range(4))
    for block in range(blocks):
        met = rng.poisson(10 / blocks, (turns, rows))
        sums = np.where(met > 0, rng.gamma(np.maximum(met, 1)), 0.0).ravel()
        at = np.flatnonzero(sums)
        _add_moments(block * turns * rows + at, sums[at, None], turns, moments)
    mean, var, spread, third = moments
    drawn = rng.gamma(np.maximum(rng.poisson(10, rows), 1e-9))
    null = of_sums(Chance(mean, var, var**2 * (turns - 1) / spread, third), turns)
    found = null.tests(drawn)
    plain = stats.t.sf((drawn - mean) / null.sd, null.df)
    assert (plain < 0.001).mean() > 0.006
    for level, most in ((0.05, 1.3), (0.01, 1.7), (0.001, 3)):
        assert (found["above"] < level).mean() < most * level
        assert (found["p"] < level).mean() == pytest.approx(level, rel=0.6)


def test_links_chosen_above_their_null_hold_the_rate_though_many_avoid():
    rng = np.random.default_rng(0)
    z = np.concatenate([rng.normal(size=9_000), rng.normal(-6, 1, 1_000)])
    rows = len(z)
    tests = Null(np.zeros(rows), np.ones(rows), np.full(rows, np.inf), np.zeros(rows)).tests(z)
    assert ((tests["fdr"] <= 0.05) & (z > 0)).sum() >= 10  # chosen by sign after a two-sided test: all are false
    assert (tests["fdr_above"] <= 0.05).sum() == 0
    p = stats.norm.sf(z)
    np.testing.assert_allclose(tests["fdr_above"], stats.false_discovery_control(p))


class TestDistance:
    def test_location_and_scale_are_those_of_peers(self):
        rng = np.random.default_rng(0)
        score, distance, chrom = rng.normal(size=900), rng.integers(0, 3_000, 900), rng.integers(0, 3, 900)
        bounds = np.array([0, 1_000, 2_000])
        location, scale, number = rewired(score, distance, chrom, bounds)
        for row in range(0, 900, 50):
            peers = score[(chrom == chrom[row]) & (distance // 1_000 == distance[row] // 1_000)]
            assert number[row] == len(peers) >= FEWEST
            assert location[row] == pytest.approx(np.median(peers))
            assert scale[row] == pytest.approx(stats.median_abs_deviation(peers, scale="normal"))

    def test_few_peers_give_way_to_the_bin_and_then_to_all(self):
        score = np.arange(100.0)
        distance = np.where(np.arange(100) < 50, 10, 2_000)
        chrom = np.where(np.arange(100) < 10, 0, 1)
        distance[99] = -1
        location, _, peers = rewired(score, distance, chrom, np.array([0, 1_000, 5_000]))
        assert peers[[0, 20, 60, 99]].tolist() == [50, 40, 49, 100]
        assert location[0] == np.median(score[:50])
        assert location[20] == np.median(score[10:50])
        assert location[60] == np.median(score[50:99])
        assert location[99] == np.median(score)

    def test_a_link_stands_out_among_links_of_its_length(self):
        """Near links are all high. One far link is as high as they are: among far ones it stands out, they do not."""
        rng = np.random.default_rng(0)
        distance = np.repeat([1_000, 50_000], 400)
        z = rng.normal(size=800) + np.repeat([6.0, 0.0], 400)
        z[-1] = 6.0
        found = of_peers(*rewired(z, distance, np.zeros(800, int), np.array([0, 20_000, 100_000]))).tests(z)
        assert np.flatnonzero(found["fdr_above"] < 0.05).tolist() == [799]
        assert found["z"][:400].mean() == pytest.approx(0, abs=0.1)

    def test_small_bins_do_not_make_small_p(self):
        rng, number = np.random.default_rng(0), 60_000
        z = rng.normal(size=number)
        found = of_peers(*rewired(z, np.arange(number) // 30, np.zeros(number, int), np.arange(number // 30))).tests(z)
        for level in (0.05, 0.01, 0.001):  # 1.6, 2.9 and 7.8 times as many by a normal
            assert 0.3 * level < (found["p"] < level).mean() < 1.2 * level


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

    def test_the_gradient_is_that_of_the_likelihood(self):
        rng = np.random.default_rng(0)
        z, far = rng.normal(size=50) * 4, rng.normal(size=50)
        for _ in range(3):
            at = np.array([0.0, 0, 1.1, 1.1, -3, -4, -0.75]) + rng.normal(size=7) / 2
            found = _minus_log_likelihood(at, z, far)[1]
            wanted = optimize.approx_fprime(at, lambda x: _minus_log_likelihood(x, z, far)[0], 1e-6)
            np.testing.assert_allclose(found, wanted, rtol=1e-4, atol=1e-3)

    def test_many_links_are_fitted_to_a_part_of_them(self, monkeypatch):
        rng = np.random.default_rng(0)
        distance = rng.integers(0, 150_000, 6_000)
        z = rng.normal(size=6_000) + np.where(rng.random(6_000) < 0.1, rng.exponential(4, 6_000), 0)
        whole = link_probability(z, distance)
        monkeypatch.setattr("heteromics.interpret._null_mixture._FITTED", 2_000)
        assert 0 < np.abs(link_probability(z, distance) - whole).mean() < 0.02

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

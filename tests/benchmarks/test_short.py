import dataclasses
import json

import numpy as np
import pytest

from tests.benchmarks import links
from tests.benchmarks.__main__ import benchmarks, main, table
from tests.benchmarks.harness import PeerMissing, Result, agree, package

FIELDS = {
    *("name", "size", "ours_seconds", "peer", "peer_seconds", "ratio", "bar", "ours_peak_mb", "peer_peak_mb"),
    *("same", "passed"),
}
READY = sorted(name for name, benchmark in benchmarks().items() if not benchmark.missing())
OF_MEMORY = {"abg_memory", "bi2former_training_memory", "cell_feature_memory", "motif_memory", "shards"}
"""Their ratios are of peaks, which can be zero in a process that held more before."""
COMPILED = {"neighbors_approximate"}  # by numba, for minutes: it runs beside the other test of the descent, in test_knn
RESULT = Result("links", "full", 0.5, "peer", 30.0, 60.0, 50, 100.0, 1_500.0, True, "at_least", 3, "what it does")


def test_benchmarks_are_found_by_their_names():
    assert {"spmm", "links", "cell_feature_graph", "abg"} <= set(benchmarks())
    for name, benchmark in benchmarks().items():
        assert benchmark.name == name
        assert set(benchmark.sizes) == {"full", "short"}


@pytest.mark.no_cover
@pytest.mark.benchmark
@pytest.mark.filterwarnings("ignore")  # a peer may warn
@pytest.mark.parametrize("name", sorted(set(READY) - COMPILED))
def test_short_form_gives_the_peers_numbers(name):
    result = benchmarks()[name].run("short", apart=False)
    assert (result.name, result.size, result.same) == (name, "short", True)
    assert min(result.ours_seconds, result.peer_seconds, result.bar) > 0
    assert result.ratio > 0 or name in OF_MEMORY


@pytest.mark.benchmark
@pytest.mark.parametrize("name", ["motif_memory", "second_order"])
def test_short_form_by_command_in_processes_of_their_own(name, capfd):
    status = main([name, "--size", "short"])
    captured = capfd.readouterr()
    assert status == 0, captured.err
    last = json.loads(captured.out.strip().splitlines()[-1])
    assert last.keys() >= FIELDS
    assert (last["name"], last["size"], last["same"]) == (name, "short", True)
    assert min(last["ours_seconds"], last["peer_seconds"], last["ratio"], last["bar"]) > 0
    assert min(last["ours_peak_mb"], last["peer_peak_mb"]) >= 0


def test_missing_peer_is_an_error_that_says_how_to_get_it(monkeypatch, capsys):
    need = package("no_such_peer")
    lacking = dataclasses.replace(links.BENCHMARK, peer=dataclasses.replace(links.BENCHMARK.peer, needs=(need,)))
    with pytest.raises(
        PeerMissing, match=r"links needs no_such_peer, not found here. Fix: pip install 'heteromics\[be"
    ):
        lacking.run("short")
    monkeypatch.setattr(links, "BENCHMARK", lacking)
    assert main(["links"]) == 2
    assert "package no_such_peer not found. Fix: pip install 'heteromics[bench]'" in capsys.readouterr().err
    assert main(["link"]) == 2
    assert "no benchmark 'link'. Known: " in capsys.readouterr().err


def test_links_says_that_it_needs_scglue_and_bedtools():
    assert {need.name: need.fix for need in links.BENCHMARK.peer.needs} == {
        "scglue": "pip install 'heteromics[bench]'",
        "bedtools": "apt-get install bedtools",
    }


def test_our_links_of_the_short_form_are_right_without_the_peer():
    genome = links.uniform_genome(genes=60, peaks=800)
    answer = links.our_answer(links.ours(links.own_form(genome)))
    tss = np.where(genome.sign < 0, genome.bodies.end - 1, genome.bodies.start)
    left, right = tss[:, None] - genome.peaks.end + 1, genome.peaks.start - tss[:, None]
    gap = np.maximum(np.maximum(left, right), 0)
    gene, peak = np.nonzero((gap <= links.WITHIN_BP) & (genome.bodies.chrom[:, None] == genome.peaks.chrom))
    np.testing.assert_array_equal(answer["gene"], gene)
    np.testing.assert_array_equal(answer["peak"], peak)
    np.testing.assert_array_equal(answer["distance"], gap[gene, peak])


def test_passing_needs_the_bar_and_the_same_numbers():
    assert RESULT.passed
    assert not dataclasses.replace(RESULT, same=False).passed
    assert not dataclasses.replace(RESULT, ratio=49.9).passed
    assert dataclasses.replace(RESULT, ratio=49.9, size="short").passed
    assert dataclasses.replace(RESULT, ratio=1.5, bar=2, bar_is="at_most").passed
    assert not dataclasses.replace(RESULT, ratio=2.5, bar=2, bar_is="at_most").passed


def test_answers_agree_in_names_shapes_and_values():
    ours = {"rows": np.arange(3), "weight": np.array([1.0, 2.0, 3.0])}
    assert agree(ours, {"rows": np.arange(3), "weight": np.array([1.0, 2.0, 3.000001])})
    assert not agree(ours, {"rows": np.arange(3), "weight": np.array([1.0, 2.0, 3.1])})
    assert not agree(ours, {"rows": np.arange(1, 4), "weight": ours["weight"]})
    assert not agree(ours, {"rows": np.arange(3)})
    assert not agree(ours, {"rows": np.arange(4), "weight": ours["weight"]})


def test_results_table_names_machine_versions_and_bars():
    text = table([RESULT, dataclasses.replace(RESULT, name="cell_feature_graph", same=False, bar=2, bar_is="at_most")])
    assert "| links | what it does | peer | 0.5 | 30 | 100 | 1,500 | 60 | ≥ 50 | yes | yes | 20" in text
    assert "| cell_feature_graph |" in text
    assert "| ≤ 2 | NO | NO |" in text
    assert "torch " in text


def test_a_new_result_replaces_its_own_row_and_leaves_the_others():
    before = table([RESULT, dataclasses.replace(RESULT, name="spmm")])
    after = table([dataclasses.replace(RESULT, ours_seconds=0.25)], before)
    assert "| links | what it does | peer | 0.25 |" in after
    assert after.count("| links |") == 1
    assert "| spmm | what it does | peer | 0.5 |" in after

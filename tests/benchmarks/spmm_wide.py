"""The product of ``spmm`` at 6.5 M non-zeros, width 256, against DGL's operator."""

from tests.benchmarks.spmm import DGL, SMALL, benchmark

BENCHMARK = benchmark("spmm_wide", __name__, SMALL, width=256, peer=DGL)
run = BENCHMARK.run

"""The product of ``spmm`` at 60 M non-zeros, width 256, against DGL's operator."""

from tests.benchmarks.spmm import DGL, LARGE, benchmark

BENCHMARK = benchmark("spmm_large_wide", __name__, LARGE, width=256, peer=DGL)
run = BENCHMARK.run

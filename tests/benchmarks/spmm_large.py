"""The product of ``spmm`` at 60 M non-zeros, width 64, against DGL's operator."""

from tests.benchmarks.spmm import DGL, LARGE, benchmark

BENCHMARK = benchmark("spmm_large", __name__, LARGE, width=64, peer=DGL)
run = BENCHMARK.run

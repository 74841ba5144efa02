"""The product of ``spmm`` at 60 M non-zeros, width 256, against torch's sparse CSR with autograd."""

from tests.benchmarks.spmm import LARGE, TORCH, benchmark

BENCHMARK = benchmark("spmm_torch_large_wide", __name__, LARGE, width=256, peer=TORCH)
run = BENCHMARK.run

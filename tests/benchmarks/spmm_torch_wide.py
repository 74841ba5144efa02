"""The product of ``spmm`` at 6.5 M non-zeros, width 256, against torch's sparse CSR with autograd."""

from tests.benchmarks.spmm import SMALL, TORCH, benchmark

BENCHMARK = benchmark("spmm_torch_wide", __name__, SMALL, width=256, peer=TORCH)
run = BENCHMARK.run

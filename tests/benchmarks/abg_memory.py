"""Peak memory of the layer of ``abg`` with the same eight pairs held from the forward to the backward pass."""

import dataclasses

from tests.benchmarks import abg
from tests.benchmarks.harness import Measured, Side


def memory(ours: Measured, peer: Measured) -> float:
    """How many times more the peer needs."""
    return peer.peak_mb / max(ours.peak_mb, 1)


BENCHMARK = dataclasses.replace(
    abg.BENCHMARK,
    name="abg_memory",
    module=__name__,
    what="peak memory of bipartite attention with gradients, one batch of 8 pairs on both sides, sizes as in abg",
    sizes={"full": {**abg.BENCHMARK.sizes["full"], "pairs": 8}, "short": abg.BENCHMARK.sizes["short"]},
    peer=Side(
        "dense masks, 8 pairs at a time",
        run=abg.forward_backward(abg.dense_layers, lambda inputs: inputs.batch),
        answer=abg.answer,
    ),
    ratio=memory,
    bar=10,
)
run = BENCHMARK.run

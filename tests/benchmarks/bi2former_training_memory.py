"""Peak memory of one training step of ``bi2former_training``: one pair at a time on both sides, as published.

Weights, gradients and the moments of Adam are there before, on both sides alike; what counts is what forward and
backward need beside them. So the collection is small: the gradient of its embeddings is no part of the question.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch.nn import functional

from tests.benchmarks import bi2former_training as training
from tests.benchmarks.abg_memory import memory
from tests.benchmarks.harness import Answer, Benchmark, Side


def prepared(side: Callable[[training.Inputs], training.Training]) -> Callable[[training.Inputs], training.Training]:
    def own(given: training.Inputs) -> training.Training:
        few = side(training.inputs(**training.SHORT))  # loads what libraries load on their first call
        few.epoch()
        ready = side(given)
        ready.most = 1
        for parameter in ready.network.parameters():
            parameter.grad = torch.zeros_like(parameter)
        return ready

    return own


def gradients(ready: training.Training) -> Answer:
    """Logits of one pair, and by parameter the sum of the squared gradients."""
    ready.optimiser.zero_grad(set_to_none=False)
    logits = ready.forward(slice(0, 1))
    functional.cross_entropy(logits, torch.from_numpy(ready.given.labels[:1])).backward()
    sizes = sorted(float(parameter.grad.square().sum()) for parameter in ready.network.parameters())
    return {"logits": logits.detach().numpy(), "gradients": torch.tensor(sizes).numpy()}


BENCHMARK = Benchmark(
    name="bi2former_training_memory",
    module=__name__,
    what="peak memory of forward and backward of Bi2Former as published beside weights and their gradients, one pair "
    "of 1,900 genes and 7,500 peaks, hidden 128",
    sizes={
        "full": {**training.FULL, "cells": 2, "batch": 1, "genes": 2_500, "peaks": 10_000},
        "short": {**training.SHORT, "batch": 1},
    },
    prepare=training.inputs,
    ours=Side("heteromics", own=prepared(training.ours), run=gradients),
    peer=Side("dense masks", own=prepared(training.peer), run=gradients),
    bar=10,
    ratio=memory,
    rounds={"full": 1, "short": 1},
)
run = BENCHMARK.run

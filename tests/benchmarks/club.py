"""CLUB over all pairs, forward and backward, against the definition broadcast to N x N x D."""

from __future__ import annotations

import torch
from torch import Tensor

from heteromics.nn.information import club_bound
from tests.benchmarks.harness import Answer, Benchmark, Side

Inputs = tuple[Tensor, Tensor, Tensor]


def random_gaussians(rows: int, width: int) -> Inputs:
    made = torch.Generator().manual_seed(0)
    mean, log_variance, values = torch.randn(3, rows, width, generator=made)
    return mean.requires_grad_(), log_variance.requires_grad_(), values.requires_grad_()


def ours(inputs: Inputs) -> tuple[Tensor, ...]:
    bound = club_bound(*inputs)
    return bound.detach(), *torch.autograd.grad(len(inputs[0]) * bound, inputs)


def broadcast(inputs: Inputs) -> tuple[Tensor, ...]:
    mean, log_variance, values = inputs
    together = -0.5 * ((values - mean).square() / log_variance.exp()).sum(1)
    apart = -0.5 * ((values[None] - mean[:, None]).square() / log_variance.exp()[:, None]).sum(2)
    bound = (together - apart.mean(1)).mean()
    return bound.detach(), *torch.autograd.grad(len(mean) * bound, inputs)


def answer(outcome: tuple[Tensor, ...]) -> Answer:
    names = ("bound", "by_mean", "by_log_variance", "by_values")
    return {name: one.numpy() for name, one in zip(names, outcome, strict=True)}


BENCHMARK = Benchmark(
    name="club",
    module=__name__,
    what="CLUB over all pairs, forward + backward, N 2,048, D 128, float32",
    sizes={"full": {"rows": 2_048, "width": 128}, "short": {"rows": 64, "width": 16}},
    prepare=random_gaussians,
    ours=Side("heteromics", run=ours, answer=answer),
    peer=Side("N x N x D broadcast in torch", run=broadcast, answer=answer),
    bar=50,
)
run = BENCHMARK.run

"""Peak memory of the attention of ``abg`` alone: both sides hold the same eight pairs until the backward pass.

Queries, keys, values and the gradients of the messages are there before; what counts is everything from them to the
messages and the gradients of all four. Both sides run once on a few nodes first, so that loading libraries is no part.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from tests.benchmarks import abg
from tests.benchmarks.harness import Answer, Benchmark, Measured, Side

Attention = Callable[[list[Tensor], abg.Inputs], tuple[Tensor, Tensor]]
PAIRS = 8
FEW = {"pairs": 3, "genes": 60, "peaks": 200, "chromosomes": 4, "width": 16, "batch": 3}


@dataclass(frozen=True)
class Held:
    inputs: abg.Inputs
    nodes: list[Tensor]  # queries, keys, gene values, peak values of all pairs, leaves, (pairs x rows, D)
    gradients: list[Tensor]  # of the messages, (pairs x rows, D)


def held(inputs: abg.Inputs) -> Held:
    flat = inputs.gene.flatten(0, 1), inputs.peak.flatten(0, 1)
    nodes = [node.detach().requires_grad_() for node in abg.projected(*flat, inputs.weights)]
    return Held(inputs, nodes, [gradient.repeat(len(inputs.gene), 1) for gradient in inputs.gradients])


def all_at_once(nodes: list[Tensor], inputs: abg.Inputs) -> tuple[Tensor, Tensor]:
    return abg.sparse_attention(nodes, inputs, 0)


def one_by_one(nodes: list[Tensor], inputs: abg.Inputs) -> tuple[Tensor, Tensor]:
    count = len(inputs.gene)
    pairs = zip(*(node.unflatten(0, (count, -1)).unbind() for node in nodes), strict=True)
    gene, peak = zip(*(abg.dense_attention(pair, inputs, i) for i, pair in enumerate(pairs)), strict=True)
    return torch.cat(gene), torch.cat(peak)


def side(name: str, attention: Attention) -> Side:
    def run(given: Held) -> list[Tensor]:
        for node in given.nodes:
            node.grad = None
        messages = attention(given.nodes, given.inputs)
        torch.autograd.backward(messages, given.gradients)
        return [*(message.detach() for message in messages), *(node.grad for node in given.nodes)]

    def own(inputs: abg.Inputs) -> Held:
        run(held(abg.random_pairs(**FEW)))
        return held(inputs)

    return Side(name, run=run, own=own, answer=answer)


def answer(outcome: list[Tensor]) -> Answer:
    gene, peak, *gradients = outcome
    names = ("query_gradient", "key_gradient", "gene_value_gradient", "peak_value_gradient")
    return {"gene": gene.sum(1), "peak": peak.sum(1)} | dict(zip(names, gradients, strict=True))


def same(ours: Answer, peer: Answer) -> bool:
    """Equal up to rounding, which may give one gene in ten thousand another of two peaks whose scores are as good."""
    return all(np.isclose(ours[name], peer[name], atol=1e-4).mean() > 0.9999 for name in ("gene", "peak")) and all(
        np.linalg.norm(ours[name] - peer[name]) < 1e-3 * np.linalg.norm(peer[name])
        for name in ours.keys() - {"gene", "peak"}
    )


def memory(ours: Measured, peer: Measured) -> float:
    """How many times more the peer needs."""
    return peer.peak_mb / max(ours.peak_mb, 1)


BENCHMARK = Benchmark(
    name="abg_memory",
    module=__name__,
    what=f"peak memory of bipartite attention with gradients from projected nodes on, {PAIRS} pairs held on both "
    "sides, sizes as in abg",
    sizes={"full": {**abg.BENCHMARK.sizes["full"], "pairs": PAIRS}, "short": FEW},
    prepare=abg.random_pairs,
    ours=side("heteromics", all_at_once),
    peer=side("dense masks", one_by_one),
    bar=10,
    same=same,
    ratio=memory,
    rounds={"full": 1, "short": 1},
)
run = BENCHMARK.run

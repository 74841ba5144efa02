"""Bipartite attention layer of Bi2Former, forward and backward, against the same layer with dense masks.

Both sides compute the layer as published (projections, chromosome mask, sigmoid, threshold, top-k, softmax over
sigmoids, messages both ways) and its gradients. The peer multiplies by a genes x peaks mask, one pair at a time, as the
public code does; ours takes eight pairs at a time. Logits have unit variance, so that sigmoids do not tie.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from heteromics.nn import bipartite_attention
from tests.benchmarks.harness import Answer, Benchmark, Side

TOP_K, THRESHOLD = 10, 0.5


@dataclass(frozen=True)
class Inputs:
    """Pairs of equal size; ``*_ptr`` (pairs, chromosomes, 2) are rows within a pair."""

    gene: Tensor  # (pairs, R, D)
    peak: Tensor  # (pairs, A, D)
    gene_ptr: Tensor
    peak_ptr: Tensor
    weights: tuple[Tensor, ...]  # of queries, keys, gene values, peak values, each (D, D)
    gradients: tuple[Tensor, Tensor]  # of the messages to genes (R, D) and to peaks (A, D), the same for every pair
    batch: int


def random_pairs(pairs: int, genes: int, peaks: int, chromosomes: int, width: int, batch: int) -> Inputs:
    rng = np.random.default_rng(0)
    share = np.linspace(
        5, 1, chromosomes
    )  # the largest human chromosome has about five times the genes of the smallest

    def normal(*shape: int) -> Tensor:
        return torch.from_numpy(rng.standard_normal(shape, dtype=np.float32))

    def bounds(count: int) -> Tensor:
        sizes = rng.multinomial(count, share / share.sum(), size=pairs)
        stop = sizes.cumsum(1)
        return torch.from_numpy(np.stack([stop - sizes, stop], 2))

    return Inputs(
        gene=normal(pairs, genes, width),
        peak=normal(pairs, peaks, width),
        gene_ptr=bounds(genes),
        peak_ptr=bounds(peaks),
        weights=tuple((normal(width, width) / width**power).requires_grad_() for power in (0.75, 0.75, 0.5, 0.5)),
        gradients=(normal(genes, width), normal(peaks, width)),
        batch=batch,
    )


def sparse_attention(nodes: Sequence[Tensor], inputs: Inputs, first: int) -> tuple[Tensor, Tensor]:
    """Messages of a batch of pairs, whose queries, keys and values (pairs x rows, D) are given."""
    genes, peaks = inputs.gene.shape[1], inputs.peak.shape[1]
    count = len(nodes[0]) // genes
    pair = torch.arange(count)[:, None, None]
    gene_ptr = (inputs.gene_ptr[first : first + count] + pair * genes).flatten(0, 1)
    peak_ptr = (inputs.peak_ptr[first : first + count] + pair * peaks).flatten(0, 1)
    size = torch.full((len(nodes[0]),), peaks)
    options = {"top_k": TOP_K, "threshold": THRESHOLD, "scale": 1.0, "peaks_in_pair": size}
    sent = bipartite_attention(*nodes, gene_ptr, peak_ptr, **options)
    return sent.gene, sent.peak


def dense_attention(nodes: Sequence[Tensor], inputs: Inputs, pair: int) -> tuple[Tensor, Tensor]:
    """Messages of one pair, whose queries, keys and values (rows, D) are given."""
    query, key, gene_value, peak_value = nodes
    chrom = [
        torch.repeat_interleave(torch.arange(len(ptr[pair])), ptr[pair].diff(dim=1)[:, 0])
        for ptr in (inputs.gene_ptr, inputs.peak_ptr)
    ]
    mask = (chrom[0][:, None] == chrom[1]).float()
    share = torch.sigmoid(query @ key.T * mask)
    best = share.topk(TOP_K, dim=1)
    weight = torch.zeros_like(share).scatter(1, best.indices, best.values.softmax(1)) * (share > THRESHOLD)
    return weight @ peak_value, weight.T @ gene_value


def projected(gene: Tensor, peak: Tensor, weights: tuple[Tensor, ...]) -> list[Tensor]:
    return [side @ weight for side, weight in zip((gene, peak, gene, peak), weights, strict=True)]


def sparse_layer(inputs: Inputs, first: int) -> tuple[Tensor, Tensor]:
    gene, peak = (nodes[first : first + inputs.batch].flatten(0, 1) for nodes in (inputs.gene, inputs.peak))
    return sparse_attention(projected(gene, peak, inputs.weights), inputs, first)


def dense_layer(inputs: Inputs, first: int) -> tuple[Tensor, Tensor]:
    return dense_attention(projected(inputs.gene[first], inputs.peak[first], inputs.weights), inputs, first)


def forward_backward(layer: Callable[[Inputs, int], tuple[Tensor, Tensor]], step: Callable[[Inputs], int]):
    """Run all pairs and add up the gradients of the weights batch by batch; keep one number per message row."""

    def run(inputs: Inputs) -> list[Tensor]:
        rows: tuple[list[Tensor], list[Tensor]] = ([], [])
        gradients: list[list[Tensor]] = []
        for first in range(0, len(inputs.gene), step(inputs)):
            if first % inputs.batch == 0:
                for weight in inputs.weights:
                    weight.grad = torch.zeros_like(weight)
                gradients.append([weight.grad for weight in inputs.weights])
            messages = layer(inputs, first)
            repeats = [len(m) // len(g) for m, g in zip(messages, inputs.gradients, strict=True)]
            torch.autograd.backward(messages, [g.repeat(n, 1) for n, g in zip(repeats, inputs.gradients, strict=True)])
            for kept, message in zip(rows, messages, strict=True):
                kept.append(message.detach().sum(1))
        return [*(torch.cat(kept) for kept in rows), *(torch.stack(each) for each in zip(*gradients, strict=True))]

    return run


def answer(outcome: list[Tensor]) -> Answer:
    names = ("gene", "peak", "query_gradient", "key_gradient", "gene_value_gradient", "peak_value_gradient")
    return {name: tensor.numpy() for name, tensor in zip(names, outcome, strict=True)}


def same(ours: Answer, peer: Answer) -> bool:
    """Equal up to rounding, which may give one gene in ten thousand another of two peaks whose scores are as good.

    One such gene shifts the summed gradient of its batch by more than rounding does: most batches must have none.
    """
    messages = all(np.isclose(ours[name], peer[name], atol=1e-4).mean() > 0.9999 for name in ("gene", "peak"))
    for name in ours.keys() - {"gene", "peak"}:
        size = np.linalg.norm(peer[name], axis=(1, 2))
        apart = np.linalg.norm(ours[name] - peer[name], axis=(1, 2))
        if np.median(apart / size) > 1e-5 or (apart / size).max() > 2e-2:
            return False
    return messages


BENCHMARK = Benchmark(
    name="abg",
    module=__name__,
    what="bipartite attention with gradients, 64 pairs of 1,900 genes and 7,500 peaks, 20 chromosomes, width 128",
    sizes={
        "full": {"pairs": 64, "genes": 1_900, "peaks": 7_500, "chromosomes": 20, "width": 128, "batch": 8},
        "short": {"pairs": 5, "genes": 60, "peaks": 200, "chromosomes": 4, "width": 16, "batch": 3},
    },
    prepare=random_pairs,
    ours=Side("heteromics", run=forward_backward(sparse_layer, lambda inputs: inputs.batch), answer=answer),
    peer=Side("dense masks", run=forward_backward(dense_layer, lambda inputs: 1), answer=answer),
    bar=8,
    same=same,
    rounds={"full": 3, "short": 1},
)
run = BENCHMARK.run

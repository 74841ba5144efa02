"""Zero-inflated negative binomial, forward and backward, against the dense form written with torch's functions."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import torch
from scipy import sparse
from torch import Tensor
from torch.nn.functional import softplus

from heteromics.nn.likelihoods import Counts, zinb_nll
from tests.benchmarks.harness import Answer, Benchmark, Side


class Inputs(NamedTuple):
    counts: sparse.csr_array
    mean: Tensor
    dispersion: Tensor
    logit: Tensor


def random_cells(cells: int, genes: int, density: float, seed: int = 0) -> Inputs:
    rng = np.random.default_rng(seed)
    counts = sparse.random_array((cells, genes), density=density, format="csr", dtype=np.float32, rng=rng)
    counts.data = np.ceil(counts.data * 5).astype(np.float32)
    made = torch.Generator().manual_seed(seed)
    mean = torch.rand(cells, genes, generator=made) + 0.01
    dispersion = torch.rand(genes, generator=made) + 0.1
    logit = torch.randn(cells, genes, generator=made)
    return Inputs(counts, *(one.requires_grad_() for one in (mean, dispersion, logit)))


def ours(inputs: tuple[Counts, Inputs]) -> tuple[Tensor, ...]:
    counts, (_, *parameters) = inputs
    loss = zinb_nll(*parameters, counts)
    return loss.detach(), *torch.autograd.grad(loss.sum(), parameters)


def dense(inputs: tuple[Tensor, Inputs]) -> tuple[Tensor, ...]:
    """The form of Lopez et al. 2018 on every entry, as scvi-tools computes it."""
    x, (_, mean, dispersion, logit) = inputs
    log_together = torch.log(dispersion + mean)
    log_zero = dispersion * (torch.log(dispersion) - log_together)
    at_zero = softplus(log_zero - logit) - softplus(-logit)
    elsewhere = (
        -softplus(-logit)
        - logit
        + log_zero
        + x * (torch.log(mean) - log_together)
        + torch.lgamma(x + dispersion)
        - torch.lgamma(dispersion)
        - torch.lgamma(x + 1)
    )
    loss = -torch.where(x == 0, at_zero, elsewhere).sum(1)
    return loss.detach(), *torch.autograd.grad(loss.sum(), (mean, dispersion, logit))


def answer(outcome: tuple[Tensor, ...]) -> Answer:
    names = ("loss", "by_mean", "by_dispersion", "by_logit")
    return {name: value.numpy() for name, value in zip(names, outcome, strict=True)}


BENCHMARK = Benchmark(
    name="zinb",
    module=__name__,
    what="ZINB likelihood, forward + backward, 4,096 cells x 13,431 genes, 8 % non-zero, float32",
    sizes={
        "full": {"cells": 4_096, "genes": 13_431, "density": 0.08},
        "short": {"cells": 64, "genes": 500, "density": 0.08},
    },
    prepare=random_cells,
    ours=Side("heteromics", run=ours, answer=answer, own=lambda inputs: (Counts.from_scipy(inputs.counts), inputs)),
    peer=Side(
        "dense form in torch",
        run=dense,
        answer=answer,
        own=lambda inputs: (torch.from_numpy(inputs.counts.toarray()), inputs),
    ),
    bar=2,
)
run = BENCHMARK.run

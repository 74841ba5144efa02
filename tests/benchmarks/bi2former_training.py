"""Training steps of Bi2Former as published, against the same network with dense masks, one pair at a time.

Both sides start from the same weights and see the same pairs in the same batches: forward, cross-entropy, backward and
one step of Adam per batch. The peer is written as the public code is: node rows with their ID embedding, value, one-hot
chromosome and attributes, a genes x peaks mask, sigmoid, threshold, top-k, softmax. It adds up the gradients of the
pairs of a batch and takes as few steps of Adam as ours, although the public code takes one per pair; dropout is off, so
that both compute the same numbers. What they must agree in is the loss of every batch and the logits after training.
"""

from __future__ import annotations

import copy
import dataclasses
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from scipy import sparse
from torch import Tensor, nn
from torch.nn import functional

from heteromics.graphs import HeteroGraph, PairBatcher
from heteromics.graphs._dgl import Compressed
from heteromics.graphs.pairs import EXPRESSES, OPENS
from heteromics.models import Bi2FormerConfig
from heteromics.models._bi2former_network import Bi2FormerNetwork
from heteromics.models._pair_nodes import FeatureTable, Nodes
from heteromics.models._pair_training import MatchingPlan
from tests.benchmarks.harness import Answer, Benchmark, Side

CHROMOSOMES = 20
FULL = {"cells": 32, "genes": 29_095, "peaks": 107_194, "expressed": 1_900, "opened": 7_500, "hidden": 128, "batch": 16}
SHORT = {"cells": 6, "genes": 90, "peaks": 300, "expressed": 40, "opened": 120, "hidden": 16, "batch": 3}


@dataclass(frozen=True)
class Inputs:
    graph: HeteroGraph
    network: Bi2FormerNetwork
    config: Bi2FormerConfig
    pairs: np.ndarray  # (pairs, 2), positives and negatives in turn
    labels: np.ndarray
    batch: int


def random_cells(cells: int, genes: int, peaks: int, expressed: int, opened: int) -> HeteroGraph:
    """A bipartite graph whose cells have ``expressed`` genes and ``opened`` peaks each, with seven attributes.

    Some features are much more common than others: of the genes and peaks of 16 cells 39 and 38 % are distinct; in 16
    cells of the 10x PBMC multiome it is 30 and 34 %.
    """
    rng = np.random.default_rng(0)
    share = np.linspace(5, 1, CHROMOSOMES)
    edges, ndata, edata, names = {}, {}, {}, {}
    for etype, size, held in ((EXPRESSES, genes, expressed), (OPENS, peaks, opened)):
        common = rng.standard_normal(size) * 1.6
        most = [np.argpartition(common + rng.gumbel(size=size), -held)[-held:] for _ in range(cells)]
        column = np.sort(most, axis=1).ravel()
        bounds = torch.arange(0, cells * held + 1, held)
        edges[etype] = Compressed("src", bounds, torch.from_numpy(column))
        edata[etype] = {"weight": torch.from_numpy(1 + rng.poisson(1.0, cells * held).astype(np.float32))}
        chrom = np.repeat(np.arange(CHROMOSOMES), rng.multinomial(size, share / share.sum()))
        ndata[etype[2]] = {
            "chrom": torch.from_numpy(chrom.astype(np.int32)),
            "position": torch.from_numpy(np.arange(size) * 10_000),
            "attributes": torch.from_numpy(rng.standard_normal((size, 7), dtype=np.float32)),
            "store_row": torch.arange(size),
        }
        names[etype[0]] = [f"cell{i}" for i in range(cells)]
        names[etype[2]] = [f"{etype[2]}{i}" for i in range(size)]
    attributes = [f"attribute{i}" for i in range(7)]
    meta = {
        "mask": "chromosome",
        "within_bp": 100_000,
        "attribute_names": {"gene": attributes, "peak": attributes},
    }
    return HeteroGraph.from_compressed(edges, names=names, ndata=ndata, edata=edata, kind="bipartite", meta=meta)


def inputs(*, hidden: int, batch: int, cells: int, genes: int, peaks: int, expressed: int, opened: int) -> Inputs:
    graph = random_cells(cells, genes, peaks, expressed, opened)
    config = dataclasses.replace(Bi2FormerConfig.as_published(), hidden=hidden, dropout=0.0, batch_size=batch)
    torch.manual_seed(0)
    network = Bi2FormerNetwork(config, FeatureTable.of(graph, "gene"), FeatureTable.of(graph, "peak"))
    with torch.no_grad():  # logits near 1, so that sigmoids do not tie
        for nodes in (network.genes, network.peaks):
            nodes.project.weight[: 2 * hidden] *= 0.3
    atac = np.arange(cells)
    atac[1::2] = (atac[1::2] + 2) % cells
    return Inputs(graph, network, config, np.stack([np.arange(cells), atac], 1), (np.arange(cells) + 1) % 2, batch)


class PlainNetwork(nn.Module):
    """The published network as its public code computes it, one pair and dense arrays at a time."""

    def __init__(self, network: Bi2FormerNetwork, graph: HeteroGraph) -> None:
        super().__init__()
        self.sides = nn.ModuleList([copy.deepcopy(network.genes), copy.deepcopy(network.peaks)])
        self.update = copy.deepcopy(network.layers[0].update)
        self.classifier = copy.deepcopy(network.classifier)
        self.counts = []
        for etype in (EXPRESSES, OPENS):
            indptr, indices, _ = graph.adjacency(etype)
            shape = graph.num_nodes(etype[0]), graph.num_nodes(etype[2])
            held = graph.edata(etype)["weight"].numpy(), indices.numpy(), indptr.numpy()
            self.counts.append(sparse.csr_matrix(held, shape=shape))

    def rows(self, nodes: Nodes, counts: sparse.csr_matrix, cell: int) -> tuple[list[Tensor], Tensor]:
        """Query or key, message and self of every node of one profile, each (nodes, hidden), and chromosomes."""
        profile = counts[cell]
        feature, value = torch.from_numpy(profile.indices).long(), torch.from_numpy(profile.data)
        chrom = nodes.chrom[feature]
        one_hot = functional.one_hot(chrom, CHROMOSOMES).float()
        x = torch.cat([nodes.ids(feature), value[:, None], one_hot, nodes.attributes[feature]], 1)
        return list(nodes.project(x).chunk(3, 1)), chrom

    def forward(self, rna: int, atac: int) -> Tensor:
        (query, gene_value, gene_self), gene_chrom = self.rows(self.sides[0], self.counts[0], rna)
        (key, peak_value, peak_self), peak_chrom = self.rows(self.sides[1], self.counts[1], atac)
        mask = (gene_chrom[:, None] == peak_chrom).float()
        share = torch.sigmoid(query @ key.T * mask)
        best = share.topk(10, dim=1)
        alpha = torch.zeros_like(share).scatter(1, best.indices, best.values.softmax(1)) * (share > 0.5)
        gene = self.update[0](torch.cat([alpha @ peak_value, gene_self], 1))
        peak = self.update[1](torch.cat([alpha.T @ gene_value, peak_self], 1))
        return self.classifier(torch.cat([gene.mean(0), peak.mean(0)])[None])


@dataclass
class Training:
    """A network in training, and how a few pairs go through it."""

    given: Inputs
    network: nn.Module
    forward: Callable[[slice], Tensor]
    most: int  # pairs at a time
    optimiser: torch.optim.Optimizer

    def epoch(self) -> Answer:
        """One step of Adam per batch; every further call goes on from there."""
        labels, losses = torch.from_numpy(self.given.labels), []
        for first in range(0, len(labels), self.given.batch):
            batch = labels[first : first + self.given.batch]
            self.optimiser.zero_grad()
            total = 0.0
            for start in range(first, first + len(batch), self.most):
                part = slice(start, min(start + self.most, first + len(batch)))
                loss = functional.cross_entropy(self.forward(part), labels[part], reduction="sum") / len(batch)
                loss.backward()
                total += loss.item()
            self.optimiser.step()
            losses.append(total)
        with torch.no_grad():
            logits = self.forward(slice(0, 1))
        return {"losses": np.array(losses), "logits": logits.numpy()}


def ours(given: Inputs) -> Training:
    network, batcher = given.network, PairBatcher(given.graph)
    optimiser = MatchingPlan(network, given.config).configure_optimizers()
    return Training(given, network, lambda part: network(batcher.batch(given.pairs[part])), given.batch, optimiser)


def peer(given: Inputs) -> Training:
    network, config = PlainNetwork(given.network, given.graph), given.config
    optimiser = torch.optim.Adam(network.parameters(), lr=config.learning_rate, weight_decay=config.weight_decay)
    return Training(given, network, lambda part: network(*given.pairs[part][0]), 1, optimiser)


BENCHMARK = Benchmark(
    name="bi2former_training",
    module=__name__,
    what="training steps of Bi2Former as published, 32 pairs of 1,900 genes and 7,500 peaks, hidden 128, batches of 16",
    sizes={"full": FULL, "short": SHORT},
    prepare=inputs,
    ours=Side("heteromics", own=ours, run=Training.epoch),
    peer=Side("dense masks, one pair at a time", own=peer, run=Training.epoch),
    bar=10,
    rounds={"full": 3, "short": 1},
)
run = BENCHMARK.run

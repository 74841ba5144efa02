"""How models of pairs are trained: batches of pairs in a new order every epoch, cross-entropy, Adam."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import lightning as L
import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from torch import Tensor, nn
from torch.nn import functional

from heteromics.errors import ModelError
from heteromics.graphs import PairBatch, PairBatcher
from heteromics.models._pair_nodes import Nodes

_MOST_NODES = 1 << 22  # of the profiles that are read at a time to set scales: 150 MB
Labelled = tuple[NDArray[np.int64], NDArray[np.int64]]


class PairLoader:
    """Batches of labelled pairs of nearly equal size.

    Parameters
    ----------
    batcher
        Cuts pairs out of the graph.
    draw
        Returns pairs and labels, ``number`` of them, once per pass.
    number, size
        Of pairs in a pass, and the most in a batch.
    order
        Returns the seed of the order of a pass; None keeps the order.
    """

    def __init__(
        self,
        batcher: PairBatcher,
        draw: Callable[[], Labelled],
        number: int,
        size: int,
        order: Callable[[], tuple[int, int]] | None = None,
    ) -> None:
        self.batcher, self.draw, self.order = batcher, draw, order
        self.number, self.batches = number, -(-number // size)

    def __len__(self) -> int:
        return self.batches

    def __contains__(self, batch: object) -> bool:
        return any(batch is each for each in self)

    def __iter__(self) -> Iterator[tuple[PairBatch, Tensor]]:
        pairs, labels = self.draw()
        if len(pairs) != self.number:
            raise ModelError(
                f"pairs: found {len(pairs)} in one epoch and {self.number} in the first, expected as many."
            )
        rows = np.arange(len(pairs))
        if self.order is not None:
            rows = np.random.default_rng(self.order()).permutation(len(pairs))
        for part in np.array_split(rows, self.batches):
            yield self.batcher.batch(pairs[part]), torch.as_tensor(labels[part])


class MatchingPlan(L.LightningModule):
    """Cross-entropy of two logits; one Adam, or a sparse one beside it for the ID embeddings."""

    def __init__(self, network: nn.Module, config: Any) -> None:
        super().__init__()
        self.network, self.config = network, config
        self.automatic_optimization = not config.sparse_ids

    def training_step(self, batch: tuple[PairBatch, Tensor]) -> Tensor:
        """Return the loss of a batch; with sparse embeddings, take the step too."""
        pairs, labels = batch
        loss = functional.cross_entropy(self.network(pairs), labels)
        self.log("train_loss", loss, on_step=False, on_epoch=True, batch_size=len(labels))
        if self.config.sparse_ids:
            optimisers = self.optimizers()
            for optimiser in optimisers:
                optimiser.zero_grad()
            self.manual_backward(loss)
            for optimiser in optimisers:
                optimiser.step()
        return loss

    def validation_step(self, batch: tuple[PairBatch, Tensor]) -> None:
        """Log loss and accuracy."""
        pairs, labels = batch
        logits = self.network(pairs)
        right = (logits.argmax(1) == labels).float().mean()
        self.log("validation_loss", functional.cross_entropy(logits, labels), batch_size=len(labels))
        self.log("validation_accuracy", right, batch_size=len(labels))

    def configure_optimizers(self) -> Any:
        """Return Adam, in one pass over weights and moments, and SparseAdam for sparse embeddings."""
        rate, decay = self.config.learning_rate, self.config.weight_decay
        if not self.config.sparse_ids:
            return torch.optim.Adam(self.network.parameters(), lr=rate, weight_decay=decay, fused=True)
        embeddings = [p for name, p in self.network.named_parameters() if name.endswith("ids.weight")]
        others = [p for name, p in self.network.named_parameters() if not name.endswith("ids.weight")]
        return [
            torch.optim.Adam(others, lr=rate, weight_decay=decay, fused=True),
            torch.optim.SparseAdam(embeddings, lr=rate),
        ]


def labelled_pairs(batcher: PairBatcher, pairs: ArrayLike, labels: ArrayLike | None, what: str) -> Labelled:
    """Check pairs against the graph and labels against the pairs.

    Raises
    ------
    ModelError
        When labels are not one 0 or 1 per pair, or only one of them occurs.
    """
    rows = batcher.checked(pairs).numpy()
    found = np.asarray([] if labels is None else labels)
    odd = int((~np.isin(found, (0, 1))).sum())
    if found.shape != (len(rows),) or odd:
        raise ModelError(
            f"{what}: found {len(rows)} pairs and labels of shape {found.shape}, {odd} of them neither 0 nor 1; "
            "expected one label per pair, 1 for profiles of one cell and 0 for others."
        )
    if not 0 < found.sum() < len(found):
        raise ModelError(
            f"{what}: all {len(found)} labels are alike. Fix: heteromics.tasks.make_pairs draws both kinds."
        )
    return rows, found.astype(np.int64)


def calibrate(genes: Nodes, peaks: Nodes, batcher: PairBatcher, pairs: NDArray[np.int64]) -> None:
    """Set the scales of standardised values from the profiles that occur in the training pairs, each once."""
    genes.calibrate(lambda: batcher.profiles("gene", np.unique(pairs[:, 0]), _MOST_NODES))
    peaks.calibrate(lambda: batcher.profiles("peak", np.unique(pairs[:, 1]), _MOST_NODES))

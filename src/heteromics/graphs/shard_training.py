"""Shards as training data of Lightning: one process, or several that step together and train as one would."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import lightning as L
import torch
from torch.utils.data import IterableDataset, get_worker_info

from heteromics.errors import GraphError
from heteromics.graphs._sharded import ShardedGraph
from heteromics.graphs.schema import HeteroGraph

__all__ = ["ShardBatches", "ShardData"]


class ShardBatches(IterableDataset[HeteroGraph]):
    """Batches of :meth:`heteromics.graphs.shards.ShardedGraph.batches`, for this process's rank.

    Rank and number of processes are those of ``torch.distributed`` when the pass begins, 0 of 1 where it was not begun.
    It is a loader already, whose shards are read ahead by a thread; workers of a ``DataLoader`` around it, each of
    which would yield all batches, are refused.

    Parameters
    ----------
    sharded
        Opened shards; every process reads the same folder.
    global_size
        Cells of a global batch, a multiple of the number of processes.
    seed, window
        As in :meth:`~heteromics.graphs.shards.ShardedGraph.batches`; cells that do not fill a last global batch are
        left out of the epoch.

    Raises
    ------
    GraphError
        When the shards hold fewer cells than one global batch takes.
    """

    def __init__(self, sharded: ShardedGraph, global_size: int, *, seed: int = 0, window: int = 4) -> None:
        if not 1 <= global_size <= sharded.cells:
            raise GraphError(
                f"global_size: found {global_size:,}, expected 1 to {sharded.cells:,}, the number of cells."
            )
        self.sharded, self.global_size, self.seed, self.window = sharded, global_size, seed, window
        self.epoch = 0

    @property
    def sampler(self) -> ShardBatches:
        """Itself: Lightning calls ``set_epoch`` of whatever is a loader's ``sampler``."""
        return self

    def set_epoch(self, epoch: int) -> None:
        """Choose the epoch whose batches come next."""
        self.epoch = epoch

    def __len__(self) -> int:
        """Return the number of steps of an epoch, the same for every process."""
        return self.sharded.steps(self.global_size)

    def __iter__(self) -> Iterator[HeteroGraph]:
        if (worker := get_worker_info()) is not None:
            raise GraphError(
                f"ShardBatches: found {worker.num_workers} workers of a DataLoader, each of which would yield all "
                "batches.\n  Fix: train on it as it is, without a DataLoader, or with num_workers=0."
            )
        rank, world_size = _place()
        if self.global_size % world_size:
            raise GraphError(
                f"global_size: found {self.global_size}, expected a multiple of {world_size}, the number of processes, "
                "so that all weigh alike."
            )
        size = self.global_size // world_size
        return self.sharded.batches(
            size, seed=self.seed, epoch=self.epoch, rank=rank, world_size=world_size, window=self.window
        )


class ShardData(L.LightningDataModule):
    """Shards for ``Trainer.fit``, with or without ``strategy="ddp"``.

    Batches reach ``training_step`` as graphs on the CPU, which take their relations to the model's device there. With a
    loss that is the mean over the cells of a batch, several processes follow the loss curve of one, because each step
    takes the same cells. Lightning leaves the loader as it is, whatever ``use_distributed_sampler`` says: it is no
    ``DataLoader``; the next shard is read by a thread. Log with ``batch_size=batch.num_nodes("cell")``, which Lightning
    cannot tell from a graph where it averages over an epoch.

    Parameters
    ----------
    folder
        Of the shards.
    global_size, seed, window
        As in :class:`ShardBatches`.

    Examples
    --------
    >>> import tempfile
    >>> import numpy as np
    >>> from anndata import AnnData
    >>> from heteromics.graphs.shards import build_shards
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     _ = build_shards(AnnData(np.eye(5, dtype="float32")), folder, cells_per_shard=2)
    ...     batches = ShardData(folder, global_size=2).train_dataloader()
    ...     print(len(batches), [batch.num_nodes("cell") for batch in batches])
    2 [2, 2]
    """

    def __init__(self, folder: Path | str, global_size: int, *, seed: int = 0, window: int = 4) -> None:
        super().__init__()
        self.batches = ShardBatches(ShardedGraph.open(folder), global_size, seed=seed, window=window)

    def train_dataloader(self) -> ShardBatches:
        """Return the batches; their epoch follows the trainer's."""
        return self.batches


def _place() -> tuple[int, int]:
    distributed = torch.distributed
    if not (distributed.is_available() and distributed.is_initialized()):
        return 0, 1
    return distributed.get_rank(), distributed.get_world_size()

"""Two gloo processes under Lightning's DDP follow the loss curve of one process with the same global batch."""

import contextlib
import json
import os
import signal
import subprocess
import sys
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from anndata import AnnData
from scipy import sparse
from torch.utils.data import DataLoader

from heteromics.errors import GraphError
from heteromics.graphs.shard_training import ShardBatches, ShardData
from heteromics.graphs.shards import ShardedGraph, build_shards

CELLS, GENES, PROTEINS, GLOBAL, EPOCHS = 210, 60, 5, 16, 4

SCRIPT = f'''
"""Predict planted proteins from genes, by two processes and by one: python train.py FOLDER."""
import json, sys
from pathlib import Path

import lightning as L
import torch
from lightning.pytorch.plugins.environments import LightningEnvironment

from heteromics.graphs.shard_training import ShardData
from heteromics.nn import Relation


class Proteins(L.LightningModule):
    def __init__(self, targets):
        super().__init__()
        torch.manual_seed(0)
        self.genes = torch.nn.Parameter(torch.randn({GENES}, 8) * 0.3)
        self.out = torch.nn.Linear(8, {PROTEINS})
        self.targets, self.losses, self.rows = targets, [], []

    def training_step(self, batch, _):
        relation = Relation.from_graph(batch, ("feature", "expressed_by", "cell"))
        rows = batch.ndata("cell")["row"]
        error = self.out(relation.spmm(self.genes, reduce="mean")) - self.targets[rows]
        loss = error.square().mean()
        every = self.all_gather(loss.detach()).reshape(-1)
        self.losses.append(every.mean().item())
        self.rows.append(self.all_gather(rows).reshape(-1).tolist())
        return loss

    def configure_optimizers(self):
        return torch.optim.Adam(self.parameters(), lr=0.03)


def train(folder, processes):
    model = Proteins(torch.load(folder / "targets.pt"))
    trainer = L.Trainer(
        accelerator="cpu", devices=processes, strategy="ddp" if processes > 1 else "auto", max_epochs={EPOCHS},
        logger=False, enable_checkpointing=False, enable_progress_bar=False, enable_model_summary=False,
        plugins=[LightningEnvironment()],
    )
    trainer.fit(model, datamodule=ShardData(folder / "shards", global_size={GLOBAL}, seed=5, window=3))
    if trainer.is_global_zero:
        found = {{"losses": model.losses, "rows": model.rows, "world": trainer.world_size}}
        (folder / f"curve{{processes}}.json").write_text(json.dumps(found))
    return trainer.global_rank


if __name__ == "__main__":
    torch.set_num_threads(1)
    rank = train(Path(sys.argv[1]), 2)
    torch.distributed.destroy_process_group()
    if rank == 0:
        train(Path(sys.argv[1]), 1)
'''
PLACE = ("RANK", "LOCAL_RANK", "NODE_RANK", "GROUP_RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT")


@pytest.fixture(scope="module")
def planted(tmp_path_factory):
    """Cells in shards, and proteins that are weighted means of the genes."""
    folder = tmp_path_factory.mktemp("planted")
    rng = np.random.default_rng(0)
    matrix = sparse.random_array((CELLS, GENES), density=0.3, rng=rng, format="csr", dtype=np.float32)
    cells = AnnData(sparse.csr_matrix(matrix))
    build_shards(cells, folder / "shards", cells_per_shard=23)
    degree = np.diff(matrix.indptr)[:, None]
    proteins = (matrix @ rng.normal(size=(GENES, PROTEINS))) / degree * 3
    torch.save(torch.from_numpy(proteins.astype(np.float32)), folder / "targets.pt")
    (folder / "train.py").write_text(SCRIPT)
    return folder


def train(folder):
    """Run the script, which starts its second process itself, and end both when they take too long."""
    env = {name: value for name, value in os.environ.items() if name not in PLACE} | {"OMP_NUM_THREADS": "1"}
    command = [sys.executable, str(folder / "train.py"), str(folder)]
    with (folder / "said.txt").open("w") as said:
        running = subprocess.Popen(command, env=env, stdout=said, stderr=said, start_new_session=True)
        try:
            code = running.wait(timeout=240)
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(running.pid, signal.SIGKILL)
            running.wait()
    assert code == 0, (folder / "said.txt").read_text()[-4_000:]
    return [json.loads((folder / f"curve{processes}.json").read_text()) for processes in (1, 2)]


@pytest.mark.slow
def test_two_processes_follow_the_loss_curve_of_one(planted):
    one, two = train(planted)
    assert (one["world"], two["world"]) == (1, 2)
    steps = CELLS // GLOBAL
    assert len(one["losses"]) == len(two["losses"]) == EPOCHS * steps
    assert one["rows"] == two["rows"]
    np.testing.assert_allclose(two["losses"], one["losses"], rtol=1e-5, atol=1e-5)
    epochs = [sorted(sum(one["rows"][e * steps : (e + 1) * steps], [])) for e in range(EPOCHS)]  # noqa: RUF017
    assert all(len(set(rows)) == len(rows) == steps * GLOBAL for rows in epochs)
    assert one["rows"][:steps] != one["rows"][steps : 2 * steps]
    assert np.mean(one["losses"][-steps:]) < 0.5 * np.mean(one["losses"][:steps])


def test_batches_follow_the_epoch_and_hold_the_cells_of_the_whole(planted):
    data = ShardData(planted / "shards", global_size=GLOBAL, seed=5, window=3)
    batches = data.train_dataloader()
    assert batches.sampler is batches
    first = [batch.ndata("cell")["row"].tolist() for batch in batches]
    assert len(first) == len(batches) == CELLS // GLOBAL
    assert first == [batch.ndata("cell")["row"].tolist() for batch in batches]
    batches.set_epoch(1)
    assert first != [batch.ndata("cell")["row"].tolist() for batch in batches]


def test_workers_of_a_loader_are_refused(planted, monkeypatch):
    batches = ShardBatches(ShardedGraph.open(planted / "shards"), GLOBAL)
    alone = [batch.num_nodes("cell") for batch in DataLoader(batches, batch_size=None, num_workers=0)]
    assert alone == [GLOBAL] * (CELLS // GLOBAL)
    worker = SimpleNamespace(id=0, num_workers=2)  # in place of processes forked from this one
    monkeypatch.setattr("heteromics.graphs.shard_training.get_worker_info", lambda: worker)
    with pytest.raises(GraphError, match="found 2 workers of a DataLoader"):
        iter(batches)


def test_fewer_cells_than_a_global_batch_are_refused(planted):
    with pytest.raises(GraphError, match="global_size: found 211, expected 1 to 210"):
        ShardData(planted / "shards", global_size=211)


def test_a_global_batch_must_divide_among_the_processes(planted, monkeypatch):
    batches = ShardBatches(ShardedGraph.open(planted / "shards"), 15)
    monkeypatch.setattr("heteromics.graphs.shard_training._place", lambda: (1, 2))
    with pytest.raises(GraphError, match="global_size: found 15, expected a multiple of 2"):
        iter(batches)
    batches.global_size = 16
    assert [batch.num_nodes("cell") for batch in batches] == [8] * (CELLS // 16)

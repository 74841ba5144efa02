from tests.benchmarks.bi2former_training import SHORT
from tests.studies import training_speed


def test_speed_is_told_by_size_and_by_batch(monkeypatch):
    monkeypatch.setattr(training_speed, "FULL", SHORT)
    monkeypatch.setattr(training_speed, "SHARES", (0.5, 1))
    monkeypatch.setattr(training_speed, "BATCHES", (2, 16))
    found = training_speed.table(1)
    assert found[["expressed", "opened", "batch"]].to_numpy().tolist() == [[20, 60, 16], [40, 120, 16], [40, 120, 2]]
    assert (found["pairs_per_second"] > 0).all()

"""Memory of scanning: four times the peaks, in a build from a FASTA, against the peaks alone."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from pathlib import Path

import duckdb
import numpy as np
import pyarrow as pa

from heteromics.priors.motif_peak import MotifPeakConfig, build_motif_peak
from heteromics.priors.motifs import probabilities
from heteromics.priors.schemas import SCHEMAS
from heteromics.priors.tables import BuildContext, Source
from tests.benchmarks.harness import Answer, Benchmark, Measured, Side

TIMES = 4
WIDTH = 500
P_VALUE = 1e-6  # so that the tables stay small, and what is measured is the scanning


def build(inputs: tuple[int, int], times: int) -> pa.Table:
    """Scan ``times`` x peaks, side by side on one chromosome, whose sequence is written as it is drawn."""
    peaks, motifs = inputs
    with tempfile.TemporaryDirectory() as folder, duckdb.connect() as connection:
        path = Path(folder) / "genome.fa"
        size = write_genome(path, times * peaks * WIDTH)
        for name in ("chromosome", "peak", "motif", "motif_tf"):
            connection.execute(SCHEMAS[name].create_sql())
        connection.execute("INSERT INTO chromosome VALUES ('chr1', 0, ?)", [size])
        connection.execute(
            f"INSERT INTO peak SELECT 'chr1:' || start || '-' || start + {WIDTH}, 'chr1', start, start + {WIDTH} "
            f"FROM range(0, {times * peaks * WIDTH}, {WIDTH}) t(start)"
        )
        for row, p in enumerate(random_motifs(motifs)):
            values = [f"m{row:04}", "", "", len(p), 0.0, "", p.ravel().tolist(), "random"]
            connection.execute("INSERT INTO motif VALUES (?, ?, ?, ?, ?, ?, ?, ?)", values)
        source = Source(path, "", "", "", path.name)
        context = BuildContext(connection, "toy", "ucsc", {"chr1": size}, lambda _name: source, frozenset({"fasta"}))
        built = build_motif_peak(context, MotifPeakConfig(p_value=P_VALUE, background="uniform", cores=1))
        return built.tables["motif_peak"]


def write_genome(path: Path, size: int, line: int = 1_000) -> int:
    rng = np.random.default_rng(0)
    with path.open("wb") as file:
        file.write(b">chr1\n")
        for _ in range(0, size, line):
            file.write(rng.choice(np.frombuffer(b"ACGT", np.uint8), line).tobytes() + b"\n")
    return size


def random_motifs(number: int) -> list[np.ndarray]:
    rng = np.random.default_rng(1)
    return [probabilities(100 * np.eye(4)[rng.integers(0, 4, 16)], 0.1) for _ in range(number)]


def scan(times: int) -> Callable[[tuple[int, int]], pa.Table]:
    return lambda inputs: build(inputs, times)


def answer(table: pa.Table) -> Answer:
    return {
        "peak": np.array([int(name.split("-")[1]) for name in table["peak_id"].to_pylist()], np.int64),
        "p_value": table["p_value"].to_numpy(),
    }


def same(ours: Answer, peer: Answer) -> bool:
    """The fewer peaks have, to the last, the hits they have among the many."""
    first = ours["peak"] <= peer["peak"].max(initial=0)
    return bool(np.array_equal(ours["p_value"][first], peer["p_value"]))


def growth(ours: Measured, peer: Measured) -> float:
    return max(ours.peak_mb, 1) / max(peer.peak_mb, 1)


BENCHMARK = Benchmark(
    name="motif_memory",
    module=__name__,
    what="peak memory of scanning 80,000 peaks of 500 bp for 20 motifs, over that of 20,000",
    sizes={"full": {"peaks": 20_000, "motifs": 20}, "short": {"peaks": 1_000, "motifs": 3}},
    prepare=lambda peaks, motifs: (peaks, motifs),
    ours=Side("heteromics, 80,000 peaks", run=scan(TIMES), answer=answer),
    peer=Side("heteromics, 20,000 peaks", run=scan(1), answer=answer),
    bar=1.5,
    ratio=growth,
    bar_is="at_most",
    same=same,
    rounds={"full": 1, "short": 1},
)
run = BENCHMARK.run

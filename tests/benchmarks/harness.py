"""Run two sides of a benchmark in turn, each in a process of its own, and say how they compare.

A benchmark is a module in this folder with a constant ``BENCHMARK`` and a function ``run``::

    BENCHMARK = Benchmark(
        name="links",
        module=__name__,
        sizes={"full": {"genes": 29_095}, "short": {"genes": 300}},
        prepare=make_inputs,                  # (**sizes[size]) -> inputs; the same in both processes, not timed
        ours=Side("heteromics", run=ours),    # run(inputs) -> outcome, timed
        peer=Side("scglue ...", run=theirs, needs=(package("scglue"), program("bedtools"))),
        bar=50,
    )
    run = BENCHMARK.run

``Side.answer(outcome)`` turns an outcome into named arrays (not timed); both sides' arrays must agree.
"""

from __future__ import annotations

import importlib
import importlib.util
import json
import os
import resource
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal, Self

import numpy as np

ROOT = Path(__file__).resolve().parents[2]
Answer = Mapping[str, np.ndarray]


class PeerMissing(Exception):
    """A peer that is not installed; the message says how to get it."""


@dataclass(frozen=True, slots=True)
class Need:
    """Something a side cannot run without, and how to get it."""

    name: str
    kind: Literal["package", "program"]
    fix: str

    def met(self) -> bool:
        found = importlib.util.find_spec(self.name) if self.kind == "package" else shutil.which(self.name)
        return found is not None


def package(name: str, fix: str = "pip install 'heteromics[bench]'") -> Need:
    """A Python package, by its import name."""
    return Need(name, "package", fix)


def program(name: str, fix: str | None = None) -> Need:
    """A program on the PATH, by default from the system package of the same name."""
    return Need(name, "program", fix or f"apt-get install {name}")


@dataclass(frozen=True, slots=True)
class Side:
    """One of the two implementations: ``run`` is timed, ``own`` (its form of the inputs) and ``answer`` are not."""

    name: str
    run: Callable[[Any], Any]
    answer: Callable[[Any], Answer] = dict
    own: Callable[[Any], Any] = lambda inputs: inputs
    needs: tuple[Need, ...] = ()


@dataclass(frozen=True, slots=True)
class Measured:
    """What one side took: median seconds, peak MB above what was held before the first call, and its answer."""

    seconds: float
    peak_mb: float
    answer: dict[str, np.ndarray]


def speed(ours: Measured, peer: Measured) -> float:
    """How many times faster ours is."""
    return peer.seconds / ours.seconds


def agree(ours: Answer, peer: Answer, rtol: float = 1e-4, atol: float = 1e-5) -> bool:
    """Same names, shapes and values; real numbers within ``rtol`` and ``atol``."""
    return ours.keys() == peer.keys() and all(
        ours[name].shape == peer[name].shape
        and (
            np.allclose(ours[name], peer[name], rtol=rtol, atol=atol)
            if ours[name].dtype.kind == "f"
            else np.array_equal(ours[name], peer[name])
        )
        for name in ours
    )


@dataclass(frozen=True, slots=True)
class Result:
    """One line of the table; ``passed`` when both sides agree and, at full size, the ratio meets the bar."""

    name: str
    size: str
    ours_seconds: float
    peer: str
    peer_seconds: float
    ratio: float
    bar: float
    ours_peak_mb: float
    peer_peak_mb: float
    same: bool
    bar_is: str
    rounds: int
    what: str

    @property
    def passed(self) -> bool:
        met = self.ratio >= self.bar if self.bar_is == "at_least" else self.ratio <= self.bar
        return self.same and (met or self.size != "full")

    def as_json(self) -> str:
        return json.dumps({**asdict(self), "passed": self.passed})


@dataclass(frozen=True, slots=True)
class Benchmark:
    """Two sides, their inputs at each size, and the bar their ratio must meet (``at_most`` for shares of memory)."""

    name: str
    module: str
    sizes: Mapping[str, Mapping[str, Any]]
    prepare: Callable[..., Any]
    ours: Side
    peer: Side
    bar: float
    what: str = ""
    ratio: Callable[[Measured, Measured], float] = speed
    bar_is: Literal["at_least", "at_most"] = "at_least"
    same: Callable[[Answer, Answer], bool] = agree
    rounds: Mapping[str, int] = field(default_factory=lambda: {"full": 5, "short": 1})

    def missing(self) -> list[Need]:
        return [need for need in (*self.ours.needs, *self.peer.needs) if not need.met()]

    def run(self, size: str = "full", *, apart: bool = True) -> Result:
        """Measure both sides in turn: one round each to warm up and for memory, then ``rounds`` for the median time.

        ``apart=False``: both in this process, for their answers; what was here before makes the peaks mean little.
        """
        if absent := self.missing():
            raise PeerMissing(
                f"benchmark {self.name} needs {', '.join(need.name for need in absent)}, not found here. "
                f"Fix: {'; '.join(dict.fromkeys(need.fix for need in absent))}"
            )
        rounds = self.rounds[size]
        with ExitStack() as stack:
            folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="bench_")))
            sides = ("ours", "peer")
            workers: list[_Worker] | list[_Here]
            if apart:
                workers = [stack.enter_context(_Worker(self.module, side, size, folder)) for side in sides]
            else:
                workers = [_Here(self, side, size) for side in sides]
            for _ in range(1 + rounds):
                for worker in workers:
                    worker.once()
            ours, peer = (worker.finish() for worker in workers)
        return Result(
            name=self.name,
            size=size,
            ours_seconds=round(ours.seconds, 6),
            peer=self.peer.name,
            peer_seconds=round(peer.seconds, 6),
            ratio=round(self.ratio(ours, peer), 3),
            bar=self.bar,
            ours_peak_mb=round(ours.peak_mb, 1),
            peer_peak_mb=round(peer.peak_mb, 1),
            same=self.same(ours.answer, peer.answer),
            bar_is=self.bar_is,
            rounds=rounds,
            what=self.what,
        )


class _Worker:
    """A fresh process that holds one side's inputs and runs it each time it is told to."""

    def __init__(self, module: str, side: str, size: str, folder: Path) -> None:
        self._label = f"{module} {side}"
        self._answer = folder / f"{side}.npz"
        self._replies: list[dict[str, float]] = []
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.benchmarks.harness", module, side, size, str(self._answer)],
            cwd=ROOT,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env={
                **os.environ,
                "OMP_WAIT_POLICY": "PASSIVE",  # for both sides, as the command line sets it
                "PYTHONPATH": os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")]),
            },
        )

    def __enter__(self) -> Self:
        self._read()
        self._replies.clear()
        return self

    def __exit__(self, *_: object) -> None:
        if self._process.poll() is None:
            self._process.kill()
        self._process.wait()
        self._process.stdin.close()
        self._process.stdout.close()

    def _read(self) -> None:
        line = self._process.stdout.readline()
        if not line:
            raise RuntimeError(f"{self._label} ended with status {self._process.wait()}; its message is above")
        self._replies.append(json.loads(line))

    def once(self) -> None:
        self._process.stdin.write("go\n")
        self._process.stdin.flush()
        self._read()

    def finish(self) -> Measured:
        self._process.stdin.close()
        if status := self._process.wait():
            raise RuntimeError(f"{self._label} ended with status {status}; its message is above")
        with np.load(self._answer) as stored:
            return _measured(self._replies, dict(stored))


class _Here:
    """One side in this process: it holds its inputs, and runs each time it is told to."""

    def __init__(self, benchmark: Benchmark, which: str, size: str) -> None:
        self._side: Side = getattr(benchmark, which)
        self._inputs = self._side.own(benchmark.prepare(**benchmark.sizes[size]))
        self._outcome: Any = None
        self.replies: list[dict[str, float]] = []

    def once(self) -> None:
        self._outcome = None
        _forget_peak()
        held = _resident_mb("VmRSS")
        begun = time.perf_counter()
        self._outcome = self._side.run(self._inputs)
        seconds = time.perf_counter() - begun
        self.replies.append({"seconds": seconds, "peak_mb": max(0.0, _resident_mb("VmHWM") - held)})

    def answer(self) -> dict[str, np.ndarray]:
        return {name: np.asarray(value) for name, value in self._side.answer(self._outcome).items()}

    def finish(self) -> Measured:
        return _measured(self.replies, self.answer())


def _measured(replies: list[dict[str, float]], answer: dict[str, np.ndarray]) -> Measured:
    first, *timed = replies
    return Measured(statistics.median(reply["seconds"] for reply in timed), first["peak_mb"], answer)


def _resident_mb(field_name: str) -> float:
    status = Path("/proc/self/status")
    if status.exists():
        line = next(line for line in status.read_text().splitlines() if line.startswith(f"{field_name}:"))
        return int(line.split()[1]) / 1024
    unit = 1 << 20 if sys.platform == "darwin" else 1 << 10
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / unit


def _forget_peak() -> None:
    """Set the high-water mark back to what is held now (Linux; elsewhere the mark of the whole process stays)."""
    mark = Path("/proc/self/clear_refs")
    if mark.exists():
        mark.write_text("5")


def _serve(module: str, which: str, size: str, path: str) -> None:
    """Be one side: prepare, then for each line on stdin run once and reply seconds and peak; write the last answer."""
    replies = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # whatever a library prints goes to stderr, away from the replies
    here = _Here(importlib.import_module(module).BENCHMARK, which, size)
    print(json.dumps({}), file=replies, flush=True)
    for _ in sys.stdin:
        here.once()
        print(json.dumps(here.replies[-1]), file=replies, flush=True)
    np.savez(path, **here.answer())


if __name__ == "__main__":
    _serve(*sys.argv[1:])

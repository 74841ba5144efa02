"""`python -m tests.benchmarks [NAME] [--size short]`: one benchmark or all; full sizes go into RESULTS.md."""

from __future__ import annotations

import argparse
import datetime as dt
import importlib
import importlib.metadata
import os
import pkgutil
import platform
import sys
from pathlib import Path

from tests.benchmarks.harness import Benchmark, PeerMissing, Result

HERE = Path(__file__).resolve().parent
RESULTS = HERE / "RESULTS.md"
COLUMNS = (
    *("benchmark", "what", "peer", "ours, s", "peer, s", "ours, MB", "peer, MB"),
    *("ratio", "bar", "same answer", "passed", "measured"),
)
SHOWN = ("heteromics", "numpy", "scipy", "torch", "dgl", "duckdb", "scglue", "pyranges", "networkx")


def benchmarks() -> dict[str, Benchmark]:
    """Every module of this folder that holds a ``BENCHMARK``, by its name."""
    modules = [name for _, name, _ in pkgutil.iter_modules([str(HERE)]) if name not in {"__main__", "harness"}]
    found = [importlib.import_module(f"tests.benchmarks.{name}") for name in modules if not name.startswith("test_")]
    return {module.BENCHMARK.name: module.BENCHMARK for module in found}


def table(results: list[Result], before: str = "") -> str:
    """Write RESULTS.md: these results, and the rows of other benchmarks that stand there already."""
    lines = [
        "# Benchmarks",
        "",
        "Written by `make bench`, row by row. Ours and the peer ran in turn, each in a process of its own; seconds are",
        "medians, memory is the peak above what was held before the first call. Ratios carry over to other machines,",
        "seconds do not. The last column says when and where.",
        "",
        f"Versions of the last run: Python {platform.python_version()}, {', '.join(_versions())}.",
        "",
        f"| {' | '.join(COLUMNS)} |",
        "|---" * len(COLUMNS) + "|",
    ]
    rows = {_name(line): line for line in before.splitlines() if line.startswith("| ") and _name(line) != "benchmark"}
    measured = f"{dt.datetime.now(dt.UTC):%Y-%m-%d}, {_cpu()}, {os.cpu_count()} cores"
    for result in results:
        bar = f"{'≥' if result.bar_is == 'at_least' else '≤'} {result.bar:g}"
        rows[result.name] = (
            f"| {result.name} | {result.what} | {result.peer} | {result.ours_seconds:.3g} | {result.peer_seconds:.3g} "
            f"| {result.ours_peak_mb:,.0f} | {result.peer_peak_mb:,.0f} | {result.ratio:.3g} | {bar} "
            f"| {'yes' if result.same else 'NO'} | {'yes' if result.passed else 'NO'} | {measured} |"
        )
    return "\n".join([*lines, *(rows[name] for name in sorted(rows))]) + "\n"


def _name(row: str) -> str:
    return row.split("|")[1].strip()


def _cpu() -> str:
    info = Path("/proc/cpuinfo")
    lines = info.read_text(encoding="utf-8").splitlines() if info.exists() else []
    return next((line.split(":")[1].strip() for line in lines if line.startswith("model name")), platform.processor())


def _versions() -> list[str]:
    shown = []
    for name in SHOWN:
        try:
            shown.append(f"{name} {importlib.metadata.version(name)}")
        except importlib.metadata.PackageNotFoundError:
            shown.append(f"{name} absent")
    return shown


def main(arguments: list[str] | None = None) -> int:
    """Run what was asked for; 0 when every bar was met, 1 when one was missed, 2 when it could not be run."""
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks", description=__doc__)
    parser.add_argument("name", nargs="?", help="one benchmark; without it all run")
    parser.add_argument("--size", choices=("full", "short"), default="full")
    asked = parser.parse_args(arguments)
    known = benchmarks()
    if asked.name and asked.name not in known:
        print(f"no benchmark '{asked.name}'. Known: {', '.join(known)}.", file=sys.stderr)
        return 2
    chosen = [known[asked.name]] if asked.name else list(known.values())
    absent = list(dict.fromkeys(need for benchmark in chosen for need in benchmark.missing()))
    for need in absent:
        print(f"{need.kind} {need.name} not found. Fix: {need.fix}", file=sys.stderr)
    if absent:
        return 2
    results = []
    for benchmark in chosen:
        print(f"{benchmark.name} ({asked.size}): {benchmark.what}", file=sys.stderr)
        try:
            results.append(benchmark.run(asked.size))
        except (PeerMissing, RuntimeError) as error:
            print(error, file=sys.stderr)
            return 2
        print(results[-1].as_json(), flush=True)
    if asked.size == "full":
        RESULTS.write_text(table(results, RESULTS.read_text(encoding="utf-8")), encoding="utf-8")
    return 0 if all(result.passed for result in results) else 1


if __name__ == "__main__":
    sys.exit(main())

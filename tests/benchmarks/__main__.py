"""`python -m tests.benchmarks [NAME] [--size short]`: one benchmark, or all of them and RESULTS.md."""

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
SHOWN = ("heteromics", "numpy", "scipy", "torch", "dgl", "duckdb", "scglue")


def benchmarks() -> dict[str, Benchmark]:
    """Every module of this folder that holds a ``BENCHMARK``, by its name."""
    modules = [name for _, name, _ in pkgutil.iter_modules([str(HERE)]) if name not in {"__main__", "harness"}]
    found = [importlib.import_module(f"tests.benchmarks.{name}") for name in modules if not name.startswith("test_")]
    return {module.BENCHMARK.name: module.BENCHMARK for module in found}


def table(results: list[Result]) -> str:
    """Write the results as RESULTS.md, with the date, the machine and the versions they were measured with."""
    lines = [
        "# Benchmarks",
        "",
        "Written by `make bench`. Ours and the peer ran in turn, each in a process of its own; seconds are medians,",
        "memory is the peak above what was held before the first call.",
        "Ratios carry over to other machines, seconds do not.",
        "",
        f"- Date: {dt.datetime.now(dt.UTC):%Y-%m-%d}",
        f"- Machine: {_cpu()}, {os.cpu_count()} cores, {platform.system()} {platform.machine()}",
        f"- Python {platform.python_version()}, {', '.join(_versions())}",
        "",
        "| benchmark | what | peer | ours, s | peer, s | ours, MB | peer, MB | ratio | bar | same answer | passed |",
        "|---|---|---|---|---|---|---|---|---|---|---|",
    ]
    for result in results:
        bar = f"{'≥' if result.bar_is == 'at_least' else '≤'} {result.bar:g}"
        lines.append(
            f"| {result.name} | {result.what} | {result.peer} | {result.ours_seconds:.3g} | {result.peer_seconds:.3g} "
            f"| {result.ours_peak_mb:,.0f} | {result.peer_peak_mb:,.0f} | {result.ratio:.3g} | {bar} "
            f"| {'yes' if result.same else 'NO'} | {'yes' if result.passed else 'NO'} |"
        )
    return "\n".join(lines) + "\n"


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
    parser.add_argument("name", nargs="?", help="one benchmark; without it all run and RESULTS.md is rewritten")
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
    if not asked.name and asked.size == "full":
        (HERE / "RESULTS.md").write_text(table(results), encoding="utf-8")
    return 0 if all(result.passed for result in results) else 1


if __name__ == "__main__":
    sys.exit(main())

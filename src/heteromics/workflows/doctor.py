"""What this installation can do, and how to get what is missing."""

from __future__ import annotations

import importlib
import importlib.metadata
import os
import platform
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from heteromics import __version__
from heteromics._resources import resource
from heteromics.errors import HeteromicsError

State = Literal["ok", "optional", "missing"]

CORE = (
    *("torch", "lightning", "numpy", "scipy", "pandas", "anndata", "mudata", "scanpy", "scikit-learn", "duckdb"),
    *("pyarrow", "networkx", "pyfaidx", "safetensors", "pooch", "matplotlib"),
)
BENCH = ("scglue",)


@dataclass(frozen=True, slots=True)
class Check:
    """One line of the report.

    Attributes
    ----------
    name
        What was looked at.
    state
        ``ok``; ``optional``, not there and not needed for the main work; ``missing``, needed.
    found
        Version or description.
    fix
        How to get it; empty when ``ok``.
    """

    name: str
    state: State
    found: str
    fix: str = ""


def doctor() -> list[Check]:
    """Look at versions, device, DGL, the local mirror, recipes and what only the benchmarks need.

    Returns
    -------
    list of Check
        In a fixed order. The installation is fit for work when none is ``missing``.

    Examples
    --------
    >>> checks = doctor()
    >>> checks[0].name, checks[0].state
    ('heteromics', 'ok')
    """
    return [
        Check("heteromics", "ok", __version__),
        Check("python", "ok", f"{platform.python_version()} on {platform.system()} {platform.machine()}"),
        *(_package(name) for name in CORE),
        _dgl(),
        _device(),
        _recipes(),
        _mirror(),
        *(_package(name, extra="bench") for name in BENCH),
        _bedtools(),
    ]


def _package(name: str, extra: str | None = None) -> Check:
    try:
        return Check(name, "ok", importlib.metadata.version(name))
    except importlib.metadata.PackageNotFoundError:
        if extra:
            return Check(
                name, "optional", "not installed, only for the benchmarks", f"pip install 'heteromics[{extra}]'"
            )
        return Check(name, "missing", "not installed", f"pip install {name}")


def _dgl() -> Check:
    try:
        module = importlib.import_module("heteromics.graphs._dgl")
    except (ImportError, OSError, HeteromicsError) as error:
        return Check("dgl", "missing", f"does not import: {error}", "pip install -c constraints.txt heteromics")
    return Check("dgl", "ok", f"{module.dgl.__version__}, graphs on CPU, compute through heteromics.nn")


def _device() -> Check:
    torch = importlib.import_module("torch")
    if torch.cuda.is_available():
        return Check("device", "ok", f"cuda: {torch.cuda.get_device_name()}")
    return Check("device", "ok", f"cpu, {torch.get_num_threads()} threads; torch sees no CUDA device")


def _recipes() -> Check:
    found = [f"{kind}/{path.stem}" for kind in ("priors", "graphs") for path in sorted(resource(kind).glob("*.yaml"))]
    if found and resource("data_manifest.yaml").is_file():
        return Check("recipes", "ok", ", ".join(found))
    return Check("recipes", "missing", "recipes or data manifest not found", "install heteromics again")


def _mirror() -> Check:
    named = os.environ.get("HETEROMICS_DATA")
    fix = "export HETEROMICS_DATA=<folder of data sets>, or let `heteromics data fetch NAME` download"
    if not named:
        return Check("mirror", "optional", "HETEROMICS_DATA is not set", fix)
    if not Path(named).is_dir():
        return Check("mirror", "missing", f"HETEROMICS_DATA={named} is no folder", fix)
    items = sum(1 for path in Path(named).iterdir() if path.is_dir())
    return Check("mirror", "ok", f"{named} ({items} data sets)")


def _bedtools() -> Check:
    where = shutil.which("bedtools")
    if where:
        return Check("bedtools", "ok", where)
    return Check("bedtools", "optional", "not found, only for the links benchmark", "apt-get install bedtools")

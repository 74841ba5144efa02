"""A run: the folder a training leaves behind, and the card that says how it came about."""

from __future__ import annotations

import importlib.metadata
import json
import platform
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from heteromics import __version__
from heteromics._files import sha256_of, write_json
from heteromics.errors import DataError

CARD = "run.json"
BEGUN = "unfinished.json"
REPORTED = ("torch", "lightning", "dgl", "numpy", "scipy", "scikit-learn", "anndata", "mudata", "duckdb")


def installed_versions() -> dict[str, str]:
    """Return the versions of heteromics, Python and the packages that compute."""
    found = {name: importlib.metadata.version(name) for name in REPORTED}
    return {"heteromics": __version__, "python": platform.python_version(), **found}


@dataclass(frozen=True, slots=True)
class Run:
    """What was trained, on what, how; written as ``run.json`` in the run's folder.

    Attributes
    ----------
    model, task
        Such as ``"scmognn"`` and ``"prediction"``.
    data, db, graph
        Files and graph folder used; all but the data may be None.
    sha256
        Checksum by role, of the same files; of a graph that of its schema, which has those of all its files.
    seed, device
        As used.
    settings
        Every setting, defaults included.
    versions
        Of heteromics, Python and what computes.
    created
        UTC, ISO 8601.
    """

    model: str
    task: str
    data: str
    db: str | None
    graph: str | None
    sha256: Mapping[str, str]
    seed: int
    device: str
    settings: Mapping[str, Any]
    versions: Mapping[str, str] = field(default_factory=installed_versions)
    created: str = field(default_factory=lambda: datetime.now(UTC).isoformat(timespec="seconds"))

    @property
    def place(self) -> str:
        """Device to use the model on: ``"cpu"``, or for one trained with CUDA ``"auto"``."""
        return "cpu" if self.device == "cpu" else "auto"

    def write(self, folder: Path, name: str = CARD) -> None:
        """Write the card into ``folder``, which is made when absent."""
        write_json(folder / name, asdict(self))

    def checked_data(self) -> Path:
        """Return the data file of the run, made sure to be the one it was trained on.

        Raises
        ------
        DataError
            When the file is gone or has changed.
        """
        path = Path(self.data)
        if not path.is_file():
            raise DataError(f"{path}: the data of the run is gone. Fix: put it back, or score other data with --data.")
        if sha256_of(path) != self.sha256["data"]:
            raise DataError(f"{path} has changed since the run was trained on it. Fix: score it with --data {path}.")
        return path

    @classmethod
    def read(cls, folder: Path | str) -> Run:
        """Read the card of a finished run.

        Raises
        ------
        DataError
            When the folder holds no run, or an unfinished one, or the card is broken.
        """
        path = Path(folder) / CARD
        if not path.is_file():
            raise DataError(
                f"{folder} holds no finished run: {CARD} is missing. Fix: `heteromics train ... --out {folder}`."
            )
        return cls._from_file(path)

    @classmethod
    def read_begun(cls, folder: Path) -> Run:
        """Read the card that an unfinished run left when it began."""
        return cls._from_file(folder / BEGUN)

    @classmethod
    def _from_file(cls, path: Path) -> Run:
        try:
            return cls(**json.loads(path.read_text(encoding="utf-8")))
        except (ValueError, TypeError) as error:
            raise DataError(f"{path} is no card of a run ({error}). Fix: train again.") from error

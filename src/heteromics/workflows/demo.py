"""The whole way in a few minutes: real RNA to protein, then planted regulation from priors to recovered links."""

from __future__ import annotations

import shutil
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from heteromics import plot
from heteromics._progress import stderr
from heteromics.errors import DataError, FetchError
from heteromics.workflows.report import Detail, Picture, Section, picture, table, write_report
from heteromics.workflows.results import Scores
from heteromics.workflows.run import installed_versions, write_json

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure

PBMC = "cite_mosaic_pbmc_midas/quickstart_pbmc_mosaic.h5mu"
PBMC_SETS: tuple[str, ...] = ()
SYNTHETIC_SETS: tuple[str, ...] = ()
MARKER = "demo.json"


@dataclass(frozen=True, slots=True)
class Demo:
    """Outcome of the demo.

    Attributes
    ----------
    complete
        False when the real data could not be had and only the synthetic part ran.
    prediction
        Scores on held-out PBMC, or None.
    matching, links
        Scores of cross-modal matching on held-out cells, and of link recovery, on the synthetic multiome.
    notes
        Paths, seconds and counts.
    """

    complete: bool
    prediction: Scores | None
    matching: Scores
    links: pd.DataFrame
    notes: Mapping[str, Any] = field(default_factory=dict)

    def tables(self) -> dict[str, list[dict[str, Any]]]:
        """Return titled tables for printing."""
        shown = {
            "synthetic: match RNA and ATAC profiles, held-out cells": self.matching.rows(),
            "synthetic: recovery of planted links": _rows(self.links),
        }
        if self.prediction is None:
            return shown
        return {"PBMC: proteins from RNA, held-out cells": self.prediction.rows(), **shown}

    def as_dict(self) -> dict[str, Any]:
        """Return everything as JSON values."""
        return {
            "complete": self.complete,
            "prediction": None if self.prediction is None else self.prediction.as_dict(),
            "matching": self.matching.as_dict(),
            "links": _rows(self.links),
            **self.notes,
        }


def _rows(frame: pd.DataFrame) -> list[dict[str, Any]]:
    return [{str(key): value for key, value in row.items()} for row in frame.to_dict("records")]

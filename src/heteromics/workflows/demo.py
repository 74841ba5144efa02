"""The whole way in a few minutes: real RNA to protein, then planted regulation from priors to recovered links."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from heteromics.workflows.results import Scores

if TYPE_CHECKING:
    import pandas as pd

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

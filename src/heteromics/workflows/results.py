"""What the workflows give back: tidy metrics, notes, and both as plain values for JSON."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import pandas as pd


@dataclass(frozen=True, slots=True)
class Scores:
    """Metrics of a run.

    Attributes
    ----------
    metrics
        One row per model, test set and metric: ``model``, ``split`` or ``negatives``, ``metric``, ``value``.
    scored_on
        Which cells, in words.
    notes
        Counts and paths worth telling.
    """

    metrics: pd.DataFrame
    scored_on: str = "held-out test cells"
    notes: Mapping[str, Any] = field(default_factory=dict)

    def wide(self) -> pd.DataFrame:
        """Return one row per model (and test set), one column per metric, models in their first order."""
        keys = [column for column in self.metrics.columns if column not in ("metric", "value")]
        table = self.metrics.pivot_table(index=keys, columns="metric", values="value", sort=False)
        return table.reset_index().rename_axis(columns=None)

    def rows(self) -> list[dict[str, Any]]:
        """Return the wide table as mappings; what a model has no value of is None."""
        return [
            {str(key): None if value != value else value for key, value in row.items()}
            for row in self.wide().to_dict("records")
        ]

    def as_dict(self) -> dict[str, Any]:
        """Return everything as JSON values."""
        return {"scored_on": self.scored_on, "metrics": self.rows(), **self.notes}

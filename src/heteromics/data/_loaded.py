"""What the readers of all formats hand over, and the errors they share."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pandas as pd

from heteromics.data._modality import canonical
from heteromics.errors import MissingLayer, MissingModality


@dataclass(frozen=True, slots=True)
class Size:
    """Cells, features and stored values of a matrix that was not read; None where only reading tells."""

    cells: int
    features: int
    values: int | None


@dataclass(slots=True)
class Loaded:
    """One matrix, cells x features, SciPy sparse of any form and number type, with the tables of its two sides."""

    matrix: Any
    obs: pd.DataFrame
    var: pd.DataFrame
    obsm: dict[str, Any] = field(default_factory=dict)
    uns: dict[str, Any] = field(default_factory=dict)

    def features(self, chosen: np.ndarray) -> Loaded:
        """Keep the features chosen by a bool mask, shape (features,)."""
        if chosen.all():
            return self
        matrix = self.matrix if self.matrix.format in {"csr", "csc"} else self.matrix.tocsr()
        return Loaded(matrix[:, np.flatnonzero(chosen)], self.obs, self.var[chosen].copy(), self.obsm, self.uns)


def by_feature_type(types: pd.Series | None) -> dict[str, str]:
    """Modalities named in a column of feature types."""
    return {} if types is None else {canonical(spelling): spelling for spelling in types.astype(str).unique()}


def require_modality(there: Mapping[str, str], modality: str, where: str) -> None:
    """Raise MissingModality, listing what is there in both spellings."""
    if modality not in there:
        listed = [name if name == own else f"{name} (as '{own}')" for name, own in there.items()]
        raise MissingModality(
            f"{where} has no modality '{modality}'. There: {', '.join(listed) or 'none'}.\n  Fix: ask for one of these."
        )


def require_layer(there: list[str], layer: str, where: str) -> None:
    """Raise MissingLayer, listing what is there."""
    if layer not in there:
        raise MissingLayer(f"{where} has no layer '{layer}'. There: {', '.join(there)}.\n  Fix: ask for one of these.")

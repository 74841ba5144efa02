"""Settings of a training run, by task; ``--set group.key=value`` changes one, an unknown one is refused."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, TypeVar

from heteromics import _config
from heteromics.errors import RecipeError
from heteromics.models.bi2former import Bi2FormerConfig
from heteromics.models.scmognn import ScMoGNNConfig

T = TypeVar("T")
Values = Literal["counts", "normalised"]


@dataclass(frozen=True, slots=True)
class SplitSettings:
    """Which cells are for training, validation and test.

    Attributes
    ----------
    column
        Column of ``obs`` that holds ``train``, ``validation`` or ``test`` per cell; None draws them with the seed.
    validation_share, test_share
        Shares of all cells, when drawn.
    group_column
        Column of ``obs`` whose groups (donors, batches) stay whole when drawn.
    """

    column: str | None = None
    validation_share: float = 0.15
    test_share: float = 0.15
    group_column: str | None = None

    def __post_init__(self) -> None:
        left = 1 - self.validation_share - self.test_share
        if min(self.validation_share, self.test_share) <= 0 or left <= 0:
            raise RecipeError(
                f"split: found validation_share {self.validation_share} and test_share {self.test_share}; "
                "expected both above 0 and together below 1."
            )
        if self.column is not None and self.group_column is not None:
            raise RecipeError(
                f"split: found column '{self.column}' and group_column '{self.group_column}'; expected one of them, "
                "because a column fixes the split and groups are for drawing it."
            )


@dataclass(frozen=True, slots=True)
class PredictionData:
    """Input and target of modality prediction.

    Attributes
    ----------
    modality, layer, values
        Input: counts are scaled to 10,000 per cell and log1p-transformed; normalised values are taken as they are.
    target, target_layer, target_values
        What is predicted; counts become log1p.
    batch
        Column of ``obs`` with batches, for the batch statistics of cells; None for none.
    gmt
        Pathway file (symbols) for feature-feature edges, when no store is given.
    """

    modality: str = "rna"
    layer: str = "X"
    values: Values = "counts"
    target: str = "protein"
    target_layer: str = "X"
    target_values: Values = "counts"
    batch: str | None = "batch"
    gmt: Path | None = None


@dataclass(frozen=True, slots=True)
class FitSettings:
    """How long to train; None leaves it to the model's configuration."""

    max_epochs: int | None = None

    def __post_init__(self) -> None:
        if self.max_epochs is not None and self.max_epochs < 1:
            raise RecipeError(f"fit.max_epochs: found {self.max_epochs}, expected 1 or more.")


@dataclass(frozen=True, slots=True)
class PredictionSettings:
    """All settings of ``train scmognn --task prediction``."""

    data: PredictionData = field(default_factory=PredictionData)
    split: SplitSettings = field(default_factory=SplitSettings)
    model: ScMoGNNConfig = field(default_factory=ScMoGNNConfig)
    fit: FitSettings = field(default_factory=FitSettings)


@dataclass(frozen=True, slots=True)
class MatchingData:
    """The two modalities of cross-modal matching.

    Attributes
    ----------
    rna_layer, atac_layer
        Layers with counts.
    cell_type
        Column of ``obs`` with cell types: makes easy and hard negatives, and is never an input of the model.
    batch
        Column of ``obs`` with batches, for negatives within them; need not be there otherwise.
    mask
        ``"chromosome"`` or ``"window"``: which gene-peak pairs may attend to each other.
    within_bp
        For the window mask, bp.
    """

    rna_layer: str = "X"
    atac_layer: str = "X"
    cell_type: str = "cell_type"
    batch: str = "batch"
    mask: Literal["chromosome", "window"] = "chromosome"
    within_bp: int = 150_000


@dataclass(frozen=True, slots=True)
class MatchingSettings:
    """All settings of ``train bi2former --task matching``.

    ``negatives`` are those of the training pairs; easy and hard ones are always both scored. ``within="batch"`` keeps
    negatives of every part within batches, so that none is told by its batch.
    """

    data: MatchingData = field(default_factory=MatchingData)
    split: SplitSettings = field(default_factory=SplitSettings)
    negatives: Literal["easy", "hard", "random"] = "random"
    within: Literal["batch"] | None = None
    model: Bi2FormerConfig = field(default_factory=Bi2FormerConfig)
    fit: FitSettings = field(default_factory=FitSettings)


def read_settings(cls: type[T], sets: Sequence[str]) -> T:
    """Build settings from ``group.key=value`` assignments over the defaults.

    Examples
    --------
    >>> read_settings(PredictionSettings, ["fit.max_epochs=20"]).fit.max_epochs
    20
    """
    return _config.build(cls, _config.override({}, sets), "--set")

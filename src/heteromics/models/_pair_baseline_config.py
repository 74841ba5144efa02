"""Configurations of the paper's baselines on bipartite graphs, every number with its source."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, Self

from heteromics.errors import ModelError


@dataclass(frozen=True, slots=True)
class PairBaselineConfig:
    """What all baselines on bipartite graphs share: inputs, readout, classifier and training.

    [C] is the public code of Bi2Former and [G] its search grids, [R] a choice made here. The settings of the paper's
    baselines are not printed. Inputs, readout and classifier are those of ``Bi2FormerConfig.for_matching()``, so that a
    model is compared with it and not its preprocessing.

    Attributes
    ----------
    id_width
        Width of the ID embeddings; 64 to 512 [G].
    hidden
        Width of all states; 64 to 512 [G].
    layers
        1 or 2 [G].
    ids, attributes
        Whether nodes have ID embeddings, and attributes with a one-hot chromosome; the paper's ablations.
    values
        ``"raw"`` counts [C], ``"log1p"`` of them, or ``"standardised"`` [R], as in
        :class:`~heteromics.models.Bi2FormerConfig`.
    spread_floor
        Added to the standard deviation of standardised values, in log units [R].
    mask
        Which genes and peaks are neighbours: on one ``"chromosome"`` [C], within a ``"window"`` [R], or all
        (``"none"``); None: that of the graph.
    normalise
        Batch norm of the two readouts [R]; without it, thousands of averaged nodes hardly differ between cells.
    classifier
        ``"mlp"`` [C] reads the two readouts side by side, ``"compared"`` [R] their product and their distance too.
    dropout
        In the classifier; 0.1 [C].
    learning_rate, weight_decay
        Of Adam; 1e-5 to 1e-3 and 1e-6 to 1e-4 [G].
    batch_size
        Pairs per step; 1 [C].
    max_epochs, patience, monitor
        29 epochs, best ``"accuracy"`` on validation pairs [C], or ``"loss"``.
    sparse_ids
        Sparse gradients and Adam moments for the ID embeddings: for hundreds of thousands of peaks. No weight decay.
    """

    id_width: int = 128
    hidden: int = 64
    layers: int = 2
    ids: bool = True
    attributes: bool = True
    values: Literal["standardised", "log1p", "raw"] = "standardised"
    spread_floor: float = 0.1
    mask: Literal["chromosome", "window", "none"] | None = None
    normalise: bool = True
    classifier: Literal["mlp", "compared"] = "compared"
    dropout: float = 0.1
    learning_rate: float = 1e-3
    weight_decay: float = 1e-4
    batch_size: int = 32
    max_epochs: int = 30
    patience: int = 10
    monitor: Literal["loss", "accuracy"] = "accuracy"
    sparse_ids: bool = False

    def __post_init__(self) -> None:
        if problems := self._problems():
            raise ModelError(f"{type(self).__name__}: {'; '.join(problems)}.")

    def _problems(self) -> list[str]:
        sizes = ("id_width", "layers", "batch_size", "max_epochs")
        problems = [f"{name}={getattr(self, name)}, expected 1 or more" for name in sizes if getattr(self, name) < 1]
        if self.hidden < 2:
            problems.append(f"hidden={self.hidden}, expected 2 or more")
        if not self.ids and not self.attributes:
            problems.append("ids and attributes are both off: nothing tells nodes apart but their values")
        if self.sparse_ids and not self.ids:
            problems.append("sparse_ids=True with ids=False: there are no IDs to be sparse")
        if self.spread_floor <= 0:
            problems.append(f"spread_floor={self.spread_floor}, expected above 0")
        if not 0 <= self.dropout < 1:
            problems.append(f"dropout={self.dropout}, expected 0 or more and less than 1")
        if self.normalise and self.batch_size == 1:
            problems.append("normalise=True needs batches of two pairs or more")
        return problems

    @classmethod
    def as_published(cls) -> Self:
        """Return inputs and training of the public code [C]; what is the model's own keeps its default."""
        return cls(
            id_width=256,
            hidden=128,
            ids=True,
            attributes=True,
            values="raw",
            mask="chromosome",
            normalise=False,
            classifier="mlp",
            dropout=0.1,
            learning_rate=5e-5,
            weight_decay=1e-6,
            batch_size=1,
            max_epochs=29,
            patience=29,
            monitor="accuracy",
            sparse_ids=False,
        )


@dataclass(frozen=True, slots=True)
class PairMLPConfig(PairBaselineConfig):
    """Configuration of :class:`~heteromics.models.PairMLP`: :class:`PairBaselineConfig` and nothing else."""


@dataclass(frozen=True, slots=True)
class PairSAGEConfig(PairBaselineConfig):
    """Configuration of :class:`~heteromics.models.PairSAGE`: :class:`PairBaselineConfig` and nothing else.

    Two layers are also the K = 2 of Hamilton et al. 2017, section 4.
    """


@dataclass(frozen=True, slots=True)
class PairGCNIIConfig(PairBaselineConfig):
    """Configuration of :class:`~heteromics.models.PairGCNII`.

    Attributes
    ----------
    residual
        Share alpha of the first states in every layer; 0.1 (Chen et al. 2020, the setting of their public code).
    identity
        Lambda of the identity mapping, beta_l = log(lambda / l + 1); 0.5 (ibid.).
    """

    residual: float = 0.1
    identity: float = 0.5

    def _problems(self) -> list[str]:
        problems = PairBaselineConfig._problems(self)
        if not 0 <= self.residual <= 1:
            problems.append(f"residual={self.residual}, expected 0 to 1")
        if self.identity <= 0:
            problems.append(f"identity={self.identity}, expected more than 0")
        return problems


@dataclass(frozen=True, slots=True)
class PairTransformerConfig(PairBaselineConfig):
    """Configuration of :class:`~heteromics.models.PairTransformer`.

    Attributes
    ----------
    heads
        Heads of attention, dividing ``hidden``; 8 (Dwivedi and Bresson 2020, the setting of their
        public code).
    """

    heads: int = 8

    def _problems(self) -> list[str]:
        problems = PairBaselineConfig._problems(self)
        if self.heads < 1 or self.hidden % self.heads:
            problems.append(f"hidden={self.hidden} is not a multiple of heads={self.heads}")
        return problems

"""Configuration of scMoGNN, every number with its source."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from heteromics.errors import ModelError


@dataclass(frozen=True, slots=True)
class ScMoGNNConfig:
    """Sizes and switches of scMoGNN; every field of the paper's ablations is one.

    [P] is the paper, [C] the public code, [R] a correction made here.

    Attributes
    ----------
    width
        Width of all states; 48 [C], 256 for the reported GEX to ADT [P].
    layers
        Rounds of message passing; 4 [P, C].
    groups
        Groups of the group norm after each convolution, 4 [C]; 0 switches it off. Divides ``width``.
    dropout, edge_dropout, statistics_dropout
        Of states (0.2 [C]), of edge *weights* (0.3 [C]) and of the batch term (0.2 [C]).
    cell_init
        ``"shared"``: one learnt vector for every cell [C]; ``"svd"``: truncated SVD of the input, fitted on training
        cells, then a linear layer [C, optional].
    activate_features
        Leaky ReLU on the feature embeddings, as on the cells' [C]; off by default [R], where it gained nothing.
    svd_components
        For ``cell_init="svd"``; 100 [C], or one fewer than training cells or features where there are not so many.
    batch_statistics
        Nine statistics of a cell's batch, added to its start. ``"raw"`` [C]; ``"standardised"`` [R]: scaled over
        training cells, and those of an unseen batch moved into the range seen there, because the few batches of a
        training set say nothing beyond it (with one training batch they say nothing at all); ``"none"``.
    pathway
        Use the feature-feature edges where the graph has them.
    pathway_repeats
        Repeat such an edge for every gene set that holds both features, so that the mean counts it as often [C]; off
        by default [R], where overlapping sets say the same thing once.
    pathway_share
        Share a of the pathway message, (1 - a) m_cell + a m_pathway; 0.5 [P], None learns it [C].
    residual
        What each later layer's input is concatenated with: ``"initial"`` states [P], ``"previous"`` [C], ``"none"``.
    readout
        Softmax-weighted sum of the layers' cell states (Eq 2.13 [P]) or their concatenation [C default].
    members
        Networks trained from different seeds whose predictions are averaged: 1, or 4 for the competition entry [C].
    non_negative
        Clip validation and test predictions at zero [C]; for targets that cannot be negative.
    learning_rate, weight_decay
        Of AdamW; 1e-2 and 1e-5 [C].
    decay_from, decay_every, decay
        After epoch ``decay_from`` the rate is multiplied by ``decay`` every ``decay_every`` epochs; 1,200, 15 and
        0.99 [C].
    max_epochs, min_epochs, patience
        15,000, 1,500 and 200 [C]. 600, 1 and 80 by default [R]: with hundreds of training cells the best epoch comes
        in the first few hundred, and its state is restored either way.
    """

    width: int = 48
    layers: int = 4
    groups: int = 4
    dropout: float = 0.2
    edge_dropout: float = 0.3
    statistics_dropout: float = 0.2
    cell_init: Literal["shared", "svd"] = "shared"
    activate_features: bool = False
    svd_components: int = 100
    batch_statistics: Literal["standardised", "raw", "none"] = "standardised"
    pathway: bool = True
    pathway_repeats: bool = False
    pathway_share: float | None = 0.5
    residual: Literal["initial", "previous", "none"] = "initial"
    readout: Literal["weighted_sum", "concat"] = "weighted_sum"
    members: int = 1
    non_negative: bool = True
    learning_rate: float = 1e-2
    weight_decay: float = 1e-5
    decay_from: int = 1_200
    decay_every: int = 15
    decay: float = 0.99
    max_epochs: int = 600
    min_epochs: int = 1
    patience: int = 80

    def __post_init__(self) -> None:
        problems = [
            f"{name}={getattr(self, name)}" for name in ("width", "layers", "members") if getattr(self, name) < 1
        ]
        if self.groups and self.width % self.groups:
            problems.append(f"width={self.width} is not a multiple of groups={self.groups}")
        shares = ("dropout", "edge_dropout", "statistics_dropout")
        problems += [f"{name}={getattr(self, name)}" for name in shares if not 0 <= getattr(self, name) < 1]
        if self.pathway_share is not None and not 0 <= self.pathway_share <= 1:
            problems.append(f"pathway_share={self.pathway_share}")
        if problems:
            raise ModelError(
                f"ScMoGNNConfig: {'; '.join(problems)}. Expected sizes of 1 or more, groups that divide the width, "
                "dropouts in [0, 1) and a pathway share in [0, 1] or None."
            )

    @classmethod
    def as_published(cls) -> ScMoGNNConfig:
        """Return the setting of the reported GEX to ADT result (RMSE 0.3885 on the full NeurIPS 2021 data).

        Width 256, weight decay 1e-4, dropout 0.3, edge dropout 0.4, weighted sum, initial residual, one shared cell
        vector, activated features, raw batch statistics, 1,500 to 15,000 epochs. Its graph: hallmark pathways weighted
        by cosine, threshold 0.1, one edge per shared set. Fields that the report does not name are those of the code.
        """
        return cls(
            width=256,
            weight_decay=1e-4,
            dropout=0.3,
            edge_dropout=0.4,
            cell_init="shared",
            activate_features=True,
            batch_statistics="raw",
            pathway_repeats=True,
            residual="initial",
            readout="weighted_sum",
            max_epochs=15_000,
            min_epochs=1_500,
            patience=200,
        )

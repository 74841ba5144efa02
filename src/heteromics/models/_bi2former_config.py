"""Configuration of Bi2Former, every number with its source."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, Literal

from heteromics.errors import ModelError
from heteromics.models._pair_nodes import Readout


@dataclass(frozen=True, slots=True)
class Bi2FormerConfig:
    """Sizes and switches of Bi2Former; every field of the paper's ablations is one.

    [P] is the paper, [C] the public code, [R] a correction made here.

    Attributes
    ----------
    id_width
        Width of the ID embeddings; 256 [C].
    hidden
        Width of messages and states; 128 [C]. Messages that are values alone need far less [R].
    key_width
        Width of the queries and keys of one head; None: hidden / heads [C]. Wider keys tell more genes apart [R].
    layers, heads
        1 and 1 [C].
    ids, attributes
        Whether nodes have ID embeddings, and attributes with a one-hot chromosome; the paper's ablations.
    values
        ``"raw"`` counts [C], ``"log1p"`` of them, or ``"standardised"`` [R]: log-normalised to the median depth, then
        centred and scaled per gene and peak over the training cells that have the feature.
    spread_floor
        Added to the standard deviation of standardised values, in log units [R].
    mask
        Which genes and peaks may meet: ``"chromosome"`` [P, C], ``"window"`` [R], ``"none"`` (ablation); None: that of
        the graph.
    weights
        Weights of the kept links. ``"sigmoid"``: the sigmoid of the score, as the paper's equation has it [P].
        ``"published"``: a softmax over the kept sigmoids, nearly uniform [C]. ``"softmax"``: over the kept scores [R].
    top_k
        Most links per gene; 10 [C]. None keeps all (ablation), which learns better where a window leaves each gene
        a few dozen peaks: what is pruned gets no gradient. Memory then grows with all genes and peaks that may meet
        in a batch, not with its nodes.
    threshold
        Links need a sigmoid above it; 0.5 [P, C]. It passes no gradient to the links it removes, hence None [R].
    scaled
        Scores divided by the root of the key width [R]; not in [C].
    distance_bias
        Adds a learnt term of the distance between gene start and peak to the scores of each head, inside one
        chromosome alone [R]; see :class:`heteromics.nn.DistanceBias`. It starts at 0.
    directions
        ``"shared"``: a link weighs as much on its way to the peak as to the gene, a peak that many genes keep gets a
        large sum [P, C]. ``"separate"`` [R]: on the links that genes kept, peaks ask with queries of their own and
        genes answer with keys of their own; the sigmoid of those scores, or their softmax over the genes that kept the
        peak, weighs what peaks get.
    messages
        What links carry: ``"full"`` projections of all a node has [C], or ``"values"`` alone [R], so that who sent
        them is told by the attention and by nothing else.
    activation
        GELU after the update [R]; none in [C].
    normalise
        Batch norm of the two readouts [R]; without it, thousands of averaged nodes hardly differ between cells.
    classifier
        ``"mlp"`` [C] reads the two readouts side by side, ``"compared"`` [R] their product and their distance too,
        which tells many cells apart better. ``"linear"`` [R] adds them up, so that RNA and ATAC meet in the attention
        and nowhere else, which is what makes its weights worth reading.
    dropout
        In the classifier; 0.1 [C].
    learning_rate, weight_decay
        Of Adam; 5e-5 and 1e-6 [C]. Batches of many pairs bear a higher rate, a few thousand cells need more decay [R].
    batch_size
        Pairs per step; 1 [C].
    max_epochs, patience, monitor
        29 epochs, best ``"accuracy"`` on validation pairs [C], or ``"loss"``.
    sparse_ids
        Sparse gradients and Adam moments for the ID embeddings: for hundreds of thousands of peaks. No weight decay.
    precision
        ``"bfloat16"``: projections, scores, states and messages in bfloat16, in training and after [R]; parameters,
        sums over edges, readout and classifier stay float32.
    """

    id_width: int = 128
    hidden: int = 16
    key_width: int | None = 128
    layers: int = 1
    heads: int = 1
    ids: bool = True
    attributes: bool = True
    values: Literal["standardised", "log1p", "raw"] = "standardised"
    spread_floor: float = 0.1
    mask: Literal["chromosome", "window", "none"] | None = None
    weights: Literal["sigmoid", "softmax", "published"] = "sigmoid"
    top_k: int | None = 10
    threshold: float | None = None
    scaled: bool = True
    distance_bias: bool = False
    directions: Literal["shared", "separate"] = "shared"
    messages: Literal["full", "values"] = "values"
    activation: bool = True
    normalise: bool = True
    classifier: Readout = "linear"
    dropout: float = 0.1
    learning_rate: float = 3e-3
    weight_decay: float = 1e-4
    batch_size: int = 64
    max_epochs: int = 30
    patience: int = 10
    monitor: Literal["loss", "accuracy"] = "accuracy"
    sparse_ids: bool = False
    precision: Literal["float32", "bfloat16"] = "float32"

    def __post_init__(self) -> None:
        sizes = ("id_width", "hidden", "layers", "heads", "batch_size", "max_epochs")
        problems = [f"{name}={getattr(self, name)}" for name in sizes if getattr(self, name) < 1]
        problems += [
            f"{name}={getattr(self, name)}"
            for name in ("key_width", "top_k")
            if getattr(self, name) is not None and getattr(self, name) < 1
        ]
        if self.heads > 0 and self.hidden % self.heads:
            problems.append(f"hidden={self.hidden} is not a multiple of heads={self.heads}")
        if self.classifier != "linear" and self.hidden < 2:
            problems.append("hidden=1 leaves the classifier no width")
        if not self.ids and not self.attributes:
            problems.append("ids and attributes are both off: nothing tells nodes apart but their values")
        if self.sparse_ids and not self.ids:
            problems.append("sparse_ids=True with ids=False: there are no IDs to be sparse")
        if self.threshold is not None and not 0 <= self.threshold < 1:
            problems.append(f"threshold={self.threshold}")
        problems += self._published_problems() if self.weights == "published" else []
        if self.spread_floor <= 0:
            problems.append(f"spread_floor={self.spread_floor} leaves what one training cell has without a scale")
        if not 0 <= self.dropout < 1:
            problems.append(f"dropout={self.dropout}")
        if self.normalise and self.batch_size == 1:
            problems.append("normalise=True needs batches of two pairs or more")
        if problems:
            raise ModelError(
                f"Bi2FormerConfig: {'; '.join(problems)}. Expected sizes of 1 or more, heads that divide hidden, and "
                "threshold and dropout in [0, 1)."
            )

    def _published_problems(self) -> list[str]:
        problems = []
        if self.threshold is None or self.threshold < 0.5:
            problems.append("weights='published' needs a threshold of at least 0.5, below it masked pairs would pass")
        if self.top_k is None:
            problems.append("weights='published' are a softmax over the top_k, which is None")
        if self.directions == "separate":
            problems.append("weights='published' has one weight for both directions")
        return problems

    @property
    def parts(self) -> list[int]:
        """Widths of a node's projections: queries or keys of all heads, message, self, and those of the way back."""
        key = self.hidden // self.heads if self.key_width is None else self.key_width
        back = [self.heads * key] if self.directions == "separate" else []
        return [self.heads * key, self.hidden, self.hidden, *back]

    def without(self, *parts: Part) -> Bi2FormerConfig:
        """Return the config with parts of the model taken out: the ablations of the paper.

        ``"ids"`` and ``"attributes"`` of nodes; ``"pruning"``: threshold and top-k; ``"edges"``: the mask, so that
        all genes and peaks of a pair may meet. Without pruning, published weights become sigmoids, for their softmax is
        over what pruning keeps.

        Examples
        --------
        >>> config = Bi2FormerConfig.as_published().without("attributes", "pruning", "edges")
        >>> config.attributes, config.top_k, config.threshold, config.weights, config.mask
        (False, None, None, 'sigmoid', 'none')
        """
        if unknown := set(parts) - _ABLATIONS.keys():
            raise ModelError(
                f"without: found {', '.join(sorted(unknown))}; expected some of {', '.join(sorted(_ABLATIONS))}."
            )
        changes = {name: value for part in parts for name, value in _ABLATIONS[part].items()}
        if "pruning" in parts and self.weights == "published":
            changes["weights"] = "sigmoid"
        return replace(self, **changes)

    @classmethod
    def for_matching(cls) -> Bi2FormerConfig:
        """Return a setting that tells cells apart better where there are many; its links are not worth reading.

        The classifier compares the two readouts, and then the answer needs no attention. With the 8,247 training cells
        of a reduced SNARE-seq set (one split, easy negatives, at most 15 epochs) the AUROC of random negatives is 0.85
        where the default has 0.66, of hard ones 0.65 and 0.61. On 500 simulated cells, three seeds
        (``tests/studies/planted_links.py``), it learns pairs by heart: hard negatives 0.56 where the default has 0.62.
        The z of its links find planted regulation there with an area of 0.05 under precision and recall where chance
        has 0.04 and the default 0.36, and of links that are none 10 to 39 % have p < 0.05 in all cells, most of them
        trained on, and 3 to 5 % in the others.

        Examples
        --------
        >>> Bi2FormerConfig.for_matching().classifier
        'compared'
        """
        return cls(hidden=64, classifier="compared")

    @classmethod
    def as_published(cls) -> Bi2FormerConfig:
        """Return the setting of the public code; its graph has ``standardise=False``.

        The attributes of the code are the chromosome, gene means and normalised variances, strand and a flag of highly
        variable genes; those of the graph stand in for them.
        """
        return cls(
            id_width=256,
            hidden=128,
            key_width=None,
            layers=1,
            heads=1,
            ids=True,
            attributes=True,
            values="raw",
            mask="chromosome",
            weights="published",
            top_k=10,
            threshold=0.5,
            scaled=False,
            distance_bias=False,
            directions="shared",
            messages="full",
            activation=False,
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
            precision="float32",
        )


Part = Literal["ids", "attributes", "pruning", "edges"]
_ABLATIONS: dict[str, dict[str, Any]] = {
    "ids": {"ids": False, "sparse_ids": False},
    "attributes": {"attributes": False},
    "pruning": {"top_k": None, "threshold": None},
    "edges": {"mask": "none"},
}

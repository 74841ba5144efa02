"""What can be matched with: models of pairs, and controls that see less than they do."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from heteromics.errors import ModelError, did_you_mean
from heteromics.graphs.pairs import EXPRESSES, OPENS
from heteromics.models._pair_model import PairModel
from heteromics.models.baselines import CellTypeMatcher
from heteromics.tasks._paired import counts
from heteromics.tasks.matching_scores import Kind
from heteromics.tasks.pairs import Int, labelled

if TYPE_CHECKING:
    from scipy import sparse

    from heteromics.graphs import HeteroGraph
    from heteromics.tasks.matching_splits import Sets

MODELS = ("Bi2Former", "PairMLP", "PairGCNII", "PairSAGE", "PairTransformer")
CONTROLS = ("CellTypeMatcher", "DepthMatcher", "BilinearMatcher")
NO_PROBABILITY: dict[str, Kind] = {"CellTypeMatcher": "share", "DepthMatcher": "score"}
DEFAULT = ("Bi2Former", "CellTypeMatcher", "DepthMatcher")

Scorer = Callable[[Int], NDArray[Any]]


@dataclass(frozen=True, slots=True)
class Contender:
    """A model or control of a matching run.

    Attributes
    ----------
    name
        In the tables; also what it is, unless ``model`` says so.
    model
        A :class:`~heteromics.models._pair_model.PairModel` subclass or the name of one in ``heteromics.models``:
        ``"Bi2Former"``, and the baselines on the same graphs ``"PairMLP"``, ``"PairGCNII"``, ``"PairSAGE"`` and
        ``"PairTransformer"``. Or a control: ``"CellTypeMatcher"`` (the types of both cells alone), ``"DepthMatcher"``
        (their sequencing depths alone) or ``"BilinearMatcher"`` (linear, without a graph).
    config
        Of the model; None for its default, and for controls, which have none.

    Examples
    --------
    >>> from heteromics.models import Bi2FormerConfig
    >>> Contender("as published", "Bi2Former", Bi2FormerConfig.as_published()).config.batch_size
    1
    """

    name: str
    model: str | type[PairModel] | None = None
    config: Any = None

    def __post_init__(self) -> None:
        if self.is_control and self.config is not None:
            raise ModelError(f"{self.name}: found a configuration for a control, which has none. Fix: leave it out.")

    @property
    def is_control(self) -> bool:
        """Whether it is fitted without gradient steps on pairs."""
        return (self.model or self.name) in CONTROLS

    @property
    def scores(self) -> Kind:
        """What its scores are; see :class:`~heteromics.tasks.matching_scores.Scale`."""
        kind = self.model or self.name
        return NO_PROBABILITY.get(kind, "probability") if isinstance(kind, str) else "probability"

    def pair_model(self) -> type[PairModel]:
        """Return the class.

        Raises
        ------
        ModelError
            When there is none of that name.
        """
        from heteromics import models

        kind = self.model or self.name
        if not isinstance(kind, str):
            return kind
        if kind not in MODELS:
            known = (*MODELS, *CONTROLS)
            raise ModelError(
                f"no model of pairs called '{kind}'. {did_you_mean(kind, known)}Known: {', '.join(known)}."
            )
        found: type[PairModel] = getattr(models, kind)
        return found


def contenders(given: Iterable[str | Contender], config: Any = None) -> list[Contender]:
    """Return contenders for names; ``config`` is that of the one called Bi2Former.

    Raises
    ------
    ModelError
        When there is none, a name is used twice or unknown, or nothing takes ``config``.
    """
    found = [Contender(each) if isinstance(each, str) else each for each in given]
    names = [each.name for each in found]
    if not found or len(set(names)) < len(names):
        raise ModelError(f"models: found {', '.join(names) or 'none'}, expected one or more with names of their own.")
    for each in found:
        if not each.is_control:
            each.pair_model()
    if config is not None:
        if "Bi2Former" not in names:
            raise ModelError(f"found a config for Bi2Former, which is not among the models {', '.join(names)}.")
        place = names.index("Bi2Former")
        found[place] = Contender("Bi2Former", found[place].model, config)
    return found


def fit_contender(
    contender: Contender,
    graph: HeteroGraph,
    sets: Sets,
    *,
    max_epochs: int | None,
    seed: int,
    device: str,
    folder: Path | None,
    resume: bool,
    progress: bool,
) -> tuple[PairModel | None, Scorer]:
    """Fit one on the training part of ``sets``; return the model of pairs, if it is one, and how it scores."""
    kind = contender.model or contender.name
    if not contender.is_control:
        model = contender.pair_model()(graph, config=contender.config).fit(
            sets.draw,
            validation=sets.validation,
            max_epochs=max_epochs,
            seed=seed,
            device=device,
            folder=folder,
            resume=resume,
            progress=progress,
        )
        return model, lambda pairs: model.predict(pairs, device=device, progress=progress)
    rna, atac = counts(graph, EXPRESSES), counts(graph, OPENS)
    if kind == "DepthMatcher":
        return None, lambda pairs: depth_scores(rna, atac, sets.cells, pairs)
    if kind == "CellTypeMatcher":
        by_type = fit_control(graph, sets.cells, sets.types, seed=seed)
        return None, lambda pairs: by_type.predict(rna, atac, pairs)
    from heteromics.models import BilinearMatcher

    linear = BilinearMatcher(seed=seed).fit(rna[sets.cells[:, 0]], atac[sets.cells[:, 1]])
    return None, lambda pairs: linear.predict(rna, atac, pairs)


def fit_control(graph: HeteroGraph, rows: Int, types: ArrayLike, *, seed: int = 0) -> CellTypeMatcher:
    """Fit the classifier of cell types alone on some paired cells, rows (n, 2), of known type."""
    names = np.asarray(types)
    known = labelled(names)
    rna, atac = counts(graph, EXPRESSES)[rows[known, 0]], counts(graph, OPENS)[rows[known, 1]]
    return CellTypeMatcher(seed=seed).fit(rna, names[known], atac, names[known])


def depth_scores(
    rna: sparse.csr_array, atac: sparse.csr_array, training: ArrayLike, pairs: ArrayLike
) -> NDArray[np.float64]:
    """Score pairs by sequencing depth alone: the product of both log depths, standardised over training cells.

    The best linear guess when depths are normal and correlate little; its sign is that of the correlation over the
    training cells. Nothing of any gene or peak goes into it.

    Parameters
    ----------
    rna, atac
        Counts, cells x features.
    training
        Rows of both profiles of training cells, shape (m, 2).
    pairs
        Shape (n, 2).

    Returns
    -------
    ndarray
        Shape (n,), larger where the depths go together.
    """
    rows, wanted = np.asarray(training), np.asarray(pairs)
    sides = []
    for column, matrix in enumerate((rna, atac)):
        depth = np.log(np.asarray(matrix.sum(axis=1), dtype=np.float64).ravel())
        known = depth[rows[:, column]]
        sides.append((depth - known.mean()) / (known.std() or 1.0))
    together = np.sign(np.mean(sides[0][rows[:, 0]] * sides[1][rows[:, 1]])) or 1.0
    return together * sides[0][wanted[:, 0]] * sides[1][wanted[:, 1]]

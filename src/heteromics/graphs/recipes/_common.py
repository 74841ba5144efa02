"""What graph recipes share: which matrices, which training cells, and what a kind of recipe must be able to do."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, Literal, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from heteromics.errors import GraphError, MissingLayer, some

if TYPE_CHECKING:
    from anndata import AnnData

    from heteromics.data._loaded import Size
    from heteromics.graphs.schema import HeteroGraph
    from heteromics.priors import PriorStore

BYTES_PER_EDGE = 8
"""int32 index and float32 weight; a reverse edge type shares both."""


@dataclass(frozen=True, slots=True)
class LayerConfig:
    """One matrix of the data file: modality, layer, what its values are, and what is done to them.

    See :func:`heteromics.data.read` and :func:`heteromics.data.transform`.
    """

    modality: str = "rna"
    layer: str = "X"
    values: Literal["counts", "normalised"] = "counts"
    transform: Literal["none", "log1p", "log1p_cp10k"] = "none"


@dataclass(frozen=True, slots=True)
class TrainingConfig:
    """Which cells are training cells: those with ``value`` in a column of ``obs``; all without a column."""

    column: str | None = None
    value: str = "train"

    def cells(self, data: AnnData) -> NDArray[np.str_] | None:
        """Return their names, or None for all.

        Raises
        ------
        MissingLayer
            For a column that is not there.
        GraphError
            When no cell has the value.
        """
        if self.column is None:
            return None
        if self.column not in data.obs:
            raise MissingLayer(
                f"training: found no column '{self.column}' in obs. Columns: {some(data.obs.columns, 12)}."
            )
        chosen = data.obs_names[data.obs[self.column].astype(str) == self.value].to_numpy(str)
        if not chosen.size:
            words = sorted(set(data.obs[self.column].astype(str)))
            raise GraphError(f"training: no cell has {self.column} = {self.value!r}; found {some(words, 6)}.")
        return chosen

    def cells_of_all(self, *parts: AnnData) -> NDArray[np.str_] | None:
        """Return the training cells of modalities whose cells may differ, from each that has the column.

        Raises
        ------
        MissingLayer, GraphError
            As :meth:`cells`; and for a cell that is a training cell in one modality alone of those that have it.
        """
        saying = [part for part in parts if self.column in part.obs] or list(parts[:1])
        found = [self.cells(part) for part in saying]
        chosen = [names for names in found if names is not None]
        if not chosen:
            return None
        every = np.unique(np.concatenate(chosen))
        for part, names in zip(saying, chosen, strict=True):
            disputed = np.setdiff1d(np.intersect1d(every, part.obs_names.to_numpy(str)), names)
            if disputed.size:
                raise GraphError(
                    f"training: {disputed.size} cells have {self.column} = {self.value!r} in one modality alone: "
                    f"{some(disputed)}.\n  Fix: give a cell the same value in all modalities."
                )
        return every


class Outline(NamedTuple):
    """Nodes and edges by type, None where only the work itself can tell, and bytes of the edges that are known."""

    nodes: dict[str, int | None]
    edges: dict[str, int | None]
    bytes: int


def bytes_of(sizes: Iterable[Size]) -> int:
    """Bytes of the edges of matrices, as far as their number is known."""
    return sum((size.values or 0) + size.cells for size in sizes) * BYTES_PER_EDGE


class GraphRecipe(Protocol):
    """A frozen dataclass of parameters that knows how to plan and to build its graph; see ``graphs/recipes``."""

    store: ClassVar[Literal["needed", "used", "unused"]]
    """Whether a prior store is needed, used where one is given, or of no use."""

    @property
    def graph(self) -> str:
        """Name of the kind, as in the recipe."""

    @property
    def layers(self) -> tuple[LayerConfig, ...]:
        """The matrices it reads, in the order in which it wants them."""

    def outline(self, sizes: Sequence[Size], *, store: bool) -> Outline:
        """Say what would be built from matrices of such sizes, with or without a store."""

    def build(self, data: Sequence[AnnData], store: PriorStore | None) -> HeteroGraph:
        """Build the graph from the matrices, which are read and transformed."""

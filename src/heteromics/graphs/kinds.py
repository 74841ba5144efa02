"""What a graph of each kind must hold; a builder registers its kind where it is defined."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import torch
from torch import Tensor

from heteromics.graphs._dgl import EdgeType

__all__ = ["Data", "Feature", "Kind", "known_kind", "register", "short"]

Data = Mapping[str, Tensor]


@dataclass(frozen=True, slots=True)
class Feature:
    """Type and number of axes of one node or edge feature; the first axis counts nodes or edges."""

    dtype: torch.dtype | tuple[torch.dtype, ...]
    ndim: int = 1

    def problem(self, tensor: Tensor) -> str | None:
        """Say what is wrong with a tensor, or None."""
        allowed = self.dtype if isinstance(self.dtype, tuple) else (self.dtype,)
        if tensor.dtype in allowed and tensor.ndim == self.ndim:
            return None
        expected = " or ".join(map(short, allowed))
        return f"found {short(tensor.dtype)} with {tensor.ndim} axes, expected {expected} with {self.ndim}"


@dataclass(frozen=True, slots=True)
class Kind:
    """What a graph of one kind must have, and what it may have; see :func:`register`.

    A ``*`` in the name of a type or of a feature stands for any letters: one type of the form must be there, and each
    of them must have the features.

    Attributes
    ----------
    name
        Value of ``HeteroGraph.kind``.
    nodes, edges
        Required types, each with its required features.
    optional_nodes, optional_edges
        Features that may be absent but have this form where present; an edge type named only here may be absent.
    """

    name: str
    nodes: Mapping[str, Mapping[str, Feature]]
    edges: Mapping[EdgeType, Mapping[str, Feature]]
    optional_nodes: Mapping[str, Mapping[str, Feature]] = field(default_factory=dict)
    optional_edges: Mapping[EdgeType, Mapping[str, Feature]] = field(default_factory=dict)


_KINDS: dict[str, Kind] = {}


def register(kind: Kind) -> Kind:
    """Make a kind known to :meth:`HeteroGraph.validate`; a builder does so where it is defined."""
    _KINDS[kind.name] = kind
    return kind


def known_kind(name: str) -> Kind | None:
    """Return the registered kind, or None for one that has only the general rules."""
    return _KINDS.get(name)


def short(dtype: torch.dtype) -> str:
    """Return the name of a type without its module, such as ``int32``."""
    return str(dtype).removeprefix("torch.")

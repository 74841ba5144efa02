"""Message passing without weights to learn, done once before training: the matching pipeline of scMoGNN.

Wen, H. et al. "Graph Neural Networks for Multimodal Single-Cell Data Integration", KDD 2022, and its public code
(OmicsML/dance, ``match_modality``): cells and features swap messages a few rounds along weighted edges, and an encoder
is then trained on what the cells heard in each round.
"""

from __future__ import annotations

import torch
from torch import Tensor

from heteromics.errors import GraphError
from heteromics.nn.relation import Relation

__all__ = ["decoupled_propagation"]

_ROUNDING = 8  # a spread of so many units in the last place of the mean is that of sums in another order


@torch.no_grad()
def decoupled_propagation(
    edges: Tensor | Relation, features: Tensor | None = None, *, rounds: int = 4, keep: float = 0.5
) -> list[Tensor]:
    """Pass messages between cells and features, and return what cells hold after each round but the first.

    Parameters
    ----------
    edges
        Weight of each cell's edge to each feature: a dense matrix B, (N, k), such as an LSI (:class:`heteromics.data
        .lsi.Lsi`), or a :class:`heteromics.nn.Relation` of N cells x G features, whose weights are those of the edges.
    features
        What features hold at the start, (G, d). None: the identity, (k, k), as published; for a relation it must be
        given, for G x G would be dense.
    rounds
        How many, 2 or more. The paper's code takes 4 for matching and 3 for joint embedding.
    keep
        Share of the old state in the new one, 0 to 1.

    Returns
    -------
    list of Tensor
        ``rounds`` - 1 matrices (N, d) on the device of ``edges``, each of mean 0 and standard deviation 1 over all its
        entries; float32, or float64 where ``edges`` or ``features`` are. They carry no gradient.

    Raises
    ------
    GraphError
        For other shapes, devices or numbers of rounds, or entries that are not finite.

    Notes
    -----
    With ``H_feature`` = ``features`` and ``H_cell`` = 0, each round computes, both from the round before::

        M_cell = B H_feature,   M_feature = B^T H_cell
        H <- s(keep H + (1 - keep) s(M)),   s(X) = (X - mean(X)) / sd(X)

    with the mean and the standard deviation (n - 1) of *all* entries of a matrix, not of its columns. A matrix of
    entries that are equal up to rounding, such as the first message to features, becomes 0; the public code asks
    whether its mean is 0, which is the same there and elsewhere blows rounding up to a deviation of 1. The first record
    is dropped: it is B itself but for scale.
    Two products a round, O(N k d) dense or O(edges d) sparse; memory is two matrices (N, d) more than is returned.

    Examples
    --------
    >>> first, second, third = decoupled_propagation(torch.randn(100, 8, generator=torch.Generator().manual_seed(0)))
    >>> third.shape, abs(third.mean().item()) < 1e-6, round(third.std().item(), 4)
    (torch.Size([100, 8]), True, 1.0)
    """
    if rounds < 2 or not 0 <= keep <= 1:
        raise GraphError(f"propagation: found rounds={rounds} and keep={keep}, expected 2 or more and 0 to 1.")
    relation, matrix, feature = _start(edges, features)
    cell = feature.new_zeros(relation.shape[0] if relation is not None else len(matrix), feature.shape[1])
    records = []
    for _ in range(rounds):
        if relation is not None:
            to_cell, to_feature = relation.spmm(feature), relation.T.spmm(cell)
        else:
            to_cell, to_feature = matrix @ feature, matrix.T @ cell
        cell, feature = _mixed(cell, to_cell, keep), _mixed(feature, to_feature, keep)
        records.append(cell)
    return records[1:]


def _start(edges: Tensor | Relation, features: Tensor | None) -> tuple[Relation | None, Tensor, Tensor]:
    """Check the inputs and give them one floating type: relation or matrix, and what features hold."""
    if isinstance(edges, Relation):
        if features is None:
            raise GraphError(
                f"propagation: a relation of {edges.shape[1]:,} features and no features, expected what they hold "
                "at the start, (G, d).\n  Fix: give features, such as the right singular vectors of the matrix."
            )
        weight, width = edges.weight, edges.shape[1]
    else:
        if edges.ndim != 2 or not edges.is_floating_point():
            raise GraphError(
                f"propagation: edges have shape {tuple(edges.shape)} and type {edges.dtype}, expected floating (N, k)."
            )
        weight, width = edges, edges.shape[1]
    feature = torch.eye(width, dtype=edges.dtype, device=edges.device) if features is None else features  # type: ignore[union-attr]
    if feature.ndim != 2 or len(feature) != width or not feature.is_floating_point():
        raise GraphError(
            f"propagation: features have shape {tuple(feature.shape)} and type {feature.dtype}, expected floating "
            f"({width}, d): one row for each feature."
        )
    if feature.device != edges.device:
        raise GraphError(
            f"propagation: features are on {feature.device}, edges on {edges.device}. Fix: move one to the other."
        )
    for name, tensor in (("edges", weight), ("features", feature)):
        if tensor is not None and (broken := tensor.numel() - int(torch.isfinite(tensor).sum())):
            raise GraphError(
                f"propagation: {broken:,} of {tensor.numel():,} of {name} are NaN or infinite. Fix: remove them."
            )
    wide = torch.float64 in (feature.dtype, None if weight is None else weight.dtype)
    dtype = torch.float64 if wide else torch.float32
    if isinstance(edges, Relation):
        return edges, feature, feature.to(dtype)
    return None, edges.to(dtype), feature.to(dtype)


def _mixed(state: Tensor, message: Tensor, keep: float) -> Tensor:
    return _standardised(_standardised(message).mul_(1 - keep).add_(state, alpha=keep))


def _standardised(matrix: Tensor) -> Tensor:
    """Centre and scale by all entries, in place; entries that are equal but for rounding become 0."""
    if not matrix.numel():
        return matrix
    mean = matrix.mean()
    matrix -= mean
    spread = matrix.std(correction=1) if matrix.numel() > 1 else matrix.new_zeros(())
    rounding = _ROUNDING * torch.finfo(matrix.dtype).eps * mean.abs()
    return matrix.div_(torch.where(spread > rounding, spread, torch.inf))

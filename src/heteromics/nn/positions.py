"""What models learn on top of the encodings of places: one interface, ``forward(given, relation) -> (N, width)``.

``given`` is what the module rests on, one row per node: patch codes, eigenvectors, returns of random walks
(:mod:`heteromics.graphs.encodings`), or the nodes' features. ``relation`` is read by :class:`SignNet` and
:class:`ConditionalPositions` only, so that a model can hold any of them. After SpaFormer: Wen, H. et al. "Single Cells
Are Spatial Tokens", arXiv:2302.03038, and its public code; scMoFormer: Tang, W. et al., CIKM 2023,
doi:10.1145/3583780.3615061.
"""

from __future__ import annotations

import itertools

import torch
from torch import Tensor, nn
from torch.nn.functional import elu

from heteromics.errors import ModelError
from heteromics.nn._graph_attention import GraphAttention
from heteromics.nn.relation import Relation

__all__ = [
    "ConditionalPositions",
    "GraphAttention",
    "LaplacianPositions",
    "LearnablePatches",
    "RandomWalkPositions",
    "SignNet",
    "Sinusoid",
]


class LearnablePatches(nn.Module):
    """A learnt vector for every patch of a grid.

    Parameters
    ----------
    width
        Of the result.
    grid
        Patches along both axes, as given to :func:`heteromics.graphs.patch_codes`.

    Examples
    --------
    >>> LearnablePatches(8, grid=(10, 10))(torch.tensor([0, 99, 0])).shape
    torch.Size([3, 8])
    """

    def __init__(self, width: int, grid: tuple[int, int] = (100, 100)) -> None:
        super().__init__()
        self.table = nn.Embedding(grid[0] * grid[1], width)

    def forward(self, given: Tensor, relation: Relation | None = None) -> Tensor:
        """Return (N, width) for patch codes (N,), int64."""
        return self.table(_codes(given, self.table.num_embeddings))


class Sinusoid(nn.Module):
    """Sines and cosines of the patch's two coordinates, not learnt; see :func:`heteromics.graphs.sinusoid_encoding`.

    Parameters
    ----------
    width
        Of the result, a multiple of 4.
    grid
        Patches along both axes.

    Examples
    --------
    >>> Sinusoid(4, grid=(2, 3))(torch.tensor([0])).tolist()
    [[0.0, 1.0, 0.0, 1.0]]
    """

    table: Tensor

    def __init__(self, width: int, grid: tuple[int, int] = (100, 100)) -> None:
        from heteromics.graphs.encodings import sinusoid_encoding

        super().__init__()
        places = torch.cartesian_prod(*(torch.arange(side) for side in grid)).reshape(-1, 2)
        self.register_buffer("table", sinusoid_encoding(places, width), persistent=False)

    def forward(self, given: Tensor, relation: Relation | None = None) -> Tensor:
        """Return (N, width) for patch codes (N,), int64."""
        return self.table[_codes(given, len(self.table))]


class LaplacianPositions(nn.Module):
    """A linear map of Laplacian eigenvectors, whose signs are drawn anew at every training step.

    An eigenvector is as right as its negative; with random signs a model learns not to tell them apart (Dwivedi, V. P.
    et al., arXiv:2003.00982). SpaFormer's code draws signs at test too, which makes its answers random; here they are
    kept then.

    Parameters
    ----------
    count
        Eigenvectors; 10 in SpaFormer and scMoFormer.
    width
        Of the result.

    Examples
    --------
    >>> LaplacianPositions(10, 8).eval()(torch.randn(5, 10)).shape
    torch.Size([5, 8])
    """

    def __init__(self, count: int, width: int) -> None:
        super().__init__()
        self.linear = nn.Linear(count, width)

    def forward(self, given: Tensor, relation: Relation | None = None, component: Tensor | None = None) -> Tensor:
        """Return (N, width) for eigenvectors (N, count).

        ``component`` (N,), int64, is that of each node (:class:`heteromics.graphs.encodings.Spectrum`): every
        component has signs of its own. Without it one sign per eigenvector is drawn for all nodes.
        """
        if self.training:
            rows = 1 if component is None or not len(component) else int(component.max()) + 1
            signs = torch.randint(0, 2, (rows, given.shape[1]), device=given.device).to(given.dtype) * 2 - 1
            given = given * (signs if component is None else signs[component])
        return self.linear(given)


class RandomWalkPositions(nn.Module):
    """A linear map of the returns of random walks.

    Parameters
    ----------
    steps
        Columns of :func:`heteromics.graphs.random_walk_encoding`; 10 in scMoFormer.
    width
        Of the result.

    Examples
    --------
    >>> RandomWalkPositions(10, 8)(torch.rand(5, 10)).shape
    torch.Size([5, 8])
    """

    def __init__(self, steps: int, width: int) -> None:
        super().__init__()
        self.linear = nn.Linear(steps, width)

    def forward(self, given: Tensor, relation: Relation | None = None) -> Tensor:
        """Return (N, width) for returns (N, steps)."""
        return self.linear(given)


class SignNet(nn.Module):
    """Positions from Laplacian eigenvectors that do not depend on the eigenvectors' signs.

    Lim, D. et al. "Sign and Basis Invariant Networks for Spectral Graph Representation Learning", ICLR 2023,
    arXiv:2202.13013: rho(phi(v_1) + phi(-v_1), ..., phi(v_k) + phi(-v_k)). As in SpaFormer's code, phi is a graph
    isomorphism network of 3 layers, 64 wide within, 4 out, and rho a perceptron of 2 layers, all with BatchNorm.

    Parameters
    ----------
    count
        Eigenvectors k.
    width
        Of the result.
    hidden, out, layers
        Inner width, result width and layers of phi.

    Notes
    -----
    BatchNorm sees v and -v in one batch of N x 2 k, so that a turned sign leaves its statistics alone. The code it
    follows passes them one after the other: in training the sign of one eigenvector then matters. Weights of the
    relation are not used. Each layer is one sparse product of width 2 k x its input width.

    Examples
    --------
    >>> relation = Relation.from_csr([0, 1, 2], [1, 0], shape=(2, 2))
    >>> SignNet(3, 8).eval()(torch.randn(2, 3), relation).shape
    torch.Size([2, 8])
    """

    def __init__(self, count: int, width: int, *, hidden: int = 64, out: int = 4, layers: int = 3) -> None:
        super().__init__()
        if min(count, width, hidden, out, layers) < 1:
            raise ModelError(f"found {(count, width, hidden, out, layers)}, expected counts and widths of 1 or more.")
        widths = [1, *[hidden] * (layers - 1), out]
        self.phi = nn.ModuleList(_perceptron(one, hidden, other) for one, other in itertools.pairwise(widths))
        self.norms = nn.ModuleList(nn.BatchNorm1d(hidden) for _ in range(layers - 1))
        self.rho = _perceptron(count * out, hidden, width)

    def forward(self, given: Tensor, relation: Relation | None = None) -> Tensor:
        """Return (N, width) for eigenvectors (N, count) and the relation whose Laplacian they belong to."""
        if relation is None or relation.shape != (len(given), len(given)):
            raise ModelError(f"SignNet needs the relation among its {len(given):,} nodes, found {relation}.")
        nodes, count = given.shape
        ones = None if relation.weight is None else torch.ones_like(relation.weight, dtype=given.dtype)
        h = torch.stack([given, -given], 1).reshape(nodes, 2 * count, 1)
        for layer, update in enumerate(self.phi):
            if layer:
                h = self.norms[layer - 1](h.flatten(0, 1)).unflatten(0, (nodes, 2 * count))
            h = h + relation.spmm(h.flatten(1), weight=ones).view_as(h)  # (1 + eps) h_i + sum_j h_j with eps = 0
            h = update(h.flatten(0, 1)).unflatten(0, (nodes, 2 * count))
        return self.rho((h[:, :count] + h[:, count:]).flatten(1))


class ConditionalPositions(nn.Module):
    """Positions read off the features of the neighbours: one layer of graph attention over the spatial graph, and ELU.

    The default of SpaFormer (its CondPE), which is described in the paper and absent from the released code; here it
    is one layer of 8 heads of 16 with the LeakyReLU that the released attention lacks. Compute ``given`` from the
    masked input: from the clean one the position would carry what was hidden.

    Parameters
    ----------
    in_width
        Of the tokens.
    width
        Of the result, a multiple of ``heads``.
    heads
        Heads; 8.
    dropout
        On the weights of edges.

    Examples
    --------
    >>> relation = Relation.from_csr([0, 2, 4], [0, 1, 0, 1], shape=(2, 2))
    >>> ConditionalPositions(5, 16)(torch.randn(2, 5), relation).shape
    torch.Size([2, 16])
    """

    def __init__(self, in_width: int, width: int = 128, *, heads: int = 8, dropout: float = 0.0) -> None:
        super().__init__()
        if heads < 1 or width % heads:
            raise ModelError(f"width {width} does not divide into {heads} heads.")
        self.attention = GraphAttention(in_width, width // heads, heads, dropout=dropout)

    def forward(self, given: Tensor, relation: Relation | None = None) -> Tensor:
        """Return (N, width) for tokens (N, in_width) and the spatial relation, with self-loops as in SpaFormer."""
        if relation is None:
            raise ModelError(f"ConditionalPositions needs the relation among its {len(given):,} nodes.")
        return elu(self.attention(relation, given))


def _codes(given: Tensor, count: int) -> Tensor:
    if given.ndim != 1 or given.is_floating_point():
        raise ModelError(f"found {given.dtype} of shape {tuple(given.shape)}, expected patch codes (N,) of int64.")
    if outside := int(((given < 0) | (given >= count)).sum()):
        raise ModelError(
            f"{outside:,} of {len(given):,} patch codes lie outside [0, {count:,}).\n"
            "  Fix: pass the grid that patch_codes was given."
        )
    return given


def _perceptron(one: int, hidden: int, other: int) -> nn.Sequential:
    return nn.Sequential(nn.Linear(one, hidden), nn.ReLU(), nn.BatchNorm1d(hidden), nn.Linear(hidden, other))

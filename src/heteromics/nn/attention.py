"""Attention over sets of cells or genes, group by group, in three forms with one interface.

``exact``: softmax attention by torch's fused kernel. ``performer``: random features of the softmax kernel (FAVOR+,
Choromanski et al. 2021, arXiv:2009.14794). ``flow``: competition and allocation of flows (Flowformer, Wu et al. 2022,
arXiv:2202.06258). The last two are linear in the number of tokens.
"""

from __future__ import annotations

import itertools
import math
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn.functional import scaled_dot_product_attention, softmax

from heteromics.errors import ModelError
from heteromics.nn._compressed import compute_dtype

__all__ = ["SetAttention", "exact_attention", "flow_attention", "orthogonal_features", "performer_attention"]

Kind = Literal["exact", "performer", "flow"]
_EPS = 1e-6


def exact_attention(query: Tensor, key: Tensor, value: Tensor) -> Tensor:
    """Softmax attention, all tokens with all; shapes (H, L, D), returns (H, L, D)."""
    return scaled_dot_product_attention(query[None], key[None], value[None])[0]


def performer_attention(query: Tensor, key: Tensor, value: Tensor, features: Tensor) -> Tensor:
    """Attention with the softmax kernel replaced by its estimate from random features.

    Parameters
    ----------
    query, key, value
        Shape (H, L, D).
    features
        Rows of :func:`orthogonal_features`, shape (M, D).

    Returns
    -------
    Tensor
        Shape (H, L, D). With phi(x) = exp(w x - |x|^2 / 2), the mean of phi(q) phi(k) over features w is exp(q k)
        (Choromanski et al. 2021, lemma 1); q and k are divided by D^(1/4) first. The largest exponents are taken out,
        which cancels, and 1e-6 is added to every phi, as in the authors' code, so that no row is left without weight.
    """
    query, key = query * query.shape[-1] ** -0.25, key * key.shape[-1] ** -0.25
    query = _positive(query, features, dim=(-1,))
    key = _positive(key, features, dim=(-1, -2))
    summary = key.transpose(-1, -2) @ value  # (H, M, D)
    return (query @ summary) / (query @ key.sum(-2)[..., None])


def _positive(x: Tensor, features: Tensor, dim: tuple[int, ...]) -> Tensor:
    exponent = x @ features.T - 0.5 * x.square().sum(-1, keepdim=True)
    return (exponent - exponent.amax(dim, keepdim=True).detach()).exp() + _EPS


def orthogonal_features(count: int, width: int, generator: torch.Generator | None = None) -> Tensor:
    """Draw random features, orthogonal in blocks of ``width``, each as long as a Gaussian vector; shape (count, width).

    Each row alone is N(0, I) (the orthogonal features of Choromanski et al. 2021). float32, on the generator's device.
    """
    blocks, device = [], None if generator is None else generator.device
    for _ in range(math.ceil(count / width)):
        gaussian = torch.randn(width, width, dtype=torch.float64, generator=generator, device=device)
        directions, triangle = torch.linalg.qr(gaussian)
        signed = directions * triangle.diagonal().sign()  # makes the rotation uniform (Mezzadri 2007)
        length = torch.randn(width, width, dtype=torch.float64, generator=generator, device=device).norm(dim=1)
        blocks.append(signed.T * length[:, None])
    return torch.cat(blocks)[:count].float()


def flow_attention(query: Tensor, key: Tensor, value: Tensor) -> Tensor:
    """Attention by conserved flows, linear in the number of tokens; shapes (H, L, D), returns (H, L, D).

    With q and k through a sigmoid: incoming I_i = q_i . sum k and outgoing O_j = k_j . sum q; conserved by the other
    side, I'_i = q_i . sum (k_j / O_j) and O'_j = k_j . sum (q_i / I_i); competition among sources V'_j = softmax_j(O')
    v_j, aggregation A_i = (q_i / I_i) . sum_j k_j^T V'_j and allocation to sinks sigmoid(I'_i) A_i (Wu et al. 2022,
    section 3). The authors' code, followed here, further keeps O' within -1 and 1, takes L V' for V', so that weights
    are 1 on average, and adds 1e-6 to both factors of each flow.
    """
    query, key = query.sigmoid(), key.sigmoid()
    all_keys, all_queries = key.sum(-2, keepdim=True), query.sum(-2, keepdim=True)
    incoming = ((query + _EPS) * (all_keys + _EPS)).sum(-1, keepdim=True)  # (H, L, 1)
    outgoing = ((key + _EPS) * (all_queries + _EPS)).sum(-1, keepdim=True)
    conserved_in = ((query + _EPS) * ((key / outgoing).sum(-2, keepdim=True) + _EPS)).sum(-1, keepdim=True)
    conserved_out = ((key + _EPS) * ((query / incoming).sum(-2, keepdim=True) + _EPS)).sum(-1, keepdim=True)
    competition = softmax(conserved_out.clamp(-1, 1), dim=-2) * key.shape[-2]
    summary = key.transpose(-1, -2) @ (value * competition)  # (H, D, D)
    return conserved_in.sigmoid() * ((query / incoming) @ summary)


class SetAttention(nn.Module):
    """Multi-head self-attention among the tokens of each group; there is no order among tokens.

    Parameters
    ----------
    width
        Width of tokens in and out.
    heads, head_width
        Heads, and the width of each; ``width / heads`` if left out.
    kind
        ``exact``, ``performer`` or ``flow``.
    features
        Random features of ``performer``; 266 as in SpaFormer's code.
    redraw_every
        Training steps after which ``performer`` draws new features; None keeps the first.
    dropout
        On the projected result.

    Examples
    --------
    >>> attend = SetAttention(8, heads=2)
    >>> attend(torch.randn(5, 8), torch.tensor([0, 2, 5])).shape  # two fields of view, of two and three cells
    torch.Size([5, 8])
    """

    omega: Tensor
    steps: Tensor

    def __init__(
        self,
        width: int,
        heads: int,
        *,
        kind: Kind = "exact",
        head_width: int | None = None,
        features: int = 266,
        redraw_every: int | None = None,
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        if kind not in ("exact", "performer", "flow"):
            raise ModelError(f"found attention {kind!r}, expected 'exact', 'performer' or 'flow'.")
        if heads < 1 or features < 1:
            raise ModelError(f"found {heads} heads and {features} features, expected 1 or more of each.")
        if head_width is None and width % heads:
            raise ModelError(f"width {width} does not divide into {heads} heads. Fix: give head_width.")
        self.kind, self.heads, self.redraw_every = kind, heads, redraw_every
        self.head_width = head_width or width // heads
        self.project = nn.Linear(width, 3 * heads * self.head_width)
        self.out = nn.Linear(heads * self.head_width, width)
        self.dropout = nn.Dropout(dropout)
        if kind == "performer":
            self.register_buffer("omega", orthogonal_features(features, self.head_width))
            self.register_buffer("steps", torch.zeros((), dtype=torch.int64))

    def forward(self, tokens: Tensor, offsets: Tensor | None = None) -> Tensor:
        """Let the tokens of each group attend to each other.

        Parameters
        ----------
        tokens
            Shape (L, width); the tokens of a group follow each other.
        offsets
            Bounds of the groups (fields of view, batches), shape (G + 1,), from 0 to L; one group if left out.

        Returns
        -------
        Tensor
            Shape (L, width). A token sees nothing of another group. ``performer`` and ``flow``, which sum over all
            tokens, do so in float32 at least, under autocast too.
        """
        bounds = [0, len(tokens)] if offsets is None else offsets.tolist()
        if [*bounds[:1], *bounds[-1:]] != [0, len(tokens)] or any(a > b for a, b in itertools.pairwise(bounds)):
            raise ModelError(
                f"offsets must rise from 0 to the {len(tokens):,} tokens; found {bounds[:3]} ... {bounds[-1:]}."
            )
        if self.kind == "performer" and self.training and self.redraw_every:
            self._count_step()
        split = self.project(tokens).reshape(len(tokens), 3, self.heads, self.head_width)
        query, key, value = split.permute(1, 2, 0, 3)  # each (H, L, D)
        parts = [
            self._attend(query[:, a:b], key[:, a:b], value[:, a:b]) for a, b in itertools.pairwise(bounds) if b > a
        ]
        mixed = torch.cat(parts, dim=1) if parts else value
        return self.dropout(self.out(mixed.transpose(0, 1).flatten(1)))

    def _attend(self, query: Tensor, key: Tensor, value: Tensor) -> Tensor:
        if self.kind == "exact":
            return exact_attention(query, key, value)
        given, dtype = query.dtype, compute_dtype(query.dtype)
        with torch.autocast(query.device.type, enabled=False):
            query, key, value = query.to(dtype), key.to(dtype), value.to(dtype)
            if self.kind == "flow":
                return flow_attention(query, key, value).to(given)
            return performer_attention(query, key, value, self.omega.to(dtype)).to(given)

    def _count_step(self) -> None:
        if self.redraw_every and int(self.steps) and int(self.steps) % self.redraw_every == 0:
            self.omega = orthogonal_features(*self.omega.shape).to(self.omega)  # a backward may still need the old
        self.steps += 1

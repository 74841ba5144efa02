"""One codebook for several modalities: frozen codes behind one learned linear map.

Sources: SimVQ, Zhu et al. 2024, arXiv:2411.02038 (frozen codes, one linear map, so that every code moves with every
step and none dies); the losses across modalities are those of scCMIA.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.functional import mse_loss

from heteromics.errors import ModelError
from heteromics.nn._compressed import compute_dtype

__all__ = ["CrossVQ", "Quantized", "code_perplexity"]

_BLOCK = 1 << 22


class Quantized(NamedTuple):
    """Codes of one modality: ``vector`` (N, D), passes gradients straight through; ``code`` (N,), int64."""

    vector: Tensor
    code: Tensor


class CrossVQ(nn.Module):
    """Quantise the vectors of several modalities of the same cells with one codebook.

    Parameters
    ----------
    codes, width
        Number of codes K and their width D.
    commitment
        Weight b of the terms that pull vectors to codes, and codes to the other modality.
    seed
        Of the codes, drawn from N(0, 1 / D) once and never trained.

    Notes
    -----
    With e_k the frozen codes, W the map and q = e_k W the nearest to z, for modality X and each other Y of the cell:
    |q_X - sg z_X|^2 + b |q_X - sg z_Y|^2 + b/2 |z_X - sg q_X|^2, averaged over cells and coordinates, where sg stops
    the gradient. W starts as the identity, so that codes begin where they were drawn.

    Examples
    --------
    >>> quantize = CrossVQ(codes=8, width=4)
    >>> z = torch.randn(5, 4)
    >>> found, loss = quantize({"rna": z, "atac": z})
    >>> bool((found["rna"].code == found["atac"].code).all()), loss.ndim
    (True, 0)
    """

    codebook: Tensor

    def __init__(self, codes: int, width: int, commitment: float = 0.25, seed: int = 0) -> None:
        super().__init__()
        if codes < 2 or width < 1 or commitment < 0:
            raise ModelError(f"found {codes} codes, width {width}, commitment {commitment}; expected 2+, 1+, 0+.")
        drawn = torch.randn(codes, width, generator=torch.Generator().manual_seed(seed), device="cpu") * width**-0.5
        self.register_buffer("codebook", drawn)
        self.map = nn.Linear(width, width, bias=False)
        nn.init.eye_(self.map.weight)
        self.commitment = commitment

    def forward(self, vectors: Mapping[str, Tensor]) -> tuple[dict[str, Quantized], Tensor]:
        """Quantise paired vectors: row i of every modality is one cell.

        Parameters
        ----------
        vectors
            By modality, shape (N, D).

        Returns
        -------
        quantized, loss
            By modality, and the sum of the losses of all modalities, a scalar.

        Raises
        ------
        ModelError
            When the shapes differ from each other or from the codes.
        """
        shapes = {name: tuple(one.shape) for name, one in vectors.items()}
        if len(set(shapes.values())) != 1 or next(iter(shapes.values()))[1:] != (self.codebook.shape[1],):
            raise ModelError(f"found shapes {shapes}, expected all (N, {self.codebook.shape[1]}).")
        codes = self._codes()
        found = {name: nearest_code(one, codes) for name, one in vectors.items()}
        loss = codes.new_zeros(())
        for name, one in vectors.items():
            chosen = codes[found[name]]
            others = [mse_loss(chosen, other.detach()) for key, other in vectors.items() if key != name]
            loss = loss + mse_loss(chosen, one.detach()) + self.commitment * sum(others, codes.new_zeros(()))
            loss = loss + 0.5 * self.commitment * mse_loss(one, chosen.detach())
        return {
            name: Quantized(one + (codes[found[name]] - one).detach(), found[name]) for name, one in vectors.items()
        }, loss

    def assign(self, vectors: Tensor) -> Tensor:
        """Return the code of each vector, shape (N,), int64; for use after training."""
        with torch.no_grad():
            return nearest_code(vectors, self._codes())

    def _codes(self) -> Tensor:
        with torch.autocast(self.codebook.device.type, enabled=False):  # the same codes in training and after
            return self.map(self.codebook)


def nearest_code(vectors: Tensor, codes: Tensor) -> Tensor:
    """Return the nearest code (Euclidean; the first of equals) of each vector, (N, D) and (K, D) to (N,), in blocks.

    In float32 at least, under autocast too: near codes are told apart by less than half precision holds.
    """
    dtype = compute_dtype(torch.promote_types(vectors.dtype, codes.dtype))
    vectors, codes = vectors.detach().to(dtype), codes.detach().to(dtype)
    with torch.autocast(codes.device.type, enabled=False):
        length = codes.square().sum(1)
        step = max(1, _BLOCK // len(codes))
        parts = [(length - 2 * block @ codes.T).argmin(1) for block in vectors.split(step)]
        return torch.cat(parts)


def code_perplexity(code: Tensor, codes: int) -> float:
    """Return how many codes are in use, by the exponential of the entropy of their frequencies (1 to ``codes``).

    Examples
    --------
    >>> code_perplexity(torch.tensor([0, 0, 3, 3]), 8)
    2.0
    """
    share = torch.bincount(code, minlength=codes).double()
    share = share[share > 0] / share.sum()
    return float((-(share * share.log()).sum()).exp())

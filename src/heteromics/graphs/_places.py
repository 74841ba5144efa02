"""Places of cells in a field of view: brought into a unit square, coded by the patch of a grid, spread by sinusoids."""

from __future__ import annotations

import math
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor

from heteromics.errors import DataError

Scheme = Literal["spaformer", "cellplm"]


def unit_square(position: Any, groups: Any = None) -> Tensor:
    """Bring each field of view into the unit square: take off its minimum, divide both axes by the larger range.

    Parameters
    ----------
    position
        Coordinates of any unit, shape (N, 2), finite: tensor, array or data frame.
    groups
        Field of view of every cell, shape (N,): integers or names, such as a column of ``obs``; None: one.

    Returns
    -------
    Tensor
        float32, shape (N, 2), in [0, 1], on the device of ``position``; both axes keep their proportion. A field of one
        place lies at 0. So does SpaFormer (Wen, H. et al. "Single Cells Are Spatial Tokens", arXiv:2302.03038, public
        code).

    Raises
    ------
    DataError
        For another shape, coordinates that are not finite, or cells without a group; they are counted.

    Examples
    --------
    >>> unit_square([[10, 10], [30, 20], [10, 50]]).tolist()
    [[0.0, 0.0], [0.5, 0.25], [0.0, 1.0]]
    """
    place = _checked(position).double()
    group = _group_codes(groups, len(place)).to(place.device)
    if not len(place):
        return place.float()
    index, count = group[:, None].expand(-1, 2), int(group.max()) + 1
    low = place.new_zeros(count, 2).scatter_reduce(0, index, place, "amin", include_self=False)
    high = place.new_zeros(count, 2).scatter_reduce(0, index, place, "amax", include_self=False)
    extent = (high - low).amax(1, keepdim=True)
    extent[extent == 0] = 1
    return ((place - low[group]) / extent[group]).float()


def patch_codes(position: Any, *, grid: tuple[int, int] = (100, 100), scheme: Scheme = "spaformer") -> Tensor:
    """Return the number of the patch of a grid over the unit square that each cell lies in.

    Parameters
    ----------
    position
        Shape (N, 2), in the unit square (:func:`unit_square`), or up to a tenth beyond it where positions were shifted
        to augment them: cells beyond the grid take its outermost patch.
    grid
        Patches along the first and the second axis, 1 or more. SpaFormer's code has (110, 100), with room for shifts.
    scheme
        How a coordinate c becomes a patch: ``"spaformer"`` the whole part of 100 c (1 falls on 100), ``"cellplm"`` that
        of 100 (1.02 c - 0.01), which keeps a margin (Wen, H. et al. "CellPLM", ICLR 2024, public code).

    Returns
    -------
    Tensor
        int64, shape (N,): ``first * grid[1] + second``, for :class:`heteromics.nn.LearnablePatches` and
        :class:`heteromics.nn.Sinusoid`.

    Raises
    ------
    DataError
        For coordinates that are not in the unit square; they are counted. For a grid without patches.

    Notes
    -----
    The factor is 100 on both axes in both papers, whatever the number of rows; here it is ``grid[1]``.

    Examples
    --------
    >>> patch_codes([[0.0, 0.0], [0.5, 0.25], [1.0, 0.999]]).tolist()
    [0, 5025, 9999]
    >>> patch_codes([[0.0, 0.0], [0.5, 0.25], [1.0, 0.999]], scheme="cellplm").tolist()
    [0, 5024, 9999]
    """
    if np.shape(grid) != (2,) or min(grid) < 1:
        raise DataError(f"found grid {grid}, expected two numbers of patches, 1 or more each.")
    place = _checked(position)
    if outside := int(((place < -0.1) | (place > 1.1)).any(1).sum()):
        raise DataError(
            f"{outside:,} of {len(place):,} cells lie outside the unit square, between {float(place.min()):g} and "
            f"{float(place.max()):g}.\n  Fix: pass unit_square(position, groups) with a group for each field of view."
        )
    if scheme not in ("spaformer", "cellplm"):
        raise DataError(f"found scheme {scheme!r}, expected 'spaformer' or 'cellplm'.")
    step = grid[1] * (place if scheme == "spaformer" else 1.02 * place - 0.01)
    most = torch.tensor(grid, device=place.device) - 1
    row, column = torch.minimum(step.long().clamp(min=0), most).unbind(1)
    return row * grid[1] + column


def sinusoid_encoding(position: Any, width: int) -> Tensor:
    """Spread two coordinates over sines and cosines of falling frequency.

    Parameters
    ----------
    position
        In steps of the grid, whole or not, shape (N, 2): ``100 * unit_square(...)`` for a grid of 100 x 100.
    width
        Number of columns, a multiple of 4.

    Returns
    -------
    Tensor
        float32, shape (N, width). With h = width / 2 and f_m = 10000^(-2 m / h), m = 0 ... h/2 - 1: columns 2 m and
        2 m + 1 are sin and cos of f_m times the second coordinate, columns h + 2 m and h + 2 m + 1 those of the first.
        One axis for each half, as in the code of SpaFormer and CellPLM; the formula for one axis is that of Vaswani, A.
        et al. "Attention Is All You Need", section 3.5.

    Raises
    ------
    DataError
        For a width that is no multiple of 4.

    Examples
    --------
    >>> sinusoid_encoding([[0.0, math.pi / 2]], width=4).abs().round(decimals=3).tolist()  # no -0.0
    [[1.0, 0.0, 0.0, 1.0]]
    """
    if width < 4 or width % 4:
        raise DataError(f"found width {width}, expected a multiple of 4: sine and cosine of two axes.")
    place = _checked(position).double()
    half = width // 2
    frequency = torch.exp(
        torch.arange(0, half, 2, dtype=torch.float64, device=place.device) * (-math.log(10_000.0) / half)
    )
    angle = place.flip(1)[:, :, None] * frequency  # (N, 2, half / 2)
    return torch.stack([angle.sin(), angle.cos()], -1).reshape(len(place), width).float()


def _checked(position: Any) -> Tensor:
    if not isinstance(position, Tensor):
        values = np.asarray(position)
        single = values.dtype.kind == "f" and values.dtype.itemsize <= 4
        position = torch.from_numpy(values.astype(np.float32 if single else np.float64, order="C"))
    place = position if position.is_floating_point() else position.double()
    if place.ndim != 2 or place.shape[1] != 2:
        raise DataError(f"found positions of shape {tuple(place.shape)}, expected (cells, 2).")
    if bad := int((~torch.isfinite(place)).any(1).sum()):
        raise DataError(f"{bad:,} of {len(place):,} cells have coordinates that are not finite.")
    return place


def _group_codes(groups: Any, cells: int) -> Tensor:
    """Return a number for each group, from 0 on, at each of its cells, shape (cells,), int64."""
    if groups is None:
        return torch.zeros(cells, dtype=torch.int64)
    import pandas as pd

    labels = groups.cpu().numpy() if isinstance(groups, Tensor) else groups
    if np.shape(labels) != (cells,):
        raise DataError(f"found groups of shape {np.shape(labels)}, expected one for each of {cells:,} cells.")
    codes = np.array(pd.Series(labels).factorize()[0], dtype=np.int64)
    if missing := int((codes < 0).sum()):
        raise DataError(f"{missing:,} of {cells:,} cells have no group.\n  Fix: leave them out, or name their group.")
    return torch.from_numpy(codes)

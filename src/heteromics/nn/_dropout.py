"""Edge dropout that keeps no mask: whether an edge stays is a function of its number and a seed.

Edge ``e`` gets the number ``mix64(seed + (e + 1) * gamma)``, output ``e + 1`` of SplitMix64 from ``seed`` on (Steele,
Lea, Flood: "Fast splittable pseudorandom number generators", OOPSLA 2014; ``mix64`` with the constants of Stafford's
variant 13, as in Java's ``SplittableRandom``), and is dropped where that number, read as signed, lies in the lowest
share of the range of 64-bit integers. Any edge is decided by its number alone, in any order, on any device, so the
backward pass decides again, on the edges as grouped by source, instead of reading a mask.
"""

from __future__ import annotations

import operator
from typing import SupportsIndex

import torch
from torch import Tensor

from heteromics.errors import GraphError

_GAMMA, _FIRST, _SECOND = (c - (1 << 64) for c in (0x9E3779B97F4A7C15, 0xBF58476D1CE4E5B9, 0x94D049BB133111EB))
_AT_ONCE = {"cpu": 1 << 15}  # entries whose 64-bit numbers are held at a time: a core's own cache
_AT_ONCE_ELSEWHERE = 1 << 22
_UPPER = 31  # bits of the number that are compared


def checked_seed(share: float, seed: SupportsIndex | None) -> int:
    """Return the seed, drawn from torch's generator where there is none; refuse a share outside [0, 1)."""
    if not 0 <= share < 1:
        raise GraphError(f"spmm: dropout is {share}; the share of edges to drop must lie in [0, 1).")
    if seed is None:
        return int(torch.randint(1 << 62, ())) if share else 0
    try:
        return operator.index(seed)
    except TypeError:
        raise GraphError(f"spmm: seed is {seed!r}; expected a whole number, or None to draw one.") from None


def dropped(values: Tensor, numbers: Tensor | None, share: float, seed: int) -> Tensor:
    """Set the values of dropped edges to 0 and divide the others by ``1 - share``.

    Parameters
    ----------
    values
        One per edge, shape (E,), floating.
    numbers
        The number of the edge of every value, shape (E,), integers; None where they stand in order, 0 to E - 1.
    share
        Probability of being dropped, in [0, 1), to the nearest multiple of 2 ** -31.
    seed
        Any integer; its lower 64 bits count.

    Returns
    -------
    Tensor
        A new tensor like ``values``. Beside it a bounded number of entries is held, whatever E is.
    """
    out = torch.empty_like(values)
    lowest = (min(round(share * (1 << _UPPER)), (1 << _UPPER) - 1) << (64 - _UPPER)) - (1 << 63)
    step = _AT_ONCE.get(values.device.type, _AT_ONCE_ELSEWHERE)
    for begin in range(0, len(values), step):
        piece = values[begin : begin + step]
        if numbers is None:
            edge = torch.arange(begin, begin + len(piece), device=values.device)
        else:
            edge = numbers[begin : begin + step].to(torch.int64, copy=True)
        torch.mul(piece, _mixed(edge, seed) >= lowest, out=out[begin : begin + step])
        out[begin : begin + step] *= 1 / (1 - share)
    return out


def _mixed(edge: Tensor, seed: int) -> Tensor:
    """Turn edge numbers, int64, in place into their random numbers, right in the upper 31 bits.

    The last step of ``mix64``, ``z ^= z >> 31``, touches the lower bits alone and is left out. Signed products wrap as
    unsigned ones do; the masks make of the signed shift an unsigned one.
    """
    edge.add_(1).mul_(_GAMMA).add_(_signed(seed))
    edge.bitwise_xor_((edge >> 30).bitwise_and_((1 << 34) - 1)).mul_(_FIRST)
    return edge.bitwise_xor_((edge >> 27).bitwise_and_((1 << 37) - 1)).mul_(_SECOND)


def _signed(seed: int) -> int:
    return ((seed + (1 << 63)) % (1 << 64)) - (1 << 63)

"""Likelihoods of sparse measurements: a closed form everywhere at zero, corrected at the stored entries.

Most entries of single-cell data are zero, and at zero the likelihoods used for them are short: no gamma function, no
gather. So the form at zero is taken everywhere, block by block of rows, and the full form replaces it at the stored
entries alone. Slopes at zero are written out by hand, so that no dense temporary outlives its block and nothing but the
parameters is kept between forward and backward.

Sources: negative binomial in mean and dispersion, and its zero inflation: Lopez et al. 2018 (scVI), Nature Methods
15:1053, with the logit of the inflation as parameter; focal loss: Lin et al. 2017, arXiv:1708.02002.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import torch
from scipy import sparse
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.nn.functional import softplus

from heteromics.errors import ModelError
from heteromics.nn._compressed import as_tensor, compute_dtype
from heteromics.nn.segments import segment_ids

__all__ = ["Counts", "bernoulli_nll", "gaussian_nll", "nb_nll", "zero_inflated_gaussian_nll", "zinb_nll"]

_BLOCK = 1 << 18


class Counts(NamedTuple):
    """Stored entries of a cells x features matrix, row after row, none of them zero.

    ``offsets``: bounds of the rows, shape (N + 1,). ``feature``, ``value``: column and value of each entry, shape (E,).
    ``features``: number of columns.
    """

    offsets: Tensor
    feature: Tensor
    value: Tensor
    features: int

    @classmethod
    def from_scipy(cls, matrix: Any, device: torch.device | str = "cpu", dtype: torch.dtype = torch.float32) -> Counts:
        """Take the entries of a SciPy matrix; stored zeros are left out and entries of one place are added.

        Examples
        --------
        >>> from scipy import sparse
        >>> Counts.from_scipy(sparse.csr_array([[0, 2], [0, 0]])).value.tolist()
        [2.0]
        """
        rows = sparse.csr_array(matrix)
        if not rows.has_canonical_format or (rows.data == 0).any():
            rows = rows.copy()
            rows.sum_duplicates()
            rows.eliminate_zeros()
        offsets, feature = (as_tensor(array).to(device, torch.int64) for array in (rows.indptr, rows.indices))
        return cls(offsets, feature, as_tensor(rows.data).to(device, dtype), rows.shape[1])


class _Form(NamedTuple):
    """One likelihood: its value and its slopes at zero, and its value at other values; all elementwise."""

    at_zero: Callable[..., Tensor]
    slopes_at_zero: Callable[..., tuple[Tensor, ...]]
    elsewhere: Callable[..., Tensor]


def nb_nll(mean: Tensor, dispersion: Tensor, counts: Counts, size_factor: Tensor | None = None) -> Tensor:
    """Negative log-likelihood of each cell under the negative binomial, variance mean + mean^2 / dispersion.

    Parameters
    ----------
    mean
        Positive, shape (N, F), or broadcastable to it; multiplied by the size factor of the cell.
    dispersion
        Inverse dispersion, positive, shape (F,), (N, F) or (N, 1).
    counts
        The measured counts (N, F).
    size_factor
        Shape (N,), without gradient; ones if left out.

    Returns
    -------
    Tensor
        Shape (N,), in nats, summed over features, float32 or float64; differentiable once.

    Raises
    ------
    ModelError
        For shapes that do not fit, negative counts or stored zeros.

    Examples
    --------
    >>> from scipy import sparse
    >>> counts = Counts.from_scipy(sparse.csr_array([[0, 1]]))
    >>> nats = nb_nll(torch.ones(1, 2), torch.ones(2), counts).item()
    >>> round(nats / math.log(2), 6)  # the chances are 1/2 at zero and 1/4 at one
    3.0
    """
    return _nll(_NB, counts, mean, dispersion, size_factor=size_factor)


def zinb_nll(
    mean: Tensor, dispersion: Tensor, zero_logit: Tensor, counts: Counts, size_factor: Tensor | None = None
) -> Tensor:
    """Negative log-likelihood of each cell under the zero-inflated negative binomial; as :func:`nb_nll`.

    ``zero_logit``: logit of the chance that a count is zero whatever its mean, shape (N, F), (F,) or (N, 1).

    Notes
    -----
    With f = dispersion log(1 + mean / dispersion), the chance of zero is (1 + exp(-f - logit)) / (1 + exp(-logit)).
    """
    return _nll(_ZINB, counts, mean, dispersion, zero_logit, size_factor=size_factor)


def gaussian_nll(mean: Tensor, log_variance: Tensor, values: Counts) -> Tensor:
    """Negative log-likelihood of each cell under independent Gaussians, shape (N,).

    ``mean``, ``log_variance``: shape (N, F) or broadcastable to it; the zeros of ``values`` count like its entries.
    """
    return _nll(_GAUSSIAN, values, mean, log_variance)


def zero_inflated_gaussian_nll(mean: Tensor, log_variance: Tensor, zero_logit: Tensor, values: Counts) -> Tensor:
    """Negative log-likelihood of each cell where a value is zero with some chance and Gaussian otherwise, shape (N,).

    The Gaussian has no mass at zero itself, so a zero is explained by the inflation alone and moves neither mean nor
    variance. ``zero_logit``: logit of that chance.
    """
    return _nll(_ZERO_INFLATED_GAUSSIAN, values, mean, log_variance, zero_logit)


def bernoulli_nll(logit: Tensor, values: Counts, *, gamma: float = 0.0, alpha: float | None = None) -> Tensor:
    """Negative log-likelihood of each cell of open (stored) and closed features, shape (N,); focal if asked for.

    Parameters
    ----------
    logit
        Logit of being open, shape (N, F).
    values
        Which are open; the values themselves do not count.
    gamma
        Focal exponent: errors are weighted by (1 - chance of what was seen) ** gamma; 0 is the plain likelihood.
    alpha
        Weight of open features; closed ones weigh 1 - alpha. None weighs both by 1.
    """
    if gamma < 0 or not (alpha is None or 0 <= alpha <= 1):
        raise ModelError(f"found gamma {gamma} and alpha {alpha}, expected gamma of 0 or more and alpha from 0 to 1.")
    one, zero = (1.0, 1.0) if alpha is None else (alpha, 1.0 - alpha)

    def at_zero(logit: Tensor) -> Tensor:
        return zero * torch.sigmoid(logit) ** gamma * softplus(logit)

    def slopes_at_zero(logit: Tensor) -> tuple[Tensor]:
        chance = torch.sigmoid(logit)
        return (zero * chance**gamma * (gamma * (1 - chance) * softplus(logit) + chance),)

    def elsewhere(_value: Tensor, logit: Tensor) -> Tensor:
        cost = softplus(-logit)
        return one * torch.exp(-gamma * softplus(logit)) * cost  # a power of the chance has no slope where it is 0

    return _nll(_Form(at_zero, slopes_at_zero, elsewhere), values, logit)


def _nb_zero(mean: Tensor, dispersion: Tensor) -> Tensor:
    return dispersion * torch.log1p(mean / dispersion)


def _nb_slopes(mean: Tensor, dispersion: Tensor) -> tuple[Tensor, Tensor]:
    together = mean + dispersion
    return dispersion / together, torch.log1p(mean / dispersion) - mean / together


def _nb_elsewhere(value: Tensor, mean: Tensor, dispersion: Tensor) -> Tensor:
    """In float64: at a large dispersion the gamma functions are far larger than their difference."""
    x, m, d = value.double(), mean.double(), dispersion.double()
    choose = torch.lgamma(x + 1) + torch.lgamma(d) - torch.lgamma(x + d)
    return (choose + _nb_zero(m, d) + x * (torch.log(d + m) - torch.log(m))).to(mean.dtype)


def _zinb_zero(mean: Tensor, dispersion: Tensor, logit: Tensor) -> Tensor:
    return softplus(-logit) - softplus(-_nb_zero(mean, dispersion) - logit)


def _zinb_slopes(mean: Tensor, dispersion: Tensor, logit: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    not_inflated = torch.sigmoid(-_nb_zero(mean, dispersion) - logit)
    by_mean, by_dispersion = _nb_slopes(mean, dispersion)
    return by_mean * not_inflated, by_dispersion * not_inflated, not_inflated - torch.sigmoid(-logit)


def _zinb_elsewhere(value: Tensor, mean: Tensor, dispersion: Tensor, logit: Tensor) -> Tensor:
    return softplus(logit) + _nb_elsewhere(value, mean, dispersion)


def _gaussian_zero(mean: Tensor, log_variance: Tensor) -> Tensor:
    return 0.5 * (math.log(2 * math.pi) + log_variance + mean.square() * torch.exp(-log_variance))


def _gaussian_slopes(mean: Tensor, log_variance: Tensor) -> tuple[Tensor, Tensor]:
    scaled = mean * torch.exp(-log_variance)
    return scaled, 0.5 * (1 - mean * scaled)


def _gaussian_elsewhere(value: Tensor, mean: Tensor, log_variance: Tensor) -> Tensor:
    return _gaussian_zero(mean - value, log_variance)


def _inflated_zero(_mean: Tensor, _log_variance: Tensor, logit: Tensor) -> Tensor:
    return softplus(-logit)


def _inflated_slopes(mean: Tensor, log_variance: Tensor, logit: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    return torch.zeros_like(mean), torch.zeros_like(log_variance), -torch.sigmoid(-logit)


def _inflated_elsewhere(value: Tensor, mean: Tensor, log_variance: Tensor, logit: Tensor) -> Tensor:
    return softplus(logit) + _gaussian_elsewhere(value, mean, log_variance)


_NB = _Form(_nb_zero, _nb_slopes, _nb_elsewhere)
_ZINB = _Form(_zinb_zero, _zinb_slopes, _zinb_elsewhere)
_GAUSSIAN = _Form(_gaussian_zero, _gaussian_slopes, _gaussian_elsewhere)
_ZERO_INFLATED_GAUSSIAN = _Form(_inflated_zero, _inflated_slopes, _inflated_elsewhere)


def _nll(form: _Form, counts: Counts, *parameters: Tensor, size_factor: Tensor | None = None) -> Tensor:
    shape = (len(counts.offsets) - 1, counts.features)
    wide = [parameter if parameter.ndim == 2 else parameter.reshape(1, -1) for parameter in parameters]
    for parameter in wide:
        if any(size not in (1, full) for size, full in zip(parameter.shape, shape, strict=True)):
            raise ModelError(f"a parameter has shape {tuple(parameter.shape)}, expected one that spreads to {shape}.")
    if size_factor is not None and size_factor.shape != shape[:1]:
        raise ModelError(
            f"size_factor has shape {tuple(size_factor.shape)}, expected ({shape[0]},), one for each cell."
        )
    if not int(counts.offsets[-1]) == len(counts.feature) == len(counts.value):
        raise ModelError(
            f"offsets end at {int(counts.offsets[-1]):,}, but there are {len(counts.feature):,} features and "
            f"{len(counts.value):,} values. Fix: Counts.from_scipy."
        )
    if counts.value.numel() and bool((counts.value == 0).any()):
        raise ModelError(f"{int((counts.value == 0).sum()):,} stored entries are zero. Fix: Counts.from_scipy.")
    if form in (_NB, _ZINB) and counts.value.numel() and float(counts.value.min()) < 0:
        raise ModelError(f"{int((counts.value < 0).sum()):,} of {len(counts.value):,} counts are negative.")
    return _SparseNLL.apply(form, counts, size_factor, *wide)


class _SparseNLL(torch.autograd.Function):
    """Nothing but the parameters is kept for the backward, which goes through the blocks once more."""

    @staticmethod
    def forward(ctx: Any, form: _Form, counts: Counts, size_factor: Tensor | None, *parameters: Tensor) -> Tensor:
        ctx.form, ctx.counts, ctx.size_factor = form, counts, size_factor
        ctx.save_for_backward(*parameters)
        cells = _Cells(counts, parameters, size_factor)
        stored = form.elsewhere(cells.value, *cells.at_entries())
        total = stored.new_empty(len(counts.offsets) - 1)
        for rows, entries, place, block in cells.blocks():
            cost = form.at_zero(*block)
            cost[place] = stored[entries]
            total[rows] = cost.sum(1)
        return total

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, upstream: Tensor) -> tuple[Any, ...]:
        cells = _Cells(ctx.counts, ctx.saved_tensors, ctx.size_factor)
        stored = _slopes_elsewhere(ctx.form, cells)
        grads = [torch.zeros_like(parameter) for parameter in cells.parameters]
        for rows, entries, place, block in cells.blocks():
            slopes = ctx.form.slopes_at_zero(*block)
            for which, (grad, slope, full) in enumerate(zip(grads, slopes, stored, strict=True)):
                slope[place] = full[entries]
                _add_rows(grad, rows, cells.scaled(slope, which, rows) * upstream[rows, None])
        return None, None, None, *(g.to(one.dtype) for g, one in zip(grads, ctx.saved_tensors, strict=True))


class _Cells:
    """The entries and the parameters of all cells, the first of them times the size factors where there are such."""

    def __init__(self, counts: Counts, parameters: Sequence[Tensor], size_factor: Tensor | None) -> None:
        self.parameters = [one.detach().to(compute_dtype(one.dtype)) for one in parameters]
        self.size = None if size_factor is None else size_factor.detach().to(self.parameters[0])
        self.counts = counts
        self.value = counts.value.to(self.parameters[0].dtype)
        self.row = segment_ids(counts.offsets)

    def scaled(self, values: Tensor, which: int, rows: slice) -> Tensor:
        return values if which or self.size is None else values * self.size[rows, None]

    def at_entries(self) -> list[Tensor]:
        """Return the parameters at the stored entries, each of shape (E,)."""
        here = []
        for one in self.parameters:
            rows, columns = (size == 1 for size in one.shape)
            found = one[0 if rows else self.row, 0 if columns else self.counts.feature]
            here.append(found.expand(len(self.row)))
        if self.size is not None:
            here[0] = here[0] * self.size[self.row]
        return here

    def blocks(self) -> Iterator[tuple[slice, slice, tuple[Tensor, Tensor], list[Tensor]]]:
        """Yield some rows, their entries, where these stand in the block, and the parameters spread to its width."""
        cells, width = len(self.counts.offsets) - 1, self.counts.features
        step = max(1, _BLOCK // max(1, width))
        bounds = [*range(0, cells, step), cells]
        edges = self.counts.offsets[bounds].tolist()
        for (first, last), (start, end) in zip(itertools.pairwise(bounds), itertools.pairwise(edges), strict=True):
            rows, entries = slice(first, last), slice(start, end)
            block = [(one if one.shape[0] == 1 else one[rows]).expand(last - first, width) for one in self.parameters]
            block[0] = self.scaled(block[0], 0, rows)
            yield rows, entries, (self.row[entries] - first, self.counts.feature[entries]), block


def _slopes_elsewhere(form: _Form, cells: _Cells) -> Sequence[Tensor]:
    here = [one.detach().requires_grad_() for one in cells.at_entries()]
    with torch.enable_grad():
        return torch.autograd.grad(form.elsewhere(cells.value, *here).sum(), here, materialize_grads=True)


def _add_rows(grad: Tensor, rows: slice, slope: Tensor) -> None:
    part = grad if grad.shape[0] == 1 else grad[rows]
    for axis in (0, 1):
        if part.shape[axis] == 1:
            slope = slope.sum(axis, keepdim=True)
    part += slope

"""Likelihoods of sparse measurements: a closed form everywhere at zero, corrected at the stored entries.

Most entries of single-cell data are zero, and at zero the likelihoods used for them are short: no gamma function, no
gather. So the negative log-likelihood of a cell is the sum of the form at zero over all features, plus, over the
stored entries alone, the difference to the full form. Forward and backward go block by block of rows, with slopes
written out by hand, so that no dense temporary outlives its block and nothing but the parameters is kept between them.

Sources: negative binomial in mean and dispersion, and its zero inflation: Lopez et al. 2018 (scVI), Nature Methods
15:1053, with the logit of the inflation as parameter; focal loss: Lin et al. 2017, arXiv:1708.02002.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.nn.functional import softplus

from heteromics.errors import ModelError
from heteromics.nn._compressed import compute_dtype
from heteromics.nn.segments import segment_ids, segment_sum

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
        """Take the entries of a SciPy CSR matrix; stored zeros are left out.

        Examples
        --------
        >>> from scipy import sparse
        >>> Counts.from_scipy(sparse.csr_array([[0, 2], [0, 0]])).value.tolist()
        [2.0]
        """
        if (matrix.data == 0).any():
            matrix = matrix.copy()
            matrix.eliminate_zeros()
        offsets, feature = (torch.as_tensor(array).to(device, torch.int64) for array in (matrix.indptr, matrix.indices))
        return cls(offsets, feature, torch.as_tensor(matrix.data).to(device, dtype), matrix.shape[1])


class _Form(NamedTuple):
    """One likelihood: its value and gradients at zero, and its value at other values; all elementwise."""

    at_zero: Callable[..., tuple[Tensor, tuple[Tensor, ...]]]
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
        Shape (N,), in nats, summed over features; differentiable once.

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
    return _nll(_NB, counts, _scaled(mean, size_factor), dispersion)


def zinb_nll(
    mean: Tensor, dispersion: Tensor, zero_logit: Tensor, counts: Counts, size_factor: Tensor | None = None
) -> Tensor:
    """Negative log-likelihood of each cell under the zero-inflated negative binomial; as :func:`nb_nll`.

    ``zero_logit``: logit of the chance that a count is zero whatever its mean, shape (N, F), (F,) or (N, 1).

    Notes
    -----
    With f = dispersion log(1 + mean / dispersion), the chance of zero is (1 + exp(-f - logit)) / (1 + exp(-logit)).
    """
    return _nll(_ZINB, counts, _scaled(mean, size_factor), dispersion, zero_logit)


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
    one, zero = (1.0, 1.0) if alpha is None else (alpha, 1.0 - alpha)

    def at_zero(logit: Tensor) -> tuple[Tensor, tuple[Tensor]]:
        chance, cost = torch.sigmoid(logit), softplus(logit)
        weight = zero * chance**gamma
        return weight * cost, (weight * (gamma * (1 - chance) * cost + chance),)

    def elsewhere(_value: Tensor, logit: Tensor) -> Tensor:
        return one * torch.sigmoid(-logit) ** gamma * softplus(-logit)

    return _nll(_Form(at_zero, elsewhere), values, logit)


def _nb_zero(mean: Tensor, dispersion: Tensor) -> tuple[Tensor, tuple[Tensor, Tensor]]:
    together = mean + dispersion
    log_ratio = torch.log1p(mean / dispersion)
    return dispersion * log_ratio, (dispersion / together, log_ratio - mean / together)


def _nb_elsewhere(value: Tensor, mean: Tensor, dispersion: Tensor) -> Tensor:
    log_together = torch.log(dispersion + mean)
    choose = torch.lgamma(value + 1) + torch.lgamma(dispersion) - torch.lgamma(value + dispersion)
    return choose + dispersion * (log_together - torch.log(dispersion)) + value * (log_together - torch.log(mean))


def _zinb_zero(mean: Tensor, dispersion: Tensor, logit: Tensor) -> tuple[Tensor, tuple[Tensor, Tensor, Tensor]]:
    cost, (by_mean, by_dispersion) = _nb_zero(mean, dispersion)
    exponent = -cost - logit
    not_inflated = torch.sigmoid(exponent)
    value = softplus(-logit) - softplus(exponent)
    return value, (by_mean * not_inflated, by_dispersion * not_inflated, not_inflated - torch.sigmoid(-logit))


def _zinb_elsewhere(value: Tensor, mean: Tensor, dispersion: Tensor, logit: Tensor) -> Tensor:
    return softplus(logit) + _nb_elsewhere(value, mean, dispersion)


def _gaussian_zero(mean: Tensor, log_variance: Tensor) -> tuple[Tensor, tuple[Tensor, Tensor]]:
    scaled = mean * torch.exp(-log_variance)
    square = mean * scaled
    return 0.5 * (math.log(2 * math.pi) + log_variance + square), (scaled, 0.5 * (1 - square))


def _gaussian_elsewhere(value: Tensor, mean: Tensor, log_variance: Tensor) -> Tensor:
    return 0.5 * (math.log(2 * math.pi) + log_variance + (value - mean) ** 2 * torch.exp(-log_variance))


def _inflated_zero(mean: Tensor, log_variance: Tensor, logit: Tensor) -> tuple[Tensor, tuple[Tensor, Tensor, Tensor]]:
    nothing = torch.zeros_like(mean + log_variance)
    return softplus(-logit) + nothing, (nothing, nothing, nothing - torch.sigmoid(-logit))


def _inflated_elsewhere(value: Tensor, mean: Tensor, log_variance: Tensor, logit: Tensor) -> Tensor:
    return softplus(logit) + _gaussian_elsewhere(value, mean, log_variance)


_NB = _Form(_nb_zero, _nb_elsewhere)
_ZINB = _Form(_zinb_zero, _zinb_elsewhere)
_GAUSSIAN = _Form(_gaussian_zero, _gaussian_elsewhere)
_ZERO_INFLATED_GAUSSIAN = _Form(_inflated_zero, _inflated_elsewhere)


def _scaled(mean: Tensor, size_factor: Tensor | None) -> Tensor:
    return mean if size_factor is None else mean * size_factor.detach()[:, None]


def _nll(form: _Form, counts: Counts, *parameters: Tensor) -> Tensor:
    shape = (len(counts.offsets) - 1, counts.features)
    wide = [parameter if parameter.ndim == 2 else parameter.reshape(1, -1) for parameter in parameters]
    for parameter in wide:
        if any(size not in (1, full) for size, full in zip(parameter.shape, shape, strict=True)):
            raise ModelError(f"a parameter has shape {tuple(parameter.shape)}, expected one that spreads to {shape}.")
    if counts.value.numel() and bool((counts.value == 0).any()):
        raise ModelError(f"{int((counts.value == 0).sum()):,} stored entries are zero. Fix: Counts.from_scipy.")
    if form in (_NB, _ZINB) and counts.value.numel() and float(counts.value.min()) < 0:
        raise ModelError(f"{int((counts.value < 0).sum()):,} of {len(counts.value):,} counts are negative.")
    return _SparseNLL.apply(form, counts, shape, *wide)


class _SparseNLL(torch.autograd.Function):
    """Nothing but the parameters is kept for the backward, which goes through the blocks once more."""

    @staticmethod
    def forward(ctx: Any, form: _Form, counts: Counts, shape: tuple[int, int], *parameters: Tensor) -> Tensor:
        ctx.form, ctx.counts, ctx.shape = form, counts, shape
        ctx.save_for_backward(*parameters)
        plain = _computed(parameters)
        total = plain[0].new_zeros(shape[0])
        for rows, block in _blocks(plain, shape):
            total[rows] = form.at_zero(*block)[0].sum(1)
        here = [_gathered(parameter, counts) for parameter in plain]
        more = form.elsewhere(counts.value.to(total.dtype), *here) - form.at_zero(*here)[0]
        return (total + segment_sum(more, counts.offsets)).to(parameters[0].dtype)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, upstream: Tensor) -> tuple[Any, ...]:
        plain, counts = _computed(ctx.saved_tensors), ctx.counts
        upstream = upstream.to(plain[0].dtype)[:, None]
        grads = [torch.zeros_like(parameter) for parameter in plain]
        for rows, block in _blocks(plain, ctx.shape):
            for grad, slope in zip(grads, ctx.form.at_zero(*block)[1], strict=True):
                _add_rows(grad, rows, slope * upstream[rows])
        for grad, slope in zip(grads, _correction(ctx.form, counts, plain), strict=True):
            _add_entries(grad, counts, slope * upstream[segment_ids(counts.offsets), 0])
        parameters = ctx.saved_tensors
        return (None, None, None, *(grad.to(one.dtype) for grad, one in zip(grads, parameters, strict=True)))


def _computed(parameters: Sequence[Tensor]) -> list[Tensor]:
    return [parameter.detach().to(compute_dtype(parameter.dtype)) for parameter in parameters]


def _blocks(parameters: Sequence[Tensor], shape: tuple[int, int]) -> Iterator[tuple[slice, list[Tensor]]]:
    """Yield some rows and the parameters there, each spread to the width of the block."""
    step = max(1, _BLOCK // max(1, shape[1]))
    for first in range(0, shape[0], step):
        rows = slice(first, min(first + step, shape[0]))
        spread = (rows.stop - rows.start, shape[1])
        yield rows, [(one if one.shape[0] == 1 else one[rows]).expand(spread) for one in parameters]


def _gathered(parameter: Tensor, counts: Counts) -> Tensor:
    """Return a parameter at the stored entries, shape (E,)."""
    row = 0 if parameter.shape[0] == 1 else segment_ids(counts.offsets)
    return parameter[row, 0 if parameter.shape[1] == 1 else counts.feature].expand(len(counts.feature))


def _correction(form: _Form, counts: Counts, parameters: Sequence[Tensor]) -> list[Tensor]:
    """Return the slopes of the full form less those at zero, at the stored entries, each of shape (E,)."""
    here = [_gathered(parameter, counts).detach().requires_grad_() for parameter in parameters]
    with torch.enable_grad():
        value = form.elsewhere(counts.value.to(here[0].dtype), *here).sum()
        full = torch.autograd.grad(value, here, materialize_grads=True)
    return [slope - zero for slope, zero in zip(full, form.at_zero(*(one.detach() for one in here))[1], strict=True)]


def _add_rows(grad: Tensor, rows: slice, slope: Tensor) -> None:
    part = grad if grad.shape[0] == 1 else grad[rows]
    for axis in (0, 1):
        if part.shape[axis] == 1:
            slope = slope.sum(axis, keepdim=True)
    part += slope


def _add_entries(grad: Tensor, counts: Counts, slope: Tensor) -> None:
    row = segment_ids(counts.offsets) if grad.shape[0] > 1 else torch.zeros_like(counts.feature)
    column = counts.feature if grad.shape[1] > 1 else torch.zeros_like(counts.feature)
    grad.view(-1).index_add_(0, row * grad.shape[1] + column, slope)

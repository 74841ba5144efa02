"""The labelled cells of scMoGNN: their targets, which of them validate, and the SVD that training cells span."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import sparse
from torch import Tensor

from heteromics.errors import DataError, ModelError, some
from heteromics.nn.relation import Relation

if TYPE_CHECKING:
    from anndata import AnnData


def labelled_cells(target: AnnData) -> tuple[NDArray[np.str_], Tensor]:
    """Return names (n,) and values (n, targets), float32, of labelled cells."""
    matrix: Any = target.X
    if hasattr(matrix, "toarray"):
        matrix = matrix.toarray()  # bounded: labelled cells x targets, the shape of the prediction itself
    values = torch.as_tensor(np.asarray(matrix, dtype=np.float32))
    if values.ndim != 2 or not values.numel():
        raise DataError(f"target: found shape {tuple(values.shape)}, expected at least one cell and one column.")
    if broken := int((~torch.isfinite(values)).sum()):
        raise DataError(f"target: {broken} of {values.numel()} values are NaN or infinite. Fix: drop those cells.")
    return np.asarray(target.obs_names, dtype=str), values


def validation_mask(names: NDArray[np.str_], validation: float | Sequence[str], seed: int) -> NDArray[np.bool_]:
    """Draw by name and not by position, so that the same cells are drawn whatever their order."""
    if isinstance(validation, int | float):
        if not 0 < validation < 1:
            raise ModelError(f"validation: found a share of {validation}, expected one between 0 and 1, or names.")
        count = max(round(validation * names.size), 1)
        drawn = np.random.default_rng(seed).permutation(np.sort(names))[:count]
    else:
        drawn = np.asarray(list(validation), dtype=str)
        if unknown := sorted(set(drawn) - set(names)):
            raise ModelError(
                f"validation: {len(unknown)} of {drawn.size} cells have no target ({some(unknown)}). "
                "Fix: give the target for them too; they are never trained on."
            )
    mask = np.isin(names, drawn)
    if mask.all() or not mask.any():
        raise ModelError(
            f"validation: {int(mask.sum())} of {names.size} labelled cells, expected at least one and not all."
        )
    return mask


def svd_projection(expression: Relation, rows: Tensor, components: int, seed: int) -> Tensor:
    """Features x components of the truncated SVD of training cells, scaled to unit spread of their scores."""
    from scipy.sparse.linalg import svds

    values = expression.weight if expression.weight is not None else torch.ones(expression.nnz)
    arrays = (values.numpy(), expression.indices.numpy(), expression.indptr.numpy())
    matrix = sparse.csr_array(arrays, shape=expression.shape)[rows.numpy()]
    most = min(matrix.shape) - 1
    if most < 1:
        raise ModelError(
            f"cell_init 'svd': found {matrix.shape[0]} training cells and {matrix.shape[1]} features, "
            "expected two of each or more. Fix: cell_init='shared'."
        )
    start = np.random.default_rng(seed).normal(size=min(matrix.shape)).astype(np.float32)
    scores, strength, axes = svds(matrix.astype(np.float32), k=min(components, most), v0=start)
    spread = (scores * strength).std(axis=0).clip(min=1e-6)
    return torch.as_tensor(np.ascontiguousarray((axes / spread[:, None]).T), dtype=torch.float32)

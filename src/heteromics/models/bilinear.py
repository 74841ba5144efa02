"""A linear matcher of two modalities: the control that shows how far matching gets without any graph.

scikit-learn finds the components, NumPy the canonical directions between them: ``sklearn.cross_decomposition.CCA`` has
no penalty, and without one a few hundred cells are fitted perfectly, whatever they are.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import sparse

from heteromics.errors import DataError, ModelError
from heteromics.models._io import SavedModel, load_model, save_model
from heteromics.models.baselines import as_csr, check_rows, checked_pairs, fit_svd, log_normalised

Float = NDArray[np.float64]
FOLDS = 5
HIGHEST = 0.99  # correlation that is believed, so that densities stay finite


class Canonical(NamedTuple):
    """Linear maps of two modalities to paired canonical variates, ``x @ first - first_offset`` and so on.

    Attributes
    ----------
    first, second
        Shapes (p, k) and (q, k).
    first_offset, second_offset
        Shape (k,) each.
    """

    first: Float
    first_offset: Float
    second: Float
    second_offset: Float

    def variates(self, x: Any, y: Any) -> tuple[Float, Float]:
        """Return the variates of both sides, cells x k each."""
        return np.asarray(x @ self.first - self.first_offset), np.asarray(y @ self.second - self.second_offset)


class BilinearMatcher:
    """Match cells of two modalities by linear correlation: components, then canonical correlation analysis (CCA).

    Each modality is log-normalised and reduced by truncated SVD; CCA with a ridge penalty pairs directions of one with
    directions of the other over the training cells. The score of a pair says how much likelier its canonical variates
    are if they come from one cell than if they come from two, given that they are normal with the correlations found
    and that each pair of variates is independent of the others. Without a ridge they are uncorrelated in the training
    cells; with one, variates of one modality correlate, and the score neglects it. It ranks pairs; calibrate it before
    reading it as a probability.

    Sources: Hotelling, "Relations between two sets of variates", Biometrika 1936; the ridge: Vinod, "Canonical ridge
    and econometrics of joint production", Journal of Econometrics 1976; normal variates: Bach and Jordan, "A
    probabilistic interpretation of canonical correlation analysis", 2005. The correlations are those of held-out folds
    of the training cells, for those of the cells that CCA was fitted on are too high.

    Parameters
    ----------
    n_components
        Singular vectors per modality; at most one fewer than cells and than features.
    ridge
        Added to the variances of the components, as a share of their mean; above 0.
    log_normalise
        Scale every cell to 10,000 counts and take ``log(1 + x)`` first; turn off for input that is normalised.
    seed
        Seeds the randomised SVD and the folds.

    Attributes
    ----------
    correlations : ndarray
        Of each pair of canonical variates in held-out folds, shape (k,), from 0 to 0.99.

    Examples
    --------
    >>> rng = np.random.default_rng(0)
    >>> state = rng.normal(size=(300, 2))
    >>> first, second = (rng.poisson(np.exp(state @ rng.normal(size=(2, 20)))) for _ in range(2))
    >>> matcher = BilinearMatcher(n_components=5).fit(first[:200], second[:200])
    >>> cells = np.arange(200, 299)
    >>> own, other = (matcher.predict(first, second, np.stack([cells, cells + shift], axis=1)) for shift in (0, 1))
    >>> bool((own > other).mean() > 0.8)
    True
    """

    correlations: Float

    def __init__(
        self, n_components: int = 100, *, ridge: float = 1.0, log_normalise: bool = True, seed: int = 0
    ) -> None:
        if n_components < 1 or not ridge > 0:
            raise ModelError(
                f"BilinearMatcher: found n_components={n_components}, ridge={ridge}, expected 1 or more and above 0."
            )
        self.n_components, self.ridge, self.log_normalise, self.seed = n_components, ridge, log_normalise, seed
        self._maps: Canonical | None = None

    def fit(self, first: Any, second: Any) -> BilinearMatcher:
        """Learn from training cells: ``first`` and ``second`` are cells x features, row by row the same cells.

        Raises
        ------
        DataError
            When the numbers of cells differ, or there are fewer than five cells or two features.
        """
        matrices = [self._prepare(data) for data in (first, second)]
        cells = matrices[0].shape[0]
        check_rows(cells, matrices[1].shape[0])
        if cells < FOLDS:
            raise DataError(f"found {cells} training cells, expected {FOLDS} or more, one for each fold.")
        svds = [fit_svd(matrix, self.n_components, self.seed) for matrix in matrices]
        x, y = (svd.transform(matrix).astype(np.float64) for svd, matrix in zip(svds, matrices, strict=True))
        found = canonical(x, y, self.ridge)
        self._maps = found._replace(
            first=svds[0].components_.T @ found.first, second=svds[1].components_.T @ found.second
        )
        self.correlations = held_out_correlations(x, y, self.ridge, self.seed)
        return self

    def predict(self, first: Any, second: Any, pairs: ArrayLike) -> Float:
        """Return the score of every pair, shape (n,), between 0 and 1; see the class for what it means.

        Parameters
        ----------
        first, second
            Cells x features of the two modalities.
        pairs
            Rows of ``first`` and of ``second``, shape (n, 2), integers.

        Raises
        ------
        DataError
            When a modality has another number of features than in training.
        ModelError
            Before ``fit``.
        """
        from scipy.special import expit

        left, right = self.variates(first, second)
        rows = checked_pairs(pairs, len(left), len(right))
        return expit(log_density_ratio(left[rows[:, 0]], right[rows[:, 1]], self.correlations))

    def variates(self, first: Any, second: Any) -> tuple[Float, Float]:
        """Return the canonical variates of cells, cells x k each; mean 0 and variance 1 over the training cells."""
        maps, matrices = self._fitted(), [self._prepare(data) for data in (first, second)]
        for name, matrix, weights in zip(("first", "second"), matrices, (maps.first, maps.second), strict=True):
            if matrix.shape[1] != len(weights):
                raise DataError(
                    f"{name}: found {matrix.shape[1]} features, expected the {len(weights)} of training in their order."
                )
        return maps.variates(*matrices)

    def save(self, folder: Path | str) -> Path:
        """Write the fitted model to ``folder`` (safetensors and JSON)."""
        import torch

        arrays = self._fitted()._asdict() | {"correlations": self.correlations}
        weights = {name: torch.from_numpy(np.ascontiguousarray(array)) for name, array in arrays.items()}
        config = {name: getattr(self, name) for name in ("n_components", "ridge", "log_normalise", "seed")}
        return save_model(folder, SavedModel(type(self).__name__, config, weights, {}))

    @classmethod
    def load(cls, folder: Path | str) -> BilinearMatcher:
        """Read a saved model.

        Raises
        ------
        ModelError
            When the folder holds no model of this kind.
        """
        saved = load_model(folder, cls.__name__)
        model = cls(**saved.config)
        arrays = {name: weights.numpy() for name, weights in saved.weights.items()}
        model.correlations = arrays.pop("correlations")
        model._maps = Canonical(**arrays)
        return model

    def _fitted(self) -> Canonical:
        if self._maps is None:
            raise ModelError("BilinearMatcher: the model is not fitted. Fix: call fit, or BilinearMatcher.load.")
        return self._maps

    def _prepare(self, data: Any) -> sparse.csr_array:
        matrix = as_csr(data).astype(np.float32)
        return log_normalised(matrix) if self.log_normalise else matrix


def canonical(x: Float, y: Float, ridge: float) -> Canonical:
    """Find the pairs of directions of highest correlation, by falling canonical correlation.

    With covariances S, whitened by (S_xx + ridge mean(diag S_xx) I)^-1/2 and likewise for y, they are the singular
    vectors of the whitened S_xy; without a ridge that is CCA (Vinod 1976).

    Parameters
    ----------
    x, y
        Cells x components, shapes (n, p) and (n, q).
    ridge
        Share of the mean variance, above 0.

    Returns
    -------
    Canonical
        With min(p, q) variates of mean 0 and variance 1 in these cells; 0 where a direction does not vary.
    """
    sides = []
    for side in (x, y):
        mean = side.mean(axis=0)
        covariance = np.atleast_2d(np.cov(side.T, bias=True))
        floor = max(ridge * covariance.trace() / len(covariance), np.finfo(float).tiny)
        spread, axes = np.linalg.eigh(covariance)
        sides.append((side - mean, mean, axes / np.sqrt(spread.clip(min=0) + floor) @ axes.T))
    (x, x_mean, x_white), (y, y_mean, y_white) = sides
    left, _, right = np.linalg.svd(x_white @ (x.T @ y / len(x)) @ y_white, full_matrices=False)
    found: list[Float] = []
    for side, mean, directions in ((x, x_mean, x_white @ left), (y, y_mean, y_white @ right.T)):
        spread = (side @ directions).std(axis=0)
        varies = spread > 1e-8 * max(spread.max(initial=0), np.finfo(float).tiny)
        weights = np.divide(directions, spread, out=np.zeros_like(directions), where=varies)
        found += [weights, mean @ weights]
    return Canonical(*found)


def held_out_correlations(x: Float, y: Float, ridge: float, seed: int = 0) -> Float:
    """Return the correlations of canonical variates in cells they were not fitted on, shape (k,), 0 to 0.99.

    Five folds of cells; the variates of each are those of :func:`canonical` on the other four, and the correlation is
    taken over all cells.
    """
    fold = np.random.default_rng(seed).permutation(len(x)) % FOLDS
    left, right = (np.zeros((len(x), min(x.shape[1], y.shape[1]))) for _ in range(2))
    for number in range(FOLDS):
        held_out = fold == number
        fitted = canonical(x[~held_out], y[~held_out], ridge)
        left[held_out], right[held_out] = fitted.variates(x[held_out], y[held_out])
    scale = np.sqrt(np.square(left).mean(0) * np.square(right).mean(0))
    found = np.divide((left * right).mean(0), scale, out=np.zeros_like(scale), where=scale > 0)
    return found.clip(0, HIGHEST)


def log_density_ratio(x: Float, y: Float, correlations: Float) -> Float:
    """Return log p(x, y) / (p(x) p(y)) of standard normal variates that correlate pairwise, shape (n,).

    Per pair of variates -log(1 - r^2) / 2 + (2 r x y - r^2 (x^2 + y^2)) / (2 (1 - r^2)); a sum over the pairs.

    Parameters
    ----------
    x, y
        Shapes (n, k).
    correlations
        Shape (k,), each above -1 and below 1.

    Examples
    --------
    >>> log_density_ratio(np.ones((1, 1)), np.ones((1, 1)), np.array([0.5])).round(3)
    array([0.477])
    """
    kept = 1 - np.square(correlations)
    terms = (correlations / kept) * x * y - (np.square(correlations) / (2 * kept)) * (np.square(x) + np.square(y))
    return terms.sum(axis=1) - 0.5 * np.log(kept).sum()

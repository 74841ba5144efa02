"""Baselines that keep the graph models honest: truncated SVD + ridge, per-feature mean, and cell types alone.

They are fitted on the cells they are given and on no others, so a protocol hands them training cells only.
scikit-learn does the fitting; what is ours is that inputs stay sparse and that parameters are chosen by validation.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import sparse

from heteromics.errors import DataError, ModelError, some

if TYPE_CHECKING:
    from sklearn.decomposition import TruncatedSVD

Float = NDArray[np.float64]
COMPONENTS = (10, 20, 50, 100, 150)
ALPHAS = (1.0, 10.0, 100.0, 1000.0)


def as_csr(data: Any) -> sparse.csr_array:
    """Return the matrix of an AnnData, a sparse matrix or a dense array as CSR, cells x features."""
    return sparse.csr_array(getattr(data, "X", data))


def as_dense(data: Any) -> Float:
    """Return a target, cells x targets, as a dense float64 array: as large as any prediction of it must be."""
    matrix: Any = getattr(data, "X", data)
    if hasattr(matrix, "toarray"):
        matrix = matrix.toarray()  # bounded: cells x targets, the shape of the prediction itself
    return np.asarray(matrix, dtype=np.float64)


def checked_pairs(pairs: ArrayLike, rows: int, columns: int) -> NDArray[np.int64]:
    """Return pairs of rows of two tables as int64, shape (n, 2).

    Raises
    ------
    ModelError
        For another shape, other values than integers, or rows that are not there.
    """
    given = np.asarray(pairs)
    if given.ndim != 2 or given.shape[1] != 2 or (given.size and given.dtype.kind not in "iu"):
        raise ModelError(f"pairs: found shape {given.shape} of {given.dtype}, expected row numbers of shape (n, 2).")
    outside = ((given < 0) | (given >= (rows, columns))).any(axis=1)
    if outside.any():
        raise ModelError(
            f"pairs: {int(outside.sum())} of {len(given)} are outside {rows} and {columns} rows, the first "
            f"{given[outside][0].tolist()}."
        )
    return given.astype(np.int64)


class FeatureMean:
    """Predict the training mean of every target, whatever the cell.

    Examples
    --------
    >>> FeatureMean().fit(np.eye(2), np.array([[1.0, 3.0], [3.0, 5.0]])).predict(np.zeros((1, 2)))
    array([[2., 4.]])
    """

    mean: Float

    def fit(self, X: Any, Y: Any) -> FeatureMean:
        """Learn from cells ``X`` (only counted) and targets ``Y``, cells x targets."""
        target = as_dense(Y)
        check_rows(as_csr(X).shape[0], target.shape[0])
        self.mean = target.mean(axis=0)
        return self

    def predict(self, X: Any) -> Float:
        """Return the mean once per row of ``X``, cells x targets, float64."""
        return np.tile(self.mean, (as_csr(X).shape[0], 1))


class SVDRidge:
    """Truncated SVD of the sparse input, then ridge regression on the components.

    The linear method of the NeurIPS 2021 competition (its starter kit and the entry of scMoGNN for ADT to GEX,
    methods of Lance et al. 2022), with a penalty added.

    Parameters
    ----------
    n_components
        Singular vectors kept; at most one fewer than cells and than features, the smaller count being taken.
    alpha
        Ridge penalty on the coefficients, not on the intercept.
    non_negative
        Clip predictions at zero, as is done for scMoGNN; for targets that cannot be negative.
    seed
        Seeds the randomised SVD.

    Examples
    --------
    >>> X = sparse.csr_array(np.random.default_rng(0).poisson(1.0, (60, 20)).astype(float))
    >>> Y = X.toarray()[:, :2] * 3
    >>> model = SVDRidge(n_components=19, alpha=1e-6).fit(X, Y)
    >>> bool(np.corrcoef(model.predict(X)[:, 0], Y[:, 0])[0, 1] > 0.9)
    True
    """

    def __init__(
        self, n_components: int = 50, alpha: float = 1.0, *, non_negative: bool = False, seed: int = 0
    ) -> None:
        if n_components < 1 or alpha < 0:
            raise ModelError(f"SVDRidge: found n_components={n_components}, alpha={alpha}, expected at least 1 and 0.")
        self.n_components, self.alpha, self.non_negative, self.seed = n_components, alpha, non_negative, seed

    def fit(self, X: Any, Y: Any) -> SVDRidge:
        """Learn from ``X`` (cells x features, AnnData or matrix, kept sparse) and ``Y`` (cells x targets)."""
        from sklearn.linear_model import Ridge

        matrix, target = as_csr(X), as_dense(Y)
        check_rows(matrix.shape[0], target.shape[0])
        self._svd = fit_svd(matrix, self.n_components, self.seed)
        self._ridge = Ridge(alpha=self.alpha).fit(self._svd.transform(matrix), target)
        return self

    def predict(self, X: Any) -> Float:
        """Return predictions, cells x targets, float64."""
        predicted = self._ridge.predict(self._svd.transform(as_csr(X))).astype(np.float64)
        predicted = predicted.reshape(predicted.shape[0], -1)
        return np.maximum(predicted, 0.0) if self.non_negative else predicted

    @classmethod
    def choose(
        cls,
        X: Any,
        Y: Any,
        validation: NDArray[np.bool_],
        *,
        n_components: Sequence[int] = COMPONENTS,
        alphas: Sequence[float] = ALPHAS,
        non_negative: bool = False,
        seed: int = 0,
    ) -> SVDRidge:
        """Choose components and penalty by validation error, then fit on all the cells given.

        Parameters
        ----------
        X, Y
            Labelled cells: training and validation together, no test cell among them.
        validation
            Which of them are validation cells, boolean, one per cell.

        Returns
        -------
        SVDRidge
            Fitted on training and validation cells with the best pair on the grid.
        """
        from sklearn.linear_model import Ridge

        matrix, target = as_csr(X), as_dense(Y)
        train = np.flatnonzero(~validation)
        held_out = np.flatnonzero(validation)
        if not train.size or not held_out.size:
            raise ModelError(
                f"SVDRidge.choose: found {train.size} training and {held_out.size} validation cells, expected both."
            )
        svd = fit_svd(matrix[train], max(n_components), seed)
        inputs, unseen = svd.transform(matrix[train]), svd.transform(matrix[held_out])
        errors: dict[tuple[int, float], float] = {}
        for count in sorted({min(count, inputs.shape[1]) for count in n_components}):
            for alpha in alphas:
                fitted = Ridge(alpha=alpha).fit(inputs[:, :count], target[train])
                predicted = fitted.predict(unseen[:, :count]).reshape(held_out.size, -1)
                predicted = np.maximum(predicted, 0.0) if non_negative else predicted
                errors[count, alpha] = float(np.square(predicted - target[held_out]).mean())
        count, alpha = min(errors, key=errors.__getitem__)
        return cls(count, alpha, non_negative=non_negative, seed=seed).fit(matrix, target)


class CellTypeMatcher:
    """Match cells of two modalities by their types alone: the control a cross-modal matcher has to beat.

    One classifier per modality (log-normalised counts, truncated SVD, logistic regression) is trained on training
    cells. The score of a pair is the probability that both are of one type, the sum over types of
    ``p_first(type) * p_second(type)``. It knows nothing of genes that reach peaks, so what it scores on pairs of
    different types says how much of a matching result cell types explain.

    Parameters
    ----------
    n_components
        Singular vectors per modality.
    log_normalise
        Scale every cell to 10,000 counts and take ``log(1 + x)`` first; turn off for input that is normalised.
    seed
        Seeds the randomised SVD.

    Examples
    --------
    >>> rna = np.array([[9, 0, 1], [8, 1, 0], [0, 9, 1], [1, 8, 0]])
    >>> matcher = CellTypeMatcher(n_components=2).fit(rna, list("aabb"), rna, list("aabb"))
    >>> same, other = matcher.predict(rna, rna, np.array([[0, 1], [0, 2]]))
    >>> bool(same > other)
    True
    """

    classes: tuple[str, ...]

    def __init__(self, n_components: int = 50, *, log_normalise: bool = True, seed: int = 0) -> None:
        self.n_components, self.log_normalise, self.seed = n_components, log_normalise, seed

    def fit(self, first: Any, first_types: ArrayLike, second: Any, second_types: ArrayLike) -> CellTypeMatcher:
        """Learn the types of training cells: ``first`` and ``second`` are cells x features, types one per cell.

        Raises
        ------
        DataError
            When the numbers of cells and types differ, a modality has one type only, or no type is in both.
        """
        names = [np.asarray(types, dtype=str) for types in (first_types, second_types)]
        shared = sorted(set(names[0]) & set(names[1]))
        if not shared:
            raise DataError(
                f"the modalities have no cell type in common ({some(sorted(set(names[0])))}; "
                f"{some(sorted(set(names[1])))}). Fix: use one annotation for both."
            )
        self.classes = tuple(shared)
        self._models = [self._fit_one(data, types) for data, types in zip((first, second), names, strict=True)]
        return self

    def predict(self, first: Any, second: Any, pairs: ArrayLike) -> Float:
        """Return the score of every pair, shape (n,), between 0 and 1.

        Parameters
        ----------
        first, second
            Cells x features of the two modalities.
        pairs
            Rows of ``first`` and of ``second``, shape (n, 2), integers.
        """
        left, right = self.probabilities(first, second)
        rows = checked_pairs(pairs, len(left), len(right))
        return np.einsum("nt,nt->n", left[rows[:, 0]], right[rows[:, 1]])

    def probabilities(self, first: Any, second: Any) -> tuple[Float, Float]:
        """Return type probabilities of the cells of both modalities, cells x ``classes`` each."""
        tables = []
        for data, (svd, classifier) in zip((first, second), self._models, strict=True):
            found = classifier.predict_proba(svd.transform(self._prepare(data)))
            column = {name: index for index, name in enumerate(classifier.classes_)}
            tables.append(found[:, [column[name] for name in self.classes]])
        return tables[0], tables[1]

    def _fit_one(self, data: Any, types: NDArray[np.str_]) -> tuple[TruncatedSVD, Any]:
        from sklearn.linear_model import LogisticRegression
        from sklearn.pipeline import make_pipeline
        from sklearn.preprocessing import StandardScaler

        matrix = self._prepare(data)
        check_rows(matrix.shape[0], types.size)
        if np.unique(types).size < 2:
            raise DataError(f"found the single cell type '{types[0]}', expected two or more to tell apart.")
        svd = fit_svd(matrix, self.n_components, self.seed)
        classifier = make_pipeline(StandardScaler(), LogisticRegression(max_iter=2000))
        return svd, classifier.fit(svd.transform(matrix), types)

    def _prepare(self, data: Any) -> sparse.csr_array:
        matrix = as_csr(data).astype(np.float32)
        return log_normalised(matrix) if self.log_normalise else matrix


def log_normalised(counts: sparse.csr_array, total: float = 10_000.0) -> sparse.csr_array:
    """Return ``log(1 + total * x / sum of the cell)`` for counts, cells x features; empty cells stay empty.

    Examples
    --------
    >>> log_normalised(sparse.csr_array([[1.0, 3.0], [0.0, 0.0]]), total=4.0).toarray().round(3)
    array([[0.693, 1.386],
           [0.   , 0.   ]])
    """
    sums = np.asarray(counts.sum(axis=1)).ravel()
    scale = np.divide(total, sums, out=np.zeros(sums.size), where=sums > 0)
    result = counts.copy()
    result.data = np.log1p(result.data * np.repeat(scale, np.diff(counts.indptr)))
    return result


def fit_svd(matrix: sparse.csr_array, n_components: int, seed: int) -> TruncatedSVD:
    """Fit a truncated SVD, of at most one component fewer than cells and than features."""
    from sklearn.decomposition import TruncatedSVD

    most = min(matrix.shape) - 1
    if most < 1:
        raise DataError(f"found {matrix.shape[0]} cells and {matrix.shape[1]} features, expected two of each or more.")
    return TruncatedSVD(min(n_components, most), random_state=seed).fit(matrix)


def check_rows(cells: int, targets: int) -> None:
    """Raise a DataError unless the numbers are alike."""
    if cells != targets:
        raise DataError(
            f"found {cells} cells of input and {targets} of target, expected the same cells in the same order."
        )

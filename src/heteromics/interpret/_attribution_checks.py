"""Where attributions of links agree with one another, and whether they depend on what the model has learnt."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from itertools import combinations
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import stats

from heteromics.errors import DataError, ModelError, some
from heteromics.interpret.attribution import METHODS, Method, attribute
from heteromics.models._pair_nodes import FeatureTable
from heteromics.models._training import seeded
from heteromics.models.bi2former import Bi2Former

if TYPE_CHECKING:
    from pandas import DataFrame

    from heteromics.graphs import HeteroGraph

__all__ = ["agreement", "rerandomised", "sanity_check"]


def agreement(
    table: DataFrame, methods: Sequence[str] | None = None, k: Sequence[int] = (100, 1000), *, seed: int = 0
) -> DataFrame:
    """Compare columns of scores of the same links two by two.

    Parameters
    ----------
    table
        Links with a column per method, as of :func:`heteromics.interpret.attribute`; where there is a column
        ``n_pairs``, links with 0 are left out, since nothing was measured for them, and with a column ``group`` the
        groups are compared one by one.
    methods
        Columns; None takes those of the table that are methods of ``attribute``.
    k
        Sizes of the top lists to compare; larger is stronger. A size above the number of links counts all of them.
    seed
        Links with equal scores, such as all that were pruned, enter a top list in random order, drawn anew for each
        method, so that ties do not look like agreement.

    Returns
    -------
    DataFrame
        With groups ``group``, then ``left, right`` (methods), ``n`` links, ``spearman`` (0 where a method does not
        vary), ``k``, ``shared`` (links in both top lists), ``expected`` (``k * k / n``, of two random lists) and ``p``
        (hypergeometric, that random lists share as many or more). The p-value takes links for independent, which
        those of one gene or one peak are not.

    Raises
    ------
    DataError
        For missing columns, fewer than two methods, values that are not finite, a size below 1, or a group with no
        link that was measured.

    Examples
    --------
    >>> import pandas as pd
    >>> table = pd.DataFrame({"attention": [4.0, 3.0, 2.0, 1.0], "effect": [4.0, 3.0, 1.0, 2.0]})
    >>> agreement(table, k=[2])[["spearman", "shared", "expected"]].round(3).to_dict("records")
    [{'spearman': 0.8, 'shared': 2, 'expected': 1.0}]
    """
    import pandas as pd

    names = [name for name in METHODS if name in table] if methods is None else list(methods)
    _check_columns(table, names, k)
    measured = table[table["n_pairs"] > 0] if "n_pairs" in table else table
    grouped = "group" in table
    rows: list[dict[str, Any]] = []
    for label in sorted(table["group"].unique()) if grouped else [None]:
        part = measured[measured["group"] == label] if grouped else measured
        n = len(part)
        if not n:
            of_group = f" of group {label}" if grouped else ""
            raise DataError(f"table: no link{of_group} has n_pairs above 0, expected 1 or more links.")
        values = {name: part[name].to_numpy(np.float64) for name in names}
        rng = np.random.default_rng(seed)
        order = {name: np.lexsort((rng.random(n), -column)) for name, column in values.items()}
        for left, right in combinations(names, 2):
            rank = _spearman(values[left], values[right])
            for size in sorted({min(size, n) for size in k}):
                shared = int(np.intersect1d(order[left][:size], order[right][:size]).size)
                p = float(stats.hypergeom.sf(shared - 1, n, size, size))
                row = {"left": left, "right": right, "n": n, "spearman": rank, "k": size, "shared": shared}
                rows.append(({"group": label} if grouped else {}) | row | {"expected": size * size / n, "p": p})
    return pd.DataFrame(rows)


def sanity_check(
    model: Bi2Former,
    graph: HeteroGraph | None,
    pairs: ArrayLike,
    candidates: DataFrame,
    methods: Sequence[Method] = ("attention", "effect", "integrated_gradients", "ablation"),
    *,
    seeds: Sequence[int] = (0, 1, 2),
    others: Mapping[str, Bi2Former] | None = None,
    k: Sequence[int] = (100, 1000),
    steps: int | None = None,
    device: str = "auto",
    progress: bool = False,
) -> DataFrame:
    """Compare the attributions of a model with those of models that have not learnt what it has.

    Model parameter randomisation (Adebayo et al., "Sanity Checks for Saliency Maps", NeurIPS 2018): all weights are
    drawn anew, and a method that still gives the same links reflects the data and the form of the network, not what
    was learnt. Their second test, randomised labels, is a model fitted on permuted labels, given in ``others``; so is
    the opposite, a model fitted from another seed, of which a good method should say the same.

    Parameters
    ----------
    model
        Fitted.
    graph, pairs, candidates, methods, steps, device, progress
        As in :func:`heteromics.interpret.attribute`.
    seeds
        One re-drawn model each.
    others
        By name, fitted models with the same genes and peaks.
    k
        As in :func:`agreement`.

    Returns
    -------
    DataFrame
        ``method``, ``against`` (``"random 0"`` and so on, then the names of ``others``) and the columns ``n, spearman,
        k, shared, expected, p`` of :func:`agreement` between the model and that other one.

    Raises
    ------
    ModelError
        As :func:`heteromics.interpret.attribute`, and with nothing to compare with.
    FeaturesDiffer
        When another model has other genes or peaks.

    Notes
    -----
    Random weights still meet real counts, so that what varies together in the data comes through with a random sign: a
    rank correlation far from 0 on either side, or a long list of shared links in some of the seeds, says how much of a
    ranking is that of the data. Take several seeds.
    """
    import pandas as pd

    compared = {f"random {seed}": rerandomised(model, seed) for seed in seeds} | dict(others or {})
    if not compared:
        raise ModelError("sanity_check: found no seeds and no other models, expected one or more to compare with.")
    graph = model._graph_or_own(graph)
    tables = {
        name: attribute(other, graph, pairs, candidates, methods, steps=steps, device=device, progress=progress)
        for name, other in {"model": model, **compared}.items()
    }
    parts = []
    for method in methods:
        columns = {name: table[method] for name, table in tables.items()}
        side_by_side = pd.DataFrame({"n_pairs": tables["model"]["n_pairs"], **columns})
        for name in compared:
            found = agreement(side_by_side, ["model", name], k).drop(columns=["left", "right"])
            found.insert(0, "against", name)
            found.insert(0, "method", method)
            parts.append(found)
    return pd.concat(parts, ignore_index=True)


def rerandomised(model: Bi2Former, seed: int) -> Bi2Former:
    """Return a model with the scales of values of a fitted one and weights as before training.

    Examples
    --------
    >>> rerandomised(Bi2Former(None), 0)
    Traceback (most recent call last):
        ...
    heteromics.errors.ModelError: Bi2Former: the model is not fitted. Fix: call fit, or Bi2Former.load.
    """
    trained = model._fitted()
    tables = [FeatureTable(nodes.attributes, nodes.chrom, nodes.position) for nodes in (trained.genes, trained.peaks)]
    with seeded(seed):
        network = model._network_of(*tables)
    for fresh, fitted in ((network.genes, trained.genes), (network.peaks, trained.peaks)):
        scales = dict(fitted.named_buffers())
        for name, buffer in fresh.named_buffers():
            buffer.copy_(scales[name])
    drawn = copy.copy(model)
    drawn._network = network.eval()
    return drawn


def _spearman(left: NDArray[np.float64], right: NDArray[np.float64]) -> float:
    """Rank correlation, 0 where either does not vary."""
    if np.ptp(left) == 0 or np.ptp(right) == 0:
        return 0.0
    return float(stats.spearmanr(left, right).statistic)


def _check_columns(table: DataFrame, names: Sequence[str], k: Sequence[int]) -> None:
    absent = [name for name in names if name not in table]
    if absent or len(names) < 2:
        raise DataError(
            f"methods: found {len(names)} of which {len(absent)} are no columns of the table "
            f"({some(absent) or 'none'}); expected two or more columns."
        )
    odd = int((~np.isfinite(table[list(names)].to_numpy(np.float64))).sum())
    if odd or not len(k) or min(k) < 1:
        raise DataError(f"found {odd} values that are not finite and k={tuple(k)}; expected 0, and sizes from 1.")

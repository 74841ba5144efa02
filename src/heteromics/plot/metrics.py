"""Figures of how well a model does."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import ArrayLike

from heteromics.plot._style import COLOURS, GREY, colour_of, new_figure, tidy

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_MOST_POINTS = 20_000


def metric_bars(values: Mapping[str, float], metric: str, *, chance: float | None = None, title: str = "") -> Figure:
    """Compare models by one metric.

    Parameters
    ----------
    values
        Metric by model name; the first is drawn in the accent colour, the others in grey.
    metric
        Axis label; say which direction is better, such as ``"RMSE (lower is better)"``.
    chance
        Value of a random guess, drawn as a dashed line.
    title
        Figure title.

    Examples
    --------
    >>> figure = metric_bars({"ScMoGNN": 0.40, "SVD + ridge": 0.42}, "RMSE (lower is better)")
    """
    figure, (axes,) = new_figure(5.2, 0.5 + 0.42 * max(len(values), 2))
    names = list(values)
    heights = [values[name] for name in names]
    bars = axes.barh(names, heights, color=[COLOURS[0], *[GREY] * (len(names) - 1)], height=0.66)
    axes.bar_label(bars, labels=[f"{value:.3f}" for value in heights], padding=3, fontsize=9)
    axes.set_xlim(right=max([*heights, chance or 0.0]) * 1.14)
    if chance is not None:
        axes.axvline(chance, color=COLOURS[5], linestyle="--", linewidth=1, label=f"chance {chance:.3f}")
        axes.legend(frameon=False, fontsize=8, loc="lower right")
    axes.invert_yaxis()
    axes.set_xlabel(metric)
    axes.set_title(title, loc="left", fontsize=11)
    tidy(axes)
    return figure


def training_curve(history: Sequence[Mapping[str, float]], *, title: str = "") -> Figure:
    """Draw every logged loss by epoch, the epoch of lowest validation loss marked.

    Parameters
    ----------
    history
        One mapping per epoch with ``epoch`` and the logged values, as ``model.history``.
    title
        Figure title.

    Examples
    --------
    >>> figure = training_curve([{"epoch": 0, "validation_loss": 2.0}, {"epoch": 1, "validation_loss": 1.0}])
    """
    figure, (axes,) = new_figure(5.2, 3.0)
    epochs = [entry["epoch"] for entry in history]
    names = [name for name in dict.fromkeys(key for entry in history for key in entry) if name.endswith("loss")]
    for name, colour in colour_of(names).items():
        axes.plot(
            epochs,
            [entry.get(name, np.nan) for entry in history],
            color=colour,
            linewidth=1.4,
            label=name.replace("_", " "),
        )
    if "validation_loss" in names:
        best = min(history, key=lambda entry: entry.get("validation_loss", np.inf))
        axes.plot(
            best["epoch"],
            best["validation_loss"],
            "o",
            color=COLOURS[5],
            label=f"lowest validation loss: epoch {best['epoch']:.0f}",
        )
    axes.set_xlabel("epoch")
    axes.set_ylabel("loss")
    axes.set_title(title, loc="left", fontsize=11)
    axes.legend(frameon=False, fontsize=8)
    tidy(axes)
    return figure


def predicted_against_measured(
    measured: ArrayLike, predicted: ArrayLike, *, unit: str = "", title: str = "", seed: int = 0
) -> Figure:
    """Draw predicted against measured values as a density of hexagons with the diagonal.

    Parameters
    ----------
    measured, predicted
        Same shape; above 20,000 values a seeded sample is drawn and the title says so.
    unit
        Unit of both axes.
    title
        Figure title.
    seed
        Seed of the sample.
    """
    x, y = np.ravel(np.asarray(measured, dtype=float)), np.ravel(np.asarray(predicted, dtype=float))
    if x.size > _MOST_POINTS:
        chosen = np.random.default_rng(seed).choice(x.size, _MOST_POINTS, replace=False)
        title = f"{title} ({_MOST_POINTS:,} of {x.size:,} values)"
        x, y = x[chosen], y[chosen]
    figure, (axes,) = new_figure(4.6, 3.8)
    shown = axes.hexbin(x, y, gridsize=50, bins="log", mincnt=1, cmap="viridis", linewidths=0)
    limits = [min(x.min(), y.min()), max(x.max(), y.max())]
    axes.plot(limits, limits, color=COLOURS[5], linewidth=1)
    figure.colorbar(shown, ax=axes, label="values")
    axes.set_xlabel(f"measured {unit}".strip())
    axes.set_ylabel(f"predicted {unit}".strip())
    axes.set_title(title, loc="left", fontsize=11)
    tidy(axes)
    return figure


def precision_recall(scores: Mapping[str, ArrayLike], truth: ArrayLike, *, title: str = "") -> Figure:
    """Draw precision against recall for several scorings of the same candidates.

    Parameters
    ----------
    scores
        Scores by name, each shape (n,), higher is more likely true.
    truth
        Shape (n,), bool: which candidates are true.
    title
        Figure title.

    Notes
    -----
    The area in the legend is average precision (scikit-learn's ``average_precision_score``, no interpolation).

    Examples
    --------
    >>> figure = precision_recall({"distance": [3, 2, 1]}, [True, False, True])
    """
    from sklearn.metrics import average_precision_score, precision_recall_curve

    truth = np.asarray(truth, dtype=bool)
    figure, (axes,) = new_figure(6.4, 3.8)
    for name, colour in colour_of(scores).items():
        values = np.asarray(scores[name], dtype=float)
        precision, recall, _ = precision_recall_curve(truth, values)
        area = average_precision_score(truth, values)
        axes.plot(recall, precision, color=colour, linewidth=1.6, drawstyle="steps-post", label=f"{name}: {area:.3f}")
    axes.axhline(truth.mean(), color=GREY, linestyle="--", linewidth=1, label=f"chance: {truth.mean():.3f}")
    axes.set(xlabel="recall", ylabel="precision", xlim=(0, 1), ylim=(0, 1.02))
    axes.set_title(title, loc="left", fontsize=11)
    legend = axes.legend(frameon=False, fontsize=8, loc="upper left", bbox_to_anchor=(1.0, 1.0))
    legend.set_title("area under the curve")
    legend.get_title().set_fontsize(8)
    tidy(axes)
    return figure

"""Shared look of all figures, and writing them."""

from __future__ import annotations

import io
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from heteromics.errors import DataError, some

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

# Okabe & Ito, "Color Universal Design" (2008): eight colours that stay apart under colour blindness.
COLOURS = ("#0072B2", "#E69F00", "#009E73", "#CC79A7", "#56B4E9", "#D55E00", "#F0E442", "#000000")
GREY = "#8A8A8A"
FORMATS = ("png", "svg")


def new_figure(
    width: float, height: float, columns: int = 1, heights: Sequence[float] = (1.0,)
) -> tuple[Figure, list[Axes]]:
    """Return an empty figure (inches) and its axes row by row, without touching pyplot's global state.

    ``heights`` are those of the rows, in proportion.

    A notebook shows it as the last value of a cell; pyplot need not be imported for that.
    """
    from matplotlib.figure import Figure

    class Shown(Figure):
        def _repr_png_(self) -> bytes:
            image = io.BytesIO()
            self.savefig(image, format="png", bbox_inches="tight", dpi=80)
            return image.getvalue()

    figure = Shown(figsize=(width, height), layout="constrained", dpi=150)
    axes = figure.subplots(len(heights), columns, squeeze=False, height_ratios=list(heights))
    return figure, list(axes.ravel())


def tidy(axes: Axes) -> None:
    """Remove the box and soften the grid."""
    axes.spines[["top", "right"]].set_visible(False)
    axes.set_axisbelow(True)


def colour_of(names: Iterable[str]) -> dict[str, str]:
    """Give each name a colour, in order of first appearance."""
    unique = dict.fromkeys(names)
    return {name: COLOURS[index % len(COLOURS)] for index, name in enumerate(unique)}


def need(
    table: pd.DataFrame, columns: Iterable[str], figure: str, *, row: str = "row", numeric: Iterable[str] = ()
) -> None:
    """Make sure that a table has rows, the columns a figure draws, and finite numbers where they are drawn.

    Raises
    ------
    DataError
        Names the figure, what was found and what it draws; ``row`` is what the figure calls a row.
    """
    wanted = sorted({*columns, *numeric})
    if table.empty or set(wanted) - set(table.columns):
        found = ", ".join(map(str, table.columns)) or "none"
        raise DataError(
            f"{figure}: found {len(table)} {row}s with columns {found}; expected at least one {row} with "
            f"{', '.join(wanted)}."
        )
    for name in numeric:
        bad = table.index[~np.isfinite(table[name].to_numpy(float))]
        if len(bad):
            raise DataError(
                f"{figure}: {len(bad)} of {len(table)} {row}s have no finite '{name}': {some(bad)}. "
                f"Fix: drop them, and say how many."
            )


def save_figure(figure: Figure, folder: Path | str, name: str) -> list[Path]:
    """Write ``name.png`` and ``name.svg`` into ``folder`` and return their paths.

    The SVG carries no date and no random names, so that the same figure is the same file.
    """
    import matplotlib as mpl

    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    paths = [folder / f"{name}.{ending}" for ending in FORMATS]
    with mpl.rc_context({"svg.hashsalt": "heteromics"}):
        for path in paths:
            figure.savefig(path, metadata={"Date": None} if path.suffix == ".svg" else None)
    return paths

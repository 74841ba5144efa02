"""Which cells of the data a builder looks at: those that source ``summary_cells`` names (training cells), or all."""

from __future__ import annotations

from typing import TYPE_CHECKING

from heteromics.errors import DataError, RecipeError, some
from heteromics.priors._files import text_lines

if TYPE_CHECKING:
    from heteromics.priors.tables import BuildContext, Source

DATA, FAMILY, CELLS = "summary_data", "summary_data_*", "summary_cells"


def data_sources(context: BuildContext) -> list[Source]:
    """Return the files that hold cells."""
    return [context.source(DATA), *context.family(FAMILY).values()]


def named_cells(context: BuildContext, seen: set[str], step: str, *, all_cells: bool) -> set[str] | None:
    """Return the names of the cells to look at, None for all.

    Parameters
    ----------
    context
        The build so far.
    seen
        Names of the cells of all files.
    step
        Where ``all_cells`` is set in the recipe, for messages.
    all_cells
        Look at all cells.

    Raises
    ------
    RecipeError
        When cells are named and all are asked for at once.
    DataError
        When no cell is named, or one that no file has.
    """
    if all_cells and context.has_source(CELLS):
        raise RecipeError(f"{step}: all_cells is set, and source summary_cells names some. Fix: give one of them.")
    if all_cells:
        return None
    source = context.source(CELLS)
    named = {line.strip() for _, line in text_lines(source.path) if line.strip()}
    if not named:
        raise DataError(f"{source.label}: no cell in it. Expected the names of the training cells, one a line.")
    if unknown := sorted(named - seen):
        raise DataError(
            f"{source.label}: {len(unknown):,} of {len(named):,} names are no cell of the data: {some(unknown)}.\n"
            f"  cells: {some(sorted(seen))}\n  Fix: name training cells as the data spell them, one a line."
        )
    return named

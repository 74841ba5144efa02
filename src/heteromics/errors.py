"""Every error that heteromics raises on purpose, in one small family under :class:`HeteromicsError`.

A message says what was found, what was expected, how many, and the fix. An error is raised where its cause is known;
the command line prints the message alone and leaves with a non-zero status.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Sequence


class HeteromicsError(Exception):
    """Base of all errors raised on purpose."""


class DataError(HeteromicsError, ValueError):
    """User data that cannot be used as they are."""


class NotCounts(DataError):
    """Values that should be counts are negative, not finite or not whole numbers."""


class DuplicateNames(DataError):
    """Names that must be unique are not."""


class EmptyCells(DataError):
    """Cells without a single non-zero value where each needs one."""


class MissingModality(DataError):
    """A modality that was asked for is not in the file."""


class MissingLayer(DataError):
    """A layer, column or slot that was asked for is not there."""


class UnreadableFile(DataError):
    """A file that is truncated, of another format, or broken at a named line."""


class FetchError(HeteromicsError):
    """An item of the manifest could not be had."""


class ChecksumMismatch(FetchError):
    """Bytes that are not those the manifest promises."""


class RecipeError(HeteromicsError, ValueError):
    """A recipe, manifest or configuration with an unknown key or an impossible value."""


class PriorError(HeteromicsError, ValueError):
    """Prior sources that do not fit together."""


class ChromNamesDisagree(PriorError):
    """Two sources have no chromosome name in common."""


class BeyondChromosome(PriorError):
    """Intervals that end beyond their chromosome: likely another assembly."""


class WrongAssembly(PriorError):
    """Sources that are of another assembly than the one the recipe names."""


class StoreError(HeteromicsError, OSError):
    """A prior store that is missing, incomplete, of another version or held by a writer."""


class GraphError(HeteromicsError, ValueError):
    """A graph that does not hold together; carries all problems at once in ``problems``."""

    def __init__(self, message: str, problems: Sequence[str] = ()) -> None:
        super().__init__(message)
        self.problems = tuple(problems)


class ModelError(HeteromicsError, ValueError):
    """A model used before fitting, or with a graph or file it cannot use."""


class FeaturesDiffer(ModelError):
    """A model meets other features than those it was trained on."""


def some(names: Iterable[object], most: int = 3) -> str:
    """Show the first few names and how many there are, for a message.

    Examples
    --------
    >>> some(["a", "b", "c", "d"])
    'a, b, c ... (4 in all)'
    >>> some(["a"])
    'a'
    """
    listed = [str(name) for name in names]
    shown = ", ".join(listed[:most])
    return shown if len(listed) <= most else f"{shown} ... ({len(listed)} in all)"


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """Offer the nearest known name, for a message, with a blank before the next sentence; empty where none is near.

    Examples
    --------
    >>> did_you_mean("within", ["within_bp", "decay"])
    "Did you mean 'within_bp'? "
    >>> did_you_mean("x", ["within_bp", "decay"])
    ''
    """
    near = difflib.get_close_matches(name, list(known), n=1, cutoff=0.5)
    return f"Did you mean '{near[0]}'? " if near else ""

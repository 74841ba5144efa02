"""Progress on stderr with time left, for anything that may take more than two seconds."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import TypeVar

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

T = TypeVar("T")

stderr = Console(stderr=True)


def bar(*, enabled: bool = True) -> Progress:
    """Return a progress display on stderr; silent when ``enabled`` is false or stderr is no terminal."""
    return Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
        console=stderr,
        transient=True,
        disable=not (enabled and stderr.is_terminal),
    )


def track(items: Iterable[T], description: str, total: int | None = None, *, enabled: bool = True) -> Iterator[T]:
    """Yield from ``items`` while a bar shows how many are done and the time left.

    Examples
    --------
    >>> list(track(range(3), "counting"))
    [0, 1, 2]
    """
    with bar(enabled=enabled) as progress:
        yield from progress.track(items, total=total, description=description)


@contextmanager
def steps(total: int, description: str, *, enabled: bool = True) -> Iterator[Steps]:
    """Open a bar for ``total`` named steps; call the yielded object with the name of each step as it begins."""
    with bar(enabled=enabled) as progress:
        yield Steps(progress, total, description)


class Steps:
    """Counts named steps on one progress bar, with words on the step and a second bar for the items it goes through."""

    def __init__(self, progress: Progress, total: int, description: str) -> None:
        self._progress, self._description, self._begun, self._name = progress, description, 0, ""
        self._task = progress.add_task(description, total=total)

    def __call__(self, name: str) -> None:
        """Begin the step called ``name``; all earlier ones count as done."""
        self._name = name
        self._progress.update(self._task, completed=self._begun, description=f"{self._description}: {name}")
        self._begun += 1

    def say(self, text: str) -> None:
        """Say in a few words what the present step is at."""
        self._progress.update(self._task, description=f"{self._description}: {self._name}, {text}")

    def track(self, items: Iterable[T], description: str, total: int | None = None) -> Iterator[T]:
        """Yield from ``items`` while a bar below that of the steps shows how many are done.

        Examples
        --------
        >>> with steps(1, "work") as step:
        ...     step("counting")
        ...     list(step.track(range(3), "numbers"))
        [0, 1, 2]
        """
        task = self._progress.add_task(f"  {description}", total=total)
        try:
            yield from self._progress.track(items, total=total, task_id=task)
        finally:
            self._progress.remove_task(task)

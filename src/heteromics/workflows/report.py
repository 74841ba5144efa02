"""One self-contained HTML page: text, tables and figures, nothing loaded from elsewhere.

Jinja2 renders it (autoescaping, and torch installs it anyway); figures are inlined as SVG.
"""

from __future__ import annotations

import io
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from heteromics._files import write_text

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure


@dataclass(frozen=True, slots=True)
class Table:
    """A table as strings; ``best`` is the row to stress."""

    caption: str
    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    numeric: frozenset[str] = frozenset()
    best: int | None = None


@dataclass(frozen=True, slots=True)
class Picture:
    """A figure as inline SVG with its caption."""

    svg: str
    caption: str


@dataclass(frozen=True, slots=True)
class Detail:
    """A folded block of preformatted text."""

    title: str
    text: str


@dataclass(frozen=True, slots=True)
class Section:
    """One part of the page."""

    title: str
    paragraphs: Sequence[str] = ()
    notes: Sequence[str] = ()
    tables: Sequence[Table] = ()
    figures: Sequence[Picture] = ()
    details: Sequence[Detail] = field(default=())


def table(frame: pd.DataFrame, caption: str, *, digits: int = 3, best: int | None = None) -> Table:
    """Turn a data frame into a report table; numbers are rounded to ``digits`` and thousands separated.

    Examples
    --------
    >>> import pandas as pd
    >>> table(pd.DataFrame({"model": ["a"], "n": [1234], "RMSE": [0.12345]}), "Results").rows
    (('a', '1,234', '0.123'),)
    """
    from pandas.api.types import is_numeric_dtype

    numeric = frozenset(str(column) for column in frame.columns if is_numeric_dtype(frame[column]))
    rows = tuple(tuple(_cell(value, digits) for value in row) for row in frame.itertuples(index=False))
    return Table(caption, tuple(map(str, frame.columns)), rows, numeric, best)


def _cell(value: object, digits: int) -> str:
    if isinstance(value, float):
        return "–" if value != value else f"{value:,.{digits}f}"
    if isinstance(value, int) and not isinstance(value, bool):
        return f"{value:,}"
    return str(value)


def picture(figure: Figure, caption: str) -> Picture:
    """Inline a matplotlib figure; ids are made unique so that several can stand on one page."""
    import matplotlib as mpl

    buffer = io.StringIO()
    with mpl.rc_context({"svg.hashsalt": caption}):
        figure.savefig(buffer, format="svg", metadata={"Date": None})
    svg = buffer.getvalue()
    svg = svg[svg.index("<svg") :]
    return Picture(re.sub(r"<metadata>.*?</metadata>", "", svg, flags=re.DOTALL), caption)


def write_report(path: Path | str, title: str, subtitle: str, sections: Sequence[Section]) -> Path:
    """Render the page to ``path`` (written beside it first, then renamed) and return the path."""
    from jinja2 import Environment, PackageLoader, StrictUndefined

    environment = Environment(
        loader=PackageLoader("heteromics.workflows", "."), autoescape=True, undefined=StrictUndefined, trim_blocks=True
    )
    html = environment.get_template("report.html.j2").render(title=title, subtitle=subtitle, sections=sections)
    path = Path(path)
    write_text(path, html)
    return path

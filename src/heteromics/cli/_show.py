"""Printing for the command line: tables for people, JSON for machines, results on stdout."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.table import Table
from rich.text import Text

PIPED_WIDTH = 400
stdout = Console(width=None if sys.stdout.isatty() else PIPED_WIDTH)

Json = Annotated[bool, typer.Option("--json", help="Print one JSON object for scripts instead of a table.")]
Sets = Annotated[
    list[str] | None,
    typer.Option(
        "--set", metavar="KEY=VALUE", help="Change one setting; give it again for more. Dots reach into groups."
    ),
]


def show_json(value: Any) -> None:
    """Print ``value`` as JSON; paths, NumPy scalars and dates become plain values."""
    typer.echo(json.dumps(value, indent=2, default=_plain))


def _plain(value: Any) -> Any:
    if hasattr(value, "item"):
        return value.item()
    if hasattr(value, "tolist"):
        return value.tolist()
    return str(value) if isinstance(value, Path) or hasattr(value, "isoformat") else repr(value)


def show_table(rows: Sequence[Mapping[Any, Any]], title: str = "", columns: Sequence[str] | None = None) -> None:
    """Print mappings with the same keys as a table; numbers stand right, whole ones with thousands separated."""
    names = list(columns or (rows[0] if rows else ()))
    if title:  # above the table, for rich would fold it to the table's width
        stdout.print(Text(title, style="italic"), soft_wrap=True)
    shown = Table(box=None, pad_edge=False, header_style="bold")
    for place, name in enumerate(names):
        numeric = all(isinstance(row.get(name), int | float) for row in rows)
        shown.add_column(name, justify="right" if numeric else "left", overflow="fold", no_wrap=place == 0 or numeric)
    for row in rows:
        shown.add_row(*(Text(_cell(row.get(name))) for name in names))
    stdout.print(shown)


def _cell(value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return f"{value:,.4g}"
    if isinstance(value, int):
        return f"{value:,}"
    if isinstance(value, str) or not isinstance(value, Iterable):
        return str(value)
    return ", ".join(map(str, value))


def show_mapping(values: Mapping[str, Any], title: str = "") -> None:
    """Print names and values, one a line."""
    show_table([{"": name, "value": _cell(value)} for name, value in values.items()], title)

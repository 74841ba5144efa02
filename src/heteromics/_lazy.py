"""Packages whose names are loaded when they are first used, so that a room can be entered without all its libraries."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Mapping
from typing import Any


def on_first_use(package: str, home: Mapping[str, str]) -> tuple[Callable[[str], Any], Callable[[], list[str]]]:
    """Return the ``__getattr__`` and ``__dir__`` of a package (PEP 562).

    Parameters
    ----------
    package
        Its ``__name__``.
    home
        By public name, the module of the package that has it.

    Examples
    --------
    >>> load, names = on_first_use("heteromics.data", {"canonical": "_modality"})
    >>> load("canonical")("GEX"), names()
    ('rna', ['canonical'])
    >>> load("read")
    Traceback (most recent call last):
        ...
    AttributeError: module 'heteromics.data' has no attribute 'read'
    """

    def load(name: str) -> Any:
        if name in home:
            return getattr(importlib.import_module(f"{package}.{home[name]}"), name)
        raise AttributeError(f"module {package!r} has no attribute {name!r}")

    return load, lambda: sorted(home)

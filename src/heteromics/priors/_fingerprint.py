"""When two runs of a builder give the same tables: equal settings, sources, code, and equal steps it builds on."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping
from functools import cache
from pathlib import Path
from typing import Any

import heteromics
from heteromics._config import as_dict
from heteromics.errors import PriorError
from heteromics.priors._former import CHROMOSOME
from heteromics.priors.known_sources import belongs
from heteromics.priors.recipe import Recipe
from heteromics.priors.registry import Builder
from heteromics.priors.sources import SIZES
from heteromics.priors.tables import FORMAT_VERSION, Source, TableConfig


def fingerprints(recipe: Recipe, source: Callable[[str], Source | None]) -> dict[str, str]:
    """Return the fingerprint of every step of a recipe, by builder key and in order, the chromosomes first.

    Parameters
    ----------
    recipe
        The recipe.
    source
        Gives the file of a source; None where it is not known yet, which leaves the fingerprints that depend on it
        empty, equal to none.
    """
    sizes = _identity(source(SIZES))
    common: dict[str, Any] = {
        "format": FORMAT_VERSION,
        "version": heteromics.__version__,
        "code": code_hash(),
        "assembly": recipe.assembly,
        "chrom_style": recipe.chrom_style,
        "sizes": sizes,
    }
    found = {CHROMOSOME: _hash(common) if sizes else ""}
    after = earlier(recipe)
    for builder, config in recipe.steps:
        read = {name: _identity(source(name)) for name in sorted(recipe.read_by(builder, config))}
        before = {key: found[key] for key in after[builder.key]}
        known = all(read.values()) and all(before.values())
        settings = {"builder": builder.key, "config": as_dict(config), "sources": read, "after": before}
        found[builder.key] = _hash(settings) if known else ""
    return found


def earlier(recipe: Recipe) -> dict[str, tuple[str, ...]]:
    """Return, by builder key, the steps whose tables it may look at."""
    makers: dict[str, list[str]] = {CHROMOSOME: [CHROMOSOME]}
    after = {}
    for builder, _ in recipe.steps:
        keys = [key for table in (CHROMOSOME, *builder.uses) for key in makers.get(table, ())]
        after[builder.key] = tuple(dict.fromkeys(keys))
        for table in builder.makes:
            makers.setdefault(table, []).append(builder.key)
    return after


def permit(builder: Builder, config: TableConfig) -> Callable[[str, str], None]:
    """Return a check that raises when a builder reads what it does not declare, of which no fingerprint would know."""

    def check(kind: str, name: str) -> None:
        if kind == "source" and not _declared(builder, config, name):
            raise PriorError(
                f"builder {builder.key} reads source {name}, which it does not declare.\n"
                f"  Fix: name it in source_names of its configuration, or in may_read of its line in the registry."
            )
        if kind == "table" and name in _tables() and name not in {CHROMOSOME, *builder.uses}:
            raise PriorError(
                f"builder {builder.key} reads table {name}, which it does not declare.\n"
                f"  Fix: name it in needs or may_use of its line in the registry."
            )

    return check


def _declared(builder: Builder, config: TableConfig, name: str) -> bool:
    patterns = (*config.source_names(), *builder.may_read, *builder.may_share)
    return any(name == pattern or belongs(name, pattern) for pattern in patterns)


@cache
def _tables() -> frozenset[str]:
    from heteromics.priors.schemas import SCHEMAS

    return frozenset(SCHEMAS)


def _identity(source: Source | None) -> list[str] | None:
    return [source.label, source.sha256, source.version, source.licence] if source else None


@cache
def code_hash() -> str:
    """Return the SHA-256 of the code that makes tables or reads their data, whose tables a change makes anew."""
    folder, digest = Path(heteromics.__file__).parent, hashlib.sha256()
    for path in sorted([*(folder / "priors").rglob("*"), *(folder / "data").rglob("*")]):
        if path.is_file() and "__pycache__" not in path.parts:
            digest.update(f"{path.relative_to(folder)}\0".encode() + hashlib.sha256(path.read_bytes()).digest())
    return digest.hexdigest()


def _hash(value: Mapping[str, Any]) -> str:
    canonical = json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    return hashlib.sha256(canonical.encode()).hexdigest()

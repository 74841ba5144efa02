"""A prior recipe: one short YAML that says which tables are built from which sources with which parameters.

.. code-block:: yaml

    recipe: 1
    assembly: {name: GRCh38, sizes: manifest:grch38_sizes/hg38.chrom.sizes, chrom_style: ucsc}
    sources:
      gtf: manifest:gencode_human_v46/gencode.v46.annotation.gtf.gz
      peaks: "required: --set source.peaks=FILE, a BED or the .h5ad/.h5mu of your data"
    nodes:
      gene: {strip_version: true}
      peak: {}
    edges:
      gene_peak: {within_bp: 150_000}

A source is ``manifest:ITEM/FILE``, a file name (looked up in ``sources.folder`` if that is given, else beside the
recipe), or ``required:`` with words on how to give it. ``--set source.gtf=FILE``, ``--set source.sizes=FILE`` and
``--set source.folder=DIR`` give them from outside, relative to the working directory. Of a family as many as there are
may be given, each under a name of its own: ``source.regions_ccre=FILE``, ``source.regions_enhancer=FILE``.

Tables not named, or set to ``false``, are not built; ``true`` or ``{}`` builds with all defaults. Some that cost little
are built by default once the tables they need are there.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import yaml

from heteromics._config import as_dict, build, override, read_yaml, unknown_key
from heteromics._resources import recipe_path
from heteromics.errors import RecipeError
from heteromics.priors.assembly import Style
from heteromics.priors.known_sources import belongs
from heteromics.priors.registry import BUILDERS, SECTIONS, Builder
from heteromics.priors.sources import SIZES, Location, normalise_sets, parse_locations
from heteromics.priors.tables import TableConfig


@dataclass(frozen=True, slots=True)
class Assembly:
    """Recipe keys of ``assembly``: its name, the file of chromosome sizes, and the style of all names in the store."""

    name: str
    sizes: str
    chrom_style: Style = "ucsc"


@dataclass(frozen=True, slots=True)
class _Document:
    recipe: Literal[1]
    assembly: Assembly
    sources: dict[str, str | None] = field(default_factory=dict)
    nodes: dict[str, Any] = field(default_factory=dict)
    edges: dict[str, Any] = field(default_factory=dict)
    attributes: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Recipe:
    """A checked recipe.

    Attributes
    ----------
    name
        File name without suffix.
    assembly, chrom_style
        Name of the assembly, and name style of its chromosomes in the store.
    sources
        Where each source is, by name; ``sizes`` among them.
    steps
        The builders to run, in order, each with its configuration.
    """

    name: str
    assembly: str
    chrom_style: Style
    sources: dict[str, Location]
    steps: tuple[tuple[Builder, TableConfig], ...]

    @property
    def needed(self) -> tuple[str, ...]:
        """Names of the sources that must be given, in the order they are read."""
        names = [SIZES, *(name for _, config in self.steps for name in config.source_names())]
        return tuple(dict.fromkeys(names))

    @property
    def used(self) -> tuple[str, ...]:
        """Names of the sources the build will read: those needed, and optional ones that are given."""
        optional = [name for builder, _ in self.steps for name in self._given(builder.may_read)]
        beside = [name for builder, _ in self.steps for name in self._given(builder.may_share)]
        here = [name for name in beside if self.sources[name].kind == "path"]
        return tuple(dict.fromkeys([*self.needed, *optional, *here]))

    def read_by(self, builder: Builder, config: TableConfig) -> tuple[str, ...]:
        """Names of the sources that one step will read; those that are still to be given are left out."""
        shared = [name for name in self._given(builder.may_share) if name in self.used]
        named = dict.fromkeys([*self._given((*config.source_names(), *builder.may_read)), *shared])
        return tuple(name for name in named if self.sources[name].kind != "required")

    def _given(self, patterns: Sequence[str]) -> list[str]:
        """Return the sources of the recipe that have one of these names, or are of one of these families."""
        return [
            name for pattern in patterns for name in sorted(self.sources) if name == pattern or belongs(name, pattern)
        ]

    def as_dict(self) -> dict[str, Any]:
        """Return the recipe with all defaults filled in; files by manifest name or file name, without folders.

        What would run by default and does not is ``False``, so that a build of this recipe makes the same tables.
        """
        labels = {name: location.label for name, location in self.sources.items() if location.kind != "required"}
        resolved: dict[str, Any] = {
            "recipe": 1,
            "assembly": {"name": self.assembly, "sizes": labels.pop(SIZES, ""), "chrom_style": self.chrom_style},
            "sources": labels,
        }
        resolved |= {section: {} for section in SECTIONS}
        configs = {builder.key: as_dict(config) for builder, config in self.steps}
        for builder in BUILDERS:
            if builder.by_default or builder.key in configs:
                resolved[builder.section][builder.name] = configs.get(builder.key, False)
        return resolved

    def as_yaml(self) -> str:
        """Return :meth:`as_dict` as YAML."""
        return yaml.safe_dump(self.as_dict(), sort_keys=False, allow_unicode=True)

    @property
    def hash(self) -> str:
        """SHA-256 of the resolved recipe as canonical JSON; where the files lie does not change it."""
        canonical = json.dumps(self.as_dict(), sort_keys=True, separators=(",", ":"), ensure_ascii=False)
        return hashlib.sha256(canonical.encode()).hexdigest()


def load_recipe(recipe: str | Path, sets: Sequence[str] = ()) -> Recipe:
    """Read a recipe by its shipped name (``demo``) or path, with ``key=value`` assignments applied.

    Raises
    ------
    RecipeError
        For an unknown key (the nearest is offered), an impossible value, or a table whose node tables are not built.

    Examples
    --------
    >>> recipe = load_recipe("mouse_grcm38", ["edges.gene_peak.within_bp=50_000"])
    >>> recipe.assembly, recipe.needed[:2]
    ('GRCm38', ('sizes', 'gtf'))
    """
    path = recipe_path("priors", recipe)
    document = build(_Document, override(read_yaml(path), normalise_sets(sets)), path.name)
    given = {SIZES: document.assembly.sizes, **document.sources}
    if SIZES in document.sources:
        raise RecipeError(
            f"{path.name}.sources: chromosome sizes stand below assembly. Fix: `assembly: {{sizes: ...}}`."
        )
    return Recipe(
        name=path.stem,
        assembly=document.assembly.name,
        chrom_style=document.assembly.chrom_style,
        sources=parse_locations(given, path.parent.absolute(), path.name),
        steps=_steps(document, path.name),
    )


def _steps(document: _Document, where: str) -> tuple[tuple[Builder, TableConfig], ...]:
    steps, made = [], {"chromosome"}
    for section in SECTIONS:
        known = [builder.name for builder in BUILDERS if builder.section == section]
        for name in getattr(document, section):
            if name not in known:
                raise unknown_key(name, known, f"{where}.{section}")
    for builder in BUILDERS:
        section = getattr(document, builder.section)
        implied = builder.by_default and made.issuperset(builder.needs)
        given = section.get(builder.name, implied)
        if given is False:
            continue
        absent = [table for table in builder.needs if table not in made]
        if absent:
            raise RecipeError(
                f"{where}.{builder.key} needs table {', '.join(absent)}, which the recipe does not build. "
                f"Fix: add {' or '.join(_makers(absent[0]))}."
            )
        config: TableConfig = build(
            builder.config, {} if given is None or given is True else given, f"{where}.{builder.key}"
        )
        steps.append((builder, config))
        made.update(builder.makes)
    if not steps:
        raise RecipeError(f"{where} names no table. Fix: add for example `nodes: {{gene: {{}}}}`.")
    return tuple(steps)


def _makers(table: str) -> list[str]:
    """Return what in a recipe builds a table."""
    return [f"`{builder.section}: {{{builder.name}: {{}}}}`" for builder in BUILDERS if table in builder.makes]

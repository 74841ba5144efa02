"""Builder of table ``gene_alias``: other names of genes, from the files that list them."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import pyarrow as pa

from heteromics.errors import RecipeError
from heteromics.priors.alias_table import Aliases, alias_rows
from heteromics.priors.aliases import Listed, read_names, read_string_names
from heteromics.priors.gene_names import KINDS
from heteromics.priors.identifiers import named_genes
from heteromics.priors.tables import Built, Source

if TYPE_CHECKING:
    from heteromics.priors.planning import Estimated, PlanContext
    from heteromics.priors.tables import BuildContext


@dataclass(frozen=True, slots=True)
class IdentifierConfig:
    """Recipe keys of ``nodes.identifiers``.

    Attributes
    ----------
    columns
        For source ``aliases_NAME`` that is no known file: ``NAME: [column of the gene, column of its other name]``,
        and the kind of that name as third, such as ``previous_symbol``; left out, ``alias``.
    string_aliases
        Whether the names in source ``string_aliases`` count too.
    taxon
        NCBI taxon whose lines of NCBI ``gene_info`` count: 9606 for human, 10090 for mouse; needed where a file holds
        several.
    """

    columns: dict[str, tuple[str, ...]] = field(default_factory=dict)
    string_aliases: bool = True
    taxon: int | None = None

    def __post_init__(self) -> None:
        for name, chosen in self.columns.items():
            if not 2 <= len(chosen) <= 3:
                raise ValueError(f"columns of {name}: found {len(chosen)} entries, expected [gene, other name, kind].")
            if len(chosen) == 3 and chosen[2] not in KINDS:
                raise ValueError(f"columns of {name}: found kind {chosen[2]!r}, expected one of {', '.join(KINDS)}.")

    def source_names(self) -> tuple[str, ...]:
        """No source is needed; those that are given are read."""
        return ()


def build_identifiers(context: BuildContext, config: IdentifierConfig) -> Built:
    """Build table ``gene_alias`` from sources ``aliases_*`` and ``string_aliases``; without any, nothing.

    Raises
    ------
    UnreadableFile
        As :func:`heteromics.priors.aliases.read_names`.
    RecipeError
        When ``columns`` names a source that is not given.
    """
    sources = _sources(context, config)
    if not sources:
        return Built({})
    gene_id, symbol = named_genes(context.query)
    listed = {source.label: _listed(name, source, config) for name, source in sources.items()}
    aliases = alias_rows(listed, gene_id, symbol)
    return Built(
        {"gene_alias": _table(aliases, gene_id)},
        {"gene_alias": list(sources.values())},
        {"gene_alias": aliases.matches},
        {"gene_alias": aliases.counts},
    )


def _sources(context: BuildContext, config: IdentifierConfig) -> dict[str, Source]:
    given = context.family("aliases_*")
    if unknown := [name for name in config.columns if name not in given]:
        raise RecipeError(
            f"nodes.identifiers.columns: found {', '.join(unknown)}, expected some of the sources aliases_* that are "
            f"given: {', '.join(given) or 'none'}. Fix: --set source.aliases_{unknown[0]}=FILE."
        )
    if config.string_aliases and context.has_source("string_aliases"):
        given["string_aliases"] = context.source("string_aliases")
    return given


def _listed(name: str, source: Source, config: IdentifierConfig) -> Listed:
    if name == "string_aliases":
        return read_string_names(source.path)
    return read_names(source.path, config.columns.get(name, ()), config.taxon)


def _table(aliases: Aliases, gene_id: list[str]) -> pa.Table:
    columns = list(zip(*aliases.rows, strict=True)) or [()] * 4
    rows, names, kinds, sources = columns
    values = ([gene_id[row] for row in rows], names, kinds, sources)
    return pa.table(
        {
            column: pa.array(list(listed), pa.string())
            for column, listed in zip(("gene_id", "alias", "kind", "source"), values, strict=True)
        }
    )


def estimate_identifiers(plan: PlanContext, config: IdentifierConfig) -> Estimated:
    """Estimate the number of other names: four for each line of an alias file, one for four lines of STRING's."""
    shares = dict.fromkeys(plan.family("aliases_*"), 4.0)
    if config.string_aliases and "string_aliases" in plan.family("string_*"):
        shares["string_aliases"] = 0.25
    counts = {name: plan.count(name, len) for name in shares}
    known = [round(n * shares[name]) for name, n in counts.items() if n is not None]
    return {"gene_alias": sum(known) if len(known) == len(counts) else None} if counts else {}

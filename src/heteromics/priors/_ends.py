"""What the names at the ends of an edge list mean, and what the match report says of them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from numpy.typing import NDArray

from heteromics.errors import PriorError, RecipeError, some
from heteromics.priors.identifiers import join_genes
from heteromics.priors.tables import Count, Match, Source

if TYPE_CHECKING:
    from heteromics.priors.tables import BuildContext

Ints = NDArray[np.int64]


class Ends(NamedTuple):
    """Genes that the names of an edge list mean.

    ``gene_id``: genes met, sorted, (G,); ``rows``: by role, for each name the row in ``gene_id`` or -1;
    ``matches`` and ``counts``: of names, each once per role, under the label of the source and the role.
    """

    gene_id: list[str]
    rows: dict[str, Ints]
    matches: list[Match]
    counts: list[Count]


def join_ends(context: BuildContext, source: Source, names: Mapping[str, Sequence[str]]) -> Ends:
    """Find the gene each name means.

    Parameters
    ----------
    context
        The build so far; table ``gene`` must be there.
    source
        The file the names are from.
    names
        Names by role (``TFs``, ``targets``), as often as they are listed.
    """
    unique = {role: list(dict.fromkeys(listed)) for role, listed in names.items()}
    asked = list(dict.fromkeys(name for listed in unique.values() for name in listed))
    joined = join_genes(context, asked)
    said = dict(zip(asked, zip(*joined, strict=True), strict=True))
    gene_id = sorted({gene for gene in joined.gene_id if gene is not None})
    row_of = {gene: row for row, gene in enumerate(gene_id)}
    row_of_name = {name: -1 if gene is None else row_of[gene] for name, (gene, _, _) in said.items()}
    rows = {role: np.array([row_of_name[name] for name in listed], np.int64) for role, listed in names.items()}
    matches, counts = [], []
    for role, listed in unique.items():
        label = f"{source.label}, {role}"
        found = [Match(label, name, *said[name][1:]) for name in listed]
        matches += [match for match in found if match.outcome != "matched"]
        counts += tally(label, (match.outcome for match in found))
    return Ends(gene_id, rows, matches, counts)


def nothing_linked(source: Source, names: Iterable[str]) -> PriorError:
    """Return the error for a list of edges none of which has a gene at each end."""
    return PriorError(
        f"{source.label}: no line has a gene of table gene at both ends.\n  names: {some(dict.fromkeys(names))}\n"
        "  Fix: give files of one organism, with symbols or Ensembl ids as names."
    )


def tally(label: str, outcomes: Iterable[str]) -> list[Count]:
    """Count outcomes, ordered by name."""
    return [Count(label, outcome, n) for outcome, n in sorted(Counter(outcomes).items())]


def members_of(context: BuildContext, pattern: str, builder: str) -> dict[str, Source]:
    """Return the given sources of a family.

    Raises
    ------
    RecipeError
        When none is given.
    """
    given = context.family(pattern)
    if not given:
        raise RecipeError(
            f"{builder} has nothing to read: found no source {pattern}, expected one or more. "
            f"Fix: --set source.{pattern.replace('*', 'NAME')}=FILE, or take {builder} out of the recipe."
        )
    return given

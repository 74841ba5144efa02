"""Binding motifs and the transcription factors that bind them, from a file or from a release of JASPAR.

JASPAR is read with pyjaspar, whose package holds all releases since 2014 as SQLite files: it works offline, and the
release is stated in the recipe.
"""

from __future__ import annotations

import warnings
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from heteromics.errors import PriorError, some
from heteromics.priors.identifiers import join_genes
from heteromics.priors.motif_files import Factor, Motif, factor_names, read_factors, read_motifs
from heteromics.priors.sources import checksum
from heteromics.priors.tables import Built, Count, Match, Source

if TYPE_CHECKING:
    from heteromics.priors.planning import Estimated, PlanContext
    from heteromics.priors.tables import BuildContext

Floats = npt.NDArray[np.float64]

_IUPAC = {
    **dict(zip(("A", "C", "G", "T"), "ACGT", strict=True)),
    **dict(zip(("AC", "AG", "AT", "CG", "CT", "GT"), "MRWSYK", strict=True)),
    **dict(zip(("ACG", "ACT", "AGT", "CGT"), "VHDB", strict=True)),
}


def probabilities(counts: Floats, pseudocount: float) -> Floats:
    """Return the probability of each base at each position.

    Parameters
    ----------
    counts
        Counts of A, C, G, T at each position, shape (L, 4).
    pseudocount
        Number of sites added to each position, a quarter to each base.

    Returns
    -------
    numpy.ndarray
        ``(n + pseudocount / 4) / (sum of n + pseudocount)``, shape (L, 4), as the programs of the MEME suite do it with
        an even background (option ``--motif-pseudo``).

    Examples
    --------
    >>> probabilities(np.array([[9.0, 0.0, 0.0, 0.0]]), 1.0).tolist()
    [[0.925, 0.025, 0.025, 0.025]]
    """
    return (counts + pseudocount / 4) / (counts.sum(axis=1, keepdims=True) + pseudocount)


def information(p: Floats) -> float:
    """Return the information content in bits against an even background: sum of 2 + p log2 p (Schneider et al. 1986).

    Examples
    --------
    >>> information(np.array([[1.0, 0.0, 0.0, 0.0], [0.5, 0.5, 0.0, 0.0], [0.25] * 4]))
    3.0
    """
    return float((2 + (p * np.log2(p, out=np.zeros_like(p), where=p > 0)).sum(axis=1)).sum())


def consensus(counts: Floats) -> str:
    """Return the consensus in IUPAC codes by the rules of Cavener (Nucleic Acids Res 1987).

    One base where it has more than half of the counts and more than twice those of the next; two where they have more
    than three quarters; three where the fourth has none; else N. Equal counts are taken in the order of the alphabet.

    Examples
    --------
    >>> consensus(np.array([[8.0, 1, 1, 0], [4, 0, 4, 1], [2, 1, 1, 0], [1, 1, 1, 1]]))
    'ARVN'
    """
    codes = []
    for row in counts:
        order = np.argsort(-row, kind="stable")
        most = row[order]
        if most[0] > row.sum() / 2 and most[0] > 2 * most[1]:
            bases = 1
        elif most[:2].sum() > 0.75 * row.sum():
            bases = 2
        else:
            bases = 3 if most[3] == 0 else 4
        codes.append(_IUPAC.get("".join("ACGT"[base] for base in sorted(order[:bases])), "N"))
    return "".join(codes)


@dataclass(frozen=True, slots=True)
class JasparConfig:
    """Which motifs of JASPAR.

    Attributes
    ----------
    release
        ``JASPAR2024`` or another one pyjaspar holds.
    collection
        ``CORE`` (curated, non-redundant) or another collection of the release.
    tax_groups
        Taxonomic groups, such as ``vertebrates``; empty for all.
    species
        NCBI taxa the motif was measured in, such as 9606; empty for all. Motifs are conserved: with human alone, those
        known from mouse only are lacking.
    """

    release: str = "JASPAR2024"
    collection: str = "CORE"
    tax_groups: tuple[str, ...] = ("vertebrates",)
    species: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        from pyjaspar import jaspar_releases

        if self.release not in jaspar_releases:
            raise ValueError(f"found release {self.release!r}, expected one of {', '.join(sorted(jaspar_releases))}.")


@dataclass(frozen=True, slots=True)
class MotifConfig:
    """Recipe keys of the motifs.

    Attributes
    ----------
    jaspar
        Take them from JASPAR; left out, they come from source ``motifs``.
    pseudocount
        Sites added to each position before counts become probabilities, a quarter to each base; 0.1 as in FIMO.
    """

    jaspar: JasparConfig | None = None
    pseudocount: float = 0.1

    def __post_init__(self) -> None:
        if not 0 < self.pseudocount < np.inf:
            raise ValueError(f"found pseudocount {self.pseudocount:g}, expected more than 0: log-odds need it.")

    def source_names(self) -> tuple[str, ...]:
        """Source ``motifs``, unless they come from JASPAR."""
        return () if self.jaspar else ("motifs",)


def read_jaspar(config: JasparConfig) -> tuple[list[Motif], Source]:
    """Return motifs of a release of JASPAR, ordered by id, and the file they are from.

    Raises
    ------
    PriorError
        When no motif is of this collection, these groups and species.
    """
    import pyjaspar

    path = Path(pyjaspar.__file__).parent / "data" / pyjaspar.jaspar_releases[config.release]
    database = pyjaspar.jaspardb(release=config.release)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # it warns where nothing is found, which is an error here
            found = database.fetch_motifs(
                collection=config.collection,
                tax_group=list(config.tax_groups) or None,
                species=list(config.species) or None,
            )
    finally:
        database.conn.close()
    if not found:
        raise PriorError(
            f"{config.release} has no motif of collection {config.collection!r}, tax_groups {list(config.tax_groups)} "
            f"and species {list(config.species)}. Fix: ask for others in `nodes.motif.jaspar`."
        )
    motifs = [
        Motif(one.matrix_id, one.name, np.array([one.counts[base] for base in "ACGT"], np.float64).T) for one in found
    ]
    label = f"{config.release} (pyjaspar {pyjaspar.__version__})"
    source = Source(path, checksum(path), config.release.removeprefix("JASPAR"), "CC BY 4.0", label)
    return sorted(motifs, key=lambda motif: motif.motif_id), source


class _Linked(NamedTuple):
    """Factors of motifs, the file that names them, and the names in it that fit no motif, or none that fits one."""

    factors: list[Factor]
    source: Source
    unknown: list[Match]


def build_motifs(context: BuildContext, config: MotifConfig) -> Built:
    """Build tables ``motif`` and ``motif_tf``.

    Raises
    ------
    UnreadableFile
        As :func:`~heteromics.priors.motif_files.read_motifs` and :func:`~heteromics.priors.motif_files.read_factors`.
    PriorError
        As :func:`read_jaspar`, and when source ``motif_factors`` names none of the motifs.
    """
    if config.jaspar:
        motifs, source = read_jaspar(config.jaspar)
    else:
        source = context.source("motifs")
        motifs = read_motifs(source.path)
    linked = _linked(context, motifs, source)
    names = list(dict.fromkeys(factor.name for factor in linked.factors))
    joined = join_genes(context, names)
    gene_of = dict(zip(names, joined.gene_id, strict=True))
    label = linked.source.label
    told = [
        Match(label, name, outcome, detail)
        for name, outcome, detail in zip(names, joined.outcome, joined.detail, strict=True)
        if outcome != "matched"
    ]
    counts = {
        "motif": [Count(source.label, "matched", len(motifs))],
        "motif_tf": [Count(label, outcome, n) for outcome, n in sorted(Counter(joined.outcome).items())],
    }
    counts["motif_tf"] += [
        Count(label, one, n) for one, n in Counter(match.outcome for match in linked.unknown).items()
    ]
    return Built(
        {"motif": _motif_table(motifs, linked, source, config), "motif_tf": _factor_table(linked, gene_of)},
        {"motif": [source], "motif_tf": list(dict.fromkeys([source, linked.source]))},
        {"motif_tf": told + linked.unknown},
        counts,
    )


def _linked(context: BuildContext, motifs: list[Motif], source: Source) -> _Linked:
    """Return the factors source ``motif_factors`` names, without it those in the motifs' names; in order of motifs."""
    if not context.has_source("motif_factors"):
        named = [Factor(motif.motif_id, name, "") for motif in motifs for name in factor_names(motif.name)]
        return _Linked(named, source, [])
    table = context.source("motif_factors")
    by_motif: dict[str, list[Factor]] = {motif.motif_id: [] for motif in motifs}
    unknown = []
    for factor in read_factors(table.path):
        if factor.motif_id in by_motif:
            by_motif[factor.motif_id].append(factor)
        else:
            unknown.append(factor.motif_id)
    if not any(by_motif.values()):
        raise PriorError(
            f"{table.label} names none of the {len(motifs):,} motifs of {source.label}.\n"
            f"  motifs: {some(by_motif)}\n  the table's: {some(dict.fromkeys(unknown))}\n"
            "  Fix: give the table that belongs to the motifs, or none: then their own names are read."
        )
    matches = [Match(table.label, one, "absent", "no motif has this id") for one in dict.fromkeys(unknown)]
    matches += [Match(table.label, one, "empty", "no factor is named") for one, found in by_motif.items() if not found]
    return _Linked([factor for found in by_motif.values() for factor in found], table, matches)


def _motif_table(motifs: list[Motif], linked: _Linked, source: Source, config: MotifConfig) -> pa.Table:
    named: dict[str, list[str]] = {motif.motif_id: [] for motif in motifs}
    for factor in linked.factors:
        named[factor.motif_id].append(factor.name)
    p = [probabilities(motif.counts, config.pseudocount) for motif in motifs]
    return pa.table(
        {
            "motif_id": pa.array([motif.motif_id for motif in motifs]),
            "name": pa.array([motif.name for motif in motifs]),
            "factors": pa.array([",".join(names) for names in named.values()]),
            "length": pa.array([len(motif.counts) for motif in motifs], pa.int32()),
            "information": pa.array([information(one) for one in p]),
            "consensus": pa.array([consensus(motif.counts) for motif in motifs]),
            "probabilities": pa.array([one.ravel() for one in p], pa.list_(pa.float64())),
            "source": pa.repeat(pa.scalar(source.label), len(motifs)),
        }
    )


def _factor_table(linked: _Linked, gene_of: dict[str, str | None]) -> pa.Table:
    """Return each motif with each gene once, also where two names of the factor mean one gene."""
    rows: dict[tuple[str, str], str] = {}
    for factor in linked.factors:
        gene = gene_of[factor.name]
        if gene is not None:
            words = f" ({factor.evidence})" if factor.evidence else ""
            rows.setdefault((factor.motif_id, gene), f"{linked.source.label} names {factor.name}{words}")
    return pa.table(
        {
            "motif_id": pa.array([motif for motif, _ in rows], pa.string()),
            "gene_id": pa.array([gene for _, gene in rows], pa.string()),
            "evidence": pa.array(list(rows.values()), pa.string()),
        }
    )


def estimate_motif(plan: PlanContext, config: MotifConfig) -> Estimated:
    """Estimate the number of motifs, and one factor for each."""
    motifs = (
        len(read_jaspar(config.jaspar)[0])
        if config.jaspar
        else plan.count("motifs", lambda lines: sum(line.startswith((">", "MOTIF")) for line in lines))
    )
    return {"motif": motifs, "motif_tf": motifs}

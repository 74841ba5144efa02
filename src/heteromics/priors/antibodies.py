"""Builder of surface proteins: the antibodies of a panel as rows of ``protein``, and the genes they tell of.

Names mean genes by the rules of :mod:`heteromics.priors.antibody_names`, which name approved symbols, and through
:func:`heteromics.priors.identifiers.join_genes`. Isotype controls are proteins without a gene.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import h5py
import pyarrow as pa

from heteromics.errors import PriorError, UnreadableFile, some
from heteromics.priors._files import feature_names, text_lines
from heteromics.priors.antibody_names import Antibody, read_name
from heteromics.priors.identifiers import join_genes
from heteromics.priors.tables import Built, Count, Match, Source

if TYPE_CHECKING:
    from heteromics.priors.planning import Estimated, PlanContext
    from heteromics.priors.tables import BuildContext

ANNOTATIONS = {
    "antibody": "surface protein, measured by an antibody",
    "control": "isotype control of an antibody panel",
    "either": "isotype control or immunoglobulin, measured by an antibody",
}
_EITHER = "an isotype control, or an antibody against that immunoglobulin; name it Mouse-IgG1 or anti-human IgG1"


@dataclass(frozen=True, slots=True)
class AntibodyConfig:
    """Recipe keys of ``edges.antibodies``: none so far."""

    def source_names(self) -> tuple[str, ...]:
        """Names of antibodies come from source ``antibodies``."""
        return ("antibodies",)


class Target(NamedTuple):
    """What an antibody tells of: (gene, its symbol) for each gene, how they were found, and with what or why not."""

    genes: tuple[tuple[str, str], ...]
    outcome: str
    detail: str


def read_antibodies(path: Path) -> list[str]:
    """Read the names of antibodies, as written and in their order.

    From ``.h5ad``/``.h5mu`` the protein var names; from an ``.h5ad`` that keeps proteins beside genes, as scvi-tools
    does, ``uns["protein_names"]`` or the columns of ``obsm["protein_expression"]``; else the first column of a text.

    Raises
    ------
    UnreadableFile, MissingModality
        As :func:`heteromics.priors._files.feature_names`; for a file without a single name.
    """
    if path.suffix in {".h5ad", ".h5mu"}:
        names = _beside_genes(path) or feature_names(path, "protein")
    else:
        lines = (line.strip() for _, line in text_lines(path))
        names = [line.split("\t")[0].strip() for line in lines if line and not line.startswith("#")]
    if not names:
        raise UnreadableFile(f"{path}: no antibody name in it. Expected one name a line, or the features of a file.")
    return names


def _beside_genes(path: Path) -> list[str]:
    """Return the names of proteins kept in ``obsm``; none where there are no such."""
    from heteromics.data._h5ad import element

    if not h5py.is_hdf5(path):
        return []
    with h5py.File(path, "r") as file:
        stored = file.get("obsm/protein_expression")
        if stored is None:
            return []
        if "uns/protein_names" in file:
            return [str(name) for name in element(file["uns/protein_names"])]
        if isinstance(stored, h5py.Group):
            return [str(name) for name in element(stored).columns]
    raise UnreadableFile(
        f"{path}: obsm['protein_expression'] has no names: found no uns['protein_names']. Fix: write them there, or "
        "give the names as a text, one a line."
    )


def symbols_of(name: str) -> tuple[str, ...]:
    """Return the symbols under which the genes of an antibody are looked for; none for a control."""
    return read_name(name).symbols


def targets_of(
    names: Sequence[str], said: Mapping[str, tuple[str | None, str, str]], symbol: Mapping[str, str]
) -> list[Target]:
    """Say which genes each antibody tells of.

    Parameters
    ----------
    names
        Antibodies, length n.
    said
        By symbol that :func:`symbols_of` gives: its gene (None where none), the outcome, with what or why not.
    symbol
        Symbol by gene.

    Examples
    --------
    >>> targets_of(["CD16"], {"FCGR3A": ("E1", "matched", ""), "FCGR3B": (None, "absent", "")}, {"E1": "FCGR3A"})
    [Target(genes=(('E1', 'FCGR3A'),), outcome='alias', detail='FCGR3A; not found: FCGR3B')]
    """
    return [_target(name, read_name(name), said, symbol) for name in names]


def _target(
    name: str,
    antibody: Antibody,
    said: Mapping[str, tuple[str | None, str, str]],
    symbol: Mapping[str, str],
) -> Target:
    if antibody.kind == "control":
        return Target((), "control", "an isotype control, which binds no protein of the cell")
    if antibody.kind == "either":
        return Target((), "ambiguous", _EITHER)
    if not antibody.rule:
        tried = next((one for one in antibody.symbols if said[one][0]), antibody.symbols[0])
        gene, outcome, detail = said[tried]
        if gene is None:
            return Target((), outcome, detail if tried == name else f"{tried}: {detail}")
        return Target(((gene, symbol[gene]),), "alias" if outcome == "matched" and tried != name else outcome, detail)
    genes = {gene: symbol[gene] for one in antibody.symbols if (gene := said[one][0])}
    lacking = [one for one in antibody.symbols if said[one][0] is None]
    if not genes:
        outcomes = {said[one][1] for one in lacking}
        outcome = "ambiguous" if "ambiguous" in outcomes else "absent"
        return Target((), outcome, "; ".join(f"{one}: {said[one][2]}" for one in lacking))
    joined = ", ".join(genes.values())
    outcome = "matched" if list(genes.values()) == [name] and not lacking else "alias"
    return Target(tuple(genes.items()), outcome, f"{joined}; not found: {', '.join(lacking)}" if lacking else joined)


def build_antibodies(context: BuildContext, _config: AntibodyConfig) -> Built:
    """Build the antibodies' part of tables ``protein`` and ``gene_protein``, in the order of the source.

    Raises
    ------
    UnreadableFile, MissingModality
        As :func:`read_antibodies`.
    PriorError
        When not one antibody has a gene.
    """
    source = context.source("antibodies")
    listed = read_antibodies(source.path)
    names = list(dict.fromkeys(listed))
    asked = list(dict.fromkeys(one for name in names for one in symbols_of(name)))
    said = dict(zip(asked, zip(*join_genes(context, asked), strict=True), strict=True))
    genes = context.query("SELECT gene_id, symbol FROM gene")
    symbol = dict(zip(genes["gene_id"].to_pylist(), genes["symbol"].to_pylist(), strict=True))
    targets = targets_of(names, said, symbol)
    if not any(target.genes for target in targets):
        raise PriorError(
            f"{source.label}: none of its {len(names):,} antibodies has a gene in table gene ({len(symbol):,} genes).\n"
            f"  antibodies: {some(names)}\n  genes: {some(symbol.values())}\n"
            "  Fix: give the panel and a GTF of one organism; rules name human symbols."
        )
    matches = {
        "protein": [
            *(
                Match(source.label, name, "duplicated", f"listed {n} times")
                for name, n in Counter(listed).items()
                if n > 1
            ),
            *(
                Match(source.label, name, target.outcome, target.detail)
                for name, target in zip(names, targets, strict=True)
                if target.outcome != "matched"
            ),
        ],
        "gene_protein": _lacking(names, targets, said, source),
    }
    counts = Counter(target.outcome for target in targets)
    counts["duplicated"] = len(listed) - len(names)
    edges = sum(len(target.genes) for target in targets)
    lacking = Counter(match.outcome for match in matches["gene_protein"])
    return Built(
        _tables(names, targets, source),
        {"protein": [source], "gene_protein": [source]},
        matches,
        {
            "protein": [Count(source.label, outcome, n) for outcome, n in sorted(counts.items())],
            "gene_protein": [
                Count(source.label, "matched", edges),
                *(Count(source.label, outcome, n) for outcome, n in sorted(lacking.items())),
            ],
        },
    )


def _lacking(
    names: Sequence[str],
    targets: Sequence[Target],
    said: Mapping[str, tuple[str | None, str, str]],
    source: Source,
) -> list[Match]:
    """Name each gene of a complex that is not there although others of it are."""
    return [
        Match(source.label, name, said[one][1], f"{one}: {said[one][2]}")
        for name, target in zip(names, targets, strict=True)
        if target.genes and read_name(name).rule
        for one in symbols_of(name)
        if said[one][0] is None
    ]


def _tables(names: Sequence[str], targets: Sequence[Target], source: Source) -> dict[str, pa.Table]:
    """Return the rows of ``protein`` and ``gene_protein``; a complex has its genes' symbols, parted by slashes."""
    symbols = ["/".join(symbol for _, symbol in target.genes) for target in targets]
    only = [target.genes[0][0] if len(target.genes) == 1 else None for target in targets]
    rules = [read_name(name) for name in names]
    edges = [
        (gene, name, f"antibody of {source.label}, {f'rule {rule.rule}' if rule.rule else 'its name'}: {symbol}")
        for name, target, rule in zip(names, targets, rules, strict=True)
        for gene, symbol in target.genes
    ]
    return {
        "protein": pa.table(
            {
                "protein_id": pa.array(names, pa.string()),
                "symbol": pa.array([one or name for one, name in zip(symbols, names, strict=True)], pa.string()),
                "gene_id": pa.array(only, pa.string()),
                "annotation": pa.array([ANNOTATIONS[rule.kind] for rule in rules], pa.string()),
            }
        ),
        "gene_protein": pa.table(
            {
                column: pa.array(list(values), pa.string())
                for column, values in zip(("gene_id", "protein_id", "evidence"), zip(*edges, strict=True), strict=True)
            }
        ),
    }


def estimate_antibodies(plan: PlanContext, _config: AntibodyConfig) -> Estimated:
    """Count the antibodies; about as many genes."""
    path = plan.path("antibodies")
    n = None if path is None else len(set(read_antibodies(path)))
    return {"protein": n, "gene_protein": n}

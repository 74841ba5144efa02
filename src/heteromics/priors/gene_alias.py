"""Builder of table ``gene_alias``: other names of genes, how the names the data use join, and MyGene.info at the end.

MyGene.info is asked only where the recipe says so, once, for all names in sources ``genes``, ``gmt``, ``pairs_*``,
``regulons_*`` and ``antibodies`` that no rule of :mod:`heteromics.priors.gene_names` joins. Its answers, also those
that it knows a name not, go to table ``mygene_answer`` with their date and are taken from there in a later build.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

import pyarrow as pa

from heteromics.errors import RecipeError, UnreadableFile
from heteromics.priors._files import feature_names, text_lines
from heteromics.priors._regulon_files import read_regulons
from heteromics.priors.alias_table import Aliases, alias_rows
from heteromics.priors.aliases import Listed, read_names, read_string_names
from heteromics.priors.antibodies import read_antibodies, symbols_of
from heteromics.priors.gene_names import KINDS, UNKNOWN, Answer, GeneNames, NamesJoined
from heteromics.priors.identifiers import other_names
from heteromics.priors.mygene_client import URL, ask
from heteromics.priors.pairs import read_pairs
from heteromics.priors.pathways import read_gmt
from heteromics.priors.tables import Built, Count, Match, Source

if TYPE_CHECKING:
    from heteromics.priors.planning import Estimated, PlanContext
    from heteromics.priors.tables import BuildContext

Answers = dict[str, list[Answer]]


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
    mygene
        Whether MyGene.info is asked for names that nothing else joins; needs a network, and ``taxon``.
    taxon
        NCBI taxon of the genes, 9606 for human, 10090 for mouse.
    mygene_url
        Where the query form of MyGene.info is spoken.
    """

    columns: dict[str, tuple[str, ...]] = field(default_factory=dict)
    string_aliases: bool = True
    mygene: bool = False
    taxon: int | None = None
    mygene_url: str = URL

    def __post_init__(self) -> None:
        for name, chosen in self.columns.items():
            if not 2 <= len(chosen) <= 3:
                raise ValueError(f"columns of {name}: found {len(chosen)} entries, expected [gene, other name, kind].")
            if len(chosen) == 3 and chosen[2] not in KINDS:
                raise ValueError(f"columns of {name}: found kind {chosen[2]!r}, expected one of {', '.join(KINDS)}.")
        if self.mygene and self.taxon is None:
            raise ValueError("mygene needs the taxon it shall look in. Fix: taxon: 9606 (human), 10090 (mouse).")

    def source_names(self) -> tuple[str, ...]:
        """No source is needed; those that are given are read."""
        return ()


def build_identifiers(context: BuildContext, config: IdentifierConfig) -> Built:
    """Build table ``gene_alias`` and, where asked for, ``mygene_answer``; report how the names the data use join.

    Raises
    ------
    UnreadableFile
        As :func:`heteromics.priors.aliases.read_names`; for an empty list of names.
    RecipeError
        When ``columns`` names a source that is not given.
    FetchError
        When MyGene.info is asked and does not answer.
    """
    genes = context.query("SELECT gene_id, symbol FROM gene ORDER BY gene_id")
    gene_id, symbol = genes["gene_id"].to_pylist(), genes["symbol"].to_pylist()
    sources = _sources(context, config)
    aliases = alias_rows(
        {source.label: _listed(name, source, config) for name, source in sources.items()}, gene_id, symbol
    )
    reported = {**context.reported, "gene_alias": aliases.matches}
    known = [(row.row, row.alias, row.kind) for row in aliases.rows]
    answers: Answers = {}
    tables, read = {}, {}
    if sources:
        tables["gene_alias"], read["gene_alias"] = _table(aliases, gene_id), list(sources.values())
    if config.mygene:
        names = GeneNames(gene_id, symbol, other_names(known, reported))
        answers, tables["mygene_answer"] = _asked(context, config, names)
        read["mygene_answer"] = [Source(Path(), "", f"{datetime.now(UTC):%Y-%m-%d}", "", "MyGene.info")]
    built = Built(tables, read, {"gene_alias": aliases.matches}, {"gene_alias": aliases.counts})
    if context.has_source("genes"):
        source = context.source("genes")
        names = GeneNames(gene_id, symbol, other_names(known, reported, answers))
        asked = read_gene_names(source)
        built.matches["gene"], built.counts["gene"] = _said(source, asked, names.join(asked))
    return built


def read_gene_names(source: Source) -> list[str]:
    """Read the names data use for genes: rna var names of ``.h5ad``/``.h5mu``, else the first column of a text."""
    if source.path.suffix in {".h5ad", ".h5mu"}:
        return feature_names(source.path, "rna")
    lines = (line.strip() for _, line in text_lines(source.path))
    names = [line.split("\t")[0] for line in lines if line and not line.startswith("#")]
    if not names:
        raise UnreadableFile(f"{source.path}: no gene name in it. Expected one name a line.")
    return names


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


def _said(source: Source, names: list[str], joined: NamesJoined) -> tuple[list[Match], list[Count]]:
    matches = [
        Match(source.label, name, outcome, detail)
        for name, outcome, detail in zip(names, joined.outcome, joined.detail, strict=True)
        if outcome != "matched"
    ]
    counts = Counter(joined.outcome)
    return matches, [Count(source.label, outcome, n) for outcome, n in sorted(counts.items())]


def _asked(context: BuildContext, config: IdentifierConfig, names: GeneNames) -> tuple[Answers, pa.Table]:
    """Ask for the names that nothing joins and that were not asked before; return all answers, and their table."""
    taxon = config.taxon or 0
    former = context.former("mygene_answer")
    rows = [] if former is None else [row for row in former.to_pylist() if row["taxon"] == taxon]
    before = {row["name"] for row in rows}
    met = sorted(set(_names_met(context)) - before)
    joined = names.join(met)
    unknown = [name for name, detail in zip(met, joined.detail, strict=True) if detail == UNKNOWN]
    context.progress(f"asking MyGene.info for {len(unknown):,} names")
    today = f"{datetime.now(UTC):%Y-%m-%d}"
    rows += [
        {"name": name, "taxon": taxon, **answer._asdict(), "asked_on": today}
        for name, found in ask(unknown, taxon, url=config.mygene_url, track=context.track).items()
        for answer in found or [Answer(None, None, None)]
    ]
    answers: Answers = {}
    for row in rows:
        answer = Answer(row["gene_id"], row["entrez"], row["symbol"])
        answers.setdefault(row["name"], []).extend([answer] if any(answer) else [])
    types = {"taxon": pa.int32()}
    columns = ("name", "taxon", "gene_id", "entrez", "symbol", "asked_on")
    rows.sort(key=lambda row: tuple(str(row[column] or "") for column in columns))
    return answers, pa.table(
        {column: pa.array([row[column] for row in rows], types.get(column, pa.string())) for column in columns}
    )


def _names_met(context: BuildContext) -> Iterator[str]:
    """Yield the gene names in all sources that are lists of them."""
    if context.has_source("genes"):
        yield from read_gene_names(context.source("genes"))
    if context.has_source("gmt"):
        for gene_set in read_gmt(context.source("gmt").path):
            yield from gene_set.members
    for source in context.family("pairs_*").values():
        pairs = read_pairs(source.path)
        yield from (*pairs.a, *pairs.b)
    for source in context.family("regulons_*").values():
        regulons = read_regulons(source.path)
        yield from (*regulons.tf, *regulons.target)
    if context.has_source("antibodies"):
        for name in read_antibodies(context.source("antibodies").path):
            yield from symbols_of(name)


def estimate_identifiers(plan: PlanContext, config: IdentifierConfig) -> Estimated:
    """Estimate the number of other names: four for each line of an alias file, one line in four for STRING's."""
    names = [*plan.family("aliases_*"), *(["string_aliases"] if config.string_aliases else [])]
    shares: Mapping[str, float] = {"string_aliases": 0.25}
    counts = [
        (plan.count(name, len), shares.get(name, 4.0)) for name in names if plan.path(name) or name != "string_aliases"
    ]
    made: Estimated = {"mygene_answer": None} if config.mygene else {}
    if counts:
        known = [round(n * share) for n, share in counts if n is not None]
        made["gene_alias"] = sum(known) if len(known) == len(counts) else None
    return made

"""Builder of table ``mygene_answer``: MyGene.info, the last step of joining names, only where the recipe asks for it.

It is asked once, for all names in sources ``genes``, ``gmt``, ``pairs_*``, ``regulons_*`` and ``antibodies`` that no
rule of :mod:`heteromics.priors.gene_names` joins. Its answers, also those that it knows a name not, are kept with their
date; a later build asks only for names that were not asked before. All builders that join names find them there.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

import pyarrow as pa

from heteromics.priors._regulon_files import read_regulons
from heteromics.priors.antibodies import read_antibodies, symbols_of
from heteromics.priors.data_names import read_gene_names
from heteromics.priors.gene_names import UNKNOWN, Answer
from heteromics.priors.gene_sets import read_gene_sets
from heteromics.priors.identifiers import join_genes
from heteromics.priors.mygene_client import URL, ask
from heteromics.priors.pairs import read_pairs
from heteromics.priors.tables import Built, Count, Match, Source

if TYPE_CHECKING:
    from heteromics.priors.planning import Estimated, PlanContext
    from heteromics.priors.tables import BuildContext

COLUMNS = ("name", "taxon", "gene_id", "entrez", "symbol", "asked_on")


@dataclass(frozen=True, slots=True)
class MyGeneConfig:
    """Recipe keys of ``nodes.mygene``.

    Attributes
    ----------
    taxon
        NCBI taxon to look in, 9606 for human, 10090 for mouse.
    url
        Where the query form of MyGene.info is spoken.
    """

    taxon: int
    url: str = URL

    def source_names(self) -> tuple[str, ...]:
        """No source is needed; names are taken from those that are given."""
        return ()


def build_mygene(context: BuildContext, config: MyGeneConfig) -> Built:
    """Ask MyGene.info for the names that nothing joins and that were not asked before.

    Raises
    ------
    FetchError
        When MyGene.info is asked and does not answer.
    """
    former = context.former("mygene_answer")
    rows = [] if former is None else [row for row in former.to_pylist() if row["taxon"] == config.taxon]
    before = {row["name"] for row in rows}
    names = sorted(set(_names(context)))
    joined = join_genes(context, names)
    unknown = {name for name, detail in zip(names, joined.detail, strict=True) if detail == UNKNOWN}
    new = unknown - before
    context.progress(f"asking MyGene.info for {len(new):,} names")
    today = f"{datetime.now(UTC):%Y-%m-%d}"
    answers = ask(new, config.taxon, url=config.url, track=context.track)
    rows += [
        {"name": name, "taxon": config.taxon, **answer._asdict(), "asked_on": today}
        for name, found in answers.items()
        for answer in found or [Answer(None, None, None)]
    ]
    rows.sort(key=lambda row: tuple(str(row[column] or "") for column in COLUMNS))
    known = {row["name"] for row in rows if row["gene_id"] or row["symbol"]}
    asked = before | answers.keys()
    table = {
        column: pa.array([row[column] for row in rows], pa.int32() if column == "taxon" else pa.string())
        for column in COLUMNS
    }
    label = "MyGene.info"
    unasked = sorted(new - answers.keys())
    return Built(
        {"mygene_answer": pa.table(table)},
        {"mygene_answer": [Source(Path(), "", today, "", label)]},
        matches={
            "mygene_answer": [
                Match(label, name, "unparsable", "has a comma, so it cannot be asked") for name in unasked
            ]
        },
        counts={
            "mygene_answer": [
                Count(label, "matched", len(asked & known)),
                Count(label, "absent", len(asked - known)),
                Count(label, "unparsable", len(unasked)),
            ]
        },
    )


def _names(context: BuildContext) -> Iterator[str]:
    """Yield the gene names in all sources that are lists of them."""
    if context.has_source("genes"):
        yield from read_gene_names(context.source("genes"))
    if context.has_source("gmt"):
        for gene_set in read_gene_sets(context.source("gmt").path):
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


def estimate_mygene(_plan: PlanContext, _config: MyGeneConfig) -> Estimated:
    """Return nothing known: how many names nothing joins shows in the build."""
    return {"mygene_answer": None}

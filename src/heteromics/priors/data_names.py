"""How the names the data use for genes join table ``gene``: a report, asked for by giving source ``genes``."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING

from heteromics.errors import UnreadableFile
from heteromics.priors._files import feature_names, text_lines
from heteromics.priors.identifiers import join_genes
from heteromics.priors.tables import Built, Count, Match, Source

if TYPE_CHECKING:
    from heteromics.priors.planning import Estimated, PlanContext
    from heteromics.priors.tables import BuildContext


@dataclass(frozen=True, slots=True)
class DataNamesConfig:
    """Recipe keys of ``nodes.data_names``: none."""

    def source_names(self) -> tuple[str, ...]:
        """No source is needed; ``genes`` is read where it is given."""
        return ()


def build_data_names(context: BuildContext, _config: DataNamesConfig) -> Built:
    """Report, below table ``gene``, how every name in source ``genes`` joins; no table is made.

    Raises
    ------
    UnreadableFile, MissingModality
        As :func:`read_gene_names`.
    """
    if not context.has_source("genes"):
        return Built({})
    source = context.source("genes")
    names = read_gene_names(source)
    joined = join_genes(context, names)
    matches = [
        Match(source.label, name, outcome, detail)
        for name, outcome, detail in zip(names, joined.outcome, joined.detail, strict=True)
        if outcome != "matched"
    ]
    counts = [Count(source.label, outcome, n) for outcome, n in sorted(Counter(joined.outcome).items())]
    return Built({}, matches={"gene": matches}, counts={"gene": counts})


def read_gene_names(source: Source) -> list[str]:
    """Read the names data use for genes: rna var names of ``.h5ad``/``.h5mu``, else the first column of a text.

    Raises
    ------
    UnreadableFile, MissingModality
        As :func:`heteromics.priors._files.feature_names`; for a text without a single name.
    """
    if source.path.suffix in {".h5ad", ".h5mu"}:
        return feature_names(source.path, "rna")
    lines = (line.strip() for _, line in text_lines(source.path))
    names = [line.split("\t")[0] for line in lines if line and not line.startswith("#")]
    if not names:
        raise UnreadableFile(f"{source.path}: no gene name in it. Expected one name a line.")
    return names


def estimate_data_names(_plan: PlanContext, _config: DataNamesConfig) -> Estimated:
    """Return nothing: no table is made."""
    return {}

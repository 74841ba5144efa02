"""What else speaks for a gene-peak link: known elements, ChIP peaks, motifs, regulons, correlation, distance.

None of it is a truth. A region is evidence that a peak does something, not that it acts on this gene; most links of a
gene to the peaks of one region share it. :func:`heteromics.interpret.concordance` takes that into account. Nor is all
of it apart from a model: correlation and openness are of the same cells, distance may be in its mask or its bias.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from heteromics.errors import DataError, MissingLayer, some
from heteromics.interpret._intervals import (
    GenePlaces,
    PeakPlaces,
    Regions,
    distances,
    in_regions,
    keys_of,
    place_genes,
    place_peaks,
    read_regions,
    stored_regions,
)
from heteromics.interpret._joining import columns_of
from heteromics.interpret.candidates import correlation_links
from heteromics.models.baselines import as_csr
from heteromics.priors.identifiers import store_names

if TYPE_CHECKING:
    from anndata import AnnData
    from pandas import DataFrame, Series

    from heteromics.priors import PriorStore

Ints = NDArray[np.int64]

PLACE = ("chrom", "chrom_start", "chrom_end")


def evidence_for(
    links: DataFrame,
    store: PriorStore,
    *,
    regions: Sequence[str] | None = None,
    chip: Mapping[str, str | Path] | None = None,
    tfs: Sequence[str] | None = None,
    motif_p_value: float | None = None,
    rna: AnnData | None = None,
    atac: AnnData | None = None,
    groups: str = "cell_type",
) -> DataFrame:
    """Gather what a prior store, files of regions and the data say about each link.

    Parameters
    ----------
    links
        ``gene, peak`` and optional ``group``. Genes are looked up by identifier, symbol or alias, peaks by name or
        interval; a peak the store lacks is placed by the interval its name gives.
    store
        With tables ``chromosome``, ``gene`` and ``peak``; the other tables named below give their columns where it has
        them.
    regions
        Sets of table ``region`` (candidate regulatory elements, ChIP peaks); None takes all.
    chip
        Further sets by name, as BED files of the store's assembly.
    tfs
        Names of transcription factors: motifs and regulons of these alone. None takes any: at a p-value of 1e-4 nearly
        every peak has some motif of some factor, which then says little.
    motif_p_value
        Count motif hits below it; None takes all of the store.
    rna, atac
        The same cells, counts, for ``correlation`` (:func:`heteromics.interpret.correlation_links`, over all cells
        given); ``atac`` alone gives ``openness``.
    groups
        Column of ``atac.obs`` that the groups of the links are values of.

    Returns
    -------
    DataFrame
        One row per link, in their order, index from 0: their ``gene, peak[, group]``, then

        - ``chrom, chrom_start, chrom_end`` of the peak, and ``distance`` in bp from the gene's transcription start to
          its nearest base, 0 inside, missing across chromosomes (that of :func:`heteromics.interpret.links` is to the
          midpoint of the peak, and -1 across chromosomes);
        - ``width`` in bp, and ``gc`` of table ``peak_attribute``, a share;
        - ``in_NAME`` for each set of regions: the peak shares a base with one; and ``score_NAME``, the score of the
          strongest it overlaps, 0 without one, where the set has scores;
        - ``has_motif`` (tables ``motif_peak``, ``tf_peak``): it holds a motif; with ``tfs`` also ``score_motif``, the
          best of theirs in bits, 0 without one;
        - ``has_regulon`` (``tf_peak`` and ``tf_gene``): a factor with a motif in the peak has the gene as target;
        - ``openness``: share of cells, of the group where there is one, in which the peak is open; ``correlation``.

        Columns ``in_`` and ``has_`` are nullable booleans. They are missing, not false, where nothing is known: a peak
        without a place, on a chromosome of which a set has no region at all, or outside the sequence that was scanned;
        a gene that no collection names as a target. ``attrs["match"]`` counts what joined, by gene, peak and column,
        and names what has no place.

    Raises
    ------
    DataError
        When no gene or no peak joins, a set or factor is not in the store, two sets have one name, or cells differ.
    DuplicateNames
        When names of ``rna`` or ``atac`` stand twice.
    MissingLayer
        When links have groups and ``atac.obs`` has no column to tell them by.

    Notes
    -----
    Overlaps are found by sorted search, joins by DuckDB: O((links + regions) log regions). Nothing of size genes x
    peaks is formed.
    """
    import pandas as pd

    keys = keys_of(links)
    if absent := {"gene", "peak"} - set(keys):
        raise DataError(f"links: no column {', '.join(sorted(absent))}. Found {', '.join(map(str, links.columns))}.")
    gene_code, gene_names = pd.factorize(links["gene"].astype(str))
    peak_code, peak_names = pd.factorize(links["peak"].astype(str))
    genes, peaks = place_genes(gene_names.tolist(), store), place_peaks(peak_names.tolist(), store)
    table = links[keys].reset_index(drop=True)
    match: dict[str, Any] = {"gene": genes.match, "peak": peaks.match}
    of_peak = _peak_columns(peaks, store)
    for found in _sets(store, regions, chip or {}):
        inside, known, score = in_regions(peaks, found)
        of_peak[f"in_{found.name}"] = pd.Series(inside, dtype="boolean").where(known)
        match[f"in_{found.name}"] = {"regions": found.match}
        if not np.isnan(found.score).all():
            of_peak[f"score_{found.name}"] = pd.Series(score)
    wanted = None if tfs is None else _factors(store, tfs)
    of_peak.update(_motif_columns(peaks, store, wanted, motif_p_value))
    for name, column in of_peak.items():
        table[name] = column.take(peak_code).to_numpy() if name == "chrom" else column.take(peak_code).array
    table.insert(len(keys) + len(PLACE), "distance", distances(peaks.take(peak_code), genes.take(gene_code)).array)
    if {"tf_peak", "tf_gene"} <= set(store.tables()):
        table["has_regulon"] = _regulons(genes, peaks, gene_code, peak_code, store, wanted, motif_p_value)
    if atac is not None:
        table["openness"] = _openness(table, atac, groups)
    if rna is not None:
        table["correlation"] = _correlation(table, rna, atac)
    for name in table.columns[len(keys) :]:
        missing = int(table[name].isna().sum())
        match.setdefault(str(name), {}).update(known=len(table) - missing, unknown=missing)
    table.attrs["match"] = match
    return table


def evidence_columns(evidence: DataFrame) -> list[str]:
    """Return the columns of a table of evidence that are true or false."""
    named = [name for name in map(str, evidence) if name.startswith(("in_", "has_"))]
    return [name for name in named if evidence[name].dtype == "boolean"]


def by_peak(links: DataFrame, evidence: DataFrame, *, score: str = "total") -> tuple[DataFrame, DataFrame]:
    """Add links up by peak, and their evidence with them, for questions about peaks alone.

    Parameters
    ----------
    links
        ``gene, peak`` and optional ``group``, and the column to add up.
    evidence
        Of these links, from :func:`evidence_for`.
    score
        Column to be summed over the genes of a peak, in each group: ``total`` of
        :meth:`heteromics.models.Bi2Former.links` becomes the cumulative attention that the paper compares with TF
        binding.

    Returns
    -------
    links, evidence : DataFrame
        ``peak[, group]``, the sum under its name and ``n_genes``, the number of links added up; and the evidence in the
        same order: what belongs to the peak as it is, the least ``distance``, the greatest ``correlation``, and what is
        true or false as true where it is for any gene, missing where it is for all.

    Raises
    ------
    DataError, DuplicateNames
        When links and evidence do not fit, or another column differs between the genes of a peak.

    Examples
    --------
    >>> import pandas as pd
    >>> links = pd.DataFrame({"gene": ["A", "B", "A"], "peak": ["p", "p", "q"], "total": [1.0, 2.0, 4.0]})
    >>> peaks, about = by_peak(links, links[["gene", "peak"]].assign(distance=[5, 7, 1]))
    >>> peaks["total"].tolist(), about["distance"].tolist()
    ([3.0, 4.0], [5, 1])
    """
    from heteromics.interpret._intervals import aligned

    about = aligned(links, evidence)
    keys = [name for name in keys_of(links) if name != "gene"]
    ways = {"distance": "min", "correlation": "max"} | dict.fromkeys(evidence_columns(about), "max")
    columns = {name: ways.get(str(name), "first") for name in about if name not in (*keys, "gene")}
    of_peak = [str(name) for name, way in columns.items() if way == "first"]
    if several := [name for name in of_peak if about[[*keys, name]].drop_duplicates().duplicated(keys).any()]:
        raise DataError(
            f"evidence: {some(several)} {'differs' if len(several) == 1 else 'differ'} between the genes of a peak, so "
            "that it is not of the peak. Fix: drop it, or make it true or false (a nullable boolean named in_ or has_)."
        )
    about = about.groupby(keys, sort=False, as_index=False).agg(columns)
    totals = links.reset_index(drop=True).groupby(keys, sort=False, as_index=False)
    return totals.agg(**{score: (score, "sum"), "n_genes": ("gene", "size")}), about


def _sets(store: PriorStore, regions: Sequence[str] | None, chip: Mapping[str, str | Path]) -> list[Regions]:
    found = stored_regions(store, regions)
    if twice := sorted({one.name for one in found} & set(chip)):
        raise DataError(f"chip: {len(twice)} names are those of sets in the store: {some(twice)}. Fix: other names.")
    return [*found, *(read_regions(name, path, store) for name, path in chip.items())]


def _peak_columns(peaks: PeakPlaces, store: PriorStore) -> dict[str, Series]:
    import pandas as pd

    chrom = store.frame("chromosome").sort_values("code")["chrom"].to_numpy(object)
    columns = {
        "chrom": pd.Series(np.where(peaks.placed, chrom[peaks.code], None), dtype=object),
        "chrom_start": pd.Series(peaks.start, dtype="Int64").where(peaks.placed),
        "chrom_end": pd.Series(peaks.end, dtype="Int64").where(peaks.placed),
        "width": pd.Series(peaks.end - peaks.start, dtype="Int64").where(peaks.placed),
    }
    if "peak_attribute" in store.tables():
        gc = store.frame("peak_attribute").set_index("peak_id")["gc"].reindex(store.frame("peak")["peak_id"])
        values = gc.to_numpy(np.float64, na_value=np.nan)
        columns["gc"] = pd.Series(np.where(peaks.row >= 0, values[peaks.row], np.nan))
    return columns


def _factors(store: PriorStore, names: Sequence[str]) -> list[str]:
    found = store_names(store, list(names))
    if lost := [name for name, row in zip(names, found.row, strict=True) if row < 0]:
        raise DataError(f"tfs: {len(lost)} of {len(names)} names are no gene of {store.path}: {some(lost)}.")
    return store.frame("gene")["gene_id"].to_numpy()[found.row].tolist()


def _scanned(peaks: PeakPlaces, store: PriorStore) -> tuple[NDArray[Any], NDArray[np.bool_]]:
    """Return the store's name of each peak, and whether its sequence was searched for motifs."""
    ids = store.frame("peak")["peak_id"].to_numpy(object)
    outside = store.connection.execute(
        "SELECT name FROM match_report WHERE table_name = 'motif_peak' AND outcome = 'absent'"
    ).fetchall()
    name = np.where(peaks.row >= 0, ids[peaks.row], "")
    return name, (peaks.row >= 0) & ~np.isin(name.astype(str), [one for (one,) in outside])


def _hits(tfs: list[str] | None, p_value: float | None, table: str) -> tuple[str, dict[str, Any]]:
    """Return the WHERE clause that keeps the hits asked for, and its parameters."""
    clauses = ["true"]
    values: dict[str, Any] = {}
    if tfs is not None:
        clauses.append(f"list_contains($tfs, {table}.tf_id)")
        values["tfs"] = tfs
    if p_value is not None:
        clauses.append(f"{table}.p_value < $p_value")
        values["p_value"] = p_value
    return " AND ".join(clauses), values


def _motif_columns(
    peaks: PeakPlaces, store: PriorStore, tfs: list[str] | None, p_value: float | None
) -> dict[str, Series]:
    import pandas as pd

    table = "motif_peak" if tfs is None else "tf_peak"
    if table not in store.tables():
        return {}
    where, values = _hits(tfs, p_value, table)
    sql = f"SELECT peak_id, max(score) AS score FROM {table} WHERE {where} GROUP BY peak_id"  # noqa: S608
    best = store.connection.execute(sql, values).df().set_index("peak_id")["score"]
    name, scanned = _scanned(peaks, store)
    score = best.reindex(name).to_numpy(np.float64)
    columns = {"has_motif": pd.Series(~np.isnan(score), dtype="boolean").where(scanned)}
    if tfs is not None:
        columns["score_motif"] = pd.Series(np.where(scanned, np.nan_to_num(score), np.nan))
    return columns


def _regulons(
    genes: GenePlaces,
    peaks: PeakPlaces,
    gene_code: Ints,
    peak_code: Ints,
    store: PriorStore,
    tfs: list[str] | None,
    p_value: float | None,
) -> Any:
    """Whether a factor with a motif in the peak regulates the gene; missing for genes that are nobody's target."""
    import pandas as pd

    name, scanned = _scanned(peaks, store)
    ids = store.frame("gene")["gene_id"].to_numpy(object)
    gene_name = np.where(genes.row >= 0, ids[genes.row], "")
    targets = [one for (one,) in store.connection.execute("SELECT DISTINCT gene_id FROM tf_gene").fetchall()]
    known = scanned[peak_code] & np.isin(gene_name.astype(str), targets)[gene_code]
    asked = pd.DataFrame({"gene_id": gene_name[gene_code], "peak_id": name[peak_code]})[known].drop_duplicates()
    where, values = _hits(tfs, p_value, "tf_peak")
    store.connection.register("asked_links", asked)
    try:
        found = store.connection.execute(
            f"""
            SELECT DISTINCT gene_id, peak_id FROM asked_links JOIN tf_gene USING (gene_id)
            JOIN tf_peak USING (tf_id, peak_id) WHERE {where}
            """,  # noqa: S608
            values,
        ).df()
    finally:
        store.connection.unregister("asked_links")
    pairs = pd.MultiIndex.from_arrays([gene_name[gene_code], name[peak_code]])
    there = pairs.isin(pd.MultiIndex.from_frame(found)) if len(found) else np.zeros(len(pairs), bool)
    return pd.Series(there, dtype="boolean").where(known).array


def _openness(table: DataFrame, atac: AnnData, groups: str) -> NDArray[np.float64]:
    """Share of cells in which each link's peak is open, of its group; NaN for peaks that are not in the data."""
    openly = sparse.csr_matrix(as_csr(atac) > 0, dtype=np.float64)
    peak = columns_of(atac, table["peak"], "atac")
    if "group" not in table:
        share = np.asarray(openly.mean(axis=0)).ravel()
        return np.where(peak >= 0, share[peak], np.nan)
    if groups not in atac.obs:
        raise MissingLayer(
            f"links have groups, atac.obs has no column {groups!r} ({', '.join(atac.obs)}). Fix: groups=COLUMN."
        )
    of_cell, found = atac.obs[groups].astype(str).to_numpy(), np.full(len(table), np.nan)
    of_link = table["group"].astype(str).to_numpy()
    for group in np.unique(of_link):
        cells, rows = of_cell == group, (of_link == group) & (peak >= 0)
        if not cells.any():
            raise DataError(f"group {group!r} of the links: none of {atac.n_obs} cells has it in obs[{groups!r}].")
        share = np.asarray(openly[cells].mean(axis=0)).ravel()
        found[rows] = share[peak[rows]]
    return found


def _correlation(table: DataFrame, rna: AnnData, atac: AnnData | None) -> NDArray[np.float64]:
    if atac is None:
        raise DataError("found rna without atac, expected both for a correlation. Fix: pass atac=..., or neither.")
    pairs = table[["gene", "peak"]].astype(str)
    once = correlation_links(rna, atac, pairs.drop_duplicates(ignore_index=True))
    return pairs.merge(once, how="left", on=["gene", "peak"])["score"].to_numpy(np.float64)

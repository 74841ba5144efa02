"""Regulatory networks: factor -> peak -> gene, from links, motif hits and known targets, by group of cells."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import closing
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from heteromics._progress import steps
from heteromics.errors import DataError, DuplicateNames, some
from heteromics.interpret._cell_groups import ONE_GROUP
from heteromics.interpret._joining import need_columns, stored_genes, stored_peaks

if TYPE_CHECKING:
    from pandas import DataFrame, Series

    from heteromics.priors import PriorStore

Evidence = Literal["motif", "regulon"]

MOST_ROWS = 5_000_000  # of a network, each a factor, a peak and a gene in a group: about 3 GB while it is made
TESTS = ("z", "p", "fdr")
LINK_COLUMNS = (*TESTS, "posterior", "distance", "frequency", "n_pairs")

TARGETS_SQL = """
    SELECT tf_id, gene_id, string_agg(source, ',' ORDER BY source) AS source, max(weight) AS weight,
           (CASE WHEN max(sign) > 0 THEN 1 ELSE 0 END - CASE WHEN min(sign) < 0 THEN 1 ELSE 0 END)::TINYINT AS sign
    FROM tf_gene WHERE gene_id IN (SELECT gene_id FROM wanted) GROUP BY tf_id, gene_id
"""
"""Known targets over all sources: a known sign stands over an unknown one, and is 0 where sources disagree."""

NO_TARGETS_SQL = "SELECT '' AS tf_id, '' AS gene_id, '' AS source, 0.0 AS weight, 0::TINYINT AS sign WHERE false"
HITS_SQL = """
    SELECT tf_id, peak_id, motifs, score, p_value FROM tf_peak
    WHERE peak_id IN (SELECT peak_id FROM wanted) AND score >= $score_min AND p_value <= $p_max
"""

_HIT, _TARGET = "hits ON hits.peak_id = wanted.peak_id", "targets ON targets.gene_id = wanted.gene_id"
JOINS = {  # by the evidence that is required, how factors come to the links
    ("motif",): f"JOIN {_HIT} LEFT JOIN {_TARGET} AND targets.tf_id = hits.tf_id",
    ("motif", "regulon"): f"JOIN {_HIT} JOIN {_TARGET} AND targets.tf_id = hits.tf_id",
    ("regulon",): f"JOIN {_TARGET} LEFT JOIN {_HIT} AND hits.tf_id = targets.tf_id",
}


def regulatory_network(
    links: DataFrame,
    store: PriorStore,
    *,
    require: Sequence[Evidence] = ("motif",),
    motif_score_min: float | None = None,
    motif_p_max: float | None = None,
    fdr_max: float | None = None,
    groups: Sequence[str] | None = None,
    tf_expressed: DataFrame | Series | None = None,
    tf_expressed_min: float = 0.0,
    progress: bool = False,
) -> DataFrame:
    """Bring transcription factors to the links of peaks and genes.

    Parameters
    ----------
    links
        ``gene, peak, score`` (larger is stronger), optionally ``group`` and what :func:`heteromics.interpret.links`
        adds, such as ``z, p, fdr, distance``; each pair at most once in a group. As a rule only the links that are
        believed: see ``fdr_max``.
    store
        With table ``gene``, ``peak``, ``tf_peak`` (built with ``motif_peak``) and, for what is known of targets,
        ``tf_gene``.
    require
        What a factor needs to be in: ``"motif"``, one of its motifs hits the peak; ``"regulon"``, the gene is a known
        target of it; or both. What is not required is told where it is there.
    motif_score_min, motif_p_max
        Least log-odds (bits) and largest p-value of the factor's best hit in the peak. Log-odds of long motifs are
        higher by their length, p-values of different motifs compare.
    fdr_max
        Keep links whose ``fdr_above`` is not larger; where that is not there, whose ``fdr`` is not and ``z`` above 0.
    groups
        Keep these groups.
    tf_expressed
        Share of the cells that express each gene, genes x groups (:func:`expressed_share`); a Series where links have
        no groups.
    tf_expressed_min
        Keep factors that this share of the cells of the group expresses; those not measured are left out.
    progress
        Show the steps done.

    Returns
    -------
    DataFrame
        One row for each factor, peak, gene and group, best ``score`` first within a group: ``tf, peak, gene, group,
        score, link_score``, columns of the links' test, ``motif_score`` (bits), ``motif_p`` and ``motifs`` (NaN, NaN
        and 0 where the factor has no motif in the peak), ``sign`` (1 activates, -1 represses, 0 not known or
        disputed), ``source`` and ``weight`` (collections that name the target, and the highest weight; empty and 0
        where none does), ``expressed`` where it was given (NaN where not measured), ``tf_id, peak_id, gene_id`` of
        the store. A factor that is a gene of the links has the name it has there, else its symbol.

        ``score`` is the rank product of the evidence (Breitling et al., FEBS Letters 2004), as a geometric mean: of the
        relative rank of the link, by ``z`` where it is there and else by ``score`` (``posterior`` ranks links that
        avoid each other high too), and of that of each kind of evidence that is required: the motif's p-value, the
        weight of the target. Ranks are taken within the group, over different links, hits and targets, the best of n
        has rank 1, the last 1 / n, ties share their mean. So scores order the edges of a group; they are no
        probabilities.

        ``attrs["match"]`` counts what did not join, by name where that helps.

    Raises
    ------
    DataError
        When columns, groups or evidence asked for are not there, nothing of the links is in the store, or the network
        would have more than 5 million rows.
    DuplicateNames
        For a pair that stands twice in a group.
    StoreError
        When the store lacks a table that is needed.

    Notes
    -----
    DuckDB joins the links with the hits in their peaks and the targets among their genes; no product of factors,
    peaks and genes is formed. Time and memory follow the number of rows returned.
    """
    need = _checked_evidence(require)
    given = _chosen(links, fdr_max, groups)
    store.table("tf_peak")
    if "regulon" in need:
        store.table("tf_gene")
    match: dict[str, Any] = {"links": len(links), "links_kept": len(given)}
    with steps(3, "network", enabled=progress) as step:
        step("genes and peaks")
        wanted = _joined(given, store, match)
        step("motifs and targets")
        found = _with_factors(wanted, store, need, motif_score_min, motif_p_max, match)
        step("expression and ranks")
        network = _ranked(given, wanted, found, store, need, tf_expressed, tf_expressed_min, match)
    network.attrs["match"] = match | {"rows": len(network)}
    return network


def tf_gene_edges(network: DataFrame) -> DataFrame:
    """Aggregate a network over peaks.

    Parameters
    ----------
    network
        From :func:`regulatory_network`.

    Returns
    -------
    DataFrame
        One row for each factor and gene in a group, best first within a group: ``tf, gene, group, n_peaks, best``
        (highest score of a peak), ``summed`` (over peaks), ``best_peak, link_score`` (highest), ``sign, source,
        weight, tf_id, gene_id``.

    Examples
    --------
    >>> import pandas as pd
    >>> rows = pd.DataFrame({"tf": "T", "peak": ["p", "q"], "gene": "G", "group": "B", "score": [0.25, 0.5]})
    >>> rows = rows.assign(link_score=1.0, sign=1, source="db", weight=1.0, tf_id="E1", gene_id="E2")
    >>> tf_gene_edges(rows)[["tf", "gene", "n_peaks", "best", "summed", "best_peak"]].to_numpy().tolist()
    [['T', 'G', 2, 0.5, 0.75, 'q']]
    """
    need_columns(network, ["tf", "peak", "gene", "group", "score"], "network")
    key = _codes(network, ["group", "tf", "gene"])
    best_first = np.lexsort((-network["score"].to_numpy(), key))
    _, start = np.unique(key[best_first], return_index=True)
    edges = network.iloc[best_first[start]].rename(columns={"score": "best", "peak": "best_peak"})
    edges["n_peaks"] = np.bincount(key, minlength=0)
    edges["summed"] = np.bincount(key, network["score"])
    strength = network["link_score"].to_numpy()[best_first]
    edges["link_score"] = np.maximum.reduceat(strength, start) if start.size else strength
    edges = edges.sort_values(["group", "best"], ascending=[True, False], kind="stable", ignore_index=True)
    front = ["tf", "gene", "group", "n_peaks", "best", "summed", "best_peak", "link_score"]
    edges.attrs = {}
    return edges[[*front, "sign", "source", "weight", "tf_id", "gene_id"]]


def link_columns(table: DataFrame) -> list[str]:
    """Return the columns that tell of a link beside its score: those of its tests, of any null, and where it was met.

    Examples
    --------
    >>> import pandas as pd
    >>> link_columns(pd.DataFrame(columns=["gene", "score", "z", "z_distance", "n_pairs"]))
    ['z', 'z_distance', 'n_pairs']
    """
    of_tests = tuple(f"{name}_" for name in TESTS)
    return [name for name in map(str, table) if name in LINK_COLUMNS or name.startswith(of_tests)]


def _checked_evidence(require: Sequence[Evidence]) -> list[Evidence]:
    asked = {require} if isinstance(require, str) else set(require)
    known: list[Evidence] = ["motif", "regulon"]
    if not asked or asked - set(known):
        raise DataError(
            f"require: found {', '.join(sorted(map(str, asked))) or 'nothing'}, expected one or both of "
            f"{', '.join(known)}; with none every factor would go with every link."
        )
    return [name for name in known if name in asked]


def _chosen(links: DataFrame, fdr_max: float | None, groups: Sequence[str] | None) -> DataFrame:
    """Return the links asked for with the columns a network keeps; links without groups are of one."""
    fdr = "fdr_above" if "fdr_above" in links else "fdr"
    need_columns(links, ["gene", "peak", "score", *([fdr] if fdr_max is not None else [])], "links")
    kept = links if "group" in links else links.assign(group=ONE_GROUP)
    kept = kept[["gene", "peak", "group", "score", *link_columns(kept)]]
    kept = kept.astype({"gene": str, "peak": str, "group": str})
    if groups is not None:
        if unknown := sorted(set(groups) - set(kept["group"])):
            raise DataError(
                f"groups: {len(unknown)} of {len(set(groups))} are not among the links: {some(unknown)}. "
                f"Groups: {some(sorted(set(kept['group'])), 10)}."
            )
        kept = kept[kept["group"].isin(list(groups))]
    if fdr_max is not None:
        above = True if fdr == "fdr_above" or "z" not in kept else kept["z"] > 0
        kept = kept[(kept[fdr] <= fdr_max) & above]
    twice = kept.duplicated(["gene", "peak", "group"])
    if twice.any():
        rows = kept[twice]
        raise DuplicateNames(
            f"links: {len(rows)} of {len(kept)} rows repeat a gene-peak pair of their group: "
            f"{some(rows['gene'] + ' ' + rows['peak'])}. Fix: aggregate them."
        )
    return kept.reset_index(drop=True)


def _joined(given: DataFrame, store: PriorStore, match: dict[str, Any]) -> DataFrame:
    """Return ``row`` of the links that are in the store and their ``peak_id`` and ``gene_id``; count the others."""
    ids = {}
    for side, stored in (("gene", stored_genes), ("peak", stored_peaks)):
        names = given[side].unique()
        found = stored(names, store)[f"{side}_id"]
        absent = found.index[found.isna()].tolist()
        if len(names) and len(absent) == len(names):
            raise DataError(
                f"links: none of their {len(names)} {side}s is in {store.path} (assembly {store.info['assembly']}): "
                f"{some(absent)}. Fix: take the store that the graph was built with."
            )
        match |= {f"{side}s": len(names), f"{side}s_absent": len(absent), f"{side}s_absent_names": absent[:20]}
        ids[f"{side}_id"] = given[side].map(found)
    wanted = given[[]].assign(row=np.arange(len(given)), **ids).dropna()
    match["links_absent"] = len(given) - len(wanted)
    return wanted


def _with_factors(
    wanted: DataFrame,
    store: PriorStore,
    need: Sequence[Evidence],
    score_min: float | None,
    p_max: float | None,
    match: dict[str, Any],
) -> DataFrame:
    """Return ``row, peak_id, gene_id, tf_id`` and the evidence for each factor that has what it needs."""
    columns = {"row": pa.int64(), "peak_id": pa.string(), "gene_id": pa.string()}
    values = {name: pa.array(wanted[name], kind) for name, kind in columns.items()}
    limits = {
        "score_min": -np.inf if score_min is None else score_min,
        "p_max": np.inf if p_max is None else p_max,
    }
    targets = TARGETS_SQL if "tf_gene" in store.tables() else NO_TARGETS_SQL
    common = f"WITH hits AS ({HITS_SQL}), targets AS ({targets})"
    source = f"FROM wanted {JOINS[tuple(need)]}"
    with closing(store.connection.cursor()) as cursor:
        cursor.execute("USE store")
        cursor.register("wanted", pa.table(values))
        ((rows,),) = cursor.execute(f"{common} SELECT count(*) {source}", limits).fetchall()
        if rows > MOST_ROWS:
            raise DataError(
                f"the network would have {rows:,} rows from {len(wanted):,} links, at most {MOST_ROWS:,} are made. "
                "Fix: fewer links (fdr_max, groups), a smaller motif_p_max, or require=('motif', 'regulon')."
            )
        sql = (
            f"{common} SELECT wanted.row AS row, coalesce(hits.tf_id, targets.tf_id) AS tf_id, "
            "hits.score AS motif_score, hits.p_value AS motif_p, coalesce(hits.motifs, 0)::INTEGER AS motifs, "
            "coalesce(targets.sign, 0)::TINYINT AS sign, coalesce(targets.source, '') AS source, "
            f"coalesce(targets.weight, 0) AS weight {source} ORDER BY 1, 2"
        )
        found = _shared_text(cursor.sql(sql, params=limits).to_arrow_table())
    match |= {"links_without_factor": len(wanted) - found["row"].nunique(), "factors": found["tf_id"].nunique()}
    return found.join(wanted.set_index("row")[["peak_id", "gene_id"]], on="row")


def _shared_text(table: pa.Table) -> DataFrame:
    """Return a DataFrame in which equal texts are one object: there are millions of rows of few names."""
    import pandas as pd

    columns = {}
    for name, column in zip(table.column_names, table.columns, strict=True):
        if pa.types.is_string(column.type):
            coded = column.combine_chunks().dictionary_encode()
            coded = coded.combine_chunks() if isinstance(coded, pa.ChunkedArray) else coded
            columns[name] = np.array(coded.dictionary.to_pylist(), dtype=object)[coded.indices.to_numpy()]
        else:
            columns[name] = column.to_numpy()
    return pd.DataFrame(columns)


def _ranked(
    given: DataFrame,
    wanted: DataFrame,
    found: DataFrame,
    store: PriorStore,
    need: Sequence[Evidence],
    tf_expressed: DataFrame | Series | None,
    tf_expressed_min: float,
    match: dict[str, Any],
) -> DataFrame:
    """Bring links and factors together, name, filter, score and order them."""
    network = given.iloc[found["row"].to_numpy()].reset_index(drop=True).rename(columns={"score": "link_score"})
    network = network.join(found.drop(columns="row"))
    network.insert(0, "tf", _tf_names(network["tf_id"], wanted["gene_id"], given["gene"], store))
    if tf_expressed is not None:
        network = _expressed(network, tf_expressed, tf_expressed_min, store, match)
    if "z" in network:
        match["links_without_z"] = int(given["z"].isna().sum())
    network["score"] = _scores(network, need)
    front = ["tf", "peak", "gene", "group", "score", "link_score"]
    ids = ["tf_id", "peak_id", "gene_id"]
    network = network[[*front, *(name for name in network if name not in {*front, *ids}), *ids]]
    return network.sort_values(["group", "score"], ascending=[True, False], kind="stable", ignore_index=True)


def _tf_names(factors: Series, gene_id: Series, gene: Series, store: PriorStore) -> Series:
    """Return the name of each factor: that of the links, else the symbol, or the identifier where that is taken.

    ``gene`` are the names of all links, ``gene_id`` those found, by row.
    """
    symbols = store.frame("gene").set_index("gene_id")["symbol"]
    named = dict(zip(gene_id, gene.loc[gene_id.index], strict=True))
    shown = {factor: named.get(factor, symbols[factor]) for factor in factors.unique()}
    owners: dict[str, set[str]] = {}
    for one, name in [*shown.items(), *named.items()]:
        owners.setdefault(name, set()).add(one)
    final = {one: name if len(owners[name]) == 1 or one in named else one for one, name in shown.items()}
    return factors.map(final).astype(object)


def _expressed(
    network: DataFrame, shares: DataFrame | Series, least: float, store: PriorStore, match: dict[str, Any]
) -> DataFrame:
    """Add the share of the cells of the group that express the factor, and keep the factors expressed enough."""
    import pandas as pd

    table = shares.to_frame(ONE_GROUP) if isinstance(shares, pd.Series) else shares
    table = table.set_axis(table.columns.astype(str), axis=1)
    if absent := sorted(set(network["group"]) - set(table.columns)):
        raise DataError(
            f"tf_expressed: no column for {len(absent)} of {network['group'].nunique()} groups of links: "
            f"{some(absent)}. Columns: {some(table.columns, 10)}."
        )
    names = table.index.astype(str)
    if not names.is_unique:
        raise DuplicateNames(f"tf_expressed: {int(names.duplicated().sum())} of {len(names)} gene names repeat.")
    gene_id = stored_genes(names.tolist(), store)["gene_id"]
    first = np.flatnonzero((gene_id.notna() & ~gene_id.duplicated()).to_numpy())
    place = pd.Index(gene_id.iloc[first]).get_indexer(pd.Index(network["tf_id"]))
    measured = place >= 0
    values = np.full(len(network), np.nan)
    column = table.columns.get_indexer(pd.Index(network["group"]))
    values[measured] = table.to_numpy(np.float64)[first[place[measured]], column[measured]]
    network = network.assign(expressed=values)
    match["factors_not_measured"] = int(network.loc[~measured, "tf_id"].nunique())
    if least > 0:
        kept = network["expressed"] >= least
        match["rows_of_factors_not_expressed"] = int((~kept).sum())
        network = network[kept].reset_index(drop=True)
    return network


def _scores(network: DataFrame, need: Sequence[Evidence]) -> Any:
    """Return the geometric mean of the relative ranks of the evidence within each group."""
    strength = "z" if "z" in network else "link_score"
    evidence = [(["gene", "peak"], network[strength])]
    if "motif" in need:
        evidence.append((["tf_id", "peak_id"], -network["motif_p"]))
    if "regulon" in need:
        evidence.append((["tf_id", "gene_id"], network["weight"]))
    logs = np.zeros(len(network))
    for key, values in evidence:
        _, first, place = np.unique(_codes(network, ["group", *key]), return_index=True, return_inverse=True)
        each = values.iloc[first].groupby(network["group"].iloc[first].to_numpy(), sort=False)
        logs += np.log(each.rank(pct=True, na_option="top").to_numpy()[place])
    return np.exp(logs / len(evidence))


def _codes(table: DataFrame, columns: Sequence[str]) -> NDArray[np.int64]:
    """Return a number for each row that rows alike in these columns share."""
    import pandas as pd

    key = np.zeros(len(table), dtype=np.int64)
    for name in columns:
        code, words = pd.factorize(table[name])
        key = np.unique(key * max(len(words), 1) + code, return_inverse=True)[1].astype(np.int64)
    return key

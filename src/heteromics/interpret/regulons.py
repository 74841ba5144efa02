"""Known targets of factors under the names of the data."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from heteromics.errors import DataError, some
from heteromics.interpret._joining import stored_genes

if TYPE_CHECKING:
    from pandas import DataFrame

    from heteromics.priors import PriorStore


def store_regulons(store: PriorStore, genes: Sequence[str], *, sources: Sequence[str] | None = None) -> DataFrame:
    """Return the known targets of each factor under the names that data have.

    Parameters
    ----------
    store
        With table ``tf_gene``.
    genes
        Names of the data, such as ``rna.var_names``.
    sources
        Collections to take, as the store names them; None takes all. Signs of a pair that disagree become 0, the
        highest weight stands.

    Returns
    -------
    DataFrame
        ``tf, gene, sign, weight``; ``tf`` is the symbol of the store. Targets that the data lack are left out, one that
        two names of the data mean stands under each. ``attrs["match"]`` counts ``targets`` (pairs) and
        ``targets_absent``, and names genes of the store that the data lack and second names of the data:
        ``genes_absent, second_names``.

    Raises
    ------
    StoreError
        When the store has no ``tf_gene``.
    DataError
        When it has no such collection, or none of the targets is among the genes.
    """
    import pandas as pd

    table = store.frame("tf_gene")
    known = sorted(table["source"].unique())
    if sources is not None:
        if unknown := sorted(set(sources) - set(known)):
            raise DataError(f"sources: {some(unknown)} not among the collections of the store: {some(known, 10)}.")
        table = table[table["source"].isin(list(sources))]
    by = table.groupby(["tf_id", "gene_id"], sort=False)
    pairs = by.agg(weight=("weight", "max"), up=("sign", "max"), down=("sign", "min")).reset_index()
    pairs["sign"] = pairs["up"].clip(lower=0) + pairs["down"].clip(upper=0)
    found = stored_genes(list(dict.fromkeys(map(str, genes))), store)["gene_id"].dropna()
    names = pd.DataFrame({"gene_id": found.to_numpy(), "gene": found.index})
    symbols = store.frame("gene").set_index("gene_id")["symbol"]
    pairs["tf"] = pairs["tf_id"].map(symbols)
    pairs["tf"] = pairs["tf"].where(~_shared(pairs["tf_id"], pairs["tf"]), pairs["tf_id"])
    kept, absent = pairs.merge(names, on="gene_id"), ~pairs["gene_id"].isin(names["gene_id"])
    if kept.empty:
        raise DataError(
            f"none of the {pairs['gene_id'].nunique()} targets in {store.path} is among {len(genes)} genes: "
            f"{some(genes)}. Fix: take a store of the same species."
        )
    regulons = kept[["tf", "gene", "sign", "weight"]].reset_index(drop=True)
    regulons.attrs["match"] = {
        "targets": len(pairs),
        "targets_absent": int(absent.sum()),
        "genes_absent": sorted(pairs.loc[absent, "gene_id"].unique()),
        "second_names": names.loc[names.duplicated("gene_id"), "gene"].tolist(),
    }
    return regulons


def _shared(ids: Any, names: Any) -> Any:
    """Return which rows have a name that several identifiers share."""
    return ids.groupby(names).transform("nunique") > 1

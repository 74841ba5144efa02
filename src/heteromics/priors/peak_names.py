"""Which peaks of a store the names of data mean: by name, else by the interval that the name gives."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from heteromics.priors.peaks import parse_peak_names

if TYPE_CHECKING:
    from heteromics.priors.store import PriorStore

PLACE = ["chrom", "chrom_start", "chrom_end"]


class PeaksFound(NamedTuple):
    """What n names mean.

    ``row`` in ``store.frame("peak")`` (-1 where the store has no such peak), whether it is found ``by_name``, and
    ``places``: ``chrom, chrom_start, chrom_end`` (bp, 0-based half-open) of the store, else of what the name says, NA
    where it says nothing; index: the names.
    """

    row: NDArray[np.int64]
    by_name: NDArray[np.bool_]
    places: pd.DataFrame


def store_peaks(store: PriorStore, names: Iterable[str]) -> PeaksFound:
    """Find the row of ``store.frame("peak")`` that each name means, by its name, then by its interval.

    Chromosomes are those that the names write. Of several peaks of one interval the first is taken.
    """
    table = store.frame("peak")[["peak_id", *PLACE]].astype({"chrom_start": "Int64", "chrom_end": "Int64"})
    given = pd.Index(np.array([str(name) for name in names], dtype=object))
    asked = given.unique()
    code = asked.get_indexer(given)
    row = pd.Index(table["peak_id"]).get_indexer(asked).astype(np.int64)
    by_name = row >= 0
    read = named_places(asked[~by_name])
    stored = table.reset_index(names="row").drop_duplicates(PLACE)
    at = asked.get_indexer(read.index)
    row[at] = read.merge(stored, how="left", on=PLACE)["row"].fillna(-1).to_numpy(np.int64)
    places = table[PLACE].reindex(row).set_axis(asked)
    lost = read[row[at] < 0]
    places.loc[lost.index] = lost
    return PeaksFound(row[code], by_name[code], places.take(code))


def named_places(names: Iterable[str]) -> pd.DataFrame:
    """Read the places of peaks from names such as ``chr1:100-200``.

    Returns
    -------
    DataFrame
        Index: the names that could be read; ``chrom, chrom_start, chrom_end`` (bp, 0-based half-open).

    Examples
    --------
    >>> named_places(["chr1:100-200", "GAPDH"]).values.tolist()
    [['chr1', 100, 200]]
    """
    read, _ = parse_peak_names([str(name) for name in names])
    places = {
        "chrom": np.asarray(read.chrom, dtype=object),
        "chrom_start": pd.array(read.start, dtype="Int64"),
        "chrom_end": pd.array(read.end, dtype="Int64"),
    }
    return pd.DataFrame(places, index=pd.Index(np.asarray(read.name, dtype=object)))

import numpy as np
import pandas as pd
import pytest

from heteromics.priors.peak_names import named_places, store_peaks


class Stored:
    """What of a store is asked for: its peaks."""

    def __init__(self, names, places):
        chrom, start, end = zip(*places, strict=True)
        self.peaks = pd.DataFrame({"peak_id": names, "chrom": chrom, "chrom_start": start, "chrom_end": end})

    def frame(self, name):
        assert name == "peak"
        return self.peaks


@pytest.fixture
def store():
    places = [("chr1", 5, 9), ("chr1", 20, 30), ("chr2", 5, 9), ("chr1", 20, 30)]
    return Stored(["chr1:5-9", "first", "chr2:5-9", "second"], places)


def test_names_come_before_places_and_places_that_are_not_stored_are_told(store):
    names = ["second", "chr1_20_30", "chr2:5-9", "chrUn_X-1-4", "GAPDH", "chr1_20_30"]
    found = store_peaks(store, names)
    assert found.row.tolist() == [3, 1, 2, -1, -1, 1]  # of two peaks of one interval the first
    assert found.by_name.tolist() == [True, False, True, False, False, False]
    assert found.places.index.tolist() == names
    places = [("chr1", 20, 30), ("chr1", 20, 30), ("chr2", 5, 9), ("chrUn_X", 1, 4)]
    assert [tuple(row) for row in found.places.iloc[:4].to_numpy()] == places
    assert found.places.iloc[4].isna().all()


def test_agrees_with_a_search_through_all(store):
    rng = np.random.default_rng(0)
    names = [f"chr{c}:{s}-{e}" for c, s, e in zip(*rng.integers(1, [[4], [9], [20]], (3, 200)), strict=True)]
    names += ["first", "chr1:5-9"]
    expected = []
    for name in names:
        by_name = [row for row, one in enumerate(store.peaks["peak_id"]) if one == name]
        place = tuple(named_places([name]).to_numpy().tolist()[0]) if ":" in name else None
        rows = zip(store.peaks["chrom"], store.peaks["chrom_start"], store.peaks["chrom_end"], strict=True)
        expected.append([*by_name, *(row for row, one in enumerate(rows) if one == place), -1][0])
    assert store_peaks(store, names).row.tolist() == expected
    assert len(set(expected)) > 2


def test_no_names_mean_no_peaks(store):
    found = store_peaks(store, [])
    assert (found.row.tolist(), len(found.places), len(named_places([]))) == ([], 0, 0)

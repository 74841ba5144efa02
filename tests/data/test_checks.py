import re

import numpy as np
import pytest
from scipy import sparse

from heteromics.data.checks import check_cells, check_counts, check_finite, check_unique_names
from heteromics.errors import DataError, DuplicateNames, EmptyCells, NotCounts

GOOD = np.array([[0, 3, 0], [1, 0, 2]])
FORMS = [np.asarray, sparse.csr_matrix, sparse.csc_matrix, sparse.coo_matrix, sparse.csr_array]


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.int64, np.uint16, bool])
def test_counts_of_any_type_pass(form, dtype):
    check_counts(form(GOOD.astype(dtype)), "rna")


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize(
    ("wrong", "kind"), [(np.nan, "NaN"), (np.inf, "infinite"), (-2.0, "negative"), (0.25, "fractional"),
                        (2.0**24 + 2, "beyond 2\\*\\*24, which float32 rounds")],
)  # fmt: skip
def test_what_is_no_count_is_counted_and_placed(form, wrong, kind):
    matrix = GOOD.astype(float)
    matrix[1, 2] = matrix[1, 0] = wrong
    what = "values" if form is np.asarray else "stored values"
    size = 6 if form is np.asarray else 3
    with pytest.raises(
        NotCounts, match=rf"rna: expected counts, that is finite.*\n  found 2 {kind} of {size} {what}"
    ) as e:
        check_counts(form(matrix), "rna")
    row, column = map(int, re.search(r"in row (\d), column (\d)", str(e.value)).groups())
    assert (row, column) in {(1, 0), (1, 2)}
    assert "Fix: name the layer that holds counts" in str(e.value)


def test_several_kinds_are_told_at_once():
    with pytest.raises(NotCounts) as caught:
        check_counts(np.array([[np.nan, -1.5, 2]]), "rna")
    assert [line.split()[2] for line in str(caught.value).splitlines()[1:4]] == ["NaN", "negative", "fractional"]


def test_large_unsigned_counts_are_found_too():
    check_counts(np.array([[2**24]], np.uint32), "rna")
    with pytest.raises(NotCounts, match=r"found 1 beyond 2\*\*24"):
        check_counts(np.array([[2**24 + 1]], np.uint32), "rna")


def test_empty_matrices_pass():
    check_counts(sparse.csr_matrix((0, 5)), "rna")
    check_counts(np.zeros((3, 0)), "rna")


def test_finite():
    check_finite(np.array([[-1.5, 0]]), "x")
    with pytest.raises(
        DataError, match="x: expected finite values.\n  found 1 NaN or infinite of 2 values, the first is inf"
    ):
        check_finite(np.array([[0, np.inf]]), "x")


@pytest.mark.parametrize("form", FORMS)
def test_empty_cells_are_counted_and_named(form):
    check_cells(form(GOOD), ["a", "b"], "rna")
    matrix = np.vstack([GOOD, np.zeros((4, 3))])
    with pytest.raises(
        EmptyCells, match=r"rna: 4 of 6 cells have no value but zero: c, d, e ... \(4 in all\).\n  Fix: remove"
    ):
        check_cells(form(matrix), list("abcdef"), "rna")


def test_stored_zeros_do_not_fill_a_cell():
    matrix = sparse.csr_matrix((np.array([0.0, 1.0]), np.array([0, 1]), np.array([0, 1, 2])), shape=(2, 2))
    with pytest.raises(EmptyCells, match="1 of 2 cells .* a"):
        check_cells(matrix, ["a", "b"], "rna")


def test_repeated_names():
    check_unique_names(["a", "b"], "genes")
    with pytest.raises(
        DuplicateNames, match=r"genes: 2 of 3 names are used more than once, by 5 of 6 entries: b, a\.\n  Fix: x"
    ):
        check_unique_names(list("bbaacb"), "genes", fix="x")

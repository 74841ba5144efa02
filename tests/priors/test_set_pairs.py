from itertools import combinations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import sparse
from sklearn.metrics.pairwise import cosine_similarity

from heteromics.priors.set_pairs import set_cosine, shared_sets

SETS = st.lists(st.sets(st.integers(0, 7)), min_size=1, max_size=8)


def members(sets):
    member = np.zeros((8, len(sets)), bool)
    for column, rows in enumerate(sets):
        member[sorted(rows), column] = True
    return member


@given(SETS)
@settings(max_examples=80, deadline=None)
def test_shared_sets_agree_with_looking_at_every_pair(sets):
    member = members(sets)
    pairs = shared_sets(sparse.csr_array(member))
    expected = []
    for a, b in combinations(range(8), 2):
        both, either = (member[a] & member[b]).sum(), (member[a] | member[b]).sum()
        if both:
            expected.append((a, b, both, both / either))
    np.testing.assert_allclose(np.array(pairs).T, np.array(expected).reshape(-1, 4))


@given(SETS, st.integers(0, 2**31), st.integers(1, 20), st.booleans())
@settings(max_examples=80, deadline=None)
def test_cosine_agrees_with_scikit_learn_however_the_cells_are_cut(sets, seed, step, centred):
    rng = np.random.default_rng(seed)
    cells = np.where(rng.random((20, 8)) < 0.3, rng.normal(0 if centred else 3, 1, (20, 8)), 0)
    cells[:, 3] = 0
    membership = sparse.csr_array(members(sets))
    pairs = shared_sets(membership)
    blocks = (sparse.csr_array(cells[start : start + step]) for start in range(0, 20, step))
    expected = cosine_similarity(cells.T)[pairs.a, pairs.b]
    np.testing.assert_allclose(set_cosine(blocks, membership, pairs), expected, atol=2e-6)


def test_no_sets_and_no_cells_give_no_weight():
    membership = sparse.csr_array((4, 3), dtype=bool)
    assert set_cosine([], membership, shared_sets(membership)).shape == (0,)
    pair = sparse.csr_array(np.ones((2, 1)))
    assert set_cosine([], pair, shared_sets(pair)).tolist() == [0]
    assert set_cosine([sparse.csr_array((0, 2))], pair, shared_sets(pair)).tolist() == [0]


def test_proportional_genes_weigh_one_and_opposite_ones_minus_one():
    cells = sparse.csr_array(np.array([[1.0, 2, -3], [2, 4, -6]]) * 1e3)
    membership = sparse.csr_array(np.ones((3, 2)))
    weight = set_cosine([cells], membership, shared_sets(membership))
    np.testing.assert_allclose(weight, [1, -1, -1], atol=1e-6)
    assert np.abs(weight).max() <= 1

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from heteromics.priors.gene_models import union_length


@settings(deadline=None)
@given(st.lists(st.tuples(st.integers(0, 4), st.integers(0, 110), st.integers(1, 40)), max_size=40))
def test_union_counts_each_base_once(exons):
    covered = [set() for _ in range(5)]
    for row, start, width in exons:
        covered[row] |= set(range(start, start + width))
    row, start, width = (
        np.array(column, dtype=np.int64) for column in (zip(*exons, strict=True) if exons else [[]] * 3)
    )
    assert union_length(row, start, start + width, 5).tolist() == [len(bases) for bases in covered]

"""Spearman's correlation in groups against scipy's, one group at a time."""

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import rankdata, spearmanr

from manyscale.explanation.rank_correlation import rank_correlation, ranks


@settings(max_examples=50, deadline=None)
@given(
    values=st.lists(st.tuples(st.integers(0, 4), st.integers(0, 5), st.integers(0, 5)), max_size=40)
)
def test_each_group_is_scipys(values):
    group, first, second = np.array(values, np.int64).reshape(-1, 3).T
    found = rank_correlation(first.astype(float), second.astype(float), group, 5)
    place = ranks(first.astype(float), group)
    for number in range(5):
        a, b = first[group == number], second[group == number]
        np.testing.assert_allclose(place[group == number], rankdata(a) - 1 if len(a) else [])
        if len(set(a)) < 2:
            assert np.isnan(found[number])
        elif len(set(b)) < 2:
            assert found[number] == 0
        else:
            np.testing.assert_allclose(found[number], spearmanr(a, b).statistic, atol=1e-12)

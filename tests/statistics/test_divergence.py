"""The Jensen-Shannon divergence against scipy's and its known values."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.spatial.distance import jensenshannon

from manyscale.errors import ManyscaleError
from manyscale.statistics.divergence import jensen_shannon

CONTENTS = st.lists(st.integers(0, 50), min_size=5, max_size=5).filter(any)


@given(CONTENTS, CONTENTS)
def test_is_the_square_of_scipys_distance(first, second):
    found = jensen_shannon(first, second)
    assert found == pytest.approx(jensenshannon(first, second, base=2) ** 2, abs=1e-7)
    assert found == pytest.approx(jensen_shannon(second, first), abs=1e-15)
    assert found == pytest.approx(jensen_shannon(np.multiply(first, 7.0), second), abs=1e-12)
    assert 0 <= found <= 1 + 1e-12


def test_of_two_samples_of_one_distribution_is_as_the_docstring_says():
    generator = np.random.default_rng(0)
    found = [
        jensen_shannon(*(generator.multinomial(n, np.full(20, 0.05)) for n in (500, 2000)))
        for _ in range(300)
    ]
    assert np.mean(found) == pytest.approx(19 / (8 * np.log(2)) * (1 / 500 + 1 / 2000), rel=0.08)


def test_edges():
    assert np.isnan(jensen_shannon([0, 0], [1, 1]))
    assert np.isnan(jensen_shannon([1, 1], [-1, 0]))
    assert jensen_shannon([1, -0.5, 1], [1, 0, 1]) == 0
    with pytest.raises(ManyscaleError, match="2 and 3 bins"):
        jensen_shannon([1, 1], [1, 1, 1])

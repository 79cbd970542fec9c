import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from manyscale.data.packing import PackedStream
from manyscale.model.batches import batches_by_length


@given(
    counts=st.lists(st.one_of(st.integers(0, 50), st.integers(0, 400)), max_size=200),
    rows=st.integers(1, 300),
)
def test_batches_hold_every_event_once_the_shortest_first(counts, rows):
    counts = np.array(counts, np.int64)
    nothing = np.zeros((len(counts), 0), np.float32)
    stream = PackedStream(np.zeros((counts.sum(), 1), np.float32), counts, nothing)
    batches = list(batches_by_length({"jet": stream}, rows))
    order = np.concatenate([*batches, np.zeros(0, np.int64)])
    assert sorted(order.tolist()) == list(range(len(counts)))
    lengths = counts + 1
    assert (np.diff(lengths[order]) >= 0).all()
    for batch in batches:
        assert lengths[batch][:-1].sum() < rows + lengths[batch].max()

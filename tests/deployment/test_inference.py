from functools import partial

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from helpers.networks import network_of
from helpers.toys import toy_events
from manyscale.deployment import inference
from manyscale.deployment.predict import class_probabilities
from manyscale.model.batches import batches_by_length


@settings(max_examples=20, deadline=None)
@given(events=st.integers(1, 40), rows=st.integers(1, 200), seed=st.integers(0, 1000))
def test_scores_depend_neither_on_the_batches_nor_on_their_order(events, rows, seed):
    network = network_of("model-2")
    streams = toy_events(seed, events=events).streams
    together = class_probabilities(network, streams)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(inference, "batches_by_length", partial(batches_by_length, rows=rows))
        in_batches = class_probabilities(network, streams)
    np.testing.assert_allclose(in_batches, together, atol=1e-5)

"""Symmetries that scores must have: each changes the events in a way that may change no score."""

from dataclasses import replace

import numpy as np

from manyscale.deployment.predict import class_probabilities
from manyscale.events.ragged import PackedStream

TOLERANCE = 1e-5


def permuted_tokens(stream, rng):
    """The same events, the tokens of each in another order."""
    event = np.repeat(np.arange(len(stream)), stream.counts)
    order = np.lexsort((rng.random(len(event)), event))
    return replace(stream, values=stream.values[order])


def assert_token_order_is_free(network, streams, rng):
    """Permuting the tokens of every stream changes no score."""
    changed = {name: permuted_tokens(stream, rng) for name, stream in streams.items()}
    assert all((changed[name].values != streams[name].values).any() for name in streams)
    np.testing.assert_allclose(
        class_probabilities(network, changed), class_probabilities(network, streams), atol=TOLERANCE
    )


def assert_batch_is_free(network, streams, rng):
    """The score of an event depends neither on its place nor on the events beside it."""
    together = class_probabilities(network, streams)
    order = rng.permutation(len(together))
    shuffled = {name: stream.take(order) for name, stream in streams.items()}
    np.testing.assert_allclose(
        class_probabilities(network, shuffled), together[order], atol=TOLERANCE
    )
    alone = [
        class_probabilities(network, {n: s.take(np.array([event])) for n, s in streams.items()})
        for event in range(min(8, len(together)))
    ]
    np.testing.assert_allclose(np.concatenate(alone), together[: len(alone)], atol=TOLERANCE)


def assert_padding_is_free(network, streams):
    """A long neighbour, which lengthens the padding of all others, changes no score."""
    together = class_probabilities(network, streams)
    grown = {}
    for name, stream in streams.items():
        longest = int(np.argmax(stream.counts))
        giant = stream.take(np.array([longest]))
        times = 5
        giant = PackedStream(np.tile(giant.values, (times, 1)), giant.counts * times, giant.axis)
        grown[name] = PackedStream.concatenate([stream, giant])
    np.testing.assert_allclose(class_probabilities(network, grown)[:-1], together, atol=TOLERANCE)

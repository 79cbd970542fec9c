"""One number of attention a token: what the last layer that looks at it gives it."""

from functools import partial

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from manyscale.explanation.recording import (
    AttentionCall,
    Place,
    SelfAttentionCall,
    attention_places,
    listening,
)
from manyscale.explanation.response import Streams, batches
from manyscale.model.classifier import MultiScaleClassifier

__all__ = ["last_looks", "token_attention"]


def last_looks(network: MultiScaleClassifier) -> dict[str, Place]:
    """Say, for each stream, which attention layer looks at its tokens last.

    The last cross-attention that has the stream as context; for any other stream the last of its own
    self-attention. A stream whose tokens no layer looks at is left out.
    """
    looks: dict[str, Place] = {}
    across: dict[str, Place] = {}
    for place, _ in attention_places(network):
        if not place.context:
            looks[place.stream] = place
        across.update(dict.fromkeys(place.context, place))
    return looks | across


def token_attention(
    network: MultiScaleClassifier, streams: Streams
) -> dict[str, NDArray[np.float32]]:
    """Attention that each token is given where the network looks at it last, by `last_looks`.

    Of cross-attention the mean over all queries of the event, the class token among them; of
    self-attention that of the class token alone. Averaged over heads.

    Parameters
    ----------
    network
        In evaluation mode.
    streams
        Already trimmed by the network.

    Returns
    -------
    (tokens,) by stream; of an event they sum to one at most, class tokens being keys, too.
    """
    looks = last_looks(network)
    found = {name: np.zeros(len(streams[name].values), np.float32) for name in looks}
    for chosen, batch in batches(network, streams):
        given: dict[str, Tensor] = {}
        with torch.no_grad(), listening(network, partial(_hear, looks, given, streams, chosen)):
            network(batch)
        for name, values in given.items():
            found[name][streams[name].rows(chosen)] = values.cpu().numpy()
    return found


def _hear(
    looks: dict[str, Place],
    given: dict[str, Tensor],
    streams: Streams,
    chosen: NDArray[np.int64],
    call: AttentionCall,
) -> None:
    """Keep what a call gives to the tokens that it is the last to look at."""
    place, events = call.place, len(chosen)
    seen = [name for name, last in looks.items() if last == place]
    if not seen:
        return
    if isinstance(call, SelfAttentionCall):
        rows = call.of_class_tokens().weights().onto_keys(torch.ones(events, 1))
    else:
        counts = torch.from_numpy(streams[place.stream].counts[chosen])
        share = 1 / (counts + 1)
        of_token = torch.repeat_interleave(share, counts)
        rows = call.weights().onto_keys(torch.cat([share, of_token])[:, None])
    rows = rows.mean(1)[:, 0]
    first = 0
    for name in place.context or (place.stream,):
        first += events
        tokens = int(streams[name].counts[chosen].sum())
        if name in seen:
            given[name] = rows[first : first + tokens]
        first += tokens

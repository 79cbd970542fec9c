"""How much memory events take once they are decoded, estimated without decoding them."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from manyscale.data.store import RowGroups
from manyscale.schema import Schema

__all__ = ["decoded_bytes"]

_FLOAT = 4
_WIDE = 8
# Label, process, weight and event_id; and for each stream how many tokens there are, and where.
_EVENT = 4 * _WIDE
_STREAM = 2 * _WIDE


def decoded_bytes(groups: RowGroups, schema: Schema, streams: Sequence[str]) -> NDArray[np.float64]:
    """Bytes of all events of each row group, (groups,), with the named streams.

    Further weights and observables are not counted; an event without a token counts as one token.
    """
    total: NDArray[np.float64] = groups.events.astype(np.float64) * _EVENT
    for name in streams:
        stream = schema.stream(name)
        total += groups.tokens[name] * (_FLOAT * len(stream.columns))
        total += groups.events * (_STREAM + _FLOAT * len(stream.axis))
    return total

"""Training events in contiguous arrays that are filled piece by piece, and used again."""

from typing import Generic, TypeVar

import numpy as np
from numpy.typing import NDArray

from manyscale.data.feed import TrainingBatch
from manyscale.events.ragged import PackedStream

__all__ = ["EventBuffer"]

_Scalar = TypeVar("_Scalar", bound=np.generic)

# By this factor an array becomes larger than it must.
_GROWTH = 1.05


class EventBuffer:
    """Room for training events: streams, label, weight and event_id."""

    def __init__(self) -> None:
        self._values: dict[str, _Rows[np.float32]] = {}
        self._axes: dict[str, _Rows[np.float32]] = {}
        self._counts: dict[str, _Rows[np.int64]] = {}
        self._label: _Rows[np.int64] = _Rows(np.zeros(0, np.int64))
        self._weight: _Rows[np.float32] = _Rows(np.zeros(0, np.float32))
        self._event_id: _Rows[np.uint64] = _Rows(np.zeros(0, np.uint64))

    def __len__(self) -> int:
        """Return the number of events."""
        return len(self._label.filled)

    @property
    def nbytes(self) -> int:
        """Bytes of all arrays."""
        return sum(rows.nbytes for rows in self._all())

    @property
    def events(self) -> TrainingBatch:
        """The events, without a copy: good until the buffer is cleared or added to."""
        streams = {
            name: PackedStream(
                self._values[name].filled, self._counts[name].filled, self._axes[name].filled
            )
            for name in self._values
        }
        return TrainingBatch(
            streams, self._label.filled, self._weight.filled, self._event_id.filled
        )

    def clear(self) -> None:
        """Forget the events; the room stays."""
        for rows in self._all():
            rows.clear()

    def append(self, events: TrainingBatch) -> None:
        """Copy some events to the end."""
        for name, stream in events.streams.items():
            self._values.setdefault(name, _Rows(stream.values)).append(stream.values)
            self._counts.setdefault(name, _Rows(stream.counts)).append(stream.counts)
            self._axes.setdefault(name, _Rows(stream.axis)).append(stream.axis)
        self._label.append(events.label)
        self._weight.append(events.weight)
        self._event_id.append(events.event_id)

    def _all(self) -> "list[_Rows[np.float32] | _Rows[np.int64] | _Rows[np.uint64]]":
        return [
            *self._values.values(),
            *self._axes.values(),
            *self._counts.values(),
            self._label,
            self._weight,
            self._event_id,
        ]


class _Rows(Generic[_Scalar]):
    """An array that rows are appended to."""

    def __init__(self, like: NDArray[_Scalar]) -> None:
        self._array = np.empty((0, *like.shape[1:]), like.dtype)
        self._used = 0

    @property
    def nbytes(self) -> int:
        return self._array.nbytes

    @property
    def filled(self) -> NDArray[_Scalar]:
        return self._array[: self._used]

    def clear(self) -> None:
        self._used = 0

    def append(self, rows: NDArray[_Scalar]) -> None:
        needed = self._used + len(rows)
        if needed > len(self._array):
            # In place, where the system can: never two copies of a large array.
            self._array.resize((int(needed * _GROWTH), *rows.shape[1:]), refcheck=False)
        self._array[self._used : needed] = rows
        self._used = needed

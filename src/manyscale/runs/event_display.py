"""Which events are worth looking at one by one, and what the display shows of them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from manyscale.data.packing import PackedEvents, PackedStream
from manyscale.data.schema import Process
from manyscale.deployment.predict import Alignment
from manyscale.deployment.bundle import CLASSES
from manyscale.explanation.gradcam import token_importance
from manyscale.explanation.token_attention import last_looks, token_attention
from manyscale.explanation.tokens import TokenReader, token_readers
from manyscale.features.columns import StreamBatch, TokenColumns
from manyscale.features.images import ImageSettings
from manyscale.features.jet_frame import FrameSettings
from manyscale.features.registry import can_compute, recipe
from manyscale.model.classifier import MultiScaleClassifier

__all__ = ["Gallery", "display_of"]

_SIGNAL_LIKE, _BACKGROUND_LIKE, _MISTAKE = (
    "most signal-like",
    "most background-like",
    "worst mistake",
)
# About the jet's axis, not turned: as a detector sees it.
_AS_STORED = ImageSettings(frame=FrameSettings())
_DIGITS = 4


@dataclass(frozen=True)
class _Ranked:
    """The events of one class with the highest rank so far, best first, streams and all."""

    events: PackedEvents
    score: NDArray[np.float32]
    rank: NDArray[np.float32]

    def joined(self, other: "_Ranked", most: int) -> "_Ranked":
        """The best of both; of equal rank the one with the smaller event_id."""
        events = PackedEvents.concatenate([self.events, other.events])
        score = np.concatenate([self.score, other.score])
        rank = np.concatenate([self.rank, other.rank])
        best = np.lexsort((events.event_id, -rank))[:most]
        return _Ranked(events.take(best), score[best], rank[best])


class Gallery:
    """Keeps, of events that come chunk by chunk, those that are worth a look.

    A third each: signal events with the highest score; background events with the lowest; worst
    mistakes, half of them signal with the lowest score, half background with the highest.

    Parameters
    ----------
    most
        Events in all.
    """

    def __init__(self, most: int) -> None:
        third, rest = divmod(most, 3)
        mistakes = third + (rest > 1)
        # Why, label, whether a high score is sought, how many.
        self._wanted = (
            (_SIGNAL_LIKE, 1, True, third + (rest > 0)),
            (_BACKGROUND_LIKE, 0, False, third),
            (_MISTAKE, 1, False, mistakes - mistakes // 2),
            (_MISTAKE, 0, True, mistakes // 2),
        )
        self._kept: list[_Ranked | None] = [None] * len(self._wanted)

    def add(self, events: PackedEvents, score: NDArray[np.float32]) -> None:
        """Look at some events with their scores, (events,)."""
        for place, (_, label, high, most) in enumerate(self._wanted):
            rank = score if high else -score
            members = np.flatnonzero(events.label == label)
            best = members[np.argsort(-rank[members], kind="stable")[:most]]
            found = _Ranked(events.take(best), score[best], rank[best])
            kept = self._kept[place]
            self._kept[place] = found if kept is None else kept.joined(found, most)

    def events(self) -> list[tuple[str, PackedEvents, NDArray[np.float32]]]:
        """Why, the events, and their scores; each event once, and a mistake is one only below 1/2.

        A signal event counts as mistaken where its score is below 0.5, a background event where it
        is not.
        """
        found: list[tuple[str, PackedEvents, NDArray[np.float32]]] = []
        seen = np.zeros(0, np.uint64)
        for (why, label, _, _), kept in zip(self._wanted, self._kept, strict=True):
            if kept is None:
                continue
            new = ~np.isin(kept.events.event_id, seen)
            if why == _MISTAKE:
                new &= (kept.score < 0.5) if label else (kept.score >= 0.5)
            chosen = np.flatnonzero(new)
            seen = np.concatenate([seen, kept.events.event_id[chosen]])
            found.append((why, kept.events.take(chosen), kept.score[chosen]))
        return found


def display_of(
    gallery: Gallery,
    network: MultiScaleClassifier,
    alignment: Alignment,
    processes: Sequence[Process],
) -> dict[str, Any]:
    """Say of each chosen event all that its display shows: explanation/display.json.

    Parameters
    ----------
    alignment
        From the events' columns to those that the network takes.
    processes
        Of the schema to which the events point.
    """
    shown = _shown_streams(network)
    names = [process.name for process in processes]
    events = []
    for why, chosen, score in gallery.events():
        tokens = _described(network, alignment(chosen.streams), shown) if len(chosen) else []
        events += [
            {
                "event_id": str(chosen.event_id[place]),
                "label": CLASSES[chosen.label[place]],
                "process": names[chosen.process[place]],
                "score": round(float(score[place]), _DIGITS),
                "why": why,
                "streams": of_event,
            }
            for place, of_event in enumerate(tokens)
        ]
    looks = last_looks(network)
    streams = [
        {
            "name": name,
            "frame": "around the jet's axis" if reader.plane else "detector",
            "attention": looks[name].name if name in looks else None,
        }
        for name, reader in shown.items()
    ]
    return {"events": events, "streams": streams}


def _shown_streams(network: MultiScaleClassifier) -> dict[str, TokenReader]:
    """Streams whose tokens have a place to be drawn at."""
    readers = token_readers(network, _AS_STORED)
    return {name: reader for name, reader in readers.items() if _directions(reader)}


def _directions(reader: TokenReader) -> tuple[str, str] | None:
    names = ("delta_eta", "delta_phi") if reader.plane else ("eta", "phi")
    return names if all(can_compute(name, reader.stream) for name in names) else None


def _described(
    network: MultiScaleClassifier,
    streams: Mapping[str, PackedStream],
    shown: Mapping[str, TokenReader],
) -> list[dict[str, dict[str, Any]]]:
    """Of each event, by stream, its tokens column by column."""
    trimmed = network.trim(streams)
    attention, importance = token_attention(network, trimmed), token_importance(network, trimmed)
    columns = {
        name: _token_lists(reader, trimmed[name], attention.get(name), importance[name])
        for name, reader in shown.items()
    }
    events = len(next(iter(trimmed.values())))
    return [
        {name: of_stream[place] for name, of_stream in columns.items()} for place in range(events)
    ]


def _token_lists(
    reader: TokenReader,
    stream: PackedStream,
    attention: NDArray[np.float32] | None,
    importance: NDArray[np.float32],
) -> list[dict[str, Any]]:
    """Of each event, the tokens of a stream column by column."""
    batch = StreamBatch.of(stream)
    columns = TokenColumns(reader.stream, batch)
    directions = _directions(reader)
    assert directions is not None  # noqa: S101 - such streams are not shown
    eta, phi = (recipe(name, reader.stream).compute(columns).numpy() for name in directions)
    pt = columns["pt"].numpy() if reader.has_pt else np.ones(len(eta), np.float32)
    kinds = np.array(reader.kinds)[reader(batch).kind.numpy()]
    numbers = {"eta": eta, "phi": phi, "pt": pt, "attention": attention, "importance": importance}
    found = []
    for first, last in zip(stream.offsets[:-1], stream.offsets[1:], strict=True):
        tokens: dict[str, Any] = {
            name: None if values is None else _rounded(values[first:last])
            for name, values in numbers.items()
        }
        found.append({**tokens, "kind": kinds[first:last].tolist()})
    return found


def _rounded(values: NDArray[np.float32]) -> list[float]:
    rounded: list[float] = np.round(values.astype(np.float64), _DIGITS).tolist()
    return rounded

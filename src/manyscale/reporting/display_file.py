"""What a report reads of explanation/display.json: chosen events, token by token."""

import json
import math
from typing import Annotated, Self

from markupsafe import Markup
from pydantic import BeforeValidator, FiniteFloat, model_validator

from manyscale.reporting.json_files import Part

__all__ = ["Display"]

# Text of all events together, so that the page stays light.
_MOST_BYTES = 600_000


def _known(value: object) -> object:
    """What is not a number is not known."""
    return None if isinstance(value, float) and not math.isfinite(value) else value


_Numbers = tuple[FiniteFloat, ...]
_Given = tuple[Annotated[float | None, BeforeValidator(_known)], ...] | None


class _Tokens(Part):
    """The tokens of one stream; `attention` and `importance` None where they have no meaning."""

    eta: _Numbers
    phi: _Numbers
    pt: _Numbers
    kind: tuple[str, ...]
    attention: _Given = None
    importance: _Given = None

    @model_validator(mode="after")
    def _of_one_length(self) -> Self:
        columns = (self.phi, self.pt, self.kind, self.attention, self.importance)
        if any(column is not None and len(column) != len(self.eta) for column in columns):
            raise ValueError("its columns must have a value a token")
        return self


class _Event(Part):
    """One event, why it was chosen, and its tokens by stream."""

    event_id: str
    label: str
    process: str
    score: FiniteFloat
    why: str
    streams: dict[str, _Tokens]


class _Stream(Part):
    """A stream, the frame of its eta and phi, and whose attention its tokens are given."""

    name: str
    frame: str
    attention: str | None = None


class Display(Part):
    """The whole of display.json."""

    events: tuple[_Event, ...] = ()
    streams: tuple[_Stream, ...] = ()

    def light(self) -> "Display":
        """As many of the events, from each reason the first, as a page can carry."""
        by_reason: dict[str, list[_Event]] = {}
        for event in self.events:
            by_reason.setdefault(event.why, []).append(event)
        places = sorted(
            (place, reason)
            for reason, events in enumerate(by_reason.values())
            for place in range(len(events))
        )
        groups = list(by_reason.values())
        kept, left = set(), _MOST_BYTES
        for place, reason in places:
            event = groups[reason][place]
            left -= len(event.model_dump_json())
            if left < 0:
                break
            kept.add(id(event))
        return Display(
            events=tuple(event for event in self.events if id(event) in kept), streams=self.streams
        )

    def embedded(self) -> Markup:
        """JSON that can stand in a script element: nothing in it can end the element."""
        text = json.dumps(self.model_dump(), separators=(",", ":"), allow_nan=False)
        for character in "<>&\u2028\u2029":
            text = text.replace(character, f"\\u{ord(character):04x}")
        return Markup(text)  # noqa: S704 - no character of HTML is left

"""The card of each preset, as `manyscale card PRESET` prints it."""

import difflib
from pathlib import Path

from manyscale.card.settings import Card, DataSettings
from manyscale.card.writing import card_text
from manyscale.data.npz import LONE_STREAM
from manyscale.errors import CardError
from manyscale.model.layers import StreamSettings
from manyscale.model.layers import FusionSettings
from manyscale.model.layers import HeadSettings
from manyscale.model.presets import PRESETS, Preset, resolve

__all__ = ["check_preset", "preset_card", "preset_card_text"]

_GENERATED_STREAMS = ("jet1", "jet2", "kinematics")
# Some ten thousand generated events are few: without dropout the encoders of the jets learn them
# by heart (train loss 0.11, validation loss 0.20 in benchmarks/hh4b.py).
_DROPOUT = 0.1
_JET = StreamSettings(encoder="jets", dropout=_DROPOUT)
_OBJECTS = StreamSettings(max_tokens=16, dropout=_DROPOUT)

_TITLES = {
    "kinematics-only": "the reconstructed kinematics alone",
    "concatenation": "each stream encoded, their class tokens side by side, no cross-attention",
    "model-1": "one stream, self-attention",
    "model-2": "three streams, self-attention in each, the last asks the others",
    "model-3": "two streams, self-attention in each, the last asks the first",
    "custom": "any streams, any list of cross-attention blocks",
}


def preset_card(preset: Preset) -> Card:
    """The card of a preset: model-1 straight from npz files, the others on a generated dataset."""
    if preset == "model-1":
        files = {kind: {LONE_STREAM: Path(f"{kind}.npz")} for kind in ("signal", "background")}
        return Card(
            preset=preset, data=DataSettings(**files), streams={LONE_STREAM: StreamSettings()}
        )
    taken = resolve(preset, _GENERATED_STREAMS)
    fusion = taken.fusion
    if preset == "custom":
        both = ("jet1", "jet2")
        fusion = (
            FusionSettings(query="jet1", context=("jet2",)),
            FusionSettings(query="kinematics", context=both),
        )
    return Card(
        preset=preset,
        data=DataSettings(dataset=Path("data/hh4b")),
        streams={name: _JET if name.startswith("jet") else _OBJECTS for name in taken.streams},
        fusion=tuple(block.model_copy(update={"dropout": _DROPOUT}) for block in fusion) or None,
        head=HeadSettings(dropout=_DROPOUT),
    )


def preset_card_text(preset: Preset) -> str:
    """The card of a preset with its comments; only the lines that the model uses."""
    card = preset_card(preset)
    unused = frozenset() if card.fusion else frozenset({"fusion"})
    return card_text(card, f"manyscale card, {preset}: {_TITLES[preset]}", leave_out=unused)


def check_preset(name: str) -> Preset:
    """The preset of that name.

    Raises
    ------
    CardError
        Where there is none; the message names the nearest.
    """
    for preset in PRESETS:
        if preset == name:
            return preset
    close = difflib.get_close_matches(name, PRESETS, n=1)
    hint = f"did you mean {close[0]}?" if close else ""
    raise CardError(f"there is no preset '{name}'; there are {', '.join(PRESETS)}. {hint}".strip())

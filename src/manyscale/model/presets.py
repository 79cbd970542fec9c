"""The presets: which streams a model takes, and which of them attend to the others."""

from collections.abc import Mapping, Sequence
from typing import Literal, TypeVar, get_args

from manyscale.errors import CardError
from manyscale.model.classifier import ModelSettings
from manyscale.model.layers import FusionSettings, HeadSettings, StreamSettings
from manyscale.schema import CONSTITUENTS

__all__ = ["JETS", "PRESETS", "Preset", "resolve"]

AnySettings = TypeVar("AnySettings", StreamSettings, FusionSettings, HeadSettings)
Preset = Literal["kinematics-only", "concatenation", "model-1", "model-2", "model-3", "custom"]
PRESETS: tuple[Preset, ...] = get_args(Preset)
#: Name of the encoder that the two fat jets share.
JETS = "jets"


def resolve(
    preset: Preset,
    available: Sequence[str],
    streams: Mapping[str, StreamSettings] | None = None,
    fusion: Sequence[FusionSettings] | None = None,
    head: HeadSettings | None = None,
) -> ModelSettings:
    """Say what a preset means for the streams that the data have.

    Parameters
    ----------
    preset
        model-1: the first stream alone; model-2: all streams, the last attends to the others;
        model-3: the first and the last, the last attends to the first; concatenation: all streams, side by side;
        kinematics-only: the stream `kinematics`, else the last; custom: all streams, with any
        fusion, without one as model-2.
    available
        Names of the streams in the data, in their order.
    streams
        Settings of streams by name; a stream not named has the defaults. `jet1` and `jet2` share the
        encoder `jets` where the settings of neither name one and nothing else keeps them apart.
    fusion
        Cross-attention blocks in place of the preset's own.
    head
        The layers after the pooling.

    Raises
    ------
    CardError
        Where the data have too few streams, or settings name a stream that they do not have, or the
        fusion is that of another preset.

    Examples
    --------
    >>> model = resolve("model-2", ["jet1", "jet2", "kinematics"])
    >>> model.fusion[0].query, model.fusion[0].context
    ('kinematics', ('jet1', 'jet2'))
    """
    given = streams or {}
    unknown = [name for name in given if name not in available]
    if unknown:
        raise CardError(
            f"streams.{unknown[0]}: the data have no stream '{unknown[0]}'; "
            f"they have {', '.join(available)}"
        )
    if preset == "model-1":
        taken = [available[0]]
    elif preset == "kinematics-only":
        taken = ["kinematics" if "kinematics" in available else available[-1]]
    elif len(available) < 2 and preset != "custom":
        raise CardError(
            f"preset {preset} needs two streams or more; the data have only "
            f"'{available[0]}': use model-1, or name files of more streams"
        )
    else:
        taken = [available[0], available[-1]] if preset == "model-3" else list(available)
    fuses = preset in {"model-2", "model-3", "custom"} and len(taken) > 1
    if fusion is None and fuses:
        fusion = [FusionSettings(query=taken[-1], context=tuple(taken[:-1]))]
    fused = {name for block in fusion or () for name in (block.query, *block.context)}
    if preset != "custom" and fused and (not fuses or fused & set(available) - set(taken)):
        # As where `preset` alone was changed in a printed card.
        does = (
            f"{taken[-1]} queries {', '.join(taken[:-1])}" if fuses else "no stream queries others"
        )
        delete = ["`fusion`", *(f"`streams.{name}`" for name in given if name not in taken)]
        raise CardError(
            f"preset {preset} takes of the data's streams {', '.join(taken)}, and {does}: delete "
            f"{' and '.join(delete)} from the card, or use preset custom"
        )
    chosen = {name: given.get(name, StreamSettings()) for name in taken}
    jets = {name: chosen[name] for name in CONSTITUENTS if name in taken}
    first = next(iter(jets.values()), None)
    # Two jets of a kind are seen by one encoder, unless the card says which, or wants them different.
    if first and all(
        "encoder" not in jet.model_fields_set
        and jet.may_share_encoder(first)
        and jet.features == first.features
        for jet in jets.values()
    ):
        shared = {"encoder": JETS}
        chosen |= {name: jet.model_copy(update=shared) for name, jet in jets.items()}
    # Some ten thousand generated events are few: without dropout the jets' encoders learn them by heart
    # (docs/ablations.md). One jet of an npz it serves ill.
    dropout = 0.0 if preset == "model-1" else 0.1

    def completed(of: AnySettings) -> AnySettings:
        return of.model_copy(update={"dropout": dropout}) if of.dropout is None else of

    return ModelSettings(
        streams={name: completed(of) for name, of in chosen.items()},
        fusion=tuple(map(completed, fusion or ())),
        head=completed(head or HeadSettings()),
    )

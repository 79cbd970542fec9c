"""The card: all settings of a run, composed of the sections that each part owns; and the presets' cards."""

import difflib
from collections.abc import Callable
from pathlib import Path
from typing import Annotated

from pydantic import BeforeValidator, Field, model_validator

from manyscale.data.event_filter import SplitSettings
from manyscale.errors import CardError
from manyscale.evaluation.limits import LimitSettings
from manyscale.evaluation.systematics import Systematics
from manyscale.events.files.convert_settings import ConvertSettings
from manyscale.events.settings import GenerateSettings
from manyscale.features.images import ImageSettings
from manyscale.model.layers import FusionSettings, HeadSettings, StreamSettings
from manyscale.model.presets import PRESETS, Preset, resolve
from manyscale.reporting.look import PlotSettings
from manyscale.schema import LONE_STREAM, Label
from manyscale.settings import Settings, setting
from manyscale.training.schedule import TrainingSettings

__all__ = ["Card", "DataSettings", "EvaluationSettings", "check_preset", "preset_card"]


def _by_stream(value: object) -> object:
    """A lone file is the stream `constituents`."""
    return {LONE_STREAM: value} if isinstance(value, str) else value


Files = Annotated[dict[str, Path], BeforeValidator(_by_stream)]


class DataSettings(Settings):
    """Where the events are, and how they are split."""

    dataset: Path | None = setting(None, "dataset folder, made by generate or convert")
    signal: Files | None = setting(
        None, "straight from npz: one file a stream, {jet1: a.npz, ...}, or one file alone"
    )
    background: Files | None = setting(None, "the same for the background")
    columns: dict[str, tuple[str, ...]] = setting(
        {}, "what the columns of an npz are, a list a stream; unnamed ones are f0, f1, ..."
    )
    streams: tuple[str, ...] | None = setting(
        None, "names of the streams to take; null: all that the data hold", min_length=1
    )
    split: SplitSettings = setting(SplitSettings(), "shares of the three parts, by event")
    max_events: int | None = setting(None, "events of each class at most; null: all", ge=1)
    memory: int = setting(
        256, "decoded events held at most while training; also the mixing window", unit="MB", ge=1
    )

    @model_validator(mode="after")
    def _one_source(self) -> "DataSettings":
        files = self.signal is not None or self.background is not None
        if self.dataset is not None and files:
            raise ValueError("give either dataset or signal and background, not both")
        if files and (self.signal is None or self.background is None):
            missing = "signal" if self.signal is None else "background"
            raise ValueError(f"{missing} is missing: from npz, both classes are needed")
        return self


class EvaluationSettings(Settings):
    """What the scores are evaluated against."""

    luminosity: float | None = setting(
        3000.0, "integrated luminosity of the physical yields; null: none", unit="fb^-1", gt=0
    )
    cross_sections: dict[str, Annotated[float, Field(gt=0)]] = setting(
        {},
        "of processes, in place of what the data say; from npz {signal: 0.01, background: 2.5e4}",
        unit="pb",
    )
    images: ImageSettings = setting(ImageSettings(), "mean jet images of the classes")
    mass: str = setting(
        "m_j1", "observable whose background distribution a cut on the score should not sculpt"
    )
    systematics: Systematics = setting(
        {}, "systematic uncertainties by name, each of one kind: {jes: {energy_scale: 0.02}}"
    )
    limits: LimitSettings = setting(LimitSettings(), "how limits are set from the scores")
    plots: PlotSettings = setting(PlotSettings(), "how plots look")


class Card(Settings):
    """All of a run. Every key has a default."""

    preset: Preset = setting("model-2", "which architecture")
    seed: int = setting(1, "the one seed from which all randomness comes", ge=0, lt=2**31)
    data: DataSettings = setting(DataSettings(), "where the events are")
    classes: dict[Label, tuple[str, ...]] | None = setting(
        None, "which process is of which class; null: as the dataset says"
    )
    streams: dict[str, StreamSettings] = setting(
        {}, "settings of the streams named; the others have the defaults"
    )
    fusion: tuple[FusionSettings, ...] | None = setting(
        None, "cross-attention blocks in order, query attends to context; null: the preset's"
    )
    head: HeadSettings = setting(HeadSettings(), "the layers after the pooling")
    training: TrainingSettings = setting(TrainingSettings(), "how the network is trained")
    generate: GenerateSettings = setting(GenerateSettings(), "events made by Pythia 8")
    convert: ConvertSettings = setting(ConvertSettings(), "what to take from files")
    evaluation: EvaluationSettings = setting(
        EvaluationSettings(), "what the scores are evaluated against"
    )

    def on_device(self, device: str) -> "Card":
        """The card with its training on `auto`, `cpu` or `cuda`."""
        accelerator = "gpu" if device == "cuda" else device
        training = self.training.model_copy(update={"accelerator": accelerator})
        return self.model_copy(update={"training": training})

    def with_paths(self, change: Callable[[Path], Path]) -> "Card":
        """The card with each path of data and of what the training starts from changed."""
        data: dict[str, object] = {}
        if self.data.dataset is not None:
            data["dataset"] = change(self.data.dataset)
        for label in ("signal", "background"):
            if (files := getattr(self.data, label)) is not None:
                data[label] = {name: change(path) for name, path in files.items()}
        start = self.training.start
        training = {"start": change(start)} if isinstance(start, Path) else {}
        return self.model_copy(
            update={
                "data": self.data.model_copy(update=data),
                "training": self.training.model_copy(update=training),
            }
        )

    def label_of(self, process: str, event_class: str) -> int:
        """Label of a process, by `classes` or else by its own class; -1 where it is of neither."""
        classes = self.classes or {}
        for label, names in classes.items():
            if process in names:
                return int(label == "signal")
        # A class that the card lists holds the processes listed and no others.
        return -1 if event_class in classes else int(event_class == "signal")


def preset_card(preset: Preset) -> Card:
    """The card of a preset: model-1 straight from npz files, the others on a generated dataset."""
    if preset == "model-1":
        streams: tuple[str, ...] = (LONE_STREAM,)
        files = {kind: {LONE_STREAM: Path(f"{kind}.npz")} for kind in ("signal", "background")}
        data = DataSettings(**files)
    else:
        streams, data = ("jet1", "jet2", "kinematics"), DataSettings(dataset=Path("data/hh4b"))
    taken = resolve(preset, streams)
    return Card(
        preset=preset,
        data=data,
        streams={name: StreamSettings(encoder=of.encoder) for name, of in taken.streams.items()},
        fusion=tuple(FusionSettings(query=of.query, context=of.context) for of in taken.fusion)
        or None,
    )


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

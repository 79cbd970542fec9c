"""An input.py of the seed package to a card. The file is read, never run."""

import ast
import math
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from manyscale.card.settings import Card, DataSettings
from manyscale.data.split import SplitSettings
from manyscale.errors import CardError
from manyscale.model.layers import StreamSettings
from manyscale.model.layers import FusionSettings
from manyscale.model.layers import HeadSettings
from manyscale.training.schedule import TrainingSettings

__all__ = ["Translation", "translate_seed"]

_STREAMS = {1: ("constituents",), 2: ("jet1", "jet2", "kinematics"), 3: ("jet1", "kinematics")}
_COMMON = {
    "model", "k_event", "test_ratio", "attention_mask", "num_classes", "batch_size", "epoch",
    "mlp_units", "dropout_rate", "lr", "compute_ROC",
}  # fmt: skip
_PER_STREAM = ("sig_file", "bkg_file", "num_heads", "num_transformers", "n_constit", "n_channels")
_CROSS = ("num_heads_cross", "num_transformers_cross")
_PART_HEADING = re.compile(r"#.*\bmodel\s*=?\s*([123])\b.*\bfill\b", re.IGNORECASE)
_DEFAULT_WIDTH = 32
_MOST_HEADS = 64


@dataclass
class Translation:
    """A card, and what of the seed's file could not be said in it."""

    card: Card
    remarks: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class _Assignment:
    name: str
    value: Any
    line: int
    part: int | None  # the model under whose heading it stands


def translate_seed(path: Path | str) -> Translation:
    """Translate an input.py of the seed package (arXiv:2401.00452).

    Only assignments of literals are read, and of these only the chosen model's. File names count
    from the file's own folder.

    Raises
    ------
    CardError
        Where the file cannot be read as Python, says no model from 1 to 3, or lacks a file name.
    """
    path = Path(path)
    try:
        text = path.read_text(encoding="utf-8")
        tree = ast.parse(text)
    except (OSError, UnicodeDecodeError, SyntaxError, ValueError) as error:
        raise CardError(f"{path} cannot be read as the seed's input.py: {error}") from error
    assignments, remarks = _literals(tree, text)
    model = next((a.value for a in reversed(assignments) if a.name == "model"), None)
    if not isinstance(model, int) or isinstance(model, bool) or model not in _STREAMS:
        raise CardError(f"{path}: model is {model!r}; it must be 1, 2 or 3")
    values = _values_of_model(assignments, model, remarks)
    return _Translator(path.resolve().parent, model, values, remarks).translation()


def _literals(tree: ast.Module, text: str) -> tuple[list[_Assignment], list[str]]:
    headings = [
        (number, int(found[1]))
        for number, line in enumerate(text.splitlines(), start=1)
        if (found := _PART_HEADING.search(line))
    ]
    assignments, remarks = [], []
    for node in tree.body:
        target = node.targets[0] if isinstance(node, ast.Assign) else None
        if not isinstance(node, ast.Assign) or not isinstance(target, ast.Name):
            if not (isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)):
                remarks.append(f"line {node.lineno}: not an assignment of a literal; left out")
            continue
        try:
            value = ast.literal_eval(node.value)
        except (ValueError, TypeError, SyntaxError, RecursionError):
            remarks.append(f"line {node.lineno}: {target.id} is not a literal; left out")
            continue
        part = next((model for line, model in reversed(headings) if line < node.lineno), None)
        assignments.append(_Assignment(target.id, value, node.lineno, part))
    return assignments, remarks


def _values_of_model(
    assignments: Sequence[_Assignment], model: int, remarks: list[str]
) -> dict[str, Any]:
    """The last value of each name that the chosen model takes."""
    if model == 1:
        known = _COMMON | {"hidden_dim"} | set(_PER_STREAM)
    else:
        count = len(_STREAMS[model])
        known = _COMMON | {f"{n}_{i}" for n in _PER_STREAM for i in range(1, count + 1)}
        known |= set(_CROSS)
    ours = [a for a in assignments if a.name in known]
    # Models 2 and 3 share names: of these, those under the chosen model's heading come first.
    shared = [a for a in ours if a.name not in _COMMON and a.part in {None, model}]
    values = {a.name: a.value for a in ours}
    if model != 1:
        values |= {a.name: a.value for a in shared}
    everything = _COMMON | {"hidden_dim", *_PER_STREAM, *_CROSS}
    everything |= {f"{name}_{number}" for name in _PER_STREAM for number in (1, 2, 3)}
    remarks += [
        f"line {a.line}: {a.name} is no name of the seed's input; left out"
        for a in assignments
        if a.name not in everything
    ]
    return values


class _Translator:
    """Turns the values of one input.py into a card that trains, and remarks what it cannot say."""

    def __init__(
        self, folder: Path, model: int, values: dict[str, Any], remarks: list[str]
    ) -> None:
        self.folder = folder
        self.model = model
        self.values = values
        self.remarks = remarks
        self.streams = _STREAMS[model]

    def translation(self) -> Translation:
        self._remark_the_rest()
        streams = {name: self._stream(place) for place, name in enumerate(self.streams, start=1)}
        card = Card(
            preset=f"model-{self.model}",
            data=DataSettings(
                signal=self._files("sig_file"),
                background=self._files("bkg_file"),
                split=self._split(),
                max_events=self._number("k_event", 1, None),
            ),
            streams=streams,
            fusion=self._fusion(),
            head=self._checked(
                HeadSettings(), units=self._units(), dropout=self.values.get("dropout_rate")
            ),
            training=self._training(),
        )
        return Translation(card, self.remarks)

    def _checked(self, settings: Any, **changes: Any) -> Any:  # noqa: ANN401 - any settings class
        """Take each change that the settings allow; a value out of range keeps the default."""
        kind = type(settings)
        for name, value in changes.items():
            if value is None:
                continue
            try:
                settings = kind.model_validate({**settings.model_dump(), name: value})
            except ValidationError as error:
                reason = error.errors()[0]["msg"]
                kept = getattr(settings, name)
                self.remarks.append(f"{name} = {value!r} is not possible ({reason}); {kept} taken")
        return settings

    def _number(
        self, name: str, lowest: int, default: int | None, highest: int = 10**9
    ) -> int | None:
        value = self.values.get(name)
        if isinstance(value, float) and value.is_integer():
            value = int(value)
        if isinstance(value, int) and not isinstance(value, bool) and lowest <= value <= highest:
            return value
        if value is not None:
            self.remarks.append(f"{name} = {value!r} is not possible; {default} taken")
        return default

    def _key(self, name: str, place: int) -> str:
        return name if self.model == 1 else f"{name}_{place}"

    def _files(self, name: str) -> dict[str, Path]:
        files = {}
        for place, stream in enumerate(self.streams, start=1):
            key = self._key(name, place)
            value = self.values.get(key)
            if not isinstance(value, str) or not value:
                raise CardError(f"input.py: {key} is {value!r}; it must name an npz file")
            files[stream] = self.folder / value
            if not files[stream].is_file():
                self.remarks.append(f"{key}: there is no file {files[stream]} yet")
        return files

    def _split(self) -> SplitSettings:
        test = self.values.get("test_ratio")
        if test is None:
            return SplitSettings()
        test = round(test, 6) if isinstance(test, float) else test
        if isinstance(test, bool) or not isinstance(test, int | float) or not 1e-3 <= test < 0.9:
            self.remarks.append(f"test_ratio = {test!r} is not possible; 0.15 taken")
            return SplitSettings()
        validation = round(0.1 * (1 - test), 6)
        return SplitSettings(
            train=round(1 - test - validation, 6), validation=validation, test=test
        )

    def _stream(self, place: int) -> StreamSettings:
        heads = self._number(self._key("num_heads", place), 1, 2, _MOST_HEADS) or 2
        head_width = self._number("hidden_dim", 1, None, _MOST_HEADS) if self.model == 1 else None
        multiple = heads
        if self.model != 1 and place == len(self.streams):
            multiple = math.lcm(heads, self._number("num_heads_cross", 1, 2, _MOST_HEADS) or 2)
        wanted = head_width * heads if head_width else _DEFAULT_WIDTH
        layers = self._key("num_transformers", place)
        channels = self._key("n_channels", place)
        if channels in self.values:
            self.remarks.append(
                f"{channels}: the number of columns is read off the file; name them in data.columns"
            )
        return self._checked(
            StreamSettings(heads=heads, width=math.ceil(wanted / multiple) * multiple),
            layers=self._number(layers, 0, 2, 100),
            max_tokens=self._number(self._key("n_constit", place), 1, 128, 10_000),
            dropout=self.values.get("dropout_rate"),
        )

    def _fusion(self) -> tuple[FusionSettings, ...] | None:
        if self.model == 1:
            return None
        block = FusionSettings(query=self.streams[-1], context=self.streams[:-1])
        return (
            self._checked(
                block,
                heads=self._number("num_heads_cross", 1, 2, _MOST_HEADS),
                layers=self._number("num_transformers_cross", 1, 1, 100),
                dropout=self.values.get("dropout_rate"),
            ),
        )

    def _units(self) -> tuple[int, ...] | None:
        units = self.values.get("mlp_units")
        if units is None:
            return None
        listed = units if isinstance(units, list | tuple) else [units]
        good = [u for u in listed if isinstance(u, int) and not isinstance(u, bool) and u >= 1]
        if len(good) < len(listed):
            self.remarks.append(f"mlp_units = {units!r} is not possible; {good} taken")
        return tuple(good)

    def _training(self) -> TrainingSettings:
        settings: TrainingSettings = self._checked(
            TrainingSettings(),
            epochs=self._number("epoch", 1, 20),
            batch_size=self._number("batch_size", 1, 256),
            learning_rate=self.values.get("lr"),
        )
        return settings

    def _remark_the_rest(self) -> None:
        if "attention_mask" in self.values:
            self.remarks.append("attention_mask: padding is always hidden from attention")
        if self.values.get("num_classes", 2) != 2:
            self.remarks.append("num_classes: there are two classes, signal and background")
        if self.values.get("compute_ROC") is False:
            self.remarks.append("compute_ROC: ROC and AUC are always worked out")

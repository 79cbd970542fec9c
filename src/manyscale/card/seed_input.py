"""An input.py of the seed package to a card. The file is read, never run."""

import ast
import math
import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

from pydantic import ValidationError

from manyscale.card.card import Card, DataSettings
from manyscale.data.event_filter import SplitSettings
from manyscale.errors import CardError
from manyscale.model.layers import FusionSettings, HeadSettings, StreamSettings
from manyscale.settings import Settings
from manyscale.training.schedule import TrainingSettings

__all__ = ["Translation", "translate_seed"]

_STREAMS = {1: ("constituents",), 2: ("jet1", "jet2", "kinematics"), 3: ("jet1", "kinematics")}
_COMMON = {
    "model", "k_event", "test_ratio", "attention_mask", "num_classes", "batch_size", "epoch",
    "mlp_units", "dropout_rate", "lr", "compute_ROC",
}  # fmt: skip
_PER_STREAM = ("sig_file", "bkg_file", "num_heads", "num_transformers", "n_constit", "n_channels")
_NAMES = _COMMON | {"hidden_dim", "num_heads_cross", "num_transformers_cross", *_PER_STREAM}
_NAMES |= {f"{name}_{number}" for name in _PER_STREAM for number in (1, 2, 3)}
# "## If you use model 2, please fill this part only ##"
_PART_HEADING = re.compile(r"#.*\bmodel\s*=?\s*([123])\b.*\bfill\b", re.IGNORECASE)
_DEFAULT_WIDTH = 32
_MOST_HEADS = 64

AnySettings = TypeVar("AnySettings", bound=Settings)


@dataclass
class Translation:
    """A card, and what of the seed's file could not be said in it."""

    card: Card
    remarks: list[str] = field(default_factory=list)


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
    headings = [
        (number, int(found[1]))
        for number, line in enumerate(text.splitlines(), start=1)
        if (found := _PART_HEADING.search(line))
    ]
    remarks: list[str] = []
    assigned: list[tuple[str, Any, int | None]] = []  # with the model under whose heading it stands
    for node in tree.body:
        target = node.targets[0] if isinstance(node, ast.Assign) else None
        if not isinstance(node, ast.Assign) or not isinstance(target, ast.Name):
            # A lone literal is a docstring.
            if not (isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)):
                remarks.append(f"line {node.lineno}: not an assignment of a literal; left out")
            continue
        try:
            value = ast.literal_eval(node.value)
        except (ValueError, TypeError, SyntaxError, RecursionError):
            remarks.append(f"line {node.lineno}: {target.id} is not a literal; left out")
            continue
        if target.id not in _NAMES:
            remarks.append(
                f"line {node.lineno}: {target.id} is no name of the seed's input; left out"
            )
        part = next((model for line, model in reversed(headings) if line < node.lineno), None)
        assigned.append((target.id, value, part))

    model = next((value for name, value, _ in reversed(assigned) if name == "model"), None)
    if not isinstance(model, int) or isinstance(model, bool) or model not in _STREAMS:
        raise CardError(f"{path}: model is {model!r}; it must be 1, 2 or 3")
    # The last value counts. Models 2 and 3 share names: of these, those under the chosen model's
    # heading count before others.
    if model != 1:
        assigned.sort(key=lambda one: one[0] not in _COMMON and one[2] in {None, model})
    values = {name: value for name, value, _ in assigned}
    return Translation(_Input(model, values, remarks).card(path.resolve().parent), remarks)


@dataclass
class _Input:
    """The values of one input.py, and the remarks on what of them a card cannot say."""

    model: int
    values: dict[str, Any]
    remarks: list[str]

    def card(self, folder: Path) -> Card:
        streams = _STREAMS[self.model]
        dropout = self.values.get("dropout_rate")
        if "attention_mask" in self.values:
            self.remarks.append("attention_mask: padding is always hidden from attention")
        if self.values.get("num_classes", 2) != 2:
            self.remarks.append("num_classes: there are two classes, signal and background")
        if self.values.get("compute_ROC") is False:
            self.remarks.append("compute_ROC: ROC and AUC are always worked out")
        fusion = None
        if self.model != 1:
            block = self.checked(
                FusionSettings(query=streams[-1], context=streams[:-1]),
                heads=self.whole("num_heads_cross", 1, 2, _MOST_HEADS),
                layers=self.whole("num_transformers_cross", 1, 1, 100),
                dropout=dropout,
            )
            fusion = (block,)
        return Card(
            preset=f"model-{self.model}",
            data=DataSettings(
                signal=self.files("sig_file", folder),
                background=self.files("bkg_file", folder),
                split=self.split(),
                max_events=self.whole("k_event", 1, None),
            ),
            streams={name: self.stream(number) for number, name in enumerate(streams, start=1)},
            fusion=fusion,
            head=self.checked(HeadSettings(), units=self.units(), dropout=dropout),
            training=self.checked(
                TrainingSettings(),
                epochs=self.whole("epoch", 1, 20),
                batch_size=self.whole("batch_size", 1, 256),
                learning_rate=self.values.get("lr"),
            ),
        )

    def checked(self, settings: AnySettings, **changes: object) -> AnySettings:
        """Take each change that the settings allow; a value out of range keeps the default."""
        for name, value in changes.items():
            if value is None:
                continue
            try:
                settings = type(settings).model_validate({**settings.model_dump(), name: value})
            except ValidationError as error:
                reason, kept = error.errors()[0]["msg"], getattr(settings, name)
                self.remarks.append(f"{name} = {value!r} is not possible ({reason}); {kept} taken")
        return settings

    def whole(
        self, name: str, lowest: int, default: int | None, highest: int = 10**9
    ) -> int | None:
        """A whole number in its range, else the default."""
        value = self.values.get(name)
        if isinstance(value, float) and value.is_integer():
            value = int(value)
        if isinstance(value, int) and not isinstance(value, bool) and lowest <= value <= highest:
            return value
        if value is not None:
            self.remarks.append(f"{name} = {value!r} is not possible; {default} taken")
        return default

    def key(self, name: str, number: int) -> str:
        """Name of a stream's value: model 1 does not number them."""
        return name if self.model == 1 else f"{name}_{number}"

    def files(self, name: str, folder: Path) -> dict[str, Path]:
        files = {}
        for number, stream in enumerate(_STREAMS[self.model], start=1):
            key = self.key(name, number)
            value = self.values.get(key)
            if not isinstance(value, str) or not value:
                raise CardError(f"input.py: {key} is {value!r}; it must name an npz file")
            files[stream] = folder / value
            if not files[stream].is_file():
                self.remarks.append(f"{key}: there is no file {files[stream]} yet")
        return files

    def split(self) -> SplitSettings:
        test = self.values.get("test_ratio")
        if test is None:
            return SplitSettings()
        test = round(test, 6) if isinstance(test, float) else test
        if isinstance(test, bool) or not isinstance(test, int | float) or not 1e-3 <= test < 0.9:
            self.remarks.append(f"test_ratio = {test!r} is not possible; 0.15 taken")
            return SplitSettings()
        # The seed validates on a tenth of what is not for the test.
        validation = round(0.1 * (1 - test), 6)
        train = round(1 - test - validation, 6)
        return SplitSettings(train=train, validation=validation, test=test)

    def stream(self, number: int) -> StreamSettings:
        heads = self.whole(self.key("num_heads", number), 1, 2, _MOST_HEADS) or 2
        channels = self.key("n_channels", number)
        if channels in self.values:
            self.remarks.append(
                f"{channels}: the number of columns is read off the file; name them in data.columns"
            )
        # The width is a multiple of the heads of each attention that the stream's tokens query.
        multiple, wanted = heads, _DEFAULT_WIDTH
        if self.model == 1:
            of_head = self.whole("hidden_dim", 1, None, _MOST_HEADS)
            wanted = of_head * heads if of_head else wanted
        elif number == len(_STREAMS[self.model]):
            crossing = self.whole("num_heads_cross", 1, 2, _MOST_HEADS) or 2
            multiple = math.lcm(heads, crossing)
        return self.checked(
            StreamSettings(heads=heads, width=math.ceil(wanted / multiple) * multiple),
            layers=self.whole(self.key("num_transformers", number), 0, 2, 100),
            max_tokens=self.whole(self.key("n_constit", number), 1, 128, 10_000),
            dropout=self.values.get("dropout_rate"),
        )

    def units(self) -> tuple[int, ...] | None:
        units = self.values.get("mlp_units")
        if units is None:
            return None
        listed = units if isinstance(units, list | tuple) else [units]
        good = [u for u in listed if isinstance(u, int) and not isinstance(u, bool) and u >= 1]
        if len(good) < len(listed):
            self.remarks.append(f"mlp_units = {units!r} is not possible; {good} taken")
        return tuple(good)

"""The model folder: all that is needed to score events, and nothing of where it was trained."""

import json
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file

from manyscale.errors import RunError
from manyscale.features.jet_frame import FRAMED
from manyscale.model.classifier import ModelSettings, MultiScaleClassifier
from manyscale.schema import COLUMNS, Schema, StreamSchema
from manyscale.settings import write_json

__all__ = ["CLASSES", "PRETRAINED", "Bundle", "load_bundle", "save_bundle"]

FORMAT = 3
#: Classes in the order of the network's outputs: label 0, label 1.
CLASSES = ("background", "signal")
#: The base that the package carries; see its README.md.
PRETRAINED = Path(__file__).parent.parent / "pretrained" / "small"


@dataclass(frozen=True)
class Bundle:
    """A trained network and the streams whose columns it takes.

    Attributes
    ----------
    network
        Ready to score.
    streams
        Schema of each stream that the network takes.
    labels
        What its user calls background and signal.
    """

    network: MultiScaleClassifier
    streams: tuple[StreamSchema, ...]
    labels: Sequence[Any] = (0, 1)


def save_bundle(
    folder: Path,
    network: MultiScaleClassifier,
    labels: Sequence[Any] = Bundle.labels,
    *,
    classes: Sequence[str] = CLASSES,
) -> None:
    """Write a model folder, whole: under another name first, then in place of an older one.

    `classes` names the network's outputs; those of a base are processes.

    It holds `weights.safetensors` (weights and standardisation; no date, no path), `config.json`
    (architecture, columns and labels, where they are not 0 and 1), `features.json` (the features, in order).
    """
    draft = folder.with_name(folder.name + ".tmp")
    shutil.rmtree(draft, ignore_errors=True)
    draft.mkdir(parents=True)
    weights = {
        key: value.detach().cpu().contiguous() for key, value in network.state_dict().items()
    }
    save_file(weights, draft / "weights.safetensors")
    streams = [network.extractor(name).stream.model_dump() for name in network.settings.streams]
    # The features are spelled out, so that a later default cannot change them.
    settings = network.settings.model_dump()
    for name in network.settings.streams:
        settings["streams"][name]["features"] = network.extractor(name).names
    features: dict[str, list[dict[str, Any]]] = {}
    for name in network.settings.streams:
        extractor = network.extractor(name)
        features[name] = []
        for feature in extractor.names:
            known = COLUMNS.get(feature)
            described: dict[str, Any] = {
                "name": feature,
                "kind": "class" if feature in extractor.classes else "number",
                "unit": known.unit if known else "",
                "doc": known.doc if known else "plain number",
            }
            if extractor.frame is not None and feature in FRAMED:
                described["frame"] = extractor.frame.settings.model_dump()
            features[name].append(described)
    config: dict[str, Any] = {
        "format": FORMAT,
        "classes": list(classes),
        "streams": streams,
        "model": settings,
    }
    if list(labels) != list(Bundle.labels):
        config["labels"] = list(labels)
    write_json(draft / "config.json", config)
    write_json(draft / "features.json", features)
    shutil.rmtree(folder, ignore_errors=True)
    draft.rename(folder)


def load_bundle(
    folder: Path | str, device: torch.device | str = "cpu", *, base: bool = False
) -> Bundle:
    """Read a model folder, its network on a device, in evaluation mode.

    With `base` a network of any classes is welcome, of which others take weights over.

    Raises
    ------
    RunError
        Where the folder is no model folder, is damaged, or was written by another manyscale.
    """
    folder = Path(folder)
    if not (folder / "config.json").is_file():
        raise RunError(f"{folder} is no model folder: it has no config.json")
    # Another format fails anywhere below; its number says why better than the failure.
    newer = older = False
    try:
        config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
        newer, older = config["format"] > FORMAT, config["format"] < FORMAT
        streams = tuple(StreamSchema.model_validate(stream) for stream in config["streams"])
        settings = ModelSettings.model_validate(config["model"])
        classes = tuple(config["classes"])
        network = MultiScaleClassifier(settings, Schema(streams=streams), len(classes))
        network.load_state_dict(load_file(folder / "weights.safetensors"))
    except (OSError, KeyError, TypeError, ValueError, RuntimeError, SafetensorError) as error:
        reason = str(error)
        if newer:
            reason = "it was written by a newer manyscale: install that one"
        elif older:
            reason = "it was written before the first release, with another network: train it again"
        raise RunError(f"model folder {folder} cannot be read: {reason}") from error
    if classes != CLASSES and not base:
        raise RunError(
            f"{folder} is a base of `manyscale pretrain`, which tells {len(classes)} processes apart: "
            f"name it in a card as training.start"
        )
    return Bundle(network.eval().to(device), streams, config.get("labels", Bundle.labels))

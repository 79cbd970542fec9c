"""The model folder: all that is needed to score events, and nothing of where it was trained."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load, save_file

from manyscale import __version__
from manyscale.checksums import read_checked, write_checksums
from manyscale.errors import RunError
from manyscale.features.jet_frame import FRAMED
from manyscale.model.classifier import ModelSettings, MultiScaleClassifier
from manyscale.schema import COLUMNS, Schema, StreamSchema
from manyscale.settings import write_json
from manyscale.writing import whole, write_whole

__all__ = [
    "CLASSES",
    "PRETRAINED",
    "Bundle",
    "described_features",
    "load_bundle",
    "save_bundle",
    "write_model_card",
]

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
    (architecture, columns and labels, where they are not 0 and 1), `features.json` (the features, in
    order), `README.md` (see `write_model_card`) and, written last, `checksums.json`. Who adds a file
    adds its checksum.
    """
    weights = {
        key: value.detach().cpu().contiguous() for key, value in network.state_dict().items()
    }
    streams = [network.extractor(name).stream.model_dump() for name in network.settings.streams]
    # The features are spelled out, so that a later default cannot change them.
    settings = network.settings.model_dump()
    for name in network.settings.streams:
        settings["streams"][name]["features"] = network.extractor(name).names
    config: dict[str, Any] = {
        "format": FORMAT,
        "classes": list(classes),
        "streams": streams,
        "model": settings,
    }
    if list(labels) != list(Bundle.labels):
        config["labels"] = list(labels)
    with whole(folder) as draft:
        draft.mkdir()
        save_file(weights, draft / "weights.safetensors")
        write_json(draft / "config.json", config)
        write_json(draft / "features.json", described_features(network))
        write_model_card(draft, network, classes=classes)
        write_checksums(draft)


def described_features(network: MultiScaleClassifier) -> dict[str, list[dict[str, Any]]]:
    """Say of each stream which features the network sees, in their order, with unit and meaning."""
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
    return features


def write_model_card(
    folder: Path,
    network: MultiScaleClassifier,
    *,
    classes: Sequence[str] = CLASSES,
    trained_on: Sequence[str] = (),
    figures: Sequence[str] = (),
) -> None:
    """Write README.md: what the model is made for, trained on and worth, and where it is valid.

    Parameters
    ----------
    classes
        As of `save_bundle`.
    trained_on, figures
        Lines of Markdown; without them the card says that they are not known.
    """
    inputs = []
    for name, settings in network.settings.streams.items():
        extractor = network.extractor(name)
        inputs.append(
            f"- `{name}`: columns {', '.join(extractor.stream.all_columns)}; of them the features "
            f"{', '.join(extractor.names)}; at most {settings.max_tokens} tokens"
        )
    parameters = sum(parameter.numel() for parameter in network.parameters())
    trained_on = trained_on or ["This folder does not say; its run or its author may."]
    figures = figures or ["None were worked out, or they do not stand in this folder."]
    made_for = f"telling {CLASSES[1]} from {CLASSES[0]} events"
    if tuple(classes) != CLASSES:
        made_for = f"other trainings to start from (it tells {', '.join(classes)} apart)"
    newline = "\n"
    card = f"""# Model card
Made for {made_for}: a multi-scale transformer with {parameters:,} parameters,
written by manyscale {__version__}. `manyscale.Classifier.load(FOLDER)` loads it.

## Trained on
{newline.join(trained_on)}

## Inputs and features
{newline.join(inputs)}

## Figures
{newline.join(figures)}

## Limits of validity
- Events like those of the training: the same detector, reconstruction, selection and units (GeV, radians).
  Elsewhere the score is an extrapolation, and no figure above holds.
- The score is the probability of signal where both classes are equally frequent, as far as it is calibrated;
  with other shares only its order is of use.
- Features beyond 10 standard deviations of the training are cut there. Values must be finite.
"""
    write_whole(folder / "README.md", card)


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
        config = json.loads(read_checked(folder / "config.json"))
        newer, older = config["format"] > FORMAT, config["format"] < FORMAT
        streams = tuple(StreamSchema.model_validate(stream) for stream in config["streams"])
        settings = ModelSettings.model_validate(config["model"])
        classes = tuple(config["classes"])
        network = MultiScaleClassifier(settings, Schema(streams=streams), len(classes))
        network.load_state_dict(load(read_checked(folder / "weights.safetensors")))
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

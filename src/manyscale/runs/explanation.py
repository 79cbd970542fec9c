"""Explaining a trained run: what it looks at, what moves its score, and whether to believe either."""

import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from manyscale.data.dataset import Dataset
from manyscale.data.packing import PackedEvents, PackedStream
from manyscale.deployment.predict import Alignment
from manyscale.errors import DataError
from manyscale.explanation.attention_maps import AttentionMaps
from manyscale.explanation.importance_maps import ImportanceMaps
from manyscale.explanation.pairs import PairAttention
from manyscale.explanation.response import batches
from manyscale.explanation.summary import attention_numbers, importance_numbers, pair_numbers
from manyscale.explanation.tally import ALL, Labelled, Tally
from manyscale.features.images import ImageSettings
from manyscale.model.classifier import MultiScaleClassifier
from manyscale.progress import Progress, Silent
from manyscale.runs.ablation import Deep, studies
from manyscale.runs.event_display import Gallery, display_of
from manyscale.runs.explanation_figures import (
    attention_figures,
    importance_figures,
    pair_figures,
)
from manyscale.runs.folder import RunFolder, write_json
from manyscale.runs.judging import Trial
from manyscale.runs.plotting import drop_plot

__all__ = ["EventSample", "add_up", "explain_run"]

Floats = NDArray[np.float64]

# Events decoded at a time; their tokens and what is worked out of them are held once.
_CHUNK = 2048
_MOST_DISPLAYED = 200
SUMMARY = "summary.json"
# Measured: what a token takes in the page.
_BYTES_A_TOKEN = 50
_PLOTS = (
    "attention_*",
    "gradcam_*",
    "integrated_gradients",
    "similarity",
    "shuffling",
    "deletion",
    "randomisation",
)


@dataclass(frozen=True)
class EventSample:
    """Some test events of a trial, as many of each class, their columns those of the network.

    Attributes
    ----------
    dataset
        The events.
    network
        Of the trial, in evaluation mode.
    alignment
        From the columns of the dataset to those of the network.
    """

    dataset: Dataset
    network: MultiScaleClassifier
    alignment: Alignment

    @staticmethod
    def of(trial: Trial, events: int) -> "EventSample":
        """At most so many, half of them of each class, chosen by a hash of `event_id`."""
        return EventSample(
            trial.test.restricted(max_events=max(1, events // 2)),
            trial.bundle.network,
            Alignment(trial.test.schema, trial.bundle.streams),
        )

    def chunks(self) -> Iterator[tuple[PackedEvents, dict[str, PackedStream], Floats]]:
        """The events in turn, their streams as the network sees them, class-balanced weights."""
        balance = self.dataset.balance
        for events in self.dataset.chunks(_CHUNK):
            streams = self.network.trim(self.alignment(events.streams))
            yield events, streams, balance.weights(events)

    def whole(self) -> tuple[PackedEvents, Floats]:
        """All events at once, for a sample of a few, and their class-balanced weights."""
        events = self.dataset.events()
        streams = self.network.trim(self.alignment(events.streams))
        return replace(events, streams=streams), self.dataset.balance.weights(events)


@dataclass(frozen=True)
class Sums:
    """What is added up over the events of a sample."""

    attention: AttentionMaps
    importance: ImportanceMaps
    gallery: Gallery


def add_up(
    sample: EventSample, images: ImageSettings, display: int, progress: Progress | None = None
) -> Sums:
    """Add up attention and Grad-CAM over a sample, and keep the events worth a look.

    Parameters
    ----------
    images
        Pixels and frame of the maps.
    display
        How many events to keep.
    """
    progress = progress or Silent()
    network = sample.network
    sums = Sums(AttentionMaps(network, images), ImportanceMaps(network, images), Gallery(display))
    progress.start("looking", len(sample.dataset), "events")
    for events, streams, weights in sample.chunks():
        score = np.empty(len(events), np.float32)
        for chosen, batch in batches(network, streams):
            labelled = Labelled.of(events.label[chosen], weights[chosen])
            logits = sums.attention.add(batch, labelled)
            score[chosen] = torch.softmax(logits, dim=1)[:, 1].numpy()
            sums.importance.add(batch, labelled)
            progress.advance(len(chosen))
        sums.gallery.add(events, score)
    progress.stop()
    return sums


def explain_run(
    root: Path | str,
    *,
    data: Path | str | None = None,
    events: int = 5000,
    deep: int = 500,
    display: int = 30,
    progress: Progress | None = None,
) -> dict[str, Any]:
    """Explain a run on its test events: numbers, plots and the events of the display.

    Parameters
    ----------
    root
        The folder of a trained run.
    data
        A dataset whose events all count as test events, instead of the run's own test split.
    events
        Attention maps and Grad-CAM are made of at most so many, half of them of each class.
    deep
        The same for what needs many passes: integrated gradients, shuffling, deletion, re-drawn
        weights, similarity of layers, attention between constituents.
    display
        So many events are written down one by one.

    Returns
    -------
    The content of explanation/summary.json: events, seconds, notices, and a row a stream.

    Raises
    ------
    RunError
        Where the run is not trained to its end.
    DataError
        Where the run's data are gone or lack a class, `data` holds events of the training, or more
        events are to be displayed than a page can carry.
    """
    progress = progress or Silent()
    trial = Trial.open(root, data)
    if display > _MOST_DISPLAYED:
        raise DataError(_too_many(trial, display))
    images, folder = _coarser(trial.card.evaluation.images), trial.folder
    folder.explanation.mkdir(exist_ok=True)
    # Written last: without it the report tells nothing of an explanation that was interrupted.
    (folder.explanation / SUMMARY).unlink(missing_ok=True)

    seconds: dict[str, float] = {}
    begun = time.perf_counter()
    sample = EventSample.of(trial, events)
    sums = add_up(sample, images, display, progress)
    shown = display_of(sums.gallery, sample.network, sample.alignment, trial.test.schema.processes)
    seconds["attention maps and Grad-CAM"] = time.perf_counter() - begun
    write_json(folder.explanation / "display.json", shown)

    few = EventSample.of(trial, deep)
    begun = time.perf_counter()
    pairs = _follow_pairs(few, images)
    seconds["attention between constituents"] = time.perf_counter() - begun
    for plot in _PLOTS:
        drop_plot(folder, plot)
    _write_maps(folder, sums, pairs, images, sample)
    found: dict[str, Any] = {}
    for study in studies(Deep(sample.network, *few.whole(), trial.card.seed), progress):
        found[study.name] = study.numbers
        seconds[study.name.replace("_", " ")] = study.seconds
        write_json(folder.explanation / f"{study.name}.json", study.numbers)
        for name, drawn in study.figures.items():
            drawn.save(folder.plots, name)
    summary = {
        "events": sample.dataset.class_counts,
        "deep_events": few.dataset.class_counts,
        "displayed": len(shown["events"]),
        "weights": "class-balanced",
        "seconds": {name: round(value, 2) for name, value in seconds.items()},
        "notices": sums.attention.notices(),
        "streams": _stream_rows(sums, found["shuffling"]),
    }
    write_json(folder.explanation / SUMMARY, summary)
    folder.log(f"explained on {len(sample.dataset)} events")
    return summary


def _coarser(images: ImageSettings) -> ImageSettings:
    """The card's images with half as many pixels each way: maps are many, and made of fewer events."""
    return images.model_copy(update={"bins": images.bins // 2 | 1})


def _too_many(trial: Trial, display: int) -> str:
    """Say how large the page would be."""
    events = next(trial.test.chunks(256))
    tokens = sum(stream.counts.sum() for stream in events.streams.values()) / len(events)
    megabytes = display * tokens * _BYTES_A_TOKEN / 1e6
    return (
        f"{display:,} events to display would make the page about {megabytes:,.0f} MB, which no "
        f"browser likes; {_MOST_DISPLAYED} are the most: --display {_MOST_DISPLAYED}. All events "
        f"count in the maps (--events), and `manyscale predict` writes the score of each"
    )


def _follow_pairs(sample: EventSample, images: ImageSettings) -> PairAttention:
    pairs = PairAttention(sample.network, images)
    for events, streams, weights in sample.chunks():
        for chosen, batch in batches(sample.network, streams):
            pairs.add(batch, Labelled.of(events.label[chosen], weights[chosen]))
    return pairs


def _write_maps(
    folder: RunFolder, sums: Sums, pairs: PairAttention, images: ImageSettings, sample: EventSample
) -> None:
    """Write numbers and plots of attention and of Grad-CAM."""
    about = {
        "events": sample.dataset.class_counts,
        "weights": "class-balanced",
        "images": images.model_dump(include={"bins", "half_width", "frame"}),
    }
    attention = {**about, **attention_numbers(sums.attention), "pairs": pair_numbers(pairs)}
    importance = {**about, "importance": importance_numbers(sums.importance)}
    write_json(folder.explanation / "attention.json", attention)
    write_json(folder.explanation / "gradcam.json", importance)
    for name, drawn in (
        *attention_figures(sums.attention, images),
        *pair_figures(pairs),
        *importance_figures(sums.importance, images, sums.attention),
    ):
        drawn.save(folder.plots, name)


def _stream_rows(sums: Sums, shuffling: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Of each stream: its part of attention and of Grad-CAM, and what is lost without it.

    `attention` is that of the class token of the last fusion block that looks at the stream, the mean
    over heads and classes.
    """
    attention = {
        name: _mean(tally, place.heads * len(sums.attention.asking[place.stream]))
        for (place, name), tally in sums.attention.cross.items()
    }
    worth = {row["stream"]: row for row in shuffling["streams"]}
    return [
        {
            "stream": name,
            "attention": attention.get(name),
            "importance": _mean(tally, 0),
            **{
                key: worth[name][key]
                for key in worth[name]
                if key not in {"stream", "group", "features"}
            },
        }
        for name, tally in sums.importance.tallies.items()
    ]


def _mean(tally: Tally, channel: int) -> float:
    """What all tokens of a stream are given, the mean of both classes."""
    mean, _ = tally.by_kind()
    return round(float(mean[:, tally.rows.index(ALL), channel].mean()), 6)

"""Explaining a trained run: what it attends to, what moves its score, and whether to believe either."""

import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from manyscale.data.dataset import Dataset
from manyscale.data.packing import PackedEvents
from manyscale.deployment.bundle import CLASSES
from manyscale.deployment.predict import Alignment, batches
from manyscale.errors import DataError
from manyscale.evaluation.results import (
    DisplayedEvent,
    DisplayStream,
    DisplayTokens,
    EventDisplay,
    Explanation,
    PermutationImportance,
    StreamImportance,
)
from manyscale.events.ragged import PackedStream
from manyscale.explanation.attention import AttentionMaps, last_attention, token_attention
from manyscale.explanation.checks import deletion, randomisation
from manyscale.explanation.gradcam import ImportanceMaps, grad_cam, token_importance
from manyscale.explanation.integrated_gradients import integrated_gradients, summarise
from manyscale.explanation.permutation import permutation_importance
from manyscale.explanation.similarity import layer_similarity
from manyscale.explanation.tokens import (
    ALL,
    CLASS_TOKEN,
    DISTANCES,
    RANKS,
    ClassMeans,
    Labelled,
    TokenReader,
    token_readers,
)
from manyscale.features.columns import StreamBatch, TokenColumns, on_device
from manyscale.features.images import ImageSettings
from manyscale.features.jet_frame import FrameSettings
from manyscale.features.registry import can_compute, recipe
from manyscale.model.classifier import MultiScaleClassifier
from manyscale.model.taps import Place
from manyscale.progress import LOG, progress_bar
from manyscale.reporting import explanation_plots as plots
from manyscale.reporting.explanation_plots import Curve, Share
from manyscale.reporting.figure import Drawn
from manyscale.reporting.look import look
from manyscale.runs.evaluate import Trial
from manyscale.settings import Record, write_json

__all__ = ["add_up", "chosen_events", "event_display", "explain_run"]

Floats = NDArray[np.float64]

# Events decoded at a time; their tokens and what is worked out of them are held once.
_CHUNK = 2048
_MOST_DISPLAYED = 200
# Measured: what a token takes in the page.
_BYTES_A_TOKEN = 50
_DIGITS = 4
_PLOTS = (
    "attention_*",
    "gradcam_*",
    "integrated_gradients",
    "similarity",
    "permutation",
    "deletion",
    "randomisation",
)
# About the jet's axis, not turned: as a detector sees it.
_AS_STORED = ImageSettings(frame=FrameSettings())


def explain_run(
    root: Path | str,
    *,
    data: Path | str | None = None,
    events: int = 5000,
    deep: int = 500,
    display: int = 30,
    device: str = "auto",
) -> Explanation:
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
        The same for what needs many passes: integrated gradients, permutation, deletion, re-drawn
        weights, similarity of layers.
    display
        So many events are written down one by one.
    device
        `auto`, `cpu` or `cuda`.

    Returns
    -------
    The content of explanation/summary.json.

    Raises
    ------
    RunError
        Where the run is not trained to its end.
    DataError
        Where the run's data are gone or lack a class, `data` holds events of the training, or more
        events are to be displayed than a page can carry.
    """
    trial = Trial.open(root, data, device)
    if display > _MOST_DISPLAYED:
        some = next(trial.test.chunks(256))
        tokens = sum(stream.counts.sum() for stream in some.streams.values()) / len(some)
        raise DataError(
            f"{display:,} events to display would make the page about "
            f"{display * tokens * _BYTES_A_TOKEN / 1e6:,.0f} MB, which no browser likes; "
            f"{_MOST_DISPLAYED} are the most: --display {_MOST_DISPLAYED}. All events count in the "
            f"maps (--events), and `manyscale predict` writes the score of each"
        )
    anew = trial.folder.anew(trial.folder.explanation, *_PLOTS)
    with look(trial.card.evaluation.plots), anew as folder:
        explanation = _explain(trial, folder, events, deep, display)
    trial.folder.log(f"explained on {sum(explanation.events.values())} events")
    return explanation


def _explain(trial: Trial, folder: Path, events: int, deep: int, display: int) -> Explanation:
    """Do all studies and draw them into a folder; see `explain_run`."""
    # Maps are many, and made of fewer events than the images of the evaluation: half the pixels.
    images = trial.card.evaluation.images
    images = images.model_copy(update={"bins": images.bins // 2 | 1})
    seconds: dict[str, float] = {}
    begun = time.perf_counter()
    network = trial.bundle.network
    notices = []
    if network.others:
        notices.append(
            f"The run is an ensemble of {network.settings.members} networks: all here is of the first."
        )
        network.join([])
    sample = trial.test.restricted(max_events=max(1, events // 2))
    attention, importance, known, score = add_up(network, sample, images)
    made = trial.card.data.dataset is not None
    radius = trial.card.generate.jets.radius if made else None
    shown = event_display(network, sample, known, score, display, radius=radius)
    seconds["attention maps and Grad-CAM"] = time.perf_counter() - begun
    shown.write(folder / "display.json")
    about = {
        "events": sample.class_counts,
        "weights": "class-balanced",
        "images": images.model_dump(include={"bins", "half_width", "frame"}),
    }
    of_importance = [
        {"stream": name, **numbers}
        for name, means in importance.means.items()
        for numbers in means.numbers()
    ]
    write_json(folder / "attention.json", {**about, **attention.numbers()})
    write_json(folder / "gradcam.json", {**about, "importance": of_importance})
    uneven = _uneven_maps(attention)
    even = [
        f"{context}: {query} attends to its tokens evenly, within 5%, so that there is no map"
        for (query, context), rows in uneven.items()
        if not rows
    ]
    for name, drawn in (
        *_attention_figures(attention, uneven, images),
        *_importance_figures(attention, importance, images),
    ):
        drawn.save(folder / "plots", name)

    few = trial.test.restricted(max_events=max(1, deep // 2))
    deep_events = _as_seen(network, few, few.events())
    weights = few.balance.weights(deep_events)
    begun = time.perf_counter()
    # The time of a study is that of its numbers and its figure, without writing them.
    for name, found, drawn in _studies(network, deep_events, weights, trial.card.seed):
        seconds[name.replace("_", " ")] = took = time.perf_counter() - begun
        LOG.info("%s: %d events in %.1f s", name.replace("_", " "), len(deep_events), took)
        rows = found.plain() if isinstance(found, Record) else [row.plain() for row in found]
        write_json(folder / f"{name}.json", rows)
        drawn.save(folder / "plots", name)
        if isinstance(found, PermutationImportance):
            streams = _stream_rows(attention, importance, found)
        begun = time.perf_counter()

    explanation = Explanation(
        stamp=trial.stamp(),
        events=sample.class_counts,
        deep_events=few.class_counts,
        displayed=len(shown.events),
        weights="class-balanced",
        seconds={name: round(value, 2) for name, value in seconds.items()},
        notices=(*notices, *attention.notices(), *even),
        streams=streams,
    )
    explanation.write(folder / "summary.json")
    return explanation


def _as_seen(network: MultiScaleClassifier, sample: Dataset, events: PackedEvents) -> PackedEvents:
    """Events of a sample with their streams as the network sees them."""
    wanted = [network.extractor(name).stream for name in network.settings.streams]
    return replace(events, streams=network.trim(Alignment(sample.schema, wanted)(events.streams)))


def add_up(
    network: MultiScaleClassifier, sample: Dataset, images: ImageSettings
) -> tuple[AttentionMaps, ImportanceMaps, PackedEvents, NDArray[np.float32]]:
    """Add up attention and Grad-CAM over a sample, in one pass.

    `images` has pixels and frame of the maps. Returned with both are the events, without what they are
    made of, and their scores.
    """
    device = next(network.parameters()).device
    readers = token_readers(network, images)
    attention, importance = AttentionMaps(network, readers), ImportanceMaps(network, readers)
    known: list[PackedEvents] = []
    scores: list[NDArray[np.float32]] = []
    with progress_bar("attention maps and Grad-CAM", len(sample), "events") as bar:
        for chunk in sample.chunks(_CHUNK):
            events = _as_seen(network, sample, chunk)
            weights = sample.balance.weights(events)
            score = np.empty(len(events), np.float32)
            for chosen, batch in batches(network, events.streams):
                labels = events.label[chosen].clip(0)
                labelled = Labelled(on_device(labels, device), on_device(weights[chosen], device))
                tokens = {name: reader(batch[name]) for name, reader in readers.items()}
                cam = grad_cam(network, batch, attention.taps(tokens, labelled))
                importance.add(cam.importance, tokens, labelled)
                # With two classes the softmax is the sigmoid of the logit difference.
                score[chosen] = torch.sigmoid(cam.logit).cpu().numpy()
                bar.advance(len(chosen))
            known.append(events.only([]))
            scores.append(score)
    return attention, importance, PackedEvents.concatenate(known), np.concatenate(scores)


def _studies(
    network: MultiScaleClassifier, events: PackedEvents, weights: Floats, seed: int
) -> Iterator[tuple[str, Record | Sequence[Record], Drawn]]:
    """Change the events or the network and watch the score: name, what was found, and its plot."""
    streams = events.streams
    attributions = integrated_gradients(network, streams)
    features = summarise(attributions, events, weights)
    yield "integrated_gradients", features, plots.attributions(features.features)

    pairs = layer_similarity(network, streams, weights)
    yield "similarity", pairs, plots.similarity(pairs)

    random = np.random.default_rng([seed, 0])
    permuted = permutation_importance(network, events, weights, random=random)
    yield "permutation", permuted, plots.permutation(permuted)

    rankings: dict[str, Mapping[str, NDArray[np.floating]]] = {
        "Grad-CAM": token_importance(network, streams),
        "integrated gradients": attributions.importance(streams),
        "attention": token_attention(network, streams),
    }
    # A stream that nothing attends to has no attention, and deleting there would change nothing.
    common = [name for name in streams if all(name in ranking for ranking in rankings.values())]
    # A fifth of the few reconstructed objects is a whole jet, which is another question.
    common = [name for name in common if network.extractor(name).stream.axis] or common
    shared = {by: {name: ranking[name] for name in common} for by, ranking in rankings.items()}
    deleted = deletion(network, events, weights, shared, random=np.random.default_rng([seed, 1]))
    yield "deletion", deleted, plots.deletion(deleted.points)

    redrawn = randomisation(network, streams, weights, token_importance, seed=seed)
    yield "randomisation", redrawn, plots.randomisation(redrawn.points)


def _stream_rows(
    attention: AttentionMaps, importance: ImportanceMaps, permuted: PermutationImportance
) -> tuple[StreamImportance, ...]:
    """Of each stream: its part of attention and of Grad-CAM, and what is lost without it.

    `attention` is that of the class token of the last fusion block that attends to the stream, the mean
    over heads and classes.
    """

    def mean(means: ClassMeans, channel: int) -> float:
        return round(float(means.share(ALL, channel)[0].mean()), 6)

    attended = {
        name: mean(means, means.channel(query=CLASS_TOKEN, head="mean"))
        for (_, name), means in attention.cross.items()
    }
    return tuple(
        StreamImportance(
            **lost.model_dump(exclude={"group", "features"}),
            attention=attended.get(lost.stream),
            importance=mean(importance.means[lost.stream], 0),
        )
        for lost in permuted.streams
    )


# ---- the event display ----


def chosen_events(
    events: PackedEvents, scores: NDArray[np.float32], most: int
) -> list[tuple[str, int]]:
    """Choose the events of the display: why, and the index of each; none twice.

    A third each: signal events with the highest score; background events with the lowest; worst
    mistakes, half of them signal with the lowest score, below 0.5, half background with the highest.
    Of equal scores the smaller `event_id` comes first.
    """
    third, rest = divmod(most, 3)
    mistakes = third + (rest > 1)
    chosen: dict[int, str] = {}
    for why, label, high, number in (
        ("most signal-like", 1, True, third + (rest > 0)),
        ("most background-like", 0, False, third),
        ("worst mistake", 1, False, mistakes - mistakes // 2),
        ("worst mistake", 0, True, mistakes // 2),
    ):
        members = np.flatnonzero(events.label == label)
        score = scores[members]
        best = np.lexsort((events.event_id[members], -score if high else score))[:number]
        if why == "worst mistake":
            best = best[(score[best] < 0.5) == (label == 1)]
        # Of few events one may be wanted twice: the first reason stays.
        for index in members[best].tolist():
            chosen.setdefault(index, why)
    return [(why, index) for index, why in chosen.items()]


def event_display(
    network: MultiScaleClassifier,
    sample: Dataset,
    known: PackedEvents,
    scores: NDArray[np.float32],
    most: int,
    *,
    radius: float | None = None,
) -> EventDisplay:
    """Say of each chosen event all that its display shows; `known` and `scores` as of `add_up`.

    `radius` is that of the jets, where it is known.
    """
    chosen = chosen_events(known, scores, most)
    readers = token_readers(network, _AS_STORED)
    directions = {
        name: ("delta_eta", "delta_phi") if reader.plane else ("eta", "phi")
        for name, reader in readers.items()
    }
    shown = {
        name: reader
        for name, reader in readers.items()
        if all(can_compute(of, reader.stream) for of in directions[name])
    }
    last = last_attention(network)
    streams = tuple(
        DisplayStream(
            name=name,
            frame="around the jet's axis" if reader.plane else "detector",
            attention=last[name].name if name in last else None,
        )
        for name, reader in shown.items()
    )
    if not chosen:
        return EventDisplay(events=(), streams=streams)

    # The sample is read again for the few events that are shown: they need not be held till here.
    ids = known.event_id[[index for _, index in chosen]]
    found = PackedEvents.concatenate(
        [
            events.take(np.flatnonzero(np.isin(events.event_id, ids)))
            for events in sample.chunks(_CHUNK)
        ]
    )
    order = np.argsort(found.event_id)
    found = found.take(order[np.searchsorted(found.event_id, ids, sorter=order)])
    events = _as_seen(network, sample, found)
    attention = token_attention(network, events.streams)
    importance = token_importance(network, events.streams)
    tokens = {
        name: _display_tokens(
            reader, events.streams[name], directions[name], attention.get(name), importance[name]
        )
        for name, reader in shown.items()
    }
    displayed = tuple(
        DisplayedEvent(
            event_id=str(events.event_id[number]),
            label=CLASSES[events.label[number]],
            process=sample.schema.processes[events.process[number]].name,
            score=round(float(scores[index]), _DIGITS),
            why=why,
            observables={
                name: round(float(values[index]), 1) for name, values in known.observables.items()
            },
            streams={name: of_stream[number] for name, of_stream in tokens.items()},
        )
        for number, (why, index) in enumerate(chosen)
    )
    return EventDisplay(events=displayed, streams=streams, radius=radius)


def _display_tokens(
    reader: TokenReader,
    stream: PackedStream,
    directions: tuple[str, str],
    attention: NDArray[np.float32] | None,
    importance: NDArray[np.float32],
) -> list[DisplayTokens]:
    """The tokens of each event, column by column."""
    batch = StreamBatch.of(stream)
    columns = TokenColumns(reader.stream, batch)
    eta, phi = (recipe(name, reader.stream).compute(columns).numpy() for name in directions)
    pt = columns["pt"].numpy() if reader.has_pt else np.ones(len(eta), np.float32)
    numbers = {"eta": eta, "phi": phi, "pt": pt, "attention": attention, "importance": importance}
    kinds = np.array(reader.kinds)[reader(batch).kind.numpy()]
    found = []
    for first, last in zip(stream.offsets[:-1], stream.offsets[1:], strict=True):
        values: dict[str, Any] = {
            name: None if of is None else of[first:last].astype(np.float64).round(_DIGITS).tolist()
            for name, of in numbers.items()
        }
        found.append(DisplayTokens(**values, kind=kinds[first:last].tolist()))
    return found


# ---- the plots of attention maps and of Grad-CAM ----

_EVEN = "were all alike"
_ALIKE = 0.05
Named = Iterator[tuple[str, Drawn]]


def _attention_figures(
    maps: AttentionMaps, uneven: Mapping[tuple[str, str], dict[str, Floats]], images: ImageSettings
) -> Named:
    """Draw what was added up of attention, of its maps the `uneven`: the name of each plot, and the plot."""
    for (query, context), rows in uneven.items():
        if rows:
            drawn = plots.class_maps(rows, images, "attention in a pixel")
            yield f"attention_maps_{query}_{context}", drawn
    for query, place in {query: place for (query, _), place in _last(maps).items()}.items():
        yield f"attention_shares_{query}", _stream_shares(maps, place)
        curves: list[Curve] = []
        for context in place.context:
            if (pt := maps.pt.get(context)) is not None:
                means = maps.cross[place, context]
                channel = means.channel(query=CLASS_TOKEN, head="mean")
                curves += _profiles(means, channel, pt, "attention")
        if curves:
            label = "part of the attention, or of pT"
            yield f"attention_profiles_{query}", plots.profiles(curves, label=label)


def _last(maps: AttentionMaps) -> dict[tuple[str, str], Place]:
    """Of several attentions of one stream to another the last, which is drawn; attention.json has all."""
    return {(place.stream, context): place for place, context in maps.cross}


def _uneven_maps(maps: AttentionMaps) -> dict[tuple[str, str], dict[str, Floats]]:
    """Maps of query and context by kind of query, mean over heads: those that are not even, each once.

    A map is left out where it is, within 5% (total variation), what equal attention to all tokens
    would give, or like that of another kind of query.
    """
    found = {}
    for (query, context), place in _last(maps).items():
        if not maps.readers[context].plane:
            continue
        means = maps.cross[place, context]
        images = means.image()
        known = [images[..., means.channel(query="any", head="even")]]
        rows = {}
        for kind in maps.queries[query]:
            image = images[..., means.channel(query=kind, head="mean")]
            # A kind of query that no event of a class has is not drawn.
            if np.isfinite(image).all() and all(
                _variation(image, other) > _ALIKE for other in known
            ):
                rows[kind] = image
                known.append(image)
        found[query, context] = rows
    return found


def _variation(one: Floats, other: Floats) -> float:
    """Largest total variation distance of two (classes, bins, bins), each class with unit sum."""
    shapes = []
    for image in (one, other):
        whole = image.sum(axis=(1, 2), keepdims=True)
        shapes.append(np.divide(image, whole, out=np.zeros_like(image), where=whole > 0))
    return float(np.abs(shapes[0] - shapes[1]).sum(axis=(1, 2)).max() / 2)


def _stream_shares(maps: AttentionMaps, place: Place) -> Drawn:
    """How much of its attention each kind of query gives to each context stream."""
    points = []
    for context in place.context:
        means = maps.cross[place, context]
        for row, title in ((ALL, "its tokens"), (CLASS_TOKEN, "class token")):
            expected, _ = means.share(row, means.channel(query="any", head="even"))
            for kind in maps.queries[place.stream]:
                value, error = means.share(row, means.channel(query=kind, head="mean"))
                if np.isfinite(value).all():
                    points.append(Share(f"{context}, {title}", kind, value, error, expected))
    return plots.shares(points, label=f"part of the attention of {place.stream}", expected=_EVEN)


def _importance_figures(
    attention: AttentionMaps, importance: ImportanceMaps, images: ImageSettings
) -> Named:
    """Draw what was added up of Grad-CAM, beside the shares of pT."""
    means = importance.means
    in_plane = [name for name, of in means.items() if of.reader.plane]
    if in_plane:
        maps = {name: means[name].image()[..., 0] for name in in_plane}
        yield "gradcam_maps", plots.class_maps(maps, images, "importance in a pixel")

    def share(panel: str, row: str, name: str, kind: str) -> Share:
        return Share(panel, row, *means[name].share(kind, 0), means[name].share(kind, 1)[0])

    label = "part of the event's importance"
    for column, title in (("particle_class", "particles"), ("object_class", "objects")):
        rows = [
            share(name, kind, name, kind)
            for name, of in means.items()
            if of.reader.kind_column == column
            for kind in of.reader.kinds
            if of.share(kind, 1)[0].any()
        ]
        if rows:
            yield f"gradcam_{title}", plots.shares(rows, label=label, expected=_EVEN)
    curves = [
        curve
        for name in in_plane
        if name in attention.pt
        for curve in _profiles(means[name], 0, attention.pt[name], "importance")
    ]
    if curves:
        label = "part of the importance, or of pT"
        yield "gradcam_profiles", plots.profiles(curves, label=label)


def _profiles(means: ClassMeans, channel: int, pt: ClassMeans, name: str) -> Iterator[Curve]:
    """Profiles in rank and distance, each class with unit sum over all tokens, and those of pT."""
    reader = means.reader
    ranks = np.linspace(0.5, RANKS + 0.5, RANKS + 1)
    distances = np.linspace(0, reader.images.half_width, DISTANCES + 1)
    axes = {"rank": ("rank in pT", ranks), "distance": ("ΔR to the axis", distances)}
    for by, (axis, edges) in axes.items():
        if by == "distance" and not reader.plane:
            continue
        for curve, of, number in ((name, means, channel), ("pT", pt, 0)):
            whole, _ = of.share(ALL, number)
            parts = _over(of.binned(by)[..., number], whole[:, None])
            yield Curve(reader.stream.name, axis, curve, edges, parts)


def _over(values: Floats, whole: Floats) -> Floats:
    """The quotient; not a number where there is nothing to divide."""
    return np.divide(values, whole, out=np.full(values.shape, np.nan), where=whole > 0)

"""Explanations that change the events or the network and watch the score, on few events: they cost more."""

import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from manyscale.data.packing import PackedEvents
from manyscale.explanation.deletion import deletion
from manyscale.explanation.gradcam import token_importance
from manyscale.explanation.integrated_gradients import (
    Attributions,
    integrated_gradients,
    summarise,
)
from manyscale.explanation.randomisation import randomisation
from manyscale.explanation.shuffling import shuffle
from manyscale.explanation.similarity import layer_similarity
from manyscale.explanation.token_attention import token_attention
from manyscale.model.classifier import MultiScaleClassifier
from manyscale.progress import Progress
from manyscale.reporting import explanation_plots as plots
from manyscale.reporting.drawn import Drawn

__all__ = ["Deep", "Study", "studies"]


@dataclass(frozen=True)
class Deep:
    """What is studied: a network, and a few events.

    Attributes
    ----------
    network
        In evaluation mode.
    events
        Labelled, their streams trimmed by the network.
    weights
        (events,): class-balanced.
    seed
        Of all that is drawn.
    """

    network: MultiScaleClassifier
    events: PackedEvents
    weights: NDArray[np.float64]
    seed: int

    @cached_property
    def attributions(self) -> Attributions:
        """Integrated gradients, of which two studies make use."""
        return integrated_gradients(self.network, self.events.streams)

    def random(self, purpose: int) -> np.random.Generator:
        """A generator of its own for each purpose."""
        return np.random.default_rng([self.seed, purpose])


@dataclass(frozen=True)
class Study:
    """What a study found: numbers for a JSON file, plots by name, and how long it took."""

    name: str
    numbers: object
    figures: Mapping[str, Drawn]
    seconds: float


def studies(deep: Deep, progress: Progress) -> Iterator[Study]:
    """Do all studies, one after the other, and tell how long each took."""
    tasks: dict[str, Callable[[Deep], tuple[object, Mapping[str, Drawn]]]] = {
        "integrated_gradients": _integrated_gradients,
        "similarity": _similarity,
        "shuffling": _shuffling,
        "deletion": _deletion,
        "randomisation": _randomisation,
    }
    for name, task in tasks.items():
        begun = time.perf_counter()
        numbers, figures = task(deep)
        seconds = time.perf_counter() - begun
        progress.say(f"{name.replace('_', ' ')}: {len(deep.events)} events in {seconds:.1f} s")
        yield Study(name, numbers, figures, seconds)


def _integrated_gradients(deep: Deep) -> tuple[object, Mapping[str, Drawn]]:
    found = deep.attributions
    rows = summarise(found, deep.events, deep.weights)
    numbers = {
        "completeness": found.completeness,
        "features": [row.as_dict() for row in rows],
    }
    return numbers, {"integrated_gradients": plots.attributions(rows)}


def _similarity(deep: Deep) -> tuple[object, Mapping[str, Drawn]]:
    found = layer_similarity(deep.network, deep.events.streams, deep.weights)
    return found.rows(), {"similarity": plots.similarity(found)}


def _shuffling(deep: Deep) -> tuple[object, Mapping[str, Drawn]]:
    found = shuffle(deep.network, deep.events, deep.weights, random=deep.random(0))
    return found.as_dict(), {"shuffling": plots.worth(found)}


def _deletion(deep: Deep) -> tuple[object, Mapping[str, Drawn]]:
    network, streams = deep.network, deep.events.streams
    rankings: dict[str, Mapping[str, NDArray[np.floating]]] = {
        "Grad-CAM": token_importance(network, streams),
        "integrated gradients": deep.attributions.importance(streams),
        "attention": token_attention(network, streams),
    }
    # A stream that no layer looks at has no attention, and deleting there would change nothing.
    common = set.intersection(*(set(ranking) for ranking in rankings.values()))
    # A fifth of the few reconstructed objects is a whole jet, which is another question.
    jets = {name for name in common if network.extractor(name).stream.axis}
    common = jets or common
    shared = {
        by: {name: of for name, of in ranking.items() if name in common}
        for by, ranking in rankings.items()
    }
    found = deletion(network, deep.events, deep.weights, shared, random=deep.random(1))
    return found.as_dict(), {"deletion": plots.deletion(found)}


def _randomisation(deep: Deep) -> tuple[object, Mapping[str, Drawn]]:
    found = randomisation(
        deep.network, deep.events.streams, deep.weights, token_importance, seed=deep.seed
    )
    return found.as_dict(), {"randomisation": plots.randomisation(found.points)}

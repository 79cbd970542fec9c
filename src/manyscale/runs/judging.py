"""What a run is judged on: its test events, scored by network and trees, scaled to a luminosity."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from manyscale.card import Card, load_card
from manyscale.data.dataset import Dataset
from manyscale.data.packing import PackedEvents
from manyscale.deployment.predict import Alignment
from manyscale.deployment.bundle import Bundle, load_bundle
from manyscale.deployment.predict import class_probabilities
from manyscale.errors import DataError
from manyscale.evaluation.summaries import summaries
from manyscale.evaluation.trees import Trees
from manyscale.evaluation.yields import ScaledEvents, scale_events
from manyscale.progress import Progress
from manyscale.runs.building import CHUNK, open_data
from manyscale.runs.folder import RunFolder
from manyscale.runs.training import tree_extractors

__all__ = ["Alter", "Judged", "Trial", "judge", "scale"]

#: Changes events on their way in, such as by a shift of the energy scale.
Alter = Callable[[PackedEvents], PackedEvents]


@dataclass(frozen=True)
class Trial:
    """A trained run, and the events that it is judged on.

    Attributes
    ----------
    own
        The run's own data: all splits.
    test
        The events that it is judged on.
    whole
        The events that the test events stand for.
    """

    folder: RunFolder
    card: Card
    bundle: Bundle
    trees: Trees
    own: Dataset
    test: Dataset
    whole: Dataset

    @staticmethod
    def open(root: Path | str, data: Path | str | None = None) -> "Trial":
        """Open a trained run with its own test split, or with a dataset that is test as a whole.

        Raises
        ------
        RunError
            Where the run is not trained to its end.
        DataError
            Where the run's data are gone or lack a class, or `data` holds events of the training.
        """
        folder = RunFolder.open(root)
        card = load_card(folder.card)
        own = _own(card, folder)
        foreign = None if data is None else _foreign(data, own, card)
        if foreign is not None:
            whole = foreign
        else:
            own.test.require_classes()
            whole = own if card.data.max_events is None else open_data(card)
        return Trial(
            folder,
            card,
            load_bundle(folder.model),
            Trees.load(folder.trees),
            own,
            own.test if foreign is None else foreign,
            whole,
        )

    def luminosity(self, asked: float | None) -> float | None:
        """The luminosity that is asked for, or else the card's, in fb^-1.

        Raises
        ------
        DataError
            Where it is not above 0.
        """
        chosen = self.card.evaluation.luminosity if asked is None else asked
        if chosen is not None and not 0 < chosen < np.inf:
            raise DataError(f"the luminosity is {chosen:g} fb^-1; it must be above 0")
        return chosen


@dataclass(frozen=True)
class Judged:
    """Test events without what they are made of, and their signal probabilities, (events,)."""

    events: PackedEvents
    signal: NDArray[np.float32]
    trees: NDArray[np.float32]


def judge(trial: Trial, alter: Alter | None = None) -> Judged:
    """Score the test events by network and trees, chunk by chunk.

    Parameters
    ----------
    alter
        Changes the events before they are scored; their number stays.
    """
    test, own = trial.test, trial.own
    # By name: another dataset may have its columns in another order.
    as_own = Alignment(test.schema, own.schema.streams)
    taken = Alignment(own.schema, trial.bundle.streams)
    extractors = tree_extractors(own)
    events, signal, beside = [], [], []
    for chunk in test.chunks(CHUNK):
        seen = replace(chunk, streams=as_own(chunk.streams))
        seen = seen if alter is None else alter(seen)
        events.append(seen.only([]))
        network = trial.bundle.network
        signal.append(class_probabilities(network, taken(seen.streams))[:, 1])
        matrix, names = summaries(seen, extractors)
        beside.append(trial.trees.predict(matrix, names).astype(np.float32))
    return Judged(PackedEvents.concatenate(events), np.concatenate(signal), np.concatenate(beside))


def scale(
    trial: Trial, events: PackedEvents, luminosity: float, progress: Progress
) -> ScaledEvents:
    """Scale the test events to those expected at a luminosity [fb^-1]; they stand for the whole.

    Raises
    ------
    DataError
        Where cross section or sum of weights of a process is not known; the message names it.
    """
    processes = trial.whole.schema.processes
    every = trial.whole.process_weights
    part = np.bincount(events.process, events.weight, len(processes))
    for process in np.flatnonzero((part == 0) & (every != 0)):
        progress.say(f"no test event of {processes[process].name}: the yields count it as nothing")
    factors = np.divide(every, part, out=np.ones(len(processes)), where=part != 0)
    return scale_events(processes, events.process, events.weight, luminosity, factors)


def _own(card: Card, folder: RunFolder) -> Dataset:
    """Open the data of the run."""
    try:
        return open_data(card, most=card.data.max_events)
    except DataError as error:
        raise DataError(
            f"the data of the run {folder.root} cannot be opened: {error}. If they were moved, put "
            f"them back, or say under `data` in {folder.card} where they are now"
        ) from error


def _foreign(path: Path | str, own: Dataset, card: Card) -> Dataset:
    """Open another dataset for the test; events that the network was trained on are refused."""
    dataset = Dataset.open(path).restricted(streams=card.data.streams, classes=card.classes)
    dataset.require_classes()
    tested = dataset.event_ids
    common = sum(
        int(np.isin(events.event_id, tested).sum())
        for part in (own.train, own.validation)
        for events in part.bookkeeping_chunks()
    )
    if common:
        raise DataError(
            f"{path}: {common} of its events were used to train the network; a test on them would "
            f"flatter it. Without --data, the run's own test events are taken"
        )
    return dataset

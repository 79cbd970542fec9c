"""What stands beside the network of a model folder: the boosted trees, and both combined."""

from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import TypeVar

import numpy as np
import torch
from numpy.typing import NDArray

from manyscale.checksums import write_checksums
from manyscale.deployment.bundle import Bundle, load_bundle
from manyscale.deployment.predict import choose_device
from manyscale.errors import DataError
from manyscale.evaluation.combination import Combination
from manyscale.evaluation.trees import Trees
from manyscale.events.ragged import PackedStream
from manyscale.features.extractor import FeatureExtractor
from manyscale.features.summaries import summaries
from manyscale.progress import LOG
from manyscale.schema import StreamSchema
from manyscale.settings import Record

__all__ = ["Beside", "load_model", "scores_of", "tree_extractors", "with_trees"]

T = TypeVar("T")


class _Facts(Record):
    """trees.json."""

    streams: tuple[StreamSchema, ...]
    combination: Combination | None = None


class Beside:
    """The boosted trees of a run, and network and trees combined.

    Attributes
    ----------
    trees
        They see summaries of `streams`.
    streams
        Schema of each stream of the data that the run was trained on, those of the network among them.
    combination
        None where none could be fitted.
    device
        Where the summaries are worked out.
    """

    def __init__(
        self,
        trees: Trees,
        streams: Sequence[StreamSchema],
        combination: Combination | None = None,
        device: torch.device | str = "cpu",
    ) -> None:
        self.trees = trees
        self.streams = tuple(streams)
        self.combination = combination
        self.device = device
        self._extractors = tree_extractors(self.streams)

    def scores(
        self, streams: Mapping[str, PackedStream], network: NDArray[np.floating]
    ) -> dict[str, NDArray[np.floating]]:
        """Signal probabilities of events by classifier, (events,) each, the network first.

        Parameters
        ----------
        streams
            Of the events, with the columns of `self.streams`.
        network
            Signal probabilities that the network gives them.
        """
        seen = summaries(streams, self._extractors, self.device)
        trees = self.trees.predict(*seen).astype(np.float32)
        found: dict[str, NDArray[np.floating]] = {"network": network, "trees": trees}
        if self.combination is not None:
            found["combined"] = self.combination(network, trees)
        return found

    def save(self, folder: Path) -> None:
        """Write trees.txt, LightGBM's text, and trees.json, streams and combination; with checksums."""
        self.trees.save(folder / "trees.txt")
        _Facts(streams=self.streams, combination=self.combination).write(folder / "trees.json")
        write_checksums(folder, "trees.txt", "trees.json")

    @staticmethod
    def load(folder: Path, device: torch.device) -> "Beside | None":
        """Read what `save` wrote; None of a model without trees, or of an earlier version.

        Raises
        ------
        RunError
            Where a file is damaged.
        """
        facts = _Facts.read_if_there(folder / "trees.json")
        if facts is None:
            return None
        trees = Trees.load(folder / "trees.txt")
        return Beside(trees, facts.streams, facts.combination, device)


def load_model(folder: Path, device: str) -> tuple[Bundle, Beside | None]:
    """Read a model folder, its network on the device of a name; in each process once.

    Raises
    ------
    RunError, CardError
        As `load_bundle` and `choose_device`.
    """
    return _loaded(folder, device, folder.stat().st_mtime_ns)


@lru_cache(maxsize=1)
def _loaded(folder: Path, device: str, changed: int) -> tuple[Bundle, Beside | None]:  # noqa: ARG001
    where = choose_device(device)
    return load_bundle(folder, where), Beside.load(folder, where)


def tree_extractors(streams: Sequence[StreamSchema]) -> dict[str, FeatureExtractor]:
    """The features of which the trees' summaries are made: all that the columns allow."""
    return {stream.name: FeatureExtractor.for_stream(stream) for stream in streams}


def with_trees(
    bundle: Bundle, beside: Beside | None, attempt: Callable[[Sequence[StreamSchema]], T]
) -> tuple[Beside | None, T]:
    """Read events for all classifiers, or, where they lack what the trees see, for the network alone.

    Parameters
    ----------
    attempt
        Reads events that have these streams; DataError where they lack one, or a column.

    Returns
    -------
    The trees, where the events have all that they see, and what the attempt has given.
    """
    if beside is None:
        LOG.warning("no scores of trees and combination: the model folder has none")
    else:
        try:
            return beside, attempt(beside.streams)
        except DataError as error:
            names = [stream.name for stream in beside.streams]
            if len(names) == len(bundle.streams):
                raise
            LOG.warning(
                "no scores of trees and combination, which see all of %s: %s",
                ", ".join(names),
                error,
            )
    return None, attempt(bundle.streams)


def scores_of(
    beside: Beside | None, streams: Mapping[str, PackedStream], network: NDArray[np.floating]
) -> dict[str, NDArray[np.floating]]:
    """As `Beside.scores`; without trees those of the network alone."""
    return {"network": network} if beside is None else beside.scores(streams, network)

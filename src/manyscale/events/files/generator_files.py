"""Files of generated events (HepMC, LHE): what they have in common, from truth to records."""

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

import awkward as ak
import numpy as np

from manyscale.errors import CardError, DataError
from manyscale.events.bookkeeping import Bookkeeping, CrossSection, UnitResult, add_cutflows
from manyscale.events.files.expressions import CardExpressions
from manyscale.events.files.checks import check_finite
from manyscale.events.files.convert_settings import ConvertSettings
from manyscale.events.files.reader import (
    FIRST_STEP,
    THE_PROCESS,
    Batch,
    FileEvents,
    Piece,
    load_batches,
    nothing,
)
from manyscale.events.particles import Array, Floats, Particles, TruthEvents
from manyscale.events.reconstruction import Reconstruction
from manyscale.events.settings import GenerateSettings
from manyscale.schema import StreamSchema, collision_streams

__all__ = [
    "LoadedEvents",
    "choose_columns",
    "generator_streams",
    "join",
    "read_generated",
    "size_of",
    "weight_columns",
]


@dataclass(frozen=True)
class LoadedEvents:
    """Some entries of a file of generated events.

    Attributes
    ----------
    truth
        Those that could be made into events.
    cross_section
        Where the last event of the file is among them; None else, and where the file does not say.
    """

    truth: TruthEvents
    cross_section: CrossSection | None


def generator_streams(generate: GenerateSettings) -> dict[str, StreamSchema]:
    """Layouts of the streams asked for: generated events give them all.

    Raises
    ------
    CardError
        Where columns are asked for that the detector does not measure.
    """
    if generate.columns:
        raise CardError(
            f"generate.columns: the detector here measures no {' or '.join(generate.columns)}; only "
            "files of reconstructed events have them"
        )
    return collision_streams(generate.streams)


def read_generated(
    pieces: Sequence[Piece],
    streams: Mapping[str, StreamSchema],
    generate: GenerateSettings,
    seed: int,
    *,
    batch: int,
    entries: Callable[[str], int],
    load: Callable[[Piece], LoadedEvents],
) -> FileEvents:
    """Read pieces of files batch by batch; detector, jets, cuts and records as for our own events.

    Parameters
    ----------
    pieces, streams, seed
        See `Reader.read`.
    generate
        Detector, jets, cuts and objects.
    batch
        Entries held at a time.
    entries, load
        See `load_batches`.
    """
    names = tuple(streams)
    reconstruction = Reconstruction(generate.model_copy(update={"streams": names}), seed)
    weights, records, cutflows, cross_sections = [], [], [], []
    for group in load_batches(pieces, batch, entries, load):
        weight, truth = _put_together(group)
        selected, cutflow = reconstruction.reconstruct(truth, FIRST_STEP)
        weights.append(weight)
        records.append(selected)
        cutflows.append(cutflow)
        cross_sections += [
            (len(part_weight), loaded.cross_section)
            for part_weight, loaded in zip(_by_part(group, weight), group.loaded, strict=True)
        ]
    if not weights:
        return nothing(streams)
    weight = np.concatenate(weights)
    made = weight[~np.isnan(weight)]
    mean = _mean(cross_sections)
    bookkeeping = Bookkeeping(
        generated=len(weight),
        sum_weights=float(made.sum()),
        sum_weights2=float(np.square(made).sum()),
        cross_section=None if mean is None else mean.value,
        cross_section_error=None if mean is None else mean.error,
        cutflow=add_cutflows(cutflows),
    )
    notes = Counter({"events in which Pythia failed": len(weight) - len(made)})
    return FileEvents(
        weight, {THE_PROCESS: UnitResult(ak.concatenate(records), bookkeeping)}, +notes
    )


def _put_together(batch: Batch) -> tuple[Floats, TruthEvents]:
    """Weights of all entries of a batch, NaN where there is no event; and the events."""
    piece, entry = batch.piece, batch.entry
    made = np.concatenate(
        [
            np.isin(part.first + np.arange(size_of(part)), loaded.truth.entry)
            for loaded, (_, part) in zip(batch.loaded, batch.parts, strict=True)
        ]
    )
    truth = join([loaded.truth for loaded in batch.loaded])
    weight = np.full(len(entry), np.nan)
    weight[made] = truth.weight
    return weight, replace(truth, piece=piece[made])


def size_of(part: Piece) -> int:
    """Return the number of entries of a part of a batch."""
    assert part.last is not None  # noqa: S101  # parts of a batch have an end
    return part.last - part.first


def _by_part(batch: Batch, weight: Floats) -> list[Floats]:
    sizes = [size_of(part) for _, part in batch.parts]
    return np.split(weight, np.cumsum(sizes)[:-1])


def _mean(parts: Sequence[tuple[int, CrossSection | None]]) -> CrossSection | None:
    """Mean cross section of the parts that say it; errors as if they were the same events."""
    known = [(entries, of_part) for entries, of_part in parts if of_part is not None]
    if not known:
        return None
    total = sum(entries for entries, _ in known)
    return CrossSection(
        sum(entries * of_part.value for entries, of_part in known) / total,
        sum(entries * of_part.error for entries, of_part in known) / total,
    )


def join(events: Sequence[TruthEvents]) -> TruthEvents:
    """Put events of the same source one behind the other."""
    first = events[0]

    def mapping(name: str) -> dict[str, Array]:
        parts = [getattr(some, name) for some in events]
        return {key: np.concatenate([part[key] for part in parts]) for key in parts[0]}

    return TruthEvents(
        np.concatenate([some.entry for some in events]),
        np.concatenate([some.weight for some in events]),
        Particles.join([some.stable for some in events]),
        Particles.join([some.heavy for some in events]),
        None
        if first.higgs is None
        else Particles.join([some.higgs for some in events if some.higgs is not None]),
        weights=mapping("weights"),
        observables=mapping("observables"),
        steps=mapping("steps"),
    )


def weight_columns(weights: Sequence[Mapping[str, float]], part: Piece) -> dict[str, Floats]:
    """Make columns (events,) of the named weights of each event.

    Raises
    ------
    DataError
        Where an event has others than the first of the part.
    """
    names = weights[0].keys()
    for entry, of_event in enumerate(weights, part.first):
        if of_event.keys() != names:
            raise DataError(
                f"{part.path}, event {entry} (counted from 0) has other weights than event "
                f"{part.first}: {', '.join(of_event) or 'none'}"
            )
    return {name: np.array([of_event[name] for of_event in weights]) for name in names}


def choose_columns(
    truth: TruthEvents, columns: Mapping[str, Array], convert: ConvertSettings, path: str
) -> TruthEvents:
    """Give events the weights, observables and selections that the card asks for.

    Parameters
    ----------
    truth
        Some events of a file.
    columns
        (events,): the weights of the file by name, and whatever else it has once an event.
    convert
        `weight` and `variations` may name weights as they are, also such as '1001' or 'muR=2';
        expressions can use the others.
    path
        The file.

    Raises
    ------
    DataError
        Where a weight or a name is not in the file, or the weight is not finite.
    """
    variations = convert.variations or ()
    for name in variations:
        if name not in columns:
            raise _no_weight(path, name, "convert.variations", columns)
    weight = truth.weight
    if convert.weight is not None and convert.weight in columns:
        weight, convert = columns[convert.weight], convert.model_copy(update={"weight": None})
    expressions = CardExpressions.parse(convert)
    if expressions.weight is not None and not expressions.weight.names:
        raise _no_weight(path, expressions.weight.text, "convert.weight", columns)
    for expression in expressions.all:
        expression.check_names(columns, path)
    events = np.arange(len(truth.entry))

    def where(event: int) -> str:
        return f"{path}, event {truth.entry[event]} (counted from 0)"

    chosen = expressions.weights(columns, len(events), where)
    weights = {name: columns[name] for name in variations}
    check_finite({"weight": weight, **weights}, events, where)
    return replace(
        truth,
        weight=weight if chosen is None else chosen,
        weights=weights,
        observables=expressions.values(columns, len(events)),
        steps=expressions.steps(columns, len(events)),
    )


def _no_weight(path: str, name: str, key: str, columns: Mapping[str, Array]) -> DataError:
    there = ", ".join(list(columns)[:20]) or "none"
    return DataError(f"{path} has no weight '{name}', which {key} names; there are {there}")

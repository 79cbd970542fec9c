"""Pythia 8: settings to generated events, a batch at a time, without a Python loop over particles."""

import os
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import awkward as ak
import numpy as np
import pythia8mc
from numpy.typing import NDArray

from manyscale.errors import CardError, DataError
from manyscale.events.truth import (
    CHARM,
    Particles,
    TruthEvents,
    heaviest_flavour,
    higgs_to_bottom,
)

__all__ = ["CrossSection", "cross_section", "generate", "read_settings", "start"]

# Events that are held at a time: one with multiparton interactions takes about 180 kB.
_BATCH = 250
_PB_PER_MB = 1e9


class CrossSection(NamedTuple):
    """Cross section in pb and its statistical error, as integrated while events were made."""

    value: float
    error: float


def read_settings(process: str, lines: Sequence[str]) -> Any:  # noqa: ANN401 - Pythia has no types
    """Have a quiet Pythia read the settings of a process, and return it.

    Raises
    ------
    CardError
        Where Pythia refuses a setting; the message names it and the process.
    DataError
        Where Pythia does not find its own data files.
    """
    pythia = pythia8mc.Pythia("", False)
    # Without its files Pythia knows no setting at all, and would refuse the first one.
    if not pythia.settings.isFlag("Print:quiet"):
        folder = os.environ.get("PYTHIA8DATA")
        advice = (
            "install pythia8mc anew, or set PYTHIA8DATA to the folder share/Pythia8/xmldoc of Pythia"
            if folder is None
            else f"PYTHIA8DATA is {folder}; unset it, or set it to the folder share/Pythia8/xmldoc "
            "of Pythia"
        )
        raise DataError(f"Pythia does not find its data files (Index.xml): {advice}")
    for line in (*lines, "Print:quiet=on", "Print:errors=off"):
        if not pythia.readString(line, False):
            raise CardError(
                f"process '{process}': Pythia refuses the setting '{line}': it does not know the "
                "name, or the value is out of its range"
            )
    return pythia


def start(process: str, lines: Sequence[str], seed: int) -> Any:  # noqa: ANN401
    """Return a Pythia that is ready to generate.

    Parameters
    ----------
    process
        Its name, for messages.
    lines
        Settings in the order in which Pythia reads them.
    seed
        From 1 to 900,000,000.

    Raises
    ------
    CardError
        Where Pythia refuses a setting, or cannot start with all of them together.
    """
    pythia = read_settings(process, [*lines, "Random:setSeed=on", f"Random:seed={seed}"])
    if not pythia.init():
        raise CardError(
            f"process '{process}': Pythia cannot start with these settings together (is a process "
            f"switched on, and are the masses possible?): {'; '.join(lines)}"
        )
    return pythia


def generate(
    pythia: Any,  # noqa: ANN401
    process: str,
    events: int,
    weights: Sequence[str] = (),
) -> Iterator[TruthEvents]:
    """Make events, some hundred at a time.

    Events in which Pythia fails (one in a million) are left out; `entry` counts them too.

    Parameters
    ----------
    pythia
        Ready to generate; see `start`.
    process
        Its name, for messages.
    events
        Number to be tried.
    weights
        Names of the further weights to be kept, of those that Pythia was asked for. As the nominal
        one they hold the weight of a biased phase space.

    Raises
    ------
    DataError
        Where Pythia fails in every event.
    """
    made = 0
    for first in range(0, events, _BATCH):
        batch = pythia.nextBatch(min(_BATCH, events - first), "none")
        entry = first + np.flatnonzero(~ak.to_numpy(ak.is_none(batch)))
        if len(entry):
            made += len(entry)
            further = {}
            if weights:
                info = pythia.infoPython()
                names = [info.weightNameByIndex(i) for i in range(info.numberOfWeights())]
                further = {name: names.index(name) for name in weights}
            yield _truth(ak.drop_none(batch, axis=0), entry, further)
    if not made:
        raise DataError(f"process '{process}': Pythia failed in each of {events} events")


def cross_section(pythia: Any) -> CrossSection:  # noqa: ANN401
    """What Pythia has found so far for the processes that are switched on."""
    info = pythia.infoPython()
    return CrossSection(info.sigmaGen() * _PB_PER_MB, info.sigmaErr() * _PB_PER_MB)


def _truth(batch: ak.Array, entry: NDArray[np.int64], further: Mapping[str, int]) -> TruthEvents:
    """Pick from Pythia's event records what follows needs; further weights by their index there."""
    particles = batch.prt
    weights = ak.to_numpy(batch.info.weights)
    counts = ak.to_numpy(ak.num(particles.id))
    status = _flat(particles.status)
    everything = Particles(
        counts,
        _flat(particles.id),
        *(_flat(particles.p[name]) for name in ("px", "py", "pz", "e")),
    )
    # Status 81 to 89: hadrons from strings and junctions, before any of them decays.
    hadron = np.flatnonzero((np.abs(status) >= 81) & (np.abs(status) <= 89))
    heavy = hadron[heaviest_flavour(everything.pdg_id[hadron]) >= CHARM]
    first, last = _flat(particles.daughter1), _flat(particles.daughter2)
    higgs = higgs_to_bottom(everything.pdg_id, first, last, counts)
    return TruthEvents(
        entry,
        weights[:, 0],
        everything.take(np.flatnonzero(status > 0)),
        everything.take(heavy),
        everything.take(higgs),
        weights={name: weights[:, place] for name, place in further.items()},
    )


def _flat(values: ak.Array) -> NDArray[Any]:
    return ak.to_numpy(ak.flatten(values))

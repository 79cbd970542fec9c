"""The record of an event, whatever its source: what awkward arrays of events are made of.

An array of records has the fields

- `entry` (int64), the event's place in its source, and `weight` (float64);
- one list of tokens a stream of `STREAMS`, a struct of float32 columns each;
- `<stream>_axis` for the streams that have one: a struct of float32 columns, once an event;
- `observables`: a struct of what the network never sees, `OBSERVABLES`.

Constituents stand in the order of falling pT, objects in that of `OBJECTS`. Units are GeV and
radians, azimuths in (-pi, pi].
"""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

__all__ = [
    "CHARGED_HADRON",
    "ELECTRON",
    "MUON",
    "NEUTRAL_HADRON",
    "OBJECTS",
    "OBSERVABLES",
    "PHOTON",
    "STREAMS",
    "StreamLayout",
    "wrap_phi",
]

#: Codes of the column `particle_class`.
CHARGED_HADRON, ELECTRON, MUON, PHOTON, NEUTRAL_HADRON = range(5)

#: The tokens of `kinematics`; their place here is the code of the column `object_class`.
OBJECTS = ("leading jet", "second jet", "pair", "missing momentum")


class StreamLayout(NamedTuple):
    """Columns of a stream's tokens, and those that it has once an event."""

    columns: tuple[str, ...]
    axis: tuple[str, ...] = ()


_PARTICLE = ("pt", "eta", "phi", "energy", "charge", "particle_class")
_AXIS = ("jet_pt", "jet_eta", "jet_phi", "jet_mass")
_OBJECT = ("pt", "eta", "phi", "mass", "multiplicity", "n_btags", "width", "object_class")

STREAMS: dict[str, StreamLayout] = {
    "jet1": StreamLayout(_PARTICLE, _AXIS),
    "jet2": StreamLayout(_PARTICLE, _AXIS),
    "kinematics": StreamLayout(_OBJECT),
}

#: Masses of the two jets and of the pair and missing pT in GeV, b-tags of the two jets.
OBSERVABLES = ("m_j1", "m_j2", "m_hh", "n_btags_j1", "n_btags_j2", "met")


def wrap_phi(phi: NDArray[np.floating]) -> NDArray[np.floating]:
    """Bring azimuths, or differences of them, to (-pi, pi].

    Examples
    --------
    >>> wrap_phi(np.array([-np.pi, 0.5, 2 * np.pi + 0.5])).round(6)
    array([3.141593, 0.5     , 0.5     ])
    """
    return np.pi - (np.pi - phi) % (2 * np.pi)

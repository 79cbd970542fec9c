"""The record of an event, whatever its source: what awkward arrays of events are made of.

An array of records has the fields

- `piece` and `entry` (int64), the event's piece of the source (0 where there is one alone) and its
  place in it, and `weight` (float64), with any further weights by name;
- one list of tokens a stream, a struct of float32 columns each;
- `<stream>_axis` for the streams that have one: a struct of float32 columns, once an event;
- `observables`: a struct of what the network never sees, `OBSERVABLES` and what the source adds.

Events of collisions have the streams of `STREAMS` that were asked for; an ntuple has those of its
branch map.

Tokens stand in the order of falling pT, those of `kinematics` in that of `OBJECTS`. Units are GeV and
radians, azimuths in (-pi, pi].
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

__all__ = [
    "CHARGED_HADRON",
    "CONSTITUENTS",
    "ELECTRON",
    "MUON",
    "NEUTRAL_HADRON",
    "OBJECTS",
    "OBSERVABLES",
    "PHOTON",
    "STREAMS",
    "SUBJETS",
    "StreamLayout",
    "layouts",
    "wrap_phi",
]

#: Codes of the column `particle_class`.
CHARGED_HADRON, ELECTRON, MUON, PHOTON, NEUTRAL_HADRON = range(5)

#: The tokens of `kinematics`; their place here is the code of the column `object_class`.
OBJECTS = ("leading jet", "second jet", "pair", "missing momentum")

#: The streams whose tokens are what a fat jet is made of.
CONSTITUENTS = ("jet1", "jet2")
#: The streams whose tokens are what a fat jet is made of, clustered anew.
SUBJETS = ("subjets1", "subjets2")


class StreamLayout(NamedTuple):
    """Columns of a stream's tokens, and those that it has once an event."""

    columns: tuple[str, ...]
    axis: tuple[str, ...] = ()


def layouts(streams: Sequence[str], columns: Sequence[str] = ()) -> dict[str, StreamLayout]:
    """Layouts of the named streams; those of constituents with further columns.

    Examples
    --------
    >>> layouts(["jet1", "missing"], ["d0"])["jet1"].columns[-2:]
    ('particle_class', 'd0')
    """
    return {
        name: StreamLayout((*STREAMS[name].columns, *columns), STREAMS[name].axis)
        if name in CONSTITUENTS
        else STREAMS[name]
        for name in streams
    }


_PARTICLE = ("pt", "eta", "phi", "energy", "charge", "particle_class")
_AXIS = ("jet_pt", "jet_eta", "jet_phi", "jet_mass")
_SUBJET = ("pt", "eta", "phi", "mass", "multiplicity")
# What is beside the jets has its azimuth relative to the leading one.
_REFERENCE = ("jet_phi",)
_OBJECT = ("pt", "eta", "phi", "mass", "multiplicity", "n_btags", "width", "object_class")

#: What the two fat jets are made of, on two scales; all small jets and leptons, and the missing
#: momentum, with the azimuth of the leading fat jet; and the reconstructed objects, `OBJECTS`.
STREAMS: dict[str, StreamLayout] = {
    "jet1": StreamLayout(_PARTICLE, _AXIS),
    "jet2": StreamLayout(_PARTICLE, _AXIS),
    "subjets1": StreamLayout(_SUBJET, _AXIS),
    "subjets2": StreamLayout(_SUBJET, _AXIS),
    "small_jets": StreamLayout((*_SUBJET, "n_btags"), _REFERENCE),
    "leptons": StreamLayout(("pt", "eta", "phi", "charge", "particle_class"), _REFERENCE),
    "missing": StreamLayout(("pt", "phi"), _REFERENCE),
    "kinematics": StreamLayout(_OBJECT),
}

#: Masses of the two jets and of the pair and missing pT in GeV, b-tags of the two jets, and whether
#: each is a h -> b bbar by the generator's particles: 1 yes, 0 no, -1 not known.
OBSERVABLES = ("m_j1", "m_j2", "m_hh", "n_btags_j1", "n_btags_j2", "met", "h_bb_j1", "h_bb_j2")


def wrap_phi(phi: NDArray[np.floating]) -> NDArray[np.floating]:
    """Bring azimuths, or differences of them, to (-pi, pi].

    Examples
    --------
    >>> wrap_phi(np.array([-np.pi, 0.5, 2 * np.pi + 0.5])).round(6)
    array([3.141593, 0.5     , 0.5     ])
    """
    return np.pi - (np.pi - phi) % (2 * np.pi)

"""The processes that manyscale knows by name: their class, their Pythia settings, their share."""

from typing import NamedTuple

from manyscale.schema import Label

__all__ = ["NAMED_PROCESSES", "NamedProcess"]


class NamedProcess(NamedTuple):
    """A process that a card can name without more ado.

    Attributes
    ----------
    event_class
        Signal or background.
    share
        Part of the generated events of its class, relative to the other processes of that class.
    pythia
        Settings of Pythia 8 that switch it on.
    """

    event_class: Label
    share: float
    pythia: tuple[str, ...]


# gg -> H -> hh -> 4b with a heavy CP-even H, as in arXiv:2401.00452.
_HH4B = (
    "Higgs:useBSM=on",
    "HiggsBSM:gg2H2=on",
    "35:m0=1000",
    "35:mWidth=5",
    "35:doForceWidth=on",
    "35:onMode=off",
    "35:onIfMatch=25 25",
    "25:onMode=off",
    "25:onIfMatch=5 -5",
)
# High pT is rare in QCD, but what a classifier leaves of it has high pT. So events are made by
# (pT / 250 GeV)^2.5 times as often, and carry the inverse as their weight. The power is a choice by
# measurement: docs/generation.md.
_MORE_HIGH_PT = (
    "PhaseSpace:bias2Selection=on",
    "PhaseSpace:bias2SelectionPow=2.5",
    "PhaseSpace:bias2SelectionRef=250",
)
_QCD_BB = (
    "HardQCD:gg2bbbar=on",
    "HardQCD:qqbar2bbbar=on",
    "PhaseSpace:pTHatMin=250",
    *_MORE_HIGH_PT,
)
# All of HardQCD:all but the two processes of _QCD_BB, which would be counted twice beside it.
_QCD = (
    "HardQCD:gg2gg=on",
    "HardQCD:gg2qqbar=on",
    "HardQCD:qg2qg=on",
    "HardQCD:qq2qq=on",
    "HardQCD:qqbar2gg=on",
    "HardQCD:qqbar2qqbarNew=on",
    "HardQCD:gg2ccbar=on",
    "HardQCD:qqbar2ccbar=on",
    "PhaseSpace:pTHatMin=250",
    *_MORE_HIGH_PT,
)
_TTBAR = ("Top:gg2ttbar=on", "Top:qqbar2ttbar=on", "PhaseSpace:pTHatMin=200")
_ZZ = (
    "WeakDoubleBoson:ffbar2gmZgmZ=on",
    "23:onMode=off",
    "23:onIfMatch=5 -5",
    "PhaseSpace:pTHatMin=250",
)

NAMED_PROCESSES: dict[str, NamedProcess] = {
    "hh4b": NamedProcess("signal", 1.0, _HH4B),
    "qcd_bb": NamedProcess("background", 0.4, _QCD_BB),
    "qcd": NamedProcess("background", 0.3, _QCD),
    "ttbar": NamedProcess("background", 0.2, _TTBAR),
    "zz": NamedProcess("background", 0.1, _ZZ),
}

"""Settings of generated events: processes, detector, jets, cuts. Imports none of their libraries."""

import json
import math
import re
from typing import Annotated, Literal, NamedTuple

import numpy as np
from annotated_types import Le
from pydantic import AfterValidator, Field, field_validator, model_validator

from manyscale.schema import Label
from manyscale.settings import Settings, setting

__all__ = [
    "NAMED_PROCESSES",
    "SHOWER_VARIATIONS",
    "CalorimeterSettings",
    "CutSettings",
    "DetectorSettings",
    "GenerateSettings",
    "JetSettings",
    "NamedProcess",
    "ObjectSettings",
    "ProcessSettings",
    "TaggingSettings",
    "TrackSettings",
]


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


#: Varied parton showers as further weights of the same events: the name of each weight to what Pythia
#: varies, the renormalisation scale of the shower before (isr) or after (fsr) the hard scattering, at
#: twice and at half of itself. `up` radiates less. S. Mrenna, P. Skands, Phys. Rev. D 94 (2016) 074005,
#: arXiv:1605.08352.
SHOWER_VARIATIONS = {
    "isr_up": "isr:muRfac=2.0",
    "isr_down": "isr:muRfac=0.5",
    "fsr_up": "fsr:muRfac=2.0",
    "fsr_down": "fsr:muRfac=0.5",
}
_VARIATION_LINES = (
    "UncertaintyBands:doVariations=on",
    # Emissions softer than sqrt(20) of the shower's lowest pT keep their probability: they are many,
    # and varied, too, they blow the weights up until a thirtieth of the events is effective, not a half.
    "UncertaintyBands:FSRpTmin2Fac=20",
    "UncertaintyBands:List={" + ",".join(map(" ".join, SHOWER_VARIATIONS.items())) + "}",
)


_PROCESS_NAME = re.compile(r"[A-Za-z][A-Za-z0-9_]*")
# Each unit has its own seed, and each unit would read a file of hard events from its start.
_OURS = {"random": "seed", "beams:lhef": "events of an LHE file"}


def _check_line(line: str) -> str:
    key = line.partition("=")[0].strip().lower()
    for ours, what in _OURS.items():
        if key == ours or key.startswith(f"{ours}:"):
            raise ValueError(f"'{line}': the {what} cannot be set by a line of Pythia")
    if "=" not in line or "\n" in line:
        raise ValueError(f"'{line}': write each as one line, Name:setting=value")
    return line


StreamName = Literal[
    "jet1",
    "jet2",
    "subjets1",
    "subjets2",
    "small_jets",
    "leptons",
    "missing",
    "kinematics",
]
PythiaLine = Annotated[str, AfterValidator(_check_line)]


class ProcessSettings(Settings):
    """One generated process; a named one needs nothing said."""

    event_class: Label | None = setting(
        None, "signal or background; null: as the named process", alias="class"
    )
    pythia: tuple[PythiaLine, ...] = setting(
        (), "settings of Pythia 8, added after those of the named process"
    )
    share: float | None = setting(
        None, "part of its class's events, relative to the others; null: the default", gt=0
    )
    cross_section: float | None = setting(
        None, "cross section; null: as Pythia computes it", unit="pb", gt=0
    )
    k_factor: float = setting(1.0, "factor on the cross section", gt=0)
    filter_efficiency: float = setting(
        1.0, "part of the cross section that is generated", gt=0, le=1
    )


class TrackSettings(Settings):
    """How charged particles are measured in the tracker."""

    max_eta: float = setting(2.5, "largest abs(eta)", ge=0, le=6)
    min_pt: float = setting(0.5, "smallest pT", unit="GeV", ge=0)
    efficiency: float = setting(0.97, "part of the tracks of high pT that is found", ge=0, le=1)
    turn_on: float = setting(
        0.3, "scale s of the factor 1 - exp(-pT/s) on the efficiency; 0: none", unit="GeV", ge=0
    )
    resolution: float = setting(0.01, "relative resolution of pT, constant part", ge=0, le=1)
    resolution_slope: float = setting(
        1e-4, "relative resolution of pT, part that rises with pT", unit="1/GeV", ge=0, le=0.1
    )
    angle: float = setting(0.001, "resolution of eta and phi", unit="rad", ge=0, le=0.1)


class CalorimeterSettings(Settings):
    """How a calorimeter measures energies in cells: sigma(E)/E is a/sqrt(E) and b in quadrature."""

    max_eta: float = setting(5.0, "largest abs(eta)", ge=0, le=6)
    cell: float = setting(0.02, "size of the cells in eta and phi; 0: none", ge=0, le=1)
    stochastic: float = setting(
        0.1, "relative resolution a of the energy, over sqrt(E)", unit="sqrt(GeV)", ge=0, le=2
    )
    constant: float = setting(0.01, "relative resolution b of the energy", ge=0, le=1)
    min_pt: float = setting(0.5, "smallest pT of a cell", unit="GeV", ge=0)


class TaggingSettings(Settings):
    """How often jets are tagged, each as two candidates: its b hadrons, charm hadrons, or neither."""

    efficiency: float = setting(0.7, "probability to tag a b hadron", ge=0, le=1)
    charm: float = setting(0.15, "probability to tag a charm hadron", ge=0, le=1)
    light: float = setting(0.01, "probability to tag where neither is", ge=0, le=1)
    min_pt: float = setting(5.0, "smallest pT of a b or charm hadron that counts", unit="GeV", ge=0)


class DetectorSettings(Settings):
    """A parametrised detector: a tracker and two calorimeters."""

    tracks: TrackSettings = setting(TrackSettings(), "charged particles")
    photons: CalorimeterSettings = setting(CalorimeterSettings(), "electromagnetic calorimeter")
    hadrons: CalorimeterSettings = setting(
        CalorimeterSettings(cell=0.1, stochastic=0.6, constant=0.05, min_pt=1.0),
        "hadron calorimeter",
    )
    btags: TaggingSettings = setting(TaggingSettings(), "b-tagging of the jets")


class JetSettings(Settings):
    """The fat jets: anti-kT of everything that the detector saw."""

    radius: float = setting(1.0, "radius of the anti-kT jets", gt=0, le=2)


class ObjectSettings(Settings):
    """What the streams of small jets, leptons and subjets hold."""

    jet_radius: float = setting(0.4, "radius of the small anti-kT jets", gt=0, le=1)
    jet_pt: float = setting(25.0, "smallest pT of a small jet", unit="GeV", ge=1)
    lepton_pt: float = setting(10.0, "smallest pT of an electron or muon", unit="GeV", ge=0)
    isolation: float = setting(
        0.2, "largest pT of others within 0.3 of a lepton, over its own", ge=0
    )
    subjet_radius: float = setting(0.2, "radius of the subjets, anti-kT", gt=0, le=1)
    subjet_pt: float = setting(5.0, "smallest pT of a subjet", unit="GeV", ge=0)


class CutSettings(Settings):
    """What is asked of the two jets of highest pT."""

    leading_pt: float = setting(250.0, "smallest pT of the leading jet", unit="GeV", ge=0)
    second_pt: float = setting(200.0, "smallest pT of the second jet", unit="GeV", ge=5)
    max_eta: float = setting(2.5, "largest abs(eta) of both", gt=0, le=6)
    min_btags: int = setting(0, "fewest b-tags of both together", ge=0, le=4)


def _default_mix() -> dict[str, ProcessSettings]:
    return {name: ProcessSettings(share=named.share) for name, named in NAMED_PROCESSES.items()}


class GenerateSettings(Settings):
    """Events made by Pythia 8, seen by the detector, selected by their jets."""

    events: int = setting(10_000, "events generated of each class, before the cuts", ge=1)
    energy: float = setting(
        14_000.0, "energy of the two protons together", unit="GeV", ge=100, le=200_000
    )
    multiparton: bool = setting(True, "further parton scatterings in the same proton pair")
    variations: bool = setting(
        False, f"weights of varied parton showers, too: {', '.join(SHOWER_VARIATIONS)}"
    )
    unit_events: int = setting(500, "events of a unit of work; each has its own seed", ge=1)
    processes: dict[str, ProcessSettings] = Field(
        default_factory=_default_mix,
        description="what is generated; those named here replace this mix",
        min_length=1,
    )
    detector: DetectorSettings = setting(DetectorSettings(), "the parametrised detector")
    jets: JetSettings = setting(JetSettings(), "the fat jets")
    objects: ObjectSettings = setting(ObjectSettings(), "small jets, leptons and subjets")
    streams: tuple[StreamName, ...] = setting(
        ("jet1", "jet2", "kinematics"),
        "streams kept; also subjets1, subjets2, small_jets, leptons, missing",
        min_length=1,
    )
    columns: tuple[Literal["d0", "dz"], ...] = setting(
        (), "further columns of the constituents, d0 and dz, of files that have them"
    )
    cuts: CutSettings = setting(CutSettings(), "what is asked of the two jets of highest pT")
    spread: float = setting(
        0.0,
        "relative spread of the detector's numbers and the jets' radius from unit to unit, so that "
        "what is pretrained knows no one detector",
        ge=0,
        le=0.5,
    )

    @model_validator(mode="after")
    def _known_processes(self) -> "GenerateSettings":
        for name, process in self.processes.items():
            if not _PROCESS_NAME.fullmatch(name):
                raise ValueError(
                    f"'{name}' cannot name a process: use letters, digits and _, a letter first"
                )
            if name not in NAMED_PROCESSES and not (process.event_class and process.pythia):
                raise ValueError(
                    f"process '{name}' is not one of {', '.join(NAMED_PROCESSES)}: "
                    "say its class (signal or background) and its pythia settings"
                )
        return self

    @field_validator("streams", "columns")
    @classmethod
    def _each_once(cls, names: tuple[str, ...]) -> tuple[str, ...]:
        if len(set(names)) < len(names):
            raise ValueError(f"a name stands twice in {', '.join(names)}")
        return names

    def event_class(self, process: str) -> Label:
        """Signal or background."""
        return self.processes[process].event_class or NAMED_PROCESSES[process].event_class

    def share(self, process: str) -> float:
        """Part of its class's events, relative to the other processes of that class."""
        share = self.processes[process].share
        if share is not None:
            return share
        return NAMED_PROCESSES[process].share if process in NAMED_PROCESSES else 1.0

    @property
    def weights(self) -> tuple[str, ...]:
        """Names of the further weights that generated events have."""
        return tuple(SHOWER_VARIATIONS) if self.variations else ()

    @property
    def section(self) -> str:
        """All that generated events follow from, but the seed: as JSON, without their number."""
        # A key of later versions that does nothing must not turn older events into others.
        later = set() if self.spread else {"spread"}
        section = self.model_dump(mode="json", by_alias=True, exclude={"events", *later})
        return json.dumps(section, sort_keys=True)

    def of_unit(self, seed: int) -> "GenerateSettings":
        """With the detector and jets of one unit of work, drawn from its seed where `spread` is set."""
        if not self.spread:
            return self
        random = np.random.default_rng((seed, 1))

        def drawn(section: Settings) -> Settings:
            changed: dict[str, object] = {}
            for name, value in section:
                limits = type(section).model_fields[name].metadata
                most = next((limit.le for limit in limits if isinstance(limit, Le)), math.inf)
                if isinstance(value, Settings):
                    changed[name] = drawn(value)
                elif name == "efficiency":  # of what is lost, so that as much is gained as lost
                    changed[name] = max(0, 1 - (1 - value) * random.lognormal(sigma=self.spread))
                elif name != "max_eta":
                    changed[name] = min(most, value * random.lognormal(sigma=self.spread))
            return section.model_copy(update=changed)

        return self.model_copy(update={"detector": drawn(self.detector), "jets": drawn(self.jets)})

    def pythia_lines(self, process: str) -> tuple[str, ...]:
        """All settings of Pythia for a process, in the order in which they are read."""
        named = NAMED_PROCESSES[process].pythia if process in NAMED_PROCESSES else ()
        return (
            f"Beams:eCM={self.energy!r}",
            f"PartonLevel:MPI={'on' if self.multiparton else 'off'}",
            *(_VARIATION_LINES if self.variations else ()),
            *named,
            *self.processes[process].pythia,
        )

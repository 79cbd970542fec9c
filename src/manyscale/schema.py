"""What events are made of: columns, streams, codes, processes with what was generated, cutflow.

Of this speak the readers of files, the generator, datasets and everything above. Units are GeV and
radians, azimuths in (-pi, pi]. Tokens stand in the order of falling pT, those of `kinematics` in that
of `OBJECTS`.
"""

import math
import re
from collections.abc import Collection, Iterable, Sequence
from difflib import get_close_matches
from typing import Literal, NamedTuple

from pydantic import BaseModel, ConfigDict

from manyscale.errors import DataError

__all__ = [
    "AXIS_COLUMNS",
    "CHARGED_HADRON",
    "COLUMNS",
    "CONSTITUENTS",
    "ELECTRON",
    "LONE_STREAM",
    "MUON",
    "NEUTRAL_HADRON",
    "OBJECTS",
    "OBJECT_CLASSES",
    "OBSERVABLES",
    "PARTICLE_CLASSES",
    "PHOTON",
    "SCHEMA_VERSION",
    "STREAMS",
    "SUBJETS",
    "Column",
    "CutflowStep",
    "Generated",
    "Label",
    "Process",
    "Schema",
    "StreamSchema",
    "check_stream_names",
    "collision_streams",
    "meant",
    "misspelt_columns",
]

SCHEMA_VERSION = 1
Label = Literal["signal", "background"]

#: Name of the stream of a file, or an array, that comes alone.
LONE_STREAM = "constituents"

#: The values of `particle_class` are the places in this list, those of `object_class` in the next.
PARTICLE_CLASSES = ("charged hadron", "electron", "muon", "photon", "neutral hadron")
CHARGED_HADRON, ELECTRON, MUON, PHOTON, NEUTRAL_HADRON = range(len(PARTICLE_CLASSES))
OBJECT_CLASSES = ("leading jet", "second jet", "pair", "missing momentum", "jet", "lepton")
#: The tokens of `kinematics`.
OBJECTS = OBJECT_CLASSES[:4]


class Column(NamedTuple):
    """A measured quantity: its unit, the range in which values are usual, and what it is."""

    name: str
    unit: str
    low: float
    high: float
    doc: str
    classes: tuple[str, ...] = ()


_PI = 3.1416

#: Every column that manyscale knows. Any other name is a plain number.
COLUMNS: dict[str, Column] = {
    column.name: column
    for column in (
        Column("pt", "GeV", 0, 14000, "transverse momentum"),
        Column("eta", "", -10, 10, "pseudorapidity"),
        Column("phi", "rad", -_PI, _PI, "azimuth in (-pi, pi]"),
        Column("mass", "GeV", -1, 14000, "invariant mass"),
        Column("energy", "GeV", 0, 14000, "energy"),
        Column("particle_class", "", 0, 15, "kind of particle", PARTICLE_CLASSES),
        Column("charge", "e", -2, 2, "electric charge"),
        Column("d0", "mm", -100, 100, "transverse impact parameter"),
        Column("dz", "mm", -500, 500, "longitudinal impact parameter"),
        Column("multiplicity", "", 0, 10000, "number of constituents"),
        Column("n_btags", "", 0, 20, "number of b-tags"),
        Column("width", "", 0, 2, "pT-weighted mean distance of the constituents to the axis"),
        Column("object_class", "", 0, 15, "kind of object", OBJECT_CLASSES),
        Column("jet_pt", "GeV", 0, 14000, "pT of the jet to which the stream belongs"),
        Column("jet_eta", "", -6, 6, "pseudorapidity of that jet"),
        Column("jet_phi", "rad", -_PI, _PI, "azimuth of that jet, or of the leading jet"),
        Column("jet_mass", "GeV", -1, 14000, "mass of that jet"),
        Column("delta_eta", "", -6, 6, "eta minus the jet's eta"),
        Column("delta_phi", "rad", -_PI, _PI, "phi minus the jet's phi, wrapped to (-pi, pi]"),
        Column("delta_r", "", 0, 8, "distance to the jet axis in (eta, phi)"),
        Column("log_pt", "", -20, 9.6, "log of pT in GeV"),
        Column("log_energy", "", -20, 9.6, "log of the energy in GeV"),
        Column("log_pt_rel", "", -20, 1, "log of pT over the jet's pT"),
        Column("log_energy_rel", "", -20, 1, "log of the energy over the jet's energy"),
        Column("is_charged", "", 0, 1, "1 for charged particles"),
        Column("is_photon", "", 0, 1, "1 for photons"),
        Column("is_neutral_hadron", "", 0, 1, "1 for neutral hadrons"),
        Column("phi_rel", "rad", -_PI, _PI, "phi minus that of the leading object, wrapped"),
        Column("log_mass", "", -20, 9.6, "log of (1 GeV + mass)"),
    )
}


def meant(name: str, known: Iterable[str], *, cutoff: float = 0.6) -> list[str]:
    """Names that a misspelt one may stand for: the same but for short forms, else similar ones.

    Examples
    --------
    >>> meant("deta", COLUMNS), meant("logPT", COLUMNS), meant("colour", COLUMNS)
    (['delta_eta'], ['log_pt'], [])
    """

    def plain(spelt: str) -> str:
        letters = re.sub(r"[^a-z0-9]", "", spelt.lower())
        return re.sub(r"^d(?=eta|phi|r$)", "delta", letters)

    known = list(known)
    same = [one for one in known if plain(one) == plain(name)]
    return same or get_close_matches(name, known, n=3, cutoff=cutoff)


#: Columns that describe the jet of a stream, once an event.
AXIS_COLUMNS = ("jet_pt", "jet_eta", "jet_phi", "jet_mass")


class _Frozen(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class StreamSchema(_Frozen):
    """One stream: the columns of its tokens, and those that it has once an event (its jet's axis).

    Attributes
    ----------
    array_columns
        Order of the columns in padded arrays of this stream, where it is not `columns`, then `axis`.
    """

    name: str
    columns: tuple[str, ...]
    axis: tuple[str, ...] = ()
    array_columns: tuple[str, ...] = ()

    @property
    def all_columns(self) -> tuple[str, ...]:
        """Columns of a token in the order of a padded array, the axis repeated on each token."""
        return self.array_columns or self.columns + self.axis

    def same_content(self, other: "StreamSchema") -> bool:
        """Whether both hold the same columns, however padded arrays of them are ordered."""
        return (self.name, self.columns, self.axis) == (other.name, other.columns, other.axis)

    def column(self, name: str) -> int:
        """Place of a column among the token columns.

        Raises
        ------
        DataError
            Where the stream has no such column; the message lists those that it has.
        """
        if name not in self.columns:
            raise DataError(
                f"stream '{self.name}' has no column '{name}'; it has {', '.join(self.columns)}"
            )
        return self.columns.index(name)


def misspelt_columns(stream: StreamSchema) -> list[str]:
    """Say, a line each, which unknown columns of a stream are spelt much like known ones."""
    return [
        f"the column '{name}' of the stream '{stream.name}' is not known, so a plain number; did you "
        f"mean {' or '.join(close)}?"
        for name in stream.all_columns
        # jet numbers and the like (eta_1, pt2) are meant
        if name not in COLUMNS and re.sub(r"[_0-9]+$", "", name) not in COLUMNS
        if (close := meant(name, COLUMNS, cutoff=0.85))
    ]


_PARTICLE = ("pt", "eta", "phi", "energy", "charge", "particle_class")
_SUBJET = ("pt", "eta", "phi", "mass", "multiplicity")
# What is beside the jets has its azimuth relative to the leading one.
_REFERENCE = ("jet_phi",)
_OBJECT = ("pt", "eta", "phi", "mass", "multiplicity", "n_btags", "width", "object_class")

#: The streams whose tokens are what a fat jet is made of, and those of these clustered anew.
CONSTITUENTS = ("jet1", "jet2")
SUBJETS = ("subjets1", "subjets2")

#: Streams of a collision. What the two fat jets are made of, on two scales; all small jets and leptons,
#: and the missing momentum, with the azimuth of the leading fat jet; the reconstructed objects.
STREAMS: dict[str, StreamSchema] = {
    stream.name: stream
    for stream in (
        StreamSchema(name="jet1", columns=_PARTICLE, axis=AXIS_COLUMNS),
        StreamSchema(name="jet2", columns=_PARTICLE, axis=AXIS_COLUMNS),
        StreamSchema(name="subjets1", columns=_SUBJET, axis=AXIS_COLUMNS),
        StreamSchema(name="subjets2", columns=_SUBJET, axis=AXIS_COLUMNS),
        StreamSchema(name="small_jets", columns=(*_SUBJET, "n_btags"), axis=_REFERENCE),
        StreamSchema(
            name="leptons",
            columns=("pt", "eta", "phi", "charge", "particle_class"),
            axis=_REFERENCE,
        ),
        StreamSchema(name="missing", columns=("pt", "phi"), axis=_REFERENCE),
        StreamSchema(name="kinematics", columns=_OBJECT),
    )
}


def collision_streams(names: Sequence[str], columns: Sequence[str] = ()) -> dict[str, StreamSchema]:
    """Take the named streams of `STREAMS`; those of constituents with further columns.

    Examples
    --------
    >>> collision_streams(["jet1", "missing"], ["d0"])["jet1"].columns[-2:]
    ('particle_class', 'd0')
    """
    return {
        name: STREAMS[name].model_copy(update={"columns": (*STREAMS[name].columns, *columns)})
        if name in CONSTITUENTS
        else STREAMS[name]
        for name in names
    }


#: Masses of the two jets and of the pair and missing pT in GeV, b-tags of the two jets, and whether
#: each is a h -> b bbar by the generator's particles: 1 yes, 0 no, -1 not known.
OBSERVABLES = ("m_j1", "m_j2", "m_hh", "n_btags_j1", "n_btags_j2", "met", "h_bb_j1", "h_bb_j2")


class CutflowStep(_Frozen):
    """How much passed a step of the selection: events, and their sum of weights."""

    step: str
    events: int
    sum_weights: float


class Generated(_Frozen):
    """What was generated to give some events of a process, and what the selection left of it.

    Attributes
    ----------
    cross_section, cross_section_error
        In pb, with its statistical error; None where the source does not say.
    generated
        Number of events before any selection.
    sum_weights, sum_weights2
        Sums of the weights, and of their squares, of all generated events; None where the source
        does not say.
    cutflow
        The first step counts all events of the source; each further one what passed it and all
        before.
    """

    cross_section: float | None = None
    cross_section_error: float | None = None
    generated: int = 0
    sum_weights: float | None = None
    sum_weights2: float | None = None
    cutflow: tuple[CutflowStep, ...] = ()

    @staticmethod
    def add(parts: Sequence["Generated"]) -> "Generated":
        """Add up what several sources of the same process say.

        The cross section is the mean of those that are known, by the events generated for each. The
        same value with the same error is one estimate, however many parts repeat it; different ones
        are independent, and so are their errors. One unknown error leaves that of the mean unknown.
        """
        sections: dict[tuple[float, float | None], int] = {}
        for part in parts:
            if part.cross_section is not None:
                said = (part.cross_section, part.cross_section_error)
                sections[said] = sections.get(said, 0) + part.generated
        section, error = _mean_of_estimates(sections)
        return Generated(
            cross_section=section,
            cross_section_error=error,
            generated=sum(part.generated for part in parts),
            sum_weights=_sum_known([part.sum_weights for part in parts]),
            sum_weights2=_sum_known([part.sum_weights2 for part in parts]),
            cutflow=_add_cutflows([part.cutflow for part in parts if part.cutflow]),
        )


def _mean_of_estimates(
    sections: dict[tuple[float, float | None], int],
) -> tuple[float | None, float | None]:
    if len(sections) < 2:
        return next(iter(sections), (None, None))
    total = sum(sections.values())
    shares = [events / total if total else 1 / len(sections) for events in sections.values()]
    mean = math.fsum(share * value for share, (value, _) in zip(shares, sections, strict=True))
    errors = [error for _, error in sections]
    if any(error is None for error in errors):
        return mean, None
    return mean, math.hypot(*(s * (e or 0.0) for s, e in zip(shares, errors, strict=True)))


def _sum_known(values: Sequence[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return math.fsum(known) if len(known) == len(values) else None


def _add_cutflows(cutflows: Sequence[tuple[CutflowStep, ...]]) -> tuple[CutflowStep, ...]:
    """Add up step by step; of events selected in several ways, the first and last steps."""
    if len({tuple(step.step for step in cutflow) for cutflow in cutflows}) > 1:
        ends = ("before any selection", "selected, in several ways")
        cutflows = [
            tuple(
                step.model_copy(update={"step": end})
                for step, end in zip((of[0], of[-1]), ends, strict=True)
            )
            for of in cutflows
        ]
    return tuple(
        CutflowStep(
            step=same[0].step,
            events=sum(step.events for step in same),
            sum_weights=math.fsum(step.sum_weights for step in same),
        )
        for same in zip(*cutflows, strict=True)
    )


class Process(Generated):
    """One process: its class, what is stated of it, and what was generated.

    Attributes
    ----------
    cross_section
        Before `k_factor` and `filter_efficiency`; see `Generated`.
    share
        Stated share of the process in its class; None where the events stand for themselves.
    """

    name: str
    label: Label
    k_factor: float = 1.0
    filter_efficiency: float = 1.0
    share: float | None = None


class Schema(_Frozen):
    """What the events of a dataset are made of."""

    version: int = SCHEMA_VERSION
    streams: tuple[StreamSchema, ...]
    processes: tuple[Process, ...] = ()
    weights: tuple[str, ...] = ("weight",)
    observables: tuple[str, ...] = ()

    def stream(self, name: str) -> StreamSchema:
        """Return the stream of that name.

        Raises
        ------
        DataError
            Where there is none; the message lists the streams there are.
        """
        for stream in self.streams:
            if stream.name == name:
                return stream
        names = ", ".join(stream.name for stream in self.streams)
        raise DataError(f"the data have no stream '{name}'; they have {names}")


_STREAM_NAME = re.compile(r"[A-Za-z][A-Za-z0-9_]*")
_RESERVED = {"process", "weight", "event_id", "observables", "entry"}


def check_stream_names(names: Collection[str]) -> None:
    """Refuse names of streams that could be no column of a dataset.

    Raises
    ------
    DataError
        Where there is none, or a name is malformed or taken by another column.
    """
    if not names:
        raise DataError("no stream is given")
    for name in names:
        if not _STREAM_NAME.fullmatch(name):
            raise DataError(
                f"'{name}' cannot be the name of a stream: use letters, digits and _, a letter first"
            )
        if name in _RESERVED or name.removesuffix("_axis") in set(names) - {name}:
            raise DataError(f"'{name}' cannot be the name of a stream: a dataset uses it itself")

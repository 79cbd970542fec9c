"""What a dataset holds: the registry of columns, and the schema of streams and processes."""

import re
from collections.abc import Collection
from typing import Literal, NamedTuple

from pydantic import BaseModel, ConfigDict

from manyscale.errors import DataError

__all__ = [
    "AXIS_COLUMNS",
    "COLUMNS",
    "LONE_STREAM",
    "OBJECT_CLASSES",
    "PARTICLE_CLASSES",
    "Column",
    "CutflowStep",
    "Label",
    "Process",
    "Schema",
    "StreamSchema",
    "check_stream_names",
]

SCHEMA_VERSION = 1
Label = Literal["signal", "background"]

#: Name of the stream of a file, or an array, that comes alone.
LONE_STREAM = "constituents"

PARTICLE_CLASSES = ("charged hadron", "electron", "muon", "photon", "neutral hadron")
OBJECT_CLASSES = ("leading jet", "second jet", "pair", "missing momentum", "jet", "lepton")


class Column(NamedTuple):
    """A measured quantity: its unit, the range in which values are usual, and what it is."""

    name: str
    unit: str
    low: float
    high: float
    doc: str
    classes: tuple[str, ...] = ()


_PI = 3.1416
_INF = float("inf")

#: Every column that manyscale knows. Any other name is a plain number.
COLUMNS: dict[str, Column] = {
    column.name: column
    for column in (
        Column("pt", "GeV", 0, 14000, "transverse momentum"),
        Column("eta", "", -6, 6, "pseudorapidity"),
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
        Column("log_pt", "", -20, 12, "log of pT in GeV"),
        Column("log_energy", "", -20, 12, "log of the energy in GeV"),
        Column("log_pt_rel", "", -20, 1, "log of pT over the jet's pT"),
        Column("log_energy_rel", "", -20, 1, "log of the energy over the jet's energy"),
        Column("is_charged", "", 0, 1, "1 for charged particles"),
        Column("is_photon", "", 0, 1, "1 for photons"),
        Column("is_neutral_hadron", "", 0, 1, "1 for neutral hadrons"),
        Column("phi_rel", "rad", -_PI, _PI, "phi minus that of the leading object, wrapped"),
        Column("log_mass", "", -20, 12, "log of (1 GeV + mass)"),
    )
}

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


class CutflowStep(_Frozen):
    """How much passed a step of the selection: events, and their sum of weights."""

    step: str
    events: int
    sum_weights: float


class Process(_Frozen):
    """One process: its class, its cross section, and what was generated of it.

    Attributes
    ----------
    cross_section
        In pb, before `k_factor` and `filter_efficiency`; None where nobody said it.
    share
        Stated share of the process in its class; None where the events stand for themselves.
    generated, sum_weights, sum_weights2
        Number of generated events (before any selection) and the sums of their weights and squared
        weights; `sum_weights` None where the source does not know it.
    """

    name: str
    label: Label
    cross_section: float | None = None
    cross_section_error: float | None = None
    k_factor: float = 1.0
    filter_efficiency: float = 1.0
    share: float | None = None
    generated: int = 0
    sum_weights: float | None = None
    sum_weights2: float | None = None
    cutflow: tuple[CutflowStep, ...] = ()


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

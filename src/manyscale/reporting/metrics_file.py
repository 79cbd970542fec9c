"""What a report reads of metrics.json."""

from pydantic import Field

from manyscale.reporting.json_files import Part

__all__ = [
    "Cut",
    "Difference",
    "Figures",
    "Metrics",
    "Rejection",
    "Sculpting",
    "Significance",
    "Trees",
    "Yields",
]


class Rejection(Part):
    """Background rejection at one signal efficiency; `value` None where only a limit is known."""

    value: float | None
    low: float
    high: float | None


class Difference(Part):
    """AUC of one classifier minus that of another on the same events, and its paired error."""

    auc: float
    auc_error: float | None = None


class Figures(Part):
    """One classifier's figures of merit, on class-balanced weights."""

    auc: float
    auc_error: float | None = None
    accuracy: float | None = None
    loss: float | None = None
    n_events: int | None = None
    n_effective: float | None = None
    events_per_second: float | None = None
    background_rejection: dict[str, Rejection] = Field(default_factory=dict)


class Counted(Part):
    """Expected events with their error from the number of simulated events."""

    label: str = ""
    expected: float
    error: float
    n_events: int
    n_effective: float


class Yields(Part):
    """Expected events at a luminosity in fb^-1."""

    luminosity: float
    processes: dict[str, Counted] = Field(default_factory=dict)
    signal: Counted
    background: Counted
    notice: str = ""


class Cut(Part):
    """What a cut on the score keeps, and its significance.

    Attributes
    ----------
    value, value_error
        Significance, and its error from the number of simulated events.
    value_with_mc_error
        With the background's error from the number of simulated events.
    processes
        What each process leaves above the cut.
    """

    cut: float
    signal: float
    signal_error: float
    background: float
    background_error: float
    background_n_effective: float | None = None
    signal_efficiency: float | None = None
    value: float
    value_error: float | None = None
    value_with_mc_error: float | None = None
    processes: dict[str, Counted] = Field(default_factory=dict)


class WithSystematic(Part):
    """The best cut where the background is uncertain by a fraction of itself."""

    background: float
    best: Cut | None


class Significance(Part):
    """The best cuts; None where none leaves enough simulated background."""

    least_background_events: float = 10
    best: Cut | None = None
    systematics: tuple[WithSystematic, ...] = ()
    notice: str = ""


class Trees(Figures):
    """The trees' part of metrics.json."""

    network_minus_trees: Difference | None = None
    significance: Significance | None = None


class Sculpted(Part):
    """How far a cut on the score bends the background's masses; see evaluation.sculpting."""

    background_efficiency: float
    kept: float | None = None
    n_effective: float | None = None
    divergence: float | None = None
    error: float | None = None
    by_chance: float | None = None
    by_chance_spread: float | None = None


class Sculpting(Part):
    """The masses of the background events that pass, held against those of the others."""

    observable: str
    n_events: int | None = None
    network: tuple[Sculpted, ...] = ()
    trees: tuple[Sculpted, ...] = ()


class Metrics(Figures):
    """The whole of metrics.json."""

    trees: Trees | None = None
    yields: Yields | None = None
    significance: Significance | None = None
    sculpting: Sculpting | None = None
    yields_missing: str = ""
    sculpting_missing: str = ""

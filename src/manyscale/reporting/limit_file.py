"""What a report reads of limits/limits.json."""

from pydantic import Field

from manyscale.reporting.json_files import Part

__all__ = ["Hypothesis", "LimitFile"]


class Hypothesis(Part):
    """What is expected of one signal.

    Attributes
    ----------
    signal, mass, cross_section_fb
        The process, its mass [GeV] where it has one, and the cross section that the data state.
    mu, limit_fb
        Expected upper limit on the signal strength, and on the cross section [fb], by band: "-2",
        ..., "2" standard deviations, "0" the median.
    mu_error
        Of the median, from the number of simulated events.
    significance_statistics_only
        Discovery significance without systematic uncertainties.
    """

    signal: str
    mass: float | None = None
    cross_section_fb: float | None = None
    mu: dict[str, float | None] = Field(default_factory=dict)
    mu_error: float | None = None
    limit_fb: dict[str, float | None] = Field(default_factory=dict)
    significance: float | None = None
    significance_error: float | None = None
    significance_statistics_only: float | None = None


class _Classifier(Part):
    """The limits from the score of one classifier."""

    edges: tuple[float, ...] = ()
    hypotheses: tuple[Hypothesis, ...] = ()


class _Change(Part):
    """Relative change of a yield at plus and minus one standard deviation; None: no yield."""

    up: float | None
    down: float | None


class _Effects(Part):
    """What each systematic changes above a cut on the network's score: its name, then the process."""

    cut: float
    changes: dict[str, dict[str, _Change]] = Field(default_factory=dict)


class LimitFile(Part):
    """The whole of limits.json."""

    luminosity: float
    confidence: float = 0.95
    classifiers: dict[str, _Classifier] = Field(default_factory=dict)
    effects: _Effects | None = None
    notices: tuple[str, ...] = ()

    @property
    def rows(self) -> list[tuple[str, Hypothesis]]:
        """Classifier and hypothesis, the network first."""
        return [
            (name, hypothesis)
            for name, classifier in self.classifiers.items()
            for hypothesis in classifier.hypotheses
        ]

"""How well a signal strength fits to a workspace: pyhf's model, fitted as least squares."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import scipy

from manyscale.errors import DataError, MissingExtraError
from manyscale.evaluation.systematics import POI
from manyscale.statistics.exclusion import Expected, expected_limits, profiled_deviance
from manyscale.statistics.sample import Floats

__all__ = ["Likelihood", "expected"]

_TOLERANCE = 1e-10
# A fit that still creeps along a valley after so many steps continues, until a round of them gains
# less than this part of the deviance.
_STEPS = 100
_SETTLED = 1e-3
_ROUNDS = 20
# A signal weaker than this part of its limit is faint: some 0.02 standard deviations.
_FAINT = 0.01
# Modifiers with one parameter, 0 nominally and constrained to a standard deviation of 1.
_PULLED = ("normsys", "histosys")


class Likelihood:
    """The likelihood of a HistFactory workspace, on its Asimov data.

    pyhf computes the expected events of each sample. The statistical errors of the simulation are
    fitted in closed form, bin by bin; all other nuisance parameters as a sum of squares, of signed
    roots of deviances and of pulls, so that nothing is lost to rounding with a hundred million
    events in one bin and ten in another, where general minimisers of the whole likelihood stop too
    early.

    Parameters
    ----------
    workspace
        As of `manyscale.evaluation.workspace.workspace`: one channel, its background with one
        `staterror`, its signal with the strength `mu`, `normsys` and `histosys`.
    """

    def __init__(self, workspace: Mapping[str, Any]) -> None:
        try:
            import pyhf  # noqa: PLC0415 - an extra
        except ImportError as error:
            raise MissingExtraError("pyhf", "limits") from error
        # Not validated: tests hold this workspace to the schema.
        model = pyhf.Model({"channels": workspace["channels"]}, poi_name=POI, validate=False)
        config = model.config
        self._events_of_samples = model.main_model.expected_data
        self._nominal = np.asarray(config.suggested_init(), np.float64)
        self._strength = config.poi_index
        kinds = dict(config.modifiers)
        (staterror,) = (name for name, kind in kinds.items() if kind == "staterror")
        # A bin without error has a parameter that is fixed, with a width that means nothing.
        fixed = np.asarray(config.suggested_fixed(), bool)[config.par_slice(staterror)]
        self._error = np.where(fixed, 0.0, config.param_set(staterror).width())
        pulled = [config.par_slice(name).start for name, kind in kinds.items() if kind in _PULLED]
        self._pulled = np.array(pulled, np.int64)
        self._bounds = np.asarray(config.suggested_bounds(), np.float64)[self._pulled].T
        of_signal = {
            sample["name"]
            for sample in workspace["channels"][0]["samples"]
            if any(modifier["name"] == POI for modifier in sample["modifiers"])
        }
        self._is_signal = np.array([name in of_signal for name in config.samples], bool)

    def deviance(self, tested: float, true: float) -> float:
        """What -2 ln L loses where signal strength `tested` is fitted to the Asimov data of `true`.

        The test statistic q0 of discovery for tested = 0, and q_A of exclusion for true = 0.
        """
        start = np.zeros(len(self._pulled))
        data = np.sum(self._expected(true, start), axis=0)

        def residuals(pulls: Floats) -> Floats:
            signal, background = self._expected(tested, pulls)
            deviance = profiled_deviance(data, signal, background, self._error * background)
            return np.concatenate([np.sign(data - signal - background) * np.sqrt(deviance), pulls])

        if not len(start):
            return float((residuals(start) ** 2).sum())
        before = np.inf
        for _ in range(_ROUNDS):
            # In valleys many times as long as wide the default method takes a hundred times the steps.
            fit = scipy.optimize.least_squares(
                residuals,
                start,
                bounds=self._bounds,
                method="dogbox",
                ftol=_TOLERANCE,
                xtol=_TOLERANCE,
                gtol=_TOLERANCE,
                max_nfev=_STEPS,
            )
            if fit.success or before - fit.cost < _SETTLED * fit.cost:
                return float(2 * fit.cost)
            start, before = fit.x, fit.cost
        raise DataError(
            f"the fit of the signal strength {tested:g} does not converge; fewer bins or "
            "systematics (evaluation.limits, evaluation.systematics) make it easier"
        )

    def _expected(self, strength: float, pulls: Floats) -> tuple[Floats, Floats]:
        """Expected events of signal and of background, (bins,) each."""
        parameters = self._nominal.copy()
        parameters[self._pulled] = pulls
        parameters[self._strength] = strength
        samples = np.asarray(self._events_of_samples(parameters, return_by_sample=True))
        signal, background = samples[self._is_signal], samples[~self._is_signal]
        # A variation beyond those given may leave less than nothing.
        return np.maximum(signal.sum(axis=0), 0), np.maximum(background.sum(axis=0), 0)


def expected(workspace: Mapping[str, Any], guess: float) -> Expected:
    """Expected limits on the signal strength and significance of a discovery, systematics included.

    The limits are CLs limits by asymptotic formulae, as pyhf's `upper_limit` gives them.

    Parameters
    ----------
    workspace
        As for `Likelihood`.
    guess
        A signal strength near the median limit.
    """
    likelihood = Likelihood(workspace)
    limits = expected_limits(lambda mu: float(np.sqrt(likelihood.deviance(mu, 0.0))), guess)
    # A signal far too weak to be seen would drown in rounding; there significance grows linearly.
    strength = max(1.0, _FAINT * guess)
    return Expected(limits, float(np.sqrt(likelihood.deviance(0.0, strength))) / strength)

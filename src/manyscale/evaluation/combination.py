"""Network and trees as one classifier: logistic regression of their two logits."""

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import expit, logit

from manyscale.errors import DataError
from manyscale.settings import Record
from manyscale.statistics.sample import Sample

__all__ = ["Combination"]

_NAMES = ("network", "trees")
# The last float32 below one is 1 - 2^-24: clipped here no two probabilities at the signal's end become one.
_LEAST = 2.0**-25
# The penalty of scikit-learn's default, at weights of mean one. It is felt on few events only, and keeps the
# coefficients finite where a cut separates the classes.
_PENALTY = 1.0


class Combination(Record):
    """The logit of a combined score: `intercept` + `network` x its logit + `trees` x theirs."""

    intercept: float
    network: float
    trees: float
    #: Validation events that it was fitted on.
    n_events: int
    #: What is odd about it; empty where nothing is.
    notice: str = ""

    @staticmethod
    def fit(
        labels: ArrayLike, network: ArrayLike, trees: ArrayLike, weights: ArrayLike | None = None
    ) -> "Combination":
        """Fit to events that neither was trained on, each class weighing the same.

        A score that is the same for all events has the coefficient 0, and so has one whose coefficient
        would be below 0: it does not know the classes the other way round, it adds noise.

        Parameters
        ----------
        labels, weights
            (events,): 1 signal, 0 background; weights may be negative.
        network, trees
            (events,): signal probabilities.

        Raises
        ------
        DataError
            As `Sample.of`, for one class only say; where neither score tells the classes apart.
        """
        from sklearn.linear_model import LogisticRegression  # noqa: PLC0415 - takes a second

        sample = Sample.of(labels, network, weights).balanced()
        logits = np.stack([_logit(network), _logit(trees)], axis=1)
        used = [place for place in (0, 1) if np.ptp(logits[:, place]) > 0]
        reasons = [
            f"the score of the {_NAMES[place]} is the same for all events"
            for place in (0, 1)
            if place not in used
        ]
        while used:
            regression = LogisticRegression(C=_PENALTY, max_iter=1000)
            mean_one = sample.weights * (len(sample.weights) / 2)
            regression.fit(logits[:, used], sample.signal, sample_weight=mean_one)
            slopes = regression.coef_[0]
            worst = int(np.argmin(slopes))
            if slopes[worst] >= 0:
                break
            reasons.append(
                f"the coefficient of the {_NAMES[used[worst]]} came out below 0, "
                f"{slopes[worst]:.2g}, and was set to 0"
            )
            del used[worst]
        else:
            raise DataError(f"neither tells the classes apart: {'; '.join(reasons)}")
        coefficients = dict.fromkeys(_NAMES, 0.0)
        coefficients |= {
            _NAMES[place]: float(slope) for place, slope in zip(used, slopes, strict=True)
        }
        return Combination(
            intercept=float(regression.intercept_[0]),
            n_events=len(sample.signal),
            notice="; ".join(reasons),
            **coefficients,
        )

    def __call__(self, network: ArrayLike, trees: ArrayLike) -> NDArray[np.float64]:
        """Signal probability of events, (events,), from those of network and trees.

        In double precision: where both are sure, many events would share one float32 below 1.
        """
        combined = self.intercept + self.network * _logit(network) + self.trees * _logit(trees)
        found: NDArray[np.float64] = expit(combined)
        return found


def _logit(probability: ArrayLike) -> NDArray[np.float64]:
    """Logit of probabilities, finite at 0 and 1."""
    clipped = np.clip(np.asarray(probability, np.float64), _LEAST, 1 - _LEAST)
    found: NDArray[np.float64] = logit(clipped)
    return found

"""Boosted trees, the rival that every network here has to beat."""

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple
from urllib.parse import quote, unquote

import lightgbm
import numpy as np
from numpy.typing import ArrayLike, NDArray

from manyscale.checksums import read_checked
from manyscale.errors import DataError, RunError
from manyscale.events.work import usable_cores
from manyscale.statistics.sample import Sample
from manyscale.writing import write_whole

__all__ = ["MOST_EVENTS", "MOST_WATCHED", "Table", "Trees"]

#: Training events beyond these are left out, drawn at random.
MOST_EVENTS = 100_000
#: As many validation events are enough to tell when to stop.
MOST_WATCHED = 20_000

_MOST_TREES = 2000
_PATIENCE = 60
_SETTINGS = {
    "objective": "binary",
    "learning_rate": 0.03,
    "num_leaves": 31,
    "min_data_in_leaf": 20,
    "bagging_fraction": 0.8,
    "bagging_freq": 1,
    "lambda_l2": 1.0,
    "max_bin": 127,
    # The same trees for any number of threads.
    "deterministic": True,
    "force_row_wise": True,
    "verbosity": -1,
}
# Each tree sees this share of the summaries, but at least so many.
_SHARE_A_TREE, _LEAST_A_TREE = 0.3, 50
# Least sum of w p (1 - p) in a leaf. Where weights of both signs nearly cancel, a leaf's value would
# be noise, so that more is asked.
_LEAST_CURVATURE = 0.1
_LEAST_CURVATURE_WITH_NEGATIVE_WEIGHTS = 10.0


class Table(NamedTuple):
    """Events as rows of summaries, with what they are."""

    #: (events, summaries); NaN is missing.
    matrix: NDArray[np.floating]
    #: (events,): 1 signal, 0 background.
    labels: ArrayLike
    #: (events,), or None for one each; only their ratios within a class matter.
    weights: ArrayLike | None = None


class Trees:
    """Gradient-boosted trees (LightGBM) on the summaries of events.

    Training and prediction use `threads` cores, by default all that this process may use; the
    result does not depend on their number.

    Examples
    --------
    >>> generator = np.random.default_rng(0)
    >>> labels = np.arange(400) % 2
    >>> table = Table(labels[:, None] + generator.normal(size=(400, 1)), labels)
    >>> trees = Trees.fit(table, table, names=["x"], seed=1)
    >>> bool(trees.predict([[3.0]], ["x"])[0] > 0.5)
    True
    """

    def __init__(self, booster: lightgbm.Booster) -> None:
        self._booster = booster

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the summaries, in the order of the matrix's columns."""
        return tuple(unquote(name) for name in self._booster.feature_name())

    @property
    def importances(self) -> dict[str, float]:
        """Of each summary, its share of what all splits gained of the loss."""
        gain = self._booster.feature_importance("gain")
        total = gain.sum() or 1.0
        return {name: float(of / total) for name, of in zip(self.names, gain, strict=True)}

    @staticmethod
    def fit(
        train: Table,
        validation: Table,
        names: Sequence[str],
        *,
        seed: int,
        threads: int | None = None,
    ) -> "Trees":
        """Train until the loss on the validation events has stopped falling.

        Classes are balanced, and of more than `MOST_EVENTS` training events as many are drawn.
        Negative weights stay negative: gradients and loss are then those of the distribution that
        the weights stand for, which absolute values or leaving such events out would distort; no
        leaf is made whose weights nearly cancel.
        """
        for table in (train, validation):
            _check_width(table.matrix, names)
        generator = np.random.default_rng(seed)
        chosen = np.arange(len(train.matrix))
        if len(chosen) > MOST_EVENTS:
            chosen = np.sort(generator.choice(chosen, MOST_EVENTS, replace=False))
        # LightGBM refuses some characters in names.
        encoded = [quote(name, safe="") for name in names]
        data = _dataset(train, chosen, encoded)
        watched = _dataset(validation, np.arange(len(validation.matrix)), encoded, data)
        mixed = train.weights is not None and bool((np.asarray(train.weights)[chosen] < 0).any())
        booster = lightgbm.train(
            {
                **_SETTINGS,
                "feature_fraction": min(max(_SHARE_A_TREE, _LEAST_A_TREE / max(len(names), 1)), 1),
                "min_sum_hessian_in_leaf": (
                    _LEAST_CURVATURE_WITH_NEGATIVE_WEIGHTS if mixed else _LEAST_CURVATURE
                ),
                "seed": seed,
                "num_threads": threads or usable_cores(),
            },
            data,
            num_boost_round=_MOST_TREES,
            valid_sets=[watched],
            callbacks=[lightgbm.early_stopping(_PATIENCE, verbose=False)],
        )
        # As after `load`: without the trees that came after the best, and without the data.
        return Trees(lightgbm.Booster(model_str=booster.model_to_string()))

    def predict(
        self, matrix: ArrayLike, names: Sequence[str], *, threads: int | None = None
    ) -> NDArray[np.float64]:
        """Signal probability of each event, (events,)."""
        given, trained = tuple(names), self.names
        fit = "give the streams and features of the training"
        if len(given) != len(trained):
            raise DataError(
                f"{len(given)} summaries, but the trees were trained on {len(trained)}: {fit}"
            )
        for index, (one, other) in enumerate(zip(given, trained, strict=True)):
            if one != other:
                raise DataError(
                    f"summary {index} is '{one}', but the trees were trained with '{other}' there: "
                    f"{fit}"
                )
        values = np.asarray(matrix)
        _check_width(values, names)
        if not len(values):
            return np.zeros(0)
        scores = self._booster.predict(values, num_threads=threads or usable_cores())
        return np.asarray(scores, np.float64)

    def save(self, path: Path) -> None:
        """Write the trees as LightGBM's text, whole or not at all."""
        write_whole(path, self._booster.model_to_string())

    @staticmethod
    def load(path: Path) -> "Trees":
        """Read what `save` wrote."""
        try:
            # LightGBM does not survive a damaged text.
            text = read_checked(path).decode("utf-8")
            return Trees(lightgbm.Booster(model_str=text))
        except (OSError, UnicodeDecodeError, lightgbm.basic.LightGBMError) as error:
            raise RunError(f"no boosted trees can be read from {path}: {error}") from error


def _dataset(
    table: Table,
    chosen: NDArray[np.integer],
    names: list[str],
    reference: lightgbm.Dataset | None = None,
) -> lightgbm.Dataset:
    labels = np.asarray(table.labels)[chosen]
    weights = None if table.weights is None else np.asarray(table.weights)[chosen]
    # The scores play no part; Sample checks and balances labels and weights.
    sample = Sample.of(labels, np.zeros(len(labels)), weights).balanced()
    return lightgbm.Dataset(
        np.asarray(table.matrix)[chosen],
        sample.signal.astype(np.float32),
        # A mean of one gives the settings their usual meaning.
        weight=sample.weights * (len(labels) / 2),
        feature_name=names,
        reference=reference,
        free_raw_data=True,
        params={"verbosity": -1},
    )


def _check_width(matrix: NDArray[np.floating], names: Sequence[str]) -> None:
    if matrix.ndim != 2 or matrix.shape[1] != len(names):
        raise DataError(
            f"summaries of shape {matrix.shape} do not fit {len(names)} names: one column a name"
        )

"""The multi-scale classifier as an estimator of scikit-learn's shape."""

from collections.abc import Mapping
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.sparse import issparse
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.utils import Tags
from sklearn.utils.multiclass import check_classification_targets
from sklearn.utils.validation import check_is_fitted, column_or_1d, validate_data

from manyscale.card import Card, check_preset, make_card
from manyscale.data.dataset import Dataset
from manyscale.data.identity import uniform
from manyscale.data.npz import Arrays, Columns, from_arrays, read_npz_events
from manyscale.deployment.bundle import load_bundle, save_bundle
from manyscale.deployment.predict import choose_device, class_probabilities, predict
from manyscale.errors import CardError, DataError
from manyscale.model.classifier import MultiScaleClassifier
from manyscale.model.presets import Preset
from manyscale.progress import LOG, shown
from manyscale.runs.fit import build_model, fit_features, fit_members, start
from manyscale.training.schedule import TrainingSettings

__all__ = ["Classifier"]

X = Dataset | Arrays

# Share of the events that choose the best epoch, where the user names none.
_HELD_OUT = 0.15
_TRAINING = {name: field.default for name, field in TrainingSettings.model_fields.items()}
_OURS = ("start", "epochs", "batch_size", "learning_rate", "max_steps", "patience")


class Classifier(ClassifierMixin, BaseEstimator):  # type: ignore[misc]
    """A multi-scale classifier with the rules of scikit-learn's estimators.

    Parameters
    ----------
    preset
        kinematics-only, concatenation, model-1, model-2, model-3 or custom.
    streams, fusion, head
        As in a card: settings by stream name, cross-attention blocks, and the head, as dicts.
    columns
        Names of the columns of arrays: a list, or a list a stream.
    start, epochs, batch_size, learning_rate, max_steps, patience
        As in the card's section `training`.
    training
        Further keys of that section, as {"weight_decay": 0.1}.
    seed
        The one seed from which all randomness comes.
    device
        Where it trains and predicts: cpu, cuda, or auto, a GPU if there is one.
    verbose
        Show what the training does, and how far it is; in a notebook, too.

    Attributes
    ----------
    classes_
        (2,): the labels, background first; the columns of `predict_proba` stand in this order.
    network_
        The trained torch module.
    history_
        A dict an epoch: losses, validation AUC, learning rate, events per second.
    n_features_in_
        Columns of an array, where it was fitted on one of two dimensions, one token an event.

    Examples
    --------
    >>> generator = np.random.default_rng(0)
    >>> labels = np.arange(200) % 2
    >>> X = generator.normal(size=(200, 3, 2)) + labels[:, None, None]
    >>> model = Classifier(preset="model-1", epochs=3, batch_size=32).fit(X, labels)
    >>> model.predict_proba(X).shape
    (200, 2)
    """

    def __init__(
        self,
        preset: Preset = "model-2",
        *,
        streams: dict[str, dict[str, Any]] | None = None,
        fusion: list[dict[str, Any]] | None = None,
        head: dict[str, Any] | None = None,
        columns: Columns = None,
        start: str | Path = _TRAINING["start"],
        epochs: int = _TRAINING["epochs"],
        batch_size: int = _TRAINING["batch_size"],
        learning_rate: float = _TRAINING["learning_rate"],
        max_steps: int | None = _TRAINING["max_steps"],
        patience: int | None = _TRAINING["patience"],
        training: dict[str, Any] | None = None,
        seed: int = 1,
        device: str = "auto",
        verbose: bool = False,
    ) -> None:
        self.preset = preset
        self.streams = streams
        self.fusion = fusion
        self.head = head
        self.columns = columns
        self.start = start
        self.epochs = epochs
        self.batch_size = batch_size
        self.learning_rate = learning_rate
        self.max_steps = max_steps
        self.patience = patience
        self.training = training
        self.seed = seed
        self.device = device
        self.verbose = verbose

    def fit(
        self,
        X: X,  # noqa: N803 - scikit-learn's name
        y: ArrayLike | None = None,
        sample_weight: ArrayLike | None = None,
        *,
        validation: Dataset | tuple[Arrays, ArrayLike] | None = None,
    ) -> "Classifier":
        """Train on a dataset, or on arrays and labels.

        Parameters
        ----------
        X
            A dataset, which holds its labels and weights; or (events, tokens, columns), padded with
            zeros; or such an array a stream, by name; or (events, columns), one token an event.
        y
            (events,): two different labels, the larger is the signal; not for a dataset.
        sample_weight
            (events,): event weights, not for a dataset.
        validation
            Events by which the best epoch is chosen: a dataset, or arrays and labels; without it,
            15% of `X` are set aside, by event.

        Raises
        ------
        DataError, CardError
            Where data, labels or settings are not what they should be.
        """
        with shown(wanted=bool(self.verbose)):
            return self._fit(X, y, sample_weight, validation)

    def _fit(
        self,
        X: X,  # noqa: N803
        y: ArrayLike | None,
        sample_weight: ArrayLike | None,
        validation: Dataset | tuple[Arrays, ArrayLike] | None,
    ) -> "Classifier":
        card = self._card()
        train = self._dataset(X, y, sample_weight)
        for notice in train.notices:
            LOG.warning(notice)
        if validation is None:
            events = train.events()
            drawn = uniform(events.event_id, f"set aside {self.seed}")
            aside = drawn < _HELD_OUT
            for label in (0, 1):  # of few events, one of each class at least, and not all
                of_class = np.flatnonzero(events.label == label)
                if len(of_class) > 1:
                    aside[of_class[drawn[of_class].argmin()]] = True
                    aside[of_class[drawn[of_class].argmax()]] = False
            parts = (events.take(np.flatnonzero(chosen)) for chosen in (~aside, aside))
            train, held_out = (Dataset.from_events(train.schema, part) for part in parts)
        elif isinstance(validation, tuple):
            held_out = self._dataset(*validation, None, fitted=True)
        else:
            held_out = validation
        network = build_model(card, train.schema)
        train.require_classes()
        held_out.require_classes()
        if train.schema.streams != held_out.schema.streams:
            raise DataError(
                "the validation events have other streams or columns than the training's"
            )
        fit_features(network, train)
        taken = start(network, card.training)
        for line in taken.lines:
            LOG.info(line)
        states = fit_members(network, card, train=train, validation=held_out, taken=taken)
        self.network_: MultiScaleClassifier = network
        self.history_ = [row for state in states for row in state.history]
        return self

    def _card(self) -> Card:
        choose_device(self.device)  # refuses another name, or a GPU that is not there
        own = {name: getattr(self, name) for name in _OURS}
        # Further processes would have to be started by a command.
        own |= {"accelerator": "gpu" if self.device == "cuda" else self.device, "devices": 1}
        further = self.training or {}
        if twice := sorted({*own, "nodes"} & further.keys()):
            raise CardError(
                f"training={{'{twice[0]}': ...}}: {', '.join((*_OURS, 'device'))} are parameters of "
                "their own"
            )
        return make_card(
            {
                "preset": check_preset(self.preset),
                "seed": self.seed,
                "streams": self.streams or {},
                "fusion": self.fusion,
                "head": self.head or {},
                "training": {**further, **own},
            },
            "Classifier",
        )

    def _dataset(
        self,
        X: X,  # noqa: N803
        y: ArrayLike | None,
        sample_weight: ArrayLike | None,
        *,
        fitted: bool = False,
    ) -> Dataset:
        if isinstance(X, Dataset):
            if y is not None or sample_weight is not None:
                raise DataError(
                    "a dataset holds its labels and weights: give neither y nor weights"
                )
            if not fitted:
                self.classes_ = np.array([0, 1])
            return X
        if y is None:
            raise DataError(
                "labels are missing: with arrays fit requires y to be passed, but the target y is None"
            )
        arrays = self._arrays(X, fitted=fitted)
        try:
            labels = column_or_1d(y, warn=True)
            check_classification_targets(labels)
        except ValueError as error:
            raise DataError(f"y: {error}") from error
        if not fitted:
            self.classes_ = np.unique(labels)
            if len(self.classes_) > 2:
                raise DataError(
                    "Only binary classification is supported. The type of the target is multiclass: y "
                    f"has {len(self.classes_)} different labels; there must be two, background and signal"
                )
            if len(self.classes_) < 2:
                raise DataError(
                    "y has 1 class; there must be two different labels, background and signal"
                )
        unknown = ~np.isin(labels, self.classes_)
        if unknown.any():
            raise DataError(f"the label {labels[unknown][0]!r} is none of {self.classes_.tolist()}")
        signal = (labels == self.classes_[1]).astype(np.int64)
        return from_arrays(arrays, signal, sample_weight, self.columns, seed=self.seed)

    def _arrays(self, X: Arrays, *, fitted: bool) -> Arrays:  # noqa: N803
        """The arrays; one of two dimensions as one token an event, checked by scikit-learn's rules."""
        try:
            if not issparse(X) and (isinstance(X, Mapping) or np.asarray(X).ndim > 2):
                return X
            table: NDArray[Any] = validate_data(self, X, reset=not fitted)
        except ValueError as error:
            raise DataError(str(error)) from error
        return table[:, None, :]

    def predict_proba(self, X: X) -> NDArray[np.float32]:  # noqa: N803
        """Probability of each class, (events, 2), in the order of `classes_`.

        A dataset is decoded chunk by chunk, in memory that does not grow with its size.
        """
        check_is_fitted(self)
        network = self.network_.to(choose_device(self.device))
        if isinstance(X, Dataset):
            parts = [probability for _, probability in predict(network, X)]
            return np.concatenate(parts) if parts else np.zeros((0, 2), np.float32)
        wanted = [network.extractor(name).stream for name in network.settings.streams]
        arrays = self._arrays(X, fitted=True)
        return class_probabilities(network, read_npz_events(arrays, wanted).streams)

    def predict(self, X: X) -> NDArray[Any]:  # noqa: N803
        """The more probable label of each event, (events,)."""
        probability = self.predict_proba(X)
        return self.classes_[probability.argmax(axis=1)]

    def score(
        self,
        X: X,  # noqa: N803
        y: ArrayLike | None = None,
        sample_weight: ArrayLike | None = None,
    ) -> float:
        """Accuracy: of a dataset as in metrics.json, both classes alike; of arrays as scikit-learn's."""
        if not isinstance(X, Dataset):
            return float(super().score(X, y, sample_weight))
        if y is not None or sample_weight is not None:
            raise DataError("a dataset holds its labels and weights: give neither y nor weights")
        events = X.bookkeeping()
        right = self.predict_proba(X).argmax(axis=1) == events.label
        return float(np.average(right, weights=X.balanced_weights(events)))

    def __sklearn_tags__(self) -> Tags:
        """Say what it can do: two classes, arrays of two or three dimensions."""
        tags: Tags = super().__sklearn_tags__()
        tags.classifier_tags.multi_class = False
        tags.input_tags.three_d_array = True
        return tags

    def __repr__(self, N_CHAR_MAX: int = 700) -> str:  # noqa: N803 - scikit-learn's name
        """Parameters that are no defaults; and what the training has given."""
        given = super().__repr__(N_CHAR_MAX)
        if not hasattr(self, "network_"):
            return str(given)
        parameters = sum(one.numel() for one in self.network_.parameters())
        fitted = f"{', '.join(self.network_.settings.streams)}; {parameters:,} parameters"
        if history := getattr(self, "history_", None):
            best = min(history, key=lambda row: float(row["validation_loss"]))
            fitted += (
                f"; best of {len(history)} epochs: {best['epoch']:g}, validation AUC "
                f"{best['validation_auc']:.4f}"
            )
        return f"{given}, fitted on {fitted}"

    def save(self, folder: Path | str) -> None:
        """Write a model folder: weights, architecture, features, labels; no pickle."""
        check_is_fitted(self)
        save_bundle(Path(folder), self.network_, self.classes_.tolist())

    def __getstate__(self) -> dict[str, Any]:
        """For copies, joblib and pickle: the network as the files of its model folder."""
        state = dict(super().__getstate__())
        if "network_" in state:
            with TemporaryDirectory() as folder:
                save_bundle(Path(folder) / "model", state["network_"])
                files = {path.name: path.read_bytes() for path in Path(folder, "model").iterdir()}
            state["network_"] = files
        return state

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Take up what `__getstate__` gave; the network is on the CPU until it is used."""
        if "network_" in state:
            with TemporaryDirectory() as folder:
                for name, content in state["network_"].items():
                    Path(folder, name).write_bytes(content)
                state = {**state, "network_": load_bundle(folder).network}
        super().__setstate__(state)

    @staticmethod
    def load(folder: Path | str, device: str = "auto") -> "Classifier":
        """Read a model folder of `save`, or a run's folder; ready to predict."""
        folder = Path(folder)
        bundle = load_bundle(folder / "model" if (folder / "model").is_dir() else folder)
        classifier = Classifier(preset="custom", device=device)
        classifier.classes_ = np.array(bundle.labels)
        classifier.network_ = bundle.network
        return classifier

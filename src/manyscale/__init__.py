"""manyscale: collision events to an interpretable multi-scale classifier.

The names below are imported when first used, so that ``import manyscale`` costs next to nothing.
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from manyscale.card import Card, load_card
    from manyscale.data.dataset import Dataset
    from manyscale.data.npz import read_npz
    from manyscale.errors import ManyscaleError
    from manyscale.estimator import Classifier
    from manyscale.features.images import jet_images
    from manyscale.runs.fit import build_model
    from manyscale.statistics.metrics import evaluate
    from manyscale.statistics.significance import significance

__version__ = "0.1.0"

__all__ = [
    "Card",
    "Classifier",
    "Dataset",
    "ManyscaleError",
    "build_model",
    "evaluate",
    "jet_images",
    "load_card",
    "read_npz",
    "significance",
]

_HOMES = {
    "Card": "manyscale.card",
    "Classifier": "manyscale.estimator",
    "Dataset": "manyscale.data.dataset",
    "ManyscaleError": "manyscale.errors",
    "build_model": "manyscale.runs.fit",
    "evaluate": "manyscale.statistics.metrics",
    "jet_images": "manyscale.features.images",
    "load_card": "manyscale.card",
    "read_npz": "manyscale.data.npz",
    "significance": "manyscale.statistics.significance",
}


def __getattr__(name: str) -> Any:  # noqa: ANN401 - any public name
    if name not in _HOMES:
        raise AttributeError(f"module 'manyscale' has no attribute '{name}'")
    return getattr(importlib.import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    return [*__all__, "__version__"]

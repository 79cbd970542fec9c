"""Damaged and hostile files end in a result or in an error of ours, in time, and nothing else.

Here a few of each kind; `make fuzz` tries ten thousand.
"""

import os
import warnings
from collections import Counter
from pathlib import Path

import pytest

from helpers.commands import toy_card
from helpers.fuzzing import good_files, try_one
from manyscale.card import load_card
from manyscale.runs.evaluate import evaluate_run
from manyscale.runs.train import train_run

FEW = 6
CASES = int(os.environ.get("FUZZ_CASES", FEW))  # of each kind
FIRST = int(os.environ.get("FUZZ_FIRST", "0"))

KINDS = [
    "npz", "part", "dataset.json", "HDF5", "Parquet", "ROOT", "HepMC2", "HepMC3", "LHE", "list", "card",
    "scores", "safetensors", "config.json", "data.json", "summary.json", "history.csv",
]  # fmt: skip
if CASES > FEW:  # evaluating and reporting take long
    KINDS += ["metrics.json", "plot.csv"]


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    root = tmp_path_factory.mktemp("good")
    train_run(load_card(toy_card(root)), root / "run")
    if CASES > FEW:
        evaluate_run(root / "run")
    (root / "files").mkdir()
    return good_files(root / "files", root / "run")


@pytest.mark.parametrize("kind", KINDS)
def test_a_spoiled_file_gives_a_result_or_an_error_of_ours(files, tmp_path, kind):
    counts = Counter()
    wrong = []
    if kind != "ROOT":  # uproot takes long, and its files are accepted in many other tests
        assert try_one(kind, -1, files, tmp_path / "try") is None
    for number in range(FIRST, FIRST + CASES):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            try:
                said = try_one(kind, number, files, tmp_path / "try")
            except Exception as error:  # noqa: BLE001 - that is what is looked for
                wrong.append(f"{number}: {type(error).__name__}: {str(error)[:300]}")
            else:
                counts["accepted" if said is None else "refused"] += 1
    if path := os.environ.get("FUZZ_COUNTS"):
        with Path(path).open("a", encoding="utf-8") as file:
            file.write(f"{kind}: {dict(counts)}, wrong {len(wrong)}\n")
    assert not wrong, "\n".join(wrong)

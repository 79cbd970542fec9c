"""A unit of generated events as a part of a dataset."""

import subprocess
import sys

import numpy as np
import pytest

from manyscale.console import print_cutflow
from manyscale.data.dataset import Dataset
from manyscale.data.manifest import merge
from manyscale.data.parquet import claim_folder
from manyscale.events.settings import GenerateSettings

SETTINGS = {"events": 60, "multiparton": False, "variations": True, "processes": {"qcd": {}}}


@pytest.fixture(scope="module")
def dataset(tmp_path_factory):
    """60 events of QCD with varied showers."""
    pytest.importorskip("manyscale.events.generate")
    from manyscale.events.work import plan  # noqa: PLC0415
    from manyscale.runs.worker import MakePart  # noqa: PLC0415

    folder = tmp_path_factory.mktemp("made") / "data"
    claim_folder(folder)
    settings = GenerateSettings.model_validate(SETTINGS)
    (unit,) = plan(settings, 1)
    MakePart(settings, 1, folder)(unit)
    merge(folder)
    return Dataset.open(folder)


def test_workers_do_not_import_torch():
    """It takes longer than the rest together, and memory in each of them."""
    pytest.importorskip("awkward")
    code = "import sys, manyscale.runs.worker; assert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)


def test_biased_weights_and_their_sums_are_kept(dataset):
    (qcd,) = dataset.schema.processes
    weight = dataset.events().weight
    assert weight.std() > 0.1
    first, *_, last = qcd.cutflow
    assert first.sum_weights == pytest.approx(qcd.sum_weights)
    assert last.sum_weights == pytest.approx(weight.sum())
    assert 0 < weight.sum() < qcd.sum_weights < qcd.generated
    assert np.square(weight).sum() < qcd.sum_weights2 < qcd.sum_weights
    # That of the process without a bias, 2.5e4 pb.
    assert qcd.cross_section == pytest.approx(2.5e4, rel=0.5)


def test_the_part_that_passes_is_one_of_weights(dataset, capsys):
    (qcd,) = dataset.schema.processes
    print_cutflow([qcd])
    part = dataset.events().weight.sum() / qcd.sum_weights
    assert f"{part:.3g}" in capsys.readouterr().out
    assert part != pytest.approx(len(dataset) / qcd.generated, rel=0.01)


def test_varied_showers_are_named_weights(dataset):
    names = ("isr_up", "isr_down", "fsr_up", "fsr_down")
    assert dataset.schema.weights == ("weight", *names)
    events = dataset.events()
    for name in names:
        ratio = events.weights[name] / events.weight
        assert 0.3 < ratio.mean() < 3
        assert ratio.std() > 0.01

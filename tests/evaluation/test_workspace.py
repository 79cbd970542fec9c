"""The workspace: valid for pyhf and cabinetry, and what becomes of each systematic."""

import copy
import json

import numpy as np
import pytest

from helpers.scored import scored_events
from manyscale.errors import ManyscaleError
from manyscale.evaluation.systematics import Normalisation, Shape, Varied
from manyscale.evaluation.templates import Templates
from manyscale.evaluation.workspace import ShapeTemplates, shape_templates, workspace

pyhf = pytest.importorskip("pyhf")

EDGES = np.array([0.0, 0.3, 0.5, 0.7, 1.0])
# pyhf's check of its schema uses what jsonschema has announced to drop.
schema_check = pytest.mark.filterwarnings("ignore:jsonschema.RefResolver:DeprecationWarning")


@pytest.fixture
def events():
    return scored_events(order=(1, 0, 2))


def higher(events, scores, factor=1.0):
    """Scores a little higher for qcd, and all weights of it times a factor."""
    qcd = events.process == 0
    moved = np.where(qcd, scores + 0.02 * scores * (1 - scores), scores)
    weight = events.weight * np.where(qcd, factor, 1)
    return Varied({"network": moved, "trees": scores}, weight)


@pytest.fixture
def built(events):
    scaled, scores = events
    templates = Templates.of(scores, scaled, EDGES)
    shape = Shape("jes", ("qcd",), higher(scaled, scores, 1.1), None)
    variations = [
        Normalisation("rate", ("qcd", "ttbar"), 1.2, 1 / 1.2),
        shape_templates(shape, "network", scaled, templates),
    ]
    return templates, variations, workspace("network", templates, ["hh4b"], variations, 50.0)


def samples(content):
    return {sample["name"]: sample for sample in content["channels"][0]["samples"]}


def modifiers(sample):
    return {(m["name"], m["type"]): m["data"] for m in sample["modifiers"]}


def test_samples_hold_the_templates(built):
    templates, _, space = built
    found = samples(space.content)
    assert list(found) == ["qcd", "hh4b", "ttbar"]
    for place, name in enumerate(found):
        assert found[name]["data"] == pytest.approx(templates.content[place])
    assert space.content["observations"][0]["data"] == pytest.approx(templates.background)
    assert ("mu", "normfactor") in modifiers(found["hh4b"])
    assert ("staterror_network", "staterror") not in modifiers(found["hh4b"])
    error = modifiers(found["qcd"])["staterror_network", "staterror"]
    assert error == pytest.approx(np.sqrt(templates.variance[0]))
    assert space.notices == ()
    assert json.loads(json.dumps(space.content)) == space.content


def test_systematics_become_factors_and_shapes(built):
    templates, (_, jes), space = built
    qcd, ttbar, hh = (modifiers(samples(space.content)[n]) for n in ("qcd", "ttbar", "hh4b"))
    assert qcd["rate", "normsys"] == ttbar["rate", "normsys"] == {"hi": 1.2, "lo": 1 / 1.2}
    assert ("jes", "histosys") not in ttbar
    assert hh.keys() == {("mu", "normfactor")}
    factors, shapes = qcd["jes", "normsys"], qcd["jes", "histosys"]
    assert factors["hi"] == pytest.approx(1.1)
    assert factors["lo"] == pytest.approx(0.9)
    assert factors["hi"] * np.array(shapes["hi_data"]) == pytest.approx(jes.up[0])
    assert factors["lo"] * np.array(shapes["lo_data"]) == pytest.approx(jes.down[0])
    assert sum(shapes["hi_data"]) == pytest.approx(templates.content[0].sum())
    assert jes.down == pytest.approx(2 * templates.content - jes.up)


@schema_check
def test_pyhf_reads_it_and_gives_the_templates_of_the_variations(built, tmp_path):
    templates, (_, jes), space = built
    (tmp_path / "w.json").write_text(json.dumps(space.content), encoding="utf-8")
    read = pyhf.Workspace(json.loads((tmp_path / "w.json").read_text(encoding="utf-8")))
    model = read.model()
    data = read.data(model)
    nominal = np.array(model.config.suggested_init())
    nominal[model.config.poi_index] = 0
    assert data == pytest.approx(model.expected_data(nominal))
    for pull, moved in ((1, jes.up), (-1, jes.down)):
        shifted = nominal.copy()
        shifted[model.config.par_slice("jes")] = pull
        background = moved[[0, 2]].sum(axis=0)
        assert model.expected_actualdata(shifted) == pytest.approx(background)
    nominal[model.config.poi_index] = 2
    expected = templates.background + 2 * templates.signal(["hh4b"])
    assert model.expected_actualdata(nominal) == pytest.approx(expected)
    assert model.config.suggested_bounds()[model.config.poi_index] == [0, 50]


@schema_check
def test_cabinetry_reads_and_fits_it(built):
    cabinetry = pytest.importorskip("cabinetry")
    templates, _, space = built
    model, data = cabinetry.model_utils.model_and_data(copy.deepcopy(space.content))
    fit = cabinetry.fit.fit(model, data)
    strength = fit.labels.index("mu")
    assert fit.bestfit[strength] == pytest.approx(0, abs=0.02)
    prefit = cabinetry.model_utils.prediction(model)
    yields = np.sum(prefit.model_yields[0], axis=0)
    assert yields == pytest.approx(templates.background + templates.signal(["hh4b"]))


def test_less_than_nothing_is_clipped_and_said(events):
    scaled, scores = events
    weight = scaled.weight * np.where((scores > 0.5) & (scaled.process == 0), -1, 1)
    templates = Templates.of(scores, scaled._replace(weight=weight), EDGES)
    down = templates.content.copy()
    down[2, 0] = -1
    moved = ShapeTemplates("jes", ("ttbar",), templates.content, down)
    space = workspace("network", templates, ["hh4b"], [moved], 50.0)
    assert space.notices == (
        "2 bins hold less than nothing of qcd: set to next to nothing.",
        "1 bin holds less than nothing of ttbar with jes down: set to next to nothing.",
    )
    qcd = samples(space.content)["qcd"]["data"]
    assert qcd[-1] == pytest.approx(1e-6 * templates.background[-1])
    shape = modifiers(samples(space.content)["ttbar"])["jes", "histosys"]
    assert min(shape["lo_data"]) > 0


def test_process_without_events_and_other_signal_are_left_out(events):
    scaled, scores = events
    some = scaled.process != 2
    only = scaled._replace(process=scaled.process[some], weight=scaled.weight[some])
    templates = Templates.of(scores[some], only, EDGES)
    assert list(samples(workspace("network", templates, ["hh4b"], [], 9.0).content)) == [
        "qcd",
        "hh4b",
    ]
    assert list(samples(workspace("network", templates, [], [], 9.0).content)) == ["qcd"]


def test_factor_is_kept_above_zero(events):
    scaled, scores = events
    templates = Templates.of(scores, scaled, EDGES)
    moved = [Normalisation("rate", ("qcd",), 2.5, -0.5)]
    qcd = samples(workspace("network", templates, ["hh4b"], moved, 9.0).content)["qcd"]
    assert modifiers(qcd)["rate", "normsys"] == {"hi": 2.5, "lo": 0.01}


@pytest.mark.parametrize("name", ["mu", "staterror_network"])
def test_name_that_is_taken_is_refused(events, name):
    scaled, scores = events
    templates = Templates.of(scores, scaled, EDGES)
    with pytest.raises(ManyscaleError, match=f"systematics.{name}: another parameter"):
        workspace("network", templates, ["hh4b"], [Normalisation(name, ("qcd",), 1.1, 0.9)], 9.0)

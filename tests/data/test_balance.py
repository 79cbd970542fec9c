"""How processes of a class are mixed: by what rule, whatever the units of their weights."""

from dataclasses import replace

import numpy as np
import pytest

from helpers.toys import SCHEMA, toy_events
from manyscale.data.balance import balanced_weights, mix_notices, mix_rules
from manyscale.data.dataset import Dataset
from manyscale.data.folder_feed import make_feed
from manyscale.data.manifest import merge
from manyscale.data.parquet import write_events
from manyscale.evaluation.yields import expected_yields, scale_events
from manyscale.reporting.tables import mix_table
from manyscale.runs.inspect import inspect_path
from manyscale.schema import Process
from manyscale.statistics.metrics import evaluate

COUNTS = (100, 200, 400)
SIGNAL = Process(name="hh4b", label="signal", cross_section=0.01, sum_weights=200.0)


def background(name, weight, events, **stated):
    """A process of which half of the events generated are there."""
    known = {"cross_section": 3.0, "sum_weights": 2 * weight * events}
    return Process(name=name, label="background", **{**known, **stated})


def processes(easy=None, hard=None, weight=1950.0):
    """Two backgrounds of equal cross section whose generators normalise their weights otherwise."""
    return (
        SIGNAL,
        background("easy", weight, COUNTS[1], **(easy or {})),
        background("hard", 1.0, COUNTS[2], **(hard or {})),
    )


def events(weight=1950.0):
    process = np.repeat(np.arange(3), COUNTS)
    return replace(
        toy_events(1, events=len(process)),
        process=process,
        label=(process == 0).astype(np.int64),
        weight=np.where(process == 1, weight, 1.0),
    )


def scores():
    """Above all easy background, and above half of the hard one: an AUC of 1 and of 1/2."""
    return np.repeat([0.5, 0.1, 0.2, 0.9], [100, 200, 200, 200])


def dataset(of=None, packed=None):
    schema = SCHEMA.model_copy(update={"processes": of or processes()})
    return Dataset.from_events(schema, packed or events())


def test_backgrounds_of_equal_cross_section_decide_alike():
    data, packed = dataset(), events()
    weights = data.balance.weights(packed)
    sums = [weights[packed.process == index].sum() for index in range(3)]
    assert sums == pytest.approx([1, 0.5, 0.5], rel=1e-12)
    found = evaluate(packed.label, scores(), weights)
    assert found["auc"] == pytest.approx(0.75, rel=1e-12)
    # The weights as they are would say that the easy background is all there is.
    assert evaluate(packed.label, scores(), packed.weight)["auc"] == pytest.approx(
        0.99949, abs=1e-5
    )


def test_training_sees_the_same_mix():
    train = dataset().train
    packed = train.events()
    (batch,) = make_feed(train, lambda streams: streams, 100, 1).batches(0, len(packed))
    weight = dict(zip(batch.event_id.tolist(), batch.weight.tolist(), strict=True))
    weights = np.array([weight[one] for one in packed.event_id.tolist()])
    easy, hard = (weights[packed.process == index].sum() for index in (1, 2))
    passed = [(packed.process == index).mean() / COUNTS[index] for index in (1, 2)]
    assert easy / hard == pytest.approx(passed[0] / passed[1], rel=1e-5)


def test_a_factor_of_weights_and_their_sum_changes_nothing():
    found = []
    for weight in (1.0, 1000.0):
        of, packed = processes(weight=weight), events(weight)
        data = dataset(of, packed)
        weights = data.balance.weights(packed)
        yields = expected_yields(scale_events(of, packed.process, packed.weight, 100)).plain()
        found.append((weights, evaluate(packed.label, scores(), weights), yields, data.mix))
    (weights, figures, yields, mix), (others, other_figures, other_yields, other_mix) = found
    np.testing.assert_allclose(others, weights, rtol=1e-12)
    rejections = [of.pop("background_rejection") for of in (figures, other_figures)]
    assert other_figures == pytest.approx(figures, rel=1e-12)
    for efficiency, of in rejections[0].items():
        assert rejections[1][efficiency] == pytest.approx(of, rel=1e-12)
    for name, of in yields["processes"].items():
        assert other_yields["processes"][name].pop("label") == of.pop("label")
        assert other_yields["processes"][name] == pytest.approx(of, rel=1e-12)
    assert other_mix["background"].fractions == pytest.approx(mix["background"].fractions)


def test_factors_on_the_cross_section_count():
    of = processes(easy={"k_factor": 1.5, "filter_efficiency": 0.5, "cross_section": 8.0})
    # 8 x 1.5 x 0.5 against 3
    mix = dataset(of).mix
    assert mix["background"].fractions == pytest.approx({"easy": 2 / 3, "hard": 1 / 3})
    assert mix["signal"].fractions == {"hh4b": 1.0}


@pytest.mark.parametrize(
    ("easy", "hard", "rule", "part"),
    [
        ({"share": 0.2}, {"share": 0.8}, "share", 0.2),
        ({"share": 0.2}, {}, "cross section", 0.5),
        ({"share": 0.2}, {"share": 0.8, "sum_weights": None}, "events alike", 390_000 / 390_400),
        ({}, {"cross_section": None}, "events alike", 390_000 / 390_400),
        ({}, {"cross_section": 0.0}, "events alike", 390_000 / 390_400),
        ({}, {"sum_weights": -1.0}, "events alike", 390_000 / 390_400),
    ],
)
def test_one_rule_holds_for_all_of_a_class(easy, hard, rule, part):
    of = processes(easy, hard)
    mix = dataset(of).mix
    assert mix_rules(of) == {"signal": "only process", "background": rule}
    assert mix["background"].rule == rule
    assert mix["background"].fractions["easy"] == pytest.approx(part, rel=1e-12)
    weights = balanced_weights(events(), of)
    assert weights[events().process == 1].sum() == pytest.approx(part, rel=1e-12)
    assert bool(mix_notices(of)) == (rule == "events alike")


def test_what_is_missing_is_said():
    of = processes({"share": 0.2, "cross_section": None}, {"sum_weights": None})
    (notice,) = dataset(of).notices
    assert notice.startswith("background: its processes are mixed event by event")
    assert "'easy' has no cross section; 'hard' has no sum of generated weights" in notice
    assert "--cross-section, --sum-weights" in notice
    assert "here 'easy' alone" in notice
    # Of the classes that are taken, not of those that there are.
    assert not dataset(of).restricted(classes={"background": ["hard"]}).notices


def test_inspect_prints_the_mix(tmp_path):
    packed, of = events(), processes(hard={"sum_weights": None})
    schema = SCHEMA.model_copy(update={"processes": of, "observables": ("m_hh",)})
    for index, process in enumerate(of):
        chosen = packed.take(np.flatnonzero(packed.process == index))
        write_events(tmp_path, process.name, chosen, schema, process, process.name)
    merge(tmp_path)
    found = inspect_path(tmp_path)
    table = mix_table(Dataset.open(tmp_path).mix)
    assert table in found.tables
    assert ["background", "hard", "0.00102", "events alike"] in table.rows
    assert any("'hard' has no sum of generated weights" in line for line in found.lines)

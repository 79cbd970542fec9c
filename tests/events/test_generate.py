import pickle
from functools import partial

import awkward as ak
import numpy as np
import pytest
import vector

from helpers.reading import generated
from manyscale.errors import CardError
from manyscale.events.generate import check_processes
from manyscale.events.settings import CutSettings, GenerateSettings
from manyscale.events.work import ProcessPool, plan, run_units
from manyscale.schema import OBJECTS, OBSERVABLES, collision_streams


def _same(one, other):
    return ak.to_list(one.records) == ak.to_list(other.records) and (
        one.bookkeeping == other.bookkeeping
    )


def _unit(settings, process, index=0):
    return next(
        unit for unit in plan(settings, 1) if (unit.process, unit.index) == (process, index)
    )


def test_layout_of_the_records(signal):
    records = signal.records
    assert len(records) > 30
    for name, layout in collision_streams(GenerateSettings().streams).items():
        assert tuple(records[name].fields) == layout.columns
        assert {str(ak.flatten(records[name][c]).type.content) for c in layout.columns} == {
            "float32"
        }
        if layout.axis:
            assert tuple(records[f"{name}_axis"].fields) == layout.axis
    assert tuple(records.observables.fields) == OBSERVABLES
    assert (ak.num(records.kinematics) == len(OBJECTS)).to_numpy().all()
    assert (np.diff(records.entry.to_numpy()) > 0).all()
    assert (records.weight.to_numpy() == 1).all()


def test_constituents_add_up_to_their_jet(signal):
    vector.register_awkward()
    for name in ("jet1", "jet2"):
        constituents = signal.records[name]
        assert ak.all(constituents.pt[:, 1:] <= constituents.pt[:, :-1])
        assert ak.all(np.abs(constituents.phi) < 3.1416)
        momenta = ak.zip(
            {
                "pt": ak.values_astype(constituents.pt, np.float64),
                "eta": constituents.eta,
                "phi": constituents.phi,
                "energy": constituents.energy,
            },
            with_name="Momentum4D",
        )
        total = ak.sum(momenta, axis=1)
        axis = signal.records[f"{name}_axis"]
        np.testing.assert_allclose(total.pt.to_numpy(), axis.jet_pt.to_numpy(), rtol=1e-4)
        np.testing.assert_allclose(total.eta.to_numpy(), axis.jet_eta.to_numpy(), atol=1e-4)
        np.testing.assert_allclose(total.mass.to_numpy(), axis.jet_mass.to_numpy(), rtol=0.01)


def test_objects_are_the_jets_their_sum_and_the_missing_momentum(signal):
    records = signal.records
    objects = records.kinematics
    assert objects.object_class[0].to_list() == [0, 1, 2, 3]
    for place, name in enumerate(("jet1", "jet2")):
        axis = records[f"{name}_axis"]
        assert (objects.pt[:, place] == axis.jet_pt).to_numpy().all()
        assert (objects.mass[:, place] == axis.jet_mass).to_numpy().all()
        assert (objects.multiplicity[:, place] == ak.num(records[name])).to_numpy().all()
    jets = vector.array(
        {
            key: ak.values_astype(objects[key][:, :2], np.float64).to_numpy()
            for key in ("pt", "eta", "phi", "mass")
        }
    )
    pair = jets[:, 0] + jets[:, 1]
    np.testing.assert_allclose(objects.mass[:, 2].to_numpy(), pair.mass, rtol=1e-4)
    np.testing.assert_allclose(objects.pt[:, 2].to_numpy(), pair.pt, rtol=1e-3)
    assert (objects.pt[:, 3] == records.observables.met).to_numpy().all()
    assert ak.all(objects.n_btags[:, 2] == objects.n_btags[:, 0] + objects.n_btags[:, 1])
    assert ak.all((objects.width[:, :2] > 0) & (objects.width[:, :2] < 1))


def test_masses_of_the_signal(signal):
    observables = signal.records.observables
    assert np.median(observables.m_hh.to_numpy()) == pytest.approx(1000, rel=0.06)
    masses = np.concatenate([observables.m_j1.to_numpy(), observables.m_j2.to_numpy()])
    assert np.median(masses) == pytest.approx(125, rel=0.1)


def test_signal_is_tagged_at_the_efficiency(signal):
    records = signal.records
    tags = records.observables.n_btags_j1.to_numpy() + records.observables.n_btags_j2.to_numpy()
    # Four b hadrons, 70% each; a few are outside the jets.
    assert 2.2 < tags.mean() < 3.0


def test_bookkeeping(signal):
    kept = signal.bookkeeping
    assert (kept.generated, kept.sum_weights, kept.sum_weights2) == (60, 60, 60)
    assert (kept.cutflow[0].step, kept.cutflow[0].events) == ("generated", 60)
    events = [step.events for step in kept.cutflow]
    assert events == sorted(events, reverse=True)
    assert events[-1] == len(signal.records)
    assert [step.sum_weights for step in kept.cutflow] == events
    assert kept.cross_section == pytest.approx(1.5e-9, rel=0.4)


def test_unit_alone_twice_and_after_others_has_the_same_bits(small, signal_unit, signal):
    other = GenerateSettings.model_validate({"events": 5, "processes": {"zz": {}}})
    generated(other, _unit(other, "zz"))
    assert _same(generated(small, signal_unit), signal)


def test_shorter_unit_is_the_beginning_of_a_longer_one(small, signal):
    short = small.model_copy(update={"events": 25})
    part = generated(short, _unit(short, "hh4b"))
    n = len(part.records)
    assert part.bookkeeping.generated == 25
    assert 0 < n < len(signal.records)
    assert ak.to_list(part.records) == ak.to_list(signal.records[:n])
    assert signal.records.entry[n] >= 25


def test_division_into_batches_changes_nothing(small, signal_unit, signal, monkeypatch):
    monkeypatch.setattr("manyscale.events.pythia._BATCH", 17)
    assert _same(generated(small, signal_unit), signal)


def test_units_differ(small, signal):
    more = small.model_copy(update={"events": 120})
    second = generated(more, _unit(more, "hh4b", 1))
    assert ak.to_list(second.records.jet1_axis) != ak.to_list(signal.records.jet1_axis)
    assert second.bookkeeping.generated + signal.bookkeeping.generated == 120


def test_no_event_that_passes(small, signal):
    cuts = CutSettings(leading_pt=5000, second_pt=5000)
    settings = small.model_copy(update={"events": 5, "cuts": cuts})
    nothing = generated(settings, _unit(settings, "hh4b"))
    assert len(nothing.records) == 0
    assert nothing.records.type.content.is_equal_to(signal.records.type.content)
    assert [step.events for step in nothing.bookkeeping.cutflow] == [5, 0, 0, 0]


def test_processes_are_checked_before_work_starts():
    settings = GenerateSettings.model_validate(
        {"processes": {"hh4b": {}, "mine": {"class": "background", "pythia": ["HardQCD:al=on"]}}}
    )
    with pytest.raises(CardError, match=r"'mine'.*'HardQCD:al=on'"):
        check_processes(settings)
    check_processes(GenerateSettings())


def test_results_can_be_pickled(small, signal):
    copy = pickle.loads(pickle.dumps(signal))  # noqa: S301
    assert _same(copy, signal)
    assert pickle.loads(pickle.dumps(partial(generated, small))).args == (small,)  # noqa: S301


def test_order_of_units_and_number_of_workers_change_nothing(small):
    settings = small.model_copy(update={"events": 12, "unit_events": 4})
    units = plan(settings, 1)[::4]
    assert len(units) > 1
    task = partial(generated, settings)
    with ProcessPool(1) as pool:
        elsewhere = dict(run_units(task, units[::-1], pool, in_flight=2))
    for unit in units:
        assert _same(elsewhere[unit], task(unit))

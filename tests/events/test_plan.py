import importlib.util
from collections import Counter

import pytest

from manyscale.errors import MissingExtraError
from manyscale.events.settings import (
    NAMED_PROCESSES,
    DetectorSettings,
    GenerateSettings,
    TrackSettings,
)
from manyscale.events.work import plan


def _events(units):
    counts = Counter()
    for unit in units:
        counts[unit.process] += unit.events
    return dict(counts)


def test_events_of_each_class_by_their_shares():
    units = plan(GenerateSettings(events=10_000), seed=1)
    assert _events(units) == {
        "hh4b": 10_000,
        "qcd_bb": 4000,
        "qcd": 3000,
        "ttbar": 2000,
        "zz": 1000,
    }
    assert max(unit.events for unit in units) == 500


@pytest.mark.parametrize("events", [1, 2, 3, 7, 999, 1001])
def test_every_event_is_planned_once(events):
    counts = _events(plan(GenerateSettings(events=events, unit_events=100), seed=1))
    assert counts["hh4b"] == events
    assert sum(counts.values()) == 2 * events


def test_one_class_alone():
    settings = GenerateSettings.model_validate({"events": 10, "processes": {"zz": {}}})
    assert _events(plan(settings, seed=1)) == {"zz": 10}


def test_longer_run_goes_on_where_the_shorter_ended():
    def described(events):
        units = plan(GenerateSettings(events=events, unit_events=100), seed=1)
        return {(u.process, u.index): (u.seed, u.identity, u.events) for u in units}

    short, long = described(350), described(700)
    for key, (seed, identity, events) in short.items():
        assert long[key][:2] == (seed, identity)
        assert long[key][2] >= events


def test_seeds_are_pythias_and_all_different():
    units = plan(GenerateSettings(events=20_000, unit_events=10), seed=2**31 - 1)
    for process in {unit.process for unit in units}:
        seeds = [unit.seed for unit in units if unit.process == process]
        assert len(set(seeds)) == len(seeds)
        assert min(seeds) >= 1
        assert max(seeds) <= 900_000_000
    assert {u.seed for u in plan(GenerateSettings(), 1)}.isdisjoint(
        u.seed for u in plan(GenerateSettings(), 2)
    )


def test_identity_follows_from_all_that_the_events_follow_from():
    base = GenerateSettings(events=10)
    changed = (
        GenerateSettings(events=10, detector=DetectorSettings(tracks=TrackSettings(max_eta=2.4))),
        GenerateSettings(events=10, energy=13_000),
        GenerateSettings(events=10, variations=True),
    )
    identities = [
        unit.identity
        for settings, seed in [(base, 1), (base, 2), *((other, 1) for other in changed)]
        for unit in plan(settings, seed)
    ]
    assert len(set(identities)) == len(identities)
    assert plan(base, 1) == plan(base, 1)


def test_identity_follows_from_what_a_named_process_is(monkeypatch):
    before = plan(GenerateSettings(events=10), 1)
    zz = NAMED_PROCESSES["zz"]
    changed = zz._replace(pythia=(*zz.pythia, "PhaseSpace:pTHatMin=300"))
    monkeypatch.setitem(NAMED_PROCESSES, "zz", changed)
    after = plan(GenerateSettings(events=10), 1)
    assert [unit.process for unit in after if unit not in before] == ["zz"]


def test_units_have_names():
    assert str(plan(GenerateSettings(), 1)[1]) == "unit 1 of hh4b"


def test_missing_library_is_named(monkeypatch):
    found = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda name: None if name == "fastjet" else found(name)
    )
    with pytest.raises(MissingExtraError, match=r"'fastjet'.*pip install 'manyscale\[generate\]'"):
        plan(GenerateSettings(), 1)

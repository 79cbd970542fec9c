import numpy as np
import pytest
from pydantic import ValidationError

from manyscale.events.settings import NAMED_PROCESSES, GenerateSettings


def _settings(**processes):
    return GenerateSettings.model_validate({"processes": processes})


def test_default_mix():
    settings = GenerateSettings()
    classes = {name: settings.event_class(name) for name in settings.processes}
    assert classes == {
        "hh4b": "signal",
        "qcd_bb": "background",
        "qcd": "background",
        "ttbar": "background",
        "zz": "background",
    }
    shares = [settings.share(name) for name in classes]
    assert shares == [1.0, 0.4, 0.3, 0.2, 0.1]


def test_named_processes_need_nothing_said():
    settings = _settings(hh4b={}, zz={})
    assert list(settings.processes) == ["hh4b", "zz"]
    assert settings.share("zz") == NAMED_PROCESSES["zz"].share


def test_lines_of_a_card_come_after_those_of_the_named_process():
    lines = _settings(hh4b={"pythia": ["35:m0=1500"]}).pythia_lines("hh4b")
    assert lines.index("35:m0=1500") > lines.index("35:m0=1000")
    assert lines[0] == "Beams:eCM=14000.0"


def test_any_other_process_says_class_and_pythia():
    settings = _settings(mine={"class": "signal", "pythia": ["HardQCD:all=on"], "share": 2})
    assert settings.event_class("mine") == "signal"
    assert settings.share("mine") == 2
    assert settings.pythia_lines("mine")[2:] == ("HardQCD:all=on",)


def test_class_of_a_named_process_can_be_changed():
    assert _settings(zz={"class": "signal"}).event_class("zz") == "signal"


def test_the_signal_has_the_cross_section_of_a_benchmark():
    settings = _settings(hh4b={}, zz={}, qcd={"cross_section": 7.0})
    assert settings.cross_section("hh4b") == pytest.approx(0.010 * 0.582**2)
    assert settings.cross_section("zz") is None
    assert settings.cross_section("qcd") == 7.0
    assert _settings(hh4b={"cross_section": 2e-3}).cross_section("hh4b") == 2e-3


def test_a_spread_gives_each_unit_a_detector_of_its_own():
    settings = GenerateSettings(spread=0.3)
    drawn = [settings.of_unit(seed) for seed in range(300)]
    assert settings.of_unit(5) == drawn[5] != drawn[6]
    radii = np.log([one.jets.radius for one in drawn])
    assert np.std(radii) == pytest.approx(0.3, rel=0.2)
    lost = [np.log((1 - one.detector.tracks.efficiency) / 0.03) for one in drawn]
    assert np.mean(lost) == pytest.approx(0, abs=0.06)
    assert all(one.detector.tracks.max_eta == 2.5 for one in drawn)
    # What is drawn is what a card could say.
    for one in drawn:
        GenerateSettings.model_validate(one.model_dump(by_alias=True))


def test_without_a_spread_all_units_and_what_they_follow_from_are_as_before():
    settings = GenerateSettings()
    assert settings.of_unit(5) is settings
    assert "spread" not in settings.section
    assert '"spread": 0.3' in GenerateSettings(spread=0.3).section


def test_multiparton_interactions_can_be_switched_off():
    settings = GenerateSettings(multiparton=False)
    assert "PartonLevel:MPI=off" in settings.pythia_lines("qcd")


def test_inclusive_qcd_does_not_count_the_b_sample_twice():
    switched = {line for line in NAMED_PROCESSES["qcd"].pythia if line.startswith("HardQCD")}
    assert not switched & set(NAMED_PROCESSES["qcd_bb"].pythia)
    assert not any("all" in line or "hardbbbar" in line for line in switched)


@pytest.mark.parametrize(
    ("processes", "message"),
    [
        ({}, "at least 1"),
        ({"mine": {}}, "'mine' is not one of hh4b"),
        ({"mine": {"class": "signal"}}, "say its class"),
        ({"mine": {"pythia": ["HardQCD:all=on"]}}, "say its class"),
        ({"my process": {"class": "signal", "pythia": ["A:b=1"]}}, "cannot name a process"),
        ({"qcd": {"pythia": ["HardQCD:all"]}}, "Name:setting=value"),
        ({"qcd": {"pythia": ["HardQCD:all=on\nRandom:seed=1"]}}, "as one line"),
        ({"qcd": {"pythia": ["Random:seed = 3"]}}, "the seed cannot be set"),
        ({"qcd": {"pythia": [" beams:LHEF=a.lhe"]}}, "LHE file"),
        ({"qcd": {"share": 0}}, "greater than 0"),
        ({"qcd": {"cross_section": -1.0}}, "greater than 0"),
        ({"qcd": {"k_factor": 0}}, "greater than 0"),
        ({"qcd": {"filter_efficiency": 1.5}}, "less than or equal to 1"),
        ({"qcd": {"class": "Signal"}}, "signal"),
        ({"qcd": {"event_class": "signal"}}, "Extra inputs"),
    ],
)
def test_faults_are_refused(processes, message):
    with pytest.raises(ValidationError, match=message):
        _settings(**processes)

import awkward as ak
import numpy as np
import pytest

from manyscale.errors import CardError, DataError
from manyscale.events import pythia
from manyscale.events.settings import GenerateSettings
from manyscale.events.truth import BOTTOM, heaviest_flavour

# The hard process alone.
CHEAP = (
    "PartonLevel:ISR=off",
    "PartonLevel:FSR=off",
    "PartonLevel:Remnants=off",
    "HadronLevel:all=off",
    "Check:event=off",
)
SETTINGS = GenerateSettings(multiparton=False)


def _hard_process(process, events, seed=1):
    """PDG codes (events, 2) of the incoming and of the outgoing partons of hard scatterings."""
    generator = pythia.start(process, [*SETTINGS.pythia_lines(process), *CHEAP], seed)
    particles = generator.nextBatch(events).prt
    incoming, outgoing = (
        ak.to_numpy(ak.to_regular(particles.id[particles.status == status])) for status in (-21, 23)
    )
    return incoming, outgoing, generator


@pytest.mark.parametrize(
    ("process", "line"),
    [
        ("mine", "HardQCD:nonsense=on"),
        ("hh4b", "35:mess=5"),
        ("qcd", "PhaseSpace:pTHatMin=-5"),
    ],
)
def test_refused_setting_is_named_with_its_process(process, line):
    with pytest.raises(CardError, match=f"'{process}'.*refuses the setting '{line}'"):
        pythia.read_settings(process, ["HardQCD:all=on", line])


def test_seed_beyond_pythias_range_is_refused():
    with pytest.raises(CardError, match="Random:seed=900000001"):
        pythia.start("qcd", SETTINGS.pythia_lines("qcd"), 900_000_001)


@pytest.mark.parametrize("lines", [[], ["HiggsBSM:gg2H2=on"]])
def test_start_that_fails_names_the_process(lines):
    with pytest.raises(CardError, match="'mine': Pythia cannot start"):
        pythia.start("mine", ["Beams:eCM=14000", *lines], 1)


def test_all_of_it_is_quiet(capfd):
    lines = [*SETTINGS.pythia_lines("zz"), "Print:quiet=off", "Next:numberShowEvent=1"]
    generator = pythia.start("zz", lines, 1)
    list(pythia.generate(generator, "zz", 2))
    with pytest.raises(CardError):
        pythia.start("mine", ["HiggsBSM:gg2H2=on"], 1)
    with pytest.raises(CardError):
        pythia.read_settings("qcd", ["HardQCD:nonsense=on"])
    assert capfd.readouterr() == ("", "")


def test_inclusive_qcd_makes_no_bottom_pairs():
    incoming, outgoing, _ = _hard_process("qcd", 3000)
    for quark, made in ((4, True), (5, False)):
        # Quarks of the protons' sea may scatter; pairs of them from something else may not appear.
        from_sea = (np.abs(incoming) == quark).any(axis=1)
        pairs = (np.abs(outgoing) == quark).all(axis=1)
        assert (pairs & ~from_sea).any() == made


def test_bottom_sample_makes_nothing_else():
    incoming, outgoing, _ = _hard_process("qcd_bb", 100)
    assert (np.sort(outgoing, axis=1) == [-5, 5]).all()
    # Of b quarks of the sea, only those that annihilate.
    from_sea = (np.abs(incoming) == 5).any(axis=1)
    assert (incoming[from_sea].sum(axis=1) == 0).all()
    assert from_sea.mean() < 0.1


def test_cross_section_of_the_b_sample():
    _, _, generator = _hard_process("qcd_bb", 2000)
    found = pythia.cross_section(generator)
    # 85 pb: measured with pTHat > 250 GeV at 14 TeV.
    assert abs(found.value - 85) < 4 * found.error + 4
    assert 0 < found.error < 5


def test_truth_of_generated_events():
    lines = SETTINGS.pythia_lines("hh4b")
    generator = pythia.start("hh4b", lines, 5)
    (truth,) = pythia.generate(generator, "hh4b", 20)
    assert truth.entry.tolist() == list(range(20))
    assert (truth.weight == 1).all()
    # Momentum is conserved: what is stable carries what the two protons brought.
    energy = np.bincount(truth.stable.event, truth.stable.energy)
    np.testing.assert_allclose(energy, 14_000, rtol=1e-4)
    np.testing.assert_allclose(np.bincount(truth.stable.event, truth.stable.px), 0, atol=0.1)
    # Two h -> b bbar: four b hadrons an event, or more where a gluon splits.
    bottom = heaviest_flavour(truth.heavy.pdg_id) == BOTTOM
    n_bottom = np.bincount(truth.heavy.event[bottom], minlength=20)
    assert (n_bottom >= 4).all()
    assert np.median(n_bottom) == 4


class _Failing:
    """Stands for a Pythia that fails in the events where `made` is False."""

    def __init__(self, generator, made):
        self.generator, self.made = generator, made

    def nextBatch(self, events, mode):  # noqa: N802 - as Pythia spells it
        assert mode == "none"
        batch = self.generator.nextBatch(events, mode)
        return ak.mask(batch, np.array(self.made[:events]))


@pytest.fixture(scope="module")
def generator():
    return pythia.start("qcd", [*SETTINGS.pythia_lines("qcd"), *CHEAP], 1)


def test_failed_events_are_left_out_and_counted(generator):
    failing = _Failing(generator, [True, False, True, False, False])
    (truth,) = pythia.generate(failing, "qcd", 5)
    assert truth.entry.tolist() == [0, 2]
    assert len(truth.stable.counts) == 2


def test_failure_in_every_event_is_an_error(generator):
    with pytest.raises(DataError, match="'qcd': Pythia failed in each of 5 events"):
        list(pythia.generate(_Failing(generator, [False] * 5), "qcd", 5))


def _spectrum(process, *lines, events=4000):
    """pT [GeV] and weight (events,) of hard scatterings, and the cross section found."""
    generator = pythia.start(process, [*SETTINGS.pythia_lines(process), *CHEAP, *lines], 3)
    batch = generator.nextBatch(events)
    weights = ak.to_numpy(batch.info.weights)[:, 0]
    return np.sqrt(ak.to_numpy(batch.info.pT2Hat)), weights, pythia.cross_section(generator)


@pytest.mark.parametrize("process", ["qcd", "qcd_bb"])
def test_weights_undo_the_bias_to_high_pt(process):
    pt, weight, found = _spectrum(process)
    plain_pt, ones, plain = _spectrum(process, "PhaseSpace:bias2Selection=off")
    np.testing.assert_allclose(weight, (250 / pt) ** 2.5, rtol=1e-3)
    assert (ones == 1).all()
    assert (pt > 400).mean() > 1.5 * (plain_pt > 400).mean()
    # Cross section and spectrum are those of the unbiased process.
    error = np.hypot(found.error, plain.error)
    assert abs(found.value - plain.value) < 4 * error < 0.1 * plain.value
    edges = [250, 270, 300, 340, 400, 500, 1500]
    share, plain_share = (
        np.histogram(p, edges, weights=w)[0] / w.sum() for p, w in ((pt, weight), (plain_pt, ones))
    )
    variance = sum(
        np.histogram(p, edges, weights=w**2)[0] / w.sum() ** 2
        for p, w in ((pt, weight), (plain_pt, ones))
    )
    assert (np.abs(share - plain_share) < 4 * np.sqrt(variance)).all()


@pytest.mark.parametrize("process", ["hh4b", "ttbar", "zz"])
def test_processes_without_a_bias_have_no_weights(process):
    assert not any("bias2" in line for line in SETTINGS.pythia_lines(process))


def test_varied_showers_are_weights_around_the_nominal_one():
    settings = GenerateSettings(multiparton=False, variations=True)
    lines = [*settings.pythia_lines("qcd"), "HadronLevel:all=off", "Check:event=off"]
    generator = pythia.start("qcd", lines, 3)
    batches = list(pythia.generate(generator, "qcd", 300, settings.weights))
    nominal = np.concatenate([batch.weight for batch in batches])
    assert nominal.std() > 0.1  # the bias, which the varied weights share
    for name in ("isr_up", "isr_down", "fsr_up", "fsr_down"):
        varied = np.concatenate([batch.weights[name] for batch in batches])
        ratio = varied / nominal
        # Showers conserve probability: varied, they move events about and make none.
        error = ratio.std() / np.sqrt(len(ratio))
        assert abs(ratio.mean() - 1) < 4 * error
        assert 0.02 < error < 0.2 if name.startswith("fsr") else 0.002 < error < 0.05


def test_varied_showers_radiate_less_and_more():
    settings = GenerateSettings(multiparton=False, variations=True)
    lines = [*settings.pythia_lines("hh4b"), "HadronLevel:all=off", "Check:event=off"]
    (truth,) = pythia.generate(pythia.start("hh4b", lines, 3), "hh4b", 250, settings.weights)
    partons = truth.stable.counts
    means = [
        np.average(partons, weights=weight)
        for weight in (truth.weights["fsr_up"], truth.weight, truth.weights["fsr_down"])
    ]
    assert means == sorted(means)
    assert means[2] > 1.1 * means[0]


def test_further_weights_are_kept_only_where_asked_for():
    (truth,) = pythia.generate(pythia.start("zz", SETTINGS.pythia_lines("zz"), 1), "zz", 2)
    assert truth.weights == {}

import awkward as ak
import numpy as np
import pytest

from helpers.collisions import hits
from helpers.reading import generated, records_of
from manyscale.events.jets import cluster
from manyscale.events.objects import DetectedEvents, Leptons, SmallJets
from manyscale.events.selection import select
from manyscale.events.settings import CutSettings, ObjectSettings
from manyscale.schema import ELECTRON, MUON, STREAMS, collision_streams

EVENTS = [
    [(300, 0, 0), (250, 0, 3)],
    [(240, 0, 0), (230, 0, 3)],  # leading jet too soft
    [(300, 0, 0), (250, 2.6, 3)],  # second jet too far forward
    [(300, 0, 0), (150, 0, 3)],  # second jet too soft
    [(400, -2.4, 0), (201, 2.4, 3)],
]
WEIGHT = np.array([1.0, 2.0, 4.0, 8.0, 16.0])


def _detected(pairs, n_btags, **further):
    place = np.arange(len(EVENTS))
    return DetectedEvents(
        entry=place,
        weight=WEIGHT,
        hits=hits(EVENTS),
        pairs=pairs,
        n_btags=n_btags,
        missing=(0.0 * place, 0.0 * place),
        **further,
    )


def _select(events, cuts, first_step):
    selected, generated = select(events, {}, cuts, ObjectSettings(), first_step)
    steps = [(step.step, step.events, step.sum_weights) for step in generated.cutflow]
    assert (generated.generated, generated.sum_weights) == steps[0][1:]
    return selected.entry.tolist(), steps


def test_cutflow_of_known_events():
    cuts = CutSettings(min_btags=2)
    pairs = cluster(hits(EVENTS), 1.0, cuts.second_pt)
    n_btags = np.array([[1, 1], [2, 2], [2, 2], [1, 0]])
    passed, cutflow = _select(_detected(pairs, n_btags), cuts, "generated")
    assert passed == [0]
    assert cutflow == [
        ("generated", 5, 31.0),
        ("two jets, pT > 200 GeV", 4, 23.0),
        ("leading jet pT > 250 GeV", 3, 21.0),
        ("both abs(eta) < 2.5", 2, 17.0),
        ("b-tags >= 2", 1, 1.0),
    ]


def test_btags_are_not_asked_for_by_default():
    pairs = cluster(hits(EVENTS), 1.0, 200.0)
    passed, cutflow = _select(_detected(pairs, np.zeros((4, 2), int)), CutSettings(), "generated")
    assert passed == [0, 4]
    assert cutflow[-1][0] == "both abs(eta) < 2.5"


def test_steps_of_the_card_come_before_the_cuts_on_the_jets():
    pairs = cluster(hits(EVENTS), 1.0, 200.0)
    triggered = np.array([True, True, False, True, False])
    events = _detected(pairs, np.zeros((4, 2), int), steps={"trigger": triggered})
    passed, cutflow = _select(events, CutSettings(), "in the file")
    assert passed == [0]
    assert cutflow[:3] == [
        ("in the file", 5, 31.0),
        ("trigger", 3, 11.0),
        ("two jets, pT > 200 GeV", 2, 3.0),
    ]


# The second event fails the cuts.
PRONGS = [
    [(200, 0, 0), (150, 0.5, 0), (3, 0, 0.6), (250, 0, 3)],
    [(300, 0, 0), (100, 0, 3)],
    [(400, 0, 1), (350, 1, -2), (100, 1.3, -2)],
]


def _with_prongs(events=PRONGS, **further):
    place = np.arange(len(events))
    pairs = cluster(hits(events), 1.0, 50)
    return DetectedEvents(
        entry=place,
        weight=1.0 + place,
        hits=hits(events),
        pairs=pairs,
        n_btags=np.zeros((len(pairs.event), 2), np.int64),
        missing=(3.0 + place, -4.0 - place),
        **further,
    )


def _records(streams, events=None, objects=None):
    detected = _with_prongs() if events is None else events
    wanted = collision_streams(streams)
    selected, _ = select(detected, wanted, CutSettings(), objects or ObjectSettings(), "generated")
    return records_of(selected, wanted)


def test_subjets_of_a_jet_with_two_prongs():
    records = _records(["subjets1", "subjets2"])
    assert records.entry.tolist() == [0, 2]
    two, one = records.subjets1.tolist()
    # The soft one at 0.6 is below the smallest pT of a subjet.
    assert [(round(s["pt"], 3), round(s["eta"], 3), s["multiplicity"]) for s in two] == [
        (200, 0, 1),
        (150, 0.5, 1),
    ]
    # In the last event the jet of two prongs is the leading one.
    assert [round(subjet["pt"]) for subjet in one] == [350, 100]
    assert [[round(s["pt"]) for s in jet] for jet in records.subjets2.tolist()] == [[250], [400]]
    assert records.subjets1_axis.fields == list(STREAMS["jet1"].axis)


def test_a_subjet_within_the_radius_is_no_subjet():
    records = _records(["subjets1"], objects=ObjectSettings(subjet_radius=0.8))
    mass = np.sqrt(2 * 200 * 150 * (np.cosh(0.5) - 1))
    first = records.subjets1[0]
    assert first.multiplicity.tolist() == [3]
    assert first.mass[0] == pytest.approx(mass, rel=0.1)
    assert first.pt[0] == pytest.approx(352.5, abs=0.1)


def test_missing_momentum_is_one_token():
    records = _records(["missing"])
    assert ak.num(records.missing).tolist() == [1, 1]
    assert ak.flatten(records.missing.pt).tolist() == pytest.approx([5, np.hypot(5, 6)])
    assert ak.flatten(records.missing.phi).tolist() == pytest.approx(
        [np.arctan2(-4, 3), np.arctan2(-6, 5)]
    )


def test_what_is_beside_the_jets_is_of_the_events_that_pass_by_falling_pt():
    three, four = np.arange(3), np.arange(4)
    events = _with_prongs(
        small_jets=SmallJets(
            np.array([2, 1, 1]), 50.0 + four, 0.0 * four, 0.1 * four, 5.0 + four, four, four % 2
        ),
        leptons=Leptons(
            np.array([0, 1, 2]),
            20.0 + three,
            0.0 * three,
            0.5 * three,
            1 - three,
            np.array([MUON, MUON, ELECTRON]),
        ),
    )
    records = _records(["small_jets", "leptons"], events)
    assert records.small_jets.pt.tolist() == [[51, 50], [53]]
    assert records.small_jets.n_btags.tolist() == [[1, 0], [1]]
    assert records.leptons.pt.tolist() == [[], [22, 21]]
    assert records.leptons.particle_class.tolist() == [[], [ELECTRON, MUON]]
    leading = records.leptons_axis.jet_phi.tolist()
    assert leading == pytest.approx([0, -2], abs=0.01)


@pytest.mark.parametrize("events", [[], [[]], [[(9, 0, 0)]]])
def test_no_event_passes(events):
    detected = _with_prongs(
        events,
        small_jets=SmallJets(np.zeros(len(events), np.int64), *np.zeros((6, 0))),
        leptons=Leptons(np.zeros(len(events), np.int64), *np.zeros((5, 0))),
    )
    records = _records(list(STREAMS), detected)
    assert len(records) == 0
    for name, layout in STREAMS.items():
        assert tuple(records[name].fields) == layout.columns


@pytest.fixture(scope="module")
def everything(small, signal_unit):
    """The events of the fixture `signal`, with all streams."""
    settings = small.model_copy(update={"streams": tuple(STREAMS)})
    return generated(settings, signal_unit).records


def test_further_streams_leave_the_others_as_they_are(signal, everything):
    for name in signal.records.fields:
        assert ak.array_equal(everything[name], signal.records[name]), name
    for name, layout in STREAMS.items():
        assert tuple(everything[name].fields) == layout.columns


def test_subjets_add_up_to_nearly_the_jet(everything):
    for name in ("subjets1", "subjets2"):
        subjets, axis = everything[name], everything[f"{name}_axis"]
        assert ak.all(subjets.pt[:, 1:] <= subjets.pt[:, :-1])
        assert ak.all(subjets.pt > 5)
        px = ak.sum(subjets.pt * np.cos(subjets.phi), axis=1)
        py = ak.sum(subjets.pt * np.sin(subjets.phi), axis=1)
        share = np.hypot(px, py) / axis.jet_pt
        # What is below the smallest pT of a subjet is soft.
        assert ak.mean(share) > 0.95
        constituents = ak.num(everything[f"jet{name[-1]}"])
        assert ak.all(ak.sum(subjets.multiplicity, axis=1) <= constituents)


def test_small_jets_of_the_signal_hold_its_b_quarks(everything):
    jets = everything.small_jets
    assert ak.all(jets.pt > 25)
    assert ak.all(jets.pt[:, 1:] <= jets.pt[:, :-1])
    # Four b quarks, some two of them in one jet, tagged with 0.7.
    assert 1.8 < ak.mean(ak.sum(jets.n_btags, axis=1)) < 3

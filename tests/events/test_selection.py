import numpy as np

from helpers.collisions import hits
from manyscale.events.jets import cluster
from manyscale.events.objects import DetectedEvents
from manyscale.events.selection import select
from manyscale.events.settings import CutSettings, ObjectSettings

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
    selected, cutflow = select(events, {}, cuts, ObjectSettings(), first_step)
    steps = [(step.step, step.events, step.sum_weights) for step in cutflow]
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

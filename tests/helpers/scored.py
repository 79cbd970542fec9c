"""Scored events of a signal and of backgrounds, scaled as to a luminosity."""

import numpy as np

from manyscale.evaluation.yields import ScaledEvents
from manyscale.schema import Process

HH = Process(name="hh4b", label="signal", cross_section=0.002, k_factor=1.5)
QCD = Process(name="qcd", label="background", cross_section=85.0)
TTBAR = Process(name="ttbar", label="background", cross_section=80.0)


def scored_events(
    seed=0, signal=4000, background=12000, yields=(30.0, 2e4, 5e3), negative=0.0, order=(0, 1, 2)
):
    """Signal and two backgrounds: scaled events, and scores between 0 and 1.

    `yields` in expected events of hh4b, qcd, ttbar; `negative`: part of weights below zero; `order`
    of the processes.
    """
    rng = np.random.default_rng(seed)
    kind = np.concatenate([np.zeros(signal, int), rng.integers(1, 3, background)])
    shape = np.array([[6.0, 1.5], [1.0, 5.0], [1.5, 2.5]])[kind]
    scores = rng.beta(shape[:, 0], shape[:, 1])
    weight = rng.uniform(0.5, 1.5, len(kind)) * np.where(rng.random(len(kind)) < negative, -1, 1)
    weight *= np.asarray(yields)[kind] / np.bincount(kind, weight)[kind]
    processes = np.array([HH, QCD, TTBAR], object)[list(order)]
    place = np.argsort(order)[kind]
    return ScaledEvents(tuple(processes), place, weight, 100.0), scores

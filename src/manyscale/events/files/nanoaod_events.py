"""Batches of NanoAOD to detected events: objects, weights, truth."""

from collections import Counter
from collections.abc import Collection, Sequence

import awkward as ak
import numpy as np
from numpy.typing import NDArray

from manyscale.errors import DataError
from manyscale.events.clustering import JetPairs
from manyscale.events.detected import DetectedEvents
from manyscale.events.files.nanoaod_branches import FAT_JETS, Branches
from manyscale.events.files.nanoaod_collections import Collections
from manyscale.events.files.nanoaod_jets import (
    RADIUS,
    LeadingJets,
    constituents,
    count_subjet_tags,
    count_tags_inside,
    leading_jets,
)
from manyscale.events.files.nanoaod_objects import (
    find_higgs,
    find_leptons,
    find_small_jets,
    missing_momentum,
)
from manyscale.events.files.nanoaod_tree import Plan
from manyscale.events.files.reader import Batch
from manyscale.events.particles import Floats, Integers
from manyscale.events.settings import GenerateSettings
from manyscale.events.truth import match_h_bb

__all__ = ["detect"]

_EMPTY = "fat jets have no candidates linked to them: their streams are empty"


def detect(
    batch: Batch, plan: Plan, streams: Collection[str], settings: GenerateSettings
) -> tuple[DetectedEvents, Counter[str]]:
    """Make detected events of what was read of some files.

    Parameters
    ----------
    batch
        With the branches of `plan`.
    plan
        What was read.
    streams
        Names of those wanted.
    settings
        Cuts and objects.

    Returns
    -------
    The events, and what is odd, with how often.

    Raises
    ------
    DataError
        Names file, branch and entry.
    """
    read = _joined(batch.loaded)
    events = Collections(read, len(batch.entry), batch.where)
    branches, card = plan.branches, plan.expressions
    weight = card.weights(read, len(events), batch.where)
    if weight is None:
        weight = _generated_weight(events, branches)
    jets = leading_jets(events, settings.cuts.second_pt)
    notes = Counter[str]()
    hits, pairs = None, JetPairs(jets.event, jets.momentum, None)
    if branches.candidates:
        hits, pairs, empty = constituents(events, branches.candidates, jets)
        notes += Counter({_EMPTY: empty})
    objects = settings.objects
    detected = DetectedEvents(
        piece=batch.piece,
        entry=batch.entry,
        weight=weight,
        hits=hits,
        pairs=pairs,
        n_btags=_count_tags(events, branches, jets),
        missing=missing_momentum(events, branches),
        multiplicity=_sizes(events, branches, jets),
        h_bb=match_h_bb(find_higgs(events), pairs, RADIUS) if branches.generated else None,
        small_jets=find_small_jets(events, branches, objects) if "small_jets" in streams else None,
        leptons=find_leptons(events, branches, objects) if "leptons" in streams else None,
        steps=card.steps(read, len(events)),
        weights=_varied(events, plan, weight, batch),
        observables=card.values(read, len(events)),
    )
    return detected, notes


def _joined(parts: Sequence[dict[str, ak.Array]]) -> dict[str, ak.Array]:
    if len(parts) == 1:
        return parts[0]
    return {name: ak.concatenate([part[name] for part in parts]) for name in parts[0]}


def _generated_weight(events: Collections, branches: Branches) -> Floats:
    if branches.weight is None:
        return np.ones(len(events))
    return events.each_event(branches.weight).astype(np.float64)


def _count_tags(events: Collections, branches: Branches, jets: LeadingJets) -> Integers:
    if branches.subjet_tagger:
        return count_subjet_tags(events, branches.subjet_tagger, jets)
    if branches.jet_tagger:
        return count_tags_inside(events, branches.jet_tagger, jets)
    return np.zeros(jets.place.shape, np.int64)


def _sizes(events: Collections, branches: Branches, jets: LeadingJets) -> NDArray[np.int64] | None:
    if branches.candidates or not branches.fat_jet_size:
        return None
    _, sizes = events.flat([FAT_JETS[0], branches.fat_jet_size]).columns
    return sizes[jets.place].astype(np.int64)


def _varied(events: Collections, plan: Plan, weight: Floats, batch: Batch) -> dict[str, Floats]:
    """Weights of each variation, named after branch and place: PSWeight_0, PSWeight_1, ..."""
    varied: dict[str, Floats] = {}
    for branch, length in plan.variations.items():
        if length is None:
            varied[branch] = weight * events.each_event(branch)
            continue
        counts = events.counts(branch)
        other = np.flatnonzero(counts != length)
        if len(other):
            raise DataError(
                f"{batch.where(int(other[0]))}: branch '{branch}' has {counts[other[0]]} weights, "
                f"where the first entry has {length}; leave it out of convert.variations ([] for "
                "none)"
            )
        (ratios,) = events.finite([branch]).columns
        for place, ratio in enumerate(ratios.reshape(len(events), length).T):
            varied[f"{branch}_{place}"] = weight * ratio
    return varied

"""Generated events: detector, jets, b-tags, cuts and objects of what Pythia makes of a unit."""

from typing import Any

import numpy as np

from manyscale.errors import CardError
from manyscale.events import pythia
from manyscale.events.detector import Detector
from manyscale.events.jets import Tagger, cluster, count_hadrons, find_small_jets
from manyscale.events.objects import DetectedEvents, find_leptons, missing_momentum
from manyscale.events.ragged import SelectedEvents
from manyscale.events.selection import select
from manyscale.events.settings import GenerateSettings
from manyscale.events.truth import Axes, TruthEvents, match_h_bb
from manyscale.events.work import Unit
from manyscale.schema import Generated, collision_streams

__all__ = ["Reconstruction", "check_processes", "generate_unit", "run_unit"]


class Reconstruction:
    """Selects generated events, batch by batch.

    Parameters
    ----------
    settings
        Detector, jets and cuts.
    seed
        Of all randomness in the detector and the b-tagging; see `Detector` for what the outcome
        depends on.
    """

    def __init__(self, settings: GenerateSettings, seed: int) -> None:
        detector, tagger, small_tagger = np.random.SeedSequence(seed).spawn(3)
        self.settings = settings
        self._streams = collision_streams(settings.streams, settings.columns)
        self._detector = Detector(settings.detector, detector)
        self._tagger = Tagger(settings.detector.btags, tagger, candidates=2)
        # Draws of its own, so that asking for small jets changes nothing else.
        self._small_tagger = Tagger(settings.detector.btags, small_tagger, candidates=1)

    def reconstruct(
        self, truth: TruthEvents, first_step: str = "generated"
    ) -> tuple[SelectedEvents, Generated]:
        """Return the events that pass, and what was generated: sums of weights, cutflow.

        Parameters
        ----------
        truth
            A batch of events.
        first_step
            Name of the cutflow's first step, which counts all of them.
        """
        settings = self.settings
        hits = self._detector.see(truth.stable)
        pairs = cluster(hits, settings.jets.radius, settings.cuts.second_pt)
        inside = count_hadrons(
            truth.heavy.take_events(pairs.event),
            Axes.of_pairs(pairs.momentum),
            settings.jets.radius,
            settings.detector.btags.min_pt,
        )
        h_bb = small_jets = leptons = None
        if truth.higgs is not None:
            h_bb = match_h_bb(truth.higgs, pairs, settings.jets.radius)
        if "small_jets" in self._streams:
            small_jets = find_small_jets(
                hits, truth.heavy, self._small_tagger, settings.objects, settings.detector
            )
        if "leptons" in self._streams:
            leptons = find_leptons(hits, settings.objects)
        detected = DetectedEvents(
            entry=truth.entry,
            weight=truth.weight,
            hits=hits,
            pairs=pairs,
            n_btags=self._tagger.tag(*inside).reshape(-1, 2),
            missing=missing_momentum(hits),
            h_bb=h_bb,
            small_jets=small_jets,
            leptons=leptons,
            steps=truth.steps,
            weights=truth.weights,
            observables=truth.observables,
        )
        return select(detected, self._streams, settings.cuts, settings.objects, first_step)


def check_processes(settings: GenerateSettings) -> None:
    """Have Pythia read the settings of every process, without starting it.

    Raises
    ------
    CardError
        Where Pythia refuses a setting, the message naming it and the process; or where columns are
        asked for that the detector does not measure.
    """
    if settings.columns:
        raise CardError(
            f"generate.columns: the detector here measures no {' or '.join(settings.columns)}; only "
            "files that are converted have them"
        )
    for process in settings.processes:
        pythia.read_settings(process, settings.pythia_lines(process))


def generate_unit(settings: GenerateSettings, unit: Unit) -> tuple[SelectedEvents, Generated]:
    """Generate, reconstruct and select the events of a unit.

    The outcome follows from the arguments alone: Pythia starts afresh, because it keeps what it
    learned from earlier events.

    Parameters
    ----------
    settings
        The section `generate` of the card.
    unit
        One of those that `plan` makes.

    Raises
    ------
    CardError
        Where Pythia refuses the settings of the process.
    DataError
        Where Pythia fails in every event.
    """
    generator = pythia.start(unit.process, settings.pythia_lines(unit.process), unit.seed)
    return run_unit(generator, settings, unit)


def run_unit(
    generator: Any,  # noqa: ANN401 - Pythia has no types
    settings: GenerateSettings,
    unit: Unit,
) -> tuple[SelectedEvents, Generated]:
    """What is left of `generate_unit` once Pythia, the generator, has started."""
    reconstruction = Reconstruction(settings.of_unit(unit.seed), unit.seed)
    batches = pythia.generate(generator, unit.process, unit.events, settings.weights)
    parts, counted = zip(*map(reconstruction.reconstruct, batches), strict=True)
    cross_section = pythia.cross_section(generator)
    generated = Generated.add(counted).model_copy(
        update={
            "generated": unit.events,
            "cross_section": cross_section.value,
            "cross_section_error": cross_section.error,
        }
    )
    return SelectedEvents.concatenate(parts), generated

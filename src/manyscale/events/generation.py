"""One unit of work: a fresh Pythia, the detector, jets, cuts."""

from typing import Any

import numpy as np

from manyscale.errors import CardError
from manyscale.events import pythia
from manyscale.events.plan import Unit
from manyscale.events.ragged import SelectedEvents
from manyscale.events.reconstruction import Reconstruction
from manyscale.events.settings import GenerateSettings
from manyscale.schema import Generated

__all__ = ["check_processes", "generate_unit", "run_unit"]


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
    reconstruction = Reconstruction(settings, unit.seed)
    parts, counted = [], []
    for truth in pythia.generate(generator, unit.process, unit.events, settings.weights):
        selected, cutflow = reconstruction.reconstruct(truth)
        parts.append(selected)
        counted.append(
            Generated(
                sum_weights=float(truth.weight.sum()),
                sum_weights2=float(np.square(truth.weight).sum()),
                cutflow=cutflow,
            )
        )
    cross_section = pythia.cross_section(generator)
    generated = Generated.add(counted).model_copy(
        update={
            "generated": unit.events,
            "cross_section": cross_section.value,
            "cross_section_error": cross_section.error,
        }
    )
    return SelectedEvents.concatenate(parts), generated

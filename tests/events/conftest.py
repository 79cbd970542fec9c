"""Small generated samples, made once a session; multiparton interactions off makes them cheap."""

import pytest

from helpers.reading import Result, generated
from manyscale.events.settings import GenerateSettings
from manyscale.events.work import Unit, plan

SMALL = GenerateSettings(events=60, unit_events=60, multiparton=False)


def unit_of(settings: GenerateSettings, process: str, seed: int = 1) -> Unit:
    return next(unit for unit in plan(settings, seed) if unit.process == process)


@pytest.fixture(scope="session")
def small() -> GenerateSettings:
    return SMALL


@pytest.fixture(scope="session")
def signal_unit() -> Unit:
    return unit_of(SMALL, "hh4b")


@pytest.fixture(scope="session")
def signal(signal_unit) -> Result:
    """60 generated events of hh4b."""
    return generated(SMALL, signal_unit)

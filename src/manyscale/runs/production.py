"""Datasets of generated events."""

import os
from pathlib import Path

from manyscale.card import Card
from manyscale.data.dataset import Dataset
from manyscale.data.manifest import merge
from manyscale.data.parts import claim_folder
from manyscale.data.plans import planned
from manyscale.errors import DataError
from manyscale.progress import Progress, Silent

__all__ = ["generate_dataset", "parse_share"]


def generate_dataset(
    card: Card,
    folder: Path | str,
    *,
    workers: int | None = None,
    cluster: str | None = None,
    share: tuple[int, int] | None = None,
    progress: Progress | None = None,
) -> Dataset:
    """Make the events of a card's section `generate`, in units of work, into a dataset.

    Units that are there already are not made again, so that a killed call goes on where it was, and
    several machines can each make a share into one folder.

    Parameters
    ----------
    card
        Its `seed` and `generate` say all of the events.
    folder
        The dataset, new or to be gone on with.
    workers
        Processes; without it, one a core.
    cluster
        Address of a dask scheduler whose workers make the units, in a folder that they share.
    share
        Make the units from the first number up to, not with, the second.

    Raises
    ------
    CardError
        Where Pythia refuses a setting.
    DataError
        Where the folder holds something else, events of other streams among it, or a unit failed
        twice.
    MissingExtraError
        Where the libraries that generate are not installed.
    """
    # Heavy, and an extra: only who generates pays for it.
    from manyscale.events.generation import check_processes  # noqa: PLC0415
    from manyscale.events.plan import plan  # noqa: PLC0415
    from manyscale.events.record import layouts  # noqa: PLC0415
    from manyscale.events.work import open_executor, run_units  # noqa: PLC0415
    from manyscale.runs.streams import check_streams, collision_schema  # noqa: PLC0415
    from manyscale.runs.units import MakePart, generation_plan, is_made  # noqa: PLC0415

    progress = progress or Silent()
    folder = Path(folder)
    units = plan(card.generate, card.seed)
    first, last = (0, len(units)) if share is None else share
    if first >= len(units):
        raise DataError(f"--units {first}:{last}: the card has only the units 0:{len(units)}")
    claim_folder(folder)
    check_streams(folder, collision_schema(layouts(card.generate.streams)))
    check_processes(card.generate)
    chosen = units[first:last]
    missing = [unit for unit in chosen if not is_made(folder, unit)]
    # All processes advance together, so that what an interrupted call leaves is a fair mix.
    missing.sort(key=lambda unit: unit.index)
    workers = min(workers or os.cpu_count() or 1, max(1, len(missing)))
    total = sum(unit.events for unit in chosen)
    progress.start("generating", total, "events", total - sum(unit.events for unit in missing))
    if missing:
        task = MakePart(card.generate, card.seed, folder.absolute() if cluster else folder)
        plans = [generation_plan(card.generate, card.seed, folder, units)]
        with (
            planned(folder, plans, shared=share is not None),
            open_executor(workers, cluster) as (executor, in_flight),
        ):
            for unit, _ in run_units(task, missing, executor, in_flight):
                progress.advance(unit.events)
    progress.stop()
    merge(folder)
    absent = sum(not is_made(folder, unit) for unit in units)
    if absent:
        progress.say(f"{absent} of {len(units)} units of the card are not made yet")
    return Dataset.open(folder)


def parse_share(text: str) -> tuple[int, int]:
    """Read a share of units, "A:B".

    Raises
    ------
    DataError
        Where it is not two numbers, the first below the second.

    Examples
    --------
    >>> parse_share("0:10")
    (0, 10)
    """
    first, _, last = text.partition(":")
    if not (first.isdecimal() and last.isdecimal() and int(first) < int(last)):
        raise DataError(
            f"--units {text}: write A:B, two numbers from 0, the first below the second"
        )
    return int(first), int(last)

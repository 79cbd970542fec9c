"""Datasets of generated events."""

import hashlib
from collections.abc import Mapping
from pathlib import Path

from manyscale.card import Card
from manyscale.data.dataset import Dataset
from manyscale.data.manifest import merge
from manyscale.data.parquet import claim_folder, part_path, read_book
from manyscale.data.sources import Source, SourceUnit, collecting
from manyscale.errors import DataError
from manyscale.events.work import Unit, plan
from manyscale.progress import LOG, progress_bar
from manyscale.schema import Label, collision_streams

__all__ = ["generate_by_class", "generate_dataset", "parse_share"]


def generate_dataset(
    card: Card,
    folder: Path | str,
    *,
    workers: int | None = None,
    cluster: str | None = None,
    share: tuple[int, int] | None = None,
) -> Dataset:
    """Make the events of a card's section `generate`, in units of work, into a dataset.

    Units that are there already are not made again, so that a killed call is resumed where it was,
    and several machines can each make a share into one folder.

    Parameters
    ----------
    card
        Its `seed` and `generate` say all of the events.
    folder
        The dataset, new or to be completed.
    workers
        Processes; without it, one for each core that this process may use.
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
    folder = Path(folder)
    units = plan(card.generate, card.seed)
    # Heavy, and an extra: only who generates pays for it.
    from manyscale.events.generate import check_processes  # noqa: PLC0415
    from manyscale.events.work import open_executor, run_units, usable_cores  # noqa: PLC0415
    from manyscale.runs.worker import (  # noqa: PLC0415
        MakePart,
        check_streams,
        generated_part,
        share_of,
    )

    def is_made(unit: Unit) -> bool:
        """Whether a unit's part is there, with at least the events asked for."""
        path = part_path(folder, generated_part(unit))
        if not path.is_file():
            return False
        book, _ = read_book(path)
        if book.identity != unit.identity:
            raise DataError(
                f"{folder} holds events made with other settings or another seed ({path.name}): "
                "name another folder"
            )
        return book.process.generated >= unit.events

    chosen = share_of(units, share, "the card has")
    claim_folder(folder)
    check_streams(folder, collision_streams(card.generate.streams))
    check_processes(card.generate)
    todo = [unit for unit in chosen if not is_made(unit)]
    # All processes advance together, so that what an interrupted call leaves is a fair mix.
    todo.sort(key=lambda unit: unit.index)
    total = sum(unit.events for unit in chosen)
    done = total - sum(unit.events for unit in todo)
    with progress_bar("generating", total, "events", done) as bar:
        if todo:
            name = hashlib.sha256(f"{card.generate.section}\n{card.seed}".encode()).hexdigest()[:16]
            source = Source(
                name=f"generate-{name}",
                again=f"manyscale generate CARD --out {folder}",
                # Each unit counts by itself: fewer events are a dataset, too.
                whole=False,
                units=tuple(
                    SourceUnit(
                        parts=(generated_part(unit),),
                        what=f"{unit.process}, its unit {unit.index}",
                    )
                    for unit in units
                ),
            )
            task = MakePart(card.generate, card.seed, folder.absolute() if cluster else folder)
            workers = min(workers or usable_cores(), len(todo))
            with (
                collecting(folder, [source], shared=share is not None),
                open_executor(workers, cluster) as (executor, in_flight),
            ):
                for unit, _ in run_units(task, todo, executor, in_flight):
                    bar.advance(unit.events)
    merge(folder)
    absent = sum(not is_made(unit) for unit in units)
    if absent:
        LOG.info("%d of %d units of the card are not made yet", absent, len(units))
    return Dataset.open(folder)


def generate_by_class(
    card: Card, folder: Path | str, events: Mapping[Label, int], *, workers: int | None = None
) -> Dataset:
    """Make the events of a card, of each class a number of its own, into a dataset.

    What limits yields and limits is the number of simulated background events, never that of the signal.
    """
    settings = card.generate
    for label, number in events.items():
        processes = {
            name: process
            for name, process in settings.processes.items()
            if settings.event_class(name) == label
        }
        part = settings.model_copy(update={"events": number, "processes": processes})
        of_class = card.model_copy(update={"generate": part})
        dataset = generate_dataset(of_class, folder, workers=workers)
    return dataset


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

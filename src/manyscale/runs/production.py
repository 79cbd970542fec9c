"""Making datasets: by generating events, or by converting files."""

import os
from collections.abc import Sequence
from pathlib import Path
from typing import get_args

from manyscale.card import Card, load_card
from manyscale.data.convert import convert_npz
from manyscale.data.dataset import Dataset
from manyscale.data.manifest import merge
from manyscale.data.parts import claim_folder
from manyscale.data.schema import Label
from manyscale.errors import DataError
from manyscale.events.processes import NAMED_PROCESSES
from manyscale.progress import Progress, Silent

__all__ = ["convert_files", "generate_dataset", "parse_share"]


def generate_dataset(
    card: Card,
    folder: Path | str,
    *,
    workers: int | None = None,
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
    from manyscale.events.work import ProcessPool, run_units  # noqa: PLC0415
    from manyscale.runs.units import MakePart, check_streams, collision_schema, is_made  # noqa: PLC0415

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
        with ProcessPool(workers) as pool:
            task = MakePart(card.generate, card.seed, folder)
            for unit, _ in run_units(task, missing, pool, in_flight=2 * workers):
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


def convert_files(
    files: Sequence[str],
    folder: Path | str,
    *,
    label: Label | None = None,
    process: str | None = None,
    card: Path | str | None = None,
    cross_section: float | None = None,
    sum_weights: float | None = None,
    progress: Progress | None = None,
) -> str:
    """Add the events of npz files to a dataset; return what was done, in words.

    Parameters
    ----------
    files
        One file, or several streams as "jet1=a.npz", "jet2=b.npz".
    folder
        The dataset, new or to be added to.
    label, process
        Class of the events, and name of their process (by default the class). Of a named process
        (hh4b, qcd, ...) the class is known.
    card
        Names the columns: its `data.columns`.
    cross_section, sum_weights
        In pb; and the sum of the weights of all generated events. Unknown where not said.

    Raises
    ------
    DataError
        Where a file cannot be read, does not fit the dataset, or is in it under another process.
    """
    progress = progress or Silent()
    if label is None:
        label = _class_of(process)
    columns = load_card(card).data.columns if card is not None else None
    done = convert_npz(
        folder,
        _by_stream(files),
        label,
        process,
        columns=columns,
        cross_section=cross_section,
        sum_weights=sum_weights,
    )
    for notice in done.notices:
        progress.say(notice)
    if not done.added:
        return f"{folder} has these {done.events} events of {done.process} already"
    if cross_section is None:
        progress.say("the cross section is unknown: --cross-section says it; until then no yields")
    return f"{done.events} events of {done.process} added to {folder}"


def _class_of(process: str | None) -> Label:
    """Class of a named process; refuse any other."""
    if process in get_args(Label):
        return "signal" if process == "signal" else "background"
    if process in NAMED_PROCESSES:
        return NAMED_PROCESSES[process].event_class
    raise DataError(
        "say what the events are: --label signal or --label background, or --process with one of "
        f"{', '.join(NAMED_PROCESSES)}"
    )


def _by_stream(files: Sequence[str]) -> str | dict[str, str]:
    named = {}
    for text in files:
        stream, equals, path = text.partition("=")
        # A path may hold an = itself; a stream's name holds no slash.
        if equals and "/" not in stream:
            if stream in named:
                raise DataError(f"two files are given for the stream '{stream}'")
            named[stream] = path
    if not named and len(files) == 1:
        return files[0]
    if len(named) < len(files):
        raise DataError(
            "several npz files are the streams of the same events: write jet1=a.npz jet2=b.npz; "
            "files of other events are added by another call"
        )
    return named

"""Which parts a dataset is to have: so that what is missing can be named, and waited for."""

import json
import uuid
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

from pydantic import BaseModel, ConfigDict, ValidationError

from manyscale.data.parquet import PARTS
from manyscale.errors import DataError
from manyscale.schema import Process

__all__ = [
    "PLANS",
    "Plan",
    "PlannedUnit",
    "Stated",
    "find_plans",
    "held_back",
    "inherit_sources",
    "missing_units",
    "planned",
    "stated_of_parts",
    "with_stated",
]

#: Folder of the plans inside a dataset.
PLANS = "plans"


class _Frozen(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class PlannedUnit(_Frozen):
    """A unit of work.

    Attributes
    ----------
    parts
        Names of the parts that it makes.
    what
        What it is, in words.
    pieces
        What it reads: place among the plan's sources, first entry, last entry (null: to the end).
    share
        Its part of all that the plan reads.
    """

    parts: tuple[str, ...]
    what: str
    pieces: tuple[tuple[int, int, int | None], ...] = ()
    share: float = 0.0


class Stated(_Frozen):
    """What a user says of a process; cross section in pb, sum of the weights of all events."""

    cross_section: float | None = None
    sum_weights: float | None = None
    k_factor: float | None = None
    filter_efficiency: float | None = None


class Plan(_Frozen):
    """The units that belong together.

    Attributes
    ----------
    name
        Of its file; two calls that are to make the same have the same.
    number
        Counts the plans of a dataset in the order in which they came.
    again
        The command that makes what is missing.
    whole
        Whether its parts count only when all are there.
    units
        In the order in which they are numbered.
    sources
        Identities of the files that are read, one a file.
    size
        Of the files together, in bytes.
    settings
        What is made of them, as JSON: the same files cannot be in a dataset in two ways.
    stated
        What the user says of the processes in them, by name; it counts more than what they say.
    replaces
        Names of unfinished plans in the place of which this one stands.
    """

    name: str
    number: int = 0
    again: str
    whole: bool
    units: tuple[PlannedUnit, ...]
    sources: tuple[str, ...] = ()
    size: int = 0
    settings: str = ""
    stated: Mapping[str, Stated] = {}
    replaces: tuple[str, ...] = ()

    def missing(self, folder: Path) -> list[int]:
        """Numbers of the units whose parts are not all there."""
        there = {path.stem for path in (folder / PARTS).glob("*.parquet")}
        return [at for at, unit in enumerate(self.units) if not there.issuperset(unit.parts)]


@contextmanager
def planned(folder: Path, plans: Sequence[Plan], *, shared: bool) -> Iterator[None]:
    """Put plans into a dataset folder while they are carried out.

    A plan of which nothing came out is taken away again, and the folder, where it is empty then.

    Parameters
    ----------
    shared
        Whether others may be at work on the same plans; then they stay.

    Raises
    ------
    DataError
        Where the folder cannot be written, or another plan reads one of the files.
    """
    for plan in plans:
        _write(folder, plan)
        _replace(folder, plan)
    try:
        _check_apart(find_plans(folder))
        yield
    except BaseException:
        for plan in plans:
            if not shared and len(plan.missing(folder)) == len(plan.units):
                (folder / PLANS / f"{plan.name}.json").unlink(missing_ok=True)
        for path in (folder / PLANS, folder / PARTS, folder):
            with suppress(OSError):
                path.rmdir()
        raise


def _replace(folder: Path, plan: Plan) -> None:
    """Take away the plans that a new one replaces, and what was made for them alone."""
    if not plan.replaces:
        return
    kept = {part for unit in plan.units for part in unit.parts}
    for old in find_plans(folder):
        if old.name not in plan.replaces:
            continue
        for part in {part for unit in old.units for part in unit.parts} - kept:
            (folder / PARTS / f"{part}.parquet").unlink(missing_ok=True)
        (folder / PLANS / f"{old.name}.json").unlink(missing_ok=True)


def _check_apart(plans: Sequence[Plan]) -> None:
    """Refuse two plans of the same file: its events would be there twice."""
    seen: dict[str, Plan] = {}
    for plan in plans:
        for source in plan.sources:
            if source in seen:
                raise DataError(
                    f"two calls read the file {json.loads(source)[0][0]} at the same time; let one "
                    f"end first (`{seen[source].again}`, `{plan.again}`)"
                )
            seen[source] = plan


def inherit_sources(origin: Path, folder: Path) -> None:
    """Have a dataset that was made of another know of which files its events are."""
    sources = [source for plan in find_plans(origin) for source in plan.sources]
    if sources:
        settings = json.dumps({"written": True})
        plan = Plan(name="written", again="", whole=False, units=(), sources=tuple(sources))
        _write(folder, plan.model_copy(update={"settings": settings}))


def _write(folder: Path, plan: Plan) -> None:
    path = folder / PLANS / f"{plan.name}.json"
    draft = path.with_name(f".{path.name}.{uuid.uuid4().hex}.tmp")
    try:
        # The folder of the parts says that this is a dataset in the making.
        (folder / PARTS).mkdir(parents=True, exist_ok=True)
        path.parent.mkdir(exist_ok=True)
        draft.write_text(plan.model_dump_json(), encoding="utf-8")
        draft.replace(path)
    except OSError as error:
        raise DataError(f"{folder} cannot be written: {error.strerror}") from error


def find_plans(folder: Path) -> list[Plan]:
    """Plans of a dataset folder, in the order in which they came.

    Raises
    ------
    DataError
        Where one is damaged.
    """
    plans = []
    for path in sorted((folder / PLANS).glob("[!.]*.json")):
        try:
            plans.append(Plan.model_validate_json(path.read_text(encoding="utf-8")))
        except (OSError, ValidationError, ValueError) as error:
            raise DataError(
                f"{path} is damaged; remove it and give the same command again"
            ) from error
    return sorted(plans, key=lambda plan: (plan.number, plan.name))


def stated_of_parts(plans: Sequence[Plan]) -> dict[str, tuple[Mapping[str, Stated], float]]:
    """For each part of plans, what is stated of the plan's processes, and the part's share of it."""
    return {
        part: (plan.stated, unit.share)
        for plan in plans
        if plan.stated
        for unit in plan.units
        for part in unit.parts
    }


def with_stated(process: Process, stated: Stated | None, share: float) -> Process:
    """What a part says of its process, completed by its share of what the user says of it."""
    if stated is None:
        return process
    update: dict[str, float | None] = {}
    if stated.cross_section is not None:
        update |= {"cross_section": stated.cross_section, "cross_section_error": None}
    if stated.sum_weights is not None:
        update |= {"sum_weights": stated.sum_weights * share, "sum_weights2": None}
    for name in ("k_factor", "filter_efficiency"):
        if getattr(stated, name) is not None:
            update[name] = getattr(stated, name)
    return process.model_copy(update=update)


def missing_units(folder: Path, plans: Sequence[Plan]) -> list[tuple[Plan, list[int]]]:
    """Plans that are not complete, each with the numbers of the units that are missing."""
    found = ((plan, plan.missing(folder)) for plan in plans)
    return [(plan, missing) for plan, missing in found if missing]


def held_back(folder: Path) -> set[str]:
    """Names of parts that are there but do not count yet, because others of their plan are missing."""
    return {
        part
        for plan, _ in missing_units(folder, [plan for plan in find_plans(folder) if plan.whole])
        for unit in plan.units
        for part in unit.parts
    }

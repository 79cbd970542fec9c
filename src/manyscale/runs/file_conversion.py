"""Files of events to units of work, and these to parts of a dataset."""

import json
import os
import shlex
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from manyscale.card import Card
from manyscale.data.manifest import merge
from manyscale.data.parts import claim_folder, part_path
from manyscale.data.plans import Plan, planned
from manyscale.errors import CardError, DataError
from manyscale.events.files.formats import Format
from manyscale.events.files.source import Contents, Reader
from manyscale.events.work import open_executor, run_units
from manyscale.progress import Progress
from manyscale.runs.file_plans import FilePlanner, units_of
from manyscale.runs.file_processes import FileProcesses
from manyscale.runs.file_units import FileUnit, MakeFileParts
from manyscale.runs.request import Added, Request
from manyscale.runs.sources import SourceFile, find_files, look_at_first, one_reader
from manyscale.runs.streams import check_streams, collision_schema

__all__ = ["FileConversion"]

# Sections of the card's `generate` on which the records of files depend.
_GENERATE = {"multiparton", "detector", "jets", "objects", "streams", "columns", "cuts"}
# Keys of the card's `convert` on which the records do not depend.
_STATED: Any = {
    "unit_events": True,
    "process": {"__all__": {"cross_section", "sum_weights"}},
}
_NAMED = 3


class FileConversion:
    """One call that adds files to a dataset.

    Parameters
    ----------
    folder
        The dataset.
    card
        Its sections `generate` and `convert`, and its seed.
    request
        What the events are.
    progress
        Is told of what is found and done.
    card_path
        The card's file, for the command that goes on.
    """

    def __init__(
        self,
        folder: Path,
        card: Card,
        request: Request,
        progress: Progress,
        *,
        card_path: Path | str | None = None,
    ) -> None:
        self._folder = folder
        self._card_path = card_path
        self._seed = card.seed
        self._generate = card.generate
        self._convert = card.convert
        if request.weights is not None:
            self._convert = card.convert.model_copy(update={"weight": request.weights})
        self._request = request
        self._progress = progress

    def run(
        self,
        kind: Format,
        paths: Sequence[str],
        *,
        workers: int | None,
        cluster: str | None,
        share: tuple[int, int] | None,
    ) -> Added:
        """Add the files; see `manyscale.runs.conversion.convert_files`."""
        claim_folder(self._folder)
        if self._convert.process and (kind in {"HepMC", "LHE"} or not self._convert.branches):
            raise CardError(
                "convert.process divides the events of an ntuple, which convert.branches maps; of "
                "other files --label and --process say what all the events are"
            )
        processes = FileProcesses(self._folder, self._request, self._generate, self._convert)
        files = find_files(paths)
        reader = one_reader(kind, files, self._generate, self._convert, processes.lines)
        sample, contents = look_at_first(files, reader)
        self._report(sample, contents)
        check_streams(self._folder, collision_schema(contents.streams))
        settings = self._settings(reader, processes)
        planner = FilePlanner(
            self._folder,
            reader,
            self._convert.unit_events or reader.step,
            processes.names,
            settings,
            self._command(files),
        )
        plans = processes.state(planner.plans(files, contents.entries / sample.size))
        units = [unit for plan in plans for unit in units_of(plan, files)]
        first, last = (0, len(units)) if share is None else share
        if first >= len(units):
            raise DataError(f"--units {first}:{last}: the files make only the units 0:{len(units)}")
        task = MakeFileParts(
            reader,
            contents.streams,
            self._folder.absolute() if cluster else self._folder,
            processes.known,
            self._seed,
            {"command": "convert", **json.loads(settings)},
        )
        chosen = units[first:last]
        missing = {(plan.name, at) for plan in plans for at in plan.missing(self._folder)}
        todo = [unit for unit in chosen if (unit.plan, unit.index) in missing]
        with planned(self._folder, plans, shared=share is not None):
            notes = self._do(task, todo, len(chosen), workers, cluster)
        for text, count in sorted(notes.items()):
            self._progress.say(f"{count:,} {text}")
        return self._finish(plans, processes, len(todo))

    def _report(self, file: SourceFile, contents: Contents) -> None:
        self._progress.say(f"{file.path}: {contents.title}")
        for stream, why in contents.missing.items():
            self._progress.say(f"no {stream}: {why}")
        for remark in contents.remarks:
            self._progress.say(remark)
        if not contents.streams:
            missing = "; ".join(f"no {stream}: {why}" for stream, why in contents.missing.items())
            raise DataError(
                f"{file.path} gives none of the streams wanted: "
                + (missing or "no branches are mapped; give a card with convert.branches by --card")
            )

    def _settings(self, reader: Reader, processes: FileProcesses) -> str:
        """All that the records of a file follow from, beside the file, as JSON."""
        return json.dumps(
            {
                "reader": type(reader).__name__,
                "seed": self._seed,
                "generate": self._generate.model_dump(mode="json", include=_GENERATE),
                "convert": self._convert.model_dump(mode="json", exclude=_STATED),
                "processes": {key: process.name for key, process in processes.known.items()},
                "lines": processes.lines,
            },
            sort_keys=True,
        )

    def _command(self, files: Sequence[SourceFile]) -> str:
        """The call's command; of many files the first."""
        more = " ..." if len(files) > _NAMED else ""
        card = [] if self._card_path is None else ["--card", str(self._card_path)]
        options = [*self._request.options(), *card, "--out", str(self._folder)]
        named = shlex.join(file.path for file in files[:_NAMED])
        return f"manyscale convert {named}{more} {shlex.join(options)}"

    def _do(
        self,
        task: MakeFileParts,
        units: Sequence[FileUnit],
        total: int,
        workers: int | None,
        cluster: str | None,
    ) -> Counter[str]:
        notes, weighted = Counter[str](), False
        workers = min(workers or os.cpu_count() or 1, max(1, len(units)))
        self._progress.start("converting", total, "units", total - len(units))
        if units:
            with open_executor(workers, cluster) as (executor, in_flight):
                for _, done in run_units(task, units, executor, in_flight):
                    notes += done.notes
                    weighted |= done.weighted
                    self._progress.advance(1)
        self._progress.stop()
        if units and not weighted:
            for path in (part_path(self._folder, part) for unit in units for part in unit.parts):
                path.unlink(missing_ok=True)
            raise DataError("all event weights are 0; --weights names another branch of weights")
        return notes

    def _finish(self, plans: Sequence[Plan], of: FileProcesses, done: int) -> Added:
        absent = sum(len(plan.missing(self._folder)) for plan in plans)
        if absent:
            total = sum(len(plan.units) for plan in plans)
            return Added(
                f"{absent} of {total} units are missing still; `manyscale inspect {self._folder}` "
                "names them, and finishes the dataset once all are there"
            )
        schema = merge(self._folder)
        processes = tuple(process for process in schema.processes if process.name in of.names)
        for process in processes:
            for line in of.unknown(process):
                self._progress.say(line)
        selected = sum(process.cutflow[-1].events for process in processes)
        if not done:
            return Added(f"{self._folder} has these events already", processes)
        if not selected:
            self._progress.say(
                "no event passed the selection; the cutflow says where they were lost"
            )
        return Added(f"{', '.join(of.names)}: {selected:,} events in {self._folder}", processes)

"""Files of events to units of work, and these to parts of a dataset."""

import hashlib
import json
import os
import shlex
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from manyscale.card import Card
from manyscale.data.convert import describe_process, read_books
from manyscale.data.manifest import merge
from manyscale.data.parts import claim_folder
from manyscale.data.plans import Plan, PlannedUnit, find_plans, planned
from manyscale.data.schema import Process
from manyscale.errors import CardError, DataError
from manyscale.events.files.formats import Format
from manyscale.events.files.source import THE_PROCESS, Contents, Piece, Reader
from manyscale.events.work import open_executor, run_units
from manyscale.progress import Progress
from manyscale.runs.file_units import FileUnit, MakeFileParts, part_of
from manyscale.runs.request import Added, Request
from manyscale.runs.sources import SourceFile, divide, find_files, one_reader
from manyscale.runs.streams import check_streams, collision_schema

__all__ = ["FileConversion"]

# Sections of the card's `generate` on which the records of files depend.
_GENERATE = {"multiparton", "detector", "jets", "objects", "streams", "columns", "cuts"}
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
        processes = self._processes()
        files = find_files(paths)
        reader = one_reader(kind, files, self._generate, self._convert, self._lines(processes))
        contents = reader.look(files[0].path)
        self._report(files[0], contents)
        check_streams(self._folder, collision_schema(contents.streams))
        plans = self._plans(files, reader, contents, processes)
        units = [unit for plan in plans for unit in self._units(plan, files)]
        first, last = (0, len(units)) if share is None else share
        if first >= len(units):
            raise DataError(f"--units {first}:{last}: the files make only the units 0:{len(units)}")
        task = MakeFileParts(
            reader,
            contents.streams,
            self._folder.absolute() if cluster else self._folder,
            processes,
            self._request.sum_weights,
            self._seed,
            self._made(reader, processes),
        )
        chosen = units[first:last]
        missing = {(plan.name, at) for plan in plans for at in plan.missing(self._folder)}
        todo = [unit for unit in chosen if (unit.plan, unit.index) in missing]
        with planned(self._folder, plans, shared=share is not None):
            notes = self._do(task, todo, len(chosen), workers, cluster)
        for text, count in sorted(notes.items()):
            self._progress.say(f"{count:,} {text}")
        return self._finish(plans, [process.name for process in processes.values()], len(todo))

    def _processes(self) -> dict[str, Process]:
        """The processes as far as they are known, by the reader's names for them."""
        books = list(read_books(self._folder).values())
        request = self._request
        if not self._convert.process:
            name, label = request.named()
            return {
                THE_PROCESS: self._described(
                    describe_process(name, label, request.cross_section, books)
                )
            }
        if request.label is not None or request.process is not None:
            raise DataError(
                "the card's convert.process says what the events are: leave out --label and --process"
            )
        if len(self._convert.process) > 1 and (request.cross_section or request.sum_weights):
            raise DataError(
                "the card's convert.process names several processes, to which --cross-section and "
                "--sum-weights cannot all apply: say their cross sections under "
                "generate.processes, as in {ttbar: {cross_section: 831}}"
            )
        return {
            name: self._described(
                describe_process(
                    name, self._convert.event_class(name), request.cross_section, books
                )
            )
            for name in self._convert.process
        }

    def _described(self, process: Process) -> Process:
        """Add what the card's generate.processes says of a process."""
        if "processes" not in self._generate.model_fields_set:
            return process
        stated = self._generate.processes.get(process.name)
        if stated is None:
            return process
        update: dict[str, Any] = {
            "k_factor": stated.k_factor,
            "filter_efficiency": stated.filter_efficiency,
        }
        if process.cross_section is None:
            update["cross_section"] = stated.cross_section
        return process.model_copy(update=update)

    def _lines(self, processes: Mapping[str, Process]) -> tuple[str, ...]:
        """Lines of Pythia for the shower of hard events: those of the card's process alone."""
        names = [process.name for process in processes.values()]
        stated = self._generate.processes.get(names[0]) if len(names) == 1 else None
        return stated.pythia if stated is not None else ()

    def _report(self, file: SourceFile, contents: Contents) -> None:
        self._progress.say(f"{file.path}: {contents.title}")
        for stream, why in contents.missing.items():
            self._progress.say(f"no {stream}: {why}")
        for remark in contents.remarks:
            self._progress.say(remark)
        if not contents.entries:
            raise DataError(f"{file.path} ({contents.title}) holds no events")
        if not contents.streams:
            missing = "; ".join(f"no {stream}: {why}" for stream, why in contents.missing.items())
            raise DataError(
                f"{file.path} gives none of the streams wanted: "
                + (missing or "no branches are mapped; give a card with convert.branches by --card")
            )

    def _settings(self, reader: Reader, processes: Mapping[str, Process]) -> str:
        """All that the records of a file follow from, beside the file, as JSON."""
        return json.dumps(
            {
                "reader": type(reader).__name__,
                "seed": self._seed,
                "generate": self._generate.model_dump(mode="json", include=_GENERATE),
                "convert": self._convert.model_dump(mode="json", exclude={"unit_events"}),
                "processes": {name: process.name for name, process in processes.items()},
                "lines": self._lines(processes),
            },
            sort_keys=True,
        )

    def _made(self, reader: Reader, processes: Mapping[str, Process]) -> dict[str, Any]:
        return {"command": "convert", **json.loads(self._settings(reader, processes))}

    def _plans(
        self,
        files: Sequence[SourceFile],
        reader: Reader,
        contents: Contents,
        processes: Mapping[str, Process],
    ) -> list[Plan]:
        """Plans of which the files are: those that are there, and one for files that are new."""
        settings = self._settings(reader, processes)
        wanted = {file.identity: file.path for file in files}
        known = []
        for plan in find_plans(self._folder):
            shared = wanted.keys() & set(plan.sources)
            if shared and plan.settings != settings:
                raise DataError(
                    f"{wanted[min(shared)]} is in {self._folder} already, as another process or with "
                    "other settings, and no event can be in it twice: name another folder"
                )
            if shared:
                known.append(plan)
        there = {source for plan in known for source in plan.sources}
        new = [file for file in files if file.identity not in there]
        if new:
            entries = contents.entries if new[0] is files[0] else reader.entries(new[0].path)
            known.append(self._plan(new, reader, entries, processes, settings))
        return known

    def _plan(
        self,
        files: Sequence[SourceFile],
        reader: Reader,
        entries: int,
        processes: Mapping[str, Process],
        settings: str,
    ) -> Plan:
        sources = [file.identity for file in files]
        name = hashlib.sha256(json.dumps([settings, sources]).encode()).hexdigest()[:16]
        place = {file.path: at for at, file in enumerate(files)}
        weight = {file.path: file.size for file in files}
        divided = list(divide(files, reader, entries, self._convert.unit_events or reader.step))
        pieces_of = Counter(piece.path for unit in divided for piece in unit)
        total = sum(weight.values())
        units = tuple(
            PlannedUnit(
                parts=tuple(part_of(p.name, name, at) for p in processes.values()),
                what=", ".join(map(str, unit[:_NAMED])) + (" ..." if len(unit) > _NAMED else ""),
                pieces=tuple((place[piece.path], piece.first, piece.last) for piece in unit),
                share=sum(weight[p.path] / pieces_of[p.path] for p in unit) / total,
            )
            for at, unit in enumerate(divided)
        )
        return Plan(
            name=name,
            again=self._command(files),
            whole=True,
            units=units,
            sources=tuple(sources),
            settings=settings,
        )

    def _command(self, files: Sequence[SourceFile]) -> str:
        """The call's command; of many files the first."""
        more = " ..." if len(files) > _NAMED else ""
        card = [] if self._card_path is None else ["--card", str(self._card_path)]
        options = [*self._request.options(), *card, "--out", str(self._folder)]
        named = shlex.join(file.path for file in files[:_NAMED])
        return f"manyscale convert {named}{more} {shlex.join(options)}"

    def _units(self, plan: Plan, files: Sequence[SourceFile]) -> list[FileUnit]:
        """Units of a plan, with its files where they are now."""
        path = {file.identity: file.path for file in files}
        missing = set(plan.missing(self._folder))
        units = []
        for at, unit in enumerate(plan.units):
            needed = [plan.sources[source] for source, *_ in unit.pieces]
            if at in missing and not all(identity in path for identity in needed):
                raise DataError(
                    f"some of these files were begun together with others that are not named now: "
                    f"give the same command again ({plan.again})"
                )
            pieces = tuple(
                Piece(path.get(identity, ""), first, last)
                for identity, (_, first, last) in zip(needed, unit.pieces, strict=True)
            )
            units.append(FileUnit(plan.name, at, pieces, tuple(needed), unit.share))
        return units

    def _do(
        self,
        task: MakeFileParts,
        units: Sequence[FileUnit],
        total: int,
        workers: int | None,
        cluster: str | None,
    ) -> Counter[str]:
        notes = Counter[str]()
        workers = min(workers or os.cpu_count() or 1, max(1, len(units)))
        self._progress.start("converting", total, "units", total - len(units))
        if units:
            with open_executor(workers, cluster) as (executor, in_flight):
                for _, done in run_units(task, units, executor, in_flight):
                    notes += done.notes
                    self._progress.advance(1)
        self._progress.stop()
        return notes

    def _finish(self, plans: Sequence[Plan], names: Sequence[str], done: int) -> Added:
        absent = sum(len(plan.missing(self._folder)) for plan in plans)
        if absent:
            total = sum(len(plan.units) for plan in plans)
            return Added(
                f"{absent} of {total} units are missing still; `manyscale inspect {self._folder}` "
                "names them, and finishes the dataset once all are there"
            )
        schema = merge(self._folder)
        processes = tuple(process for process in schema.processes if process.name in names)
        for process in processes:
            self._say_unknown(process)
        selected = sum(process.cutflow[-1].events for process in processes)
        if not done:
            return Added(f"{self._folder} has these events already", processes)
        if not selected:
            self._progress.say(
                "no event passed the selection; the cutflow says where they were lost"
            )
        return Added(f"{', '.join(names)}: {selected:,} events in {self._folder}", processes)

    def _say_unknown(self, process: Process) -> None:
        alone = len(self._convert.process) < 2
        if process.cross_section is None:
            by = "--cross-section" if alone else "the card's generate.processes"
            self._progress.say(
                f"the cross section of {process.name} is unknown, so no yields: {by} says it"
            )
        if process.sum_weights is None:
            by = ": --sum-weights says it" if alone else ""
            self._progress.say(
                f"the sum of weights of all generated events of {process.name} is unknown, so no "
                f"yields{by}"
            )

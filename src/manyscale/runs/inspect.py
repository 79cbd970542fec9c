"""What is in a path: a dataset, a run, a model folder, a card, a file of events."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from manyscale.card import load_card
from manyscale.checksums import CHECKSUMS, changed_files
from manyscale.data import manifest
from manyscale.data.dataset import Dataset
from manyscale.data.npz_arrays import open_npz
from manyscale.data.parquet import MANIFEST
from manyscale.data.sources import find_sources, missing_notices, unfinished
from manyscale.deployment.bundle import load_bundle
from manyscale.errors import DataError, ManyscaleError, RunError
from manyscale.evaluation.yields import normalisation
from manyscale.events.files.convert_settings import ConvertSettings
from manyscale.events.files.formats import Format, expand, recognise
from manyscale.events.settings import GenerateSettings
from manyscale.features.registry import describe
from manyscale.model.classifier import MultiScaleClassifier
from manyscale.model.summary import summarise
from manyscale.reporting.flow_chart import flow_chart
from manyscale.reporting.tables import (
    Table,
    cutflow_table,
    layer_table,
    mix_table,
    process_table,
)
from manyscale.runs.fit import build_model, open_data
from manyscale.runs.folder import RunFolder
from manyscale.schema import STREAMS
from manyscale.writing import write_whole

if TYPE_CHECKING:
    from manyscale.events.files.reader import Contents

__all__ = ["Found", "inspect_path", "known_features"]

_NAMED = 5


@dataclass
class Found:
    """What an inspection found: tables, then lines."""

    tables: list[Table] = field(default_factory=list)
    lines: list[str] = field(default_factory=list)


def known_features() -> Found:
    """Every column and feature that manyscale knows."""
    header = ["kind", "name", "unit", "what it is", "computed from, or codes"]
    return Found([Table("columns and features", header, [list(row) for row in describe()])])


def inspect_path(path: Path | str, *, verify: bool = False, luminosity: float = 3000.0) -> Found:
    """Look into a path.

    Parameters
    ----------
    path
        A dataset, a run, a model folder, a card (ending in .yaml), or any file or address that
        `convert` reads.
    verify
        Read every part of a dataset and check its size and checksum.
    luminosity
        In fb^-1, for the expected events of a dataset.

    Raises
    ------
    ManyscaleError
        Where the path is none of these, or is damaged.
    """
    if "://" in str(path):
        return _file(str(path))
    path = Path(path)
    if path.is_dir():
        if RunFolder(path).card.is_file():
            return _run(RunFolder(path))
        if (path / "config.json").is_file():
            verified = _verify(path)
            found = _network(load_bundle(path).network, f"model folder {path}", None)
            found.lines.append(verified)
            return found
        return _dataset(path, verify=verify, luminosity=luminosity)
    if not path.exists():
        raise DataError(f"there is no {path}")
    return _card(path) if path.suffix in {".yaml", ".yml"} else _file(str(path))


# ---- networks ---------------------------------------------------------------------------------


def _network(network: MultiScaleClassifier, title: str, chart: Path | None) -> Found:
    """The layer table of a network; its flow chart, where a file is named, is drawn anew."""
    summary = summarise(network)
    found = Found([layer_table(summary, title)])
    if chart is not None:
        try:
            write_whole(chart, flow_chart(summary))
            found.lines.append(f"flow chart: {chart}")
        except RunError as error:  # a folder of somebody else's can be looked into all the same
            found.lines.append(f"no flow chart: {error}")
    return found


def _verify(model: Path) -> str:
    """Check a model folder against its checksums.json; say that it fits, or raise RunError."""
    if not (model / CHECKSUMS).is_file():
        return f"{model} has no {CHECKSUMS}: an older manyscale wrote it, nothing can be verified"
    if changed := changed_files(model):
        raise RunError(f"{model} is not as it was written: {'; '.join(changed)}")
    return f"every file of {model} has the checksum that {CHECKSUMS} says"


def _run(folder: RunFolder) -> Found:
    path = folder.root
    if not folder.model.is_dir():
        preset = folder.read_card().preset
        resuming = f"`manyscale train {folder.card} --out {path} --resume` resumes it"
        return Found(lines=[f"run {path} of preset {preset}: not trained to its end", resuming])
    verified = _verify(folder.model)
    found = _network(load_bundle(folder.model).network, f"run {path}", folder.flow_chart)
    found.lines.append(verified)
    if folder.metrics.is_file():
        metrics = folder.read_metrics()
        error = "" if metrics.auc_error is None else f" ± {metrics.auc_error:.4f}"
        line = f"test AUC {metrics.auc:.4f}{error} on {metrics.n_events} events"
        for name, one in metrics.classifiers.items():
            line += "" if name == "network" else f"; {name} {one.auc:.4f}"
        found.lines.append(line)
    return found


def _card(path: Path) -> Found:
    card = load_card(path)
    try:
        schema = open_data(card, most=card.data.max_events).schema
    except ManyscaleError as error:
        return Found(
            lines=[f"card {path} is valid, preset {card.preset}", f"no network yet: {error}"]
        )
    title = f"card {path}, preset {card.preset}"
    return _network(build_model(card, schema), title, path.with_suffix(".svg"))


# ---- datasets ---------------------------------------------------------------------------------


def _dataset(path: Path, *, verify: bool, luminosity: float) -> Found:
    missing = _finish(path)
    if verify and (faults := manifest.verify(path)):
        raise DataError("\n".join(faults))
    if missing and not (path / MANIFEST).is_file():
        return Found(lines=[f"dataset {path}: not complete", *missing])
    dataset = Dataset.open(path)
    schema = dataset.schema
    streams = [[of.name, ", ".join(of.columns), ", ".join(of.axis)] for of in schema.streams]
    counts, sums = dataset.process_counts, dataset.process_weights
    # Kish's number: so many events of equal weights have the same relative error.
    effective = [a**2 / b if b else 0 for a, b in zip(sums, dataset.process_weights2, strict=True)]
    further = {
        "in the dataset": [f"{counts[process.name]:,}" for process in schema.processes],
        "effective": [f"{number:,.0f}" for number in effective],
        f"expected at {luminosity:g} fb^-1": [
            f"{total * normalisation(process, luminosity):,.4g}"
            if process.cross_section is not None and (process.sum_weights or 0) > 0
            else "unknown"
            for process, total in zip(schema.processes, sums, strict=True)
        ],
    }
    found = Found(
        [
            Table("streams", ["stream", "columns of a token", "once an event"], streams),
            process_table(schema.processes, further),
            mix_table(dataset.mix),
        ]
    )
    if any(process.cutflow for process in schema.processes):
        found.tables.append(cutflow_table(schema.processes, luminosity))
    found.lines.append(f"dataset {path}: {len(dataset)} events")
    # What is missing is said below, unit by unit.
    found.lines += [line for line in dataset.notices if line not in missing_notices(path)]
    if schema.observables:
        found.lines.append(f"observables: {', '.join(schema.observables)}")
    if len(schema.weights) > 1:
        found.lines.append(f"varied weights: {', '.join(schema.weights[1:])}")
    if verify:
        found.lines.append("every part has the size and checksum that dataset.json says")
    found.lines += missing
    return found


def _finish(path: Path) -> list[str]:
    """Bring dataset.json up to date with what others have made; say what is missing still."""
    lines = []
    for call in unfinished(path):
        units = call.missing
        lines.append(f"{len(units)} of {call.total} units are missing:")
        lines += [f"  unit {number}: {what}" for number, what in units[:_NAMED]]
        if len(units) > _NAMED:
            lines.append(f"  and {len(units) - _NAMED} more, the last of them unit {units[-1][0]}")
        lines.append(f"`{call.again}` makes them; --units A:B a share of them")
    if find_sources(path) and manifest.has_parts(path) and not manifest.is_merged(path):
        try:
            manifest.merge(path)
        except DataError as error:
            lines.append(f"dataset.json is not brought up to date: {error}")
    return lines


# ---- files of events --------------------------------------------------------------------------


def _file(path: str) -> Found:
    kind = recognise(path)
    if kind == "list":
        files = expand([path])
        return Found(lines=[f"{path} is a list of {len(files)} files", *files[:_NAMED]])
    if kind != "npz":
        return _events(path, kind)
    found, rows = Found(), []
    for name, array in open_npz(Path(path)).items():
        try:
            rows.append([name, *(f"{size:,}" for size in array.shape)])
        except DataError as error:
            found.lines.append(f"no stream: {error}")
    if rows:
        header = ["array", "events", "tokens at most", "columns"]
        found.tables.append(Table(f"npz file {path}", header, rows))
    if found.lines:
        try:
            named = _events(path, kind)
        except ManyscaleError as error:  # what reads named arrays is an extra
            found.lines.append(str(error))
        else:
            found.tables += named.tables
            found.lines += named.lines
    return found


def _events(path: str, kind: Format) -> Found:
    """All streams that a file can give; of one that is as none here, its trees or groups."""
    from manyscale.events.files.readers import choose_reader  # noqa: PLC0415 - extras

    columns = ("d0", "dz") if kind == "ROOT" else ()
    everything = GenerateSettings.model_validate({"streams": tuple(STREAMS), "columns": columns})
    try:
        return _described(path, choose_reader(path, kind, everything, ConvertSettings()).look(path))
    except DataError as error:
        if kind not in {"ROOT", "HDF5"}:
            raise
        unknown = error

    from manyscale.events.files.ntuple import NtupleReader  # noqa: PLC0415 - extras
    from manyscale.events.files.reader import NoEventsError  # noqa: PLC0415
    from manyscale.events.files.tables import table_names  # noqa: PLC0415

    found = Found()
    for name in table_names(path):
        try:
            contents = NtupleReader(ConvertSettings(tree=name)).look(path)
        except NoEventsError as error:
            found.lines.append(str(error))
            continue
        except DataError:  # damaged, as the first error says better
            raise unknown from None
        tree = _described(f"{path}, {name}", contents)
        found.tables += tree.tables
        found.lines += tree.lines[:1]
    if not found.tables:
        raise unknown
    found.lines += [str(unknown), "a card's convert.branches can map the branches to streams"]
    return found


def _described(path: str, contents: "Contents") -> Found:
    found = Found()
    if contents.rows:
        header = ["what is there", "type or number", "what it is used for"]
        found.tables.append(Table(path, header, [list(row) for row in contents.rows]))
    found.lines.append(f"{path}: {contents.title}, {contents.entries:,} events")
    for name, layout in contents.streams.items():
        axis = f"; once an event {', '.join(layout.axis)}" if layout.axis else ""
        found.lines.append(f"gives {name}: {', '.join(layout.columns)}{axis}")
    found.lines += [f"no {name}: {why}" for name, why in contents.missing.items()]
    found.lines += contents.remarks
    return found

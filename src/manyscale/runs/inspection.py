"""What is in a path: a dataset, a run, a model folder, a card, a file of events."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from manyscale.card import load_card
from manyscale.data import manifest
from manyscale.data.dataset import Dataset
from manyscale.data.npy import open_npz
from manyscale.data.parts import MANIFEST
from manyscale.data.plans import PLANS, find_plans, missing_units
from manyscale.data.schema import Process, StreamSchema
from manyscale.deployment.bundle import load_bundle
from manyscale.errors import DataError, ManyscaleError
from manyscale.evaluation.yields import normalisation
from manyscale.events.files.convert_settings import ConvertSettings
from manyscale.events.files.formats import Format, expand, recognise
from manyscale.events.record import STREAMS
from manyscale.events.settings import GenerateSettings
from manyscale.features.registry import describe
from manyscale.model.classifier import MultiScaleClassifier
from manyscale.model.summary import Summary, summarise
from manyscale.reporting.flow_chart import flow_chart
from manyscale.runs.building import build_model, open_data
from manyscale.runs.folder import RunFolder, read_metrics

if TYPE_CHECKING:
    from manyscale.events.files.source import Contents

__all__ = ["LUMINOSITY", "Found", "Rows", "cutflow_table", "inspect_path", "known_features"]

#: fb^-1, where none is given.
LUMINOSITY = 3000.0

_CARD_ENDINGS = {".yaml", ".yml"}
_NAMED = 5


@dataclass(frozen=True)
class Rows:
    """A table to print."""

    title: str
    header: list[str]
    rows: list[list[str]]


@dataclass
class Found:
    """What an inspection found: tables, then lines."""

    tables: list[Rows] = field(default_factory=list)
    lines: list[str] = field(default_factory=list)


def known_features() -> Found:
    """Every column and feature that manyscale knows."""
    rows = [list(row) for row in describe()]
    return Found(
        [
            Rows(
                "columns and features",
                ["kind", "name", "unit", "what it is", "computed from, or codes"],
                rows,
            )
        ]
    )


def inspect_path(
    path: Path | str, *, verify: bool = False, luminosity: float = LUMINOSITY
) -> Found:
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
            return _run(path)
        if (path / "config.json").is_file():
            return _network(load_bundle(path).network, f"model folder {path}")
        return _dataset(path, verify=verify, luminosity=luminosity)
    if not path.exists():
        raise DataError(f"there is no {path}")
    return _card(path) if path.suffix in _CARD_ENDINGS else _file(str(path))


def _network(network: MultiScaleClassifier, title: str) -> Found:
    return Found([layer_table(summarise(network), title)])


def layer_table(summary: Summary, title: str) -> Rows:
    """The layer table of a network."""
    rows = [
        [
            block.name,
            "; ".join(block.lines),
            block.output,
            f"as {block.shared_with}" if block.shared_with else f"{block.parameters:,}",
        ]
        for block in summary.blocks
    ]
    rows.append(["all", "", "", f"{summary.parameters:,}"])
    return Rows(title, ["block", "what it does", "shape of an event", "parameters"], rows)


def _run(path: Path) -> Found:
    folder = RunFolder(path)
    if not folder.model.is_dir():
        card = load_card(folder.card)
        found = Found(lines=[f"run {path} of preset {card.preset}: not trained to its end"])
        found.lines.append(f"`manyscale train {folder.card} --out {path} --resume` goes on")
        return found
    network = load_bundle(folder.model).network
    found = _network(network, f"run {path}")
    found.lines.append(_write_chart(summarise(network), folder.flow_chart))
    if folder.metrics.is_file():
        metrics = read_metrics(folder)
        error = metrics["auc_error"]
        found.lines.append(
            f"test AUC {metrics['auc']:.4f}"
            + ("" if error is None else f" ± {error:.4f}")
            + f" on {metrics['n_events']} events; trees {metrics['trees']['auc']:.4f}"
        )
    return found


def _write_chart(summary: Summary, path: Path) -> str:
    try:
        path.write_text(flow_chart(summary), encoding="utf-8")
    except OSError as error:
        return f"no flow chart: {error}"
    return f"flow chart: {path}"


def _card(path: Path) -> Found:
    card = load_card(path)
    try:
        schema = open_data(card, most=card.data.max_events).schema
    except ManyscaleError as error:
        return Found(
            lines=[f"card {path} is valid, preset {card.preset}", f"no network yet: {error}"]
        )
    network = build_model(card, schema)
    found = _network(network, f"card {path}, preset {card.preset}")
    found.lines.append(_write_chart(summarise(network), path.with_suffix(".svg")))
    return found


def _streams(streams: tuple[StreamSchema, ...]) -> Rows:
    rows = [[stream.name, ", ".join(stream.columns), ", ".join(stream.axis)] for stream in streams]
    return Rows("streams", ["stream", "columns of a token", "once an event"], rows)


def _processes(dataset: Dataset, luminosity: float) -> Rows:
    accepted = dataset.process_counts
    sums, squares = dataset.process_weights, dataset.process_weights2
    rows = []
    for place, process in enumerate(dataset.schema.processes):
        known = _is_normalised(process)
        expected = sums[place] * normalisation(process, luminosity) if known else None
        effective = sums[place] ** 2 / squares[place] if squares[place] else 0.0
        rows.append(
            [
                process.name,
                process.label,
                _or_unknown(process.cross_section, ".4g"),
                f"{process.generated:,}",
                _or_unknown(process.sum_weights, ",.6g"),
                f"{accepted[process.name]:,}",
                f"{effective:,.0f}",
                _or_unknown(expected, ",.4g"),
            ]
        )
    header = ["process", "class", "cross section [pb]", "generated", "sum of weights"]
    header += ["in the dataset", "effective", f"expected at {luminosity:g} fb^-1"]
    return Rows("processes", header, rows)


def cutflow_table(processes: Sequence[Process], luminosity: float = LUMINOSITY) -> Rows:
    """How much of each process passed each step: events, weights, expected events."""
    rows = []
    for process in processes:
        scale = normalisation(process, luminosity) if _is_normalised(process) else None
        rows += [
            [
                process.name,
                step.step,
                f"{step.events:,}",
                f"{step.sum_weights:,.6g}",
                "unknown" if scale is None else f"{step.sum_weights * scale:,.4g}",
            ]
            for step in process.cutflow
        ]
    header = ["process", "step", "events", "sum of weights", f"expected at {luminosity:g} fb^-1"]
    return Rows("cutflow", header, rows)


def _is_normalised(process: Process) -> bool:
    return process.cross_section is not None and (process.sum_weights or 0) > 0


def _or_unknown(value: float | None, form: str) -> str:
    return "unknown" if value is None else f"{value:{form}}"


def _dataset(path: Path, *, verify: bool, luminosity: float) -> Found:
    missing = _finish(path)
    if verify and (faults := manifest.verify(path)):
        raise DataError("\n".join(faults))
    if missing and not (path / MANIFEST).is_file():
        return Found(lines=[f"dataset {path}: not complete", *missing])
    dataset = Dataset.open(path)
    found = Found([_streams(dataset.schema.streams)])
    found.tables.append(_processes(dataset, luminosity))
    if any(process.cutflow for process in dataset.schema.processes):
        found.tables.append(cutflow_table(dataset.schema.processes, luminosity))
    found.lines.append(f"dataset {path}: {len(dataset)} events")
    if dataset.schema.observables:
        found.lines.append(f"observables: {', '.join(dataset.schema.observables)}")
    if len(dataset.schema.weights) > 1:
        found.lines.append(f"varied weights: {', '.join(dataset.schema.weights[1:])}")
    if verify:
        found.lines.append("every part has the size and checksum that dataset.json says")
    found.lines.extend(missing)
    return found


def _finish(path: Path) -> list[str]:
    """Bring dataset.json up to date with what others have made; say what is missing still."""
    lines = []
    for plan, units in missing_units(path, find_plans(path)):
        lines.append(f"{len(units)} of {len(plan.units)} units are missing:")
        lines += [f"  unit {at}: {plan.units[at].what}" for at in units[:_NAMED]]
        if len(units) > _NAMED:
            lines.append(f"  and {len(units) - _NAMED} more, the last of them unit {units[-1]}")
        lines.append(f"`{plan.again}` makes them; --units A:B a share of them")
    if (path / PLANS).is_dir() and manifest.has_parts(path) and not manifest.is_merged(path):
        try:
            manifest.merge(path)
        except DataError as error:
            lines.append(f"dataset.json is not brought up to date: {error}")
    return lines


def _file(path: str) -> Found:
    kind = recognise(path)
    if kind == "npz":
        return _npz(Path(path))
    if kind == "list":
        files = expand([path])
        return Found(lines=[f"{path} is a list of {len(files)} files", *files[:_NAMED]])
    return _events(path, kind)


def _events(path: str, kind: Format) -> Found:
    """All streams that a file can give; of a ROOT file that is as none here, the trees."""
    from manyscale.events.files.readers import choose_reader  # noqa: PLC0415  # extras

    columns = ("d0", "dz") if kind == "ROOT" else ()
    everything = GenerateSettings.model_validate({"streams": tuple(STREAMS), "columns": columns})
    try:
        contents = choose_reader(path, kind, everything, ConvertSettings()).look(path)
    except DataError as error:
        if kind != "ROOT":
            raise
        return _trees(path, error)
    return _described(path, contents)


def _trees(path: str, error: DataError) -> Found:
    from manyscale.events.files.ntuple import NtupleReader  # noqa: PLC0415  # extras
    from manyscale.events.files.root_files import open_root, tree_names  # noqa: PLC0415

    with open_root(path) as file:
        names = tree_names(file)
    found = Found()
    for name in names:
        try:
            contents = NtupleReader(ConvertSettings(tree=name)).look(path)
        except DataError:  # damaged, as the first error says better
            raise error from None
        tree = _described(f"{path}, {name}", contents)
        found.tables += tree.tables
        found.lines += tree.lines[:1]
    if not names:
        raise error
    found.lines += [str(error), "a card's convert.branches can map the branches to streams"]
    return found


def _described(path: str, contents: "Contents") -> Found:
    found = Found()
    if contents.rows:
        header = ["what is there", "type or number", "what it is used for"]
        found.tables.append(Rows(path, header, [list(row) for row in contents.rows]))
    found.lines.append(f"{path}: {contents.title}, {contents.entries:,} events")
    for name, layout in contents.streams.items():
        axis = f"; once an event {', '.join(layout.axis)}" if layout.axis else ""
        found.lines.append(f"gives {name}: {', '.join(layout.columns)}{axis}")
    found.lines.extend(f"no {name}: {why}" for name, why in contents.missing.items())
    found.lines.extend(contents.remarks)
    return found


def _npz(path: Path) -> Found:
    found = Found()
    rows = []
    for name, array in open_npz(path).items():
        try:
            rows.append([name, *(f"{size:,}" for size in array.shape)])
        except DataError as error:
            found.lines.append(f"no stream: {error}")
    if rows:
        header = ["array", "events", "tokens at most", "columns"]
        found.tables.append(Rows(f"npz file {path}", header, rows))
    return found

"""What is in a path: a dataset, a run, a model folder, a card, an npz file."""

from dataclasses import dataclass, field
from pathlib import Path

from manyscale.card import load_card
from manyscale.data import manifest
from manyscale.data.dataset import Dataset
from manyscale.data.npy import open_npz
from manyscale.data.schema import Schema, StreamSchema
from manyscale.deployment.bundle import load_bundle
from manyscale.errors import DataError, ManyscaleError
from manyscale.features.registry import describe
from manyscale.model.classifier import MultiScaleClassifier
from manyscale.model.summary import Summary, summarise
from manyscale.reporting.flow_chart import flow_chart
from manyscale.runs.building import build_model, open_data
from manyscale.runs.folder import RunFolder, read_metrics

__all__ = ["Found", "Rows", "inspect_path", "known_features"]

_CARD_ENDINGS = {".yaml", ".yml"}


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


def inspect_path(path: Path | str, *, verify: bool = False) -> Found:
    """Look into a path.

    Parameters
    ----------
    path
        A dataset, a run, a model folder, a card or an npz file.
    verify
        Read every part of a dataset and check its size and checksum.

    Raises
    ------
    ManyscaleError
        Where the path is none of these, or is damaged.
    """
    path = Path(path)
    if path.is_dir():
        if RunFolder(path).card.is_file():
            return _run(path)
        if (path / "config.json").is_file():
            return _network(load_bundle(path).network, f"model folder {path}")
        return _dataset(path, verify=verify)
    if not path.exists():
        raise DataError(f"there is no {path}")
    if path.suffix in _CARD_ENDINGS:
        return _card(path)
    try:
        return _npz(path)
    except DataError as error:
        raise DataError(
            f"{error} (inspect reads datasets, runs, model folders, cards ending in .yaml, and npz)"
        ) from error


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


def _processes(schema: Schema, accepted: dict[str, int]) -> Rows:
    rows = [
        [
            process.name,
            process.label,
            "unknown" if process.cross_section is None else f"{process.cross_section:.4g}",
            f"{process.generated:,}",
            "unknown" if process.sum_weights is None else f"{process.sum_weights:,.6g}",
            f"{accepted[process.name]:,}",
        ]
        for process in schema.processes
    ]
    header = ["process", "class", "cross section [pb]", "generated", "sum of weights"]
    return Rows("processes", [*header, "in the dataset"], rows)


def _dataset(path: Path, *, verify: bool) -> Found:
    if verify and (faults := manifest.verify(path)):
        raise DataError("\n".join(faults))
    dataset = Dataset.open(path)
    found = Found([_streams(dataset.schema.streams)])
    found.tables.append(_processes(dataset.schema, dataset.process_counts))
    found.lines.append(f"dataset {path}: {len(dataset)} events")
    if dataset.schema.observables:
        found.lines.append(f"observables: {', '.join(dataset.schema.observables)}")
    if verify:
        found.lines.append("every part has the size and checksum that dataset.json says")
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

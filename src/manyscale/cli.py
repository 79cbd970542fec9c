"""The command line: parses, calls, prints. Each command is a few lines over `manyscale.runs`."""

# Heavy parts are imported where they are used, so that `manyscale --help` is quick.

import os
import sys
import traceback
import warnings
from itertools import pairwise
from pathlib import Path
from typing import Annotated, Literal

import typer

from manyscale import __version__, interrupts
from manyscale.errors import ManyscaleError, printable
from manyscale.progress import show
from manyscale.writing import disk_errors

__all__ = ["app", "main"]

_DEBUG = "--debug"
_INTERRUPTED = 130

app = typer.Typer(
    name="manyscale",
    help="Collision events to an interpretable classifier, by a multi-scale transformer.",
    epilog="Any command with --debug shows the traceback of a failure.",
    no_args_is_help=True,
    rich_markup_mode=None,  # rich takes as long to import as all else
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 120},
)

Run = Annotated[Path, typer.Argument(metavar="RUN", help="folder of a trained run")]
Changes = Annotated[
    list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="change a key of the card")
]
Data = Annotated[Path | None, typer.Option(help="another dataset, all of it taken as test events")]
Luminosity = Annotated[float | None, typer.Option(metavar="FB", help="in fb^-1")]
CrossSections = Annotated[
    list[str] | None,
    typer.Option("--cross-section", metavar="PROCESS=PB", help="in pb; one for each process"),
]
Plots = Annotated[
    bool, typer.Option("--plots/--no-plots", help="draw them now, or leave it to manyscale report")
]
Where = Literal["auto", "cpu", "cuda"]
Device = Annotated[Where, typer.Option(help="where to score; auto: a GPU if there is one")]
TrainingDevice = Annotated[Where | None, typer.Option(help="instead of the card's accelerator")]
Workers = Annotated[
    int | None, typer.Option(min=1, help="processes; without it, one for each core")
]
Cluster = Annotated[
    str | None,
    typer.Option(metavar="ADDRESS", help="dask scheduler, tcp://host:8786, whose workers to use"),
]
Units = Annotated[
    str | None, typer.Option(metavar="A:B", help="do the units from A up to, but not with, B alone")
]


def main() -> None:
    """Run the command line; exit with 0 done, 1 failed, 2 bad usage, 75 or 130 interrupted.

    130 after Ctrl-C; after SIGTERM or SIGUSR1 `interrupts.RESUMABLE`: the same command goes on.
    """
    # Threads that wait for each other sleep instead of spinning: on a core shared with another
    # program spinning halves the rate, on a free one sleeping costs a tenth.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    arguments = [argument for argument in sys.argv[1:] if argument != _DEBUG]
    debug = len(arguments) < len(sys.argv) - 1
    ended = interrupts.obey()
    # Those of libraries look like ours.
    warnings.showwarning = lambda message, *_: typer.echo(
        printable(f"warning: {message}"), err=True
    )
    try:
        try:
            app(args=arguments, prog_name="manyscale")
        except OSError as error:
            with disk_errors(_written(arguments, error)):
                raise
        except SystemExit as end:
            if end.code == _INTERRUPTED:
                raise KeyboardInterrupt from None
            raise
    except KeyboardInterrupt:  # the above, or before typer looks out for it
        typer.echo("interrupted", err=True)
        raise SystemExit(interrupts.RESUMABLE if ended else _INTERRUPTED) from None
    except Exception as error:  # noqa: BLE001 - a fault of ours: still one line, and a way to see more
        if debug:
            traceback.print_exc()
        ours = isinstance(error, ManyscaleError)
        said = error if ours else f"{type(error).__name__}: {error} (--debug shows where)"
        typer.echo(printable(f"error: {said}"), err=True)
        # A worker process that the signal reached first may have been noticed before it.
        raise SystemExit(interrupts.RESUMABLE if ended else 1) from None


def _written(arguments: list[str], error: OSError) -> Path | None:
    """Where a command writes, to be named where the system does not say which file it could not."""
    raised_in = Path(traceback.extract_tb(error.__traceback__)[-1].filename).parts
    if {"click", "typer", "rich"} & set(raised_in):  # these print
        return Path("standard output")
    for flag, value in pairwise(arguments):
        if flag == "--out":
            return Path(value)
    return Path(arguments[1]) if len(arguments) > 1 else None


def _print_version(asked: bool) -> None:  # noqa: FBT001 - typer calls it
    if asked:
        typer.echo(f"manyscale {__version__}")
        raise typer.Exit


@app.callback()
def _options(
    version: Annotated[
        bool,
        typer.Option("--version", callback=_print_version, is_eager=True, help="print the version"),
    ] = False,
) -> None:
    pass


@app.command(epilog="Example: manyscale card model-2 > card.yaml")
def card(
    preset: Annotated[
        str | None,
        typer.Argument(help="kinematics-only, concatenation, model-1, -2, -3, custom"),
    ] = None,
    from_seed: Annotated[
        Path | None, typer.Option(help="translate an input.py of the seed package")
    ] = None,
    full: Annotated[
        bool, typer.Option("--full", help="every key, not those alone that people change")
    ] = False,
) -> None:
    """Print a commented card."""
    from manyscale.card import card_text, check_preset, preset_card_text
    from manyscale.card.seed_input import translate_seed

    if (preset is None) == (from_seed is None):
        raise typer.BadParameter("give either a preset or --from-seed FILE")
    if preset is not None:
        text = preset_card_text(check_preset(preset), full=full)
    elif from_seed is not None:
        found = translate_seed(from_seed)
        for remark in found.remarks:
            typer.echo(f"warning: {remark}", err=True)
        text = card_text(found.card, f"manyscale card, from {from_seed}", full=full)
    typer.echo(text, nl=False)


@app.command(epilog="Example: manyscale demo --out runs/demo")
def demo(
    out: Annotated[Path, typer.Option(help="folder of the run")] = Path("runs/demo"),
    workers: Workers = None,
) -> None:
    """Make events, train, evaluate and report: the whole way at once."""
    from manyscale.console import print_comparison
    from manyscale.runs.demo import run_demo

    show()
    print_comparison(run_demo(out, workers=workers))
    typer.echo(f"report: {out / 'report.html'}")


@app.command(epilog="Example: manyscale generate card.yaml --out data/hh4b --workers 2")
def generate(
    card: Annotated[Path | None, typer.Argument(help="card; without it, the defaults")] = None,
    *,
    out: Annotated[Path, typer.Option(help="dataset folder")],
    workers: Workers = None,
    cluster: Cluster = None,
    units: Units = None,
    changes: Changes = None,
) -> None:
    """Make events with Pythia 8, a parametrised detector and anti-kT jets."""
    from manyscale.card import load_card, parse_card
    from manyscale.console import print_cutflow
    from manyscale.runs.generate import generate_dataset, parse_share

    show()
    chosen = load_card(card, changes or []) if card else parse_card("", "defaults", changes or [])
    share = parse_share(units) if units else None
    dataset = generate_dataset(chosen, out, workers=workers, cluster=cluster, share=share)
    print_cutflow(dataset.schema.processes)
    typer.echo(f"dataset: {out}")


@app.command(epilog="Example: manyscale convert *.root --process ttbar --out data/mine")
def convert(
    files: Annotated[
        list[str],
        typer.Argument(
            metavar="FILE...",
            help="files of one format, lists of files; of npz several streams as jet1=a.npz ...",
        ),
    ],
    out: Annotated[Path, typer.Option(help="dataset folder, new or to be added to")],
    label: Annotated[
        Literal["signal", "background"] | None, typer.Option(help="class of the events")
    ] = None,
    process: Annotated[str | None, typer.Option(help="name of the process")] = None,
    card: Annotated[
        Path | None, typer.Option(help="card with cuts, streams, branches, columns of npz")
    ] = None,
    cross_section: Annotated[
        float | None, typer.Option(metavar="PB", help="cross section in pb")
    ] = None,
    weights: Annotated[
        str | None, typer.Option(metavar="NAME", help="branch of the event weights")
    ] = None,
    sum_weights: Annotated[float | None, typer.Option(help="sum of the generated weights")] = None,
    workers: Workers = None,
    cluster: Cluster = None,
    units: Units = None,
) -> None:
    """Add the events of files to a dataset: Delphes, NanoAOD, ntuples, HepMC, LHE, npz."""
    from manyscale.console import print_cutflow
    from manyscale.runs.convert import Request, convert_files
    from manyscale.runs.generate import parse_share

    show()
    request = Request(label, process, cross_section, sum_weights, weights)
    share = parse_share(units) if units else None
    added = convert_files(
        files, out, request, card=card, workers=workers, cluster=cluster, share=share
    )
    if added.processes:
        print_cutflow(added.processes)
    typer.echo(added.said)


@app.command(epilog="Example: manyscale inspect data/hh4b")
def inspect(
    path: Annotated[
        str | None, typer.Argument(help="dataset, run, model folder, card, or a file of events")
    ] = None,
    features: Annotated[
        bool, typer.Option("--features", help="print all known columns and features")
    ] = False,
    verify: Annotated[
        bool, typer.Option("--verify", help="check the checksums of a dataset")
    ] = False,
    luminosity: Annotated[
        float, typer.Option(metavar="FB", min=0, help="of the expected events, in fb^-1")
    ] = 3000.0,
) -> None:
    """Say what is in a dataset, a run, a card or a file."""
    from manyscale.console import print_table
    from manyscale.runs.inspect import inspect_path, known_features

    if features == (path is not None):
        raise typer.BadParameter("give either a PATH or --features")
    if path is None:
        found = known_features()
    else:
        found = inspect_path(path, verify=verify, luminosity=luminosity)
    print_table(*found.tables)
    for line in found.lines:
        typer.echo(line)


@app.command(epilog="Example: manyscale train card.yaml --out runs/first --set training.epochs=5")
def train(
    card: Annotated[Path, typer.Argument(help="card that says all of the run")],
    out: Annotated[Path, typer.Option(help="folder of the run")],
    changes: Changes = None,
    resume: Annotated[bool, typer.Option("--resume", help="resume a run that was ended")] = False,
    device: TrainingDevice = None,
    *,
    plots: Plots = True,
) -> None:
    """Train a network and the trees beside it, evaluate both on the test events, report."""
    from manyscale.card import load_card
    from manyscale.console import print_metrics
    from manyscale.runs.train import whole_run

    show()
    chosen = load_card(card, changes or [])
    chosen = chosen.on_device(device) if device else chosen
    metrics = whole_run(chosen, out, resume=resume, plots=plots)
    if metrics:  # only the first of several processes has them
        print_metrics(metrics)
        typer.echo(f"report: {out / 'report.html'}")


@app.command(epilog="Example: manyscale pretrain card.yaml --out runs/base")
def pretrain(
    card: Annotated[Path, typer.Argument(help="card of data with several processes")],
    out: Annotated[Path, typer.Option(help="folder of the base")],
    changes: Changes = None,
    resume: Annotated[bool, typer.Option("--resume", help="resume a call that was ended")] = False,
    device: TrainingDevice = None,
) -> None:
    """Train a base, from which other trainings start: one class a process of the data."""
    from manyscale.card import load_card
    from manyscale.runs.pretrain import pretrain_base

    show()
    chosen = load_card(card, changes or [])
    pretrain_base(chosen.on_device(device) if device else chosen, out, resume=resume)
    typer.echo(f"base: {out}; start from it by training.start: {out}")


def _cross_sections(given: list[str]) -> dict[str, float]:
    found = {}
    for one in given:
        name, _, number = one.partition("=")
        try:
            found[name] = float(number)
        except ValueError:
            raise typer.BadParameter(f"--cross-section {one}: write it as ttbar=832") from None
    return found


@app.command(epilog="Example: manyscale evaluate runs/first --luminosity 300")
def evaluate(
    run: Run,
    data: Data = None,
    luminosity: Luminosity = None,
    cross_section: CrossSections = None,
    device: Device = "auto",
    *,
    plots: Plots = True,
) -> None:
    """Evaluate a run on its test events: metrics.json, scores, plots and report."""
    from manyscale.console import print_metrics
    from manyscale.reporting.report import write_report
    from manyscale.runs.evaluate import evaluate_run

    show()
    stated = _cross_sections(cross_section or [])
    metrics = evaluate_run(
        run, data=data, luminosity=luminosity, cross_sections=stated, device=device, plots=plots
    )
    print_metrics(metrics)
    typer.echo(f"report: {write_report(run)}")


@app.command(epilog="Example: manyscale limits runs/first --luminosity 3000")
def limits(
    run: Run,
    data: Data = None,
    luminosity: Luminosity = None,
    cross_section: CrossSections = None,
    device: Device = "auto",
) -> None:
    """Expected limits and significance from the scores: workspaces for pyhf, plots and report."""
    from manyscale.console import print_limits
    from manyscale.reporting.report import write_report
    from manyscale.runs.limits import limits_run

    show()
    stated = _cross_sections(cross_section or [])
    print_limits(
        limits_run(run, data=data, luminosity=luminosity, cross_sections=stated, device=device)
    )
    typer.echo(f"report: {write_report(run)}")


@app.command(epilog="Example: manyscale explain runs/first --display 60")
def explain(
    run: Run,
    data: Data = None,
    events: Annotated[
        int, typer.Option(min=2, help="test events of the maps at most, half of each class")
    ] = 5000,
    display: Annotated[int, typer.Option(min=0, help="events to step through in the report")] = 30,
    device: Device = "auto",
) -> None:
    """What a run attends to and what moves its score: maps, Grad-CAM, ablations, event display."""
    from manyscale.console import print_explanation
    from manyscale.reporting.report import write_report
    from manyscale.runs.explain import explain_run

    show()
    print_explanation(explain_run(run, data=data, events=events, display=display, device=device))
    typer.echo(f"report: {write_report(run)}")


@app.command(epilog="Example: manyscale predict runs/first *.root --out scores.root --friend-of")
def predict(
    run: Run,
    source: Annotated[
        list[str],
        typer.Argument(
            metavar="INPUT...",
            help="dataset folder, npz, or files of one format that convert reads",
        ),
    ],
    out: Annotated[Path, typer.Option(help="scores: ends in .npz, .parquet or .root")],
    friend: Annotated[
        bool,
        typer.Option("--friend-of", help="scores alone, as a friend tree of the input's trees"),
    ] = False,
    workers: Workers = None,
    cluster: Cluster = None,
    device: Device = "auto",
) -> None:
    """Score every event of a dataset or of files."""
    from manyscale.runs.predict import predict_run

    show()
    events = predict_run(
        run, source, out, friend=friend, workers=workers, cluster=cluster, device=device
    )
    typer.echo(f"scores of {events} events: {out}")


@app.command(epilog="Example: manyscale export runs/first --out model.onnx")
def export(run: Run, out: Annotated[Path, typer.Option(help="the model: ends in .onnx")]) -> None:
    """Write the network of a run as ONNX, features inside, compared with it on its test events."""
    from manyscale.runs.export import export_run

    difference, events = export_run(run, out)
    typer.echo(
        f"{out}: largest difference to the network {difference:.1e}, on {events} test events"
    )


@app.command(epilog="Example: manyscale compare a.yaml b.yaml --out runs/both --folds 5")
def compare(
    cards: Annotated[list[Path], typer.Argument(metavar="CARD...", help="cards, one a model")],
    out: Annotated[Path, typer.Option(help="folder for the runs, their table and report")],
    folds: Annotated[
        int | None, typer.Option(min=2, help="trainings of each card, each event tested in one")
    ] = None,
    seeds: Annotated[
        int, typer.Option(min=1, help="trainings of each card, with other seeds and splits")
    ] = 1,
    sizes: Annotated[
        str | None, typer.Option(metavar="N,N,...", help="training events: learning curves")
    ] = None,
    target: Annotated[
        float | None,
        typer.Option(min=1, help="rejection at 0.70 for which to say the events it takes"),
    ] = None,
    workers: Annotated[
        int | None,
        typer.Option(min=1, help="trainings side by side; without it, one a core or GPU"),
    ] = None,
    changes: Changes = None,
    device: TrainingDevice = None,
) -> None:
    """Train several cards on the same events: one table with paired errors, trees beside."""
    from manyscale.card import load_card
    from manyscale.console import print_comparison
    from manyscale.reporting.comparison import read_curves
    from manyscale.runs.compare import compare_cards

    show()
    if folds is not None and seeds > 1:
        raise typer.BadParameter("give either --folds or --seeds")
    try:
        numbers = [int(size) for size in sizes.split(",")] if sizes else []
    except ValueError:
        numbers = [0]
    if any(number < 1 for number in numbers):
        raise typer.BadParameter(f"--sizes {sizes}: numbers of events, say 1000,5000,20000")
    loaded = {path.stem: load_card(path, changes or []) for path in cards}
    if len(loaded) < len(cards):
        raise typer.BadParameter("two cards have the same file name")
    rows = compare_cards(
        loaded,
        out,
        folds=folds,
        seeds=seeds,
        sizes=numbers,
        target=target,
        workers=workers,
        device=device,
    )
    print_comparison(rows, read_curves(out))
    typer.echo(f"report: {out / 'report.html'}")


@app.command(epilog="Example: manyscale report runs/first")
def report(run: Run) -> None:
    """Write the report of a run anew, with its plots: one self-contained HTML file."""
    from manyscale.runs.plots import report_run

    show()
    typer.echo(f"report: {report_run(run)}")

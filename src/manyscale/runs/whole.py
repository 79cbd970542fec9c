"""The main job: train, evaluate, report; and the demo, which makes its events first."""

from pathlib import Path
from typing import Any

from manyscale.card import Card
from manyscale.card import preset_card
from manyscale.errors import MissingExtraError, RunError
from manyscale.evaluation.systematics import SystematicSettings
from manyscale.model.presets import Preset
from manyscale.progress import Progress, Silent
from manyscale.reporting.report import write_report
from manyscale.runs.comparison import Rows, show_comparison
from manyscale.runs.evaluation import evaluate_run
from manyscale.runs.explanation import explain_run
from manyscale.runs.folder import RunFolder, read_metrics
from manyscale.runs.limits import limits_run
from manyscale.runs.production import generate_dataset
from manyscale.runs.training import train_run
from manyscale.training.devices import process_rank, refuse_launcher

__all__ = ["demo_card", "run_demo", "whole_run"]

# Small enough for a laptop's coffee break, large enough to tell the classifiers apart.
DEMO_EVENTS = 6000
DEMO_EPOCHS = 12

# pb: 10 fb of gg -> H -> hh as a benchmark, times the branching fraction of h -> b bbar squared.
_SIGNAL = 0.01 * 0.582**2

_SYSTEMATICS = {
    "energy_scale": SystematicSettings(energy_scale=0.02),
    "background_rate": SystematicSettings(normalisation=0.1),
}

_BESIDE: tuple[Preset, ...] = ("concatenation", "kinematics-only")


def whole_run(
    card: Card, root: Path | str, *, resume: bool = False, progress: Progress | None = None
) -> dict[str, Any]:
    """Train a card, judge it on its test events and write its report; return metrics.json.

    Of several processes that torchrun or srun has started, all but the first return an empty dict
    as soon as the network is trained.
    """
    folder = RunFolder(Path(root))
    if resume and folder.finished:
        train_run(card, root, resume=True)
        return read_metrics(folder)
    train_run(card, root, resume=resume, progress=progress)
    if process_rank() > 0:
        return {}
    metrics = evaluate_run(root, progress=progress)
    write_report(folder.root)
    return metrics


def demo_card(preset: Preset, dataset: Path) -> Card:
    """The card of a preset on the demo's events: small enough for a laptop."""
    card = preset_card(preset)
    mix = card.generate.processes
    hh4b = mix["hh4b"].model_copy(update={"cross_section": _SIGNAL})
    generated = {"events": DEMO_EVENTS, "processes": {**mix, "hh4b": hh4b}}
    return card.model_copy(
        update={
            "data": card.data.model_copy(update={"dataset": dataset}),
            "generate": card.generate.model_copy(update=generated),
            "evaluation": card.evaluation.model_copy(update={"systematics": _SYSTEMATICS}),
            "training": card.training.model_copy(update={"epochs": DEMO_EPOCHS, "batch_size": 128}),
        }
    )


def run_demo(
    root: Path | str, *, workers: int | None = None, progress: Progress | None = None
) -> Rows:
    """Make events, train Model 2, its rivals and the trees on them, judge and explain, write one report.

    Parameters
    ----------
    root
        The run of Model 2; its events go into `root/data`, the rivals into `root/beside`. A demo
        that was interrupted goes on.

    Returns
    -------
    The rows of the table; see `compare_cards`.

    Raises
    ------
    RunError
        Where the folder holds something that is no demo.
    """
    refuse_launcher("demo")
    progress = progress or Silent()
    root = Path(root)
    if root.is_dir() and any(root.iterdir()) and not (root / "data").is_dir():
        raise RunError(f"{root} holds something that is no demo: name another folder with --out")
    dataset = root / "data"
    main = demo_card("model-2", dataset)
    generate_dataset(main, dataset, workers=workers, progress=progress)
    folders = {"model-2": train_run(main, root, resume=True, progress=progress)}
    evaluate_run(root, progress=progress)
    for preset in _BESIDE:
        place = root / "beside" / preset
        progress.say(preset)
        folders[preset] = train_run(
            demo_card(preset, dataset),
            place,
            resume=True,
            trees_from=folders["model-2"],
            progress=progress,
        )
        evaluate_run(place, progress=progress)
        write_report(place)
    rows = show_comparison(folders, folders["model-2"])
    try:
        limits_run(root, progress=progress)
    except MissingExtraError as error:
        progress.say(f"no limits: {error}")
    explain_run(root, progress=progress)
    write_report(root)
    return rows

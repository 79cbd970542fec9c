"""The demo: makes events, trains Model 2 and its rivals on them, evaluates, explains, reports."""

from pathlib import Path

from manyscale.card import Card, preset_card
from manyscale.data.event_filter import SplitSettings
from manyscale.errors import MissingExtraError, RunError
from manyscale.evaluation.results import ComparisonRow
from manyscale.evaluation.systematics import SystematicSettings
from manyscale.model.presets import Preset
from manyscale.progress import LOG
from manyscale.reporting.report import write_report
from manyscale.runs.compare import show_comparison
from manyscale.runs.evaluate import evaluate_run
from manyscale.runs.explain import explain_run
from manyscale.runs.generate import generate_dataset
from manyscale.runs.limits import limits_run
from manyscale.runs.train import train_run
from manyscale.training.distributed import refuse_launcher

__all__ = ["demo_card", "run_demo"]

# Small enough for a laptop's coffee break, large enough to tell the classifiers apart.
_EVENTS = 6000
_EPOCHS = 12
# More test events than by default: differences of classifiers are to be seen beyond their errors.
_SPLIT = SplitSettings(train=0.6, validation=0.1, test=0.3)
_SYSTEMATICS = {
    "energy_scale": SystematicSettings(energy_scale=0.02),
    "background_rate": SystematicSettings(normalisation=0.1),
}
_RIVALS: tuple[Preset, ...] = ("concatenation", "kinematics-only")


def demo_card(preset: Preset, dataset: Path) -> Card:
    """The card of a preset on the demo's events: small enough for a laptop."""
    card = preset_card(preset)
    return card.model_copy(
        update={
            "data": card.data.model_copy(update={"dataset": dataset, "split": _SPLIT}),
            "generate": card.generate.model_copy(update={"events": _EVENTS}),
            "evaluation": card.evaluation.model_copy(update={"systematics": _SYSTEMATICS}),
            "training": card.training.model_copy(update={"epochs": _EPOCHS, "batch_size": 128}),
        }
    )


def run_demo(root: Path | str, *, workers: int | None = None) -> list[ComparisonRow]:
    """Make events, train Model 2, its rivals and the trees on them, write one report.

    Parameters
    ----------
    root
        The run of Model 2; its events go into `root/data`, the rivals into `root/beside`. A demo
        that was interrupted is resumed.
    workers
        Processes that make the events; without it, one for each core that this process may use.

    Returns
    -------
    The rows of the table; see `compare_cards`.

    Raises
    ------
    RunError
        Where the folder holds something that is no demo.
    """
    refuse_launcher("demo")
    root = Path(root)
    if root.is_dir() and any(root.iterdir()) and not (root / "data").is_dir():
        raise RunError(f"{root} holds something that is no demo: name another folder with --out")
    dataset = root / "data"
    card = demo_card("model-2", dataset)
    generate_dataset(card, dataset, workers=workers)
    main = train_run(card, root, resume=True)
    evaluate_run(root)
    folders = {"model-2": main}
    for preset in _RIVALS:
        LOG.info(preset)
        rival = root / "beside" / preset
        # The same events and columns: the trees would come out the same.
        folders[preset] = train_run(demo_card(preset, dataset), rival, resume=True, trees_from=main)
        evaluate_run(rival)
        write_report(rival)
    rows = show_comparison(folders, main)
    try:
        limits_run(root)
    except MissingExtraError as error:
        LOG.info("no limits: %s", error)
    explain_run(root)
    write_report(root)
    return rows

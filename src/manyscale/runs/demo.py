"""The demo: makes events, trains Model 2 and its rivals on them, evaluates, explains, reports."""

from pathlib import Path

from manyscale.card import Card, preset_card
from manyscale.data.event_filter import SplitSettings
from manyscale.errors import MissingExtraError, RunError
from manyscale.evaluation.results import ComparisonRow, DataFacts
from manyscale.evaluation.systematics import SystematicSettings
from manyscale.events.settings import CutSettings, ProcessSettings
from manyscale.model.presets import Preset
from manyscale.progress import LOG
from manyscale.runs.compare import Job, show_comparison, train_side_by_side
from manyscale.runs.explain import explain_run
from manyscale.runs.folder import RunFolder
from manyscale.runs.generate import generate_by_class
from manyscale.runs.limits import limits_run
from manyscale.runs.plots import report_run
from manyscale.schema import Label
from manyscale.training.distributed import refuse_launcher

__all__ = ["demo_card", "run_demo"]

# Small enough for a laptop's coffee break, large enough to tell the classifiers apart. Most are background:
# yields and limits suffer from too few of those.
_EVENTS: dict[Label, int] = {"background": 90_000, "signal": 10_000}
_EPOCHS = 12
# What is counted above a cut are test events.
_SPLIT = SplitSettings(train=0.4, validation=0.1, test=0.5)
# What passes the b-tags of QCD is mostly gluons that split to b bbar: three times as many are made, with
# weights that make up for it.
_MORE_BOTTOM = ("Enhancements:doEnhance=on", "EnhancedSplittings:List={fsr:G2BB=3}")
_PROCESSES = {
    "hh4b": ProcessSettings(),
    "qcd": ProcessSettings(share=0.85, pythia=_MORE_BOTTOM),
    "qcd_bb": ProcessSettings(share=0.08, pythia=_MORE_BOTTOM),
    "ttbar": ProcessSettings(share=0.05),
    "zz": ProcessSettings(share=0.02),
}
_SYSTEMATICS = {
    "energy_scale": SystematicSettings(energy_scale=0.02),
    "background_rate": SystematicSettings(normalisation=0.1),
}
_MORE = (
    "This is a demo: above the best cut some ten simulated QCD events stand for millions, so that "
    "significance and limits are those of the simulation. They gain about as fast as generate.events "
    "grows; on a GPU the training then takes seconds (docs/choosing.md)."
)
_MAIN: Preset = "model-2"
_RIVALS: tuple[Preset, ...] = ("concatenation", "kinematics-only")


def demo_card(preset: Preset, dataset: Path) -> Card:
    """The card of a preset on the demo's events: small enough for a laptop."""
    card = preset_card(preset)
    generate = {
        "events": _EVENTS["background"],
        # Seven times as many events in the same time.
        "multiparton": False,
        "unit_events": 2500,
        "processes": _PROCESSES,
        "cuts": CutSettings(min_btags=2),
    }
    return card.model_copy(
        update={
            "data": card.data.model_copy(update={"dataset": dataset, "split": _SPLIT}),
            "generate": card.generate.model_copy(update=generate),
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
        Processes that make the events, and networks trained side by side; without it, one for each core
        that this process may use.

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
    generate_by_class(demo_card(_MAIN, dataset), dataset, _EVENTS, workers=workers)
    folders = {_MAIN: root, **{name: root / "beside" / name for name in _RIVALS}}
    # The same events and columns: one training of the trees serves all.
    train_side_by_side(
        [
            Job(name, None, 0, demo_card(name, dataset), folder, root)
            for name, folder in folders.items()
        ],
        workers,
        "auto",
    )
    rows = show_comparison({name: RunFolder(of) for name, of in folders.items()}, RunFolder(root))
    try:
        limits_run(root)
    except MissingExtraError as error:
        LOG.info("no limits: %s", error)
    explain_run(root)
    facts = DataFacts.read(root / "data.json")
    notices = tuple(dict.fromkeys([*facts.notices, _MORE]))
    facts.model_copy(update={"notices": notices}).write(root / "data.json")
    report_run(root)
    return rows

"""Several cards trained on the same events, in one table."""

from collections.abc import Mapping
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from manyscale.card import Card, load_card
from manyscale.deployment.scores import Scores, column_of, read_scores
from manyscale.errors import RunError
from manyscale.evaluation.compare import ClassifierScores, average, compare
from manyscale.evaluation.results import ComparisonRow
from manyscale.progress import LOG
from manyscale.reporting import score_plots
from manyscale.reporting.findings import COMPARISON_PLOT
from manyscale.runs.evaluate import evaluate_run
from manyscale.runs.folder import RunFolder
from manyscale.runs.train import build_model, open_data, train_run
from manyscale.settings import write_json
from manyscale.training.distributed import refuse_launcher

__all__ = ["compare_cards", "show_comparison"]

TABLE = "comparison.json"


def compare_cards(
    cards: Mapping[str, Card], root: Path | str, *, seeds: int = 1, device: str | None = None
) -> list[ComparisonRow]:
    """Train several cards on the same events; evaluate all, and the trees, on the same test events.

    Parameters
    ----------
    cards
        By the name under which each stands in the table; the first is what the others are compared
        with. All must name the same data.
    root
        The runs go into `root/NAME` (with several seeds `root/NAME/seed-S`), the table into
        `root/comparison.json`. Runs that are there already are resumed.
    seeds
        Trainings of each card, with the seeds that follow its own; the table then gives means and
        errors over them.
    device
        auto, cpu or cuda; without it, the networks are trained where their cards say.

    Returns
    -------
    The rows of `manyscale.evaluation.compare.compare`; last those of the trees, and of the first card's
    network and the trees combined.

    Raises
    ------
    RunError
        Where the cards do not test on the same events, or a folder is taken by something else.
    """
    refuse_launcher("compare")
    root = Path(root)
    for taken in {"trees", "combined"} & cards.keys():
        raise RunError(f"a card may not be called '{taken}': the table has a row of that name")
    _check_same_events(cards)
    if root.is_dir() and any(path.name not in {*cards, "data", TABLE} for path in root.iterdir()):
        raise RunError(f"{root} holds something else: name another folder")
    trainings: list[list[ComparisonRow]] = []
    tested: list[NDArray[np.uint64]] = []
    for shift in range(seeds):
        folders: dict[str, RunFolder] = {}
        for name, card in cards.items():
            seeded = card.model_copy(update={"seed": card.seed + shift})
            seeded = seeded if device is None else seeded.on_device(device)
            folder = root / name if seeds == 1 else root / name / f"seed-{seeded.seed}"
            LOG.info("%s, seed %d", name, seeded.seed)
            # Trees see the streams, not the network: one training of them serves all such cards.
            same = (folders[n] for n in folders if cards[n].data.streams == card.data.streams)
            folders[name] = train_run(seeded, folder, resume=True, trees_from=next(same, None))
            evaluate_run(folder, device=device or "auto")
        scores, weights, classifiers = _on_same_events(folders, next(iter(folders.values())))
        trainings.append(compare(scores.columns["label"], weights, classifiers))
        tested.append(scores.columns["event_id"].astype(np.uint64))
    rows = trainings[0] if seeds == 1 else average(trainings, tested)
    write_json(root / TABLE, [row.plain() for row in rows])
    return rows


def show_comparison(folders: Mapping[str, RunFolder], run: RunFolder) -> list[ComparisonRow]:
    """Compare evaluated runs; put table and common ROC where the report of `run` shows them."""
    scores, weights, classifiers = _on_same_events(folders, run)
    label = scores.columns["label"]
    rows = compare(label, weights, classifiers)
    curves = {name: classifier.scores for name, classifier in classifiers.items()}
    write_json(run.root / TABLE, [row.plain() for row in rows])
    score_plots.roc(label, curves, weights).save(run.plots, COMPARISON_PLOT)
    return rows


def _check_same_events(cards: Mapping[str, Card]) -> None:
    """Refuse, before anything is trained, cards that do not train and test on the same events."""
    first, *_ = cards
    # The events of validation may differ: they choose an epoch, and enter no figure.
    ids: dict[str, list[NDArray[np.uint64]]] = {}
    for name, card in cards.items():
        dataset = open_data(card, most=card.data.max_events)
        build_model(card, dataset.schema)
        ids[name] = [part.event_ids for part in (dataset.train, dataset.test)]
        if not all(map(np.array_equal, ids[name], ids[first])):
            raise RunError(
                f"'{name}' would be trained and tested on other events than '{first}': give both "
                f"cards the same data, split, classes and seed"
            )


def _on_same_events(
    folders: Mapping[str, RunFolder], run: RunFolder
) -> tuple[Scores, NDArray[np.float64], dict[str, ClassifierScores]]:
    """Common test events of runs, their class-balanced weights, and all classifiers' scores."""
    scores = {name: read_scores(folder.scores) for name, folder in folders.items()}
    first, *_ = folders
    ids = scores[first].columns["event_id"]
    for name, other in scores.items():
        if not np.array_equal(other.columns["event_id"], ids):
            raise RunError(
                f"'{name}' was tested on other events than '{first}': give both cards the same data, "
                f"split, classes and seed"
            )
    classifiers = {}
    for name, folder in folders.items():
        metrics = folder.read_metrics()
        signal = scores[name].columns["score"].astype(np.float64)
        classifiers[name] = ClassifierScores(signal, metrics.parameters, metrics.events_per_second)
    for name in ("trees", "combined"):
        if (column := column_of(name)) in scores[first].columns:
            beside = scores[first].columns[column].astype(np.float64)
            classifiers[name] = ClassifierScores(beside)
    card = load_card(run.card)
    dataset = open_data(card, most=card.data.max_events)
    # The class-balanced weights follow from the data as they are now, the scores from those of then.
    test = dataset.test.bookkeeping()
    if not np.array_equal(test.event_id, ids):
        raise RunError("the data have changed since the runs were evaluated: evaluate them again")
    return scores[first], dataset.balanced_weights(test), classifiers

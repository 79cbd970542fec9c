"""Several cards trained on the same events, in one table."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from manyscale.card import Card, load_card
from manyscale.deployment.scores import Scores, read_scores
from manyscale.errors import RunError
from manyscale.evaluation.compare import Judged, average, compare
from manyscale.progress import Progress, Silent
from manyscale.reporting import plots
from manyscale.reporting.report import write_comparison
from manyscale.reporting.run_files import ComparisonRow
from manyscale.runs.building import build_model, open_data
from manyscale.runs.evaluation import evaluate_run
from manyscale.runs.folder import RunFolder, read_metrics, write_json
from manyscale.runs.training import train_run
from manyscale.training.devices import refuse_launcher

__all__ = ["Rows", "compare_cards", "compare_runs", "show_comparison"]

TABLE = "comparison.json"

Rows = list[dict[str, Any]]


@dataclass(frozen=True)
class _Together:
    """Several classifiers' scores of the same test events."""

    events: Scores
    classifiers: dict[str, Judged]


def compare_cards(
    cards: Mapping[str, Card],
    root: Path | str,
    *,
    seeds: int = 1,
    progress: Progress | None = None,
) -> Rows:
    """Train several cards on the same events and judge them, and the trees, on the same test events.

    Parameters
    ----------
    cards
        By the name under which each stands in the table; the first is what the others are held
        against. All must name the same data.
    root
        The runs go into `root/NAME` (with several seeds `root/NAME/seed-S`), the table into
        `root/comparison.json`. Runs that are there already are gone on with.
    seeds
        Trainings of each card, with the seeds that follow its own; the table then gives means and
        errors over them.

    Returns
    -------
    The rows of `manyscale.evaluation.compare.compare`, the trees last.

    Raises
    ------
    RunError
        Where the cards do not judge the same events, or a folder is taken by something else.
    """
    refuse_launcher("compare")
    progress = progress or Silent()
    root = Path(root)
    if "trees" in cards:
        raise RunError("a card may not be called 'trees': the table has the boosted trees under it")
    _check_together(cards)
    if root.is_dir() and any(path.name not in {*cards, "data", TABLE} for path in root.iterdir()):
        raise RunError(f"{root} holds something else: name another folder")
    trainings = []
    for shift in range(seeds):
        folders: dict[str, RunFolder] = {}
        for name, card in cards.items():
            seeded = card.model_copy(update={"seed": card.seed + shift})
            place = root / name if seeds == 1 else root / name / f"seed-{seeded.seed}"
            progress.say(f"{name}, seed {seeded.seed}")
            same = (folders[n] for n in folders if cards[n].data.streams == card.data.streams)
            folders[name] = train_run(
                seeded, place, resume=True, trees_from=next(same, None), progress=progress
            )
            evaluate_run(place, progress=progress)
        trainings.append(compare_runs(folders))
    rows = trainings[0] if seeds == 1 else average(trainings)
    write_json(root / TABLE, rows)
    return rows


def _check_together(cards: Mapping[str, Card]) -> None:
    """Refuse, before anything is trained, cards that do not train and test on the same events."""
    first, *_ = cards
    ids: dict[str, list[NDArray[np.uint64]]] = {}
    for name, card in cards.items():
        dataset = open_data(card, most=card.data.max_events)
        build_model(card, dataset.schema)
        ids[name] = [part.event_ids for part in (dataset.train, dataset.test)]
        if not all(map(np.array_equal, ids[name], ids[first])):
            raise RunError(
                f"'{name}' would be trained and judged on other events than '{first}': give both "
                f"cards the same data, split, classes and seed"
            )


def compare_runs(folders: Mapping[str, RunFolder]) -> Rows:
    """Rows of evaluated runs that have the same test events, and of the trees of the first."""
    together = _scores_of(folders)
    first = load_card(next(iter(folders.values())).card)
    weights = _balanced(first, together.events)
    return compare(together.events.columns["label"], weights, together.classifiers)


def show_comparison(folders: Mapping[str, RunFolder], run: RunFolder) -> Rows:
    """Compare runs as `compare_runs` does, and put table and common ROC where a report shows them."""
    together = _scores_of(folders)
    label = together.events.columns["label"]
    weights = _balanced(load_card(run.card), together.events)
    rows = compare(label, weights, together.classifiers)
    curves = {name: judged.scores for name, judged in together.classifiers.items()}
    write_comparison(
        run.root,
        [ComparisonRow.model_validate(row) for row in rows],
        plots.roc(label, curves, weights),
    )
    return rows


def _scores_of(folders: Mapping[str, RunFolder]) -> _Together:
    scores = {name: read_scores(folder.scores) for name, folder in folders.items()}
    events = next(iter(scores.values()))
    for name, other in scores.items():
        if not np.array_equal(other.columns["event_id"], events.columns["event_id"]):
            raise RunError(
                f"'{name}' was judged on other events than '{next(iter(scores))}': give both cards "
                f"the same data, split, classes and seed"
            )
    classifiers = {}
    for name, folder in folders.items():
        metrics = read_metrics(folder)
        classifiers[name] = Judged(
            _signal(scores[name]), metrics["parameters"], metrics["events_per_second"]
        )
    trees = read_scores(next(iter(folders.values())).tree_scores)
    return _Together(events, classifiers | {"trees": Judged(_signal(trees))})


def _signal(scores: Scores) -> np.ndarray[Any, np.dtype[np.float64]]:
    return scores.columns["score"].astype(np.float64)


def _balanced(card: Card, scores: Scores) -> np.ndarray[Any, np.dtype[np.float64]]:
    dataset = open_data(card, most=card.data.max_events)
    test = dataset.test.bookkeeping()
    if not np.array_equal(test.event_id, scores.columns["event_id"]):
        raise RunError("the data have changed since the runs were evaluated: evaluate them again")
    return dataset.balanced_weights(test)

"""Several cards on the same events, fold by fold, seed by seed, size by size: one table, one report.

Each training is a run of its own, which evaluate, limits and explain take: a fold, a seed or a size is
nothing but another card.
"""

import os
import sys
from collections.abc import Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, BrokenExecutor, Executor, Future, wait
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch
from numpy.typing import NDArray

from manyscale.card import Card, load_card
from manyscale.data.packing import PackedEvents
from manyscale.deployment.scores import read_scores
from manyscale.errors import DataError, ManyscaleError, RunError
from manyscale.evaluation.compare import ClassifierScores, Training, compare
from manyscale.evaluation.learning import learning_curves
from manyscale.evaluation.results import ComparisonRow, read_history
from manyscale.events.work import OneByOne, ProcessPool, usable_cores
from manyscale.progress import LOG, progress_bar
from manyscale.reporting import score_plots
from manyscale.reporting.comparison import COMPARISON, CURVES, write_comparison
from manyscale.reporting.findings import COMPARISON_PLOT, LEARNING_PLOT
from manyscale.runs.evaluate import evaluate_run
from manyscale.runs.folder import RunFolder
from manyscale.runs.train import build_model, open_data, train_run
from manyscale.schema import Schema
from manyscale.settings import write_json
from manyscale.statistics.metrics import SIGNAL_EFFICIENCIES
from manyscale.training.distributed import place, refuse_launcher

__all__ = ["compare_cards", "show_comparison"]

SCORES = "scores.parquet"
_FILES = {"data", "plots", "report.html", COMPARISON, CURVES, SCORES}
# Columns of the scores, and classifiers that are there beside the networks.
_TAKEN = {"event_id", "process", "label", "weight", "fold", "seed", "trees", "combined"}
# Where the curves of the plot are known.
_PERCENTS = tuple(percent / 100 for percent in range(1, 101))


@dataclass(frozen=True)
class _Job:
    """One run of the comparison: which classifier, of which size and which fold or seed, its card."""

    name: str
    size: int | None
    turn: int
    card: Card
    folder: Path
    trees_from: Path

    def __str__(self) -> str:
        return str(self.folder)

    @property
    def done(self) -> bool:
        folder = RunFolder(self.folder)
        return folder.model.is_dir() and folder.metrics.is_file()


def compare_cards(
    cards: Mapping[str, Card],
    root: Path | str,
    *,
    seeds: int = 1,
    folds: int | None = None,
    sizes: Sequence[int] = (),
    target: float | None = None,
    workers: int | None = None,
    device: str | None = None,
) -> list[ComparisonRow]:
    """Train several cards on the same events; evaluate them, and the trees, on the same test events.

    The figures follow from the cards, the data and the threads that a training has, never from how
    many trainings run side by side or which has run before.

    Parameters
    ----------
    cards
        By the name under which each stands in the table; the first is what the others are compared
        with. All must name the same data, split, classes and seed.
    root
        The runs go into `root/NAME`, with sizes, folds or seeds into `root/NAME/size-N/fold-K`; the
        table into `root/comparison.json`, the scores of all test events into `root/scores.parquet`,
        of the largest size, learning curves into `root/learning.json`, all of it into
        `root/report.html`. Runs that are finished are not repeated, others are resumed.
    seeds
        Trainings of each card, with the seeds that follow its own, and so with other splits.
    folds
        Trainings of each card with its own seed, so that each event is tested in one of them.
    sizes
        Numbers of training events; the smaller are part of the larger. Tested on the same events.
    target
        The background rejection at a signal efficiency of 0.70 for which the curves are to say how
        many events it takes; without it, the best that was measured at the largest size.
    workers
        Trainings side by side, each with its share of the cores, or on its GPU; without it as many as
        there are cores, or GPUs. Cards that ask for several devices each are trained one by one.
    device
        auto, cpu or cuda; without it, the networks are trained where their cards say.

    Returns
    -------
    The rows of `manyscale.evaluation.compare.compare`, trees last, size by size.

    Raises
    ------
    RunError
        Where the cards do not test on the same events, a folder is taken by something else, or a
        training has failed; the others are finished first.
    DataError
        Where a fold or a size has too few events.
    """
    refuse_launcher("compare")
    root = Path(root)
    if folds is not None and seeds > 1:
        raise RunError("give either folds or seeds: with folds the seed stays that of the cards")
    if taken := sorted(set(cards) & (_TAKEN | _FILES)):
        raise RunError(
            f"a card may not be called '{taken[0]}': the comparison has something else under that "
            f"name; rename its file"
        )
    if root.is_dir() and any(path.name not in {*cards, *_FILES} for path in root.iterdir()):
        raise RunError(f"{root} holds something else: name another folder")
    by, turns = ("fold", folds) if folds is not None else ("seed", seeds)
    sizes = sorted(set(sizes))
    jobs: list[_Job] = []
    for size in sizes or [None]:
        for turn in range(turns):
            owners: dict[tuple[str, ...] | None, Path] = {}
            for name, card in cards.items():
                split: dict[str, Any] = {} if size is None else {"train_events": size}
                if folds is not None:
                    split |= {"folds": folds, "fold": turn}
                data = card.data.model_copy(
                    update={"split": card.data.split.model_copy(update=split)}
                )
                seed = card.seed if folds is not None else card.seed + turn
                one = card.model_copy(update={"data": data, "seed": seed})
                folder = root / name
                if size is not None:
                    folder /= f"size-{size}"
                if turns > 1:
                    folder /= f"{by}-{turn if folds is not None else seed}"
                one = one if device is None else one.on_device(device)
                # Trees see the streams, not the network: one training of them serves all such cards.
                owner = owners.setdefault(card.data.streams, folder)
                jobs.append(_Job(name, size, turn, one, folder, owner))
    _check_events(cards, jobs, folds)
    _work_off(jobs, workers, device or "auto")

    rows: list[ComparisonRow] = []
    for size in sizes or [None]:
        tested: list[tuple[int, Training, PackedEvents, Schema]] = []
        for turn in range(turns):
            folders = {
                job.name: RunFolder(job.folder) for job in jobs if (job.size, job.turn) == (size, turn)
            }
            tested.append((turn, *_on_same_events(folders, next(iter(folders.values())))))
        found = compare([training for _, training, _, _ in tested], _PERCENTS)
        known = {"size": size} if size is not None else {}
        rows += [_at_the_usual(row).model_copy(update=known) for row in found]
    # Of the largest size, which is the last.
    curves = {row.name: row.background_rejection for row in found}
    score_plots.rejection_curves(curves).save(root / "plots", COMPARISON_PLOT)
    first = next(iter(cards.values()))
    numbers = [turn if folds is not None else first.seed + turn for turn, *_ in tested]
    _write_scores(root / SCORES, by, numbers, [found[1:] for found in tested])
    write_json(root / COMPARISON, [row.plain() for row in rows])
    if sizes:
        laws = learning_curves(rows, target, seed=first.seed)
        write_json(root / CURVES, [law.plain() for law in laws])
        score_plots.learning(laws).save(root / "plots", LEARNING_PLOT)
    else:
        (root / CURVES).unlink(missing_ok=True)
        for path in (root / "plots").glob(f"{LEARNING_PLOT}.*"):
            path.unlink()
    write_comparison(root, by if turns > 1 else "")
    return rows


def show_comparison(folders: Mapping[str, RunFolder], run: RunFolder) -> list[ComparisonRow]:
    """Compare evaluated runs; put table and common ROC where the report of `run` shows them."""
    training, _, _ = _on_same_events(folders, run)
    rows = compare([training])
    curves = {name: classifier.scores for name, classifier in training.classifiers.items()}
    write_json(run.root / COMPARISON, [row.plain() for row in rows])
    drawn = score_plots.roc(training.labels, curves, training.weights)
    drawn.save(run.plots, COMPARISON_PLOT)
    return rows


def _at_the_usual(row: ComparisonRow) -> ComparisonRow:
    """The row with the rejections that are quoted."""
    quoted = [f"{efficiency:.2f}" for efficiency in SIGNAL_EFFICIENCIES]
    update = {
        field: {key: of[key] for key in quoted if key in of}
        for field in ("background_rejection", "rejection_ratio")
        if (of := getattr(row, field))
    }
    return row.model_copy(update=update)


# ---- before anything is trained ---------------------------------------------------------------


def _check_events(cards: Mapping[str, Card], jobs: Sequence[_Job], folds: int | None) -> None:
    """Refuse cards that do not train and test on the same events, and parts with too few."""
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
        if folds is not None and name == first:
            dataset.require_classes()
            label, fewest = min(dataset.class_counts.items(), key=lambda of: of[1])
            if fewest < folds:
                raise DataError(
                    f"the data have {fewest} {label} events, fewer than the {folds} folds: give "
                    f"more events, or fewer folds"
                )
    if len(jobs) == len(cards) and jobs[0].size is None:
        return
    for job in jobs:
        if job.name != first:
            continue
        dataset = open_data(job.card, most=job.card.data.max_events)
        if job.size is not None and len(dataset.train) < job.size:
            raise DataError(
                f"size {job.size}: {job.folder.name} has {len(dataset.train)} training events only; "
                f"the largest size may be no more"
            )
        for part in (dataset.train, dataset.validation, dataset.test):
            try:
                part.require_classes()
            except DataError as error:
                raise DataError(f"{job.folder}: {error}; or fewer folds, or a larger size") from None


# ---- the trainings, side by side --------------------------------------------------------------


def _train_and_evaluate(card: Card, folder: Path, trees_from: Path, device: str) -> None:
    owner = RunFolder(trees_from) if trees_from != folder else None
    train_run(card, folder, resume=True, trees_from=owner)
    evaluate_run(folder, device=device)


def _take_place(threads: int, gpu: int | None) -> None:
    """Begin a worker process: its threads, and the only GPU that it sees."""
    torch.set_num_threads(threads)
    if gpu is not None:
        os.environ["CUDA_VISIBLE_DEVICES"] = str(gpu)


def _work_off(jobs: Sequence[_Job], workers: int | None, device: str) -> None:
    """Do what is not done, some side by side.

    Raises
    ------
    RunError
        At the end, where some have failed; at once where a worker process has died.
    """
    waiting = [job for job in jobs if not job.done]
    LOG.info("%d runs, %d of them finished already", len(jobs), len(jobs) - len(waiting))
    if not waiting:
        return
    # Of all the runs, not of those left: a comparison that is resumed has the same threads.
    placements = [place(job.card.training) for job in jobs]
    gpus = torch.cuda.device_count() if any(p.accelerator == "cuda" for p in placements) else 0
    side = min(workers or gpus or usable_cores(), len(jobs))
    if any(job.card.training.devices not in {"auto", 1} for job in jobs):
        side = 1
    threads = max(1, usable_cores() // side)
    failed: list[tuple[_Job, BaseException]] = []
    with ExitStack() as stack:
        free: list[Executor] = [OneByOne()]
        if side > 1:
            free = [stack.enter_context(ProcessPool(1)) for _ in range(side)]
            for lane, pool in enumerate(free):
                pool.submit(_take_place, threads, lane % gpus if gpus else None)
            done = len(jobs) - len(waiting)
            bar = stack.enter_context(progress_bar("comparing", len(jobs), "runs", done))
        running: dict[Future[None], tuple[_Job, Executor]] = {}
        while waiting or running:
            while waiting and free:
                job, lane = waiting.pop(0), free.pop(0)
                if side == 1:
                    LOG.info("%s", job)
                arguments = (job.card, job.folder, job.trees_from, device)
                running[lane.submit(_train_and_evaluate, *arguments)] = job, lane
            for future in wait(running, return_when=FIRST_COMPLETED).done:
                job, lane = running.pop(future)
                free.append(lane)
                error = future.exception()
                if isinstance(error, BrokenExecutor):
                    raise RunError(
                        f"the worker of {job} has died; where nothing is said above, it was killed, "
                        f"perhaps for lack of memory. {_resume(jobs)}, with fewer --workers"
                    ) from error
                if error is not None:
                    failed.append((job, error))
                    LOG.info("%s failed: %s", job, error)
                if side > 1:
                    bar.advance(1, str(job))
    if failed:
        job, error = failed[0]
        kind = "" if isinstance(error, ManyscaleError) else f"{type(error).__name__}: "
        raise RunError(
            f"{len(failed)} of {len(jobs)} runs failed, the others are finished and stay. {job}: "
            f"{kind}{error}. {_resume(jobs)}"
        ) from error


def _resume(jobs: Sequence[_Job]) -> str:
    left = sum(not job.done for job in jobs)
    typed = sys.argv[1:2] == ["compare"]
    command = " ".join(["manyscale", *sys.argv[1:]]) if typed else "the same call"
    return f"{left} are left: `{command}` resumes them"


# ---- afterwards -------------------------------------------------------------------------------


def _on_same_events(
    folders: Mapping[str, RunFolder], run: RunFolder
) -> tuple[Training, PackedEvents, Schema]:
    """Scores of runs on their common test events, and what these events are in the data of `run`."""
    scores = {name: read_scores(folder.scores).columns for name, folder in folders.items()}
    first, *_ = folders
    ids = scores[first]["event_id"].astype(np.uint64)
    classifiers = {}
    for name, folder in folders.items():
        if not np.array_equal(scores[name]["event_id"], ids):
            raise RunError(
                f"'{name}' was tested on other events than '{first}': give both cards the same data, "
                f"split, classes and seed"
            )
        metrics = folder.read_metrics()
        phases = [
            sum(value for key, value in row.items() if key.endswith("_seconds"))
            for row in read_history(folder.history)
        ]
        classifiers[name] = ClassifierScores(
            scores[name]["score"].astype(np.float64),
            metrics.parameters,
            metrics.events_per_second,
            sum(phases) or None,
        )
    beside = {"trees": read_scores(folders[first].tree_scores).columns["score"]}
    # What else the first run has of the same events.
    beside |= {
        key.removeprefix("score_"): column
        for key, column in scores[first].items()
        if key.startswith("score_")
    }
    for name, column in beside.items():
        classifiers[name] = ClassifierScores(column.astype(np.float64))
    card = load_card(run.card)
    dataset = open_data(card, most=card.data.max_events)
    # The class-balanced weights follow from the data as they are now, the scores from those of then.
    test = dataset.test.bookkeeping()
    if not np.array_equal(test.event_id, ids):
        raise RunError("the data have changed since the runs were evaluated: evaluate them again")
    weights = dataset.balanced_weights(test)
    return Training(ids, test.label, weights, classifiers), test, dataset.schema


def _write_scores(
    path: Path,
    by: str,
    numbers: Sequence[int],
    tested: Sequence[tuple[Training, PackedEvents, Schema]],
) -> None:
    """Write the scores of all tested events: of folds each event once, of seeds as often as tested."""
    tables = []
    for number, (training, events, schema) in zip(numbers, tested, strict=True):
        names = np.array([process.name for process in schema.processes] + ["unknown"], object)
        columns = {
            "event_id": events.event_id,
            "process": names[events.process],
            "label": events.label.astype(np.int8),
            "weight": events.weight,
            by: np.full(len(events), number, np.int32),
        }
        of = {n: c.scores.astype(np.float32) for n, c in training.classifiers.items()}
        tables.append(pa.table(columns | of))
    draft = path.with_name(f".{path.name}.tmp")
    pq.write_table(pa.concat_tables(tables), draft)
    draft.replace(path)

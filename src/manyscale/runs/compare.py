"""Several cards on the same events, fold by fold, seed by seed, size by size: one table, one report.

Each training is a run of its own, which evaluate, limits and explain take: a fold, a seed or a size is
nothing but another card.
"""

import os
import shlex
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

from manyscale.card import Card
from manyscale.data.event_filter import SPLITS, split_places
from manyscale.data.packing import PackedEvents
from manyscale.deployment.scores import read_scores
from manyscale.errors import DataError, ManyscaleError, RunError
from manyscale.evaluation.compare import ClassifierScores, Training, compare
from manyscale.evaluation.learning import learning_curves
from manyscale.evaluation.results import ComparisonRow, read_history
from manyscale.events.work import SHARE, OneByOne, ProcessPool, usable_cores
from manyscale.progress import LOG, progress_bar
from manyscale.reporting import score_plots
from manyscale.reporting.comparison import COMPARISON, CURVES, write_comparison_report
from manyscale.reporting.findings import COMPARISON_PLOT, LEARNING_PLOT
from manyscale.reporting.look import look
from manyscale.runs.evaluate import evaluate_run
from manyscale.runs.fit import build_model, open_data
from manyscale.runs.folder import RunFolder
from manyscale.runs.train import train_run
from manyscale.schema import Schema
from manyscale.settings import write_json
from manyscale.statistics.metrics import SIGNAL_EFFICIENCIES
from manyscale.training.distributed import place, refuse_launcher
from manyscale.writing import whole

__all__ = ["Job", "compare_cards", "show_comparison", "train_side_by_side"]

SCORES = "scores.parquet"
_FILES = {"data", "plots", "report.html", COMPARISON, CURVES, SCORES}
# Columns of the scores, and classifiers that are there beside the networks.
_TAKEN = {"event_id", "process", "label", "weight", "fold", "seed", "trees", "combined"}
# Where the curves of the plot are known.
_PERCENTS = tuple(percent / 100 for percent in range(1, 101))


@dataclass(frozen=True)
class Job:
    """One run of a comparison: which classifier, of which size and which fold or seed, its card."""

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
        """Whether it is trained and evaluated."""
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
    """Train several cards on the same events; evaluate all, and the trees, on the same test events.

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
        The workers are processes: a script that calls this does so under `if __name__ == "__main__":`.
    device
        auto, cpu or cuda; without it, the networks are trained where their cards say.

    Returns
    -------
    The rows of `manyscale.evaluation.compare.compare`, size by size; last those of the trees, and of the
    first card's network and the trees combined.

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
    there = {path.name for path in root.iterdir()} if root.is_dir() else set()
    if any(name not in {*cards, *_FILES} and not name.startswith(".") for name in there):
        raise RunError(f"{root} holds something else: name another folder")
    if device is not None:
        cards = {name: card.on_device(device) for name, card in cards.items()}
    jobs = _plan(cards, root, seeds, folds, sizes)
    _check_events(cards, jobs, folds)
    train_side_by_side(jobs, workers, device or "auto")

    rows: list[ComparisonRow] = []
    # The largest size last: plot and scores are of it.
    for size in dict.fromkeys(job.size for job in jobs):
        turns: dict[int, dict[str, RunFolder]] = {}
        for job in jobs:
            if job.size == size:
                turns.setdefault(job.turn, {})[job.name] = RunFolder(job.folder)
        tested = {turn: _on_same_events(of, next(iter(of.values()))) for turn, of in turns.items()}
        found = compare([training for training, *_ in tested.values()], _PERCENTS)
        rows += [_as_quoted(row, size) for row in found]
    curves = {row.name: row.background_rejection for row in found}
    settings = jobs[0].card.evaluation.plots
    with look(settings):
        score_plots.rejection_curves(curves).save(root / "plots", COMPARISON_PLOT)
    _write_scores(root / SCORES, "seed" if folds is None else "fold", tested)
    write_json(root / COMPARISON, [row.plain() for row in rows])
    drop = [root / CURVES, *(root / "plots").glob(f"{LEARNING_PLOT}.*")]
    for path in drop:
        path.unlink(missing_ok=True)
    if sizes:
        laws = learning_curves(rows, target, seed=jobs[0].card.seed)
        write_json(root / CURVES, [law.plain() for law in laws])
        with look(settings):
            score_plots.learning(laws).save(root / "plots", LEARNING_PLOT)
    write_comparison_report(root)
    return rows


def show_comparison(folders: Mapping[str, RunFolder], run: RunFolder) -> list[ComparisonRow]:
    """Compare evaluated runs; put table and common ROC where the report of `run` shows them."""
    training, _, _ = _on_same_events(folders, run)
    stamp = run.read_metrics().stamp
    rows = [row.model_copy(update={"stamp": stamp}) for row in compare([training])]
    curves = {name: classifier.scores for name, classifier in training.classifiers.items()}
    write_json(run.root / COMPARISON, [row.plain() for row in rows])
    with look(run.read_card().evaluation.plots):
        drawn = score_plots.roc(training.labels, curves, training.weights)
        drawn.save(run.plots, COMPARISON_PLOT)
    return rows


def _as_quoted(row: ComparisonRow, size: int | None) -> ComparisonRow:
    """The row of a size, with the rejections that are quoted."""
    quoted = [f"{efficiency:.2f}" for efficiency in SIGNAL_EFFICIENCIES]
    update: dict[str, Any] = {
        field: {key: of[key] for key in quoted if key in of}
        for field in ("background_rejection", "rejection_ratio")
        if (of := getattr(row, field))
    }
    return row.model_copy(update=update if size is None else update | {"size": size})


# ---- before anything is trained ---------------------------------------------------------------


def _plan(
    cards: Mapping[str, Card],
    root: Path,
    seeds: int,
    folds: int | None,
    sizes: Sequence[int],
) -> list[Job]:
    """All runs, size by size, the smallest first, and fold by fold, or seed by seed."""
    jobs = []
    for size in sorted(set(sizes)) or (None,):
        for shift in range(folds or seeds):
            owners: dict[tuple[str, ...] | None, Path] = {}
            for name, card in cards.items():
                split: dict[str, Any] = {} if size is None else {"train_events": size}
                seed = card.seed
                if folds is None:
                    seed += shift
                else:
                    split |= {"folds": folds, "fold": shift}
                settings = card.data.split.model_copy(update=split)
                data = card.data.model_copy(update={"split": settings})
                one = card.model_copy(update={"data": data, "seed": seed})
                turn = seed if folds is None else shift
                folder = root / name
                folder = folder if size is None else folder / f"size-{size}"
                if (folds or seeds) > 1:
                    folder /= f"seed-{turn}" if folds is None else f"fold-{turn}"
                # Trees see the streams, not the network: one training of them serves all such cards.
                owner = owners.setdefault(card.data.streams, folder)
                jobs.append(Job(name, size, turn, one, folder, owner))
    return jobs


def _check_events(cards: Mapping[str, Card], jobs: Sequence[Job], folds: int | None) -> None:
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
        if name == first:
            dataset.require_classes()
            label, fewest = min(dataset.class_counts.items(), key=lambda of: of[1])
            if fewest < (folds or 1):
                raise DataError(
                    f"the data have {fewest} {label} events, fewer than the {folds} folds: give "
                    f"more events, or fewer folds"
                )
            every = dataset.bookkeeping()
    for job in jobs:
        if job.name == first:
            _check_parts(job, every)
        if job.done:
            train_run(job.card, job.folder, resume=True)  # refuses another card


def _check_parts(job: Job, every: PackedEvents) -> None:
    """Refuse a split of all events that leaves a part too few."""
    places = split_places(every.event_id, job.card.seed, job.card.data.split)
    for which, part in enumerate(SPLITS):
        labels = every.label[places == which]
        for label, name in ((1, "signal"), (0, "background")):
            if not (labels == label).any():
                raise DataError(
                    f"{job.folder}: its {part} part has no {name} events; give more events, or "
                    f"fewer folds"
                )
    most = int((places == SPLITS.index("train")).sum())
    if job.size is not None and most < job.size:
        raise DataError(
            f"{job.folder}: {job.size} training events are asked for, but there are {most}; give a "
            f"smaller size, or more events"
        )


# ---- the trainings, side by side --------------------------------------------------------------


def _train_and_evaluate(card: Card, folder: Path, trees_from: Path, device: str) -> None:
    owner = RunFolder(trees_from)
    # Where they are not there yet, they are trained here: the same come out.
    train_run(card, folder, resume=True, trees_from=owner if owner.trees.is_file() else None)
    evaluate_run(folder, device=device, plots=False)


def _take_place(threads: int, gpu: int | None) -> None:
    """Begin a worker process: its share of the cores, and the only GPU that it sees."""
    torch.set_num_threads(threads)
    os.environ[SHARE] = str(threads)
    if gpu is not None:
        # Of those that a batch system has granted.
        granted = os.environ.get("CUDA_VISIBLE_DEVICES")
        os.environ["CUDA_VISIBLE_DEVICES"] = granted.split(",")[gpu] if granted else str(gpu)


def train_side_by_side(jobs: Sequence[Job], workers: int | None, device: str) -> None:
    """Train and evaluate the runs that are not finished, some side by side.

    Parameters
    ----------
    jobs
        The runs; of those with the same `trees_from`, its own trains the trees that all have.
    workers
        Trainings side by side, each with its share of the cores, or on its GPU; None: as many as there
        are cores, or GPUs.
    device
        auto, cpu or cuda, of the evaluation.

    Raises
    ------
    RunError
        At the end, where some have failed; at once where a worker process has died.
    """
    # First those whose trees the others can take.
    waiting = [job for job in jobs if not job.done]
    waiting.sort(key=lambda job: job.folder != job.trees_from)
    done = len(jobs) - len(waiting)
    LOG.info("%d runs, %d of them finished already", len(jobs), done)
    # Of all the runs, not of those left: a comparison that is resumed has the same threads.
    cuda = any(place(job.card.training).accelerator == "cuda" for job in jobs)
    gpus = torch.cuda.device_count() if cuda else 0
    alone = any(job.card.training.devices not in {"auto", 1} for job in jobs)
    side = 1 if alone else min(workers or gpus or usable_cores(), len(jobs))
    threads = max(1, usable_cores() // side)
    failed: list[tuple[Job, BaseException]] = []
    running: dict[Future[None], tuple[Job, Executor]] = {}
    with ExitStack() as stack:
        stack.push(lambda kind, *_: _tell_how_to_resume(kind, jobs))
        free: list[Executor] = [OneByOne()]
        bar = None
        if side > 1 and waiting:
            free = [stack.enter_context(ProcessPool(1)) for _ in range(min(side, len(waiting)))]
            for number, lane in enumerate(free):
                lane.submit(_take_place, threads, number % gpus if gpus else None)
            bar = stack.enter_context(progress_bar("comparing", len(jobs), "runs", done))
        while waiting or running:
            while waiting and free:
                job, lane = waiting.pop(0), free.pop(0)
                LOG.info("%s", job)
                arguments = (job.card, job.folder, job.trees_from, device)
                running[lane.submit(_train_and_evaluate, *arguments)] = job, lane
            for future in wait(running, return_when=FIRST_COMPLETED).done:
                job, lane = running.pop(future)
                free.append(lane)
                if isinstance(error := future.exception(), BrokenExecutor):
                    raise RunError(
                        f"the worker of {job} has died; where nothing is said above, it was killed, "
                        f"perhaps for lack of memory. {_resume(jobs)}, with fewer --workers"
                    ) from error
                if error is not None:
                    failed.append((job, error))
                    LOG.warning("%s failed: %s", job, error)
                if bar is not None:
                    bar.advance(1)
    if failed:
        job, error = failed[0]
        kind = "" if isinstance(error, ManyscaleError) else f"{type(error).__name__}: "
        raise RunError(
            f"{len(failed)} of {len(jobs)} runs failed; what is finished stays. {job}: "
            f"{kind}{error}. {_resume(jobs)}"
        ) from error


def _tell_how_to_resume(kind: type[BaseException] | None, jobs: Sequence[Job]) -> None:
    if kind is not None and issubclass(kind, KeyboardInterrupt):
        LOG.info(_resume(jobs))


def _resume(jobs: Sequence[Job]) -> str:
    left = sum(not job.done for job in jobs)
    typed = sys.argv[1:2] in (["compare"], ["demo"])
    command = shlex.join(["manyscale", *sys.argv[1:]]) if typed else "the same call"
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
    # Trees and combination, as the first run has them.
    for key, column in scores[first].items():
        if key.startswith("score_"):
            name = key.removeprefix("score_")
            classifiers[name] = ClassifierScores(column.astype(np.float64))
    card = run.read_card()
    dataset = open_data(card, most=card.data.max_events)
    # The class-balanced weights follow from the data as they are now, the scores from those of then.
    test = dataset.test.bookkeeping()
    if not np.array_equal(test.event_id, ids):
        raise RunError("the data have changed since the runs were evaluated: evaluate them again")
    weights = dataset.balanced_weights(test)
    return Training(ids, test.label, weights, classifiers), test, dataset.schema


def _write_scores(
    path: Path, by: str, tested: Mapping[int, tuple[Training, PackedEvents, Schema]]
) -> None:
    """Write the scores of all tested events: of folds each event once, of seeds as often as tested."""
    tables = []
    for turn, (training, events, schema) in tested.items():
        names = np.array([process.name for process in schema.processes] + ["unknown"], object)
        columns = {
            "event_id": events.event_id,
            "process": names[events.process],
            "label": events.label.astype(np.int8),
            "weight": events.weight,
            by: np.full(len(events), turn, np.int32),
        }
        of = {n: c.scores.astype(np.float32) for n, c in training.classifiers.items()}
        tables.append(pa.table(columns | of))
    # Of a classifier that not all trainings have, the others' events have no score.
    with whole(path) as draft:
        pq.write_table(pa.concat_tables(tables, promote_options="default"), draft)

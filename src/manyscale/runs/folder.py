"""The folder of a run: what stands where, and where it came from."""

import csv
import datetime as dt
import fcntl
import importlib.metadata
import io
import os
import platform
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from manyscale.card import Card, load_card
from manyscale.errors import RunError
from manyscale.evaluation.results import Metrics
from manyscale.events.work import usable_cores
from manyscale.progress import LOG
from manyscale.settings import read_json, write_json
from manyscale.training.checkpoint import saved
from manyscale.writing import is_draft, remove, whole, write_whole

__all__ = ["RunFolder"]

_LIBRARIES = (
    "manyscale", "torch", "lightning-fabric", "numpy", "pyarrow", "lightgbm", "scikit-learn",
    "pydantic", "awkward", "fastjet", "pythia8mc",
)  # fmt: skip

_LOCK = ".lock"


class RunFolder:
    """The files of a run; complete or resumable at every instant."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.card = root / "card.yaml"  # complete, as run
        self.provenance = root / "provenance.json"  # versions, commit, machine, command, data
        self.model = root / "model"  # weights, config, features: see deployment.bundle
        self.trees = self.model / "trees.txt"  # the boosted trees, as LightGBM's text
        self.checkpoints = root / "checkpoints"  # what a killed training is resumed from
        self.summary = root / "summary.json"  # blocks of the network with their sizes
        self.flow_chart = root / "flow_chart.svg"
        self.metrics = root / "metrics.json"  # figures of the test events
        self.history = root / "history.csv"  # a row an epoch
        self.scores = root / "scores" / "test.parquet"
        self.plots = root / "plots"
        self.explanation = root / "explanation"  # numbers as JSON, events of the display
        self.report = root / "report.html"

    def member(self, number: int) -> "RunFolder":
        """The same run, where a member of an ensemble, from 1, has its checkpoints and its history."""
        if number == 1:
            return self
        folder = RunFolder(self.root)
        folder.checkpoints = self.checkpoints / f"member-{number}"
        folder.history = self.root / f"history-member-{number}.csv"
        return folder

    @property
    def finished(self) -> bool:
        """Whether training, evaluation and report are done."""
        files = (self.card, self.metrics, self.report)
        # Where a lock is, a process is at work, or was killed.
        return all(path.is_file() for path in files) and not (self.root / _LOCK).exists()

    @staticmethod
    def open(root: Path | str) -> "RunFolder":
        """Open a run that has been trained.

        Raises
        ------
        RunError
            Where the folder is none, is no run, or the run is not trained to its end.
        """
        folder = RunFolder(Path(root))
        if not folder.root.is_dir():
            raise RunError(f"there is no run {root}")
        if not folder.card.is_file():
            raise RunError(f"{root} is no run: it has no card.yaml")
        if not folder.model.is_dir():
            raise RunError(
                f"the run {root} is not trained to its end: "
                f"`manyscale train {folder.card} --out {root} --resume` resumes it"
            )
        return folder

    def read_card(self) -> Card:
        """Read the run's card; of data that moved along with the run its paths are those of now.

        Where the run was copied together with its data (both in one project folder, or the data in
        the run's), these count, not what stands at the old place.

        Raises
        ------
        CardError
            Where it cannot be read.
        """
        card, before = load_card(self.card), None
        if self.provenance.is_file():
            before = read_json(self.provenance).get("folder")
        if before is None or Path(before) == self.root.resolve():
            return card

        def moved(path: Path) -> Path:
            beside = Path(os.path.normpath(self.root.resolve() / os.path.relpath(path, before)))
            return beside if beside.exists() else path

        return card.with_paths(moved)

    def read_metrics(self) -> Metrics:
        """Read metrics.json.

        Raises
        ------
        RunError
            Where the run is not evaluated.
        """
        if not self.metrics.is_file():
            raise RunError(
                f"{self.root} is not evaluated: `manyscale evaluate {self.root}` does it"
            )
        return Metrics.read(self.metrics)

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Keep other processes from writing the run; what a killed one leaves is no lock.

        Raises
        ------
        RunError
            Where another process writes it: says which.
        """
        path = self.root / _LOCK
        with path.open("a+", encoding="utf-8") as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                lock.seek(0)
                raise RunError(
                    f"{self.root} is being written by another process ({lock.read()}): wait for its "
                    f"end, or end it"
                ) from None
            except OSError as error:  # some disks of clusters know no locks
                LOG.warning("%s cannot be locked (%s): see to it that one process alone writes it",
                            self.root, error.strerror)  # fmt: skip
            try:
                lock.truncate(0)
                lock.write(f"process {os.getpid()} on {platform.node()}")
                lock.flush()
                yield
            finally:
                path.unlink(missing_ok=True)

    @contextmanager
    def claimed(self, *, resume: bool) -> Iterator[None]:
        """Make the folder ready for training, locked; drop what a killed process was writing.

        Raises
        ------
        RunError
            Where it holds a run and `resume` is not asked for, or anything else; as `locked`.
        """
        if self.root.exists() and not self.root.is_dir():
            raise RunError(f"{self.root} is a file; name a folder for the run")
        # The demo keeps its events and its rivals in its run's folder. The card is the first file that counts.
        known = {"data", "beside", self.provenance.name, _LOCK}
        if self.root.is_dir() and any(
            path.name not in known and not is_draft(path) for path in self.root.iterdir()
        ):
            if not self.card.is_file():
                raise RunError(f"{self.root} holds something that is no run: name another folder")
            if not resume:
                does = "resume it" if saved(self.checkpoints) else "start it afresh"
                raise RunError(
                    f"{self.root} already holds a run: add --resume to {does}, or name another folder"
                )
        self.root.mkdir(parents=True, exist_ok=True)
        with self.locked():
            for path in filter(is_draft, self.root.iterdir()):
                remove(path)
            yield

    def write_card(self, text: str) -> None:
        """Write card.yaml, whole."""
        write_whole(self.card, text)

    def write_history(self, rows: Sequence[Mapping[str, float]]) -> None:
        """Write history.csv anew, whole."""
        text = io.StringIO(newline="")
        writer = csv.DictWriter(text, fieldnames=list(rows[-1]))
        writer.writeheader()
        writer.writerows(rows)
        write_whole(self.history, text.getvalue())

    def drop_plots(self, *names: str) -> None:
        """Take away the files of plots, named as in a shell, of an earlier time."""
        for name in names:
            for path in self.plots.glob(f"{name}.*"):
                path.unlink()

    @contextmanager
    def anew(self, folder: Path, *plots: str) -> Iterator[Path]:
        """Make a folder of results and its plots anew; those of before stay until all are there.

        Parameters
        ----------
        folder
            Where the results stand in the run.
        plots
            Names of its plots, as in a shell: those of before are taken away.

        Yields
        ------
        The folder to write into; its plots into `plots` in it.
        """
        self.plots.mkdir(exist_ok=True)
        with whole(folder) as draft:
            (draft / "plots").mkdir(parents=True)
            yield draft
        # What follows needs no room on the disk.
        self.drop_plots(*plots)
        for path in (folder / "plots").iterdir():
            path.replace(self.plots / path.name)
        (folder / "plots").rmdir()

    def log(self, line: str) -> None:
        """Add a line with the time to log.txt."""
        now = dt.datetime.now(dt.UTC).isoformat(timespec="seconds")
        with (self.root / "log.txt").open("a", encoding="utf-8") as file:
            file.write(f"{now} {line}\n")

    def write_provenance(self, data: Mapping[str, Any]) -> None:
        """Write provenance.json: versions, commit, machine, command, data."""
        versions = {"python": platform.python_version()}
        for library in _LIBRARIES:
            with suppress(importlib.metadata.PackageNotFoundError):
                versions[library] = importlib.metadata.version(library)
        content = {
            "versions": versions,
            "commit": _commit(),
            "machine": {
                "system": platform.platform(),
                "processor": platform.machine(),
                "cores": usable_cores(),
            },
            "command": " ".join(["manyscale", *sys.argv[1:]]),
            # Paths of the card count from here where the run is moved.
            "folder": str(self.root.resolve()),
            "started": dt.datetime.now(dt.UTC).isoformat(timespec="seconds"),
            "data": dict(data),
        }
        write_json(self.provenance, content)


def _commit() -> str | None:
    """Commit of the source tree that runs; None for an installed package."""
    source = Path(__file__).resolve()
    # Installed inside a repository of the user's, the file is there but not tracked.
    # A process that is killed must not leave a lock there.
    commands = (["ls-files", "--error-unmatch", source.name], ["describe", "--always", "--dirty"])
    try:
        for command in commands:
            done = subprocess.run(  # noqa: S603
                ["git", "--no-optional-locks", "-C", str(source.parent), *command],  # noqa: S607
                capture_output=True,
                text=True,
                timeout=10,
                check=True,
            )
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.strip()

"""Tasks for worker processes, which import them by name."""

import os
import signal
import sys
import time
from datetime import timedelta

from manyscale.errors import DataError


def die(unit):
    """End the worker."""
    os._exit(unit)


def environment(unit):
    """The worker, its number of threads, and whether it has imported torch."""
    return os.getpid(), os.environ["OMP_NUM_THREADS"], "torch" in sys.modules


def tell():
    """Say in each training process who it is; only the first is shown."""
    from manyscale.progress import LOG  # noqa: PLC0415

    LOG.info(f"{os.environ['RANK']} of {os.environ['WORLD_SIZE']}")


def refuse_in_the_second():
    """Fail in one training process while the others wait."""
    if os.environ["RANK"] == "1":
        raise DataError("event 7 is odd")
    time.sleep(600)


def lose_each_other():
    """Be killed in one training process; the other notices that first, as with gloo."""
    from manyscale.training.distributed import LostProcessError  # noqa: PLC0415

    if os.environ["RANK"] == "0":
        raise LostProcessError("lost the others")
    time.sleep(1)
    os.kill(os.getpid(), signal.SIGKILL)


def wait_for_ever(folder):
    """Write down that a training process has come here, then wait."""
    (folder / f"process-{os.environ['RANK']}").write_text(str(os.getpid()), encoding="utf-8")
    time.sleep(600)


def prepare_slowly(train):
    """Train where the first process prepares for longer than the others wait in a step."""
    from manyscale.runs import train as module  # noqa: PLC0415
    from manyscale.training import distributed  # noqa: PLC0415

    distributed.TIMEOUT = timedelta(seconds=4)
    fit_features = module.fit_features

    def slow(*arguments):
        time.sleep(8)
        fit_features(*arguments)

    module.fit_features = slow
    train()


def train_without_plots(*arguments):
    """A run of a comparison; drawing takes longer than all else of a small one."""
    from manyscale.reporting.figure import Drawn  # noqa: PLC0415
    from manyscale.runs.compare import _train_and_evaluate  # noqa: PLC0415

    Drawn.save = lambda _, folder, name: folder.mkdir(exist_ok=True)
    _train_and_evaluate(*arguments)

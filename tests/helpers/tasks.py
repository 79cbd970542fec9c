"""Tasks for worker processes, which import them by name."""

import os
import signal
import sys
import time

from manyscale.errors import DataError


def die(unit):
    """End the worker."""
    os._exit(unit)


def environment(unit):
    """The worker, its number of threads, and whether it has imported torch."""
    return os.getpid(), os.environ["OMP_NUM_THREADS"], "torch" in sys.modules


def tell(progress):
    """Say who this training process is; only the first is heard."""
    progress.say(f"{os.environ['RANK']} of {os.environ['WORLD_SIZE']}")


def refuse_in_the_second(progress):
    """Fail in one training process while the others wait."""
    if os.environ["RANK"] == "1":
        raise DataError("event 7 is odd")
    time.sleep(600)


def lose_each_other(progress):
    """Be killed in one training process; the other notices that first, as with gloo."""
    from manyscale.training.collective import LostProcessError  # noqa: PLC0415

    if os.environ["RANK"] == "0":
        raise LostProcessError("lost the others")
    time.sleep(1)
    os.kill(os.getpid(), signal.SIGKILL)

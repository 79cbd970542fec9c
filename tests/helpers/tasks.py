"""Tasks for worker processes, which import them by name."""

import os
import sys


def die(unit):
    """End the worker."""
    os._exit(unit)


def environment(unit):
    """The worker, its number of threads, and whether it has imported torch."""
    return os.getpid(), os.environ["OMP_NUM_THREADS"], "torch" in sys.modules

"""TRANSITION: old names, until the last file that imports them is rewritten."""

from manyscale.training.distributed import process_rank as process_rank
from manyscale.training.distributed import refuse_launcher as refuse_launcher

"""TRANSITION: old names, until the last file that imports them is rewritten."""

from manyscale.runs.train import fit_network as fit_network
from manyscale.runs.train import tree_extractors as tree_extractors


def train_run(card, root, *, resume=False, trees_from=None, progress=None):  # type: ignore[no-untyped-def]  # noqa
    from manyscale.runs.train import train_run as new

    return new(card, root, resume=resume, trees_from=trees_from)

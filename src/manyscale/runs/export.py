"""Writing the network of a run as ONNX."""

from collections.abc import Iterator, Mapping
from pathlib import Path

from manyscale.deployment.bundle import load_bundle
from manyscale.deployment.onnx import check_onnx_target, write_onnx
from manyscale.deployment.predict import Alignment
from manyscale.events.ragged import PackedStream
from manyscale.runs.fit import open_data
from manyscale.runs.folder import RunFolder

__all__ = ["export_run"]

# Test events on which the ONNX model is compared, and in what pieces: the first alone, then some few.
_COMPARED = 1000
_PIECES = (1, 8, 200, _COMPARED)


def export_run(root: Path | str, target: Path | str) -> tuple[float, int]:
    """Write the network of a run as ONNX, compared with the network itself on its test events.

    Parameters
    ----------
    root
        The folder of a trained run whose data are there.
    target
        Ends in .onnx; replaced whole, at the end.

    Returns
    -------
    The largest difference of a probability, and the number of events.

    Raises
    ------
    RunError, DataError, MissingExtraError
        Where run or data cannot be read, a library is missing, or ONNX does not score as the network.
    """
    target = Path(target)
    check_onnx_target(target)
    folder = RunFolder.open(root)
    bundle = load_bundle(folder.model)
    card = folder.read_card()
    dataset = open_data(card, most=card.data.max_events).test.sample(_COMPARED)
    events = dataset.events()
    streams = Alignment(dataset.schema, bundle.streams)(events.streams)

    def pieces() -> Iterator[Mapping[str, PackedStream]]:
        first = 0
        for last in (min(last, len(events)) for last in _PIECES):
            if last > first:
                yield {name: stream.between(first, last) for name, stream in streams.items()}
            first = last

    return write_onnx(target, bundle, pieces()), len(events)

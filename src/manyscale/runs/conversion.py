"""Events of files into a dataset, whatever the format."""

from collections.abc import Sequence
from pathlib import Path

from manyscale.card import Card, load_card
from manyscale.data.convert import check_positive, convert_npz
from manyscale.errors import DataError, MissingExtraError
from manyscale.events.files.formats import of_one_format
from manyscale.progress import Progress, Silent
from manyscale.runs.request import Added, Request

__all__ = ["convert_files"]


def convert_files(
    files: Sequence[str],
    folder: Path | str,
    request: Request | None = None,
    *,
    card: Path | str | None = None,
    workers: int | None = None,
    cluster: str | None = None,
    share: tuple[int, int] | None = None,
    progress: Progress | None = None,
) -> Added:
    """Add the events of files to a dataset.

    Units that are there already are not made again, so that a killed call goes on where it was, and
    several machines can each make a share into one folder.

    Parameters
    ----------
    files
        Files of one format, globs, text files with a file a line; of npz one file, or several
        streams as "jet1=a.npz", "jet2=b.npz".
    folder
        The dataset, new or to be added to.
    request
        What the events are.
    card
        Its `generate` says detector, jets, cuts and streams, its `convert` what to take from
        ntuples, its `data.columns` the columns of an npz.
    workers
        Processes; without it, one a core.
    cluster
        Address of a dask scheduler whose workers do the units.
    share
        Do the units from the first number up to, not with, the second.

    Returns
    -------
    What was added, in words and as a cutflow.

    Raises
    ------
    CardError, DataError
        Where a file cannot be read, does not fit the dataset, or is in it as something else; a unit
        that failed twice is named after the others are done.
    """
    request = request or Request()
    check_positive(request.cross_section, request.sum_weights)
    progress = progress or Silent()
    folder = Path(folder)
    loaded = load_card(card) if card is not None else Card()
    if _streams_of_npz(files):
        return _convert_npz(_by_stream(files), folder, request, loaded, progress)
    kind, paths = of_one_format(files)
    if kind == "npz":
        return _convert_npz(_by_stream(paths), folder, request, loaded, progress)
    try:
        from manyscale.runs.file_conversion import FileConversion  # noqa: PLC0415  # an extra
    except ModuleNotFoundError as error:
        raise MissingExtraError(str(error.name), "convert") from error
    conversion = FileConversion(folder, loaded, request, progress, card_path=card)
    return conversion.run(kind, paths, workers=workers, cluster=cluster, share=share)


def _streams_of_npz(files: Sequence[str]) -> bool:
    # A path may hold an = itself; a stream's name holds no slash.
    return all("=" in text and "/" not in text.partition("=")[0] for text in files)


def _by_stream(files: Sequence[str]) -> str | dict[str, str]:
    if len(files) == 1 and not _streams_of_npz(files):
        return files[0]
    named: dict[str, str] = {}
    for text in files:
        stream, equals, path = text.partition("=")
        if not equals:
            raise DataError(
                "several npz files are the streams of the same events: write jet1=a.npz jet2=b.npz; "
                "files of other events are added by another call"
            )
        if stream in named:
            raise DataError(f"two files are given for the stream '{stream}'")
        named[stream] = path
    return named


def _convert_npz(
    files: str | dict[str, str], folder: Path, request: Request, card: Card, progress: Progress
) -> Added:
    if request.weights is not None:
        raise DataError("--weights names a branch; an npz has none, its events count one each")
    process, label = request.named()
    done = convert_npz(
        folder,
        files,
        label,
        process,
        columns=card.data.columns or None,
        cross_section=request.cross_section,
        sum_weights=request.sum_weights,
    )
    for notice in done.notices:
        progress.say(notice)
    if not done.added:
        return Added(f"{folder} has these {done.events} events of {done.process} already")
    if request.cross_section is None:
        progress.say("the cross section is unknown, so no yields: --cross-section says it")
    return Added(f"{done.events} events of {done.process} added to {folder}")

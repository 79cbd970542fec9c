"""Which reader reads a file."""

from collections.abc import Callable

from manyscale.errors import DataError, MissingExtraError
from manyscale.events.files.convert_settings import ConvertSettings
from manyscale.events.files.formats import Format
from manyscale.events.files.reader import Reader
from manyscale.events.settings import GenerateSettings

__all__ = ["choose_reader"]


def choose_reader(
    path: str,
    kind: Format,
    generate: GenerateSettings,
    convert: ConvertSettings,
    lines: tuple[str, ...] = (),
) -> Reader:
    """Choose the reader of a file, which is one for all files of the same content.

    Parameters
    ----------
    path, kind
        A file and its format.
    generate, convert
        Sections of the card. Where it maps branches, the file is taken as an ntuple.
    lines
        Further settings of Pythia, for the shower of hard events.

    Raises
    ------
    DataError
        Where the file cannot be opened.
    MissingExtraError
        Where the libraries that read it are not installed.
    """
    try:
        if kind == "HepMC":
            return _hepmc(generate, convert)
        if kind == "LHE":
            return _lhe(generate, convert, lines)
        if convert.branches or kind != "ROOT":
            return _ntuple(generate, convert)
        return _of_root(path)(generate, convert)
    except ModuleNotFoundError as error:
        extra = "generate" if kind == "LHE" else "convert"
        raise MissingExtraError(str(error.name).partition(".")[0], extra) from error


def _hepmc(generate: GenerateSettings, convert: ConvertSettings) -> Reader:
    from manyscale.events.files.hepmc import HepMCReader  # noqa: PLC0415

    return HepMCReader(generate, convert)


def _lhe(generate: GenerateSettings, convert: ConvertSettings, lines: tuple[str, ...]) -> Reader:
    from manyscale.events.files.lhe import LHEReader  # noqa: PLC0415

    return LHEReader(generate, convert, lines)


def _ntuple(_: GenerateSettings, convert: ConvertSettings) -> Reader:
    from manyscale.events.files.ntuple import NtupleReader  # noqa: PLC0415

    return NtupleReader(convert)


def _delphes(generate: GenerateSettings, convert: ConvertSettings) -> Reader:
    from manyscale.events.files.delphes import DelphesReader  # noqa: PLC0415

    return DelphesReader(generate, convert)


def _nanoaod(generate: GenerateSettings, convert: ConvertSettings) -> Reader:
    from manyscale.events.files.nanoaod import NanoAODReader  # noqa: PLC0415

    return NanoAODReader(generate, convert)


def _of_root(path: str) -> Callable[[GenerateSettings, ConvertSettings], Reader]:
    """Tell the kinds of ROOT files apart by the names of their trees."""
    from manyscale.events.files.root_files import open_root  # noqa: PLC0415

    with open_root(path) as file:
        names = {key.partition(";")[0] for key in file.keys(recursive=False)}
    if "Delphes" in names:
        return _delphes
    if "Events" in names:
        return _nanoaod
    if not names:
        raise DataError(f"{path} is a ROOT file with nothing in it")
    return _ntuple

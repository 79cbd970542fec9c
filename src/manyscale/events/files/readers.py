"""Which reader reads a file."""

from manyscale.errors import DataError, MissingExtraError
from manyscale.events.files.convert_settings import ConvertSettings
from manyscale.events.files.formats import Format
from manyscale.events.files.reader import Reader
from manyscale.events.settings import GenerateSettings

__all__ = ["choose_reader"]


# Each reader is imported where it is chosen: their libraries are extras, and slow to import.
# ruff: noqa: PLC0415
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
            from manyscale.events.files.hepmc import HepMCReader

            return HepMCReader(generate, convert)
        if kind == "LHE":
            from manyscale.events.files.lhe import LHEReader

            return LHEReader(generate, convert, lines)
        # ROOT files are told apart by the names of their trees.
        names = _names_in(path) if kind == "ROOT" and not convert.branches else set()
        if "Delphes" in names:
            from manyscale.events.files.delphes import DelphesReader

            return DelphesReader(generate, convert)
        if "Events" in names:
            from manyscale.events.files.nanoaod import NanoAODReader

            return NanoAODReader(generate, convert)
        from manyscale.events.files.ntuple import NtupleReader

        return NtupleReader(convert)
    except ModuleNotFoundError as error:
        extra = "generate" if kind == "LHE" else "convert"
        raise MissingExtraError(str(error.name).partition(".")[0], extra) from error


def _names_in(path: str) -> set[str]:
    from manyscale.events.files.root_files import open_root

    with open_root(path) as file:
        names = {key.partition(";")[0] for key in file.keys(recursive=False)}
    if not names:
        raise DataError(f"{path} is a ROOT file with nothing in it")
    return names

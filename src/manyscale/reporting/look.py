"""How the plots of a run look: the card's settings, and what processes and observables are called."""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Literal

from manyscale.errors import CardError
from manyscale.settings import Settings, setting

__all__ = ["PlotSettings", "current_look", "is_formula", "label_of", "look"]

# Of processes, observables and features; formulas stand between dollars.
_LABELS = {
    "hh4b": r"$hh \to b\bar{b}b\bar{b}$",
    "qcd": "QCD",
    "qcd_bb": r"QCD $b\bar{b}$",
    "ttbar": r"$t\bar{t}$",
    "zz": "$ZZ$",
    "m_j1": "$m_{j1}$ [GeV]",
    "m_j2": "$m_{j2}$ [GeV]",
    "m_hh": "$m_{hh}$ [GeV]",
    "met": r"$p_T^{\mathrm{miss}}$ [GeV]",
    "jet_pt": "$p_T$ of the jet [GeV]",
    "pt": "$p_T$ [GeV]",
    "log_pt": "log $p_T$",
    "log_pt_rel": "log ($p_T$ / jet's $p_T$)",
    "log_energy": "log $E$",
    "log_energy_rel": "log ($E$ / jet's $E$)",
    "log_mass": "log (1 GeV + $m$)",
    "eta": "η",
    "phi": "φ [rad]",
    "phi_rel": "φ to the leading object [rad]",
    "delta_eta": "Δη",
    "delta_phi": "Δφ [rad]",
    "delta_r": "ΔR",
    "n_btags": "b-tags",
    "particle_class": "kind of particle",
}
_FORMULA = re.compile(r"\$[^$]*\$")
# Ticks of logarithmic axes, as matplotlib writes them.
_TICK = r"$\mathdefault{"


class PlotSettings(Settings):
    """How the plots of a run look."""

    title: str = setting("", "written above each plot")
    experiment: str = setting("", "tag written bold before the title, say CMS Simulation")
    style: Literal["CMS", "ATLAS", "LHCb2", "ALICE", "ROOT"] = setting("CMS", "mplhep's style")
    labels: dict[str, str] = setting(
        {}, r"what processes and observables are called: {qcd_bb: 'QCD $b\bar{b}$'}"
    )
    pdf: bool = setting(False, "write each plot as PDF, too")


_LOOK: ContextVar[PlotSettings] = ContextVar("look", default=PlotSettings())  # noqa: B039 - frozen


@contextmanager
def look(settings: PlotSettings) -> Iterator[None]:
    """Draw and save what is drawn meanwhile as the settings say; CardError where a label is no formula."""
    from matplotlib.mathtext import MathTextParser  # noqa: PLC0415 - cards are read without it

    for name, words in settings.labels.items():
        try:
            MathTextParser("path").parse(words)
        except ValueError as error:
            why = str(error).strip().splitlines()[-1]
            raise CardError(
                f"evaluation.plots.labels, {name}: cannot draw {words} ({why})"
            ) from error
    token = _LOOK.set(settings)
    try:
        yield
    finally:
        _LOOK.reset(token)


def current_look() -> PlotSettings:
    """The settings that hold now."""
    return _LOOK.get()


def label_of(name: str) -> str:
    """What a process, or the axis of an observable, is called: its name where nothing is known.

    Examples
    --------
    >>> label_of("m_hh"), label_of("mine")
    ('$m_{hh}$ [GeV]', 'mine')
    """
    return current_look().labels.get(name) or _LABELS.get(name, name)


def is_formula(text: str) -> bool:
    r"""Whether what stands between dollars is a formula of a label, or a tick, and not part of a name.

    Examples
    --------
    >>> is_formula(r"QCD $b\bar{b}$ x 3"), is_formula("$bad")
    (True, False)
    """
    known = {
        formula
        for words in (*_LABELS.values(), *current_look().labels.values())
        for formula in _FORMULA.findall(words)
    }
    found = _FORMULA.findall(text)
    all_known = all(one in known or one.startswith(_TICK) for one in found)
    return all_known and text.count("$") == 2 * len(found)

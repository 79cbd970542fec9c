"""Four-momenta as arrays of any shape, and azimuths."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from manyscale.events.ragged import Floats

__all__ = ["Momentum", "wrap_phi"]


def wrap_phi(phi: NDArray[np.floating]) -> NDArray[np.floating]:
    """Bring azimuths, or differences of them, to (-pi, pi].

    Examples
    --------
    >>> wrap_phi(np.array([-np.pi, 0.5, 2 * np.pi + 0.5])).round(6)
    array([3.141593, 0.5     , 0.5     ])
    """
    return np.pi - (np.pi - phi) % (2 * np.pi)


@dataclass(frozen=True)
class Momentum:
    """Four-momenta in GeV, components of one shape.

    Examples
    --------
    >>> one = Momentum(*np.array([3.0, 4.0, 0.0, 13.0]))
    >>> float(one.pt), float(one.mass)
    (5.0, 12.0)
    """

    px: Floats
    py: Floats
    pz: Floats
    energy: Floats

    @staticmethod
    def of_polar(pt: Floats, eta: Floats, phi: Floats, energy: Floats) -> "Momentum":
        """Make them of transverse momentum, pseudorapidity, azimuth and energy."""
        return Momentum(pt * np.cos(phi), pt * np.sin(phi), pt * np.sinh(eta), energy)

    @property
    def pt(self) -> Floats:
        """Transverse momentum."""
        return np.hypot(self.px, self.py)

    @property
    def eta(self) -> Floats:
        """Pseudorapidity; 0 where there is no momentum."""
        pt = np.maximum(self.pt, np.finfo(np.float64).tiny)
        return np.arcsinh(self.pz / pt)

    @property
    def phi(self) -> Floats:
        """Azimuth in (-pi, pi]."""
        # Adding 0.0 turns -0.0, of which arctan2 would make -pi, into 0.0.
        return np.arctan2(self.py + 0.0, self.px)

    @property
    def mass(self) -> Floats:
        """Invariant mass; 0 where rounding makes its square negative."""
        square = self.energy**2 - self.px**2 - self.py**2 - self.pz**2
        return np.sqrt(np.maximum(square, 0.0))

    def __getitem__(self, key: Any) -> "Momentum":  # noqa: ANN401 - any index of numpy
        return Momentum(self.px[key], self.py[key], self.pz[key], self.energy[key])

    def sum(self, axis: int) -> "Momentum":
        """Add along an axis."""
        return Momentum(*(x.sum(axis) for x in (self.px, self.py, self.pz, self.energy)))

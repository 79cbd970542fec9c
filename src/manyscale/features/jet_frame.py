"""The frame of a jet: what its tokens are centred on, which way they point, which side is up.

All functions work on the tokens of many jets at once, one after the other, and loop over nothing.
`x` and `y` are directions in the plane of eta and phi, (tokens,); `pt` is the weight of each token,
not negative, (tokens,); `jets` says which tokens belong together. A jet may have no token at all.

References
----------
J. Cogan et al., arXiv:1407.5675, and L. de Oliveira et al., arXiv:1511.05190, section 3 (translate,
rotate by the second subjet or else the principal axis, flip); S. Macaluso and D. Shih,
arXiv:1803.00107 (centre on the pT-weighted centroid, principal axis vertical, harder side up and
right, and only then pixels).
"""

from collections.abc import Mapping
from typing import Literal

import torch
from torch import Tensor
from torch.nn.functional import hardshrink

from manyscale.errors import CardError
from manyscale.features.columns import Segments, TokenColumns
from manyscale.features.registry import can_compute, recipe, wrap_phi
from manyscale.schema import StreamSchema
from manyscale.settings import Settings, setting

__all__ = [
    "FRAMED",
    "FrameSettings",
    "JetFrame",
    "centred",
    "in_frame",
    "mirrored",
    "principal_up",
    "second_subjet_up",
]

# Squared distances (principal axis), and shares of pT times distance (second subjet), below which
# a jet has no direction: rounding, not physics. Such a jet is not turned.
_NO_ANISOTROPY = 1e-10
_NO_DISTANCE = 1e-6
# Roundings of 1 within which a token is on neither of two sides: a subjet of one token is, but for
# rounding, on the line through both subjets.
_ON_THE_LINE = 8
_SMALLEST = 1e-12
_STEPS = 3

#: The features that a frame changes.
FRAMED = ("delta_eta", "delta_phi", "delta_r")
_DIRECTION = FRAMED[:2]
_ABSOLUTE = ("eta", "phi")


class FrameSettings(Settings):
    """Where the directions of a stream's tokens are counted from, and which way they point."""

    centre: Literal["axis", "pt"] = setting(
        "axis", "origin: the jet's axis, or the pT-weighted centre of its tokens"
    )
    rotate: Literal["none", "principal", "second"] = setting(
        "none",
        "what points up (+phi): nothing is turned; the principal axis, harder end; second subjet",
    )
    flip: bool = setting(
        False, "mirror so that the harder side is right (+eta) and, where nothing turns, up (+phi)"
    )

    @property
    def changes_nothing(self) -> bool:
        """Whether the directions stay as they are stored."""
        return self == FrameSettings()

    def words(self) -> list[str]:
        """Say what the frame does in a few words a step, for plots.

        Examples
        --------
        >>> FrameSettings(centre="pt", rotate="principal", flip=True).words()
        ['centred on pT', 'principal axis up', 'harder side right']
        """
        steps = ["centred on pT" if self.centre == "pt" else "about the jet axis"]
        if self.rotate != "none":
            steps.append(
                {"principal": "principal axis", "second": "second subjet"}[self.rotate] + " up"
            )
        if self.flip:
            steps.append("harder side right" + (" and up" if self.rotate == "none" else ""))
        return steps


def centred(eta: Tensor, phi: Tensor, pt: Tensor, jets: Segments) -> tuple[Tensor, Tensor]:
    """Directions relative to the pT-weighted centre: sum(pT eta) / sum(pT), the same of phi.

    The mean of phi is taken around the azimuth of the summed (pT cos phi, pT sin phi), so that it
    does not matter where phi wraps. The second result is in (-pi, pi].
    """
    share = _shares(pt, jets)
    around = torch.atan2(jets.sum(share * torch.sin(phi)), jets.sum(share * torch.cos(phi)))
    # Only where phi is cut open, so no way for a gradient.
    phi = wrap_phi(phi - jets.spread(around.detach()))
    x = eta - jets.spread(jets.sum(share * eta))
    return x, wrap_phi(phi - jets.spread(jets.sum(share * phi)))


def principal_up(x: Tensor, y: Tensor, pt: Tensor, jets: Segments) -> tuple[Tensor, Tensor]:
    """Turn each jet about the origin until its principal axis stands up, harder half above.

    The axis is the eigenvector of the larger eigenvalue of the pT-weighted covariance; its angle is
    atan2(2 C_xy, C_xx - C_yy) / 2. An isotropic jet is not turned.
    """
    share = _shares(pt, jets)
    cos, sin = _principal_axis(*_about_mean(x, y, share, jets), share, jets)
    x, y = _turned(x, y, cos, sin, jets)
    above = jets.spread(_harder_side(y, pt, jets))
    return x * above, y * above


def second_subjet_up(x: Tensor, y: Tensor, pt: Tensor, jets: Segments) -> tuple[Tensor, Tensor]:
    """Turn each jet about the origin until its second subjet is straight above its first.

    The two subjets are those of Lloyd's method, which minimises sum(pT r^2) to the nearer of two
    axes (2-subjettiness with beta = 2), begun with the two halves along the principal axis. The
    first is that of more pT. A jet of a single direction is not turned.

    References
    ----------
    J. Thaler, K. Van Tilburg, arXiv:1108.2701.
    """
    share = _shares(pt, jets)
    dx, dy = _about_mean(x, y, share, jets)
    cos, sin = _principal_axis(dx, dy, share, jets)
    side = dx * jets.spread(cos) + dy * jets.spread(sin)
    for step in range(_STEPS):
        ahead = share * (side > 0)
        part, ahead_x, ahead_y = jets.sum(ahead), jets.sum(ahead * dx), jets.sum(ahead * dy)
        if step == _STEPS - 1:
            break
        # The means of the two are a = m / part and b = -m / (1 - part), m the moments ahead. A token
        # is nearer to a where (dx, dy) (a - b) > (a^2 - b^2) / 2; both sides are divided by
        # 1 / part + 1 / (1 - part).
        difference = 1 / part.clamp(min=_SMALLEST) - 1 / (1 - part).clamp(min=_SMALLEST)
        middle = difference / 2 * (ahead_x**2 + ahead_y**2)
        side = dx * jets.spread(ahead_x) + dy * jets.spread(ahead_y) - jets.spread(middle)
    # The mean of all is the origin here, so that it lies between both subjets.
    known = ahead_x**2 + ahead_y**2 > _NO_DISTANCE**2
    cos, sin = torch.where(known, ahead_x, 0), torch.where(known, ahead_y, 1)
    length = torch.hypot(cos, sin) * torch.where(known & (part > 0.5), -1.0, 1.0)
    return _turned(x, y, cos / length, sin / length, jets)


def mirrored(x: Tensor, pt: Tensor, jets: Segments) -> Tensor:
    """Mirror each jet whose pT lies more on the negative side of `x`; a tie stays as it is."""
    return x * jets.spread(_harder_side(x, pt, jets))


def in_frame(
    frame: FrameSettings, x: Tensor, y: Tensor, pt: Tensor, jets: Segments
) -> tuple[Tensor, Tensor]:
    """Centre, rotate and flip, as the settings say."""
    if frame.centre == "pt":
        x, y = centred(x, y, pt, jets)
    if frame.rotate == "principal":
        x, y = principal_up(x, y, pt, jets)
    elif frame.rotate == "second":
        x, y = second_subjet_up(x, y, pt, jets)
    if frame.flip:
        x = mirrored(x, pt, jets)
        if frame.rotate == "none":
            y = mirrored(y, pt, jets)
    return x, y


class JetFrame:
    """The frame of one stream: `delta_eta` and `delta_phi` of its columns.

    Parameters
    ----------
    stream
        Has `pt`, and directions: `delta_eta` and `delta_phi`, or `eta` and `phi` with the jet's
        `jet_eta` and `jet_phi`; centred on pT, `eta` and `phi` alone suffice.
    frame
        What to do with them.
    key
        Of the card, named in errors.

    Attributes
    ----------
    settings
        The frame.
    stream
        The columns of the stream once the frame is applied: `delta_r` is no longer one, since it
        follows from the other two.

    Raises
    ------
    CardError
        Where the stream lacks a column.
    """

    def __init__(self, stream: StreamSchema, frame: FrameSettings, key: str) -> None:
        relative = all(can_compute(name, stream) for name in _DIRECTION)
        wanted = _DIRECTION if relative or frame.centre == "axis" else _ABSOLUTE
        missing = [name for name in wanted if not can_compute(name, stream)]
        weighted = not frame.changes_nothing
        if weighted and not can_compute("pt", stream):
            missing.append("pt")
        if missing:
            needs = "delta_eta and delta_phi, or eta and phi with jet_eta and jet_phi"
            if weighted:
                alone = ", or eta and phi alone" if frame.centre == "pt" else ""
                needs = f"pt and {needs}{alone}"
            raise CardError(
                f"{key}: the jet frame needs {needs}; stream '{stream.name}' has "
                f"{', '.join(stream.all_columns)}, which do not give {', '.join(missing)}"
            )
        self.settings = frame
        self._recipes = [recipe(name, stream).compute for name in wanted]
        self._weighted = weighted
        kept = tuple(name for name in stream.columns if name not in FRAMED)
        self.stream = StreamSchema(name=stream.name, columns=(*_DIRECTION, *kept), axis=stream.axis)

    def __call__(self, columns: TokenColumns) -> Mapping[str, Tensor]:
        """Compute `delta_eta` and `delta_phi`, each (tokens,)."""
        x, y = (compute(columns) for compute in self._recipes)
        if self._weighted:
            pt = columns["pt"].clamp(min=0)
            x, y = in_frame(self.settings, x, y, pt, columns.segments)
        return dict(zip(_DIRECTION, (x, y), strict=True))


def _shares(pt: Tensor, jets: Segments) -> Tensor:
    """The part of its jet's pT that each token has."""
    return pt * jets.spread(1 / jets.sum(pt).clamp(min=_SMALLEST))


def _about_mean(x: Tensor, y: Tensor, share: Tensor, jets: Segments) -> tuple[Tensor, Tensor]:
    mean_x, mean_y = jets.sum(share * x), jets.sum(share * y)
    return x - jets.spread(mean_x), y - jets.spread(mean_y)


def _principal_axis(x: Tensor, y: Tensor, share: Tensor, jets: Segments) -> tuple[Tensor, Tensor]:
    """Cosine and sine of the principal axis' angle, (jets,); of an isotropic jet 0 and 1."""
    share_x, share_y = share * x, share * y
    difference = jets.sum(share_x * x) - jets.sum(share_y * y)
    twice_xy = 2 * jets.sum(share_x * y)
    known = twice_xy**2 + difference**2 > _NO_ANISOTROPY**2
    angle = torch.atan2(torch.where(known, twice_xy, 0), torch.where(known, difference, -1)) / 2
    return torch.where(known, torch.cos(angle), 0), torch.sin(angle)


def _turned(
    x: Tensor, y: Tensor, cos: Tensor, sin: Tensor, jets: Segments
) -> tuple[Tensor, Tensor]:
    """Turn each jet so that the direction (cos, sin) points up."""
    cos, sin = jets.spread(cos), jets.spread(sin)
    return x * sin - y * cos, x * cos + y * sin


def _harder_side(x: Tensor, pt: Tensor, jets: Segments) -> Tensor:
    """-1 for jets with more pT at negative `x` than at positive, else 1; (jets,)."""
    width = _ON_THE_LINE * torch.finfo(x.dtype).eps
    balance = jets.sum(pt * torch.sign(hardshrink(x, width)))
    return torch.where(balance < 0, -1.0, 1.0).to(x.dtype)

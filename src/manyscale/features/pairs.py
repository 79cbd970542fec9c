"""What two tokens of a stream are to each other: ln delta R, ln kT, ln z and ln m2 of every pair.

With rapidity y, azimuth phi and transverse momentum pT of two tokens a and b,

    delta R = sqrt((y_a - y_b)^2 + (phi_a - phi_b)^2),    kT = min(pT_a, pT_b) delta R,
    z = min(pT_a, pT_b) / (pT_a + pT_b),                  m2 = (E_a + E_b)^2 - |p_a + p_b|^2.

Nothing of it changes where the event is turned about the beam or mirrored, or its tokens are reordered.

References
----------
H. Qu, C. Li, S. Qian, arXiv:2202.03772, section 4: the interaction features of the Particle Transformer.
"""

from collections.abc import Callable

import torch
from torch import Tensor

from manyscale.errors import CardError
from manyscale.features.columns import TokenColumns
from manyscale.features.registry import can_compute, wrap_phi
from manyscale.schema import StreamSchema

__all__ = ["FEATURES", "MOMENTUM", "momenta_of", "pair_features"]

#: Numbers of a token that pairs are worked out from, and of a pair.
MOMENTUM = FEATURES = 4

# Angles [rad], and masses over energies, below which detectors see none, nor single precision.
_RESOLUTION = 1e-3
# A token of less pT [GeV] is none, one of more rapidity only makes overflows.
_SOFTEST = 1e-3
_FURTHEST = 20.0
# About mean and deviation of the features in fat jets: not fitted, so that an encoder trained on other
# events takes them as they are.
_CENTRE = (-1.0, -0.5, -1.5, 1.0)
_SCALE = (1.0, 1.0, 1.0, 2.0)
_CLIP = 10.0


def momenta_of(stream: StreamSchema) -> Callable[[TokenColumns], Tensor]:
    """How to work out the momentum of each token of a stream.

    Returns
    -------
    A function of its columns: (tokens, 4), ln pT [GeV], rapidity, azimuth, and (m / pT)^2. From eta, phi
    and mass or energy, where they are there; else the tokens are massless, also from delta_eta and
    delta_phi.

    Raises
    ------
    CardError
        Where the stream lacks columns.
    """
    has = set(stream.all_columns)
    ways = [("eta", "phi"), ("delta_eta", "delta_phi")]
    direction = next((way for way in ways if has.issuperset(way)), None)
    if direction is None or not can_compute("log_pt", stream):
        raise CardError(
            f"streams.{stream.name}.pair_bias: pairs of tokens need pt or log_pt, and eta with phi or "
            f"delta_eta with delta_phi; the stream has {', '.join(stream.all_columns)}"
        )
    mass = next((n for n in ("mass", "energy") if n in has and direction == ways[0]), None)

    def compute(columns: TokenColumns) -> Tensor:
        # In double precision: E - p of a light token is what rounding leaves of it, and a score must not
        # depend on how a device, or a batch, rounds.
        pt = columns["pt"].double() if "pt" in has else columns["log_pt"].double().exp()
        pt = pt.clamp(min=_SOFTEST)
        eta, phi = (columns[name].double() for name in direction)
        eta = eta.clamp(-_FURTHEST, _FURTHEST)
        forward, backward = eta.exp(), (-eta).exp()
        if mass is None:
            return torch.stack([pt.log(), eta, phi, torch.zeros_like(eta)], -1).float()
        if mass == "mass":
            mass2 = columns["mass"].double().clamp(min=0) ** 2
        else:
            energy, momentum = columns["energy"].double(), pt * (forward + backward) / 2
            mass2 = (energy - momentum) * (energy + momentum) - (_RESOLUTION * energy) ** 2
        ratio = mass2.clamp(min=0) / pt**2
        # y = arsinh(p_z / m_T), in functions that onnxruntime has in double precision.
        longitudinal = (forward - backward) / 2 / torch.sqrt(1 + ratio)
        size = longitudinal.abs()
        rapidity = longitudinal.sign() * torch.log(size + torch.sqrt(size**2 + 1))
        return torch.stack([pt.log(), rapidity, phi, ratio], -1).float()

    return compute


def pair_features(a: Tensor, b: Tensor) -> Tensor:
    """Features of pairs of tokens, about standardised; the same for (a, b) and (b, a).

    Parameters
    ----------
    a, b
        (4, ...): one token and the other of each pair, the numbers of `momenta_of` first.

    Returns
    -------
    (4, ...): ln delta R, ln kT [GeV], ln z, ln m2 [GeV^2], each minus about its mean and over about its
    deviation; finite, also at no distance, where delta R counts as 0.001.
    """
    log_a, y_a, phi_a, ratio_a = a
    log_b, y_b, phi_b, ratio_b = b
    d_y, d_phi = y_a - y_b, wrap_phi(phi_a - phi_b)
    log_r = torch.log(d_y**2 + d_phi**2 + _RESOLUTION**2) / 2
    # m2 / (pT_a pT_b) as a sum of what is never negative, so that nothing cancels: with the transverse
    # mass over pT as 1 + t, m2 = m_a^2 + m_b^2 + 2 (mT_a mT_b cosh(d_y) - pT_a pT_b cos(d_phi)).
    t_a, t_b = (ratio / (1 + torch.sqrt(1 + ratio)) for ratio in (ratio_a, ratio_b))
    t = t_a + t_b + t_a * t_b
    mass2 = 4 * ((1 + t) * torch.sinh(d_y / 2) ** 2 + torch.sin(d_phi / 2) ** 2) + 2 * t
    harder = torch.exp(log_a - log_b)
    mass2 = mass2 + ratio_a * harder + ratio_b / harder
    features = (
        log_r,
        torch.minimum(log_a, log_b) + log_r,
        -torch.nn.functional.softplus((log_a - log_b).abs()),
        log_a + log_b + torch.log(mass2 + _RESOLUTION**2),
    )
    scaled = [(x - c) / s for x, c, s in zip(features, _CENTRE, _SCALE, strict=True)]
    return torch.stack(scaled).clamp_(-_CLIP, _CLIP)

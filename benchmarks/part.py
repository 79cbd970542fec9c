"""A network like the Particle Transformer, written for comparison from its paper alone.

Our own expression of H. Qu, C. Li, S. Qian, arXiv:2202.03772: particles embedded by a three-layer
perceptron; ln Delta R, ln kT, ln z and ln m2 of every pair embedded by pointwise convolutions and added to
the attention of every layer; layers with norms before and after attention and inside the feed-forward;
a class token that attends in two last layers. On padded jets, as the public code does it.
"""

import itertools

import torch
from torch import Tensor, nn

__all__ = ["ParticleTransformer"]

_SMALL = 1e-8


def pair_features(pt: Tensor, eta: Tensor, phi: Tensor) -> Tensor:
    """(jets, 4, n, n): ln Delta R, ln kT, ln z, ln m2 of massless constituents, each (jets, n)."""
    d_eta = eta[:, :, None] - eta[:, None]
    d_phi = torch.remainder(phi[:, :, None] - phi[:, None] + torch.pi, 2 * torch.pi) - torch.pi
    delta = torch.sqrt(d_eta**2 + d_phi**2 + _SMALL)
    softer = torch.minimum(pt[:, :, None], pt[:, None])
    z = softer / (pt[:, :, None] + pt[:, None] + _SMALL)
    mass2 = 2 * pt[:, :, None] * pt[:, None] * (torch.cosh(d_eta) - torch.cos(d_phi))
    found = (delta, softer * delta, z, mass2)
    return torch.stack([torch.log(x.clamp(min=_SMALL)) for x in found], 1)


class _Block(nn.Module):
    """Particle attention, or with a class token class attention."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.norm = nn.LayerNorm(width)
        self.query, self.key_value = nn.Linear(width, width), nn.Linear(width, 2 * width)
        self.out = nn.Linear(width, width)
        self.norm_after = nn.LayerNorm(width)
        self.feed_forward = nn.Sequential(
            nn.LayerNorm(width),
            nn.Linear(width, 4 * width),
            nn.GELU(),
            nn.LayerNorm(4 * width),
            nn.Linear(4 * width, width),
        )

    def forward(self, x: Tensor, bias: Tensor, token: Tensor | None = None) -> Tensor:
        asked = x if token is None else token
        keys = self.norm(x if token is None else torch.cat([token, x], 1))
        query = self.query(self.norm(asked) if token is None else keys[:, :1])
        q, k, v = (
            part.view(*part.shape[:2], self.heads, -1).transpose(1, 2)
            for part in (query, *self.key_value(keys).chunk(2, 2))
        )
        found = nn.functional.scaled_dot_product_attention(q, k, v, attn_mask=bias.to(q.dtype))
        asked = asked + self.norm_after(self.out(found.transpose(1, 2).flatten(2)))
        out: Tensor = asked + self.feed_forward(asked)
        return out


class ParticleTransformer(nn.Module):
    """Padded jets to logits.

    Parameters
    ----------
    inputs
        Features of a particle.
    width, heads, layers
        Of the particle attention layers; two class attention layers follow.
    """

    def __init__(self, inputs: int, width: int = 128, heads: int = 8, layers: int = 8) -> None:
        super().__init__()
        sizes = (inputs, 128, 512, width)
        embed: list[nn.Module] = []
        for before, after in itertools.pairwise(sizes):
            embed += [nn.LayerNorm(before), nn.Linear(before, after), nn.GELU()]
        self.embed = nn.Sequential(*embed)
        pairs: list[nn.Module] = [nn.BatchNorm2d(4)]
        for before, after in zip((4, 64, 64, 64), (64, 64, 64, heads), strict=True):
            pairs += [nn.Conv2d(before, after, 1), nn.BatchNorm2d(after), nn.GELU()]
        self.pairs = nn.Sequential(*pairs)
        self.layers = nn.ModuleList(_Block(width, heads) for _ in range(layers))
        self.class_layers = nn.ModuleList(_Block(width, heads) for _ in range(2))
        self.token = nn.Parameter(torch.randn(1, 1, width) * 0.02)
        self.head = nn.Sequential(nn.LayerNorm(width), nn.Linear(width, 2))

    def forward(self, features: Tensor, momenta: Tensor, padding: Tensor) -> Tensor:
        """Map features (jets, n, inputs) and pt, eta, phi (jets, n, 3) to logits (jets, 2).

        `padding`: (jets, n), -inf where there is no particle, else 0.
        """
        x = self.embed(features)
        masked = padding[:, None, None]
        bias = self.pairs(pair_features(*momenta.unbind(2))) + masked
        for layer in self.layers:
            x = layer(x, bias)
        token = self.token.expand(len(x), -1, -1)
        with_token = nn.functional.pad(masked, (1, 0))
        for layer in self.class_layers:
            token = layer(x, with_token, token)
        logits: Tensor = self.head(token[:, 0])
        return logits

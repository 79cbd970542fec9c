"""The jet frame and its image of one jet, in plain Python: what the vectorised code must agree with."""

import cmath
import math

import numpy as np


def wrapped(phi):
    return math.atan2(math.sin(phi), math.cos(phi))


def mean(values, weights):
    return sum(w * v for w, v in zip(weights, values, strict=True)) / sum(weights)


def centred(eta, phi, pt):
    around = cmath.phase(sum(w * cmath.exp(1j * angle) for w, angle in zip(pt, phi, strict=True)))
    turned = [wrapped(angle - around) for angle in phi]
    middle_eta, middle_phi = mean(eta, pt), mean(turned, pt)
    return [v - middle_eta for v in eta], [wrapped(v - middle_phi) for v in turned]


def principal_direction(x, y, pt):
    """The eigenvector of the larger eigenvalue, by numpy's solver."""
    matrix = np.cov(np.array([x, y]), aweights=pt, ddof=0)
    values, vectors = np.linalg.eigh(matrix)
    return None if values[1] - values[0] < 1e-10 else tuple(vectors[:, 1])


def turned(x, y, direction):
    """The direction becomes (0, 1)."""
    turn = 1j / complex(*direction)
    points = [turn / abs(turn) * complex(a, b) for a, b in zip(x, y, strict=True)]
    return [p.real for p in points], [p.imag for p in points]


def harder_side(x, pt):
    right = sum(w for v, w in zip(x, pt, strict=True) if v > 1e-13)
    left = sum(w for v, w in zip(x, pt, strict=True) if v < -1e-13)
    return -1 if left > right else 1


def principal_up(x, y, pt):
    direction = principal_direction(x, y, pt)
    if direction is not None:
        x, y = turned(x, y, direction)
    sign = harder_side(y, pt)
    return [sign * v for v in x], [sign * v for v in y]


def two_subjets(x, y, pt, steps=3):
    """Axes (x, y) and pT of both, the harder first; None where there is one direction only."""
    direction = principal_direction(x, y, pt)
    if direction is None:
        return None
    middle = mean(x, pt), mean(y, pt)
    first = [
        (a - middle[0]) * direction[0] + (b - middle[1]) * direction[1] > 0
        for a, b in zip(x, y, strict=True)
    ]
    for _ in range(steps):
        axes = []
        for wanted in (True, False):
            own = [i for i, chosen in enumerate(first) if chosen == wanted]
            weights = [pt[i] for i in own]
            axes.append(
                (mean([x[i] for i in own], weights), mean([y[i] for i in own], weights),
                 sum(weights))
            )  # fmt: skip
        first = [
            math.dist((a, b), axes[0][:2]) < math.dist((a, b), axes[1][:2])
            for a, b in zip(x, y, strict=True)
        ]
    return sorted(axes, key=lambda axis: -axis[2])


def second_subjet_up(x, y, pt):
    axes = two_subjets(x, y, pt)
    if axes is None:
        return x, y
    (x1, y1, _), (x2, y2, _) = axes
    return turned(x, y, (x2 - x1, y2 - y1))


def mirrored(x, pt):
    sign = harder_side(x, pt)
    return [sign * v for v in x]


def in_frame(frame, x, y, pt):
    if frame.centre == "pt":
        x, y = centred(x, y, pt)
    if frame.rotate == "principal":
        x, y = principal_up(x, y, pt)
    elif frame.rotate == "second":
        x, y = second_subjet_up(x, y, pt)
    if frame.flip:
        x = mirrored(x, pt)
        if frame.rotate == "none":
            y = mirrored(y, pt)
    return x, y


def image(x, y, weights, bins, half_width):
    """Sum of the weights in each pixel, [row of x][column of y]."""
    pixels = [[0.0] * bins for _ in range(bins)]
    for a, b, weight in zip(x, y, weights, strict=True):
        row = math.floor((a + half_width) / (2 * half_width) * bins)
        column = math.floor((b + half_width) / (2 * half_width) * bins)
        if 0 <= row < bins and 0 <= column < bins:
            pixels[row][column] += weight
    return pixels

"""Numbers in plain words: rounded as their errors allow."""

import math

from manyscale.evaluation.results import Rejection

__all__ = [
    "UNKNOWN",
    "count",
    "percent",
    "quantity",
    "rejection",
    "short",
    "sigmas",
    "signed",
    "value",
]

#: What stands where nothing is known.
UNKNOWN = "–"

# A smaller significance is as good as none.
_LEAST_SIGMA = 0.01
_SUPERSCRIPTS = str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹")


def _decimals(error: float | None) -> int:
    """Decimals that show two digits of the error, below 0 for a large one; four where there is none."""
    if error is None or not math.isfinite(error) or error <= 0:
        return 4
    return min(1 - math.floor(math.log10(error)), 8)


def _is_plain(number: float) -> bool:
    """Whether a number reads well without a power of ten."""
    return not math.isfinite(number) or number == 0 or 1e-3 <= abs(number) < 1e5


def value(number: float | None, error: float | None = None) -> str:
    """Write a figure with its error.

    Examples
    --------
    >>> value(0.97343, 0.00081)
    '0.97343 ± 0.00081'
    >>> value(61_881, 13_094), value(0.5), value(None)
    ('62,000 ± 13,000', '0.5000', '–')
    """
    if number is None:
        return UNKNOWN
    decimals = _decimals(error)
    shown = [
        f"{round(one, decimals):,.{max(decimals, 0)}f}"
        for one in (number, error)
        if one is not None
    ]
    return " ± ".join(shown)


def signed(number: float | None, error: float | None = None) -> str:
    """Write a number with its sign and error.

    Examples
    --------
    >>> signed(-0.0123, 0.004)
    '−0.0123 ± 0.0040'
    """
    if number is None:
        return UNKNOWN
    return ("+" if number >= 0 else "−") + value(abs(number), error)


def quantity(number: float | None, error: float | None = None) -> str:
    """Write a quantity of any size, with its error.

    Examples
    --------
    >>> quantity(25000, 250), quantity(1.5e-9, 2e-11), quantity(81.3), quantity(101_877.0)
    ('25,000 ± 250', '(1.500 ± 0.020) × 10⁻⁹', '81.3', '1.019 × 10⁵')
    """
    if number is None:
        return UNKNOWN
    if _is_plain(number):
        # .4g alone writes 1.02e+05
        return f"{float(f'{number:.4g}'):,.6g}" if error is None else value(number, error)
    power = math.floor(math.log10(abs(number)))
    exponent = str(power).translate(_SUPERSCRIPTS)
    if error is None:
        return f"{number / 10**power:.3f} × 10{exponent}"
    return f"({value(number / 10**power, error / 10**power)}) × 10{exponent}"


def short(number: float | None) -> str:
    """Write a number to three digits.

    Examples
    --------
    >>> short(1.2345), short(5_940_000_000), short(None)
    ('1.23', '5.94 × 10⁹', '–')
    """
    if number is None:
        return UNKNOWN
    if _is_plain(number):
        return quantity(float(f"{number:.3g}"))
    mantissa, power = f"{number:.2e}".split("e")
    return f"{mantissa} × 10{str(int(power)).translate(_SUPERSCRIPTS)}"


def count(number: float | None) -> str:
    """Write a number of things, thousands apart.

    Examples
    --------
    >>> count(20345), count(8123.4), count(None)
    ('20,345', '8,123', '–')
    """
    return UNKNOWN if number is None else f"{number:,.0f}"


def percent(change: float | None) -> str:
    """Write a relative change with its sign, in percent.

    Examples
    --------
    >>> percent(0.0213), percent(-0.1), percent(None)
    ('+2.1%', '−10.0%', '–')
    """
    return UNKNOWN if change is None else f"{change:+.1%}".replace("-", "−")


def rejection(interval: Rejection | None) -> str:
    """Write a rejection with its interval, or the limit where no background is left.

    Examples
    --------
    >>> rejection(Rejection(value=113.2, low=98.1, high=131.9))
    '113 (98 to 132)'
    >>> rejection(Rejection(value=None, low=812, high=None))
    'above 812'
    """
    if interval is None:
        return UNKNOWN
    number, low, high = (
        "any" if one is None else f"{one:,.0f}" if one >= 20 else f"{one:.1f}"
        for one in (interval.value, interval.low, interval.high)
    )
    return f"above {low}" if interval.value is None else f"{number} ({low} to {high})"


def sigmas(number: float | None, error: float | None = None) -> str:
    """Write a significance.

    Examples
    --------
    >>> sigmas(2.345, 0.12), sigmas(4e-13), sigmas(None)
    ('2.35 ± 0.12 σ', 'under 0.01 σ', '–')
    """
    if number is None:
        return UNKNOWN
    if number < _LEAST_SIGMA:
        return f"under {_LEAST_SIGMA:g} σ"
    return f"{value(number, error) if error else short(number)} σ"

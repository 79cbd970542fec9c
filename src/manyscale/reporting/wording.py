"""Numbers in plain words: rounded as their errors allow."""

import math
from collections.abc import Iterator, Mapping, Sequence

from manyscale.data.schema import Process
from manyscale.reporting.metrics_file import Rejection
from manyscale.reporting.run_files import ComparisonRow

__all__ = [
    "count",
    "cutflow",
    "difference",
    "flatten",
    "percent",
    "quantity",
    "rejection",
    "short",
    "signed",
    "time_spent",
    "value",
]

_PHASES = {
    "data_seconds": "waiting for data",
    "forward_seconds": "forward",
    "backward_seconds": "backward",
    "optimizer_seconds": "optimizer",
    "validation_seconds": "validation",
}

_NONE = "–"
_SUPERSCRIPTS = str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹")


def _digits(error: float | None) -> int:
    """Decimals that show two digits of the error; four where there is none."""
    if error is None or not math.isfinite(error) or error <= 0:
        return 4
    return min(max(1 - math.floor(math.log10(error)), 0), 8)


def value(number: float | None, error: float | None = None) -> str:
    """Write a figure with its error.

    Examples
    --------
    >>> value(0.97343, 0.00081)
    '0.97343 ± 0.00081'
    >>> value(0.5), value(None)
    ('0.5000', '–')
    """
    if number is None:
        return _NONE
    digits = _digits(error)
    return f"{number:.{digits}f}" + ("" if error is None else f" ± {error:.{digits}f}")


def quantity(number: float, error: float | None = None) -> str:
    """Write a quantity of any size, with its error.

    Examples
    --------
    >>> quantity(25000, 250), quantity(1.5e-9, 2e-11), quantity(81.3), quantity(101_877.0)
    ('25,000 ± 250', '(1.500 ± 0.020) × 10⁻⁹', '81.3', '101,900')
    """
    if number == 0 or 1e-3 <= abs(number) < 1e6:
        if error is None:
            return f"{float(f'{number:.4g}'):,.6g}"  # .4g alone writes 1.02e+05
        digits = _digits(error)
        return f"{number:,.{digits}f} ± {error:,.{digits}f}"
    power = math.floor(math.log10(abs(number)))
    exponent = str(power).translate(_SUPERSCRIPTS)
    if error is None:
        return f"{number / 10**power:.3f} × 10{exponent}"
    return f"({value(number / 10**power, error / 10**power)}) × 10{exponent}"


def difference(row: ComparisonRow) -> str:
    """Write a paired difference with sign and error; a dash where the row has none."""
    if row.difference is None:
        return _NONE
    return signed(row.difference, row.difference_error)


def signed(number: float, error: float | None = None) -> str:
    """Write a number with its sign and error.

    Examples
    --------
    >>> signed(-0.0123, 0.004)
    '−0.0123 ± 0.0040'
    """
    return ("+" if number >= 0 else "−") + value(abs(number), error)


def count(number: float | None) -> str:
    """Write a number of things, thousands apart.

    Examples
    --------
    >>> count(20345), count(8123.4), count(None)
    ('20,345', '8,123', '–')
    """
    return _NONE if number is None else f"{number:,.0f}"


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
        return _NONE
    if interval.value is None:
        return f"above {_short(interval.low)}"
    high = "any" if interval.high is None else _short(interval.high)
    return f"{_short(interval.value)} ({_short(interval.low)} to {high})"


def short(number: float | None) -> str:
    """Write a number to three digits.

    Examples
    --------
    >>> short(1.2345), short(5_940_000_000), short(None)
    ('1.23', '5.94 × 10⁹', '–')
    """
    if number is None:
        return _NONE
    if number == 0 or 1e-3 <= abs(number) < 1e6:
        return quantity(float(f"{number:.3g}"))
    mantissa, power = f"{number:.2e}".split("e")
    return f"{mantissa} × 10{str(int(power)).translate(_SUPERSCRIPTS)}"


def percent(change: float | None) -> str:
    """Write a relative change with its sign, in percent.

    Examples
    --------
    >>> percent(0.0213), percent(-0.1), percent(None)
    ('+2.1%', '−10.0%', '–')
    """
    return _NONE if change is None else f"{change:+.1%}".replace("-", "−")


def _short(number: float) -> str:
    return f"{number:,.0f}" if number >= 20 else f"{number:.1f}"


def time_spent(history: Sequence[Mapping[str, float]]) -> list[tuple[str, float, float]]:
    """Rows (phase, seconds in all epochs, share of all phases); none where they were not measured.

    Examples
    --------
    >>> time_spent([{"data_seconds": 1.0, "forward_seconds": 3.0}])
    [('waiting for data', 1.0, 0.25), ('forward', 3.0, 0.75)]
    """
    sums = {
        phase: math.fsum(row[key] for row in history if not math.isnan(row[key]))
        for key, phase in _PHASES.items()
        if history and key in history[-1]
    }
    total = math.fsum(sums.values())
    return [(phase, seconds, seconds / total) for phase, seconds in sums.items() if total > 0]


def flatten(tree: object, path: str = "") -> Iterator[tuple[str, str]]:
    """Rows (place, what stands there) of nested JSON; empty places are left out.

    Examples
    --------
    >>> list(flatten({"versions": {"torch": "2.13"}, "commit": None}))
    [('versions, torch', '2.13')]
    """
    if isinstance(tree, Mapping):
        for key, branch in tree.items():
            yield from flatten(branch, f"{path}, {key}" if path else str(key))
    elif isinstance(tree, list):
        for number, branch in enumerate(tree, start=1):
            name = branch.get("name") if isinstance(branch, Mapping) else None
            yield from flatten(branch, f"{path}, {name or number}" if path else str(number))
    elif isinstance(tree, float):
        yield path, quantity(tree)
    elif tree is not None:
        yield path, str(tree)


def cutflow(processes: tuple[Process, ...]) -> list[tuple[str, list[str]]]:
    """Rows (step, events of each process that passed it and their share of all generated).

    The share is that of the weights, where the sum of all generated is known.
    """
    steps = dict.fromkeys(step.step for process in processes for step in process.cutflow)
    return [(step, [_passed(process, step) for process in processes]) for step in steps]


def _passed(process: Process, name: str) -> str:
    for step in process.cutflow:
        if step.step == name:
            passed, generated = (
                (step.sum_weights, process.sum_weights)
                if process.sum_weights
                else (step.events, process.generated)
            )
            return f"{step.events:,}" + (f" ({passed / generated:.1%})" if generated else "")
    return _NONE

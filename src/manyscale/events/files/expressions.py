"""Simple expressions of branches, as a card holds them: parsed, never run as code.

Numbers, names of branches (`jet_pt`, `Event.Number`), `pi`, `true` and `false`; `+ - * / **`;
comparisons; `&`, `|` and `!` (also `&&`, `||`, `~`) between conditions; parentheses; and the
functions of `FUNCTIONS`. `sum`, `min` and `max` of one list run over an event's tokens:
`max(jet_pt) > 200`; `min` and `max` of two things take the smaller and the larger. A branch of text
is compared with text in quotes: `label == "s"`.

Comparisons bind tighter than `&` and `|`, as in C++: `a > 1 & b > 2` is `(a > 1) & (b > 2)`. What
Python or C++ would read in a surprising way is refused: bits (`flags & 4`), chains (`0 < x < 1`),
and `^`.

`x[3]` is a number, `x[0:2100:3]` some numbers, of a list of fixed length. Alone, `PX_*` stands for the
list of the branches PX_0, PX_1, ...
"""

import re
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from typing import Any, NamedTuple

import awkward as ak
import formulate
import numpy as np
from formulate.AST import AST, BinaryOperator, Call, Literal, Symbol, UnaryOperator
from numpy.typing import NDArray

from manyscale.errors import CardError, DataError, MissingBranchError
from manyscale.events.files.checks import check_finite
from manyscale.events.files.convert_settings import ConvertSettings
from manyscale.events.ragged import Array, Floats

__all__ = ["CUT", "FUNCTIONS", "WIDE", "CardExpressions", "Expression", "is_text", "parse"]

_NAME = r"[A-Za-z_][\w.]*"
_TEXT = r""""[^"]*"|'[^']*'"""
#: `PX_*`: all branches of that name and a number.
WIDE = re.compile(rf"({_NAME})\*")
#: `x[index]` or `x[first:last:step]`.
CUT = re.compile(rf"({_NAME})\[(?:(\d+)|(\d*):(\d*)(?::([1-9]\d*))?)\]")
_COMPARED = re.compile(rf"({_NAME})\s*([=!]=)\s*({_TEXT})|({_TEXT})\s*([=!]=)\s*({_NAME})")

_ARITHMETIC: dict[str, Callable[..., Any]] = {
    "add": np.add,
    "sub": np.subtract,
    "mul": np.multiply,
    "div": np.true_divide,
    "pow": np.power,
    "neg": np.negative,
    "pos": np.positive,
}
_COMPARISONS: dict[str, Callable[..., Any]] = {
    "lt": np.less,
    "gt": np.greater,
    "lte": np.less_equal,
    "gte": np.greater_equal,
    "eq": np.equal,
    "neq": np.not_equal,
}
_LOGIC: dict[str, Callable[..., Any]] = {
    "and": np.logical_and,
    "or": np.logical_or,
    "inv": np.logical_not,
}
_CONSTANTS = {"pi": np.float64(np.pi), "true": np.True_, "false": np.False_}


def _where(condition: Any, yes: Any, no: Any) -> Any:  # noqa: ANN401 - arrays of either library
    if any(isinstance(x, ak.Array) for x in (condition, yes, no)):
        return ak.where(*ak.broadcast_arrays(condition, yes, no))
    return np.where(condition, yes, no)


def _over_tokens(reduce: Callable[..., Any]) -> Callable[[Any], Any]:
    def reduced(values: Any) -> Any:  # noqa: ANN401
        if not isinstance(values, ak.Array) or values.ndim == 1:
            raise DataError("it sums or compares over the tokens of an event what has one an event")
        result = reduce(values, axis=1)
        return ak.to_numpy(ak.fill_none(result, np.nan))  # nothing to compare with is not a number

    return reduced


#: Functions by name and number of arguments.
FUNCTIONS: dict[tuple[str, int], Callable[..., Any]] = {
    **{
        (function.__name__, 1): function
        for function in (
            *(np.sqrt, np.exp, np.log, np.log10, np.sin, np.cos, np.tan, np.arctan),
            *(np.sinh, np.cosh, np.tanh, np.arcsinh),
        )
    },
    ("abs", 1): np.abs,
    ("arctan2", 2): np.arctan2,
    ("where", 3): _where,
    ("min", 2): np.minimum,
    ("max", 2): np.maximum,
    ("sum", 1): _over_tokens(ak.sum),
    ("min", 1): _over_tokens(ak.min),
    ("max", 1): _over_tokens(ak.max),
}
_CONDITIONS = {*_COMPARISONS, *_LOGIC}
_LONE_AND = re.compile(r"(?<!&)&(?!&)")
_LONE_OR = re.compile(r"(?<!\|)\|(?!\|)")


@dataclass(frozen=True)
class Expression:
    """An expression of a card; call it with arrays.

    Attributes
    ----------
    text
        As the card has it.
    key
        The card's key.
    names
        Branches that it uses, in the order of their appearance; `x[3]` and `PX_*` count as branches.
    compared
        Those of them that are compared with text.

    Examples
    --------
    >>> ratio = parse("where(b > 0, a / b, 0) & c", "convert.weight")
    Traceback (most recent call last):
    manyscale.errors.CardError: convert.weight: 'where(b > 0, a / b, 0) & c': & | ! are for \
conditions, such as comparisons, not for numbers
    >>> scaled = parse("1e-3 * jet_pt", "convert.observables.pt")
    >>> scaled.names, scaled({"jet_pt": np.array([2000.0, 500.0])})
    (('jet_pt',), array([2. , 0.5]))
    """

    text: str
    key: str
    names: tuple[str, ...]
    _tree: AST
    # What formulate does not know has a name in the tree: of that the branch, and of a comparison
    # with text operator and text.
    _stand_ins: Mapping[str, tuple[str, str, str]]
    compared: frozenset[str] = frozenset()

    def __call__(self, columns: Mapping[str, ak.Array | Array]) -> Any:  # noqa: ANN401
        """Evaluate on whole arrays.

        Parameters
        ----------
        columns
            The branches `names`, and any others: (events,), or a list an event.

        Returns
        -------
        Array of numpy or, where a branch has lists, of awkward; computed in double precision, but a
        lone name gives its branch as it is. A single number where no branch is named.

        Raises
        ------
        DataError
            Names the key, where the lists of an event have different lengths, or text and numbers
            are compared.
        """
        try:
            values = dict(columns)
            for symbol, (name, operator, text) in self._stand_ins.items():
                values[symbol] = (
                    _compare(columns[name], operator, text) if operator else columns[name]
                )
            if isinstance(self._tree, Symbol) and self.names:
                return _not_text(values[self._tree.name])
            with np.errstate(all="ignore"):
                return _evaluate(self._tree, values)
        except DataError as error:
            raise DataError(f"{self.key}: '{self.text}': {error}") from error
        except ValueError as error:
            raise DataError(
                f"{self.key}: '{self.text}' combines lists of different lengths"
            ) from error

    def each_event(self, columns: Mapping[str, ak.Array | Array], n_events: int) -> Array:
        """Evaluate to one number, or truth, an event.

        Returns
        -------
        (n_events,)

        Raises
        ------
        DataError
            Names the key, where it gives a list an event.
        """
        values = self(columns)
        if values.ndim > 1:
            raise DataError(
                f"{self.key}: '{self.text}' gives a list an event, where one number is needed; "
                "sum(...), min(...) and max(...) make one of a list"
            )
        array: Array = np.broadcast_to(np.asarray(values), (n_events,))
        return array

    def check_names(self, available: Collection[str], where: str) -> None:
        """Refuse names that a file does not have.

        Parameters
        ----------
        available
            Names of the file's branches.
        where
            Names the file and tree.

        Raises
        ------
        MissingBranchError
            Names the file, the key, the branch and what there is of similar name.
        """
        for name in self.names:
            if name not in available:
                close = get_close_matches(name, available, n=5, cutoff=0.5)
                there = ", ".join(close or sorted(available)[:20]) or "nothing"
                hint = "close to it there are" if close else "there are"
                raise MissingBranchError(
                    f"{where}: there is no branch '{name}', which {self.key}: '{self.text}' needs; "
                    f"{hint}: {there}",
                    self.key,
                )


def parse(text: str, key: str) -> Expression:
    """Parse an expression.

    Parameters
    ----------
    text
        The expression; see the top of the module.
    key
        The card's key that holds it, for messages: "convert.selection".

    Raises
    ------
    CardError
        Names the key, where it is no expression or uses what expressions do not have.

    Examples
    --------
    >>> both = parse("a > 1 & b > 2", "convert.selection")
    >>> both({"a": np.array([2, 2]), "b": np.array([1, 3])})
    array([False,  True])
    """
    if WIDE.fullmatch(text):
        return Expression(text, key, (text,), Symbol(text), {})
    stand_ins: dict[str, tuple[str, str, str]] = {}

    def stand_in(match: re.Match[str]) -> str:
        symbol = f"stands__{len(stand_ins)}"
        name, operator, quoted = match.groups()[:3] if match[1] else match.groups()[:2:-1]
        stand_ins[symbol] = (name, operator, quoted[1:-1])
        return symbol

    def cut(match: re.Match[str]) -> str:
        symbol = f"stands__{len(stand_ins)}"
        stand_ins[symbol] = (match[0], "", "")
        return symbol

    root = CUT.sub(cut, _COMPARED.sub(stand_in, text))
    if "^" in root:
        raise CardError(
            f"{key}: '{text}': ^ is a power to some and exclusive or to others: write ** for powers"
        )
    if '"' in root or "'" in root:
        raise CardError(
            f"{key}: '{text}': a text in quotes stands only beside == or !=, with a branch on the other "
            f'side: label == "s"'
        )
    try:
        tree = formulate.from_root(_LONE_OR.sub("||", _LONE_AND.sub("&&", root)).replace("~", "!"))
        symbols = list(_symbols(tree))
    except CardError as error:
        raise CardError(f"{key}: '{text}': {error}") from error
    except formulate.ParseError as error:
        column = getattr(error.lark_error, "column", None)
        known = isinstance(column, int) and column > 0 and not stand_ins
        place = f", from character {column} on" if known else ""
        raise CardError(f"{key}: '{text}' is no expression{place}; {_help()}") from error
    except (ValueError, SyntaxError, RecursionError) as error:
        raise CardError(f"{key}: '{text}' is no expression ({error}); {_help()}") from error
    names = dict.fromkeys(stand_ins.get(name, (name,))[0] for name in symbols)
    compared = frozenset(name for name, operator, _ in stand_ins.values() if operator)
    return Expression(text, key, tuple(names), tree, stand_ins, compared)


def _help() -> str:
    functions = ", ".join(dict.fromkeys(name for name, _ in FUNCTIONS))
    return f"there are + - * / **, comparisons, & | !, parentheses, and {functions}"


def _parts(node: AST) -> tuple[AST, ...]:
    if isinstance(node, BinaryOperator):
        return node.left, node.right
    if isinstance(node, UnaryOperator):
        return (node.operand,)
    return tuple(node.arguments) if isinstance(node, Call) else ()


def _is_condition(node: AST) -> bool:
    return isinstance(node, BinaryOperator | UnaryOperator) and node.operator in _CONDITIONS


def _symbols(node: AST) -> Iterator[str]:
    """Names of branches, in order.

    Refuses what the tables do not hold, and conditions and numbers in each other's place.
    """
    parts = _parts(node)
    if isinstance(node, BinaryOperator | UnaryOperator):
        names = [part.name for part in parts if isinstance(part, Symbol) and part.name != "pi"]
        if node.operator in _LOGIC and len(names) + sum(map(_is_condition, parts)) < len(parts):
            raise CardError("& | ! are for conditions, such as comparisons, not for numbers")
        if node.operator in _COMPARISONS and any(map(_is_condition, parts)):
            raise CardError("a comparison is compared; join comparisons with & or |")
        if node.operator not in {*_ARITHMETIC, *_CONDITIONS}:
            raise CardError(f"the operation '{node.operator}' is not offered; {_help()}")
    elif isinstance(node, Call):
        if (node.function, len(parts)) not in FUNCTIONS:
            raise CardError(
                f"there is no function {node.function} of {len(parts)} arguments; {_help()}"
            )
    elif isinstance(node, Symbol):
        if node.name not in _CONSTANTS:
            yield node.name
    elif not isinstance(node, Literal):
        raise CardError(f"brackets [ ] hold one number, or first:last:step; {_help()}")
    for part in parts:
        yield from _symbols(part)


def _evaluate(node: AST, columns: Mapping[str, Any]) -> Any:  # noqa: ANN401
    if isinstance(node, Literal):
        return np.float64(node.value)
    if isinstance(node, Symbol):
        values = _CONSTANTS.get(node.name, columns.get(node.name))
        # As lists of any length: those of one fixed length would be aligned with the last axis.
        is_list = isinstance(values, ak.Array) and values.ndim > 1
        return ak.from_regular(values, axis=1) if is_list else values
    parts = [_evaluate(part, columns) for part in _parts(node)]
    if isinstance(node, Call):
        return FUNCTIONS[node.function, len(parts)](*map(_number, parts))
    assert isinstance(node, BinaryOperator | UnaryOperator)  # noqa: S101 - _symbols allows no other
    if node.operator in _LOGIC:
        return _LOGIC[node.operator](*parts)
    return (_ARITHMETIC | _COMPARISONS)[node.operator](*map(_number, parts))


def is_text(values: Any) -> bool:  # noqa: ANN401
    """Whether an array holds a text an event."""
    texts = {"string", "bytestring"}
    return isinstance(values, ak.Array) and values.layout.parameter("__array__") in texts


def _compare(values: Any, operator: str, text: str) -> Array:  # noqa: ANN401
    if not is_text(values):
        raise DataError("a branch of numbers is compared with text: leave out the quotes")
    is_bytes = values.layout.parameter("__array__") == "bytestring"
    equal: Array = ak.to_numpy(values == (text.encode() if is_bytes else text))
    return equal if operator == "==" else ~equal


def _not_text(values: Any) -> Any:  # noqa: ANN401
    if is_text(values):
        raise DataError('a branch of text is only compared with text, as in label == "s"')
    return values


def _number(values: Any) -> Any:  # noqa: ANN401
    """In double precision, so that small or unsigned types neither round nor wrap."""
    if isinstance(values, ak.Array):
        return ak.values_astype(_not_text(values), np.float64)
    return np.asarray(values, np.float64)


class CardExpressions(NamedTuple):
    """Weight, observables and selection of the card, each one number an event."""

    weight: Expression | None
    observables: Mapping[str, Expression]
    selection: tuple[Expression, ...]

    @classmethod
    def parse(cls, convert: ConvertSettings) -> "CardExpressions":
        """Parse those of the card.

        Raises
        ------
        CardError
            Names the key of what is no expression.
        """
        return cls(
            None if convert.weight is None else parse(convert.weight, "convert.weight"),
            {
                name: parse(text, f"convert.observables.{name}")
                for name, text in convert.observables.items()
            },
            tuple(parse(text, "convert.selection") for text in convert.selection),
        )

    @property
    def all(self) -> tuple[Expression, ...]:
        """Every one of them."""
        weight = () if self.weight is None else (self.weight,)
        return (*weight, *self.observables.values(), *self.selection)

    @property
    def names(self) -> tuple[str, ...]:
        """Branches that they use, each once."""
        return tuple(dict.fromkeys(name for expression in self.all for name in expression.names))

    def weights(
        self, columns: Mapping[str, ak.Array | Array], n_events: int, where: Callable[[int], str]
    ) -> Floats | None:
        """(events,): weights by the card; None where it has no expression of them.

        Raises
        ------
        DataError
            Where one is not finite.
        """
        if self.weight is None:
            return None
        weight = self.weight.each_event(columns, n_events).astype(np.float64)
        check_finite({self.weight.text: weight}, np.arange(n_events), where)
        return weight

    def steps(
        self, columns: Mapping[str, ak.Array | Array], n_events: int
    ) -> dict[str, NDArray[np.bool_]]:
        """Return (events,) of each step of the selection, by its text."""
        return {
            step.text: step.each_event(columns, n_events).astype(bool) for step in self.selection
        }

    def values(self, columns: Mapping[str, ak.Array | Array], n_events: int) -> dict[str, Array]:
        """Return (events,) of each observable."""
        return {
            name: expression.each_event(columns, n_events)
            for name, expression in self.observables.items()
        }

"""Simple expressions of branches, as a card holds them: parsed, never run as code.

Numbers, names of branches (`jet_pt`, `Event.Number`), `pi`, `true` and `false`; `+ - * / **`;
comparisons; `&`, `|` and `!` (also `&&`, `||`, `~`) between conditions; parentheses; and the
functions of `FUNCTIONS`. `sum`, `min` and `max` of one list run over an event's tokens:
`max(jet_pt) > 200`; `min` and `max` of two things take the smaller and the larger.

Comparisons bind tighter than `&` and `|`, as in C++: `a > 1 & b > 2` is `(a > 1) & (b > 2)`. What
Python or C++ would read in a surprising way is refused: bits (`flags & 4`), chains (`0 < x < 1`),
and `^`.
"""

import re
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from typing import Any

import awkward as ak
import formulate
import numpy as np
from formulate.AST import AST, BinaryOperator, Call, Literal, Symbol, UnaryOperator

from manyscale.errors import CardError, DataError, MissingBranchError
from manyscale.events.particles import Array

__all__ = ["FUNCTIONS", "Expression", "parse"]

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
        Branches that it uses, in the order of their appearance.

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
            Names the key, where the lists of an event have different lengths.
        """
        if isinstance(self._tree, Symbol) and self.names:
            return columns[self._tree.name]
        try:
            with np.errstate(all="ignore"):
                return _evaluate(self._tree, columns)
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
    try:
        tree = _tree(text)
        symbols = _symbols(tree)
    except CardError as error:
        raise CardError(f"{key}: '{text}': {error}") from error
    except formulate.ParseError as error:
        raise CardError(f"{key}: '{text}' is no expression{_place(error)}; {_help()}") from error
    except (ValueError, SyntaxError, RecursionError) as error:
        raise CardError(f"{key}: '{text}' is no expression ({error}); {_help()}") from error
    names = dict.fromkeys(node.name for node in symbols if node.name not in _CONSTANTS)
    return Expression(text, key, tuple(names), tree)


def _tree(text: str) -> AST:
    if "^" in text:
        raise CardError("^ is a power to some and exclusive or to others: write ** for powers")
    tree = formulate.from_root(_LONE_OR.sub("||", _LONE_AND.sub("&&", text)).replace("~", "!"))
    _check(tree)
    return tree


def _place(error: Any) -> str:  # noqa: ANN401 - lark's errors have no types
    column = getattr(error.lark_error, "column", None)
    return f", from character {column} on" if isinstance(column, int) and column > 0 else ""


def _help() -> str:
    functions = ", ".join(dict.fromkeys(name for name, _ in FUNCTIONS))
    return f"there are + - * / **, comparisons, & | !, parentheses, and {functions}"


def _parts(node: AST) -> tuple[AST, ...]:
    if isinstance(node, BinaryOperator):
        return node.left, node.right
    if isinstance(node, UnaryOperator):
        return (node.operand,)
    return node.arguments if isinstance(node, Call) else ()


def _symbols(node: AST) -> list[Symbol]:
    if isinstance(node, Symbol):
        return [node]
    return [symbol for part in _parts(node) for symbol in _symbols(part)]


def _check(node: AST) -> None:
    """Refuse what the tables do not hold, and conditions and numbers in each other's place."""
    parts = _parts(node)
    if isinstance(node, BinaryOperator | UnaryOperator):
        if node.operator in _LOGIC and not all(map(_may_be_condition, parts)):
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
    elif not isinstance(node, Literal | Symbol):
        raise CardError(f"brackets [ ] are not offered; {_help()}")
    for part in parts:
        _check(part)


def _is_condition(node: AST) -> bool:
    return isinstance(node, BinaryOperator | UnaryOperator) and node.operator in _CONDITIONS


def _may_be_condition(node: AST) -> bool:
    return _is_condition(node) or (isinstance(node, Symbol) and node.name != "pi")


def _evaluate(node: AST, columns: Mapping[str, Any]) -> Any:  # noqa: ANN401
    if isinstance(node, Literal):
        return np.float64(node.value)
    if isinstance(node, Symbol):
        return _CONSTANTS[node.name] if node.name in _CONSTANTS else _column(columns[node.name])
    parts = [_evaluate(part, columns) for part in _parts(node)]
    if isinstance(node, Call):
        return FUNCTIONS[node.function, len(parts)](*map(_number, parts))
    assert isinstance(node, BinaryOperator | UnaryOperator)  # noqa: S101 - _check allows no other
    if node.operator in _LOGIC:
        return _LOGIC[node.operator](*parts)
    return (_ARITHMETIC | _COMPARISONS)[node.operator](*map(_number, parts))


def _column(values: Any) -> Any:  # noqa: ANN401
    """As lists of any length: those of one fixed length would be aligned with the last axis."""
    is_list = isinstance(values, ak.Array) and values.ndim > 1
    return ak.from_regular(values, axis=1) if is_list else values


def _number(values: Any) -> Any:  # noqa: ANN401
    """In double precision, so that small or unsigned types neither round nor wrap."""
    if isinstance(values, ak.Array):
        return ak.values_astype(values, np.float64)
    return np.asarray(values, np.float64)

"""Simple expressions of branches, as a card holds them: parsed, never run as code.

Numbers, names of branches (`jet_pt`, `Event.Number`), `pi`, `true` and `false`; `+ - * / **`;
comparisons; `&`, `|` and `!` (also `&&`, `||`, `~`) between conditions; parentheses; and the
functions of `FUNCTIONS`. `sum`, `min` and `max` of one list run over an event's tokens:
`max(jet_pt) > 200`; `min` and `max` of two things take the smaller and the larger. A branch of text
is compared with text in quotes: `label == "s"`. `x[3]` is a number of a list of fixed length.

Comparisons bind tighter than `&` and `|`, as in C++: `a > 1 & b > 2` is `(a > 1) & (b > 2)`. What
Python or C++ would read in a surprising way is refused: bits (`flags & 4`), chains (`0 < x < 1`),
and `^`.

Alone, as the whole of an expression, two things stand for a list an event: `PX_*` for the branches
PX_0, PX_1, ..., and `x[0:2100:3]` for some numbers of a list of fixed length.
"""

import re
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from typing import Any, NamedTuple

import awkward as ak
import formulate
import numpy as np
from formulate.AST import AST, BinaryOperator, Call, Literal, Matrix, Symbol, UnaryOperator
from numpy.typing import NDArray

from manyscale.errors import CardError, DataError
from manyscale.events.files.checks import check_finite
from manyscale.events.files.convert_settings import ConvertSettings
from manyscale.events.particles import Array, Floats

__all__ = ["FUNCTIONS", "SLICE", "WIDE", "CardExpressions", "Expression", "is_text", "parse"]

#: `PX_*`: all branches of that name and a number.
WIDE = re.compile(r"([A-Za-z_][\w.]*)\*")
#: `x[first:last:step]`.
SLICE = re.compile(r"([A-Za-z_][\w.]*)\[(\d*):(\d*)(?::([1-9]\d*))?\]")

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
_LONE_AND = re.compile(r"(?<!&)&(?!&)")
_LONE_OR = re.compile(r"(?<!\|)\|(?!\|)")
_QUOTED = re.compile(r""""[^"]*"|'[^']*'""")


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
        DataError
            Names the file, the key, the branch and what there is of similar name.
        """
        for name in self.names:
            if name not in available:
                close = get_close_matches(name, available, n=5, cutoff=0.5)
                there = ", ".join(close or sorted(available)[:20]) or "nothing"
                hint = "close to it there are" if close else "there are"
                raise DataError(
                    f"{where}: there is no branch '{name}', which {self.key}: '{self.text}' needs; "
                    f"{hint}: {there}"
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
    if WIDE.fullmatch(text) or SLICE.fullmatch(text):
        return Expression(text, key, (text,), Symbol(text))
    quoted: dict[str, str] = {}

    def take_out(match: re.Match[str]) -> str:  # formulate knows no text: a name stands for it
        name = f"text__{len(quoted)}"
        quoted[name] = match[0][1:-1]
        return name

    root = _LONE_OR.sub("||", _LONE_AND.sub("&&", _QUOTED.sub(take_out, text))).replace("~", "!")
    names: dict[str, None] = {}
    compared: set[str] = set()
    try:
        if "^" in root:
            raise CardError("^ is a power to some and exclusive or to others: write ** for powers")
        tree = _checked(formulate.from_root(root), quoted, names, compared)
    except CardError as error:
        raise CardError(f"{key}: '{text}': {error}") from error
    except formulate.ParseError as error:
        column = getattr(error.lark_error, "column", None)
        known = isinstance(column, int) and column > 0 and not quoted
        place = f", from character {column} on" if known else ""
        raise CardError(f"{key}: '{text}' is no expression{place}; {_help()}") from error
    except (ValueError, SyntaxError, RecursionError) as error:
        raise CardError(f"{key}: '{text}' is no expression ({error}); {_help()}") from error
    return Expression(text, key, tuple(names), tree, frozenset(compared))


def _help() -> str:
    functions = ", ".join(dict.fromkeys(name for name, _ in FUNCTIONS))
    return f"there are + - * / **, comparisons, & | !, parentheses, and {functions}"


def _checked(
    node: AST, quoted: Mapping[str, str], names: dict[str, None], compared: set[str]
) -> AST:
    """Refuse what the tables do not hold, and conditions and numbers in each other's place.

    Collects the branches, and those compared with text; returns the tree with each text in its place.
    """
    if isinstance(node, Symbol):
        if node.name in quoted:
            raise CardError('a text in quotes stands only beside == or !=: label == "s"')
        if node.name not in _CONSTANTS:
            names[node.name] = None
        return node
    if isinstance(node, Literal):
        return node
    if isinstance(node, Matrix):
        index = node.indices[0]
        plain = isinstance(node.var, Symbol) and isinstance(index, Literal)
        if not plain or len(node.indices) > 1 or not isinstance(index.value, int):
            raise CardError(f"brackets [ ] hold one number, behind the name of a branch; {_help()}")
        _checked(node.var, quoted, names, compared)
        return node
    if isinstance(node, Call):
        if (node.function, len(node.arguments)) not in FUNCTIONS:
            raise CardError(
                f"there is no function {node.function} of {len(node.arguments)} arguments; {_help()}"
            )
        parts = [_checked(part, quoted, names, compared) for part in node.arguments]
        return Call(node.function, parts)
    if not isinstance(node, BinaryOperator | UnaryOperator):
        raise CardError(f"brackets [ ] are not offered; {_help()}")
    operator = node.operator
    operands = (node.left, node.right) if isinstance(node, BinaryOperator) else (node.operand,)
    if operator in _LOGIC and not all(
        _is_condition(part) or (isinstance(part, Symbol) and part.name != "pi") for part in operands
    ):
        raise CardError("& | ! are for conditions, such as comparisons, not for numbers")
    if operator in _COMPARISONS and any(map(_is_condition, operands)):
        raise CardError("a comparison is compared; join comparisons with & or |")
    if operator not in {*_ARITHMETIC, *_COMPARISONS, *_LOGIC}:
        raise CardError(f"the operation '{operator}' is not offered; {_help()}")
    symbols = [part.name for part in operands if isinstance(part, Symbol)]
    texts = [name for name in symbols if name in quoted]
    branches = [name for name in symbols if name not in {*quoted, *_CONSTANTS}]
    if operator in {"eq", "neq"} and len(texts) == len(branches) == 1:
        names[branches[0]] = None
        compared.add(branches[0])
        return BinaryOperator(operator, Symbol(branches[0]), Literal(quoted[texts[0]]))
    parts = [_checked(part, quoted, names, compared) for part in operands]
    return type(node)(operator, *parts)


def _is_condition(node: AST) -> bool:
    return isinstance(node, BinaryOperator | UnaryOperator) and node.operator in {
        *_COMPARISONS,
        *_LOGIC,
    }


def _evaluate(node: AST, columns: Mapping[str, Any]) -> Any:  # noqa: ANN401
    if isinstance(node, Literal):
        return np.float64(node.value)
    if isinstance(node, Symbol):
        if node.name in _CONSTANTS:
            return _CONSTANTS[node.name]
        values = columns[node.name]
        # As lists of any length: those of one fixed length would be aligned with the last axis.
        is_list = isinstance(values, ak.Array) and values.ndim > 1
        return ak.from_regular(values, axis=1) if is_list else values
    if isinstance(node, Matrix):
        return _element(columns[node.var.name], int(node.indices[0].value))
    if isinstance(node, Call):
        arguments = [_number(_evaluate(part, columns)) for part in node.arguments]
        return FUNCTIONS[node.function, len(arguments)](*arguments)
    if isinstance(node, UnaryOperator):
        operand = _evaluate(node.operand, columns)
        if node.operator in _LOGIC:
            return _LOGIC[node.operator](operand)
        return _ARITHMETIC[node.operator](_number(operand))
    assert isinstance(node, BinaryOperator)  # noqa: S101 - _checked allows no other
    left = _evaluate(node.left, columns)
    if isinstance(node.right, Literal) and isinstance(node.right.value, str):
        if not is_text(left):
            raise DataError("a branch of numbers is compared with text: leave out the quotes")
        text: Any = node.right.value
        if left.layout.parameter("__array__") == "bytestring":
            text = text.encode()
        equal = ak.to_numpy(left == text)
        return equal if node.operator == "eq" else ~equal
    right = _evaluate(node.right, columns)
    if node.operator in _LOGIC:
        return _LOGIC[node.operator](left, right)
    return (_ARITHMETIC | _COMPARISONS)[node.operator](_number(left), _number(right))


def _element(values: Any, index: int) -> Any:  # noqa: ANN401
    array = ak.Array(values)
    if array.ndim != 2 or not array.layout.purelist_isregular:
        raise DataError(
            "brackets [ ] take a number out of lists of one fixed length; of lists of any length "
            "max(...), min(...) and sum(...) make one number"
        )
    width = int(array.type.content.size)
    if index >= width:
        raise DataError(f"the lists have {width} numbers, the first of them [0]")
    return array[:, index]


def is_text(values: Any) -> bool:  # noqa: ANN401
    """Whether an array holds a text an event."""
    return isinstance(values, ak.Array) and values.layout.parameter("__array__") in {
        "string",
        "bytestring",
    }


def _number(values: Any) -> Any:  # noqa: ANN401
    """In double precision, so that small or unsigned types neither round nor wrap."""
    if isinstance(values, ak.Array):
        if is_text(values):
            raise DataError('a branch of text is only compared with text, as in label == "s"')
        return ak.values_astype(values, np.float64)
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

import awkward as ak
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from manyscale.errors import CardError, DataError
from manyscale.events.files.expressions import FUNCTIONS, parse

KEY = "convert.observables.x"
COLUMNS = ("a", "b", "c")


def compute(text, **columns):
    return parse(text, KEY)(columns)


#: Pairs of an expression and numpy's own reading of it, built side by side.
leaves = st.one_of(
    st.sampled_from([(name, lambda x, name=name: x[name]) for name in COLUMNS]),
    st.floats(0.125, 9, width=16).map(lambda v: (repr(v), lambda x: np.float64(v))),
)


def _grow(inner):
    operation = st.sampled_from(
        [("+", np.add), ("-", np.subtract), ("*", np.multiply), ("/", np.true_divide)]
    )
    function = st.sampled_from(
        [("sqrt", np.sqrt), ("abs", np.abs), ("exp", np.exp), ("log", np.log), ("-", np.negative)]
    )
    two = st.sampled_from([("arctan2", np.arctan2), ("min", np.minimum), ("max", np.maximum)])
    return st.one_of(
        st.tuples(operation, inner, inner).map(
            lambda t: (
                f"({t[1][0]} {t[0][0]} {t[2][0]})",
                lambda x: t[0][1](t[1][1](x), t[2][1](x)),
            )
        ),
        st.tuples(function, inner).map(
            lambda t: (f"{t[0][0]}({t[1][0]})", lambda x: t[0][1](t[1][1](x)))
        ),
        st.tuples(two, inner, inner).map(
            lambda t: (
                f"{t[0][0]}({t[1][0]}, {t[2][0]})",
                lambda x: t[0][1](t[1][1](x), t[2][1](x)),
            )
        ),
        st.tuples(inner, inner, inner, inner).map(
            lambda t: (
                f"where({t[0][0]} < {t[1][0]}, {t[2][0]}, {t[3][0]})",
                lambda x: np.where(t[0][1](x) < t[1][1](x), t[2][1](x), t[3][1](x)),
            )
        ),
    )


@given(
    st.recursive(leaves, _grow, max_leaves=8),
    arrays.arrays(np.float64, (3, 5), elements=st.floats(-100, 100)),
)
def test_any_expression_is_what_numpy_makes_of_it_flat_and_jagged(pair, values):
    text, reference = pair
    columns = dict(zip(COLUMNS, values, strict=True))
    with np.errstate(all="ignore"):
        expected = np.broadcast_to(reference(columns), 5)
    result = parse(text, KEY).each_event(columns, 5)
    np.testing.assert_array_equal(result, expected)
    jagged = {name: ak.unflatten(x, [2, 0, 3]) for name, x in columns.items()}
    lists = parse(text, KEY)(jagged)
    if lists.ndim:
        np.testing.assert_array_equal(ak.flatten(lists, axis=1), expected)
        assert ak.num(lists).tolist() == [2, 0, 3]


@given(st.tuples(*[arrays.arrays(bool, 6)] * 3))
def test_comparisons_bind_tighter_than_and_which_binds_tighter_than_or(values):
    a, b, c = (v.astype(int) for v in values)
    result = compute("a > 0 | b == 1 & c < 1", a=a, b=b, c=c)
    np.testing.assert_array_equal(result, (a > 0) | ((b == 1) & (c < 1)))
    for text in ("!(a > 0) && b != 0 || c", "~(a > 0) & b | c"):
        np.testing.assert_array_equal(
            compute(text, a=a, b=b, c=c).astype(bool), (~(a > 0) & (b != 0)) | (c != 0)
        )


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("-x**2", -9.0),
        ("2**3**2", 512.0),
        ("2**-x", 0.125),
        ("10 - 4 - 3", 3.0),
        ("24 / 4 / 3", 2.0),
        ("1e-3 * 2.5E3 + .5", 3.0),
        ("cos(pi)", -1.0),
        ("(x > 2) * 5", 5.0),
        ("where(true & x == 3, 1, 2)", 1.0),
        ("arcsinh(sinh(x))", 3.0),
        ("sin(0) + cosh(0) + tanh(0) + tan(0) + arctan(0) + log10(100)", 3.0),
    ],
)
def test_known_values(text, value):
    assert parse(text, KEY).each_event({"x": np.array([3])}, 1) == pytest.approx(value, abs=1e-12)


def test_small_and_unsigned_integers_neither_wrap_nor_round():
    x = np.array([1, 200], np.uint8)
    assert compute("x - 2", x=x).tolist() == [-1, 198]
    assert compute("-x", x=x).tolist() == [-1, -200]
    assert compute("x * x", x=x).tolist() == [1, 40000]


def test_a_lone_name_is_its_branch_as_it_is():
    event = np.array([2**60 + 1])
    assert compute("event", event=event) is event
    assert parse("Event.Number + 1", KEY).names == ("Event.Number",)
    assert compute("Event.Number + 1", **{"Event.Number": np.array([4])}).tolist() == [5]


def test_names_are_the_branches_used_in_order_and_once():
    assert parse("b + where(a > pi, b, tau) * true", KEY).names == ("b", "a", "tau")


def test_functions_of_one_list_run_over_the_tokens_of_an_event():
    x = ak.Array([[1.0, 3.0], [], [2.0]])
    assert compute("sum(x > 1)", x=x).tolist() == [1, 0, 1]
    assert compute("max(x)", x=x)[[0, 2]].tolist() == [3, 2]
    assert compute("max(x) > 0", x=x).tolist() == [True, False, True]
    assert compute("min(x) < 9", x=x).tolist() == [True, False, True]
    assert compute("x / sum(x)", x=x).tolist() == [[0.25, 0.75], [], [1.0]]


def test_a_number_an_event_combines_with_lists_of_fixed_length():
    x, w = ak.Array(np.arange(4.0).reshape(2, 2)), np.array([10, 20])
    assert compute("w * x", x=x, w=w).tolist() == [[0, 10], [40, 60]]


def test_a_number_an_event_combines_with_lists():
    x, w = ak.Array([[1.0, 2.0], [], [3.0]]), np.array([10, 20, 30])
    assert compute("w * x", x=x, w=w).tolist() == [[10, 20], [], [90]]
    assert compute("where(w > 15, x, w)", x=x, w=w).tolist() == [[10, 10], [], [3]]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a >", "no expression, from character 3"),
        ("a $ b", "no expression"),
        ("", "no expression"),
        ("flags & 4", "conditions"),
        ("a > 1 & b + 2", "conditions"),
        ("!3", "conditions"),
        ("0 < x < 1", "comparison is compared"),
        ("(a & b) == 3", "comparison is compared"),
        ("a ^ 2", "write \\*\\*"),
        ("sqrt(a, b)", "no function sqrt of 2"),
        ("nonsense(a)", 'Unknown function or constant "nonsense"'),
        ("erf(a)", "no function erf"),
        ("a % 2", "'mod' is not offered"),
        ("a[i]", "brackets"),
        ("a[0][1]", "brackets"),
        ("a:b", "not offered"),
        ("__import__('os')", "a text in quotes stands only"),
        ("lambda", "not a valid symbol"),
        ("+".join("a" * 5000), "no expression"),
    ],
)
def test_what_is_no_expression_is_refused_with_the_key(text, message):
    with pytest.raises(CardError, match=message) as error:
        parse(text, "convert.selection")
    assert str(error.value).startswith("convert.selection: ")


def test_every_function_is_listed_in_the_error():
    with pytest.raises(CardError) as error:
        parse("a >", KEY)
    assert all(name in str(error.value) for name, _ in FUNCTIONS)


def test_a_list_where_a_number_is_needed_names_the_key():
    with pytest.raises(DataError, match=r"convert.observables.x: 'x' gives a list"):
        parse("x", KEY).each_event({"x": ak.Array([[1.0], []])}, 2)
    with pytest.raises(DataError, match=r"observables.x: 'sum\(x\)': .* over the tokens"):
        compute("sum(x)", x=np.ones(2))


def test_lists_of_different_lengths_are_refused():
    with pytest.raises(DataError, match="'a \\+ b' combines lists of different lengths"):
        compute("a + b", a=ak.Array([[1], [2]]), b=ak.Array([[1], [2, 3]]))


def test_an_unknown_branch_is_named_with_those_close_to_it():
    expression = parse("jet_pT > 3", "convert.selection")
    with pytest.raises(DataError, match=r"f\.root: there is no branch 'jet_pT'.*jet_pt") as error:
        expression.check_names(["jet_pt", "jet_eta", "zzz"], "f.root")
    assert "convert.selection: 'jet_pT > 3'" in str(error.value)
    assert "zzz" not in str(error.value)
    with pytest.raises(DataError, match="there are: jet_pt"):
        parse("qqq", KEY).check_names(["jet_pt"], "f.root")
    expression.check_names(["jet_pT"], "f.root")

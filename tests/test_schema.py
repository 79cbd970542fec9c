"""The registry of columns and the names that a dataset allows."""

import pytest

from manyscale.errors import DataError
from manyscale.schema import (
    AXIS_COLUMNS,
    COLUMNS,
    Schema,
    StreamSchema,
    check_stream_names,
)

JET = StreamSchema(name="jet1", columns=("pt", "eta"), axis=("jet_pt",))


def test_every_column_has_a_range_and_a_line():
    for name, column in COLUMNS.items():
        assert column.name == name
        assert column.low < column.high
        assert column.doc
    assert set(AXIS_COLUMNS) <= set(COLUMNS)


def test_padded_columns_are_those_of_the_tokens_then_the_axis():
    assert JET.all_columns == ("pt", "eta", "jet_pt")
    ordered = JET.model_copy(update={"array_columns": ("jet_pt", "pt", "eta")})
    assert ordered.all_columns == ("jet_pt", "pt", "eta")
    assert ordered.same_content(JET)
    assert not ordered.same_content(JET.model_copy(update={"axis": ()}))


def test_what_is_missing_is_named_beside_what_there_is():
    with pytest.raises(DataError, match=r"'jet1' has no column 'phi'; it has pt, eta"):
        JET.column("phi")
    with pytest.raises(DataError, match=r"no stream 'jet2'; they have jet1"):
        Schema(streams=(JET,)).stream("jet2")


def test_a_schema_survives_json():
    schema = Schema(streams=(JET,), observables=("run",))
    assert Schema.model_validate_json(schema.model_dump_json()) == schema


@pytest.mark.parametrize(
    "names", [(), ("",), ("jet 1",), ("1jet",), ("weight",), ("event_id",), ("jet", "jet_axis")]
)
def test_names_of_streams_that_no_dataset_could_hold(names):
    with pytest.raises(DataError):
        check_stream_names(names)


def test_plain_names_of_streams_are_allowed():
    check_stream_names(("jet1", "kinematics", "my_axis"))

"""In whatever form a column is passed, its rows are those of its Python values."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pandas as pd
import pyarrow as pa
import pytest

from prediction_batches.errors import PredictionsError
from tests.batches.rows.given_forms import ARROW, PANDAS
from tests.batches.rows.row_reference import check_equal, encoded, reference_lines, schema_of

if TYPE_CHECKING:
    from prediction_contract.rows.schema import PredictionSchema

TYPES = ["string", "long", "double", "decimal(7,2)", "decimal(38,19)", "decimal(38,0)", "boolean", "date"]
TYPES += ["timestamp", "json"]


def check_alike(schema: PredictionSchema, table: pd.DataFrame | pa.Table) -> None:
    """Check that both ways give equal rows, or the same error and then equal rows one at a time."""
    try:
        reference_lines(schema, table)
    except (PredictionsError, TypeError) as error:
        what = error.what if isinstance(error, PredictionsError) else str(error)
        with pytest.raises(PredictionsError) as raised:
            encoded(schema, table)
        assert what in raised.value.what
        for place in range(len(table) if len(table) > 1 else 0):
            is_arrow = isinstance(table, pa.Table)
            check_alike(schema, table.slice(place, 1) if is_arrow else table.iloc[place : place + 1])
    else:
        check_equal(schema, table)


@pytest.mark.parametrize("kind", TYPES)
@pytest.mark.parametrize("form", PANDAS)
def test_pandas_columns_equal_their_python_values(form: str, kind: str) -> None:
    """A pandas column of any dtype is encoded like its Python values, for each column type."""
    given = PANDAS[form]
    schema = schema_of({"key": "string", "v": kind}, "key")
    keys = pd.Series([f"k{number}" for number in range(len(given))])
    check_alike(schema, pd.DataFrame({"v": given, "key": keys}))


@pytest.mark.parametrize("kind", TYPES)
@pytest.mark.parametrize("form", ARROW)
def test_arrow_columns_equal_their_python_values(form: str, kind: str) -> None:
    """An Arrow column of any type is encoded like its Python values, in a table and in a DataFrame."""
    given = ARROW[form]
    schema = schema_of({"key": "string", "v": kind}, "key")
    keys = pa.array([f"k{number}" for number in range(len(given))])
    table = pa.table({"key": keys, "v": given})
    check_alike(schema, table)
    if not pa.types.is_dictionary(given.type):
        check_alike(schema, table.to_pandas(types_mapper=pd.ArrowDtype))


def test_key_column_may_have_any_form() -> None:
    """A key column of any form is encoded or refused like its Python values."""
    schema = schema_of({"key": "string", "v": "long"}, "key")
    for given in PANDAS.values():
        check_alike(schema, pd.DataFrame({"key": given, "v": 1}))

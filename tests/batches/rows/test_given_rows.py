"""Whatever form a column is given in, its rows are those of its values as Python tells them."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pandas as pd
import pyarrow as pa
import pytest

from prediction_batches.errors import PredictionsError
from tests.batches.rows.given_forms import ARROW, PANDAS
from tests.batches.rows.row_reference import check_equal, encoded, lines_one_by_one, schema_of

if TYPE_CHECKING:
    from prediction_contract.rows.schema import PredictionSchema

TYPES = ["string", "long", "double", "decimal(7,2)", "decimal(38,19)", "decimal(38,0)", "boolean", "date"]
TYPES += ["timestamp", "json"]


def check_alike(schema: PredictionSchema, table: pd.DataFrame | pa.Table) -> None:
    """Find the rows equal, or refused with the same words and then each by itself."""
    try:
        lines_one_by_one(schema, table)
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
def test_a_column_of_pandas_is_what_python_tells_of_it(form: str, kind: str) -> None:
    """Of every dtype, for every column type."""
    given = PANDAS[form]
    schema = schema_of({"key": "string", "v": kind}, "key")
    keys = pd.Series([f"k{number}" for number in range(len(given))])
    check_alike(schema, pd.DataFrame({"v": given, "key": keys}))


@pytest.mark.parametrize("kind", TYPES)
@pytest.mark.parametrize("form", ARROW)
def test_a_column_of_arrow_is_what_python_tells_of_it(form: str, kind: str) -> None:
    """Of every type, in a table, and in a DataFrame of Arrow's types."""
    given = ARROW[form]
    schema = schema_of({"key": "string", "v": kind}, "key")
    keys = pa.array([f"k{number}" for number in range(len(given))])
    table = pa.table({"key": keys, "v": given})
    check_alike(schema, table)
    if not pa.types.is_dictionary(given.type):
        check_alike(schema, table.to_pandas(types_mapper=pd.ArrowDtype))


def test_the_key_may_be_of_any_form() -> None:
    """A row without a key is refused, whatever stands for it."""
    schema = schema_of({"key": "string", "v": "long"}, "key")
    for given in PANDAS.values():
        check_alike(schema, pd.DataFrame({"key": given, "v": 1}))

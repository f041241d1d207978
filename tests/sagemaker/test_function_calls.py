"""Tests of calling a model's functions: their arguments, their results and their errors."""

from __future__ import annotations

import traceback
from typing import TYPE_CHECKING

import pandas as pd
import pyarrow as pa
import pytest

from prediction_contract.errors import ContractError
from sagemaker_scripts.functions.entity_rows import EntityRowsError
from sagemaker_scripts.functions.function_calls import FunctionError
from sagemaker_scripts.tables.returned_tables import ReturnedTableError
from tests.sagemaker.written_functions import function_writer

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from sagemaker_scripts.functions.function_calls import ModelFunctions

DAY = "2013-02-03"
ORDERS = pa.table({"customer_id": ["a", "b"], "amount": pa.array([2**53 + 1, None], pa.int64())})


@pytest.fixture
def write(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., ModelFunctions]:
    """Return a function that writes a model's functions."""
    return function_writer(tmp_path, monkeypatch)


@pytest.mark.parametrize(
    ("tables", "body"),
    [
        ("pandas", 'return orders.rename(columns={"customer_id": "entity_id"})'),
        ("polars", 'return orders.rename({"customer_id": "entity_id"})'),
        ("arrow", 'return orders.rename_columns(["entity_id", "amount"])'),
        ("pandas", "import duckdb_like\n    return duckdb_like.relation(orders)"),
    ],
)
def test_features_accepts_each_table_library(
    write: Callable[..., ModelFunctions], tmp_path: Path, tables: str, body: str
) -> None:
    """Tables of each library are passed and accepted, and large integers beside a null keep their digits."""
    functions = write(tables=tables, features=f"def features(partition, orders):\n    {body}\n")
    (tmp_path / "src" / "duckdb_like.py").write_text(
        "import pyarrow as pa\n"
        "class Relation:\n"
        "    def __init__(self, table): self.table = table\n"
        "    def __arrow_c_stream__(self, requested_schema=None):\n"
        "        return self.table.to_reader().__arrow_c_stream__(requested_schema)\n"
        "def relation(frame):\n"
        "    frame = frame.rename(columns={'customer_id': 'entity_id'})\n"
        "    return Relation(pa.Table.from_pandas(frame))\n"
    )
    made = functions.features(DAY, {"orders": ORDERS})
    assert made.to_pydict() == {"entity_id": ["a", "b"], "amount": [2**53 + 1, None]}
    assert made.schema.field("amount").type == pa.int64()


def test_pandas_types_do_not_depend_on_missing_values(
    write: Callable[..., ModelFunctions],
) -> None:
    """Integers and booleans are nullable types in any case, so a model meets the same types each day."""
    functions = write(
        train="def train(examples):\n    return {name: str(kind) for name, kind in examples.dtypes.items()}\n"
    )
    whole = pa.table({"long": [1], "flag": [True], "number": [1.5], "text": ["a"]})
    with_nulls = pa.table(
        {name: pa.array([None], column.type) for name, column in zip(whole.column_names, whole, strict=True)}
    )
    types = {"long": "Int64", "flag": "boolean", "number": "float64", "text": "str"}
    assert functions.train(whole) == functions.train(with_nulls) == types


def test_pandas_keeps_digits_of_nested_integers(
    write: Callable[..., ModelFunctions],
) -> None:
    """Large integers in lists and structs keep their digits, also beside a null."""
    functions = write(
        train="def train(examples):\n"
        "    return [[*examples['list'][0]], examples['struct'][0], examples['struct'][1]]\n"
    )
    large = 2**60 + 1
    rows = pa.table({"list": [[large, None], None], "struct": [{"n": large}, {"n": None}]})
    assert functions.train(rows) == [[large, None], {"n": large}, {"n": None}]


def test_integer_over_64_bits_is_refused(write: Callable[..., ModelFunctions]) -> None:
    """Arrow has no integers of more than 64 bits, so the error names the column."""
    functions = write(
        features="import pandas as pd\ndef features(partition):\n"
        "    return pd.DataFrame({'entity_id': ['a'], 'n': [2**70]})\n"
    )
    with pytest.raises(ReturnedTableError, match="column n holds an integer of more than 64 bits"):
        functions.features(DAY, {})


def test_empty_outcomes_are_accepted(write: Callable[..., ModelFunctions]) -> None:
    """A table without rows is valid outcomes, whatever types pandas gave its columns."""
    functions = write(
        outcomes="""
        import pandas as pd
        def outcomes(partition, orders):
            return pd.DataFrame({"partition": [], "entity_id": [], "churned": []})
        """
    )
    made = functions.outcomes(DAY, {"orders": ORDERS})
    assert made.num_rows == 0
    assert [str(made.schema.field(name).type) for name in ("partition", "entity_id")] == ["large_string"] * 2


@pytest.mark.parametrize(
    ("returned", "complaint"),
    [
        ("[1]", "returned list, which is not a table. Return a pandas or Polars DataFrame"),
        ("None", "returned None, which is not a table"),
        ("pl.LazyFrame({'entity_id': ['a']})", r"returned a LazyFrame.*Call collect\(\) on it"),
        ("pl.Series(['a'])", "Arrow cannot read as a table"),
        ("pd.DataFrame({'x': [1]})", "no column entity_id for .*; its columns are x"),
        ("pd.DataFrame({'entity_id': [1, 2]})", "returned column entity_id for .* as int64, not as text"),
        ("pd.DataFrame({'entity_id': ['a', None]})", "1 rows without entity_id for .*; the first is row 2"),
        ("pd.DataFrame({'entity_id': ['a', 'b', 'a']})", "several rows for .* of 'a'"),
        (
            "pd.DataFrame({'entity_id': ['a'], 'partition': 'x'})",
            "returned a column partition for .*; the platform adds",
        ),
        ("pd.DataFrame({'x': [1]}, pd.Index(['a'], name='entity_id'))", "index is entity_id.*reset_index"),
        ("pd.DataFrame([['a', 'b']], columns=['entity_id'] * 2)", "column entity_id more than once"),
        ("pd.DataFrame([['a', 'b']], columns=['entity_id', 7])", "a column named 7, which is not a text"),
        (
            "pd.DataFrame({'entity_id': ['a', 'b'], 'x': [1, 'secret']})",
            "column x holds int from row 1 on, str from row 2 on",
        ),
    ],
)
def test_invalid_features_are_refused(
    write: Callable[..., ModelFunctions], returned: str, complaint: str
) -> None:
    """The error names model, function, column and row, but quotes no value other than keys."""
    functions = write(
        features="import pandas as pd\nimport polars as pl\n"
        f"def features(partition):\n    return {returned}\n"
    )
    with pytest.raises((EntityRowsError, ReturnedTableError), match=complaint) as refused:
        functions.features(DAY, {})
    assert "features of churn" in str(refused.value)
    assert "secret" not in str(refused.value)


@pytest.mark.parametrize(
    ("partitions", "complaint"),
    [(["2013-02-01", "2013-02-01"], "several rows for .* of 'a' of '2013-02-01'"), (["1 Feb", "2"], "1 Feb")],
)
def test_outcomes_with_duplicates_or_invalid_partitions_are_refused(
    write: Callable[..., ModelFunctions], partitions: list[str], complaint: str
) -> None:
    """Such outcomes would be joined twice or not at all."""
    functions = write(
        outcomes=f"import pandas as pd\ndef outcomes(partition):\n"
        f"    return pd.DataFrame({{'partition': {partitions}, 'entity_id': 'a'}})\n"
    )
    with pytest.raises(EntityRowsError, match=complaint):
        functions.outcomes(DAY, {})


def test_function_error_names_partition_and_keeps_traceback(write: Callable[..., ModelFunctions]) -> None:
    """The error names model, function and partition, and its traceback includes the author's line."""
    functions = write(
        predict="def predict(features, model, previous):\n    return features['distance'] # the line\n"
    )
    with pytest.raises(FunctionError, match=r"^churn: predict in acme.* failed for 2013-02-03: ") as failed:
        functions.predict(pa.table({"entity_id": ["a"]}), None, None, partition=DAY)
    assert "# the line" in "".join(traceback.format_exception(failed.value))


def test_multiline_error_becomes_one_line(write: Callable[..., ModelFunctions]) -> None:
    """Polars writes errors with empty lines, which are hard to read when escaped."""
    functions = write(
        predict="def predict(features, model, previous):\n    raise ValueError('no lod\\n\\nmean load?')\n"
    )
    with pytest.raises(FunctionError, match=r"ValueError: no lod mean load\?"):
        functions.predict(pa.table({"entity_id": ["a"]}), None, None, partition=DAY)


@pytest.mark.parametrize("signature", ["partition, orders", "partition, **sources", "partition, *, orders"])
def test_function_gets_only_the_sources_it_names(
    write: Callable[..., ModelFunctions], signature: str
) -> None:
    """A features function need not take sources that only outcomes use."""
    functions = write(
        features=f"""
        import pandas as pd
        def features({signature}):
            given = locals().get("sources") or {{"orders": 0}}
            return pd.DataFrame({{"entity_id": sorted(given)}})
        """
    )
    made = functions.features(DAY, {"orders": ORDERS, "rates": ORDERS})
    both = "**" in signature
    assert made["entity_id"].to_pylist() == (["orders", "rates"] if both else ["orders"])


def test_package_that_cannot_be_imported_is_named(
    write: Callable[..., ModelFunctions], tmp_path: Path
) -> None:
    """If the model's package fails on import, the error names the missing module, not the function's file."""
    functions = write(features="def features(partition): ...")
    package = functions.inputs.functions.partition(".")[0]
    (tmp_path / "src" / package / "__init__.py").write_text("import no_such_package")
    with pytest.raises(
        FunctionError, match="cannot be imported: ModuleNotFoundError: No module named 'no_su"
    ):
        functions.features(DAY, {})


@pytest.mark.parametrize(
    ("module", "complaint"),
    [
        (None, r"The code has no module acme_\d+.defs.churn.features. Write features.py beside"),
        ("import no_such_package", "cannot be imported: ModuleNotFoundError: No module named 'no_such"),
        ("def feature(partition): ...", "has no function features"),
        (
            "def features(partition, orders, rates): ...",
            r"cannot be called: missing a required argument: 'rates'. Write it as features\(partition, ...\)",
        ),
    ],
)
def test_function_that_cannot_be_called_is_named(
    write: Callable[..., ModelFunctions], module: str | None, complaint: str
) -> None:
    """The error says what is missing and how to write the function."""
    functions = write(**({} if module is None else {"features": module}))
    with pytest.raises(ContractError, match=complaint):
        functions.features(DAY, {"orders": ORDERS})


def test_predicted_nan_differs_from_null(write: Callable[..., ModelFunctions]) -> None:
    """A predicted NaN is an error for quarantine, while null is a missing value."""
    functions = write(
        tables="polars",
        predict="""
        import polars as pl
        def predict(features, model, previous):
            return features.with_columns(x=pl.Series([float("nan"), None]), gone=pl.lit(previous is None))
        """,
    )
    rows = pa.table({"entity_id": ["a", "b"], "partition": [DAY, DAY]})
    made = functions.predict(rows, None, None, partition=DAY)
    assert list(made.columns) == ["entity_id", "x", "gone"]
    assert [value != value for value in made["x"].tolist() if value is not pd.NA] == [True]  # noqa: PLR0124
    assert made["x"].tolist()[1] is pd.NA

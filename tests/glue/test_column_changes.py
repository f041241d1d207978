"""Columns that are added, changed or removed between the batches of one model."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from glue_scripts.errors import BatchRefusedError
from prediction_contract.cleaning.cleaning_rules import Cleaning
from prediction_contract.cleaning.column_cleaning import ColumnCleaning
from tests.contract.prediction_rows import FULL_SCHEMA

if TYPE_CHECKING:
    from collections.abc import Callable

    from prediction_contract.jobs.job_arguments import LoadArguments
    from prediction_contract.manifests.load_report import LoadReport
    from tests.glue.load_platform import LoadPlatform

    Load = Callable[[LoadArguments], LoadReport]

pytestmark = pytest.mark.stack

LATER = "20130202T060000Z-0123abcd"
ROWS: list[dict[str, Any]] = [{"flight": "A-1", "seats": 7, "carrier": "AA"}, {"flight": "A-2"}]
WITHOUT_FARE = Cleaning((ColumnCleaning(column="fare", drop=True),))


def test_new_column_is_added(platform: LoadPlatform, load: Load) -> None:
    """Older batches have nulls in a new column and can be loaded again without it."""
    first = platform.builder.write(ROWS)
    load(platform.claim(first, cleaning=WITHOUT_FARE.to_argument()))
    before = platform.warehouse(schema=WITHOUT_FARE.stored_schema(FULL_SCHEMA))
    second = platform.builder.write([{**ROWS[0], "fare": 12}], batch_id=LATER)
    assert load(platform.claim(second)).status == "loaded"
    fare = FULL_SCHEMA.names.index("fare")
    assert [values[fare] for values in platform.warehouse(LATER)] == [12]
    assert [values[fare] for values in platform.warehouse()] == [None, None]
    assert load(platform.claim(first)).status == "loaded"
    assert platform.warehouse(schema=WITHOUT_FARE.stored_schema(FULL_SCHEMA)) == before


@pytest.mark.parametrize(
    ("members", "fault"),
    [
        (
            {"column": "seats", "cast": "string"},
            "SEATS is NUMBER(19,0) in the table and VARCHAR in the batch",
        ),
        (
            {"column": "fare", "cast": "decimal(38,9)"},
            "FARE is NUMBER(38,10) in the table and NUMBER(38,9) in the batch",
        ),
        ({"column": "carrier", "drop": True}, "CARRIER is missing, and earlier batches have it"),
        (
            {"column": "flight", "rename": "number"},
            "FLIGHT is missing, and earlier batches have it",
        ),
    ],
)
def test_changed_or_removed_column_is_refused(
    platform: LoadPlatform, load: Load, members: dict[str, Any], fault: str
) -> None:
    """The error names the column and the remedies, and both stores keep their rows."""
    load(platform.claim(platform.builder.write(ROWS)))
    before = platform.stores()
    second = platform.builder.write(ROWS, batch_id=LATER)
    rules = Cleaning((ColumnCleaning(**members),))
    with pytest.raises(BatchRefusedError) as caught:
        load(platform.claim(second, cleaning=rules.to_argument()))
    assert fault in caught.value.what
    assert f'The columns are not those of "{platform.model.upper()}_PREDICTIONS"' in caught.value.what
    assert f"a new model, say {platform.model}_v2, which has a new table" in caught.value.remedy
    assert platform.stores() == before
    assert platform.online(LATER) == {}
    assert platform.staging_tables() == []
    # Only the declaration was wrong.
    assert load(platform.claim(second)).status == "loaded"


def test_column_without_values_may_be_removed(platform: LoadPlatform, load: Load) -> None:
    """A column that never had a value may be dropped, since no reader loses anything."""
    load(platform.claim(platform.builder.write(ROWS)))
    second = platform.builder.write(ROWS, batch_id=LATER)
    assert load(platform.claim(second, cleaning=WITHOUT_FARE.to_argument())).status == "loaded"
    assert len(platform.warehouse(LATER)) == 2

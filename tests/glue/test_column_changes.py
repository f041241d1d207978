"""Columns that come, change and go between the batches of one model."""

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


def test_a_new_column_is_added_and_older_batches_stay(platform: LoadPlatform, load: Load) -> None:
    """Those before have no value in it, and can be loaded again without it."""
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
def test_a_changed_or_lost_column_is_refused(
    platform: LoadPlatform, load: Load, members: dict[str, Any], fault: str
) -> None:
    """The message names the column and the ways out; both stores keep what they have."""
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
    # Nothing but the declaration was at fault.
    assert load(platform.claim(second)).status == "loaded"


def test_a_column_that_never_had_a_value_may_go(platform: LoadPlatform, load: Load) -> None:
    """No reader loses anything by it."""
    load(platform.claim(platform.builder.write(ROWS)))
    second = platform.builder.write(ROWS, batch_id=LATER)
    assert load(platform.claim(second, cleaning=WITHOUT_FARE.to_argument())).status == "loaded"
    assert len(platform.warehouse(LATER)) == 2

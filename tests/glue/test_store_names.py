"""Names in the stores: within each store's limits, and never shared by two models."""

from __future__ import annotations

import re
from datetime import UTC, datetime

from hypothesis import assume, given, settings
from hypothesis import strategies as st

from glue_scripts.snowflake.load_records import LoadRecord
from prediction_contract.naming.batch import job_name, mint_batch_id
from prediction_contract.naming.s3_layout import (
    acknowledgements_prefix,
    batch_quarantine_prefix,
    delta_table_prefix,
    done_key,
    json_partition_prefix,
    partition_features_prefix,
    reports_prefix,
)
from prediction_contract.stores.warehouse_load import WarehouseLoad
from prediction_contract.stores.warehouse_table import PUBLICATIONS, WarehouseTable
from tests.contract.prediction_rows import FULL_SCHEMA
from tests.contract.test_resource_names import CLOSE_MODELS, MODELS, SNOWFLAKE

NOW = datetime(2013, 2, 1, 6, tzinfo=UTC)
ENDINGS = ("", "_live", "_loads", "_predictions", "_staging_20130201t060000z", "__load", "_")
# Model names that could collide with another model's names.
PAIRS = st.one_of(
    st.tuples(CLOSE_MODELS, CLOSE_MODELS),
    st.tuples(MODELS, MODELS),
    st.tuples(CLOSE_MODELS, st.sampled_from(ENDINGS)).map(lambda pair: (pair[0], pair[0] + pair[1])),
)


def in_snowflake(model: str) -> set[str]:
    """Return the names of a model's tables and views, including those of one load."""
    table = WarehouseTable(model, FULL_SCHEMA)
    batch_id = mint_batch_id(model, "2013-02-01", "run", NOW)
    load = WarehouseLoad(table, batch_id, "jr_1")
    record = LoadRecord(table, load, batch_id, 1, NOW)
    return {name.strip('"') for name in (table.name, table.view, load.staging, load.refused, record.name)}


def on_s3(model: str) -> list[str]:
    """Return a model's prefixes and keys, with a batch id that is the same for all models."""
    batch_id = mint_batch_id("any", "2013-02-01", "run", NOW)
    return [
        partition_features_prefix(model, "2013-02-01"),
        json_partition_prefix(model, "2013-02-01"),
        delta_table_prefix(model),
        done_key(model, batch_id),
        reports_prefix(model, batch_id),
        acknowledgements_prefix(model, batch_id),
        batch_quarantine_prefix(model, batch_id),
    ]


@given(PAIRS)
@settings(deadline=None, max_examples=60)
def test_models_share_no_store_names(models: tuple[str, str]) -> None:
    """Two models share no Snowflake table or view and no S3 prefix, including those of loads."""
    one, other = models
    assume(one != other)
    assert not in_snowflake(one) & in_snowflake(other)
    assert PUBLICATIONS.strip('"') not in in_snowflake(one)
    assert all(map(SNOWFLAKE.fullmatch, in_snowflake(one)))
    for mine, others in ((one, other), (other, one)):
        assert not [
            (key, prefix) for key in on_s3(mine) for prefix in on_s3(others) if key.startswith(prefix)
        ]


@given(PAIRS)
@settings(deadline=None, max_examples=60)
def test_models_share_no_job_names(models: tuple[str, str]) -> None:
    """Score jobs of two models have different names, which SageMaker accepts."""
    one, other = models
    assume(one != other)
    names = [job_name("score", each, mint_batch_id(each, "2013-02-01", "run", NOW), 1) for each in models]
    assert names[0] != names[1]
    assert all(re.fullmatch("(?=.{1,63}$)[a-zA-Z0-9](-*[a-zA-Z0-9]){0,62}", name) for name in names)

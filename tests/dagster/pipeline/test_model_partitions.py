"""Partitions have Dagster's own keys, and an unknown one leads to the declaration that excludes it."""

from __future__ import annotations

import json
from itertools import pairwise
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import dagster as dg
import pytest
from dagster._core.definitions.partitions.context import partition_loading_context
from dagster._core.definitions.partitions.snap import PartitionsSnap

from mlpipe_dagster.cli.main import main
from mlpipe_dagster.components.prediction_pipeline import partitions_of, pipeline_definitions
from mlpipe_dagster.definitions import platform_definitions
from mlpipe_dagster.pipeline.model_partitions import kind_of_partitions, why_no_partition
from prediction_contract.errors import InvalidNameError
from prediction_contract.naming.batch import Partition
from prediction_contract.naming.partition_kind import PARTITION_KINDS
from prediction_contract.registry.records import BatchRecord, LivePointers
from tests.dagster.scoring.test_scoring_schedule import HOURLY, MONTHLY, WEEKLY
from tests.dagster.small_model import declaration
from tests.projects import EXAMPLE

if TYPE_CHECKING:
    from collections.abc import Mapping

DECLARE = "Deliver a batch of another partition, or correct the declaration"
OPEN = {"partitions": {"start": "2013-01-01"}}
KINDS = {"daily": {}, "hourly": HOURLY, "weekly": WEEKLY, "monthly": MONTHLY}


@pytest.mark.parametrize(
    ("changes", "partition", "told", "to_do"),
    [
        ({}, "2014-01-01", "`partitions.end` in defs/hours/defs.yaml is 2014-01-01, exclusive", DECLARE),
        ({}, "2012-12-31", "`partitions.start` in defs/hours/defs.yaml is 2013-01-01", DECLARE),
        (
            HOURLY,
            "2014-01-01T00",
            "`partitions.end` in defs/hours/defs.yaml is 2014-01-01T00, exclusive",
            DECLARE,
        ),
        (HOURLY, "2013-02-01", "`partitions.kind` in defs/hours/defs.yaml is hourly", DECLARE),
        (WEEKLY, "2013-02-04", "`partitions.kind` in defs/hours/defs.yaml is weekly", DECLARE),
        (WEEKLY, "2012-W52", "`partitions.start` in defs/hours/defs.yaml is 2013-W01", DECLARE),
        (MONTHLY, "2014-01", "`partitions.end` in defs/hours/defs.yaml is 2014-01, exclusive", DECLARE),
        (OPEN, "2999-01-01", "yet: it begins at 2999-01-01 00:00 UTC", "Deliver this file again after that"),
    ],
)
def test_unknown_partition_leads_to_declaration(
    changes: Mapping[str, Any], partition: str, told: str, to_do: str
) -> None:
    """The error names file, field and remedy; for a future partition it says when to deliver again."""
    known = partitions_of(declaration("hours", **changes))
    reason, remedy = why_no_partition("hours", Partition(partition), known)
    assert reason.startswith(f"{partition} is not a partition of hours")
    assert told in reason
    assert remedy.startswith(to_do)


@pytest.mark.parametrize(
    ("kind", "count"), [("hourly", 8760), ("daily", 365), ("weekly", 52), ("monthly", 12)]
)
def test_dagster_has_declared_partitions(kind: str, count: int) -> None:
    """Each Dagster key converts to the partition and back, and covers the same time window."""
    known = partitions_of(declaration("things", **KINDS[kind]))
    assert isinstance(known, dg.TimeWindowPartitionsDefinition)
    assert kind_of_partitions(known) is PARTITION_KINDS[kind]
    keys = known.get_partition_keys()
    assert len(keys) == count
    found = [Partition.from_dagster_key(key) for key in keys]
    assert [each.dagster_key for each in found] == keys
    assert all(later == earlier.later(1) for earlier, later in pairwise(found))
    for key, partition in zip(keys[:: count // 12], found[:: count // 12], strict=True):
        assert partition.kind.name == kind
        assert known.time_window_for_partition_key(key) == dg.TimeWindow(partition.start, partition.end)


@pytest.mark.parametrize("kind", KINDS)
def test_web_server_has_same_partition_keys(kind: str) -> None:
    """Dagster's web server builds partitions from a snapshot, not from the project's classes."""
    known = partitions_of(declaration("things", **KINDS[kind]))
    told = PartitionsSnap.from_def(known).get_partitions_definition()
    assert told.get_partition_keys() == known.get_partition_keys()


@pytest.mark.parametrize(
    ("changes", "spelling", "key"),
    [(HOURLY, "2013-02-01T05", "2013-02-01-05:00"), (WEEKLY, "2013-W06", "2013-W06-1")],
)
def test_dagster_key_is_named_for_mlpipe_spelling(
    changes: Mapping[str, Any], spelling: str, key: str
) -> None:
    """A command with the spelling of the files fails with the key to pass."""
    models = pipeline_definitions(declaration("hours", **changes))
    job = dg.Definitions.merge(models, platform_definitions(models)).resolve_job_def("hours_load")

    def validate(key: str) -> None:
        with partition_loading_context() as context:
            job.validate_partition_key(key, selected_asset_keys=None, context=context)

    validate(key)
    with pytest.raises(InvalidNameError, match=f"Pass {key}"):
        validate(spelling)
    for none_at_all in (key.replace("2013", "2015"), "yesterday"):
        with pytest.raises(dg.DagsterUnknownPartitionError):
            validate(none_at_all)


@pytest.mark.parametrize("spelling", ["2013-02-01T05", "2013-02-01-05:00"])
def test_mlpipe_accepts_both_spellings_of_an_hour(spelling: str, capsys: pytest.CaptureFixture[str]) -> None:
    """A key copied from Dagster's UI finds the batches of that hour."""
    hours = ("2013-02-01T04", "2013-02-01T05")
    records = [
        BatchRecord(model="hours", batch_id=f"20130201T0{number}0000Z-0123abcd", partition=hour)
        for number, hour in enumerate(hours, 6)
    ]
    access: Any = SimpleNamespace(
        home="us-east-1",
        project=EXAMPLE,
        settings=SimpleNamespace(serving_regions=[]),
        require_declared=lambda _model: None,
        registry=SimpleNamespace(
            batches_of=lambda _model, hour: iter([record for record in records if record.partition == hour]),
            live_pointers=lambda _model, **_regions: LivePointers(home_region="us-east-1", home=None),
        ),
    )
    assert main(["batches", "hours", "--partition", spelling, "--json"], access) == 0
    (found,) = json.loads(capsys.readouterr().out)["batches"]
    assert found["partition"] == "2013-02-01T05"


def test_mlpipe_names_valid_partition_spellings(capsys: pytest.CaptureFixture[str]) -> None:
    """A malformed partition is a usage error that shows a valid spelling."""
    with pytest.raises(SystemExit):
        main(["batches", "hours", "--partition", "yesterday"])
    assert "2013-02-01T05" in capsys.readouterr().err

"""An hour has two spellings, and a partition that a model has not leads to the line that says so."""

from __future__ import annotations

import json
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import dagster as dg
import pytest
from dagster._core.definitions.partitions.context import partition_loading_context

from mlpipe_dagster.cli.main import main
from mlpipe_dagster.components.prediction_pipeline import partitions_of, pipeline_definitions
from mlpipe_dagster.definitions import platform_definitions
from mlpipe_dagster.pipeline.model_partitions import why_no_partition
from prediction_contract.errors import InvalidNameError
from prediction_contract.naming.batch import Partition
from prediction_contract.registry.records import BatchRecord, LivePointers
from tests.dagster.scoring.test_scoring_schedule import HOURLY
from tests.dagster.small_model import declaration

if TYPE_CHECKING:
    from collections.abc import Mapping

DECLARE = "Deliver a batch of another partition, or correct the declaration"
OPEN = {"partitions": {"start": "2013-01-01"}}


@pytest.mark.parametrize(
    ("changes", "partition", "told", "to_do"),
    [
        ({}, "2014-01-01", "`partitions.end` in defs/hours/defs.yaml is exclusive: 2014-01-01", DECLARE),
        ({}, "2012-12-31", "`partitions.start` in defs/hours/defs.yaml is 2013-01-01", DECLARE),
        (
            HOURLY,
            "2014-01-01T00",
            "`partitions.end` in defs/hours/defs.yaml is exclusive: 2014-01-01T00",
            DECLARE,
        ),
        (HOURLY, "2013-02-01", "`partitions.kind` in defs/hours/defs.yaml is hourly", DECLARE),
        (OPEN, "2999-01-01", "yet: it begins at 2999-01-01 00:00 UTC", "Deliver this file again then"),
    ],
)
def test_an_unknown_partition_leads_to_the_declaration(
    changes: Mapping[str, Any], partition: str, told: str, to_do: str
) -> None:
    """Whoever reads it knows which line of which file to look at; a partition to come needs no correction."""
    known = partitions_of(declaration("hours", **changes))
    reason, remedy = why_no_partition("hours", Partition(partition), known)
    assert reason.startswith(f"{partition} is no partition of hours")
    assert told in reason
    assert remedy.startswith(to_do)


def test_dagster_tells_its_own_spelling_of_an_hour() -> None:
    """A command that was given the files' spelling names the key to pass."""
    models = pipeline_definitions(declaration("hours", **HOURLY))
    job = dg.Definitions.merge(models, platform_definitions(models)).resolve_job_def("hours_load")

    def validate(key: str) -> None:
        with partition_loading_context() as context:
            job.validate_partition_key(key, selected_asset_keys=None, context=context)

    validate("2013-02-01-05:00")
    with pytest.raises(InvalidNameError, match="Pass 2013-02-01-05:00"):
        validate("2013-02-01T05")
    for none_at_all in ("2015-02-01-05:00", "yesterday"):
        with pytest.raises(dg.DagsterUnknownPartitionError):
            validate(none_at_all)


@pytest.mark.parametrize("spelling", ["2013-02-01T05", "2013-02-01-05:00"])
def test_mlpipe_takes_both_spellings_of_an_hour(spelling: str, capsys: pytest.CaptureFixture[str]) -> None:
    """A key copied from Dagster's page finds the batches of that hour."""
    hours = ("2013-02-01T04", "2013-02-01T05")
    records = [
        BatchRecord(model="hours", batch_id=f"20130201T0{number}0000Z-0123abcd", partition=hour)
        for number, hour in enumerate(hours, 6)
    ]
    access: Any = SimpleNamespace(
        home="us-east-1",
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


def test_mlpipe_names_the_forms_of_a_partition(capsys: pytest.CaptureFixture[str]) -> None:
    """What is none is a wrong command line, with the forms that are meant."""
    with pytest.raises(SystemExit):
        main(["batches", "hours", "--partition", "yesterday"])
    assert "2013-02-01T05" in capsys.readouterr().err

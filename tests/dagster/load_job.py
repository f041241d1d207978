"""A Glue script that changes the registry like the load job, but writes no data.

The argument of `main` in the last line says how the load ends.
"""

import sys
from datetime import UTC, datetime, timedelta

import boto3

from prediction_contract.jobs.job_arguments import LoadArguments
from prediction_contract.manifests.load_report import LOADED, LoadReport, StoreReport
from prediction_contract.registry.load_rules import (
    begin_writing,
    complete_load,
    confirm_claim,
    refuse_load,
    release_claim,
)
from prediction_contract.registry.records import BatchRecord
from prediction_contract.registry.table import RegistryTable
from prediction_contract.rows.checksums import RowTally

DAYS = timedelta(days=30)


def main(wanted: str) -> None:
    """Confirm the claim, then complete, refuse, release or crash as `wanted` says."""
    arguments = LoadArguments.parse(sys.argv[1:])
    run_id = sys.argv[sys.argv.index("--JOB_RUN_ID") + 1]
    registry = RegistryTable(boto3.client("dynamodb"), arguments.registry_table)

    def record() -> BatchRecord:
        found = registry.batch(arguments.model, arguments.batch_id)
        assert found is not None
        return found

    token, digest, now = arguments.claim_token, arguments.manifest_digest, datetime.now(UTC)
    registry.carry_out(lambda: confirm_claim(record(), token=token, job_run_id=run_id))
    if wanted == "crash":
        raise RuntimeError("killed between two writes")
    if wanted == "refuse":
        registry.carry_out(
            lambda: refuse_load(
                record(), token=token, manifest_digest=digest, reason="part missing", now=now, retention=DAYS
            )
        )
        raise RuntimeError("the batch is refused")
    if wanted == "release":
        registry.carry_out(lambda: release_claim(record(), token=token))
        raise RuntimeError("Snowflake did not answer")
    registry.carry_out(
        lambda: begin_writing(record(), token=token, manifest_digest=digest, cleaning="{}", now=now)
    )
    rows = RowTally(rows=record().row_count, checksum=int(record().checksum))
    report = LoadReport(
        status=LOADED,
        model=arguments.model,
        batch_id=arguments.batch_id,
        attempt=arguments.load_attempt,
        job_run_id=run_id,
        manifest_digest=digest,
        started_at="2026-11-23T01:02:03Z",
        ended_at="2026-11-23T01:02:09Z",
        items_expire_at=arguments.items_expire_at,
        dynamodb=StoreReport(table=arguments.online_table, rows=rows, verified_rows=rows.rows),
        snowflake=StoreReport(table="T", rows=rows, verified_rows=rows.rows),
    )
    boto3.client("s3").put_object(Bucket=arguments.bucket, Key=arguments.report_key, Body=report.to_bytes())
    registry.carry_out(
        lambda: complete_load(record(), token=token, expire_at=now + DAYS, now=now, retention=DAYS)
    )

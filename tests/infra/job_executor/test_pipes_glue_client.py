"""Test of dagster-aws's unmodified `PipesGlueClient` against the executor."""

# No `from __future__ import annotations`: Dagster compares the context's annotation itself.
from typing import Any

import dagster as dg
import pytest
from dagster_aws.pipes import (
    PipesCloudWatchMessageReader,
    PipesGlueClient,
    PipesS3ContextInjector,
    PipesS3MessageReader,
)

from tests.infra.job_executor.job_stack import BUCKET, Aws, Executor, glue_job

pytestmark = pytest.mark.stack

# A Glue script: parameters from argv, context from S3, messages by the writer under test.
SCRIPT = """
    import boto3
    from dagster_pipes import (
        PipesCliArgsParamsLoader, PipesDefaultMessageWriter, PipesS3ContextLoader, PipesS3MessageWriter,
        open_dagster_pipes,
    )
    client = boto3.client("s3")
    with open_dagster_pipes(
        params_loader=PipesCliArgsParamsLoader(),
        context_loader=PipesS3ContextLoader(client=client),
        message_writer={writer},
    ) as pipes:
        pipes.log.info("loading")
        pipes.report_asset_materialization(metadata={{"rows": pipes.get_extra("rows")}})
"""


@pytest.mark.parametrize("way", ["s3", "cloudwatch"])
def test_pipes_run_reports_its_materialization(executor: Executor, aws: Aws, name: str, way: str) -> None:
    """A script run through PipesGlueClient materializes its asset with the metadata it reports."""
    s3 = aws.client("s3")
    writers = {"s3": "PipesS3MessageWriter(client=client)", "cloudwatch": "PipesDefaultMessageWriter()"}
    job = glue_job(executor, aws, name, SCRIPT.format(writer=writers[way]))
    readers: dict[str, Any] = {
        "s3": PipesS3MessageReader(client=s3, bucket=BUCKET),
        "cloudwatch": PipesCloudWatchMessageReader(client=aws.client("logs")),
    }
    pipes = PipesGlueClient(
        client=executor.client("glue"),
        context_injector=PipesS3ContextInjector(client=s3, bucket=BUCKET),
        message_reader=readers[way],
    )

    @dg.asset
    def online_table(context: dg.AssetExecutionContext) -> dg.MaterializeResult[Any]:
        run = pipes.run(context=context, start_job_run_params={"JobName": job}, extras={"rows": 7})
        return run.get_materialize_result(implicit_materialization=False)

    result = dg.materialize([online_table])
    (materialization,) = result.asset_materializations_for_node("online_table")
    assert materialization.metadata["rows"].value == 7
    assert materialization.metadata["AWS Glue Job Name"].value == job


@pytest.mark.slow
def test_failing_script_fails_the_pipes_run(executor: Executor, aws: Aws, name: str) -> None:
    """The Dagster step fails with the job run's own error message."""
    job = glue_job(executor, aws, name, "raise RuntimeError('no such batch')")
    s3 = aws.client("s3")
    pipes = PipesGlueClient(
        client=executor.client("glue"),
        context_injector=PipesS3ContextInjector(client=s3, bucket=BUCKET),
        message_reader=PipesS3MessageReader(client=s3, bucket=BUCKET),
    )

    @dg.asset
    def online_table(context: dg.AssetExecutionContext) -> dg.MaterializeResult[Any]:
        return pipes.run(context=context, start_job_run_params={"JobName": job}).get_materialize_result()

    with pytest.raises(RuntimeError, match="RuntimeError: no such batch"):
        dg.materialize([online_table])

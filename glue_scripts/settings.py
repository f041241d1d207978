"""A job run's settings, read once from its arguments and the environment."""

from __future__ import annotations

import argparse
import os
import shutil
from dataclasses import dataclass
from importlib.util import find_spec
from typing import TYPE_CHECKING

from prediction_contract.errors import JobArgumentsError
from prediction_contract.jobs.job_arguments import LoadArguments
from prediction_contract.naming.s3_layout import done_key, reports_prefix

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

_JOB_RUN_ID_LENGTH = 255
_LATEST_EXPIRY = 253_402_300_799


@dataclass(frozen=True, slots=True)
class LoadSettings:
    """One job run's settings.

    Attributes:
        arguments: The job arguments.
        job_run_id: The id that Glue gave the job run.
        processes: How many parts are processed at once.
        region: The job's AWS region.
        is_piped: Whether the command line asks for Dagster Pipes messages.
        is_piped_by_environment: Whether the environment asks for Dagster Pipes messages.
        has_spark: Whether Spark is available.
    """

    arguments: LoadArguments
    job_run_id: str
    processes: int
    region: str
    is_piped: bool = False
    is_piped_by_environment: bool = False
    has_spark: bool = False

    @classmethod
    def read(cls, argv: Sequence[str], environment: Mapping[str, str]) -> LoadSettings:
        """Return the settings that a command line and an environment give.

        Args:
            argv: The command line without the program; unknown arguments are ignored.
            environment: The process's environment.

        Raises:
            JobArgumentsError: An argument is missing, malformed, or contradicts another.
        """
        arguments = LoadArguments.parse(argv)
        parser = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
        parser.add_argument("--JOB_RUN_ID", dest="job_run_id")
        parser.add_argument("--aws_region")
        glues_own = parser.parse_known_args(list(argv))[0]
        job_run_id: str | None = glues_own.job_run_id
        if not job_run_id or len(job_run_id) > _JOB_RUN_ID_LENGTH:
            raise JobArgumentsError(
                "Job argument JOB_RUN_ID is missing or too long",
                remedy="Start the script as a Glue job run, which passes its own id",
                model=arguments.model,
                batch_id=arguments.batch_id,
            )
        region = (
            glues_own.aws_region or environment.get("AWS_REGION") or environment.get("AWS_DEFAULT_REGION")
        )
        if not region:
            raise JobArgumentsError(
                "Job argument aws_region is missing, and the environment names no region",
                remedy="Deploy the job again: its definition sets the argument",
                model=arguments.model,
                batch_id=arguments.batch_id,
            )
        _check_together(arguments)
        return cls(
            arguments=arguments,
            job_run_id=job_run_id,
            processes=max(1, os.cpu_count() or 1),
            region=region,
            is_piped="--dagster-pipes-context" in argv,
            is_piped_by_environment="DAGSTER_PIPES_CONTEXT" in environment,
            has_spark=_has_spark(environment),
        )


def _has_spark(environment: Mapping[str, str]) -> bool:
    """Return whether Glue has started a JVM for the script, or pyspark can start one."""
    if "PYSPARK_GATEWAY_PORT" in environment:
        return True
    java = environment.get("JAVA_HOME") or shutil.which("java", path=environment.get("PATH", ""))
    return java is not None and find_spec("pyspark") is not None


def _check_together(arguments: LoadArguments) -> None:
    """Refuse an impossible TTL and keys of another batch: the job's role may write every batch's report."""
    model, batch_id = arguments.model, arguments.batch_id
    if arguments.items_expire_at > _LATEST_EXPIRY:
        raise JobArgumentsError(
            "Job argument items_expire_at is beyond the year 9999",
            remedy="Start the job again with seconds since 1970",
            model=model,
            batch_id=batch_id,
        )
    if arguments.manifest_key != done_key(model, batch_id):
        raise JobArgumentsError(
            f"Job argument manifest_key is not {done_key(model, batch_id)}",
            remedy="Start the job again with the key of the batch's own done file",
            model=model,
            batch_id=batch_id,
        )
    if not arguments.report_key.startswith(reports_prefix(model, batch_id)):
        raise JobArgumentsError(
            f"Job argument report_key does not start with {reports_prefix(model, batch_id)}",
            remedy="Start the job again with the attempt's s3_layout.report_key",
            model=model,
            batch_id=batch_id,
        )

"""Runs SageMaker processing jobs."""

from __future__ import annotations

import os
import time
from typing import TYPE_CHECKING, Any

from infra.local.job_executor.jobs.job_records import JobOutcome, Phase
from infra.local.job_executor.sagemaker.container import (
    ContainerJobKind,
    container_command,
    failed_host,
    failure_reason,
    fetch_input,
    host_names,
    host_path,
    read_message,
    write_config,
)
from prediction_contract.naming.resource_names import PROCESSING_LOG_GROUP

if TYPE_CHECKING:
    from infra.local.job_executor.jobs.job_records import HostCommand, HostWorkspace
    from infra.local.job_executor.jobs.job_store import Record
    from infra.local.job_executor.jobs.s3_transfer import S3Transfer

# The service model says that a job past its time limit "is stopped". It ends as Stopped, like training jobs.
_STATES = {
    JobOutcome.SUCCEEDED: "Completed",
    JobOutcome.FAILED: "Failed",
    JobOutcome.ERROR: "Failed",
    JobOutcome.TIMED_OUT: "Stopped",
    JobOutcome.STOPPED: "Stopped",
}


class ProcessingJobKind(ContainerJobKind):
    """Processing jobs: any command, with inputs and outputs on S3."""

    record_kind = "processing_job"
    log_group = PROCESSING_LOG_GROUP

    def prepare(self, record: Record, hosts: list[HostWorkspace], s3: S3Transfer) -> list[HostCommand]:
        """Create the `/opt/ml` layout on every host."""
        request = record["request"]
        self._write_configs(record, hosts)
        for item in request.get("ProcessingInputs", ()):
            source = item["S3Input"]
            fetch_input(source, source["LocalPath"], hosts, s3)
        for item in request.get("ProcessingOutputConfig", {}).get("Outputs", ()):
            for host in hosts:
                host_path(host, item["S3Output"]["LocalPath"]).mkdir(parents=True, exist_ok=True)
        application = request["AppSpecification"]
        command = [*application["ContainerEntrypoint"], *application.get("ContainerArguments", ())]
        variables = {
            **request.get("Environment", {}),
            "PROCESSING_JOB_NAME": record["name"],
            "PROCESSING_JOB_ARN": record["arn"],
        }
        return [container_command(record, host, command, variables) for host in hosts]

    def _write_configs(self, record: Record, hosts: list[HostWorkspace]) -> None:
        described = {"ProcessingJobArn": record["arn"], **record["request"]}
        described.pop("Tags", None)
        for host in hosts:
            (host.ml / "output").mkdir(parents=True, exist_ok=True)
            write_config(host, "config/processingjobconfig.json", described)
            # The machines of a job are set up at different times.
            written_at = time.time() - len(hosts) + host.number
            os.utime(host.ml / "config/processingjobconfig.json", (written_at, written_at))
            resources = {"current_host": host.name, "hosts": host_names(hosts)}
            write_config(host, "config/resourceconfig.json", resources)

    def collect(
        self, record: Record, hosts: list[HostWorkspace], s3: S3Transfer, outcome: JobOutcome
    ) -> None:
        """Upload the outputs of a succeeded job."""
        if outcome is not JobOutcome.SUCCEEDED:
            return
        for item in record["request"].get("ProcessingOutputConfig", {}).get("Outputs", ()):
            target = item["S3Output"]
            for host in hosts:
                s3.upload_tree(host_path(host, target["LocalPath"]), target["S3Uri"])

    def describe_end(self, record: Record, hosts: list[HostWorkspace]) -> dict[str, Any]:
        """Take the exit message from `/opt/ml/output/message`."""
        host, code = failed_host(record, hosts)
        message = read_message(host, "message")
        return {"failure": failure_reason(message, code), "exit_message": message}

    def enter(self, record: Record, phase: Phase, outcome: JobOutcome | None, now: float) -> None:
        """Set SageMaker's status for a phase."""
        if phase is Phase.ENDED and outcome is not None:
            record["state"] = _STATES[outcome]
            record["completed_at"] = now

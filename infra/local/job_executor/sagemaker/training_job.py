"""Runs SageMaker training jobs, in script mode or with an entry point."""

from __future__ import annotations

import json
import os
import re
import tarfile
from typing import TYPE_CHECKING, Any

from infra.local.job_executor.jobs.job_records import (
    JobExecutionError,
    JobOutcome,
    Phase,
)
from infra.local.job_executor.jobs.s3_transfer import S3Location, inside
from infra.local.job_executor.sagemaker.container import (
    ContainerJobKind,
    container_command,
    failed_host,
    failure_reason,
    fetch_input,
    host_names,
    read_message,
    write_config,
)
from prediction_contract.naming.resource_names import TRAINING_LOG_GROUP

if TYPE_CHECKING:
    from pathlib import Path

    from infra.local.job_executor.jobs.job_records import HostCommand, HostWorkspace
    from infra.local.job_executor.jobs.job_store import Record
    from infra.local.job_executor.jobs.s3_transfer import S3Transfer

# The status and secondary status for each outcome.
_STATES = {
    JobOutcome.SUCCEEDED: ("Completed", "Completed"),
    JobOutcome.FAILED: ("Failed", "Failed"),
    JobOutcome.ERROR: ("Failed", "Failed"),
    JobOutcome.TIMED_OUT: ("Stopped", "MaxRuntimeExceeded"),
    JobOutcome.STOPPED: ("Stopped", "Stopped"),
}
_SECONDARY = {Phase.PREPARING: "Downloading", Phase.LAUNCHED: "Training", Phase.FINISHING: "Uploading"}
_LOG_BYTES = 16 * 1024 * 1024


def plain_value(hyperparameter: str) -> Any:
    """Return a hyperparameter's value, given as JSON (as the SageMaker SDK writes it) or as plain text."""
    try:
        return json.loads(hyperparameter)
    except ValueError:
        return hyperparameter


class TrainingJobKind(ContainerJobKind):
    """Training jobs: channels as inputs, and `/opt/ml/model` uploaded as `model.tar.gz`."""

    record_kind = "training_job"
    log_group = TRAINING_LOG_GROUP

    def prepare(self, record: Record, hosts: list[HostWorkspace], s3: S3Transfer) -> list[HostCommand]:
        """Create the `/opt/ml` layout on every host."""
        request = record["request"]
        self._write_configs(request, hosts)
        for channel in request.get("InputDataConfig", ()):
            source = channel["DataSource"]["S3DataSource"]
            fetch_input(source, f"/opt/ml/input/data/{channel['ChannelName']}", hosts, s3)
        for host in hosts:
            for name in ("model", "output/data", "code"):
                (host.ml / name).mkdir(parents=True, exist_ok=True)
        return [
            container_command(
                record,
                host,
                self._command(request, host, s3),
                {
                    **script_mode_variables(request, host, hosts),
                    **request.get("Environment", {}),
                    "TRAINING_JOB_NAME": record["name"],
                    "TRAINING_JOB_ARN": record["arn"],
                },
            )
            for host in hosts
        ]

    def _write_configs(self, request: dict[str, Any], hosts: list[HostWorkspace]) -> None:
        channels = {
            channel["ChannelName"]: {
                "TrainingInputMode": channel.get("InputMode", "File"),
                "S3DistributionType": channel["DataSource"]["S3DataSource"].get(
                    "S3DataDistributionType", "FullyReplicated"
                ),
                "RecordWrapperType": channel.get("RecordWrapperType", "None"),
            }
            for channel in request.get("InputDataConfig", ())
        }
        for host in hosts:
            write_config(host, "input/config/hyperparameters.json", request.get("HyperParameters", {}))
            write_config(host, "input/config/inputdataconfig.json", channels)
            resources = {
                "current_host": host.name,
                "hosts": host_names(hosts),
                "network_interface_name": "lo",
            }
            write_config(host, "input/config/resourceconfig.json", resources)

    def _command(self, request: dict[str, Any], host: HostWorkspace, s3: S3Transfer) -> list[str]:
        algorithm = request["AlgorithmSpecification"]
        if "ContainerEntrypoint" in algorithm:
            return [*algorithm["ContainerEntrypoint"], *algorithm.get("ContainerArguments", ())]
        parameters = request["HyperParameters"]
        archive = host.home / "sourcedir.tar.gz"
        s3.download_object(str(plain_value(parameters["sagemaker_submit_directory"])), archive)
        code = host.ml / "code"
        try:
            with tarfile.open(archive) as packed:
                packed.extractall(code, filter="data")
        except (tarfile.TarError, OSError) as error:
            raise JobExecutionError(
                f"ClientError: sagemaker_submit_directory cannot be unpacked: {error}"
            ) from error
        program = str(plain_value(parameters["sagemaker_program"]))
        if not inside(code, program).is_file():
            raise JobExecutionError(f"ClientError: the submit directory does not contain {program}.")
        return ["python", f"/opt/ml/code/{program}", *user_arguments(parameters)]

    def collect(
        self, record: Record, hosts: list[HostWorkspace], s3: S3Transfer, outcome: JobOutcome
    ) -> None:
        """Upload the output data of every job, and the packed model of succeeded and stopped jobs."""
        base = S3Location.parse(record["request"]["OutputDataConfig"]["S3OutputPath"])
        for host in hosts:
            suffix = "" if host.number == 1 else f"-{host.name}"
            if any((host.ml / "output/data").iterdir()):
                packed = _pack(host.ml / "output/data", host.home / "output.tar.gz")
                s3.upload_object(packed, base.under(f"{record['name']}/output/output{suffix}.tar.gz"))
        model = hosts[0].ml / "model"
        if outcome is JobOutcome.SUCCEEDED or (outcome is not JobOutcome.FAILED and any(model.iterdir())):
            packed = _pack(model, hosts[0].home / "model.tar.gz")
            s3.upload_object(packed, base.under(f"{record['name']}/output/model.tar.gz"))

    def describe_end(self, record: Record, hosts: list[HostWorkspace]) -> dict[str, Any]:
        """Return the failure from `/opt/ml/output/failure`, and the metrics from the log."""
        host, code = failed_host(record, hosts)
        return {
            "failure": failure_reason(read_message(host, "failure"), code),
            "metrics": _metrics(record, hosts[0]),
        }

    def enter(self, record: Record, phase: Phase, outcome: JobOutcome | None, now: float) -> None:
        """Set SageMaker's status, and add the secondary status to the history."""
        secondary = _SECONDARY.get(phase)
        if phase is Phase.ENDED and outcome is not None:
            record["state"], secondary = _STATES[outcome]
            record["completed_at"] = now
        if secondary is not None and (record["state"] != "Stopping" or phase is Phase.ENDED):
            add_transition(record, secondary, now)


def add_transition(record: Record, secondary: str, now: float) -> None:
    """End a training job's current secondary status and begin the next."""
    history = record["transitions"]
    if history and history[-1]["Status"] == secondary:
        return
    if history:
        history[-1]["EndTime"] = now
    history.append({"Status": secondary, "StartTime": now})
    if record["state"] in {"Completed", "Failed", "Stopped"}:
        history[-1]["EndTime"] = now


def user_arguments(parameters: dict[str, str]) -> list[str]:
    """Return the script's own hyperparameters as `--key value`, in key order."""
    words = []
    for key, value in sorted(parameters.items()):
        if not key.startswith("sagemaker_"):
            plain = plain_value(value)
            words += [f"--{key}", plain if isinstance(plain, str) else value]
    return words


def script_mode_variables(
    request: dict[str, Any], host: HostWorkspace, hosts: list[HostWorkspace]
) -> dict[str, str]:
    """Return the `SM_*` variables of SageMaker's framework containers."""
    root = host.ml_root
    raw = request.get("HyperParameters", {})
    parameters = {key: plain_value(value) for key, value in raw.items() if not key.startswith("sagemaker_")}
    channels = [channel["ChannelName"] for channel in request.get("InputDataConfig", ())]
    variables = {
        "SM_MODEL_DIR": f"{root}/model",
        "SM_INPUT_DIR": f"{root}/input",
        "SM_INPUT_CONFIG_DIR": f"{root}/input/config",
        "SM_OUTPUT_DIR": f"{root}/output",
        "SM_OUTPUT_DATA_DIR": f"{root}/output/data",
        "SM_CHANNELS": json.dumps(channels),
        "SM_HPS": json.dumps(parameters),
        "SM_USER_ARGS": json.dumps(user_arguments(raw)),
        "SM_CURRENT_HOST": host.name,
        "SM_HOSTS": json.dumps([other.name for other in hosts]),
        "SM_NUM_CPUS": str(os.cpu_count() or 1),
        "SM_NUM_GPUS": "0",
    }
    if "sagemaker_program" in raw:
        variables["SM_USER_ENTRY_POINT"] = str(plain_value(raw["sagemaker_program"]))
    variables |= {f"SM_CHANNEL_{name.upper()}": f"{root}/input/data/{name}" for name in channels}
    variables |= {
        f"SM_HP_{key.upper()}": value if isinstance(value, str) else json.dumps(value)
        for key, value in parameters.items()
    }
    return variables


def _pack(directory: Path, target: Path) -> Path:
    with tarfile.open(target, "w:gz") as packed:
        for path in sorted(directory.iterdir()):
            packed.add(path, arcname=path.name)
    return target


def _metrics(record: Record, host: HostWorkspace) -> list[dict[str, Any]]:
    """Return the last value in the log of every metric that the job defines."""
    definitions = record["request"]["AlgorithmSpecification"].get("MetricDefinitions", ())
    if not definitions or not host.stdout.exists():
        return []
    with host.stdout.open("rb") as file:
        text = file.read(_LOG_BYTES).decode(errors="replace")
    found = []
    for definition in definitions:
        try:
            values = [float(match.group(1)) for match in re.finditer(definition["Regex"], text)]
        except (re.error, ValueError, IndexError) as error:
            raise JobExecutionError(
                f"ClientError: the regular expression of metric {definition['Name']} failed: {error}"
            ) from error
        if values:
            stamp = host.stdout.stat().st_mtime
            found.append({"MetricName": definition["Name"], "Value": values[-1], "Timestamp": stamp})
    return found

"""A stack whose AWS checks permissions, with each part of the platform under its own role."""

from __future__ import annotations

import hashlib
import json
import re
import shutil
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import yaml

from infra.local.provisioning.clients import Clients
from infra.local.sample_data import upload_sample_data
from infra.local.stack.dagster_runs import Dagster
from infra.local.stack.dagster_service import await_ready, running_dagster
from infra.local.supervision.stack_state import StackDirectory
from model_declaration.project import VARIABLE, Project
from prediction_contract.naming.resource_names import Deployment
from prediction_contract.registry.table import RegistryTable
from tests.end_to_end.development_stack import DevelopmentStack
from tests.end_to_end.role_run_launcher import CREDENTIALS
from tests.projects import EXAMPLE
from tests.stack_runs import PROJECT_ROOT, StackRun, aws_client_at

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from infra.permissions.policy_statements import RoleDefinition

_INSTANCE = PROJECT_ROOT / "mlpipe_dagster" / "instances" / "local.yaml"
_ACTS = re.compile(r"access key (\S+) acts as (\S+)")
_CALL = re.compile(r"call (\S+)\.(\S+) on (\S+) with access key (\S+)")
_SERVICES = {"AWSGlue": "glue", "SageMaker": "sagemaker"}
# The resource kind of an executor operation, by a word in its name; the first match applies.
_KINDS = {
    "ProcessingJob": "processing-job",
    "TrainingJob": "training-job",
    "Pipeline": "pipeline",
    "ModelPackage": "model-package-group",
    "Job": "job",
}
# The call names in the emulator's trail, where they differ from the action's name.
_CALLS = {
    "s3:GetObject": ("GetObject", "HeadObject"),
    "s3:ListBucket": ("ListObjects", "HeadBucket"),
    "s3:PutObject": ("PutObject", "CreateMultipartUpload"),
    "s3:DeleteObject": ("DeleteObject", "DeleteObjects"),
    "sqs:DeleteMessage": ("DeleteMessage", "DeleteMessageBatch"),
    "dynamodb:GetItem": ("GetItem", "TransactGetItems"),
    # A transaction's members need these actions, but the trail has only the transaction.
    "dynamodb:PutItem": ("PutItem", "TransactWriteItems"),
    "dynamodb:UpdateItem": ("UpdateItem", "TransactWriteItems"),
    "dynamodb:ConditionCheckItem": ("TransactWriteItems",),
}
MODEL = "flight_delay"
# The last day of the retraining. Five days are enough to be better than a constant.
LAST_DAY = "2013-01-31"
_TRAINING = {
    "window": 5,
    "held_out": 3,
    "gap": 1,
    "metrics": [{"kind": "roc_auc", "predicted": "delay_probability", "actual": "arrived_late"}],
    "approval": "auto",
    # Not due during the test: see `_retrain_next_minute`.
    "schedule": "0 0 1 1 *",
}
_LEAST_NOTICE = timedelta(seconds=5)
_MINUTE = timedelta(minutes=1)


@dataclass(frozen=True)
class EnforcedStack:
    """The running stack.

    Attributes:
        project: The project on the stack: the example with one model.
        platform: The platform on the stack, seen with the operator's permissions.
        deployment: Its names.
        run: Its commands.
        keys: The role of each access key that the tests passed on.
    """

    project: Project
    platform: DevelopmentStack
    deployment: Deployment
    run: StackRun
    keys: dict[str, str]

    def client(self, service: str, role: str | None = None) -> Any:
        """Return a client of the emulator for the operator or a role."""
        variables = self.platform.variables
        credentials = assume_role(variables, self.deployment.role_arn(role)) if role else None
        return aws_client_at(variables["AWS_ENDPOINT_URL"], service, credentials)

    def used(self, role: RoleDefinition) -> set[str]:
        """Return the actions of a role that were used so far."""
        mine = {key for key, name in self._roles().items() if name == role.name}
        trail = self.client("cloudtrail")
        granted = {action for statement in role.statements for action in statement["Action"]}
        found = {action for name, action, _ in self.executor_calls() if name == role.name}
        for action in granted - found:
            calls = _CALLS.get(action, (action.partition(":")[2],))
            if any(_was_called(trail, key, call) for key in mine for call in calls):
                found.add(action)
        return found

    def executor_calls(self) -> set[tuple[str, str, str]]:
        """Return role, action and resource of each call to the job executor.

        The executor itself only checks the permissions of pipelines and schedules.
        """
        roles = self._roles()
        return {
            (roles[key], f"{_SERVICES[prefix]}:{name}", self._resource(_SERVICES[prefix], name, named))
            for prefix, name, named, key in _CALL.findall(self.run.log("jobs"))
            if key in roles
        }

    def _resource(self, service: str, operation: str, name: str) -> str:
        """Return the ARN of the resource that an executor operation names."""
        if name.startswith("arn:"):
            return name
        kind = next(kind for word, kind in _KINDS.items() if word in operation)
        return f"arn:aws:{service}:{self.deployment.region}:{self.deployment.account_id}:{kind}/{name}"

    def simulate(self, role: str, action: str, resource_arn: str) -> str:
        """Return the emulator's decision on an action of a role."""
        answer = self.client("iam").simulate_principal_policy(
            PolicySourceArn=self.deployment.role_arn(role), ActionNames=[action], ResourceArns=[resource_arn]
        )
        return answer["EvaluationResults"][0]["EvalDecision"]

    def _roles(self) -> dict[str, str]:
        """Return the role of each access key."""
        jobs = {key: arn.rpartition("/")[2] for key, arn in _ACTS.findall(self.run.log("jobs"))}
        # The emulator derives a function's access key from its ARN and its role's.
        arns = f"{self.deployment.api_function_arn}:{self.deployment.role_arn(self.deployment.api_role)}"
        api = f"ASIA{hashlib.sha256(arns.encode()).hexdigest()[:16].upper()}"
        return {**self.keys, **jobs, api: self.deployment.api_role}


def assume_role(variables: dict[str, str], role_arn: str) -> dict[str, str]:
    """Return a role's credentials as environment variables."""
    sts = aws_client_at(variables["AWS_ENDPOINT_URL"], "sts")
    found = sts.assume_role(RoleArn=role_arn, RoleSessionName="end-to-end")["Credentials"]
    return dict(
        zip(CREDENTIALS, (found["AccessKeyId"], found["SecretAccessKey"], found["SessionToken"]), strict=True)
    )


@contextmanager
def enforced_stack(directory: Path) -> Iterator[EnforcedStack]:
    """Run a stack that checks permissions, with Dagster's daemon and its runs each under its role.

    A schedule starts the retraining of the model within the next minutes.

    Args:
        directory: An empty one, for the stack's state and its project.
    """
    project = _small_example(directory / "project")
    run = StackRun(directory / "state", enforces_iam=True)
    started = run.run("up", **{VARIABLE: str(project.root)})
    assert started.returncode == 0, started.stdout
    try:
        variables = dict(run.running().environment)
        deployment = Deployment(
            variables["MLPIPE_STAGE"], variables["MLPIPE_ACCOUNT_ID"], variables["AWS_REGION"]
        )
        daemon = assume_role(variables, deployment.role_arn(deployment.dagster_daemon_role))
        runs = assume_role(variables, deployment.role_arn(deployment.dagster_run_role))
        instance: Any = yaml.safe_load(_INSTANCE.read_text())
        instance["run_launcher"] = {
            "module": "tests.end_to_end.role_run_launcher",
            "class": "RoleRunLauncher",
            "config": runs,
        }
        instance_file = directory / "instance.yaml"
        with instance_file.open("w") as written:
            yaml.safe_dump(instance, written)
        state = StackDirectory(run.state_directory)
        with running_dagster(
            state, project, {**variables, **daemon}, say=lambda _: None, instance_file=instance_file
        ) as service:
            clients = Clients(
                aws=variables["AWS_ENDPOINT_URL"],
                jobs=variables["AWS_ENDPOINT_URL_GLUE"],
                region=variables["AWS_REGION"],
            )
            # The sample data in the example's own folder is reused if it exists.
            upload_sample_data(EXAMPLE, clients.client("s3"), variables["MLPIPE_DATA_BUCKET"])
            _retrain_next_minute(clients.client("scheduler"), deployment.retraining_pipeline(MODEL))
            await_ready(service)
            registry = RegistryTable(
                aws_client_at(variables["AWS_ENDPOINT_URL"], "dynamodb"), variables["MLPIPE_REGISTRY_TABLE"]
            )
            platform = DevelopmentStack(
                run.environment_file, variables, Dagster(service, project.location_name), registry, state
            )
            keys = {
                daemon[CREDENTIALS[0]]: deployment.dagster_daemon_role,
                runs[CREDENTIALS[0]]: deployment.dagster_run_role,
            }
            yield EnforcedStack(project, platform, deployment, run, keys)
    finally:
        run.down()


def _small_example(folder: Path) -> Project:
    """Return a copy of the example with one model that learns from few days."""
    shutil.copytree(EXAMPLE.package_folder, folder / "src" / EXAMPLE.package)
    for name in ("pyproject.toml", "stages.yaml"):
        shutil.copy(EXAMPLE.root / name, folder / name)
    project = Project.at(folder)
    for other in project.defs.iterdir():
        if other.is_dir() and other.name != MODEL:
            shutil.rmtree(other)
    file = project.defs / MODEL / "defs.yaml"
    declared: Any = yaml.safe_load(file.read_text())
    declared["attributes"]["training"] = _TRAINING
    with file.open("w") as written:
        yaml.safe_dump(declared, written, sort_keys=False)
    return project


def _retrain_next_minute(scheduler: Any, name: str) -> None:
    """Make the provisioned schedule of a retraining due once, for days in the past."""
    schedule = scheduler.get_schedule(Name=name)
    # The executor must see the change before the minute comes.
    due = datetime.now(UTC) + _LEAST_NOTICE + _MINUTE
    request = json.loads(schedule["Target"]["Input"])
    request["PipelineParameters"].append({"Name": "LastPartition", "Value": LAST_DAY})
    scheduler.update_schedule(
        Name=name,
        ScheduleExpression=f"cron({due.minute} {due.hour} {due.day} {due.month} ? {due.year})",
        FlexibleTimeWindow=schedule["FlexibleTimeWindow"],
        Target={**schedule["Target"], "Input": json.dumps(request)},
    )


def _was_called(trail: Any, access_key: str, call: str) -> bool:
    attributes = [
        {"AttributeKey": "AccessKeyId", "AttributeValue": access_key},
        {"AttributeKey": "EventName", "AttributeValue": call},
    ]
    return bool(trail.lookup_events(LookupAttributes=attributes, MaxResults=1)["Events"])

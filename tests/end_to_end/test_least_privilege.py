"""The whole path with checked permissions: each part has its own role and no unneeded permission."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from botocore.exceptions import ClientError

from infra.local.access_token import obtain_token, read_variables
from infra.local.demo.live_api import LiveApi
from infra.permissions import platform_roles, role_definitions
from infra.permissions.source_rights import source_statements
from infra.provisioned_models import provisioned_models
from mlpipe_dagster.versions.model_versions_sensor import SENSOR
from mlpipe_dagster.versions.retraining_runs import RetrainingOutcome
from prediction_contract.registry.version_records import VersionState
from tests.end_to_end.development_stack import RUN_SECONDS
from tests.end_to_end.enforced_stack import LAST_DAY, MODEL, EnforcedStack, enforced_stack
from tests.stack_runs import wait_until

if TYPE_CHECKING:
    from collections.abc import Iterator

    from infra.permissions.policy_statements import RoleDefinition
    from prediction_contract.registry.version_records import PromotionEntry

pytestmark = [pytest.mark.slow, pytest.mark.stack, pytest.mark.timeout(1500)]
ENTITY = "AA-1141-JFK"
DAYS = ("2013-02-01", "2013-02-02")
RETRAINING_SECONDS = 600

ROLES = {
    "glue": role_definitions.glue_load_role,
    "api": role_definitions.api_role,
    "run": role_definitions.dagster_run_role,
    "daemon": role_definitions.dagster_daemon_role,
    "retraining": platform_roles.retraining_pipeline_role,
    "schedule": platform_roles.retraining_schedule_role,
}
PARTS = ["sagemaker", *ROLES]


def role_of(part: str, enforced: EnforcedStack) -> RoleDefinition:
    """Return a part's role; the role of SageMaker jobs may also read the models' sources."""
    deployment = enforced.deployment
    if part != "sagemaker":
        return ROLES[part](deployment)
    inputs = [model.inputs for model in provisioned_models(enforced.project)]
    return role_definitions.sagemaker_role(deployment, source_statements(deployment, inputs))


# Permissions that no run on the emulator uses.
EVERYWHERE = {
    **dict.fromkeys(("kms:Decrypt", "kms:GenerateDataKey"), "S3 asks KMS in the caller's name; not here"),
    **dict.fromkeys(
        ("logs:CreateLogGroup", "logs:CreateLogStream", "logs:DescribeLogStreams", "logs:PutLogEvents"),
        "AWS writes logs under the role; emulator and executor do so by themselves",
    ),
    "iam:PassRole": "no call of its own; the executor judges a pipeline's, tests of the templates all others",
    "s3:AbortMultipartUpload": "an upload in parts that fails is given up",
}
OTHERWISE: dict[str, dict[str, str]] = {
    "glue": {
        "cloudwatch:PutMetricData": "Glue's own metrics of a job",
        "dynamodb:Query": "a registry change reads several records of a model",
        "dynamodb:Scan": "`verify: scan` looks for items that nobody wrote",
        "s3:GetBucketLocation": "Glue asks where the bucket of the wheels is; the executor does not",
    },
    "sagemaker": {
        "cloudwatch:PutMetricData": "SageMaker's own metrics of a job",
        **dict.fromkeys(
            (
                "ecr:GetAuthorizationToken",
                "ecr:BatchCheckLayerAvailability",
                "ecr:BatchGetImage",
                "ecr:GetDownloadUrlForLayer",
            ),
            "SageMaker pulls the image under the role; the executor runs the scripts without one",
        ),
    },
    "api": {
        "dynamodb:BatchGetItem": "`predictions:batchGet`",
        "dynamodb:ListTables": "`GET /v1/models`",
        "dynamodb:Query": "an entity's history",
        "secretsmanager:GetSecretValue": "providers that want a secret; the weather of the demo wants none",
        **dict.fromkeys(("xray:PutTraceSegments", "xray:PutTelemetryRecords"), "Lambda writes its traces"),
    },
    "run": {
        "glue:BatchStopJobRun": "a cancelled run stops its load",
        "logs:GetLogEvents": "a failed job's log is shown in the run",
        "s3:DeleteObject": "retired batches leave",
        "sagemaker:AddTags": "AWS wants it for a job that is created with tags",
        "sagemaker:StopProcessingJob": "a cancelled run stops its job",
        "sagemaker:StopPipelineExecution": "a cancelled run stops its retraining",
        "sagemaker:DescribeModelPackage": "a version that the sensor has not recorded yet",
        "sagemaker:ListPipelineExecutions": "the execution that somebody else started on the same range",
        "secretsmanager:GetSecretValue": "the canary asks the API as a client",
    },
    "daemon": {
        "ec2:DescribeNetworkInterfaces": "a run's task takes over the daemon's network",
        **dict.fromkeys(
            (
                "ecs:DescribeTaskDefinition",
                "ecs:DescribeTasks",
                "ecs:RunTask",
                "ecs:StopTask",
                "ecs:TagResource",
            ),
            "runs are ECS tasks on AWS, and processes here",
        ),
        **dict.fromkeys(
            ("sagemaker:StartPipelineExecution", "sagemaker:ListPipelineExecutions"),
            "drift and decayed accuracy start a retraining",
        ),
        "logs:GetLogEvents": "why a run's task ended before it said so; a process here",
        "s3:PutObject": "what a tick says is kept with the runs' logs, which lie in a folder here",
    },
    "retraining": {
        **dict.fromkeys(
            ("sagemaker:StopProcessingJob", "sagemaker:StopTrainingJob"), "a stopped execution stops its job"
        ),
        "sagemaker:DescribeModelPackageGroup": "AWS's policy of roles that register holds it; not asked here",
    },
    "schedule": {
        "sqs:SendMessage": "EventBridge keeps a tick that SageMaker did not take; here the executor does",
    },
}

# Calls beyond each role's permissions: the service, the call, its arguments.
BEYOND: dict[str, list[tuple[str, str, dict[str, Any]]]] = {
    "glue": [
        ("s3", "put_object", {"Bucket": "{bucket}", "Key": "done/x", "Body": b""}),
        ("s3", "delete_object", {"Bucket": "{bucket}", "Key": "predictions/x"}),
        ("dynamodb", "get_item", {"TableName": "mlpipe-other-registry", "Key": {"pk": {"S": "x"}}}),
    ],
    "sagemaker": [
        ("s3", "put_object", {"Bucket": "{bucket}", "Key": "reports/x", "Body": b""}),
        # Outside the prefixes that the example's sources declare.
        ("s3", "get_object", {"Bucket": "{bucket}", "Key": "raw/undeclared/x"}),
        ("s3", "list_objects_v2", {"Bucket": "{bucket}", "Prefix": "raw/undeclared/"}),
        ("dynamodb", "put_item", {"TableName": "{registry}", "Item": {"pk": {"S": "x"}, "sk": {"S": "x"}}}),
    ],
    "api": [
        ("dynamodb", "put_item", {"TableName": "{table}", "Item": {"entity_id": {"S": "x"}}}),
        ("dynamodb", "get_item", {"TableName": "other-table", "Key": {"entity_id": {"S": "x"}}}),
        ("s3", "get_object", {"Bucket": "{bucket}", "Key": "done/x"}),
        ("secretsmanager", "get_secret_value", {"SecretId": "{snowflake}"}),
    ],
    "run": [
        ("s3", "put_object", {"Bucket": "{bucket}", "Key": "done/x", "Body": b""}),
        ("dynamodb", "delete_item", {"TableName": "{table}", "Key": {"entity_id": {"S": "x"}}}),
        ("sqs", "receive_message", {"QueueUrl": "{queue}"}),
    ],
    "daemon": [
        ("s3", "get_object", {"Bucket": "{bucket}", "Key": "predictions/x"}),
        ("dynamodb", "get_item", {"TableName": "{table}", "Key": {"entity_id": {"S": "x"}}}),
        ("sqs", "send_message", {"QueueUrl": "{queue}", "MessageBody": "{}"}),
    ],
    "retraining": [
        ("s3", "get_object", {"Bucket": "{bucket}", "Key": f"models/{MODEL}/candidates/x"}),
        ("s3", "put_object", {"Bucket": "{bucket}", "Key": f"models/{MODEL}/retraining/x", "Body": b""}),
        ("dynamodb", "get_item", {"TableName": "{registry}", "Key": {"pk": {"S": "x"}}}),
    ],
    "schedule": [
        ("sqs", "send_message", {"QueueUrl": "{queue}", "MessageBody": "{}"}),
        ("s3", "get_object", {"Bucket": "{bucket}", "Key": f"models/{MODEL}/retraining/x"}),
    ],
}


@pytest.fixture(scope="module")
def enforced(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EnforcedStack]:
    """Run a new stack that checks permissions."""
    with enforced_stack(tmp_path_factory.mktemp("enforced")) as running:
        yield running


@pytest.fixture(scope="module")
def promoted(enforced: EnforcedStack) -> PromotionEntry:
    """Return the promotion of the version that the scheduled retraining registered."""
    registry = enforced.platform.registry
    wait_until(
        lambda: registry.champion(MODEL) is not None,
        seconds=RETRAINING_SECONDS,
        what=f"a champion of {MODEL}; see the log of the job executor",
    )
    (entry,) = registry.promotions(MODEL)
    return entry


@pytest.fixture(scope="module")
def retrained(promoted: PromotionEntry, enforced: EnforcedStack) -> dict[str, str]:
    """Materialize the trained model for the schedule's days, and return the run's metadata."""
    assert promoted.version == 1
    dagster = enforced.platform.dagster
    run_id = dagster.launch_assets([f"{MODEL}/trained_model"], first=LAST_DAY, last=LAST_DAY)
    dagster.await_run(run_id, seconds=RUN_SECONDS, what="Retraining")
    return dagster.materialization(f"{MODEL}/trained_model")


@pytest.fixture(scope="module")
def live(retrained: dict[str, str], enforced: EnforcedStack) -> str:
    """Return the second of two batches that went all the way from raw flights to the API."""
    assert retrained
    platform = enforced.platform
    batch_id = ""
    for day in DAYS:
        batch_id = platform.score(MODEL, day)
        wait_until(
            lambda batch=batch_id: platform.is_live(MODEL, batch),
            seconds=RUN_SECONDS,
            what=f"{batch_id} live",
        )
    return batch_id


@pytest.fixture(scope="module")
def asked(live: str, enforced: EnforcedStack) -> dict[str, int]:
    """Return the status of one response of the API per route."""
    token = obtain_token(read_variables(enforced.platform.environment_file))
    api = LiveApi(enforced.platform.variables["MLPIPE_API_URL"].rstrip("/"), MODEL, token)
    answer = api.ask(ENTITY)
    assert answer.batch_id == live
    assert answer.document["enrichment"]["weather"]["status"] == "ok"
    return {"prediction": answer.status, "history": api.ask(f"{ENTITY}/history").status}


def test_retraining_and_promotion_work_under_roles(
    promoted: PromotionEntry, retrained: dict[str, str], enforced: EnforcedStack
) -> None:
    """The schedule starts the pipeline, which registers a version, and the daemon promotes it."""
    version = enforced.platform.registry.model_version(MODEL, 1)
    assert version is not None
    assert version.state == VersionState.CHAMPION
    assert (promoted.version, promoted.actor) == (1, SENSOR)
    # The run adopts the result of the scheduled execution on the same days.
    assert retrained["outcome"] == RetrainingOutcome.PROMOTED
    assert version.execution_arn is not None
    assert version.execution_arn == retrained["execution"]


def test_whole_path_works_under_roles(asked: dict[str, int]) -> None:
    """Scoring, sensor, load, checks, publication and serving need no permission that a role lacks."""
    assert asked["prediction"] == 200


@pytest.mark.parametrize(
    ("role", "key", "code"),
    [
        ("sagemaker_role", "predictions/none/delta/_delta_log/_last_checkpoint", "NoSuchKey"),
        ("glue_load_role", "predictions/none/delta/_delta_log/_last_checkpoint", "NoSuchKey"),
        ("dagster_run_role", "predictions/none/delta/_delta_log/_last_checkpoint", "NoSuchKey"),
        ("dagster_daemon_role", "models/none/accuracy/none.json", "NoSuchKey"),
        ("dagster_webserver_role", "compute-logs/none", "AccessDenied"),
    ],
)
def test_roles_that_list_see_missing_objects_as_missing(
    role: str, key: str, code: str, enforced: EnforcedStack
) -> None:
    """A missing object is NoSuchKey for roles that may list, since deltalake needs that for young tables."""
    client = enforced.client("s3", getattr(enforced.deployment, role))
    with pytest.raises(ClientError) as refused:
        client.get_object(Bucket=enforced.deployment.data_bucket, Key=key)
    assert refused.value.response["Error"]["Code"] == code


@pytest.mark.parametrize("part", PARTS)
def test_unused_permissions_have_a_reason(part: str, asked: dict[str, int], enforced: EnforcedStack) -> None:
    """Each granted permission was used on the path, or has a documented reason."""
    assert asked
    role = role_of(part, enforced)
    granted = {action for statement in role.statements for action in statement["Action"]}
    reasons = {**EVERYWHERE, **OTHERWISE[part]}
    assert granted - enforced.used(role) - set(reasons) == set()
    assert set(OTHERWISE[part]) <= granted, "a reason for what is not granted"


def test_executor_calls_are_permitted(asked: dict[str, int], enforced: EnforcedStack) -> None:
    """Each call to the job executor is permitted for its role and resource."""
    assert asked
    calls = enforced.executor_calls()
    assert {action for _, action, _ in calls} >= {
        "glue:StartJobRun",
        "sagemaker:CreateProcessingJob",
        "sagemaker:CreateTrainingJob",
        "sagemaker:StartPipelineExecution",
        "sagemaker:CreateModelPackage",
        "sagemaker:ListModelPackages",
    }
    for role, action, resource in calls:
        assert enforced.simulate(role, action, resource) == "allowed", (role, action, resource)


@pytest.mark.parametrize(
    ("role", "action", "resource"),
    [
        ("dagster_run_role", "glue:StartJobRun", "glue:job/somebody-elses"),
        ("dagster_daemon_role", "glue:StartJobRun", "glue:job/{load_job}"),
        (
            "dagster_run_role",
            "sagemaker:CreateTrainingJob",
            "sagemaker:training-job/pipelines-a-TrainModel-b",
        ),
        ("dagster_daemon_role", "sagemaker:DescribePipelineExecution", "sagemaker:pipeline/{pipeline}"),
        ("sagemaker_role", "sagemaker:CreateModelPackage", "sagemaker:model-package-group/{group}"),
        ("retraining_pipeline_role", "sagemaker:UpdateModelPackage", "sagemaker:model-package/{group}/1"),
        ("retraining_pipeline_role", "sagemaker:CreateTrainingJob", "sagemaker:training-job/somebody-elses"),
        ("retraining_pipeline_role", "sagemaker:StartPipelineExecution", "sagemaker:pipeline/{pipeline}"),
        ("retraining_schedule_role", "sagemaker:StartPipelineExecution", "sagemaker:pipeline/{scoring}"),
    ],
)
def test_roles_lack_permissions_of_other_parts(
    role: str, action: str, resource: str, enforced: EnforcedStack
) -> None:
    """Roles cannot start, register or approve what is another part's task."""
    deployment = enforced.deployment
    service, _, path = resource.partition(":")
    named = path.format(
        load_job=deployment.load_job,
        pipeline=deployment.retraining_pipeline(MODEL),
        scoring=deployment.scoring_pipeline(MODEL),
        group=deployment.model_package_group(MODEL),
    )
    arn = f"arn:aws:{service}:{deployment.region}:{deployment.account_id}:{named}"
    assert enforced.simulate(getattr(deployment, role), action, arn) == "implicitDeny"


@pytest.mark.parametrize(
    ("part", "service", "call", "arguments"),
    [pytest.param(part, *each, id=f"{part}-{each[1]}") for part, calls in BEYOND.items() for each in calls],
)
def test_call_beyond_a_role_is_denied(
    part: str, service: str, call: str, arguments: dict[str, Any], enforced: EnforcedStack
) -> None:
    """Calls to other tables and prefixes, and other operations, are denied."""
    role = role_of(part, enforced)
    names = {
        "{bucket}": enforced.deployment.data_bucket,
        "{registry}": enforced.deployment.registry_table,
        "{table}": enforced.deployment.online_table(MODEL),
        "{queue}": enforced.platform.variables["MLPIPE_DONE_QUEUE_URL"],
        "{snowflake}": enforced.deployment.snowflake_secret,
    }
    filled = {
        name: names.get(value, value) if isinstance(value, str) else value
        for name, value in arguments.items()
    }
    with pytest.raises(ClientError) as refused:
        getattr(enforced.client(service, role.name), call)(**filled)
    assert refused.value.response["Error"]["Code"] in {"AccessDenied", "AccessDeniedException"}

"""The definitions that local provisioning and the CDK share grant no more than needed."""

from __future__ import annotations

import fnmatch
import json
import re
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import pytest

from infra.definitions import resource_definitions
from infra.definitions.api_definitions import FunctionDefinition
from infra.glue_wheels import wheels_digest
from infra.local.job_executor.glue.glue_modules import check_installer
from infra.local.provisioning import ProvisioningError, provision
from infra.permissions import policy_statements, role_definitions
from infra.permissions.wildcards import UnexplainedWildcardError, wildcard_reasons
from model_declaration.declared_models import deployable_names
from prediction_contract.errors import InvalidNameError
from prediction_contract.limits import MAX_FUNCTION_ENVIRONMENT_BYTES
from prediction_contract.naming.resource_names import Deployment
from prediction_contract.naming.s3_layout import (
    PLAN_NAME,
    acknowledgements_prefix,
    batch_quarantine_prefix,
    data_file_path,
    delta_table_prefix,
    done_key,
    json_attempt_prefix,
    json_part_key,
    progress_name,
    receipt_name,
    report_key,
    share_keys_name,
)
from tests.infra.role_rights import allows, holders
from tests.projects import EXAMPLE

if TYPE_CHECKING:
    from pathlib import Path

DEPLOYMENT = Deployment("prod", "123456789012", "eu-west-1")
ROLES = role_definitions.all_roles(DEPLOYMENT, ())
INLINE_POLICY_LIMIT = 10_240


def test_every_role_of_the_deployment_is_defined_once() -> None:
    """The defined roles are those of the deployment, in the same order."""
    assert tuple(role.name for role in ROLES) == DEPLOYMENT.roles


@pytest.mark.parametrize("role", ROLES, ids=lambda role: role.name)
def test_role_has_no_unexplained_wildcards(role: policy_statements.RoleDefinition) -> None:
    """Actions have no wildcards, and each wildcard resource needs a recorded reason."""
    for statement in role.policy()["Statement"]:
        actions = statement["Action"]
        assert [action for action in actions if "*" in action] == []
        # Raises for a wildcard without a reason.
        assert all(wildcard_reasons(DEPLOYMENT, statement).values())
    sids = [statement["Sid"] for statement in role.policy()["Statement"]]
    assert len(sids) == len(set(sids))
    assert all(re.fullmatch(r"[A-Za-z0-9]+", sid) for sid in sids)


@pytest.mark.parametrize(
    ("action", "resource"),
    [
        ("s3:GetObject", "*"),
        ("s3:GetObject", "arn:aws:s3:::*"),
        ("dynamodb:GetItem", "arn:aws:dynamodb:*:*:*"),
        ("s3:GetObject", f"{DEPLOYMENT.data_bucket_arn}/*"),
        ("logs:PutLogEvents", "arn:aws:logs:eu-west-1:123456789012:log-group:*"),
    ],
)
def test_wildcard_without_a_reason_is_refused(action: str, resource: str) -> None:
    """Resources outside the deployment and a whole bucket are too wide."""
    with pytest.raises(UnexplainedWildcardError, match=r"everything|arn:aws"):
        wildcard_reasons(DEPLOYMENT, {"Sid": "Wide", "Action": [action], "Resource": [resource]})


@pytest.mark.parametrize("role", ROLES, ids=lambda role: role.name)
def test_role_trusts_one_service_in_this_account(role: policy_statements.RoleDefinition) -> None:
    """Another account's job cannot assume the role; Lambda alone does not send the source account."""
    (statement,) = role.trust_policy()["Statement"]

    assert list(statement["Principal"]) == ["Service"]
    expected = {"StringEquals": {"aws:SourceAccount": "123456789012"}}
    assert statement.get("Condition") == (None if role.service == "lambda.amazonaws.com" else expected)


RUN_ROLE = role_definitions.dagster_run_role(DEPLOYMENT)
MODEL, BATCH = "flight_delay", "20130201T060000Z-0123abcd"


def test_run_may_delete_only_a_retired_batchs_files() -> None:
    """Rows, parts and data files can be deleted; done files, reports, models and Delta's log cannot."""
    delta = delta_table_prefix(MODEL)
    gone = (
        json_part_key(MODEL, "2013-02-01", BATCH, 1, share="share-00000", number=0),
        f"{json_attempt_prefix(MODEL, '2013-02-01', BATCH, 1)}{PLAN_NAME}",
        f"{batch_quarantine_prefix(MODEL, BATCH)}attempt=1/part-00000.jsonl.gz",
        f"{acknowledgements_prefix(MODEL, BATCH)}part-00000.json",
        f"{delta}{data_file_path(BATCH, 1, 'share-00000', 0)}",
        f"{delta}part-00000-0b7d0461-ab1e-609d-8813-320638b7c301-c000.snappy.parquet",
    )
    kept = (
        done_key(MODEL, BATCH),
        report_key(MODEL, BATCH, 1),
        f"{delta}_delta_log/00000000000000000001.json",
        f"{delta}_delta_log/00000000000000000010.checkpoint.parquet",
        f"models/{MODEL}/model.skops",
    )
    for key in gone:
        assert holders(ROLES, "s3:DeleteObject", f"{DEPLOYMENT.data_bucket_arn}/{key}") == {RUN_ROLE.name}
    for key in kept:
        assert holders(ROLES, "s3:DeleteObject", f"{DEPLOYMENT.data_bucket_arn}/{key}") == set()
    log = f"{DEPLOYMENT.data_bucket_arn}/{delta}_delta_log/00000000000000000002.json"
    assert allows(RUN_ROLE, "s3:PutObject", log)
    assert not allows(RUN_ROLE, "s3:PutObject", f"{DEPLOYMENT.data_bucket_arn}/{gone[-1]}")


def test_only_score_jobs_may_write_batch_files() -> None:
    """They may overwrite parts, receipts, plan, progress and data files without a condition."""
    attempt = json_attempt_prefix(MODEL, "2013-02-01", BATCH, 1)
    part = json_part_key(MODEL, "2013-02-01", BATCH, 1, share="share-00000", number=0)
    names = (
        receipt_name("share-00000"),
        share_keys_name("share-00000"),
        progress_name("algo-1"),
        PLAN_NAME,
    )
    file = f"{delta_table_prefix(MODEL)}{data_file_path(BATCH, 1, 'share-00000', 0)}"
    for key in (part, *(f"{attempt}{name}" for name in names), file, done_key(MODEL, BATCH)):
        for action in ("s3:PutObject", "s3:AbortMultipartUpload"):
            holding = holders(ROLES, action, f"{DEPLOYMENT.data_bucket_arn}/{key}")
            assert holding == {DEPLOYMENT.sagemaker_role}
    (role,) = [role for role in ROLES if role.name == DEPLOYMENT.sagemaker_role]
    writing = [statement for statement in role.statements if "s3:PutObject" in statement["Action"]]
    assert not any("Condition" in statement for statement in writing)


def test_only_load_and_execution_role_read_snowflake_login() -> None:
    """ECS passes the login to Dagster's tasks, so their own roles need no right to the secret."""
    secret = DEPLOYMENT.secret_arn_pattern(DEPLOYMENT.snowflake_secret).replace("??????", "aB3dE9")
    assert secret.endswith("-aB3dE9")
    assert holders(ROLES, "secretsmanager:GetSecretValue", secret) == {
        DEPLOYMENT.glue_load_role,
        DEPLOYMENT.dagster_execution_role,
    }


def test_daemon_may_start_only_runs() -> None:
    """No role may start a second daemon, code location or web server."""
    definitions = f"arn:aws:ecs:eu-west-1:123456789012:task-definition/{DEPLOYMENT.dagster_cluster}"
    daemon = DEPLOYMENT.dagster_daemon_role
    assert holders(ROLES, "ecs:RunTask", f"{definitions}-run:7") == {daemon}
    for family in ("daemon", "code", "webserver", "runner"):
        assert holders(ROLES, "ecs:RunTask", f"{definitions}-{family}:7") == set()


def test_dagster_logs_are_written_and_readable() -> None:
    """Runs and daemon write tick logs to S3; only ECS writes the logs of tasks, which the daemon reads."""
    run, daemon = DEPLOYMENT.dagster_run_role, DEPLOYMENT.dagster_daemon_role
    tick = f"{DEPLOYMENT.data_bucket_arn}/compute-logs/storage/done_files/1/2.err"
    assert holders(ROLES, "s3:PutObject", tick) == {run, daemon}
    assert holders(ROLES, "s3:GetObject", tick) == {run, DEPLOYMENT.dagster_webserver_role}
    stream = f"{DEPLOYMENT.log_group_arn(DEPLOYMENT.dagster_log_group)}:log-stream:run/run/0123"
    assert holders(ROLES, "logs:PutLogEvents", stream) == {DEPLOYMENT.dagster_execution_role}
    assert holders(ROLES, "logs:GetLogEvents", stream) == {daemon}


def test_only_runs_read_replicas_in_other_regions() -> None:
    """Runs count the rows of replicas in serving regions; no role writes there."""
    abroad = DEPLOYMENT.online_table_arn(MODEL).replace("eu-west-1", "ap-southeast-2")
    assert holders(ROLES, "dynamodb:BatchGetItem", abroad) == {RUN_ROLE.name}
    for action in ("dynamodb:PutItem", "dynamodb:UpdateItem", "dynamodb:BatchWriteItem"):
        assert holders(ROLES, action, abroad) == set()
    registry = DEPLOYMENT.registry_table_arn.replace("eu-west-1", "ap-southeast-2")
    assert holders(ROLES, "dynamodb:UpdateItem", registry) == set()


@pytest.mark.parametrize("stage", ["p", "production12"])
def test_policies_fit_into_iam_limit(stage: str) -> None:
    """A role's inline policy has at most 10,240 characters, also with the longest stage name."""
    for role in role_definitions.all_roles(Deployment(stage, "123456789012", "ap-southeast-5"), ()):
        assert len(json.dumps(role.policy(), separators=(",", ":"))) <= INLINE_POLICY_LIMIT


def test_dead_letters_are_kept_longer_than_messages() -> None:
    """A message keeps its age when it moves, so with equal retention it could vanish at once."""
    queue = resource_definitions.done_file_queue(DEPLOYMENT)
    dead = resource_definitions.dead_letter_queue(DEPLOYMENT)

    assert queue.dead_letter_queue == dead.name
    assert dead.retention_seconds > queue.retention_seconds


def test_load_job_never_retries_by_itself() -> None:
    """A retry needs a new claim, so Glue leaves it to Dagster; the job's code is in the data bucket."""
    job = resource_definitions.load_job(DEPLOYMENT, code_archive_key="code/glue_scripts/a.zip")

    update = job.job_update()
    assert (update["MaxRetries"], update["GlueVersion"], update["WorkerType"]) == (0, "5.1", "G.1X")
    assert update["NumberOfWorkers"] == 2
    assert update["Role"] == DEPLOYMENT.role_arn(DEPLOYMENT.glue_load_role)
    bucket = f"s3://{DEPLOYMENT.data_bucket}"
    assert update["DefaultArguments"]["--extra-py-files"] == f"{bucket}/code/glue_scripts/a.zip"
    assert update["Command"]["ScriptLocation"] == f"{bucket}/code/glue_scripts/load_predictions.py"


def test_load_job_installs_only_its_wheels() -> None:
    """The installer gets one zip of wheels, named by the lock file, which the job's role may read."""
    arguments = resource_definitions.load_job(DEPLOYMENT).default_arguments

    key = DEPLOYMENT.glue_wheels_key(wheels_digest())
    assert check_installer(arguments) == f"s3://{DEPLOYMENT.data_bucket}/{key}"
    role = role_definitions.glue_load_role(DEPLOYMENT)
    assert allows(role, "s3:GetObject", f"{DEPLOYMENT.data_bucket_arn}/{key}")


def test_requests_without_tls_are_denied() -> None:
    """The policy statement denies everybody every action without TLS."""
    statement = resource_definitions.tls_only_statement("sqs", DEPLOYMENT.done_file_queue_arn)

    assert (statement["Effect"], statement["Principal"], statement["Action"]) == ("Deny", "*", "sqs:*")
    assert statement["Condition"] == {"Bool": {"aws:SecureTransport": "false"}}


def test_definitions_import_no_sdk() -> None:
    """The CDK and product tools can read the definitions without boto3."""
    code = (
        "import sys, infra.definitions.resource_definitions, infra.permissions.role_definitions;"
        "print(sorted({'boto3', 'botocore', 'snowflake.connector'} & set(sys.modules)))"
    )

    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True)

    assert run.stdout.strip() == "[]"


@pytest.mark.parametrize(
    "changed",
    [
        {"aws_endpoint_url": "https://dynamodb.us-east-1.amazonaws.com"},
        {"aws_endpoint_url": "http://10.0.0.8:4566"},
        {"jobs_endpoint_url": "http://glue.example.com"},
        {"snowflake_host": "account.snowflakecomputing.com"},
        {"service_urls": {"weather": "http://localhost.example.com"}},
    ],
)
def test_provisioning_refuses_other_machines(changed: dict[str, str]) -> None:
    """An address of another machine is refused before any request is sent."""
    addresses: dict[str, Any] = {
        "aws_endpoint_url": "http://127.0.0.1:9",
        "jobs_endpoint_url": "http://127.0.0.1:9",
        "snowflake_host": "127.0.0.1",
        "snowflake_port": 9,
        "service_urls": {"weather": "http://127.0.0.1:9"},
        "project": EXAMPLE,
    }

    with pytest.raises(ProvisioningError, match="this machine"):
        provision(**{**addresses, **changed})


def test_models_are_the_folders_with_a_declaration(tmp_path: Path) -> None:
    """A folder with a `defs.yaml` is a model; an invalid model name is an error that names it."""
    for name in ("flight_delay", "airport_congestion"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "defs.yaml").touch()
    (tmp_path / "notes").mkdir()
    assert deployable_names(tmp_path) == ("airport_congestion", "flight_delay")

    (tmp_path / "Flight-Delay").mkdir()
    (tmp_path / "Flight-Delay" / "defs.yaml").touch()
    with pytest.raises(InvalidNameError, match="Flight-Delay"):
        deployable_names(tmp_path)


def test_too_large_lambda_environment_is_refused() -> None:
    """Names and values of the variables count together towards Lambda's limit."""
    full = {"A": "x" * (MAX_FUNCTION_ENVIRONMENT_BYTES - 1)}
    assert FunctionDefinition("f", "r", full).environment == full
    with pytest.raises(ValueError, match="has 4097 bytes; Lambda allows 4096"):
        FunctionDefinition("f", "r", {"AB": full["A"]})


def test_only_retraining_pipeline_registers_versions() -> None:
    """No role of the platform may approve or delete versions; that is left to people."""
    packages = f"{DEPLOYMENT.model_packages_arn_patterns[1][:-1]}churn/7"
    group = DEPLOYMENT.model_package_group_arn("churn")
    for resource in (group, packages):
        assert holders(ROLES, "sagemaker:CreateModelPackage", resource) == {
            DEPLOYMENT.retraining_pipeline_role
        }
        for action in ("UpdateModelPackage", "DeleteModelPackage", "DeleteModelPackageGroup"):
            assert holders(ROLES, f"sagemaker:{action}", resource) == set()


def test_retraining_pipeline_has_rights_to_its_own_jobs() -> None:
    """It may read verdicts, but neither run other jobs nor read model archives."""
    (role,) = [each for each in ROLES if each.name == DEPLOYMENT.retraining_pipeline_role]
    jobs = f"arn:aws:sagemaker:eu-west-1:{DEPLOYMENT.account_id}"
    for kind in ("Processing", "Training"):
        for verb in ("Create", "Describe", "Stop"):
            action = f"sagemaker:{verb}{kind}Job"
            own = f"{jobs}:{kind.lower()}-job/pipelines-u5hlwpzq3yqn-TrainModel-x"
            assert allows(role, action, own)
            assert not allows(role, action, f"{jobs}:{kind.lower()}-job/mlpipe-prod-churn-1")
    bucket = DEPLOYMENT.data_bucket_arn
    assert allows(role, "s3:GetObject", f"{bucket}/models/churn/retraining/u5hlwpzq3yqn/verdict.json")
    assert not allows(role, "s3:GetObject", f"{bucket}/models/churn/candidates/job/output/model.tar.gz")
    assert not allows(role, "s3:PutObject", f"{bucket}/models/churn/retraining/u5hlwpzq3yqn/verdict.json")


def test_only_retraining_pipeline_starts_training_jobs() -> None:
    """No role may retry an execution, because a failed retraining starts as a new attempt."""
    jobs = f"arn:aws:sagemaker:eu-west-1:{DEPLOYMENT.account_id}:training-job"
    job = f"{jobs}/pipelines-u5hlwpzq3yqn-TrainModel-x"
    for verb in ("Create", "Describe", "Stop"):
        assert holders(ROLES, f"sagemaker:{verb}TrainingJob", job) == {DEPLOYMENT.retraining_pipeline_role}
    execution = f"{DEPLOYMENT.retraining_pipeline_arn('churn')}/execution/u5hlwpzq3yqn"
    assert holders(ROLES, "sagemaker:RetryPipelineExecution", execution) == set()
    for action in ("Describe", "Stop"):
        assert holders(ROLES, f"sagemaker:{action}PipelineExecution", execution) == {
            DEPLOYMENT.dagster_run_role
        }


def test_only_known_roles_start_pipelines() -> None:
    """IAM patterns cannot separate the names, so the scoring schedule's role may also start retraining."""
    start = "sagemaker:StartPipelineExecution"
    retraining, scoring = (
        DEPLOYMENT.retraining_pipeline_arn("churn"),
        DEPLOYMENT.scoring_pipeline_arn("churn"),
    )
    assert holders(ROLES, start, scoring) == {DEPLOYMENT.scoring_schedule_role}
    assert holders(ROLES, start, retraining) == {
        DEPLOYMENT.retraining_schedule_role,
        DEPLOYMENT.scoring_schedule_role,
        DEPLOYMENT.dagster_run_role,
        DEPLOYMENT.dagster_daemon_role,
    }


def test_package_group_leaves_decisions_to_people() -> None:
    """Its policy denies changes to every role of the stage, but not to people's roles and users."""
    (statement,) = resource_definitions.package_group_policy(DEPLOYMENT, "churn")["Statement"]
    assert statement["Effect"] == "Deny"
    assert set(statement["Action"]) == {"sagemaker:UpdateModelPackage", "sagemaker:DeleteModelPackage"}
    pattern = statement["Condition"]["ArnLike"]["aws:PrincipalArn"]
    assert all(fnmatch.fnmatchcase(DEPLOYMENT.role_arn(role), pattern) for role in DEPLOYMENT.roles)
    for person in ("role/people", "role/aws-reserved/sso.amazonaws.com/AWSReservedSSO_Admin_1a", "user/ada"):
        assert not fnmatch.fnmatchcase(f"arn:aws:iam::{DEPLOYMENT.account_id}:{person}", pattern)
    group = DEPLOYMENT.model_package_group_arn("churn")
    assert statement["Resource"] == [group, f"{group.replace('-group', '', 1)}/*"]

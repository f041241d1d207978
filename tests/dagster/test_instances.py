"""Dagster accepts the instance files, which limit runs, pools and retries."""

from __future__ import annotations

import importlib
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qs, urlsplit

import boto3
import dagster as dg
import pytest
import yaml
from dagster._config import process_config, resolve_to_config_type
from dagster._core.instance.config import dagster_instance_config
from dagster._core.instance.ref import InstanceRef
from dagster._core.storage.compute_log_manager import ComputeIOType
from dagster._serdes import ConfigurableClassData
from dagster._utils.tags import TagConcurrencyLimitsCounter
from dagster_aws.ecs import EcsRunLauncher
from dagster_aws.s3 import S3ComputeLogManager

import mlpipe_dagster
from infra.packaging import PLATFORM
from mlpipe_dagster.components.prediction_pipeline import pipeline_definitions
from mlpipe_dagster.definitions import platform_definitions
from mlpipe_dagster.pipeline.asset_names import BATCH_TAG, GLUE_POOL, SAGEMAKER_POOL, SNOWFLAKE_POOL
from model_declaration.declaration import ModelDeclaration
from prediction_contract.naming.resource_names import STAGE_TAG
from tests.dagster.small_model import declaration
from tests.infra.dockerfiles import environment_variables

if TYPE_CHECKING:
    from tests.stack_runs import LocalStack

INSTANCES = Path(mlpipe_dagster.__file__).parent / "instances"
LOCAL, PRODUCTION = INSTANCES / "local.yaml", INSTANCES / "production.yaml"
DOCKERFILE = PLATFORM / "infra" / "images" / "dagster" / "Dockerfile"
FAMILY = "mlpipe-prod-dagster-run"
VARIABLES = {
    "DAGSTER_POSTGRES_HOST": "postgres.internal",
    "DAGSTER_POSTGRES_DB": "dagster",
    "DAGSTER_POSTGRES_USER": "dagster",
    "DAGSTER_POSTGRES_PASSWORD": "from-the-tasks-secrets",
    "MLPIPE_RUN_TASK_DEFINITION": FAMILY,
    "MLPIPE_DATA_BUCKET": "mlpipe-prod-data",
    "MLPIPE_STAGE": "prod",
    "AWS_DEFAULT_REGION": "eu-central-1",
}


@pytest.fixture
def local(tmp_path: Path) -> Iterator[dg.DagsterInstance]:
    """Yield the instance of a laptop."""
    (tmp_path / "dagster.yaml").write_bytes(LOCAL.read_bytes())
    with dg.DagsterInstance.from_config(str(tmp_path)) as instance:
        yield instance


@pytest.fixture
def production(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> InstanceRef:
    """Return the production instance's reference with the deployed environment, without connecting."""
    for name, value in VARIABLES.items():
        monkeypatch.setenv(name, value)
    (tmp_path / "dagster.yaml").write_bytes(PRODUCTION.read_bytes())
    return InstanceRef.from_dir(str(tmp_path))


def accepted(data: ConfigurableClassData | None) -> dict[str, Any]:
    """Return a class's config as the class validates it, with the environment's values."""
    assert data is not None
    named = getattr(importlib.import_module(data.module_name), data.class_name)
    taken = process_config(resolve_to_config_type(named.config_type()), data.config_dict)
    assert taken.success, taken.errors
    return dict(taken.value or {})


def test_local_instance_suits_two_cores(local: dg.DagsterInstance) -> None:
    """Runs and pools are limited to two, monitoring and retries are on, and telemetry is off."""
    limits = local.get_concurrency_config()
    assert limits.run_queue_config is not None
    assert limits.run_queue_config.max_concurrent_runs == 2
    assert limits.pool_config.default_pool_limit == 2
    assert local.run_monitoring_enabled
    assert local.run_retries_enabled
    assert not local.telemetry_enabled


@pytest.mark.parametrize("path", [LOCAL, PRODUCTION], ids=lambda path: path.stem)
def test_instance_runs_one_load_per_batch_at_a_time(path: Path, tmp_path: Path) -> None:
    """Each value of the batch tag has a limit of one run, and pools have limits."""
    (tmp_path / "dagster.yaml").write_bytes(path.read_bytes())
    config, _ = dagster_instance_config(str(tmp_path))
    limits = config["concurrency"]["runs"]["tag_concurrency_limits"]
    assert {"key": BATCH_TAG, "value": {"applyLimitPerUniqueValue": True}, "limit": 1} in limits
    assert config["concurrency"]["pools"]["default_limit"] >= 1
    assert config["run_monitoring"]["free_slots_after_run_end_seconds"] > 0
    assert config["run_retries"]["enabled"]


@pytest.mark.parametrize("path", [LOCAL, PRODUCTION], ids=lambda path: path.stem)
def test_second_run_of_a_batch_is_queued(path: Path, tmp_path: Path) -> None:
    """The daemon's own counter blocks it, but not a run of another batch."""
    (tmp_path / "dagster.yaml").write_bytes(path.read_bytes())
    config, _ = dagster_instance_config(str(tmp_path))
    limits = config["concurrency"]["runs"]["tag_concurrency_limits"]
    first, again, other = (
        dg.DagsterRun(job_name="things_load", tags={BATCH_TAG: f"20130201T060000Z-0000000{number}"})
        for number in (1, 1, 2)
    )
    under_way = TagConcurrencyLimitsCounter(limits, [first])
    assert (under_way.is_blocked(again), under_way.is_blocked(other)) == (True, False)


def test_production_instance_uses_postgres(production: InstanceRef) -> None:
    """All three storages use one database over TLS, and its password comes from the environment."""
    for storage in ("run_storage_data", "event_storage_data", "schedule_storage_data"):
        taken = accepted(getattr(production, storage))
        assert taken["postgres_db"]["hostname"] == "postgres.internal"
        assert taken["postgres_db"]["password"] == "from-the-tasks-secrets"
        assert taken["postgres_db"]["params"] == {"sslmode": "require"}
    settings: Any = yaml.safe_load(PRODUCTION.read_text(encoding="utf-8"))
    assert settings["storage"]["postgres"]["postgres_db"]["password"] == {"env": "DAGSTER_POSTGRES_PASSWORD"}


def test_production_instance_stores_logs_on_s3(production: InstanceRef) -> None:
    """The log manager can be made without AWS and uses the data bucket."""
    manager = production.compute_logs_data.rehydrate(as_type=S3ComputeLogManager)
    assert (manager._s3_bucket, manager._s3_prefix) == ("mlpipe-prod-data", "compute-logs")


@pytest.mark.parametrize(
    ("region", "host"),
    [("us-east-1", "s3.amazonaws.com"), ("eu-central-1", "s3.eu-central-1.amazonaws.com")],
)
def test_log_links_use_signature_version_4(
    production: InstanceRef, region: str, host: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """S3 refuses Version 2 for objects under KMS keys, so the image's AWS settings select Version 4."""
    task = {"AWS_ACCESS_KEY_ID": "key", "AWS_SECRET_ACCESS_KEY": "secret", "AWS_SESSION_TOKEN": "token"}
    config = DOCKERFILE.with_name(Path(environment_variables(DOCKERFILE)["AWS_CONFIG_FILE"]).name)
    for name, value in {**task, "AWS_DEFAULT_REGION": region, "AWS_CONFIG_FILE": str(config)}.items():
        monkeypatch.setenv(name, value)
    for name in ("AWS_ENDPOINT_URL", "AWS_REGION", "AWS_PROFILE"):
        monkeypatch.delenv(name, raising=False)
    # boto3 keeps its first session, whose settings would be used here.
    monkeypatch.setattr(boto3, "DEFAULT_SESSION", None)
    data = production.compute_logs_data
    data = ConfigurableClassData(
        data.module_name, data.class_name, f"{data.config_yaml}local_dir: {tmp_path}\n"
    )
    manager = data.rehydrate(as_type=S3ComputeLogManager)
    key = ["run", "compute_logs", "step"]
    # Only finished logs have a download address.
    finished = Path(manager.local_manager.complete_artifact_path(key))
    finished.parent.mkdir(parents=True)
    finished.touch()
    address = urlsplit(str(manager.download_url_for_type(key, ComputeIOType.STDERR)))
    assert (address.hostname, address.path) == (
        f"mlpipe-prod-data.{host}",
        "/compute-logs/storage/run/compute_logs/step.err",
    )
    asked = parse_qs(address.query)
    assert asked["X-Amz-Algorithm"] == ["AWS4-HMAC-SHA256"]
    assert f"/{region}/s3/" in asked["X-Amz-Credential"][0]


def test_production_instance_frees_slots_and_retries_runs(production: InstanceRef) -> None:
    """A run that hangs at its start ends after ten minutes, and failed runs are retried twice."""
    settings: Any = production.settings
    monitoring = settings["run_monitoring"]
    assert monitoring["enabled"]
    assert monitoring["start_timeout_seconds"] == 600
    assert monitoring["free_slots_after_run_end_seconds"] == 300
    assert monitoring["max_resume_run_attempts"] == 0
    assert (settings["run_retries"]["enabled"], settings["run_retries"]["max_retries"]) == (True, 2)


@pytest.mark.stack
def test_production_launcher_uses_existing_task_definition(
    production: InstanceRef, local_stack: LocalStack, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The launcher registers no task definition and tags its tasks with the stage."""
    for name, value in local_stack.environment.items():
        if name.startswith("AWS_"):
            monkeypatch.setenv(name, value)
    boto3.client("ecs").register_task_definition(
        family=FAMILY, containerDefinitions=[{"name": "run", "image": "mlpipe", "memory": 512}]
    )
    data = production.run_launcher_data
    assert data is not None
    assert accepted(data)["task_definition"] == {"env": "MLPIPE_RUN_TASK_DEFINITION"}
    launcher = data.rehydrate(as_type=EcsRunLauncher)
    assert f"task-definition/{FAMILY}" in str(launcher.task_definition)
    assert launcher.secrets_tags == []
    # The launcher passes these tags to RunTask; the stage's budget sums the costs with this tag.
    tags = [{"key": STAGE_TAG, "value": VARIABLES["MLPIPE_STAGE"]}]
    assert launcher.run_ecs_tags == tags


@pytest.fixture
def model() -> ModelDeclaration:
    """Declare a model."""
    return declaration("things")


def test_each_step_is_in_the_pool_of_its_service(model: ModelDeclaration) -> None:
    """A step that needs a service's client takes that service's pool; a load takes Glue's."""
    made = pipeline_definitions(model)
    definitions = dg.Definitions.merge(made, platform_definitions(made))
    services = (
        ("glue_jobs", GLUE_POOL),
        ("sagemaker_jobs", SAGEMAKER_POOL),
        ("retraining_pipelines", SAGEMAKER_POOL),
        ("warehouse", SNOWFLAKE_POOL),
    )
    found, wanted = {}, {}
    for job in ("things_train", "things_score", "things_load", "retention", "follow_home"):
        for node in definitions.resolve_job_def(job).nodes:
            if isinstance(node.definition, dg.OpDefinition):
                uses = node.definition.required_resource_keys
                found[node.name] = node.definition.pool
                wanted[node.name] = next((pool for client, pool in services if client in uses), None)
    assert found == wanted
    assert {name for name, pool in found.items() if pool == SNOWFLAKE_POOL} == {
        "things__adds_up",
        "things__quality",
        "things__publication",
        "retire_batches",
    }
    assert {found[name] for name in ("things__features", "things__predictions", "things__trained_model")} == {
        SAGEMAKER_POOL
    }
    assert found["things__load"] == GLUE_POOL

"""Provision the whole local stack; resources are created before others refer to them."""

from __future__ import annotations

import logging
import os
from typing import TYPE_CHECKING

from botocore.exceptions import BotoCoreError, ClientError

from infra.code_upload import (
    UploadedCode,
    create_shared_log_groups,
    upload_code,
    upload_documents,
    upload_wheels,
)
from infra.definitions import api_definitions, pipeline_definitions, resource_definitions
from infra.environments.environment_cache import cache_folder
from infra.environments.job_environments import images_document, make_job_environments
from infra.glue_wheels import locked_releases, zip_of_wheels
from infra.local.provisioning.clients import (
    Clients,
    ProvisioningError,
    already_exists,
    is_loopback,
    require_loopback,
)
from infra.local.provisioning.provisioned_api import ensure_function, ensure_load_balancer
from infra.local.provisioning.provisioned_jobs import add_images, ensure_glue_job, ensure_role
from infra.local.provisioning.provisioned_queues import ensure_queue, ensure_rule
from infra.local.provisioning.provisioned_registry import ensure_package_group, ensure_pipelines
from infra.local.provisioning.provisioned_sources import ensure_sources
from infra.local.provisioning.provisioned_storage import ensure_bucket, ensure_table
from infra.local.provisioning.provisioned_tokens import TokenClient, ensure_secret, ensure_token_issuer
from infra.local.provisioning.provisioned_warehouse import (
    WarehouseConnection,
    ensure_warehouse,
    warehouse_connection,
)
from infra.packaging import PackagingError, build_api_archive
from infra.permissions import role_definitions
from infra.permissions.source_rights import source_statements
from infra.provisioned_models import ProvisionedModel, provisioned_models
from infra.settings import TokenSettings
from model_declaration.declaration_files import declarations_in
from model_declaration.job_requirements import needed_families
from prediction_contract.errors import ContractError
from prediction_contract.naming.resource_names import Deployment

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from infra.packaging import Archive
    from model_declaration.project import Project

STAGE = "local"
_LOG = logging.getLogger(__name__)


def provision(
    *,
    aws_endpoint_url: str,
    jobs_endpoint_url: str,
    snowflake_host: str,
    snowflake_port: int,
    service_urls: Mapping[str, str],
    project: Project,
    region: str = "us-east-1",
    say: Callable[[str], None] = _LOG.info,
) -> dict[str, str]:
    """Create or repair all resources on the running local stack; data stays.

    Args:
        aws_endpoint_url: Address of the AWS emulator.
        jobs_endpoint_url: Address of the job executor (Glue and SageMaker).
        snowflake_host: The host of Snowflake's stand-in.
        snowflake_port: The port of Snowflake's stand-in.
        service_urls: Addresses of the project's services, by name.
        project: The project of the models.
        region: The region of the stack.
        say: Receives a message when packages are installed, which may take minutes.

    Returns:
        The variables that clients of the stack need, for `.env`. Passwords in them are stand-ins. The token
        client's credentials are not among them, only the name of their secret.

    Raises:
        ProvisioningError: An address is not on this machine, a component does not answer, or a resource
            cannot be created or repaired.
    """
    clients = Clients(
        aws=require_loopback(aws_endpoint_url, "address of the AWS emulator"),
        jobs=require_loopback(jobs_endpoint_url, "address of the job executor"),
        region=region,
    )
    services = {
        name: require_loopback(url, f"address of the service {name}") for name, url in service_urls.items()
    }
    if not is_loopback(snowflake_host):
        raise ProvisioningError(
            f"The Snowflake host {snowflake_host!r} is not on this machine",
            remedy="Use the address of the local stack, which `mlpipe up` prints",
        )
    try:
        account_id = clients.client("sts").get_caller_identity()["Account"]
        deployment = Deployment(STAGE, account_id, region)
        connection = warehouse_connection(deployment, host=snowflake_host, port=snowflake_port)
        try:
            issued = _ensure_resources(clients, deployment, connection, project, services=services, say=say)
        except ClientError as error:
            if not already_exists(error):
                raise
            # The first response came too late, and the client repeated the call. Now the resource is found.
            issued = _ensure_resources(clients, deployment, connection, project, services=services, say=say)
    except PackagingError as error:
        raise ProvisioningError(
            f"The code cannot be packaged: {error}", remedy="Then run `mlpipe up` again"
        ) from error
    except ContractError as error:
        raise ProvisioningError(
            f"The project cannot be provisioned: {error.what}", remedy=error.remedy
        ) from error
    except (ClientError, BotoCoreError) as error:
        raise ProvisioningError(
            f"Provisioning the local stack failed: {error}",
            remedy="See `mlpipe status` and the stack's logs, then run `mlpipe up` again",
        ) from error
    ensure_warehouse(connection, deployment)
    return {
        **issued,
        **connection.variables(),
        **{f"MLPIPE_{name.upper()}_URL": url for name, url in services.items()},
        # For `dagster asset materialize`, which reads neither workspace.yaml nor pyproject.toml.
        "DAGSTER_CLI_ASSET_MATERIALIZE_MODULE_NAME": f"{project.package}.definitions",
    }


def _ensure_resources(
    clients: Clients,
    deployment: Deployment,
    connection: WarehouseConnection,
    project: Project,
    *,
    services: Mapping[str, str],
    say: Callable[[str], None],
) -> dict[str, str]:
    """Create or repair what is in AWS, and return the variables that name it."""
    models = provisioned_models(project)
    _storage(clients, deployment, models)
    ensure_sources(clients, models, connection)
    queues = _event_queues(clients, deployment)
    code = _jobs(clients, deployment, project, models)
    _images(clients, deployment, project, say)
    _retraining(clients, deployment, models, code)
    client = _identity(clients, deployment, connection)
    issued = _variables(clients, deployment, queues=queues, client=client)
    archive = build_api_archive(project.packages)
    api_url = _api(clients, deployment, client, issued, archive, provider_origins=[*services.values()])
    return {**issued, "MLPIPE_SAGEMAKER_CODE_PREFIX": code.sagemaker_prefix, "MLPIPE_API_URL": api_url}


def _storage(clients: Clients, deployment: Deployment, models: Sequence[ProvisionedModel]) -> None:
    ensure_bucket(clients.client("s3"), resource_definitions.data_bucket(deployment), clients.region)
    dynamodb = clients.client("dynamodb")
    ensure_table(dynamodb, resource_definitions.registry_table(deployment))
    for model in models:
        ensure_table(dynamodb, resource_definitions.online_table(deployment, model.name))
    _LOG.info("bucket, registry and %d online tables are ready", len(models))


def _event_queues(clients: Clients, deployment: Deployment) -> dict[str, str]:
    """Provision queues and rules; return the variables with the queues' addresses."""
    sqs, events = clients.client("sqs"), clients.client("events")
    ensure_queue(sqs, resource_definitions.dead_letter_queue(deployment))
    done_files = ensure_queue(
        sqs,
        resource_definitions.done_file_queue(deployment),
        dead_letter_arn=deployment.dead_letter_queue_arn,
        policy_statement=resource_definitions.queue_policy_statement(deployment),
    )
    ensure_rule(
        events,
        deployment.done_file_rule,
        pattern=resource_definitions.done_file_pattern(deployment),
        queue_arn=deployment.done_file_queue_arn,
    )
    model_events = ensure_queue(
        sqs,
        resource_definitions.model_events_queue(deployment),
        dead_letter_arn=deployment.dead_letter_queue_arn,
        policy_statement=resource_definitions.model_events_policy_statement(deployment),
    )
    ensure_rule(
        events,
        deployment.model_events_rule,
        pattern=resource_definitions.model_events_pattern(deployment),
        queue_arn=deployment.model_events_queue_arn,
    )
    _LOG.info("queues %s and %s receive events", deployment.done_file_queue, deployment.model_events_queue)
    return {"MLPIPE_DONE_QUEUE_URL": done_files, "MLPIPE_MODEL_EVENTS_QUEUE_URL": model_events}


def _jobs(
    clients: Clients, deployment: Deployment, project: Project, models: Sequence[ProvisionedModel]
) -> UploadedCode:
    s3 = clients.client("s3")
    code = upload_code(s3, deployment, project, project.packages)
    upload_wheels(s3, deployment, stand_in_wheels)
    create_shared_log_groups(clients.client("logs"))
    iam = clients.client("iam")
    sources = source_statements(deployment, [model.inputs for model in models])
    for role in role_definitions.all_roles(deployment, sources):
        ensure_role(iam, role, deployment.account_id)
    definition = resource_definitions.load_job(deployment, code_archive_key=code.glue_archive_key)
    ensure_glue_job(clients.client("glue"), definition)
    _LOG.info("%d roles and Glue job %s are ready", len(deployment.roles), deployment.load_job)
    return code


def _retraining(
    clients: Clients, deployment: Deployment, models: Sequence[ProvisionedModel], code: UploadedCode
) -> None:
    sagemaker = clients.client("sagemaker")
    for model in models:
        ensure_package_group(sagemaker, pipeline_definitions.package_group(deployment, model.name))
    upload_documents(clients.client("s3"), deployment, models)
    pipelines = [
        pipeline_definitions.retraining(deployment, model.retrained, code_digest=code.sagemaker_digest)
        for model in models
        if model.retrained is not None
    ]
    ensure_pipelines(
        sagemaker, clients.client("scheduler"), pipelines, prefix=deployment.retraining_pipelines_prefix
    )
    _LOG.info("%d package groups and %d retraining pipelines are ready", len(models), len(pipelines))


def _images(clients: Clients, deployment: Deployment, project: Project, say: Callable[[str], None]) -> None:
    families = needed_families(project, declarations_in(project.defs).values())
    environments = make_job_environments(project, families, cache_folder(os.environ), say=say)
    add_images(clients.jobs, images_document(deployment.job_image_address, environments))
    _LOG.info("%d job images are ready", len(environments))


def stand_in_wheels() -> bytes:
    """Return a zip of empty wheels: the job executor checks their names and hashes, and installs none."""
    releases = locked_releases().items()
    return zip_of_wheels(
        {f"{name.replace('-', '_')}-{version}-py3-none-any.whl": b"" for name, version in releases}
    )


def _identity(clients: Clients, deployment: Deployment, connection: WarehouseConnection) -> TokenClient:
    client = ensure_token_issuer(clients.client("cognito-idp"), resource_definitions.token_issuer(deployment))
    secrets = clients.client("secretsmanager")
    ensure_secret(
        secrets,
        deployment.token_client_secret,
        {"client_id": client.client_id, "client_secret": client.client_secret},
    )
    ensure_secret(secrets, deployment.snowflake_secret, connection.secret())
    _LOG.info("Cognito pool %s issues tokens with scope %s", client.pool_id, deployment.read_scope)
    return client


def _api(
    clients: Clients,
    deployment: Deployment,
    client: TokenClient,
    issued: dict[str, str],
    archive: Archive,
    *,
    provider_origins: Sequence[str],
) -> str:
    """Deploy the API and return the base address of its routes."""
    functions = clients.client("lambda")
    function = api_definitions.api_function(
        deployment,
        TokenSettings(
            issuer=issued["MLPIPE_TOKEN_ISSUER"],
            jwks_url=issued["MLPIPE_JWKS_URL"],
            client_ids=(client.client_id,),
        ),
        provider_origins=provider_origins,
        public_documentation=True,
    )
    arn = ensure_function(functions, function, archive)
    ensure_load_balancer(
        clients.client("elbv2"),
        functions,
        api_definitions.load_balancer(deployment, public_documentation=True),
        api_definitions.target_group(deployment),
        arn,
    )
    _LOG.info("function %s answers behind load balancer %s", function.name, deployment.api_load_balancer)
    # The local stack has no DNS, so the emulator takes the load balancer's name as a path.
    return f"{clients.aws}/_alb/{deployment.api_load_balancer}"


def _variables(
    clients: Clients, deployment: Deployment, *, queues: Mapping[str, str], client: TokenClient
) -> dict[str, str]:
    region = clients.region
    return {
        "MLPIPE_STAGE": deployment.stage,
        "MLPIPE_ACCOUNT_ID": deployment.account_id,
        "MLPIPE_DATA_BUCKET": deployment.data_bucket,
        "MLPIPE_REGISTRY_TABLE": deployment.registry_table,
        **queues,
        "MLPIPE_LOAD_JOB": deployment.load_job,
        "MLPIPE_SAGEMAKER_ROLE_ARN": deployment.role_arn(deployment.sagemaker_role),
        "MLPIPE_SAGEMAKER_IMAGE_REPOSITORY": deployment.job_image_address,
        # The issuer in tokens is Cognito's public address, on the local stack too.
        "MLPIPE_TOKEN_ISSUER": f"https://cognito-idp.{region}.amazonaws.com/{client.pool_id}",
        "MLPIPE_JWKS_URL": f"{clients.aws}/{client.pool_id}/.well-known/jwks.json",
        "MLPIPE_TOKEN_URL": f"{clients.aws}/oauth2/token",
        "MLPIPE_TOKEN_CLIENT_ID": client.client_id,
        "MLPIPE_TOKEN_CLIENT_SECRET_NAME": deployment.token_client_secret,
        "MLPIPE_TOKEN_SCOPE": deployment.read_scope,
    }

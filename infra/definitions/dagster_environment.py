"""The environment variables of Dagster's tasks, read by `mlpipe_dagster.settings` and `dagster.yaml`."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from infra.settings import StageSettings

# Fields of the secret's JSON that ECS turns into variables (`<ARN>:<field>::`). Loads read the other fields.
SNOWFLAKE_FIELDS = ("account", "user", "password", "role")


def dagster_environment(
    settings: StageSettings,
    *,
    code_digest: str,
    location_name: str,
    database_host: str,
    database: str,
) -> dict[str, str]:
    """Return the variables without secrets.

    Args:
        settings: The stage's settings.
        code_digest: SHA-256 of the tasks' code.
        location_name: The name of the project's code location.
        database_host: The host name of Postgres.
        database: The name of the database.
    """
    deployment = settings.deployment()
    region = deployment.region
    return {
        "AWS_REGION": region,
        "AWS_DEFAULT_REGION": region,
        "MLPIPE_STAGE": settings.stage,
        "MLPIPE_ACCOUNT_ID": settings.account_id,
        "MLPIPE_DATA_BUCKET": deployment.data_bucket,
        "MLPIPE_SERVING_REGIONS": " ".join(settings.serving_regions),
        "MLPIPE_SAGEMAKER_IMAGE_REPOSITORY": deployment.job_image_address,
        "MLPIPE_SAGEMAKER_ROLE_ARN": deployment.role_arn(deployment.sagemaker_role),
        "MLPIPE_SAGEMAKER_CODE_PREFIX": deployment.code_tree_prefix("sagemaker_scripts", code_digest),
        "MLPIPE_RUN_TASK_DEFINITION": deployment.dagster_run_family,
        "MLPIPE_LOCATION_NAME": location_name,
        "MLPIPE_CODE_HOST": f"code.{deployment.dagster_namespace}",
        "MLPIPE_API_URL": f"https://{settings.domain.api_name}",
        "MLPIPE_TOKEN_URL": f"https://{deployment.token_domain}.auth.{region}.amazoncognito.com/oauth2/token",
        "MLPIPE_TOKEN_CLIENT_SECRET_NAME": deployment.token_client_secret,
        "MLPIPE_TOKEN_SCOPE": deployment.read_scope,
        "DAGSTER_POSTGRES_HOST": database_host,
        "DAGSTER_POSTGRES_DB": database,
        "SNOWFLAKE_DATABASE": deployment.snowflake_database,
        "SNOWFLAKE_SCHEMA": deployment.snowflake_schema,
        "SNOWFLAKE_WAREHOUSE": deployment.snowflake_warehouse,
        **_provider_urls(settings.provider_origins),
    }


def snowflake_variables(secret: str) -> dict[str, str]:
    """Return the location of each Snowflake variable's value in the secret with this ARN."""
    return {f"SNOWFLAKE_{field.upper()}": f"{secret}:{field}::" for field in SNOWFLAKE_FIELDS}


def database_variables(secret: str) -> dict[str, str]:
    """Return the location of each Postgres variable's value in the secret with this ARN."""
    return {
        "DAGSTER_POSTGRES_USER": f"{secret}:username::",
        "DAGSTER_POSTGRES_PASSWORD": f"{secret}:password::",
    }


def _provider_urls(origins: tuple[str, ...]) -> dict[str, str]:
    named = (origin.partition("=") for origin in origins)
    return {f"MLPIPE_{name.upper()}_URL": origin for origin, _, name in named if name}

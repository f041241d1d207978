"""The settings, read once from the environment: names, service addresses and credentials."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Self

from mlpipe_dagster.costs import Prices
from prediction_contract.errors import ContractError
from prediction_contract.naming.resource_names import Deployment
from prediction_contract.stores.warehouse_table import SESSION_PARAMETERS

_PROVIDER_URL = re.compile("MLPIPE_([A-Z][A-Z0-9_]*)_URL")
_SNOWFLAKE_REQUIRED = ("account", "user", "database", "schema", "warehouse")
# Dagster's own statements take less time, and without a limit the connector waits forever.
_SNOWFLAKE_SECONDS = 300
_SNOWFLAKE_NUMBERS = ("port", "network_timeout", "login_timeout")


class SettingsError(ContractError):
    """A variable that the platform needs is missing or invalid."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SnowflakeSettings:
    """Access to the warehouse; `extra` holds further arguments of the Snowflake connector by name."""

    account: str
    user: str
    database: str
    schema: str
    warehouse: str
    password: str | None = field(default=None, repr=False)
    private_key_path: str | None = None
    role: str | None = None
    network_timeout: int = _SNOWFLAKE_SECONDS
    extra: Mapping[str, str | int] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class ApiSettings:
    """Access to the API for its clients.

    Attributes:
        url: The API's public address, without a trailing slash.
        token_url: The address that exchanges client credentials for a token.
        token_client_secret: The name of the secret with `client_id` and `client_secret`.
        token_scope: The token's scope.
    """

    url: str
    token_url: str
    token_client_secret: str
    token_scope: str

    @classmethod
    def from_environment(cls, environment: Mapping[str, str]) -> Self | None:
        """Return the settings in an environment; None if a variable is missing."""
        names = (
            "MLPIPE_API_URL",
            "MLPIPE_TOKEN_URL",
            "MLPIPE_TOKEN_CLIENT_SECRET_NAME",
            "MLPIPE_TOKEN_SCOPE",
        )
        url, token_url, secret, scope = (environment.get(name, "") for name in names)
        if not (url and token_url and secret and scope):
            return None
        return cls(url=url.rstrip("/"), token_url=token_url, token_client_secret=secret, token_scope=scope)


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """The platform's settings in this process.

    Attributes:
        deployment: The deployment, which provides all names.
        data_bucket: The data bucket's name.
        done_queue_url: The URL of the queue of done files.
        model_events_queue_url: The URL of the queue of events on model packages and retraining.
        serving_regions: The regions that serve in addition to home.
        sagemaker_image_repository: The repository of SageMaker jobs' images, without a tag.
        sagemaker_role_arn: The execution role of SageMaker jobs.
        code_prefix: The key prefix of the jobs' packages as plain files, ending with `/`; empty if no job is
            started.
        code_version: The version of that code, which manifests contain.
        provider_urls: Base addresses of third-party providers by name, for example `stock`.
        snowflake: Access to the warehouse.
        api: Access to the deployed API; None if the environment does not define it.
        prices: The prices for cost estimates.
    """

    deployment: Deployment
    data_bucket: str
    done_queue_url: str
    model_events_queue_url: str
    serving_regions: tuple[str, ...]
    sagemaker_image_repository: str
    sagemaker_role_arn: str
    code_prefix: str
    code_version: str
    provider_urls: Mapping[str, str]
    snowflake: SnowflakeSettings
    api: ApiSettings | None = None
    prices: Prices = field(default_factory=Prices)

    @classmethod
    def from_environment(cls, environment: Mapping[str, str]) -> Self:
        """Return the settings in an environment, for example `os.environ`.

        Raises:
            SettingsError: A variable is missing or invalid.
            InvalidNameError: Stage, account or region is invalid.
        """
        deployment = Deployment(
            _required(environment, "MLPIPE_STAGE"),
            _required(environment, "MLPIPE_ACCOUNT_ID"),
            environment.get("AWS_REGION") or _required(environment, "AWS_DEFAULT_REGION"),
        )
        code_prefix = environment.get("MLPIPE_SAGEMAKER_CODE_PREFIX", "")
        if code_prefix and not code_prefix.endswith("/"):
            raise SettingsError(
                "MLPIPE_SAGEMAKER_CODE_PREFIX does not end with '/'",
                remedy="Set it to a key prefix that ends with '/'",
            )
        return cls(
            deployment=deployment,
            data_bucket=environment.get("MLPIPE_DATA_BUCKET") or deployment.data_bucket,
            done_queue_url=environment.get("MLPIPE_DONE_QUEUE_URL")
            or _queue_url(deployment, deployment.done_file_queue),
            model_events_queue_url=environment.get("MLPIPE_MODEL_EVENTS_QUEUE_URL")
            or _queue_url(deployment, deployment.model_events_queue),
            serving_regions=tuple(
                region
                for region in environment.get("MLPIPE_SERVING_REGIONS", "").split()
                if region != deployment.home
            ),
            sagemaker_image_repository=_required(environment, "MLPIPE_SAGEMAKER_IMAGE_REPOSITORY"),
            sagemaker_role_arn=environment.get("MLPIPE_SAGEMAKER_ROLE_ARN")
            or deployment.role_arn(deployment.sagemaker_role),
            code_prefix=code_prefix,
            # The folder of the code is named by its content's digest.
            code_version=environment.get("MLPIPE_CODE_VERSION") or code_prefix.split("/")[-2:][0][:16],
            provider_urls={
                found[1].lower(): value.rstrip("/")
                for name, value in environment.items()
                if (found := _PROVIDER_URL.fullmatch(name)) and value
            },
            snowflake=_snowflake(environment),
            api=ApiSettings.from_environment(environment),
            prices=_prices(environment),
        )

    def connector_arguments(self) -> dict[str, Any]:
        """Return the arguments of the Snowflake connector for a session."""
        given = self.snowflake
        named = {
            name: getattr(given, name)
            for name in (*_SNOWFLAKE_REQUIRED, "password", "private_key_path", "role", "network_timeout")
            if getattr(given, name) is not None
        }
        if "private_key_path" in named:
            named["private_key_file"] = named.pop("private_key_path")
        return {**named, **given.extra, "session_parameters": dict(SESSION_PARAMETERS)}

    def provider_url(self, provider: str) -> str:
        """Return the base address of a third-party provider, without a trailing slash.

        Raises:
            SettingsError: The environment does not define it.
        """
        if provider not in self.provider_urls:
            raise SettingsError(
                f"The address of the provider {provider} is not set",
                remedy=f"Set MLPIPE_{provider.upper()}_URL",
            )
        return self.provider_urls[provider]


def _queue_url(deployment: Deployment, queue: str) -> str:
    suffix = "amazonaws.com.cn" if deployment.partition == "aws-cn" else "amazonaws.com"
    host = f"sqs.{deployment.region}.{suffix}"
    return f"https://{host}/{deployment.account_id}/{queue}"


def _required(environment: Mapping[str, str], name: str) -> str:
    value = environment.get(name)
    if not value:
        raise SettingsError(
            f"The variable {name} is not set",
            remedy="Locally run `mlpipe up`, which writes .env; on AWS the deployment sets it",
        )
    if "\r" in value:
        raise SettingsError(
            f"The variable {name} contains a carriage return, probably from a file with CRLF line endings",
            remedy="Save the file that sets it with LF line endings",
        )
    return value


def _prices(environment: Mapping[str, str]) -> Prices:
    try:
        return Prices.from_environment(environment)
    except ValueError as error:
        raise SettingsError(
            f"A variable MLPIPE_PRICE_... is not a number: {error}", remedy="Correct or unset it"
        ) from error


def _snowflake(environment: Mapping[str, str]) -> SnowflakeSettings:
    # Other tools also set SNOWFLAKE_* variables, so only known arguments of the connector are used.
    prefix = "SNOWFLAKE_"
    values: dict[str, str | int] = {
        name: _required(environment, f"{prefix}{name.upper()}") for name in _SNOWFLAKE_REQUIRED
    }
    for name in ("password", "private_key_path", "role", "host", "protocol", *_SNOWFLAKE_NUMBERS):
        if text := environment.get(f"{prefix}{name.upper()}"):
            values[name] = _number(f"{prefix}{name.upper()}", text) if name in _SNOWFLAKE_NUMBERS else text
    extra = {
        name: values.pop(name) for name in ("host", "port", "protocol", "login_timeout") if name in values
    }
    return SnowflakeSettings(**values, extra=extra)  # type: ignore[arg-type]  # numbers were parsed by name


def _number(name: str, text: str) -> int:
    try:
        return int(text)
    except ValueError as error:
        raise SettingsError(f"{name} is not a whole number", remedy=f"Correct {name}") from error

"""One typed configuration per stage: account, regions, domain, sizes, hosts that may be called.

A project's `stages.yaml` contains the settings, without secrets.
"""

from __future__ import annotations

import re
from functools import partial
from typing import Annotated, Any, Literal, Self

from pydantic import AfterValidator, BeforeValidator, Field, model_validator

from model_declaration.validation import DeclarationPart, inconsistency, raise_together
from prediction_contract.errors import ContractError
from prediction_contract.limits import MAX_CLAIM_VALUES, MAX_STANDARD_TIME_TRAVEL_DAYS, MAX_TIME_TRAVEL_DAYS
from prediction_contract.naming.deployment_scope import REGION, STAGE
from prediction_contract.naming.resource_names import Deployment, validated_provider_name
from prediction_contract.stores.serving_record import ORIGIN_PATTERN

_PROVIDER = re.compile(rf"{ORIGIN_PATTERN}(=[a-z][a-z0-9_]{{0,40}})?")
_POOL = re.compile(r"([a-z0-9-]{1,30})_[A-Za-z0-9]{1,40}")
_BUCKET = r"^[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]$"
_KEY = r"^arn:[a-z-]+:kms:[a-z0-9-]+:[0-9]{12}:key/[A-Za-z0-9-]+$"
_SECRET_NAME = r"^[A-Za-z0-9/_+=.@-]{1,512}$"  # noqa: S105  # a form
_FEWEST_ZONES = 2


def _matching(pattern: re.Pattern[str], value: str) -> str:
    if not pattern.fullmatch(value):
        raise ValueError(f"{value} does not have the form {pattern.pattern}")
    return value


def _quoted_account(value: object) -> object:
    if isinstance(value, int):
        raise ValueError(f'YAML reads it as a number. Put it in quotes: "{value}"')  # noqa: TRY004  # pydantic's way
    return value


def _origin(value: str) -> str:
    if not _PROVIDER.fullmatch(value):
        raise ValueError(f"{value} is not https://host[:port] or https://host=provider")
    if name := value.partition("=")[2]:
        try:
            validated_provider_name(name)
        except ContractError as error:
            raise ValueError(str(error)) from error
    return value


def _issuer(value: Any) -> Any:
    """Replace `cognito_pool` by the issuer and key address of that pool."""
    if not isinstance(value, dict) or "cognito_pool" not in value:
        return value
    pool = value["cognito_pool"]
    found = _POOL.fullmatch(pool) if isinstance(pool, str) else None
    if found is None:
        raise inconsistency(f"{pool!r} is not a pool's id, such as us-east-1_Ab12Cd34E", "cognito_pool")
    if given := sorted({"issuer", "jwks_url"} & set(value)):
        raise inconsistency("cognito_pool already determines it. Remove one of the two", given[0])
    issuer = f"https://cognito-idp.{found[1]}.amazonaws.com/{pool}"
    others = {name: each for name, each in value.items() if name != "cognito_pool"}
    return {"issuer": issuer, "jwks_url": f"{issuer}/.well-known/jwks.json", **others}


class RegionSettings(DeclarationPart):
    """A region that serves the API.

    Attributes:
        name: AWS's name of the region.
        availability_zones: Zones by name, so that nothing is looked up. Load balancers need at least two.
            Names differ between accounts; docs/deployment.md explains how to find zones with every endpoint.
    """

    name: Annotated[str, AfterValidator(partial(_matching, REGION))]
    availability_zones: tuple[str, ...]

    @model_validator(mode="after")
    def _has_two_zones(self) -> Self:
        if len(set(self.availability_zones)) < _FEWEST_ZONES:
            raise inconsistency(f"{self.name} needs at least two availability zones", "availability_zones")
        return self


class DomainSettings(DeclarationPart):
    """The API's DNS names.

    Attributes:
        hosted_zone_id: The id of the public zone for the records.
        api_name: The name that clients use; each region also answers as `<region>.<api_name>`.
    """

    hosted_zone_id: str
    api_name: str

    def regional_name(self, region: str) -> str:
        """Return the name of the API in one region."""
        return f"{region}.{self.api_name}"


class TokenSettings(DeclarationPart):
    """The issuer and the tokens that the API accepts: the stage's own Cognito pool, or another issuer.

    A stage may set `cognito_pool`, the pool's id, instead of `issuer` and `jwks_url`.

    Attributes:
        issuer: The required `iss` of a token.
        jwks_url: The address of the issuer's keys.
        client_ids: The clients that may use the API; at most ten.
        audiences: The accepted values of `aud`, for issuers whose tokens have one; at most ten.
        single_models: Models with a scope of their own; at most nine, plus the scope for all models.
    """

    issuer: str
    jwks_url: str
    client_ids: tuple[str, ...] = ()
    audiences: tuple[str, ...] = ()
    single_models: tuple[str, ...] = ()

    @model_validator(mode="after")
    def _fits_a_rule(self) -> Self:
        """Raise if there are more values than the load balancer's rules can hold."""
        if len(self.single_models) >= MAX_CLAIM_VALUES:
            raise inconsistency(
                f"the load balancer accepts at most {MAX_CLAIM_VALUES} scopes, including the one for all "
                "models. List fewer single models",
                "single_models",
            )
        for member in ("client_ids", "audiences"):
            if len(getattr(self, member)) > MAX_CLAIM_VALUES:
                raise inconsistency(
                    f"the load balancer accepts at most {MAX_CLAIM_VALUES}. List fewer", member
                )
        return self


class ApiSize(DeclarationPart):
    """The size of the API.

    Attributes:
        warm_environments: The minimum provisioned concurrency, which avoids cold starts. Never change it
            together with the API's code: Lambda refuses the change while the alias shifts traffic.
        most_warm_environments: The maximum provisioned concurrency; it scales with utilisation.
        requests_per_address: The maximum number of requests of one IP address in five minutes.
        architecture: The function's processor architecture.
    """

    warm_environments: int
    most_warm_environments: int
    requests_per_address: int
    architecture: Literal["aarch64", "x86_64"] = "aarch64"


class DagsterSize(DeclarationPart):
    """The sizes of Dagster's services and database.

    Attributes:
        service_cpu: CPU units of each service's task.
        service_memory_mb: Memory of each service's task.
        run_cpu: CPU units of a run's task.
        run_memory_mb: Memory of a run's task.
        database_class: The RDS instance class.
        database_gb: The database's storage.
        database_in_two_zones: Whether there is a standby in another zone.
        nat_gateways: The number of NAT gateways, for calls to Snowflake and others. With one per zone, calls
            still work if a zone fails.
    """

    service_cpu: int
    service_memory_mb: int
    run_cpu: int
    run_memory_mb: int
    database_class: str
    database_gb: int
    database_in_two_zones: bool
    nat_gateways: int


class SnowflakeTrust(DeclarationPart):
    """Snowflake's user and external id, from `DESC INTEGRATION` once the storage integration exists."""

    user_arn: str
    external_id: str


class SourceBucket(DeclarationPart):
    """A bucket other than the data bucket from which sources may be read.

    Attributes:
        name: The bucket's name.
        key_arn: The KMS key of its objects, if it is not one of AWS's own.
    """

    name: Annotated[str, Field(pattern=_BUCKET)]
    key_arn: Annotated[str, Field(pattern=_KEY)] | None = None


class StageSettings(DeclarationPart):
    """Everything that differs between stages.

    Attributes:
        stage: The stage's name, part of every resource's name. In the file it is the stage's key.
        account_id: The AWS account.
        regions: The serving regions. The first is home, the only one that writes.
        domain: The API's DNS names.
        tokens: The tokens that the API accepts.
        provider_origins: Third parties that the API may call, in the form of `api_definitions.api_function`.
        public_documentation: Whether the API's documentation is readable without a token.
        api: The API's size.
        dagster: Dagster's size.
        snowflake: Snowflake's user and external id; None until the storage integration exists.
        snowflake_retention_days: Days of Snowflake's Time Travel: 0 or 1 on the Standard edition, up to 90 on
            Enterprise and higher ones.
        source_buckets: Other buckets than the data bucket that may hold sources and models trained elsewhere.
        source_secrets: Secrets of the home region with which sources may log in.
        alarm_address: The e-mail address that alarms go to.
        monthly_budget_dollars: The budget; spending above it is reported.
        pointer_hours: The age of a live batch above which an alarm goes off.
        deletion_protection: Whether resources with data are protected against deletion.
    """

    stage: Annotated[str, AfterValidator(partial(_matching, STAGE))]
    account_id: Annotated[str, BeforeValidator(_quoted_account), Field(pattern="^[0-9]{12}$")]
    regions: tuple[RegionSettings, ...]
    domain: DomainSettings
    tokens: Annotated[TokenSettings, BeforeValidator(_issuer)]
    provider_origins: tuple[Annotated[str, AfterValidator(_origin)], ...] = ()
    public_documentation: bool
    api: ApiSize
    dagster: DagsterSize
    snowflake: SnowflakeTrust | None = None
    snowflake_retention_days: int = Field(
        default=MAX_STANDARD_TIME_TRAVEL_DAYS, ge=0, le=MAX_TIME_TRAVEL_DAYS
    )
    source_buckets: tuple[SourceBucket, ...] = ()
    source_secrets: tuple[Annotated[str, Field(pattern=_SECRET_NAME)], ...] = ()
    alarm_address: str
    monthly_budget_dollars: int
    pointer_hours: int
    deletion_protection: bool = True

    @model_validator(mode="after")
    def _is_consistent(self) -> Self:
        """Raise for settings that would fail later, in the middle of a deployment."""
        raise_together(
            self._require_distinct_regions,
            self._require_distinct_providers,
            self._require_distinct_sources,
        )
        return self

    def _require_distinct_regions(self) -> None:
        if not self.regions or len({region.name for region in self.regions}) != len(self.regions):
            raise inconsistency("a stage needs at least one region, each listed once", "regions")

    def _require_distinct_providers(self) -> None:
        named = [name for each in self.provider_origins if (name := each.partition("=")[2])]
        if twice := sorted({name for name in named if named.count(name) > 1}):
            raise inconsistency(
                f"provider {', '.join(twice)} has two addresses. Keep one", "provider_origins"
            )

    def _require_distinct_sources(self) -> None:
        buckets = [each.name for each in self.source_buckets]
        for member, names in (("source_buckets", buckets), ("source_secrets", [*self.source_secrets])):
            if twice := sorted({name for name in names if names.count(name) > 1}):
                raise inconsistency(f"{', '.join(twice)} is listed twice. List it once", member)

    @property
    def home(self) -> RegionSettings:
        """The region that writes."""
        return self.regions[0]

    @property
    def serving_regions(self) -> tuple[str, ...]:
        """The serving regions other than home."""
        return tuple(region.name for region in self.regions[1:])

    def deployment(self, region: str | None = None) -> Deployment:
        """Return the names of all resources, as seen from a region (default: home)."""
        return Deployment(self.stage, self.account_id, region or self.home.name, self.home.name)

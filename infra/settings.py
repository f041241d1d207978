"""One typed configuration per stage: accounts, regions, domain, sizes, hosts that may be called.

A project's `stages.yaml` holds them. Secrets have no place in it.
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


def _formed(pattern: re.Pattern[str], value: str) -> str:
    if not pattern.fullmatch(value):
        raise ValueError(f"{value} does not have the form {pattern.pattern}")
    return value


def _account(value: object) -> object:
    if isinstance(value, int):
        raise ValueError(f'YAML takes it for a number. Write it in quotes: "{value}"')  # noqa: TRY004  # pydantic's way
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
    """Return tokens whose issuer is named by a Cognito pool as those of its address."""
    if not isinstance(value, dict) or "cognito_pool" not in value:
        return value
    pool = value["cognito_pool"]
    found = _POOL.fullmatch(pool) if isinstance(pool, str) else None
    if found is None:
        raise inconsistency(f"{pool!r} is no pool's id, say us-east-1_Ab12Cd34E", "cognito_pool")
    if given := sorted({"issuer", "jwks_url"} & set(value)):
        raise inconsistency("cognito_pool says it already. Leave one of both out", given[0])
    issuer = f"https://cognito-idp.{found[1]}.amazonaws.com/{pool}"
    others = {name: each for name, each in value.items() if name != "cognito_pool"}
    return {"issuer": issuer, "jwks_url": f"{issuer}/.well-known/jwks.json", **others}


class RegionSettings(DeclarationPart):
    """A region that serves the API.

    Attributes:
        name: AWS's name of it.
        availability_zones: Named, so that nothing is looked up; two at least, as load balancers demand. Names
            differ between accounts: docs/deployment.md says how to find zones that have every endpoint.
    """

    name: Annotated[str, AfterValidator(partial(_formed, REGION))]
    availability_zones: tuple[str, ...]

    @model_validator(mode="after")
    def _has_two_zones(self) -> Self:
        if len(set(self.availability_zones)) < _FEWEST_ZONES:
            raise inconsistency(f"give {self.name} two availability zones at least", "availability_zones")
        return self


class DomainSettings(DeclarationPart):
    """Where the API is found.

    Attributes:
        hosted_zone_id: Of the public zone that records are written to.
        api_name: The name that clients use; regions answer below it as `<region>.<api_name>` too.
    """

    hosted_zone_id: str
    api_name: str

    def regional_name(self, region: str) -> str:
        """Return the name of one region alone."""
        return f"{region}.{self.api_name}"


class TokenSettings(DeclarationPart):
    """Whose tokens the API takes: of the stage's own Cognito pool, or of another issuer.

    A stage may write `cognito_pool`, the pool's id, instead of issuer and address of its keys.

    Attributes:
        issuer: What a token's `iss` must be.
        jwks_url: Where its keys are.
        client_ids: The clients that may use the API; ten at most.
        audiences: Values of `aud` that are taken, of an issuer whose tokens have one; ten at most.
        single_models: Models that tokens may be for alone; nine at most, the scope for all counts too.
    """

    issuer: str
    jwks_url: str
    client_ids: tuple[str, ...] = ()
    audiences: tuple[str, ...] = ()
    single_models: tuple[str, ...] = ()

    @model_validator(mode="after")
    def _fits_a_rule(self) -> Self:
        """Refuse more values than the load balancer's rules hold."""
        if len(self.single_models) >= MAX_CLAIM_VALUES:
            raise inconsistency(
                f"the load balancer takes {MAX_CLAIM_VALUES} scopes, the one for all models among them. "
                "Name fewer single models",
                "single_models",
            )
        for member in ("client_ids", "audiences"):
            if len(getattr(self, member)) > MAX_CLAIM_VALUES:
                raise inconsistency(f"the load balancer takes {MAX_CLAIM_VALUES}. Name fewer", member)
        return self


class ApiSize(DeclarationPart):
    """How much the API serves with.

    Attributes:
        warm_environments: Provisioned concurrency at least, which no cold start reaches. Never change it and
            the API's code in one deployment: Lambda refuses it to an alias that shifts traffic.
        most_warm_environments: At most; utilisation decides between.
        requests_per_address: That one address may make in five minutes.
        architecture: The function's processor.
    """

    warm_environments: int
    most_warm_environments: int
    requests_per_address: int
    architecture: Literal["aarch64", "x86_64"] = "aarch64"


class DagsterSize(DeclarationPart):
    """What Dagster's services and database run on.

    Attributes:
        service_cpu: CPU units of each service's task.
        service_memory_mb: Its memory.
        run_cpu: CPU units of a run's task.
        run_memory_mb: Its memory.
        database_class: RDS's name of the machine.
        database_gb: Its storage.
        database_in_two_zones: Whether a standby waits in another zone.
        nat_gateways: Ways out to Snowflake and others; one for each zone survives a zone's loss.
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
    """What `DESC INTEGRATION` says, once the storage integration exists."""

    user_arn: str
    external_id: str


class SourceBucket(DeclarationPart):
    """A bucket that sources may lie in, beside the data bucket; it is only read.

    Attributes:
        name: The bucket's name.
        key_arn: The KMS key that its objects are encrypted with, if it is not one of AWS's own.
    """

    name: Annotated[str, Field(pattern=_BUCKET)]
    key_arn: Annotated[str, Field(pattern=_KEY)] | None = None


class StageSettings(DeclarationPart):
    """Everything that differs between stages.

    Attributes:
        stage: Its name, part of every resource's; no member of the file.
        account_id: The AWS account.
        regions: The regions that serve; the first is home, the one that writes.
        domain: Where the API is found.
        tokens: Whose tokens it takes.
        provider_origins: Third parties that the API may call, as `api_definitions.api_function` takes them.
        public_documentation: Whether the API describes itself to those without a token.
        api: Its size.
        dagster: Dagster's size.
        snowflake: Whom Snowflake comes as; None until the storage integration exists.
        snowflake_retention_days: Days of Time Travel that Snowflake keeps: 0 or 1 on the Standard edition, up
            to 90 on Enterprise and higher ones.
        source_buckets: Buckets that sources and models trained elsewhere may lie in, beside the data bucket.
        source_secrets: Secrets of the home region that sources may log in with.
        alarm_address: The e-mail address that alarms go to.
        monthly_budget_dollars: Spending above it is reported.
        pointer_hours: How old a live batch may become before an alarm goes off.
        deletion_protection: Whether what keeps data refuses to be deleted.
    """

    stage: Annotated[str, AfterValidator(partial(_formed, STAGE))]
    account_id: Annotated[str, BeforeValidator(_account), Field(pattern="^[0-9]{12}$")]
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
        """Refuse what would fail later, in the middle of a deployment."""
        raise_together(
            self._require_distinct_regions,
            self._require_distinct_providers,
            self._require_distinct_sources,
        )
        return self

    def _require_distinct_regions(self) -> None:
        if not self.regions or len({region.name for region in self.regions}) != len(self.regions):
            raise inconsistency("it names no region, or one twice. Name each once", "regions")

    def _require_distinct_providers(self) -> None:
        named = [name for each in self.provider_origins if (name := each.partition("=")[2])]
        if twice := sorted({name for name in named if named.count(name) > 1}):
            raise inconsistency(
                f"provider {', '.join(twice)} has two addresses. Give it one", "provider_origins"
            )

    def _require_distinct_sources(self) -> None:
        buckets = [each.name for each in self.source_buckets]
        for member, names in (("source_buckets", buckets), ("source_secrets", [*self.source_secrets])):
            if twice := sorted({name for name in names if names.count(name) > 1}):
                raise inconsistency(f"{', '.join(twice)} is named twice. Name it once", member)

    @property
    def home(self) -> RegionSettings:
        """The region that writes."""
        return self.regions[0]

    @property
    def serving_regions(self) -> tuple[str, ...]:
        """The regions beside home."""
        return tuple(region.name for region in self.regions[1:])

    def deployment(self, region: str | None = None) -> Deployment:
        """Return all names as seen from a region; home unless it is named."""
        return Deployment(self.stage, self.account_id, region or self.home.name, self.home.name)

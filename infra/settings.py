"""One typed configuration per stage: accounts, regions, domain, sizes, hosts that may be called.

A new stage is a new value here. Secrets have no place in it.
"""

from __future__ import annotations

import dataclasses
import re
from typing import Literal

from prediction_contract.limits import MAX_CLAIM_VALUES, MAX_STANDARD_TIME_TRAVEL_DAYS, MAX_TIME_TRAVEL_DAYS
from prediction_contract.naming.resource_names import Deployment, validated_provider_name
from prediction_contract.stores.serving_record import ORIGIN_PATTERN

_PROVIDER = re.compile(rf"{ORIGIN_PATTERN}(=[a-z][a-z0-9_]{{0,40}})?")


class StageSettingsError(Exception):
    """A stage's configuration contradicts itself; the message says what to correct."""


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class RegionSettings:
    """A region that serves the API.

    Attributes:
        name: AWS's name of it.
        availability_zones: Named, so that nothing is looked up; two at least, as load balancers demand. Names
            differ between accounts: docs/deployment.md says how to find zones that have every endpoint.
    """

    name: str
    availability_zones: tuple[str, ...]


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class DomainSettings:
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


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class TokenSettings:
    """Whose tokens the API takes: of the stage's own Cognito pool, or of another issuer.

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


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class ApiSize:
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


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class DagsterSize:
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


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class SnowflakeTrust:
    """What `DESC INTEGRATION` says, once the storage integration exists."""

    user_arn: str
    external_id: str


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class StageSettings:
    """Everything that differs between stages.

    Attributes:
        stage: Its name, part of every resource's.
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
        alarm_address: The e-mail address that alarms go to.
        monthly_budget_dollars: Spending above it is reported.
        pointer_hours: How old a live batch may become before an alarm goes off.
        deletion_protection: Whether what keeps data refuses to be deleted.
    """

    stage: str
    account_id: str
    regions: tuple[RegionSettings, ...]
    domain: DomainSettings
    tokens: TokenSettings
    provider_origins: tuple[str, ...]
    public_documentation: bool
    api: ApiSize
    dagster: DagsterSize
    snowflake: SnowflakeTrust | None
    alarm_address: str
    monthly_budget_dollars: int
    pointer_hours: int
    snowflake_retention_days: int = MAX_STANDARD_TIME_TRAVEL_DAYS
    deletion_protection: bool = True

    def __post_init__(self) -> None:
        if not self.regions or len({region.name for region in self.regions}) != len(self.regions):
            raise StageSettingsError(f"Stage {self.stage} names no region, or one twice. Name each once.")
        if narrow := [each.name for each in self.regions if len(set(each.availability_zones)) < 2]:  # noqa: PLR2004
            raise StageSettingsError(f"Give {', '.join(narrow)} two availability zones at least.")
        if not 0 <= self.snowflake_retention_days <= MAX_TIME_TRAVEL_DAYS:
            raise StageSettingsError(
                f"Stage {self.stage} has snowflake_retention_days={self.snowflake_retention_days}. "
                f"Set 0 or 1 on Snowflake's Standard edition, and 0 to {MAX_TIME_TRAVEL_DAYS} on Enterprise."
            )
        if len(self.tokens.single_models) >= MAX_CLAIM_VALUES:
            raise StageSettingsError(
                f"The load balancer takes {MAX_CLAIM_VALUES} scopes, the one for all models among them. "
                "Name fewer single models."
            )
        if max(len(self.tokens.client_ids), len(self.tokens.audiences)) > MAX_CLAIM_VALUES:
            raise StageSettingsError(
                f"The load balancer takes {MAX_CLAIM_VALUES} client ids and as many audiences. "
                "Name fewer in the stage's tokens."
            )
        if wrong := [each for each in self.provider_origins if not _PROVIDER.fullmatch(each)]:
            raise StageSettingsError(
                f"{', '.join(wrong)} is not https://host[:port] or https://host=provider."
            )
        providers = [name for each in self.provider_origins if (name := each.partition("=")[2])]
        if twice := sorted({name for name in providers if providers.count(name) > 1}):
            raise StageSettingsError(f"Provider {', '.join(twice)} has two addresses. Give it one.")
        for name in providers:
            validated_provider_name(name)

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


def _cognito(region: str, pool_id: str, *client_ids: str) -> TokenSettings:
    issuer = f"https://cognito-idp.{region}.amazonaws.com/{pool_id}"
    return TokenSettings(issuer=issuer, jwks_url=f"{issuer}/.well-known/jwks.json", client_ids=client_ids)


_REGIONS = (
    RegionSettings(name="us-east-1", availability_zones=("us-east-1a", "us-east-1b", "us-east-1c")),
    RegionSettings(name="us-west-2", availability_zones=("us-west-2a", "us-west-2b", "us-west-2c")),
)
_WEATHER = ("https://api.weather.example.com=weather",)

DEV = StageSettings(
    stage="dev",
    account_id="111122223333",
    regions=_REGIONS,
    domain=DomainSettings(hosted_zone_id="Z00000000000000000DEV", api_name="predictions.dev.example.com"),
    # Of the pool that the stack Data makes: its outputs name both after the first deployment.
    tokens=_cognito("us-east-1", "us-east-1_000000DEV", "0000000000000000000000dev"),
    provider_origins=_WEATHER,
    public_documentation=True,
    api=ApiSize(warm_environments=1, most_warm_environments=2, requests_per_address=3_000),
    dagster=DagsterSize(
        service_cpu=512,
        service_memory_mb=2_048,
        run_cpu=512,
        run_memory_mb=2_048,
        database_class="db.t4g.small",
        database_gb=20,
        database_in_two_zones=False,
        nat_gateways=1,
    ),
    snowflake=None,
    alarm_address="predictions-dev@example.com",
    monthly_budget_dollars=600,
    pointer_hours=72,
)

PROD = StageSettings(
    stage="prod",
    account_id="444455556666",
    regions=_REGIONS,
    domain=DomainSettings(hosted_zone_id="Z0000000000000000PROD", api_name="predictions.example.com"),
    tokens=_cognito("us-east-1", "us-east-1_00000PROD", "000000000000000000000prod"),
    provider_origins=_WEATHER,
    public_documentation=False,
    api=ApiSize(warm_environments=4, most_warm_environments=40, requests_per_address=30_000),
    dagster=DagsterSize(
        service_cpu=1_024,
        service_memory_mb=4_096,
        run_cpu=1_024,
        run_memory_mb=4_096,
        database_class="db.m7g.large",
        database_gb=100,
        database_in_two_zones=True,
        nat_gateways=3,
    ),
    snowflake=SnowflakeTrust(
        user_arn="arn:aws:iam::777788889999:user/snowflake-prod", external_id="PROD_SFCRole=2_EXAMPLE="
    ),
    alarm_address="predictions@example.com",
    monthly_budget_dollars=5_000,
    pointer_hours=36,
)

STAGES = {settings.stage: settings for settings in (DEV, PROD)}

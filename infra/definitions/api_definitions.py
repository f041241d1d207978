"""The API's function, target group and load balancer as data: local provisioning and CDK read the same."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any

from prediction_contract.limits import MAX_FUNCTION_ENVIRONMENT_BYTES

if TYPE_CHECKING:
    from collections.abc import Iterable

    from infra.settings import TokenSettings
    from prediction_contract.naming.resource_names import Deployment

HEALTH_CHECK_PATH = "/healthz"
# Answered without a token; a rule of their own, because all else passes the load balancer's token check.
PUBLIC_PATHS = (HEALTH_CHECK_PATH, "/readyz")
# Likewise, where the deployment says so.
DOCUMENTATION_PATHS = ("/openapi.json", "/docs")
# All else that the API answers lies below it.
VERSION_PREFIX = "/v1/"
METHODS = ("GET", "HEAD", "POST")
# Alarms that stop a new version and bring the old one back.
ALARMS_THAT_ROLL_BACK = (
    "api-lambda-user-error",
    "api-lambda-internal-error",
    "api-5xx",
    "api-balancer-5xx",
    "api-function-errors",
)


@dataclasses.dataclass(frozen=True, slots=True)
class FunctionDefinition:
    """The Lambda of the API.

    Args:
        name: The function's name.
        role_arn: What it may do.
        environment: What `api_lambda.settings` reads beside what Lambda itself sets.
        memory_mb: CPU comes with memory, and a cold start is CPU.
        timeout_seconds: Longer than the slowest answer: the store's deadlines and the enrichment budget.
    """

    name: str
    role_arn: str
    environment: dict[str, str]
    handler: str = "api_lambda.handler.handler"
    runtime: str = "python3.11"
    memory_mb: int = 1024
    timeout_seconds: int = 15

    def __post_init__(self) -> None:
        """Refuse an environment that Lambda would refuse."""
        size = sum(len(name.encode()) + len(value.encode()) for name, value in self.environment.items())
        if size > MAX_FUNCTION_ENVIRONMENT_BYTES:
            raise ValueError(
                f"The environment of the function {self.name} takes {size} bytes of "
                f"{MAX_FUNCTION_ENVIRONMENT_BYTES}. Name fewer clients, audiences or providers."
            )

    def configuration(self) -> dict[str, Any]:
        """Return what `CreateFunction` and `UpdateFunctionConfiguration` both take."""
        return {
            "Role": self.role_arn,
            "Handler": self.handler,
            "Runtime": self.runtime,
            "MemorySize": self.memory_mb,
            "Timeout": self.timeout_seconds,
            "Environment": {"Variables": dict(self.environment)},
        }


def api_function(
    deployment: Deployment,
    tokens: TokenSettings,
    *,
    provider_origins: Iterable[str],
    public_documentation: bool,
) -> FunctionDefinition:
    """Return the API's function.

    Args:
        deployment: Where.
        tokens: Whose tokens it takes.
        provider_origins: Third parties that it may call, `https://host[:port]`; with `=name` after it, one
            that is told the headers in the secret of that provider's name.
        public_documentation: Whether it describes itself to those without a token.
    """
    environment = {
        "MLPIPE_STAGE": deployment.stage,
        "MLPIPE_ACCOUNT_ID": deployment.account_id,
        "MLPIPE_HOME_REGION": deployment.home,
        "MLPIPE_TOKEN_ISSUER": tokens.issuer,
        "MLPIPE_JWKS_URL": tokens.jwks_url,
        "MLPIPE_TOKEN_CLIENT_IDS": ",".join(sorted(tokens.client_ids)),
        "MLPIPE_TOKEN_SCOPE": deployment.read_scope,
        "MLPIPE_PROVIDER_ORIGINS": ",".join(sorted(provider_origins)),
        "MLPIPE_PUBLIC_DOCUMENTATION": str(public_documentation).lower(),
    }
    if accepted := ",".join(sorted(tokens.audiences)):
        environment["MLPIPE_TOKEN_AUDIENCES"] = accepted
    return FunctionDefinition(deployment.api_function, deployment.role_arn(deployment.api_role), environment)


@dataclasses.dataclass(frozen=True, slots=True)
class TargetGroupDefinition:
    """How the load balancer calls the function.

    Args:
        name: The target group's name.
        multi_value_headers: Whether repeated headers and query keys arrive at all.
    """

    name: str
    multi_value_headers: bool = True
    health_check_path: str = HEALTH_CHECK_PATH
    # Every check is a billed invocation.
    health_check_seconds: int = 60
    # Longer than a cold start.
    health_check_timeout_seconds: int = 10

    def attributes(self) -> dict[str, str]:
        """Return the target group's attributes by key."""
        return {"lambda.multi_value_headers.enabled": str(self.multi_value_headers).lower()}


@dataclasses.dataclass(frozen=True, slots=True)
class LoadBalancerDefinition:
    """The load balancer, which hands what the API answers to the function.

    Args:
        name: The load balancer's name.
        public_paths: Path patterns that pass without the token check; a rule takes five.
        protected_paths: Path patterns that pass with a token only.
    """

    name: str
    public_paths: tuple[str, ...]
    protected_paths: tuple[str, ...]
    public_priority: int = 10
    protected_priority: int = 20


def target_group(deployment: Deployment) -> TargetGroupDefinition:
    """Return the API's target group."""
    return TargetGroupDefinition(deployment.api_load_balancer)


def load_balancer(deployment: Deployment, *, public_documentation: bool) -> LoadBalancerDefinition:
    """Return the API's load balancer.

    Args:
        deployment: Where.
        public_documentation: As in `api_function`.
    """
    documentation, hidden = (DOCUMENTATION_PATHS, ()) if public_documentation else ((), DOCUMENTATION_PATHS)
    return LoadBalancerDefinition(
        deployment.api_load_balancer,
        public_paths=(*PUBLIC_PATHS, *documentation),
        protected_paths=(f"{VERSION_PREFIX}*", *hidden),
    )


@dataclasses.dataclass(frozen=True, slots=True)
class TokenClaim:
    """A claim that the load balancer demands of a token, beside issuer and times.

    Args:
        name: Of the claim.
        form: How the token spells it, in the load balancer's words.
        values: Of which it must hold one.
    """

    name: str
    form: str
    values: tuple[str, ...]


def token_claims(deployment: Deployment, tokens: TokenSettings) -> tuple[TokenClaim, ...]:
    """Return what the load balancer demands: the scope, and a client or an audience that is known."""
    scope = deployment.read_scope
    scopes = (scope, *(f"{scope}:{model}" for model in sorted(tokens.single_models)))
    claims = [TokenClaim("scope", "space-separated-values", scopes)]
    # Cognito's access tokens have no audience; a token that has one is known by it.
    if accepted := tuple(sorted(tokens.audiences)):
        claims.append(TokenClaim("aud", "string-array", accepted))
    else:
        claims.append(TokenClaim("client_id", "single-string", tuple(sorted(tokens.client_ids))))
    return tuple(claims)

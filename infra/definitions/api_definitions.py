"""The API's function, target group and load balancer as data, for local provisioning and the CDK."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any

from prediction_contract.limits import MAX_FUNCTION_ENVIRONMENT_BYTES

if TYPE_CHECKING:
    from collections.abc import Iterable

    from infra.settings import TokenSettings
    from prediction_contract.naming.resource_names import Deployment

HEALTH_CHECK_PATH = "/healthz"
# Answered without a token, so a separate rule exempts them from the load balancer's token check.
PUBLIC_PATHS = (HEALTH_CHECK_PATH, "/readyz")
# Also answered without a token if the stage has `public_documentation`.
DOCUMENTATION_PATHS = ("/openapi.json", "/docs")
# The prefix of all other paths of the API.
VERSION_PREFIX = "/v1/"
METHODS = ("GET", "HEAD", "POST")
# Alarms that roll a new version back.
ALARMS_THAT_ROLL_BACK = (
    "api-lambda-user-error",
    "api-lambda-internal-error",
    "api-5xx",
    "api-balancer-5xx",
    "api-function-errors",
)


@dataclasses.dataclass(frozen=True, slots=True)
class FunctionDefinition:
    """The API's Lambda function.

    Args:
        name: The function's name.
        role_arn: The ARN of its role.
        environment: The variables of `api_lambda.settings` that Lambda does not set itself.
        memory_mb: The memory. Lambda allots CPU in proportion to it, and cold starts need CPU.
        timeout_seconds: The timeout. It exceeds the store's deadlines plus the enrichment budget, so that the
            slowest answer fits.
    """

    name: str
    role_arn: str
    environment: dict[str, str]
    handler: str = "api_lambda.handler.handler"
    runtime: str = "python3.11"
    memory_mb: int = 1024
    timeout_seconds: int = 15

    def __post_init__(self) -> None:
        """Raise if Lambda would refuse the environment."""
        size = sum(len(name.encode()) + len(value.encode()) for name, value in self.environment.items())
        if size > MAX_FUNCTION_ENVIRONMENT_BYTES:
            raise ValueError(
                f"The environment of the function {self.name} has {size} bytes; Lambda allows "
                f"{MAX_FUNCTION_ENVIRONMENT_BYTES}. Declare fewer clients, audiences or providers."
            )

    def configuration(self) -> dict[str, Any]:
        """Return the parameters shared by `CreateFunction` and `UpdateFunctionConfiguration`."""
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
        deployment: The names and ARNs of the stage in its region.
        tokens: The accepted tokens.
        provider_origins: Third parties that it may call, as `https://host[:port]`. If `=name` follows,
            requests carry the headers from that provider's secret.
        public_documentation: Whether its documentation is readable without a token.
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
    """The load balancer's target group for the function.

    Args:
        name: The target group's name.
        multi_value_headers: Whether the function receives all values of repeated headers and query keys.
    """

    name: str
    multi_value_headers: bool = True
    health_check_path: str = HEALTH_CHECK_PATH
    # Every check is a billed invocation.
    health_check_seconds: int = 60
    # More than a cold start takes.
    health_check_timeout_seconds: int = 10

    def attributes(self) -> dict[str, str]:
        """Return the target group's attributes by key."""
        return {"lambda.multi_value_headers.enabled": str(self.multi_value_headers).lower()}


@dataclasses.dataclass(frozen=True, slots=True)
class LoadBalancerDefinition:
    """The load balancer, which forwards the API's paths to the function.

    Args:
        name: The load balancer's name.
        public_paths: Path patterns without the token check; at most five, the limit of a listener rule.
        protected_paths: Path patterns that need a token.
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
        deployment: The names and ARNs of the stage in its region.
        public_documentation: See `api_function`.
    """
    documentation, hidden = (DOCUMENTATION_PATHS, ()) if public_documentation else ((), DOCUMENTATION_PATHS)
    return LoadBalancerDefinition(
        deployment.api_load_balancer,
        public_paths=(*PUBLIC_PATHS, *documentation),
        protected_paths=(f"{VERSION_PREFIX}*", *hidden),
    )


@dataclasses.dataclass(frozen=True, slots=True)
class TokenClaim:
    """A claim that the load balancer checks in a token, in addition to issuer and validity period.

    Args:
        name: The claim's name.
        form: The load balancer's name for the format of the claim's value.
        values: The accepted values.
    """

    name: str
    form: str
    values: tuple[str, ...]


def token_claims(deployment: Deployment, tokens: TokenSettings) -> tuple[TokenClaim, ...]:
    """Return the checked claims: the scope, and a known client or audience."""
    scope = deployment.read_scope
    scopes = (scope, *(f"{scope}:{model}" for model in sorted(tokens.single_models)))
    claims = [TokenClaim("scope", "space-separated-values", scopes)]
    # Cognito's access tokens have no audience. Tokens of other issuers are recognised by theirs.
    if accepted := tuple(sorted(tokens.audiences)):
        claims.append(TokenClaim("aud", "string-array", accepted))
    else:
        claims.append(TokenClaim("client_id", "single-string", tuple(sorted(tokens.client_ids))))
    return tuple(claims)

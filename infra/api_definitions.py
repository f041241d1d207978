"""The API's function, target group and load balancer as data: local provisioning and CDK read the same."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterable

    from prediction_contract.resource_names import Deployment

HEALTH_CHECK_PATH = "/healthz"
# Answered without a token; a rule of their own, because all else passes the load balancer's token check.
PUBLIC_PATHS = (HEALTH_CHECK_PATH, "/readyz")
# Likewise, where the deployment says so.
DOCUMENTATION_PATHS = ("/openapi.json", "/docs")


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
    *,
    issuer: str,
    jwks_url: str,
    client_ids: Iterable[str],
    provider_origins: Iterable[str],
    public_documentation: bool,
) -> FunctionDefinition:
    """Return the API's function.

    Args:
        deployment: Where.
        issuer: What tokens name as theirs.
        jwks_url: Where the issuer's keys are.
        client_ids: The clients that may use the API.
        provider_origins: Third parties that it may call, `https://host[:port]`; with `=name` after it, one
            that is told the headers in the secret of that provider's name.
        public_documentation: Whether it describes itself to those without a token.
    """
    environment = {
        "MLPIPE_STAGE": deployment.stage,
        "MLPIPE_ACCOUNT_ID": deployment.account_id,
        "MLPIPE_HOME_REGION": deployment.home,
        "MLPIPE_TOKEN_ISSUER": issuer,
        "MLPIPE_JWKS_URL": jwks_url,
        "MLPIPE_TOKEN_CLIENT_IDS": ",".join(sorted(client_ids)),
        "MLPIPE_TOKEN_SCOPE": deployment.read_scope,
        "MLPIPE_PROVIDER_ORIGINS": ",".join(sorted(provider_origins)),
        "MLPIPE_PUBLIC_DOCUMENTATION": str(public_documentation).lower(),
    }
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

    def attributes(self) -> dict[str, str]:
        """Return the target group's attributes by key."""
        return {"lambda.multi_value_headers.enabled": str(self.multi_value_headers).lower()}


@dataclasses.dataclass(frozen=True, slots=True)
class LoadBalancerDefinition:
    """The load balancer, whose one listener hands everything to the function.

    Args:
        name: The load balancer's name.
        public_paths: Path patterns that pass without the token check; a rule takes five.
    """

    name: str
    public_paths: tuple[str, ...]
    public_priority: int = 10


def target_group(deployment: Deployment) -> TargetGroupDefinition:
    """Return the API's target group."""
    return TargetGroupDefinition(deployment.api_load_balancer)


def load_balancer(deployment: Deployment, *, public_documentation: bool) -> LoadBalancerDefinition:
    """Return the API's load balancer.

    Args:
        deployment: Where.
        public_documentation: As in `api_function`.
    """
    paths = (*PUBLIC_PATHS, *(DOCUMENTATION_PATHS if public_documentation else ()))
    return LoadBalancerDefinition(deployment.api_load_balancer, paths)

"""Names of the API, of who issues its tokens, and of whom it asks."""

from __future__ import annotations

import hashlib

from prediction_contract.errors import InvalidNameError
from prediction_contract.naming.deployment_scope import MODEL, PREFIX, Place, require

READ_SCOPE = "predictions:read"
# The platform's own variables MLPIPE_<...>_URL, which no provider may bend.
_OWN_ADDRESSES = frozenset({"api", "done_queue", "jwks", "token"})
# Cognito refuses these words anywhere in a domain.
_COGNITO_RESERVED = ("aws", "amazon", "cognito")


def require_provider_name(provider: str) -> str:
    """Return a provider's name unchanged if it can have an address, `MLPIPE_<PROVIDER>_URL`, and a secret.

    Raises:
        InvalidNameError: It has another form than a model's name, or its variable is the platform's own.
    """
    if require(MODEL, provider, "provider name") in _OWN_ADDRESSES:
        raise InvalidNameError(
            f"provider name {provider!r} cannot be used: MLPIPE_{provider.upper()}_URL is the platform's own",
            remedy="Choose another name for the provider",
        )
    return provider


class ServingNames(Place):
    """Names of the API, of who issues its tokens, and of whom it asks."""

    __slots__ = ()

    @property
    def api_function(self) -> str:
        """The Lambda function of the API."""
        return self._name("api")

    @property
    def api_alias(self) -> str:
        """The alias of the function that the load balancer calls."""
        return "live"

    @property
    def api_function_arn(self) -> str:
        """The Lambda function's ARN without version or alias."""
        return self._arn("lambda", f"function:{self.api_function}")

    @property
    def api_load_balancer(self) -> str:
        """The load balancer of the API, and its target group."""
        return self._name("api")

    @property
    def api_logs_bucket(self) -> str:
        """The bucket of the load balancer's access logs in this region."""
        return self._name(f"api-logs-{self.account_id}-{self.region}")

    @property
    def api_log_group(self) -> str:
        """The log group of the API's Lambda."""
        return f"/aws/lambda/{self.api_function}"

    @property
    def firewall_log_group(self) -> str:
        """The log group of the API's firewall; WAF demands how it begins."""
        return f"aws-waf-logs-{self._name('api')}"

    @property
    def api_alarm_topic(self) -> str:
        """The SNS topic that alarms about the API are sent to; each region has its own."""
        return self._name("api-alarms")

    @property
    def api_alarm_topic_arn(self) -> str:
        """That topic's ARN in this region."""
        return self._arn("sns", self.api_alarm_topic)

    @property
    def user_pool(self) -> str:
        """The Cognito pool that issues the API's tokens; its id is Cognito's own."""
        return self._name("api")

    @property
    def resource_server(self) -> str:
        """The identifier of the API as a resource server, the first part of its scopes."""
        return self._name("api")

    @property
    def read_scope(self) -> str:
        """The scope as it is requested and as it stands in a token: `<resource server>/predictions:read`."""
        return f"{self.resource_server}/{READ_SCOPE}"

    @property
    def token_client(self) -> str:
        """The client that obtains tokens by client credentials; its id is Cognito's own."""
        return self._name("api-reader")

    @property
    def token_domain(self) -> str:
        """The Cognito domain prefix of the token endpoint, unique within the region over all accounts."""
        stage = self.stage
        if any(word in stage for word in _COGNITO_RESERVED):
            stage = hashlib.sha256(stage.encode()).hexdigest()[:12]
        return f"{PREFIX}-{stage}-{self.account_id}"

    @property
    def token_client_secret(self) -> str:
        """The secret that holds the token client's id and secret as one JSON document."""
        return self._name("client-credentials")

    def provider_secret(self, provider: str) -> str:
        """Return the secret that holds a third-party provider's token; providers are named like models."""
        return self._name(f"providers/{require_provider_name(provider)}")

    @property
    def provider_secrets_arn_pattern(self) -> str:
        """What matches the ARN of every provider's secret."""
        return self._arn("secretsmanager", f"secret:{self._name('providers/')}*")

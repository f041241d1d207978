"""The resource for settings, AWS clients, registry and bucket; clients are created on first use."""

# No postponed annotations: Dagster reads a resource's field types itself.
import os
from functools import cached_property
from typing import Any

import dagster as dg
from pydantic import PrivateAttr

from mlpipe_dagster.resources.aws_clients import (
    READ_SECONDS,
    TICK_READ_SECONDS,
    TICK_TRIES,
    TRIES,
    new_client,
)
from mlpipe_dagster.resources.data_bucket import DataBucket
from mlpipe_dagster.settings import Settings
from prediction_contract.registry.table import RegistryTable


class Platform(dg.ConfigurableResource):
    """Settings and AWS clients of this process; the environment is read once, at the first use.

    Attributes:
        read_seconds: The time limit of one attempt of an AWS call.
    """

    read_seconds: int = READ_SECONDS

    _clients: dict[tuple[str, bool], Any] = PrivateAttr(default_factory=dict)
    _tick_clients: dict[str, Any] = PrivateAttr(default_factory=dict)
    _replicas: dict[str, Any] = PrivateAttr(default_factory=dict)

    @cached_property
    def settings(self) -> Settings:
        """The settings.

        Raises:
            SettingsError: A variable is missing or invalid.
        """
        return Settings.from_environment(os.environ)

    def client(self, service: str, *, repeats: bool = True) -> Any:
        """Return the boto3 client of a service.

        Args:
            service: The service's name in boto3, for example `dynamodb`.
            repeats: Whether boto3 retries requests whose answer was lost.
        """
        if (service, repeats) not in self._clients:
            self._clients[service, repeats] = new_client(
                service,
                self.settings.deployment.region,
                tries=TRIES if repeats else 1,
                read_seconds=self.read_seconds,
            )
        return self._clients[service, repeats]

    def tick_client(self, service: str) -> Any:
        """Return a boto3 client for a sensor's tick, with a short time limit in case a service hangs."""
        if service not in self._tick_clients:
            self._tick_clients[service] = new_client(
                service,
                self.settings.deployment.region,
                tries=TICK_TRIES,
                read_seconds=min(self.read_seconds, TICK_READ_SECONDS),
            )
        return self._tick_clients[service]

    def dynamodb_in(self, region: str) -> Any:
        """Return the boto3 DynamoDB client of a serving region, for its replicas."""
        if region not in self._replicas:
            self._replicas[region] = new_client("dynamodb", region, read_seconds=self.read_seconds)
        return self._replicas[region]

    @property
    def registry(self) -> RegistryTable:
        """The registry, in the home region."""
        return RegistryTable(self.client("dynamodb"), self.settings.deployment.registry_table)

    @property
    def bucket(self) -> DataBucket:
        """The data bucket."""
        return DataBucket(self.client("s3"), self.settings.data_bucket)

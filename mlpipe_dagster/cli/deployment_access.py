"""The deployment as a command reaches it; every client is made when it is first asked for."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mlpipe_dagster.cli.inspection.warehouse_queries import WarehouseQueries
from mlpipe_dagster.done_files.registration import registered_batch
from mlpipe_dagster.resources.aws_clients import new_client
from mlpipe_dagster.resources.data_bucket import DataBucket
from mlpipe_dagster.settings import Settings
from model_declaration import declared_models
from prediction_contract.errors import ContractError
from prediction_contract.registry.records import BatchRecord
from prediction_contract.registry.table import RegistryTable

if TYPE_CHECKING:
    from model_declaration.declaration import ModelDeclaration

# Somebody waits at the terminal: a service that is down is to be named soon.
_TRIES = 3
_READ_SECONDS = 20
_LOGIN_SECONDS = 20


class WarehouseUnreachableError(ContractError):
    """Snowflake does not answer, or refuses what was asked."""


class DeploymentAccess:
    """Settings, declarations and clients of this process.

    Args:
        definitions: The folder of the models' declarations.
    """

    def __init__(self, definitions: Path = declared_models.DEFS) -> None:
        self._definitions = definitions
        self._clients: dict[str, Any] = {}

    @cached_property
    def settings(self) -> Settings:
        """The settings; the environment is read once.

        Raises:
            SettingsError: A variable is missing or has another form.
        """
        return Settings.from_environment(os.environ)

    @property
    def now(self) -> datetime:
        """The present moment."""
        return datetime.now(UTC)

    @property
    def home(self) -> str:
        """The region that writes."""
        return self.settings.deployment.home

    @property
    def other_regions(self) -> list[str]:
        """The regions that serve beside home."""
        return [region for region in self.settings.serving_regions if region != self.home]

    def client(self, service: str) -> Any:
        """Return the boto3 client of a service, in the deployment's region."""
        if service not in self._clients:
            self._clients[service] = new_client(
                service, self.settings.deployment.region, tries=_TRIES, read_seconds=_READ_SECONDS
            )
        return self._clients[service]

    @property
    def registry(self) -> RegistryTable:
        """The registry, in the home region."""
        return RegistryTable(self.client("dynamodb"), self.settings.deployment.registry_table)

    @property
    def bucket(self) -> DataBucket:
        """The data bucket."""
        return DataBucket(self.client("s3"), self.settings.data_bucket)

    def models(self) -> list[str]:
        """Return the names of all declared models."""
        return declared_models.declared_names(self._definitions)

    def require_declared(self, model: str) -> None:
        """Do nothing if a model of this name is declared.

        Raises:
            InvalidNameError: The name has another form.
            UndeclaredModelError: There is none.
        """
        declared_models.require_declared(model, self._definitions)

    def declaration(self, model: str) -> ModelDeclaration:
        """Return a model's declaration.

        Raises:
            InvalidNameError: The name has another form.
            UndeclaredModelError: There is none.
            DeclarationError: It is wrong.
        """
        # It imports pydantic, which not every command needs.
        from model_declaration.declaration_files import declaration_of  # noqa: PLC0415

        return declaration_of(model, self._definitions)

    def sensitive_columns(self, model: str) -> frozenset[str] | None:
        """Return the columns whose values nobody is to be shown, or None if that cannot be told."""
        from model_declaration.declaration_files import sensitive_columns  # noqa: PLC0415  # as above

        return sensitive_columns(model, self._definitions)

    def known_batch(self, model: str, batch_id: str) -> BatchRecord:
        """Return the record of a declared model's batch.

        Raises:
            InvalidNameError: The name has another form.
            UndeclaredModelError: No model of this name is declared.
            UnknownBatchError: The registry does not know the batch.
        """
        self.require_declared(model)
        return registered_batch(self.registry, model, batch_id)

    @contextmanager
    def warehouse(self) -> Iterator[WarehouseQueries]:
        """Open a session of Snowflake for as long as the context lasts.

        Raises:
            WarehouseUnreachableError: Snowflake does not answer, or refuses what was asked.
        """
        # It takes a second, and few commands need it. Dagster's own resource for it would take ten.
        from snowflake import connector  # noqa: PLC0415

        arguments = {"login_timeout": _LOGIN_SECONDS, **self.settings.connector_arguments()}
        try:
            with connector.connect(**arguments) as connection:
                yield WarehouseQueries(connection)
        except connector.errors.Error as error:
            raise WarehouseUnreachableError(
                f"Snowflake does not answer, or refuses: {error}"[:1000],
                remedy="Look at the SNOWFLAKE_ variables and at Snowflake's own state",
            ) from error

"""A command's access to the deployment; each client is made on first use."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from functools import cached_property
from typing import TYPE_CHECKING, Any

from mlpipe_dagster.done_files.registration import UnknownBatchError, registered_batch
from mlpipe_dagster.resources.aws_clients import new_client
from mlpipe_dagster.resources.data_bucket import DataBucket
from mlpipe_dagster.resources.warehouse_session import WarehouseSession
from mlpipe_dagster.settings import Settings
from model_declaration import declared_models
from model_declaration.project import Project
from prediction_contract.errors import ContractError, InvalidNameError
from prediction_contract.naming.batch import BatchId
from prediction_contract.registry.records import BatchRecord
from prediction_contract.registry.table import RegistryTable
from prediction_contract.stores.warehouse_table import PUBLICATIONS, ProjectedSequences

if TYPE_CHECKING:
    from model_declaration.declaration import ModelDeclaration

# Few tries, because a person waits at the terminal.
_TRIES = 3
_READ_SECONDS = 20
_LOGIN_SECONDS = 20


class WarehouseUnreachableError(ContractError):
    """Snowflake did not answer, or refused a statement."""


class WarehouseQueries(WarehouseSession):
    """A session that can also list tables and projected publications."""

    def tables(self) -> list[str]:
        """Return the names of the tables in the session's schema."""
        query = (
            "SELECT TABLE_NAME FROM INFORMATION_SCHEMA.TABLES "
            "WHERE TABLE_SCHEMA = CURRENT_SCHEMA() ORDER BY TABLE_NAME"
        )
        return [str(name) for (name,) in self.rows(query)]

    def projected(self, models: Iterable[str]) -> dict[str, ProjectedSequences]:
        """Return the projected publications of each model; empty if nothing was ever projected."""
        exists = PUBLICATIONS.strip('"') in self.tables()
        return {model: self._projected(model) if exists else ProjectedSequences() for model in models}


class DeploymentAccess:
    """Settings, declarations and clients of this process.

    Args:
        project: The project.
    """

    def __init__(self, project: Project) -> None:
        self.project = project
        self._clients: dict[str, Any] = {}

    @cached_property
    def settings(self) -> Settings:
        """The settings, read from the environment once.

        Raises:
            SettingsError: A variable is missing or malformed.
        """
        return Settings.from_environment(os.environ)

    @property
    def now(self) -> datetime:
        """The current time."""
        return datetime.now(UTC)

    @property
    def home(self) -> str:
        """The home region, which writes the registry."""
        return self.settings.deployment.home

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
        return declared_models.declared_names(self.project.defs)

    def require_declared(self, model: str) -> None:
        """Require that a model is declared.

        Raises:
            InvalidNameError: The name is not a model name.
            UndeclaredModelError: No model of this name is declared.
        """
        declared_models.require_declared(model, self.project.defs)

    def declaration(self, model: str) -> ModelDeclaration:
        """Return a model's declaration.

        Raises:
            InvalidNameError: The name is not a model name.
            UndeclaredModelError: No model of this name is declared.
            DeclarationError: The declaration is wrong.
        """
        # Imported here, because it imports pydantic, which few commands need.
        from model_declaration.declaration_files import declaration_of  # noqa: PLC0415

        return declaration_of(model, self.project.defs)

    def sensitive_columns(self, model: str) -> frozenset[str] | None:
        """Return the columns whose values must not be shown; None if they are unknown."""
        from model_declaration.declaration_files import sensitive_columns  # noqa: PLC0415  # as above

        return sensitive_columns(model, self.project.defs)

    def registered_batch(self, model: str, batch_id: str) -> BatchRecord:
        """Return the record of a declared model's batch.

        Raises:
            InvalidNameError: The model's name is malformed.
            UndeclaredModelError: No model of this name is declared.
            UnknownBatchError: The registry does not know the batch.
        """
        self.require_declared(model)
        return registered_batch(self.registry, model, batch_id)

    def named_batch(self, words: Sequence[str]) -> BatchRecord:
        """Return the record of the batch that a command line names: a batch id, or a model and a batch id.

        Raises:
            InvalidNameError: The words are not such names.
            UndeclaredModelError: No model of this name is declared.
            UnknownBatchError: The registry does not know the batch.
        """
        match words:
            case [model, batch_id]:
                return self.registered_batch(model, batch_id)
            case [batch_id]:
                return self._batch_of_any_model(BatchId(batch_id))
            case _:
                raise InvalidNameError(
                    f"{len(words)} arguments do not name a batch",
                    remedy="Give a batch id, or a model and a batch id",
                )

    def _batch_of_any_model(self, batch_id: str) -> BatchRecord:
        registry = self.registry
        # This takes milliseconds per model. Batch ids include a hash of the model, so they are unique.
        for model in self.models():
            if record := registry.batch(model, batch_id):
                return record
        raise UnknownBatchError(
            "No declared model has a batch with this id",
            remedy="See `mlpipe batches <model>`, or load its done file with `mlpipe load`",
            batch_id=batch_id,
        )

    @contextmanager
    def warehouse(self) -> Iterator[WarehouseQueries]:
        """Open a Snowflake session, and close it afterwards.

        Raises:
            WarehouseUnreachableError: Snowflake did not answer, or refused a statement.
        """
        # The import takes a second, and few commands need it. Dagster's Snowflake resource would take ten.
        from snowflake import connector  # noqa: PLC0415

        arguments = {"login_timeout": _LOGIN_SECONDS, **self.settings.connector_arguments()}
        try:
            with connector.connect(**arguments) as connection:
                yield WarehouseQueries(connection)
        except connector.errors.Error as error:
            raise WarehouseUnreachableError(
                f"Snowflake did not answer, or refused: {error}"[:1000],
                remedy="Check the SNOWFLAKE_ variables and Snowflake's own state",
            ) from error

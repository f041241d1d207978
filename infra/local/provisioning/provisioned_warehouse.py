"""The Snowflake database and schema in the local stand-in, created through the real connector."""

from __future__ import annotations

import contextlib
import dataclasses
import logging
from typing import TYPE_CHECKING

import snowflake.connector
from snowflake.connector.errors import Error as SnowflakeError

from infra.local.provisioning.clients import ProvisioningError
from infra.snowflake_setup import setup_sql, statements
from prediction_contract.limits import MAX_STANDARD_TIME_TRAVEL_DAYS

if TYPE_CHECKING:
    from prediction_contract.naming.resource_names import Deployment

_LOG = logging.getLogger(__name__)
_LOGIN_DEADLINE_SECONDS = 60


@dataclasses.dataclass(frozen=True, slots=True)
class WarehouseConnection:
    """The connection to the warehouse; the fields have the Snowflake connector's names.

    Args:
        network_timeout: Seconds for which the connector retries. The stand-in answers HTTP 500 to unknown
            statements, and the connector retries those. It is not set for Snowflake itself.
    """

    host: str
    port: int
    database: str
    schema: str
    warehouse: str
    protocol: str = "http"
    account: str = "local"
    user: str = "mlpipe"
    password: str = dataclasses.field(default="stand-in", repr=False)
    network_timeout: int = 1

    def secret(self) -> dict[str, str | int]:
        """Return the secret's JSON document, which jobs and runs read."""
        return dataclasses.asdict(self)

    def variables(self) -> dict[str, str]:
        """Return the `SNOWFLAKE_*` variables."""
        return {f"SNOWFLAKE_{name.upper()}": str(value) for name, value in self.secret().items()}


def warehouse_connection(deployment: Deployment, *, host: str, port: int) -> WarehouseConnection:
    """Return the connection to the deployment's warehouse at the stand-in's address."""
    return WarehouseConnection(
        host=host,
        port=port,
        database=deployment.snowflake_database,
        schema=deployment.snowflake_schema,
        warehouse=deployment.snowflake_warehouse,
    )


def ensure_warehouse(connection: WarehouseConnection, deployment: Deployment) -> None:
    """Set the account up with the statements that a person runs on Snowflake. Loads create the tables.

    The share's views are left out, because they need a loaded batch of each model.

    Raises:
        ProvisioningError: The stand-in does not answer, or refuses a statement.
    """
    sql = setup_sql(deployment, [], retention_days=MAX_STANDARD_TIME_TRAVEL_DAYS)
    login = {**connection.secret(), "login_timeout": _LOGIN_DEADLINE_SECONDS}
    # The database may not exist yet, so the session starts without it.
    del login["database"], login["schema"]
    # A configured proxy cannot reach this machine's loopback interface.
    login["no_proxy"] = connection.host
    # On a busy machine statements may wait for a load. Only unknown statements need the short limit.
    login["network_timeout"] = _LOGIN_DEADLINE_SECONDS
    try:
        with (
            contextlib.closing(snowflake.connector.connect(**login)) as session,
            contextlib.closing(session.cursor()) as cursor,
        ):
            for statement in statements(sql):
                cursor.execute(statement)
    except SnowflakeError as error:
        raise ProvisioningError(
            f"Snowflake's stand-in at {connection.host}:{connection.port} refused the setup SQL: {error}",
            remedy="See the stack's logs, then run `mlpipe up` again",
        ) from error
    _LOG.info("Snowflake database %s and schema %s are ready", connection.database, connection.schema)

"""The resource for Snowflake sessions of Dagster itself."""

# No postponed annotations: Dagster reads a resource's field types itself.
import importlib
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import dagster as dg

from mlpipe_dagster.resources.platform import Platform
from mlpipe_dagster.resources.warehouse_session import WarehouseSession
from prediction_contract.stores.warehouse_table import SESSION_PARAMETERS


class Warehouse(dg.ConfigurableResource):
    """Opens sessions of the deployment's database and schema through dagster-snowflake's resource."""

    platform: dg.ResourceDependency[Platform]
    login_seconds: int = 60

    def warm_up(self) -> None:
        """Start to import a session's modules in the background, while the caller waits anyway.

        dagster-snowflake imports Snowpark and Snowflake's whole API, which takes seconds.
        """
        threading.Thread(target=importlib.import_module, args=("dagster_snowflake",), daemon=True).start()

    @contextmanager
    def quick_session(self) -> Iterator[WarehouseSession]:
        """Open a session with the connector alone, for a sensor's tick.

        Importing dagster-snowflake would take longer than a tick should.

        Raises:
            snowflake.connector.errors.Error: Snowflake does not answer, or refuses the login.
        """
        from snowflake import connector  # noqa: PLC0415  # not while definitions load

        arguments = {"login_timeout": self.login_seconds, **self.platform.settings.connector_arguments()}
        with connector.connect(**arguments) as connection:
            yield WarehouseSession(connection)

    @contextmanager
    def session(self) -> Iterator[WarehouseSession]:
        """Open a session for the duration of the context.

        Raises:
            snowflake.connector.errors.Error: Snowflake does not answer, or refuses the login.
        """
        # Not imported while definitions load: it imports the connector, and Snowpark if installed.
        from dagster_snowflake import SnowflakeResource  # noqa: PLC0415

        given = self.platform.settings.snowflake
        extra: dict[str, Any] = {**given.extra, "session_parameters": dict(SESSION_PARAMETERS)}
        resource = SnowflakeResource(
            account=given.account,
            user=given.user,
            password=given.password,
            private_key_path=given.private_key_path,
            role=given.role,
            database=given.database,
            schema=given.schema,
            warehouse=given.warehouse,
            network_timeout=given.network_timeout,
            login_timeout=self.login_seconds,
            additional_snowflake_connection_args=extra,
        )
        with resource.get_connection() as connection:
            yield WarehouseSession(connection)

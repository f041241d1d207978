"""Names in Snowflake, and of the secret that leads there."""

from __future__ import annotations

from prediction_contract.naming.deployment_scope import PREFIX, Place

SNOWFLAKE_SCHEMA = "PREDICTIONS"
SNOWFLAKE_STAGE = "PREDICTION_FILES"


class WarehouseNames(Place):
    """Names in Snowflake, and of the secret that leads there."""

    __slots__ = ()

    @property
    def snowflake_database(self) -> str:
        """The Snowflake database of the stage."""
        return f"{PREFIX}_{self.stage}".upper()

    @property
    def snowflake_schema(self) -> str:
        """The schema that holds the predictions of all models."""
        return SNOWFLAKE_SCHEMA

    @property
    def snowflake_warehouse(self) -> str:
        """The virtual warehouse that loads run on."""
        return f"{self.snowflake_database}_LOAD"

    @property
    def snowflake_stage(self) -> str:
        """The external stage on the predictions of the data bucket, within the schema."""
        return SNOWFLAKE_STAGE

    @property
    def snowflake_role(self) -> str:
        """The Snowflake role that loads and publishes."""
        return f"{self.snowflake_database}_LOADER"

    @property
    def snowflake_integration(self) -> str:
        """The storage integration, which is account-wide, through which Snowflake reads the bucket."""
        return f"{self.snowflake_database}_S3"

    @property
    def snowflake_secret(self) -> str:
        """The secret that holds the Snowflake connection as one JSON document."""
        return self._name("snowflake")

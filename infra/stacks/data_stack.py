"""The data stack: bucket, tables, queues, load job, warehouse access, token issuer, images, secrets."""

from __future__ import annotations

from typing import TYPE_CHECKING

import aws_cdk as cdk

from infra.capabilities.api.token_issuer import add_token_issuer
from infra.capabilities.data.data_bucket import add_data_bucket
from infra.capabilities.data.load_job import add_load_job
from infra.capabilities.data.prediction_tables import add_tables
from infra.capabilities.data.sensor_events import add_dead_letters, add_done_file_events, add_model_events
from infra.capabilities.data.warehouse_access import add_warehouse_access
from infra.capabilities.image_repository import add_repository
from infra.stacks.stage_stack import StageStack

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    from infra.provisioned_models import ProvisionedModel
    from infra.settings import StageSettings


class DataStack(StageStack):
    """Everything that holds data, in the home region; tables have replicas where the API serves."""

    def __init__(
        self, app: cdk.App, settings: StageSettings, models: Iterable[ProvisionedModel], archives: Path
    ) -> None:
        super().__init__(app, "data", settings)
        deployment = self.deployment
        add_data_bucket(self, deployment)
        add_tables(self, settings, [model.name for model in models])
        dead = add_dead_letters(self, deployment)
        add_done_file_events(self, deployment, dead)
        add_model_events(self, deployment, dead)
        add_load_job(self, deployment, archives)
        # The ARN of the Snowflake connection's secret.
        self.snowflake_secret = add_warehouse_access(self, settings).ref
        add_token_issuer(self, settings)
        # Not in Dagster's stack, whose services need an image before the stack can be created.
        add_repository(self, "DagsterImageRepository", deployment.dagster_image_repository)

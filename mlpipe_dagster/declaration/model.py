"""One model as a whole: what its parts must agree on."""

from __future__ import annotations

from functools import cached_property
from typing import Self

from pydantic import Field, model_validator

from mlpipe_dagster.declaration.columns import DeclaredColumn
from mlpipe_dagster.declaration.compute import Compute
from mlpipe_dagster.declaration.enrichment import DeclaredEnrichment
from mlpipe_dagster.declaration.partitions import Partitions
from mlpipe_dagster.declaration.quality import Quality
from mlpipe_dagster.declaration.retention import Retention
from mlpipe_dagster.declaration.training import TrainingRange
from mlpipe_dagster.declaration.values import DeclaredModel
from prediction_contract.errors import ContractError
from prediction_contract.resource_names import require_model_name
from prediction_contract.schema import Column, ColumnType, PredictionSchema


class ModelDeclaration(DeclaredModel):
    """One model: what it predicts, when, from what, and how its batches are kept and served.

    Attributes:
        name: The model's name; that of the folder unless given.
        description: For people.
        owners: As Dagster takes them: `team:name` or an e-mail address.
        partitions: Which partitions there are.
        raw_inputs: Asset keys of the raw data, `/` between their parts.
        history_days: How many days before a partition its features are made of.
        training: What it learns from.
        lookback: How many partitions back the previous batch may lie; 0 for none.
        columns: Of its predictions.
        enrichments: Of its answers.
        quality: What a batch may lack.
        retention: How long things live.
        processing: The machine of feature and score jobs.
        training_compute: The machine of training jobs.
    """

    name: str = ""
    description: str
    owners: list[str] = Field(default_factory=list)
    partitions: Partitions
    raw_inputs: list[str] = Field(default_factory=list)
    history_days: int = Field(default=14, ge=1, le=366)
    training: TrainingRange
    lookback: int = Field(default=7, ge=0, le=366)
    columns: list[DeclaredColumn]
    enrichments: list[DeclaredEnrichment] = Field(default_factory=list)
    quality: Quality = Field(default_factory=Quality)
    retention: Retention = Field(default_factory=Retention)
    processing: Compute = Field(default_factory=Compute)
    training_compute: Compute = Field(
        default_factory=lambda: Compute(instance_type="ml.m5.2xlarge", volume_gb=50)
    )

    @model_validator(mode="after")
    def _is_consistent(self) -> Self:
        """Refuse a name or columns that the contract would refuse later, in the middle of a job."""
        try:
            if self.name:
                require_model_name(self.name)
            _ = self.prediction_schema
        except ContractError as error:
            raise ValueError(str(error)) from error
        if self.lookback > self.history_days:
            raise ValueError(
                f"with lookback {self.lookback} and history_days {self.history_days} nobody knows what "
                "became of the oldest previous batch"
            )
        for metric in self.training.metrics:
            if metric.predicted not in self.prediction_schema.names:
                raise ValueError(f"a metric names {metric.predicted}, which is none of the columns")
        return self

    @cached_property
    def prediction_schema(self) -> PredictionSchema:
        """The columns as the contract's schema.

        Raises:
            SchemaError: They contradict themselves, or not exactly one is the key.
        """
        keys = [column.name for column in self.columns if column.key]
        return PredictionSchema(
            tuple(
                Column(column.name, ColumnType.parse(column.type), column.nullable) for column in self.columns
            ),
            keys[0] if len(keys) == 1 else "",
        )

"""What a `defs.yaml` declares of a model, typed; every fault is named by its field while Dagster loads."""

from __future__ import annotations

from decimal import Decimal, InvalidOperation
from functools import cached_property
from typing import Annotated, Literal, Self

import dagster as dg
from pydantic import BeforeValidator, ConfigDict, Field, model_validator

from prediction_contract.batch import Partition
from prediction_contract.errors import ContractError
from prediction_contract.metrics import Metric, Metrics
from prediction_contract.resource_names import require_model_name
from prediction_contract.schema import Column, ColumnType, PredictionSchema


def _day(value: object) -> str:
    # YAML reads an unquoted 2013-01-01 as a date.
    try:
        partition = Partition(str(value))
    except ContractError as error:
        raise ValueError(str(error)) from error
    return str(partition)


def _share(value: object) -> str:
    # As text, because a YAML float is a binary one; the contract compares decimals.
    try:
        share = Decimal(str(value))
    except InvalidOperation:
        share = Decimal("NaN")
    if share.is_nan() or not 0 <= share <= 1:
        raise ValueError("it is no number from 0 to 1")
    return format(share, "f")


PartitionText = Annotated[str, BeforeValidator(_day)]
Share = Annotated[str, BeforeValidator(_share)]


class DeclaredModel(dg.Model, dg.Resolvable):
    """Shared by all parts of a declaration: unknown fields are refused."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class Partitions(DeclaredModel):
    """Which partitions the model has: daily, from `start`; `end` is the first that is no longer one."""

    kind: Literal["daily"] = "daily"
    start: PartitionText
    end: PartitionText | None = None


class DeclaredColumn(DeclaredModel):
    """A column of the model's predictions; the key column names the entity."""

    name: str
    type: str
    nullable: bool = True
    key: bool = False
    description: str = ""


class DeclaredMetric(DeclaredModel):
    """How well a prediction column foretells an outcome column that `features` returns."""

    kind: Literal["mae", "roc_auc"]
    predicted: str
    actual: str


class TrainingRange(DeclaredModel):
    """The partitions that the model learns from, and the later ones it is evaluated on, all included."""

    first_partition: PartitionText
    last_partition: PartitionText
    first_evaluated: PartitionText | None = None
    last_evaluated: PartitionText | None = None
    metrics: list[DeclaredMetric] = Field(default_factory=list)

    @model_validator(mode="after")
    def _is_whole(self) -> Self:
        """Refuse half an evaluation, and one on partitions that the model has learned from."""
        given = (self.first_evaluated, self.last_evaluated, self.metrics or None)
        if any(given) and not all(given):
            raise ValueError("an evaluation needs first_evaluated, last_evaluated and metrics")
        if self.first_evaluated and self.first_evaluated <= self.last_partition:
            raise ValueError(f"first_evaluated is not later than last_partition {self.last_partition}")
        _ = self.metrics_text
        return self

    @property
    def metrics_text(self) -> str | None:
        """The metrics as the training job is told them."""
        if not self.metrics:
            return None
        return Metrics.of(Metric(each.kind, each.predicted, each.actual) for each in self.metrics)


class Compute(DeclaredModel):
    """The machine of one kind of SageMaker job, and how long a job may take."""

    instance_type: str = "ml.m5.xlarge"
    volume_gb: int = Field(default=30, ge=1, le=16_384)
    max_runtime_seconds: int = Field(default=3600, ge=60, le=432_000)


class Retention(DeclaredModel):
    """How long things live.

    Attributes:
        items_days: Items of the online table, from their load on.
        minimum_life_hours: What a batch must have left to become live.
        superseded_days: A batch after it stopped being live.
    """

    items_days: int = Field(default=90, ge=2)
    minimum_life_hours: int = Field(default=24, ge=1)
    superseded_days: int = Field(default=30, ge=1)


class Quality(DeclaredModel):
    """What a batch may lack: so many refused rows, or that share of them, do not refuse it."""

    quarantine_rows: int = Field(default=10, ge=0)
    quarantine_rate: Share = "0.001"
    verify: Literal["full", "sample"] = "full"


class DeclaredEnrichment(DeclaredModel):
    """Facts that a provider adds to a prediction when it is served.

    Attributes:
        name: Under which the answer shows them.
        provider: Whose address the environment gives as `MLPIPE_<PROVIDER>_URL`.
        path: Path and query below that address, with `{column}` placeholders.
        fields: Members of the provider's answer that are shown.
    """

    name: str
    provider: str
    path: str
    fields: list[str]
    timeout_milliseconds: int = 500
    cache_seconds: int = 300
    required: bool = False


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

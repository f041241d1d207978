"""A model's whole declaration, and the checks across its parts."""

from __future__ import annotations

import re
from collections.abc import Callable
from functools import cached_property, partial
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import (
    AfterValidator,
    Field,
    ModelWrapValidatorHandler,
    ValidationError,
    WithJsonSchema,
    model_validator,
)

from model_declaration.columns import DeclaredCleaning, DeclaredColumn, DeclaredEnrichment
from model_declaration.cron import scheduler_cron
from model_declaration.inputs.declared_metrics import DeclaredMetric, metric_checks
from model_declaration.inputs.origins import DeclaredFeatures, DeclaredModel, ModelFile
from model_declaration.inputs.sources import Sources, require_hours
from model_declaration.lifecycle import (
    Compute,
    DeclaredPublication,
    Loading,
    ProcessingCompute,
    Retention,
    Scoring,
)
from model_declaration.partitions import (
    TRAINING_PARTITIONS,
    DeclaredSchedule,
    DeclaredTraining,
    Partitions,
    Training,
    TrainingRange,
    require_kind,
)
from model_declaration.quality import Quality
from model_declaration.validation import (
    DeclarationPart,
    ObjectName,
    fault,
    inconsistency,
    matching,
    raise_together,
)
from prediction_contract.cleaning.cleaning_rules import Cleaning, columns_document
from prediction_contract.cleaning.column_cleaning import InvalidCleaningError
from prediction_contract.errors import ContractError
from prediction_contract.jobs.partition_schedule import PartitionSchedule
from prediction_contract.naming.batch import ModelName, Partition
from prediction_contract.naming.partition_kind import PARTITION_KINDS
from prediction_contract.naming.s3_layout import schema_key
from prediction_contract.rows.schema import Column, ColumnType, Kind, PredictionSchema
from prediction_contract.stores.serving_record import LONGEST_ORIGIN, InvalidServingError, ServingRecord

NUMERIC = frozenset({Kind.LONG, Kind.DECIMAL, Kind.DOUBLE})
_OWNER = "team:[A-Za-z0-9_]+|[^@\\s]+@[^@\\s]+"


def _kind_checks(declared: Any, reported: set[tuple[int | str, ...]]) -> list[Callable[[], None]]:
    """Return a check of each raw training partition that has no fault so far."""
    try:
        kind = declared["partitions"].get("kind", Partitions.model_fields["kind"].default)
        training = declared["training"]
        return [
            partial(require_kind, kind, str(training[field]), "training", field)
            for field in TRAINING_PARTITIONS
            if kind in PARTITION_KINDS
            and training.get(field) is not None
            and ("training", field) not in reported
        ]
    except (AttributeError, KeyError, TypeError):
        return []


def _raise(error: Exception) -> None:
    raise error


def _owner(value: str) -> str:
    if not re.fullmatch(_OWNER, value):
        raise ValueError("it is neither team:<name> nor an e-mail address")
    return value


def _name(value: str) -> str:
    try:
        # A plain string, because Snowflake's connector does not bind subclasses of str.
        return str(ModelName(value))
    except ContractError as error:
        raise fault(str(error)) from error


Owner = Annotated[str, AfterValidator(_owner), WithJsonSchema({"type": "string", "pattern": f"^({_OWNER})$"})]
RequirementsName = Annotated[
    str,
    *matching(
        "[a-z][a-z0-9_]{0,40}", "it is not the name of a lock file, such as boosting for boosting.lock"
    ),
]
_OUTCOMES_FILE = "outcomes.py"


class ModelDeclaration(DeclarationPart):
    """One model: what it predicts, when and from which data, and how batches are kept and served.

    Attributes:
        name: The name of the folder that holds the declaration; not a field of the file.
        folder: That folder, which also holds the model's functions; not a field of the file.
        description: A description for people.
        owners: Dagster owners: `team:<name>` or an e-mail address.
        group: Dagster's asset group; by default one for this model.
        tags: Tags of all its assets, in addition to the model's name.
        produced_by: What starts the scoring: Dagster, or a SageMaker schedule on AWS.
        schedule: When it is scored automatically.
        partitions: The model's partitions.
        tables: The kind of tables that the functions take: pandas, Polars or Arrow.
        requirements: The name of its jobs' lock file, `requirements/<name>.lock`; by default the platform's.
        sources: The sources of its features, by the names of the functions' arguments.
        features: The source that holds prepared features; by default the function `features` makes them.
        model: The file or `from: registry` of a model trained elsewhere; by default it is trained here.
        codecs: The project's own formats of trained objects.
        training: How it is retrained; required unless `model` is declared or SageMaker starts the scoring.
        lookback: How many earlier partitions to search for the previous batch; 0 for no previous batch.
        scoring: How `predict` is called.
        columns: The columns of its predictions.
        cleaning: How columns are cleaned before they are stored.
        enrichments: Third-party facts that answers show.
        loading: The limits of a load.
        quality: The conditions for a batch to be loaded and published.
        publication: How its batches become live.
        retention: How long items and batches are kept.
        processing: The machines of feature and score jobs.
        training_compute: The machine of training jobs.
    """

    name: Annotated[str, AfterValidator(_name)]
    folder: Path | None = None
    description: str
    owners: list[Owner] = Field(default_factory=list)
    group: str | None = None
    tags: dict[str, str] = Field(default_factory=dict)
    produced_by: Literal["dagster", "sagemaker"] = "dagster"
    schedule: DeclaredSchedule = Field(default_factory=DeclaredSchedule)
    partitions: Partitions
    tables: Literal["pandas", "polars", "arrow"] = "pandas"
    requirements: RequirementsName | None = None
    sources: Sources = Field(default_factory=dict)
    features: DeclaredFeatures | None = None
    model: DeclaredModel | None = None
    codecs: list[ObjectName] = Field(default_factory=list)
    training: DeclaredTraining | None = None
    lookback: int = Field(default=7, ge=0, le=366)
    scoring: Scoring = Field(default_factory=Scoring)
    columns: list[DeclaredColumn]
    cleaning: list[DeclaredCleaning] = Field(default_factory=list)
    enrichments: list[DeclaredEnrichment] = Field(default_factory=list)
    loading: Loading = Field(default_factory=Loading)
    quality: Quality = Field(default_factory=Quality)
    publication: DeclaredPublication = Field(default_factory=DeclaredPublication)
    retention: Retention = Field(default_factory=Retention)
    processing: ProcessingCompute = Field(default_factory=ProcessingCompute)
    training_compute: Compute = Field(
        default_factory=lambda: Compute(instance_type="ml.m5.2xlarge", volume_gb=50)
    )

    @model_validator(mode="after")
    def _is_consistent(self) -> Self:
        """Refuse declarations that would fail later, in the middle of a job."""
        raise_together(
            self._require_columns,
            self._require_training,
            self._require_schedule,
            lambda: require_hours(self.partitions.kind, self.sources),
            lambda: self.features and self.features.require_in(self.sources),
            lambda: self.model_file and self.model_file.require_codec(self.codecs),
            self._require_metrics,
            self._require_known_history,
            self._require_one_call,
            self._require_minimum_life,
        )
        return self

    @model_validator(mode="wrap")
    @classmethod
    def _report_all_faults(cls, declared: Any, validated: ModelWrapValidatorHandler[Self]) -> Self:
        """Report training partitions of the wrong kind together with all other faults."""
        try:
            return validated(declared)
        except ValidationError as error:
            reported = {cause["loc"] for cause in error.errors(include_url=False)}
            raise_together(partial(_raise, error), *_kind_checks(declared, reported))
            raise

    def _require_columns(self) -> None:
        """Refuse columns that a store cannot hold, and rules about unknown columns."""
        try:
            _ = self.prediction_schema.names
        except ContractError as error:
            raise inconsistency(str(error), "columns") from error
        self._require_cleaning()
        stored = self.stored_schema
        raise_together(lambda: self._require_enrichments(stored), lambda: self._require_quality(stored))

    def _require_known_history(self) -> None:
        """Refuse a look-back beyond the sources' history, where outcomes cannot be known."""
        sources = list(self.sources.values())
        is_bounded = bool(sources) and all(source.covers_only_its_history for source in sources)
        if not self.has_outcomes or not is_bounded:
            return
        longest = max(source.history for source in sources)
        if self.lookback > longest:
            raise inconsistency(
                f"the previous batch may lie {self.lookback} partitions back, but the longest history of the "
                f"sources is {longest}: `outcomes` could not know its outcomes",
                "lookback",
            )

    def _require_one_call(self) -> None:
        """Refuse to divide a batch that `predict` needs whole."""
        if not self.scoring.whole:
            return
        if self.scoring.chunk_rows is not None:
            raise inconsistency(
                "`whole` passes all rows to one call of `predict`: remove `chunk_rows` or `whole`",
                *("scoring", "chunk_rows"),
            )
        if self.processing.instances > 1:
            raise inconsistency(
                "`scoring.whole` passes all rows to one call of `predict`, which several instances cannot "
                "share: remove `instances` or `whole`",
                *("processing", "instances"),
            )

    def _require_minimum_life(self) -> None:
        """Refuse items that expire before their batch may be published."""
        if self.retention.minimum_life_hours >= 24 * self.retention.items_days:
            raise inconsistency(
                f"no batch could become live: its items expire after {self.retention.items_days} days",
                *("retention", "minimum_life_hours"),
            )

    def _require_training(self) -> None:
        """Refuse a missing `training`, or one that does not fit the partitions and columns."""
        training = self.training
        if training is None:
            if self.produced_by == "dagster" and self.model is None:
                raise inconsistency(
                    "it is missing, and so is `model`: declare how the model is retrained, or its origin",
                    "training",
                )
            return
        if self.model is not None:
            raise inconsistency("the model is trained here: remove `model` or `training`", "model")
        if isinstance(training, Training):
            self._require_slices(training)
            return
        kind = self.partitions.kind
        raise_together(
            *(
                partial(require_kind, kind, getattr(training, field), "training", field)
                for field in TRAINING_PARTITIONS
            ),
        )

    def _require_slices(self, training: Training) -> None:
        """Refuse slices by unknown columns or by the entity id."""
        keys = {column.name: column.key for column in self.columns}
        for number, column in enumerate(training.slices):
            if column not in keys:
                raise inconsistency(
                    f"a slice names {column}, which is not a column", "training", "slices", number
                )
            if keys[column]:
                raise inconsistency(
                    f"a slice names {column}, which would make each entity a slice",
                    *("training", "slices", number),
                )

    def _require_metrics(self) -> None:
        """Refuse metrics of unknown columns, and metrics without outcomes."""
        own = self.quality.accuracy.metrics
        if own and self.training is not None:
            raise inconsistency(
                "the model is trained here: declare them as `training.metrics`, which also judge accuracy",
                *("quality", "accuracy", "metrics"),
            )
        field = ("quality", "accuracy", "metrics") if own else ("training", "metrics")
        columns = {column.name: ColumnType.parse(column.type).kind for column in self.columns}
        raise_together(*metric_checks(self.metrics, columns, *field), partial(self._require_outcomes, *field))

    def _require_outcomes(self, *field: str) -> None:
        """Refuse metrics of a model without a function `outcomes`."""
        if self.folder is not None and not self.has_outcomes and self.metrics:
            raise inconsistency(
                "metrics compare predictions with outcomes: write outcomes.py beside this file",
                *field,
            )

    def _require_schedule(self) -> None:
        """Refuse a schedule that Dagster or SageMaker, depending on `produced_by`, cannot run."""
        if self.schedule.upstream:
            self._require_upstream()
        elif self.produced_by == "sagemaker":
            try:
                scheduler_cron(self.schedule.cron_of(self.partitions))
            except ContractError as error:
                raise inconsistency(error.what, "schedule", "cron") from error

    def _require_upstream(self) -> None:
        """Refuse an upstream schedule without assets to wait for, or with SageMaker, which knows none."""
        if self.produced_by == "sagemaker":
            raise inconsistency("SageMaker knows no assets: declare `cron`", "schedule", "upstream")
        if all(source.asset is None for source in self.sources.values()):
            raise inconsistency(
                "no source names an `asset`, so there is nothing to wait for",
                *("schedule", "upstream"),
            )

    def _require_cleaning(self) -> None:
        """Refuse rules that do not fit the columns, or give two columns the same name."""
        try:
            _ = self.stored_schema
        except InvalidCleaningError as error:
            member = ("clamp", error.member) if error.member in {"minimum", "maximum"} else (error.member,)
            raise inconsistency(error.what, "cleaning", error.rule, *member) from error
        except ContractError as error:
            raise inconsistency(f"as the stores hold them: {error.what}", "cleaning") from error

    def _require_enrichments(self, stored: PredictionSchema) -> None:
        """Refuse enrichments that do not fit into a publication's record."""
        made = []
        for number, declared in enumerate(self.enrichments):
            try:
                made.append(declared.of_provider(LONGEST_ORIGIN))
            except InvalidServingError as error:
                raise inconsistency(error.what, "enrichments", number) from error
        try:
            ServingRecord(
                schema=stored, model_version="any", row_count=0, checksum="0", enrichments=tuple(made)
            )
        except InvalidServingError as error:
            raise inconsistency(error.what, "enrichments") from error

    def _require_quality(self, stored: PredictionSchema) -> None:
        """Refuse rules about unknown columns, and bounds for columns that are not numeric."""
        if unknown := self.quality.named_columns.difference(stored.names):
            raise inconsistency(
                f"quality names {', '.join(sorted(unknown))}, which are not columns", "quality"
            )
        kinds = {column.name: column.type.kind for column in stored.columns}
        for number, rule in enumerate(self.quality.columns):
            if not (rule.minimum is rule.maximum is None or kinds[rule.column] in NUMERIC):
                raise inconsistency(
                    f"quality gives bounds for {rule.column}, which is a {kinds[rule.column]}, not a number",
                    *("quality", "columns", number),
                )

    @cached_property
    def prediction_schema(self) -> PredictionSchema:
        """The columns as the contract's schema.

        Raises:
            SchemaError: The columns are inconsistent, or not exactly one is the key.
        """
        keys = [column.name for column in self.columns if column.key]
        return PredictionSchema(
            tuple(
                Column(column.name, ColumnType.parse(column.type), column.nullable) for column in self.columns
            ),
            keys[0] if len(keys) == 1 else "",
        )

    @cached_property
    def partition_schedule(self) -> PartitionSchedule:
        """The rule that tells which partition a tick of the schedule scores."""
        end = self.partitions.end
        return PartitionSchedule(
            self.schedule.partition,
            Partition(self.partitions.start),
            None if end is None else Partition(end),
        )

    @cached_property
    def cleaning_rules(self) -> Cleaning:
        """The declared cleaning as the contract's rules."""
        return Cleaning(tuple(declared.rule for declared in self.cleaning))

    @cached_property
    def stored_schema(self) -> PredictionSchema:
        """The columns that both stores hold; quality rules and enrichments refer to these.

        Raises:
            InvalidCleaningError: A rule does not fit the columns.
            SchemaError: Two columns end up with the same name, or one with a reserved name.
        """
        return self.cleaning_rules.stored_schema(self.prediction_schema)

    @cached_property
    def schema_document(self) -> tuple[str, bytes]:
        """The S3 key and content of the document with the predictions' columns, for the score job."""
        content = columns_document(self.prediction_schema, self.cleaning_rules)
        return schema_key(self.name, content), content

    @property
    def model_file(self) -> ModelFile | None:
        """The file of a model that was trained elsewhere; None if its versions are registered."""
        return self.model if isinstance(self.model, ModelFile) else None

    @property
    def retraining(self) -> Training | None:
        """How the model is retrained, in counts of partitions; None if it is trained elsewhere."""
        return self.training.counted if isinstance(self.training, TrainingRange) else self.training

    @property
    def has_versions(self) -> bool:
        """Whether the registry's champion scores; otherwise the declared model file does."""
        return self.model_file is None

    @property
    def metrics(self) -> list[DeclaredMetric]:
        """The metrics that judge the model; the first one decides."""
        return self.training.metrics if self.training else self.quality.accuracy.metrics

    @property
    def package_folder(self) -> Path | None:
        """The folder of the package that holds `defs`; None if the model has no folder."""
        return None if self.folder is None else self.folder.parents[1]

    @property
    def has_outcomes(self) -> bool:
        """Whether the model's folder has the function `outcomes`."""
        return self.folder is not None and (self.folder / _OUTCOMES_FILE).is_file()

    @property
    def functions(self) -> str | None:
        """The package of the model's functions, such as `acme.defs.churn`; None if it has no folder."""
        package = self.package_folder
        return None if package is None else f"{package.name}.defs.{self.name}"

    @property
    def asset_group(self) -> str:
        """The asset group in Dagster."""
        return self.group or self.name

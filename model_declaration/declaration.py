"""One model as a whole: what its parts must agree on."""

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
    """Return a check of each training partition without a fault so far, as YAML has them."""
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
        raise ValueError("it is neither team:name nor an e-mail address")
    return value


def _name(value: str) -> str:
    try:
        # A plain string: Snowflake's connector binds no subclass of it.
        return str(ModelName(value))
    except ContractError as error:
        raise fault(str(error)) from error


Owner = Annotated[str, AfterValidator(_owner), WithJsonSchema({"type": "string", "pattern": f"^({_OWNER})$"})]
RequirementsName = Annotated[
    str, *matching("[a-z][a-z0-9_]{0,40}", "it is not the name of a lock, say boosting for boosting.lock")
]
_OUTCOMES_FILE = "outcomes.py"


class ModelDeclaration(DeclarationPart):
    """One model: what is predicted, when, from what, and how batches are kept and served.

    Attributes:
        name: Of the folder that declares it; no field of the file.
        folder: The folder itself, which holds the model's functions as well; no field of the file.
        description: For people.
        owners: As Dagster takes them: `team:name` or an e-mail address.
        group: Dagster's asset group; one of the model's own unless given.
        tags: Of all its assets, beside the model's name.
        produced_by: Who starts the scoring: Dagster, or a schedule on AWS that SageMaker runs without it.
        schedule: When it is scored without anybody's asking, by Dagster or by SageMaker.
        partitions: Which partitions there are.
        tables: What the model's functions take: pandas, Polars or Arrow tables.
        requirements: The project's lock of packages that its jobs need, `requirements/<name>.lock`; left out,
            the platform's own.
        sources: The data that its features are made of, by the names that functions receive it by.
        features: The source that holds them prepared; left out, the function `features` makes them.
        model: The file of a model that was trained elsewhere, or `from: registry` for its registered
            versions; left out, it is trained here.
        codecs: The project's own formats of trained objects.
        training: What it learns from; a model that SageMaker scores may be trained elsewhere as well.
        lookback: How many partitions back the previous batch may lie; 0 for none.
        scoring: How `predict` is called.
        columns: Of its predictions.
        cleaning: What becomes of them on their way into both stores.
        enrichments: Of its answers.
        loading: How its batches get into the stores.
        quality: What a batch may lack, and must be like.
        publication: How its batches become live.
        retention: How long things live.
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
        """Refuse what would fail later, in the middle of a job."""
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
            self._require_life,
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
        """Refuse columns that no store could hold, and what is said of columns that are not there."""
        try:
            _ = self.prediction_schema.names
        except ContractError as error:
            raise inconsistency(str(error), "columns") from error
        self._require_cleaning()
        stored = self.stored_schema
        raise_together(lambda: self._require_enrichments(stored), lambda: self._require_quality(stored))

    def _require_known_history(self) -> None:
        """Refuse a previous batch whose outcomes lie before all that the sources tell."""
        sources = list(self.sources.values())
        is_bounded = bool(sources) and all(source.is_as_long_as_its_history for source in sources)
        if not self.has_outcomes or not is_bounded:
            return
        told = max(source.history for source in sources)
        if self.lookback > told:
            raise inconsistency(
                f"the previous batch may lie {self.lookback} partitions back, and the longest history of the "
                f"sources is {told}: `outcomes` could not tell what became of it",
                "lookback",
            )

    def _require_one_call(self) -> None:
        """Refuse to divide what `predict` is to receive as a whole."""
        if not self.scoring.whole:
            return
        if self.scoring.chunk_rows is not None:
            raise inconsistency(
                "`whole` passes all rows to one call of `predict`: leave out `chunk_rows` or `whole`",
                *("scoring", "chunk_rows"),
            )
        if self.processing.instances > 1:
            raise inconsistency(
                "`scoring.whole` passes all rows to one call of `predict`, which several instances cannot "
                "share: leave out `instances` or `whole`",
                *("processing", "instances"),
            )

    def _require_life(self) -> None:
        """Refuse items that would never live long enough to be published."""
        if self.retention.minimum_life_hours >= 24 * self.retention.items_days:
            raise inconsistency(
                f"no batch could become live: its items live {self.retention.items_days} days",
                *("retention", "minimum_life_hours"),
            )

    def _require_training(self) -> None:
        """Refuse a training that is missing, or does not fit partitions and columns."""
        training = self.training
        if training is None:
            if self.produced_by == "dagster" and self.model is None:
                raise inconsistency(
                    "it is missing, and so is `model`: declare how the model is retrained, or where one that "
                    "was trained elsewhere comes from",
                    "training",
                )
            return
        if self.model is not None:
            raise inconsistency("the model is trained here: leave out `model` or `training`", "model")
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
        """Refuse slices by what is no column of the predictions, or names a single entity."""
        keys = {column.name: column.key for column in self.columns}
        for number, column in enumerate(training.slices):
            if column not in keys:
                raise inconsistency(
                    f"a slice names {column}, which is none of the columns", "training", "slices", number
                )
            if keys[column]:
                raise inconsistency(
                    f"a slice names {column}, and each entity would be a slice of its own",
                    *("training", "slices", number),
                )

    def _require_metrics(self) -> None:
        """Refuse metrics of columns that are not there, or that nobody tells the outcomes of."""
        own = self.quality.accuracy.metrics
        if own and self.training is not None:
            raise inconsistency(
                "the model is trained here: declare them as `training.metrics`, which judge it as well",
                *("quality", "accuracy", "metrics"),
            )
        field = ("quality", "accuracy", "metrics") if own else ("training", "metrics")
        columns = {column.name: ColumnType.parse(column.type).kind for column in self.columns}
        raise_together(*metric_checks(self.metrics, columns, *field), partial(self._require_outcomes, *field))

    def _require_outcomes(self, *field: str) -> None:
        """Refuse metrics of a model that nobody tells what became of its predictions."""
        if self.folder is not None and not self.has_outcomes and self.metrics:
            raise inconsistency(
                "metrics compare predictions with what became of them: write outcomes.py beside this file",
                *field,
            )

    def _require_schedule(self) -> None:
        """Refuse a schedule that Dagster or SageMaker, whichever keeps it, could not keep."""
        if self.schedule.upstream:
            self._require_upstream()
        elif self.produced_by == "sagemaker":
            try:
                scheduler_cron(self.schedule.cron_of(self.partitions))
            except ContractError as error:
                raise inconsistency(error.what, "schedule", "cron") from error

    def _require_upstream(self) -> None:
        """Refuse to wait for assets that nobody names, or that SageMaker does not know."""
        if self.produced_by == "sagemaker":
            raise inconsistency("SageMaker knows no assets: declare `cron`", "schedule", "upstream")
        if all(source.asset is None for source in self.sources.values()):
            raise inconsistency(
                "no source names the `asset` that makes it, so there is nothing to wait for",
                *("schedule", "upstream"),
            )

    def _require_cleaning(self) -> None:
        """Refuse rules that do not fit the columns, or leave two of one name."""
        try:
            _ = self.stored_schema
        except InvalidCleaningError as error:
            member = ("clamp", error.member) if error.member in {"minimum", "maximum"} else (error.member,)
            raise inconsistency(error.what, "cleaning", error.rule, *member) from error
        except ContractError as error:
            raise inconsistency(f"as the stores hold them: {error.what}", "cleaning") from error

    def _require_enrichments(self, stored: PredictionSchema) -> None:
        """Refuse enrichments that no publication could keep: a batch would be loaded in vain."""
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
        """Refuse rules of columns that are not there, and bounds of what is no number."""
        if unknown := self.quality.named_columns.difference(stored.names):
            raise inconsistency(
                f"quality names {', '.join(sorted(unknown))}, which is none of the columns", "quality"
            )
        kinds = {column.name: column.type.kind for column in stored.columns}
        for number, rule in enumerate(self.quality.columns):
            if not (rule.minimum is rule.maximum is None or kinds[rule.column] in NUMERIC):
                raise inconsistency(
                    f"quality gives {rule.column} bounds, which is a {kinds[rule.column]} and no number",
                    *("quality", "columns", number),
                )

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

    @cached_property
    def partition_schedule(self) -> PartitionSchedule:
        """Which partition a tick of the schedule is to score."""
        end = self.partitions.end
        return PartitionSchedule(
            self.schedule.partition,
            Partition(self.partitions.start),
            None if end is None else Partition(end),
        )

    @cached_property
    def cleaning_rules(self) -> Cleaning:
        """What is declared of cleaning as the contract's rules."""
        return Cleaning(tuple(declared.rule for declared in self.cleaning))

    @cached_property
    def stored_schema(self) -> PredictionSchema:
        """The columns as both stores hold them; quality and enrichments speak of these.

        Raises:
            InvalidCleaningError: A rule does not fit the columns.
            SchemaError: Two columns have got one name, or one a name that the platform keeps for itself.
        """
        return self.cleaning_rules.stored_schema(self.prediction_schema)

    @cached_property
    def schema_document(self) -> tuple[str, bytes]:
        """S3 key and content of the document that the score job reads the predictions' columns from."""
        content = columns_document(self.prediction_schema, self.cleaning_rules)
        return schema_key(self.name, content), content

    @property
    def model_file(self) -> ModelFile | None:
        """The file of a model that was trained elsewhere; None if its versions are registered."""
        return self.model if isinstance(self.model, ModelFile) else None

    @property
    def retraining(self) -> Training | None:
        """What the retraining pipeline learns from, in counts; None if the model is trained elsewhere."""
        return self.training.counted if isinstance(self.training, TrainingRange) else self.training

    @property
    def has_versions(self) -> bool:
        """Whether the registry's champion scores; otherwise the file that the declaration names."""
        return self.model_file is None

    @property
    def metrics(self) -> list[DeclaredMetric]:
        """By which the model is judged; the first decides."""
        return self.training.metrics if self.training else self.quality.accuracy.metrics

    @property
    def package_folder(self) -> Path | None:
        """The folder of the package that `defs` lies in; None if the model is in no folder."""
        return None if self.folder is None else self.folder.parents[1]

    @property
    def has_outcomes(self) -> bool:
        """Whether the function `outcomes` lies beside the declaration."""
        return self.folder is not None and (self.folder / _OUTCOMES_FILE).is_file()

    @property
    def functions(self) -> str | None:
        """The package of the model's functions, say `acme.defs.churn`; None if the model is in no folder."""
        package = self.package_folder
        return None if package is None else f"{package.name}.defs.{self.name}"

    @property
    def asset_group(self) -> str:
        """The group of its assets."""
        return self.group or self.name

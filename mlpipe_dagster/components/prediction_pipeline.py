"""One model's assets, checks and jobs, from the `defs.yaml` in its folder."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Any, Self

import dagster as dg
from pydantic import BaseModel, RootModel, WithJsonSchema

from mlpipe_dagster.accuracy.accuracy_asset import accuracy_asset, has_accuracy
from mlpipe_dagster.challengers.challenger_asset import challenger_asset, challenger_job
from mlpipe_dagster.components.declared_schema import attributes_schema
from mlpipe_dagster.components.model_scaffolder import ModelScaffolder
from mlpipe_dagster.loading.reconciliation_check import reconciliation_check
from mlpipe_dagster.loading.tables_asset import tables_asset
from mlpipe_dagster.pipeline.asset_names import (
    ACCURACY,
    DYNAMODB,
    FEATURES,
    MODEL_TAG,
    PREDICTIONS,
    PUBLICATION,
    SNOWFLAKE,
    TRAINED_MODEL,
    accuracy_job_name,
    asset_key,
    load_job_name,
    score_job_name,
    train_job_name,
)
from mlpipe_dagster.pipeline.model_partitions import time_partitions
from mlpipe_dagster.publication.live_batch_checks import live_batch_checks
from mlpipe_dagster.publication.publication_asset import publication_asset
from mlpipe_dagster.quality.quality_checks import quality_checks
from mlpipe_dagster.scoring.external_model import external_specs
from mlpipe_dagster.scoring.features_asset import features_asset
from mlpipe_dagster.scoring.predictions_asset import predictions_asset
from mlpipe_dagster.scoring.scoring_schedule import scoring_schedule
from mlpipe_dagster.scoring.trained_elsewhere import trained_elsewhere_spec
from mlpipe_dagster.scoring.upstream_sensor import upstream_sensor
from mlpipe_dagster.versions.champion_asset import champion_asset, champion_spec
from mlpipe_dagster.versions.model_versions_asset import model_versions_spec, version_checks
from mlpipe_dagster.versions.retraining_sensor import retraining_sensor
from model_declaration.declaration import ModelDeclaration
from model_declaration.declaration_files import holds_template, validated
from model_declaration.declared_models import FILE_NAME
from prediction_contract.errors import InvalidNameError
from prediction_contract.naming.batch import Partition


class WrittenAttributes(RootModel[Annotated[dict[str, Any], WithJsonSchema(attributes_schema())]]):
    """A file's attributes with unfilled templates, and the JSON Schema that `dg check yaml` applies."""


@dg.scaffold_with(ModelScaffolder)
@dataclass(frozen=True)
class PredictionPipeline(dg.Component):
    """A model's pipeline from raw data to live predictions, declared in `defs/<model>/defs.yaml`."""

    declaration: ModelDeclaration

    @classmethod
    def get_model_cls(cls) -> type[BaseModel]:
        """Return the pydantic model of a file's attributes."""
        return WrittenAttributes

    @classmethod
    def load(cls, attributes: BaseModel | None, context: dg.ComponentLoadContext) -> Self:
        """Return the component of a `defs.yaml` with its templates filled in; its folder names the model.

        Raises:
            InvalidNameError: The folder is not directly below `defs`.
            DeclarationError: The declaration is wrong.
        """
        folder = context.path if context.path.is_dir() else context.path.parent
        if folder.parent.resolve() != context.defs_module_path.resolve():
            # Tables and permissions are created only for the folders directly below `defs`.
            raise InvalidNameError(
                f"{folder} is not directly below {context.defs_module_path}",
                remedy="Move the folder there, and name it like its model",
            )
        written = attributes.root if isinstance(attributes, WrittenAttributes) else {}
        filled = _filled(written, context.resolution_context.at_path("attributes"))
        return cls(validated(filled, folder / FILE_NAME))

    def build_defs(self, context: dg.ComponentLoadContext) -> dg.Definitions:  # noqa: ARG002  # Dagster's form
        """Return the model's definitions."""
        return pipeline_definitions(self.declaration)


def _filled(value: Any, context: dg.ResolutionContext) -> Any:
    """Return a value with its templates filled in; Dagster would also evaluate texts without templates."""
    if isinstance(value, dict):
        return {name: _filled(member, context.at_path(name)) for name, member in value.items()}
    if isinstance(value, list):
        return [_filled(member, context.at_path(number)) for number, member in enumerate(value)]
    if isinstance(value, str) and holds_template(value):
        return context.resolve_value(value, as_type=object)
    return value


def pipeline_definitions(declaration: ModelDeclaration) -> dg.Definitions:
    """Return the assets, checks, jobs, schedules and sensors of a declared model."""
    partitions = partitions_of(declaration)
    scores = declaration.produced_by == "dagster"
    by_upstream = declaration.schedule.upstream
    has_versions, retraining = declaration.has_versions, declaration.retraining
    return dg.Definitions(
        assets=[
            *(
                [features_asset(declaration, partitions)]
                if scores
                else external_specs(declaration, partitions)
            ),
            *([model_versions_spec(declaration)] if has_versions else []),
            _trained_model(declaration),
            *([predictions_asset(declaration, partitions)] if scores else []),
            *([challenger_asset(declaration, partitions)] if has_versions else []),
            tables_asset(declaration, partitions),
            publication_asset(declaration, partitions),
            *([accuracy_asset(declaration, partitions)] if has_accuracy(declaration) else []),
        ],
        asset_checks=[
            reconciliation_check(declaration),
            quality_checks(declaration),
            live_batch_checks(declaration, partitions),
            *([version_checks(declaration)] if has_versions else []),
        ],
        jobs=_pipeline_jobs(declaration),
        schedules=[scoring_schedule(declaration, partitions)] if scores and not by_upstream else [],
        sensors=[
            *([upstream_sensor(declaration)] if by_upstream else []),
            *([retraining_sensor(declaration, retraining)] if retraining and retraining.on_drift else []),
        ],
    )


def _trained_model(declaration: ModelDeclaration) -> dg.AssetsDefinition | dg.AssetSpec:
    """Return the asset of the trained model: the champion, or the file that the declaration names."""
    if declaration.retraining is not None:
        return champion_asset(declaration)
    if declaration.model_file is not None:
        return trained_elsewhere_spec(declaration, declaration.model_file)
    return champion_spec(declaration)


# Dagster has no public name for the type that `define_asset_job` returns.
def _pipeline_jobs(declaration: ModelDeclaration) -> list[Any]:
    """Return the job that publishes, and those that train, score and measure if Dagster does that."""
    model = declaration.name
    keys = {
        asset: asset_key(model, asset)
        for asset in (FEATURES, TRAINED_MODEL, PREDICTIONS, DYNAMODB, SNOWFLAKE, PUBLICATION)
    }
    tables = (keys[DYNAMODB], keys[SNOWFLAKE])
    tags = {MODEL_TAG: model}
    jobs = []
    if declaration.training is not None:
        jobs.append(
            dg.define_asset_job(
                train_job_name(model),
                selection=dg.AssetSelection.assets(keys[TRAINED_MODEL]),
                tags=tags,
                description=f"Retrains {model}, and promotes the new version if the rules allow it.",
            )
        )
    if declaration.produced_by == "dagster":
        jobs.append(
            dg.define_asset_job(
                score_job_name(model),
                selection=dg.AssetSelection.assets(keys[FEATURES], keys[PREDICTIONS]),
                tags=tags,
                description=f"Scores one partition of {model}; its done file starts the load.",
            )
        )
    if declaration.has_versions:
        jobs.append(challenger_job(declaration))
    jobs.append(
        dg.define_asset_job(
            load_job_name(model),
            selection=dg.AssetSelection.assets(*tables, keys[PUBLICATION])
            | dg.AssetSelection.checks_for_assets(*tables, keys[PUBLICATION]),
            tags=tags,
            description=f"Loads, checks and publishes one batch of {model}.",
        )
    )
    if has_accuracy(declaration):
        jobs.append(
            dg.define_asset_job(
                accuracy_job_name(model),
                selection=dg.AssetSelection.assets(asset_key(model, ACCURACY))
                | dg.AssetSelection.checks_for_assets(asset_key(model, ACCURACY)),
                tags=tags,
                description=f"Measures the accuracy of a published batch of {model}.",
            )
        )
    return jobs


def partitions_of(declaration: ModelDeclaration) -> dg.PartitionsDefinition[str]:
    """Return the declared partitions."""
    start, end = declaration.partitions.start, declaration.partitions.end
    return time_partitions(Partition(start), Partition(end) if end else None)

"""A project's code location: all models below its `defs/`, their sensors and their resources."""

import gc
import importlib
import sys
import warnings
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType
from typing import Any

import dagster as dg

from mlpipe_dagster.accuracy.accuracy_sensor import accuracy_sensor
from mlpipe_dagster.challengers.challengers_sensor import challenged_models, challengers_sensor
from mlpipe_dagster.done_files.done_files_sensor import done_files_sensor
from mlpipe_dagster.installed_platform import require_suitable_platform
from mlpipe_dagster.pipeline.asset_names import (
    MODEL_VERSIONS,
    PUBLICATION,
    accuracy_job_name,
    challenger_job_name,
    load_job_name,
)
from mlpipe_dagster.pipeline.model_sensors import served_models
from mlpipe_dagster.publication.live_batches_sensor import live_batches_sensor
from mlpipe_dagster.publication.projection_sensor import projection_sensor
from mlpipe_dagster.regions.serving_regions_sensor import serving_regions_sensor
from mlpipe_dagster.resources.job_resources import GlueJobs, RetrainingPipelines, SageMakerJobs
from mlpipe_dagster.resources.platform import Platform
from mlpipe_dagster.resources.warehouse import Warehouse
from mlpipe_dagster.retention.retention_sensor import retention_sensor
from mlpipe_dagster.scoring.source_assets import source_specs
from mlpipe_dagster.versions.model_versions_sensor import model_versions_sensor
from model_declaration.declaration_files import declarations_in
from model_declaration.project import Project

# Keeps Dagster's own warnings about components and code links out of the user's log.
warnings.filterwarnings("ignore", category=dg.PreviewWarning, module=r"(mlpipe_)?dagster")
warnings.filterwarnings("ignore", category=dg.BetaWarning, module=r"(mlpipe_)?dagster")
# Intended: features prepare any range in one run, and scoring takes one partition.
warnings.filterwarnings("ignore", message="Asset job .* materializes assets with varying BackfillPolicies")


def definitions(file: str) -> dg.Definitions:
    """Return the definitions of the project that contains a `definitions.py`.

    Raises:
        ProjectError: The file is not in a project, or the project needs another version of the platform.
        DeclarationError: Declarations are wrong, or two models would share AWS names; lists all faults.
    """
    return definitions_of(Project.find({}, Path(file).parent))


def definitions_of(project: Project) -> dg.Definitions:
    """Return the definitions of everything below a project's `defs/`, and those shared by all models.

    Raises:
        ProjectError: The project needs another version of the platform.
        DeclarationError: Declarations are wrong, or two models would share AWS names; lists all faults.
    """
    require_suitable_platform(project)
    folder = str(project.source_folder)
    if folder not in sys.path:
        # The package need not be installed.
        sys.path.append(folder)
    package = importlib.import_module(f"{project.package}.defs")
    models = model_definitions(package, project.root)
    return dg.Definitions.merge(models, platform_definitions(models))


def model_definitions(package: ModuleType, root: Path) -> dg.Definitions:
    """Return the definitions of everything in a package, with Dagster's component tree.

    Dagster's `load_from_defs_folder` would import every installed integration, even pandas and Snowpark.

    Args:
        package: The package whose modules are the models' folders.
        root: The project's folder.

    Raises:
        DeclarationError: Declarations are wrong, or two models would share AWS names; lists all faults.
    """
    tree = dg.ComponentTree.from_module(defs_module=package, project_root=root)
    # Checked first and all together: Dagster would stop at the first fault.
    declarations_in(tree.defs_module_path)
    with _paused_collection():
        models = tree.build_defs(tree.defs_module_path)
    return dg.Definitions.merge(models, dg.Definitions(component_tree=tree))


@contextmanager
def _paused_collection() -> Iterator[None]:
    """Pause garbage collection while long-lived objects are created; it would take a fifth of the time."""
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_enabled:
            gc.enable()


def platform_definitions(models: dg.Definitions) -> dg.Definitions:
    """Return the definitions shared by all models: external sources, sensors, resources and the executor."""
    partitions = {
        assets.key.path[0]: assets.partitions_def
        for assets in models.assets or ()
        if isinstance(assets, dg.AssetsDefinition)
        and len(assets.keys) == 1
        and assets.key.path[1:] == [PUBLICATION]
        and assets.partitions_def is not None
    }
    jobs = {job.name: job for job in models.jobs or ()}
    served = served_models(models)
    versioned = [
        spec.key.path[0]
        for spec in models.assets or ()
        if isinstance(spec, dg.AssetSpec) and spec.key.path[1:] == [MODEL_VERSIONS]
    ]
    load_jobs = [jobs[load_job_name(model)] for model in partitions]
    platform = Platform()
    return dg.Definitions(
        assets=source_specs(models.assets or ()),
        sensors=[
            done_files_sensor(load_jobs, partitions),
            live_batches_sensor(served, load_jobs),
            projection_sensor(served),
            retention_sensor(served),
            serving_regions_sensor(served),
            *([model_versions_sensor(versioned)] if versioned else []),
            *_challenger_sensors(models, jobs),
            *_accuracy_sensors(partitions, jobs),
        ]
        if partitions
        else [],
        resources={
            "platform": platform,
            "sagemaker_jobs": SageMakerJobs(platform=platform),
            "glue_jobs": GlueJobs(platform=platform),
            "retraining_pipelines": RetrainingPipelines(platform=platform),
            "warehouse": Warehouse(platform=platform),
        },
        # Steps mostly wait for remote jobs, so a process for each would only add its start-up time.
        executor=dg.in_process_executor,
    )


def _challenger_sensors(models: dg.Definitions, jobs: Mapping[str, Any]) -> list[dg.SensorDefinition]:
    names = challenged_models(models)
    return [challengers_sensor(names, [jobs[challenger_job_name(name)] for name in names])] if names else []


def _accuracy_sensors(models: Iterable[str], jobs: Mapping[str, Any]) -> list[dg.SensorDefinition]:
    names = [model for model in models if accuracy_job_name(model) in jobs]
    return [accuracy_sensor(names, [jobs[accuracy_job_name(name)] for name in names])] if names else []

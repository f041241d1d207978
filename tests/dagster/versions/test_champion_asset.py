"""Materializing the trained model retrains it; Dagster shows the champion with its version and checks."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import dagster as dg
import pytest

from mlpipe_dagster.components.prediction_pipeline import pipeline_definitions
from mlpipe_dagster.definitions import platform_definitions
from mlpipe_dagster.pipeline.asset_names import (
    ARTIFACT_LOADS,
    BETTER_THAN_CHAMPION,
    MODEL_VERSIONS,
    NO_SLICE_WORSE,
    TRAINED_MODEL,
    asset_key,
)
from mlpipe_dagster.resources.job_resources import RetrainingPipelines
from mlpipe_dagster.resources.platform import Platform
from mlpipe_dagster.versions.champion_asset import champion_asset
from mlpipe_dagster.versions.followed_packages import follow_packages
from mlpipe_dagster.versions.model_versions_asset import model_versions_spec, version_checks
from prediction_contract.jobs.code_digest import code_version
from prediction_contract.jobs.verdict import PENDING
from tests.dagster.small_model import declaration
from tests.dagster.versions.registered_packages import RegisteredPackages
from tests.dagster.versions.small_retraining import SmallRetraining

if TYPE_CHECKING:
    from model_declaration.declaration import ModelDeclaration

OTHER = "0123456789abcdef" * 4
NEW_FORM: dict[str, Any] = {"training": {"window": 30, "held_out": 14, "approval": "manual"}}
FROM_REGISTRY: dict[str, Any] = {"training": None, "model": {"from": "registry"}}


def definitions_of(declared: ModelDeclaration) -> dg.Definitions:
    """Return the definitions of a code location with one model."""
    models = pipeline_definitions(declared)
    return dg.Definitions.merge(models, platform_definitions(models))


@pytest.mark.parametrize("changes", [NEW_FORM, FROM_REGISTRY])
def test_predictions_depend_on_champion_and_champion_on_versions(changes: dict[str, Any]) -> None:
    """Features lead to versions, champion and predictions, and versions have three checks."""
    declared = declaration("things", **changes)
    made = definitions_of(declared)
    graph = made.resolve_asset_graph()
    parents = {
        asset: {key.path[-1] for key in graph.get(asset_key("things", asset)).parent_keys}
        for asset in (MODEL_VERSIONS, TRAINED_MODEL, "predictions")
    }
    assert parents[MODEL_VERSIONS] == {"features"}
    assert parents[TRAINED_MODEL] == {MODEL_VERSIONS}
    assert TRAINED_MODEL in parents["predictions"]
    assert graph.get(asset_key("things", TRAINED_MODEL)).is_partitioned is False
    checks = {
        key.name for key in graph.asset_check_keys if key.asset_key == asset_key("things", MODEL_VERSIONS)
    }
    assert checks == {BETTER_THAN_CHAMPION, NO_SLICE_WORSE, ARTIFACT_LOADS}
    assert made.resolve_sensor_def("model_versions").default_status is dg.DefaultSensorStatus.RUNNING


def test_model_from_a_file_has_no_versions() -> None:
    """Neither the asset nor the sensor of model versions exists for it."""
    file = {"path": "models/a.ubj", "sha256": "0" * 64, "codec": "xgboost"}
    made = definitions_of(declaration("things", training=None, model=file))
    assert asset_key("things", MODEL_VERSIONS) not in made.resolve_asset_graph().get_all_asset_keys()
    with pytest.raises(Exception, match="model_versions"):
        made.resolve_sensor_def("model_versions")


@pytest.mark.stack
@pytest.mark.timeout(300)
def test_materializing_trained_model_retrains_and_shows_champion(
    registered: RegisteredPackages, instance: dg.DagsterInstance, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without a promotion nothing is materialized; outdated job code is shown in the metadata."""
    small = SmallRetraining(registered)
    declared = declaration(registered.model, **NEW_FORM)
    monkeypatch.setenv("MLPIPE_SAGEMAKER_CODE_PREFIX", f"code/sagemaker_scripts/{OTHER}/")
    resources = {
        "platform": Platform(),
        "retraining_pipelines": RetrainingPipelines(platform=small.platform, longest_pause_seconds=0.5),
    }

    def train(**config: Any) -> dg.ExecuteInProcessResult:
        return dg.materialize(
            [champion_asset(declared)],
            instance=instance,
            resources=resources,
            run_config={"ops": {f"{registered.model}__trained_model": {"config": config}}},
        )

    small.tell(approval=PENDING)
    waits = train(last_partition="2013-02-15")
    assert waits.asset_materializations_for_node(f"{registered.model}__trained_model") == []
    (observed,) = instance.fetch_observations(asset_key(registered.model, TRAINED_MODEL), limit=1).records
    told = observed.asset_observation
    assert told is not None
    assert told.metadata["outcome"].value == "waits for approval"
    assert "mlpipe promote" in str(told.metadata["outcome_reason"].value)
    small.tell()
    done = train(last_partition="2013-02-16")
    (shown,) = done.asset_materializations_for_node(f"{registered.model}__trained_model")
    record = registered.record(2)
    assert (shown.tags or {})["dagster/data_version"] == record.digest
    facts = {name: shown.metadata[name].value for name in ("version", "outcome", "promotion", "mae")}
    assert facts == {"version": 2, "outcome": "promoted", "promotion": 1, "mae": 20.0}
    assert shown.metadata["execution"].value == record.execution_arn
    assert "/processing-jobs/" in str(shown.metadata["PlanRetraining_job_page"].value)
    assert code_version(OTHER) in str(shown.metadata["code_warning"].value)


@pytest.mark.stack
def test_version_check_reads_the_archive(
    registered: RegisteredPackages, instance: dg.DagsterInstance
) -> None:
    """An archive that differs from its registered digest fails its check with the remedy."""
    version = registered.register("exec1")
    follow_packages(registered.packages, registered.registry, registered.model)
    declared = declaration(registered.model, **NEW_FORM)
    key = asset_key(registered.model, MODEL_VERSIONS)
    made = dg.Definitions(
        assets=[model_versions_spec(declared)],
        asset_checks=[version_checks(declared)],
        jobs=[dg.define_asset_job("check", selection=dg.AssetSelection.checks_for_assets(key))],
        resources={"platform": registered.platform},
    )

    def check() -> dict[str, tuple[bool, str]]:
        done = made.resolve_job_def("check").execute_in_process(instance=instance)
        return {
            each.check_name: (each.passed, str(each.description))
            for each in done.get_asset_check_evaluations()
        }

    found = check()
    assert found[BETTER_THAN_CHAMPION][0]
    assert found[NO_SLICE_WORSE][0]
    # The archive's content does not match the digest in its package.
    passed, words = found[ARTIFACT_LOADS]
    assert not passed
    assert f"Version {version}: " in words
    assert "Restore the object" in words

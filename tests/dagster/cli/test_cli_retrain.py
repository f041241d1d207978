"""`mlpipe retrain` on pipelines of the local stack: plan, start, repetition and waiting."""

from __future__ import annotations

import io
import json
import sys
from typing import TYPE_CHECKING, Any

import pytest

from prediction_contract.naming.s3_layout import features_prefix
from tests.dagster.cli.documented_answers import agree, documented

if TYPE_CHECKING:
    from tests.dagster.cli_calls import CommandLine
    from tests.dagster.small_model import SmallModel

pytestmark = pytest.mark.stack
TRAINING = {
    "window": 10,
    "held_out": 2,
    "gap": 1,
    "metrics": [{"kind": "mae", "predicted": "score", "actual": "x"}],
}
PARAMETERS = ("LastPartition", "ScheduledAt", "Attempt", "Cause", "RequestedBy")


def provision_pipeline(small_model: SmallModel, steps: list[dict[str, Any]]) -> None:
    """Create the model's package group and a retraining pipeline of steps that need no job."""
    platform = small_model.platform
    deployment = platform.settings.deployment
    group = deployment.model_package_group(small_model.name)
    platform.client("sagemaker").create_model_package_group(ModelPackageGroupName=group)
    definition = {
        "Version": "2020-12-01",
        "Parameters": [{"Name": name, "Type": "String", "DefaultValue": "none"} for name in PARAMETERS],
        "Steps": steps,
    }
    platform.client("sagemaker").create_pipeline(
        PipelineName=deployment.retraining_pipeline(small_model.name),
        RoleArn=platform.settings.sagemaker_role_arn,
        PipelineDefinition=json.dumps(definition),
    )


def condition(value: str) -> dict[str, Any]:
    """Return a step that succeeds and has no further steps."""
    compared = {"Type": "Equals", "LeftValue": {"Get": "Parameters.Attempt"}, "RightValue": value}
    return {
        "Name": "HasWork",
        "Type": "Condition",
        "Arguments": {"Conditions": [compared], "IfSteps": [], "ElseSteps": []},
    }


def failure() -> dict[str, Any]:
    """Return a step that fails."""
    return {"Name": "NeedsPerson", "Type": "Fail", "Arguments": {"ErrorMessage": "look at it"}}


@pytest.fixture
def trained(small_model: SmallModel, command_line: CommandLine) -> SmallModel:
    """The small model with a declared training and a function for outcomes."""
    command_line.declare(small_model.name, training=TRAINING, lookback=0)
    (command_line.project.defs / small_model.name / "outcomes.py").write_text("def outcomes():\n    ...\n")
    return small_model


def test_plan_is_shown_and_started_once(trained: SmallModel, command_line: CommandLine) -> None:
    """A second request returns the first execution; with `--again` it starts another one."""
    provision_pipeline(trained, [condition("1")])
    asked = ("retrain", trained.name, "--last", "2013-01-31", "--yes", "--actor", "ann lee")
    told = command_line.json(*asked, "--wait")
    assert told.status == 0
    found = told.document
    assert (found["learns_from"], found["judged_on"]) == (
        ["2013-01-19", "2013-01-28"],
        ["2013-01-30", "2013-01-31"],
    )
    assert (found["champion"], found["approval"], found["attempt"], found["is_new"]) == (
        None,
        "by rule",
        1,
        True,
    )
    assert found["cost"]["at_most"] == round(2 * 0.23 + 0.461, 2)
    assert (found["status"], found["version"]) == ("Succeeded", None)
    assert "HasWork is Succeeded" in told.err
    agree(documented()["retrain"], found)
    parameters = trained.platform.client("sagemaker").list_pipeline_parameters_for_execution(
        PipelineExecutionArn=found["execution_arn"]
    )["PipelineParameters"]
    named = {each["Name"]: each["Value"] for each in parameters}
    assert (named["LastPartition"], named["RequestedBy"], named["Cause"]) == (
        "2013-01-31",
        "ann-lee",
        "request",
    )
    second = command_line.json(*asked)
    assert (second.status, second.document["is_new"]) == (0, False)
    assert second.document["execution_arn"] == found["execution_arn"]
    assert found["execution_arn"].rpartition("/")[2] in second.err
    again = command_line.json(*asked, "--again").document
    assert (again["attempt"], again["is_new"]) == (2, True)
    assert again["execution_arn"] != found["execution_arn"]


def test_last_partition_is_the_newest_with_known_outcomes(
    trained: SmallModel, command_line: CommandLine
) -> None:
    """A partition counts if the one after it is prepared as well."""
    provision_pipeline(trained, [condition("1")])
    nothing = command_line("retrain", trained.name, "--yes")
    assert nothing.status == 1
    assert "--last 2013-02-01" in nothing.err
    for partition in ("2013-01-29", "2013-01-30", "2013-02-02"):
        prefix = features_prefix(trained.name, partition, "run1")
        trained.platform.bucket.put(f"{prefix}features.json", b"{}")
    trained.platform.bucket.put(f"features/{trained.name}/copied by hand/features.json", b"{}")
    assert command_line.json("retrain", trained.name, "--yes").document["judged_on"][1] == "2013-01-29"


def test_failed_execution_shows_its_reason(trained: SmallModel, command_line: CommandLine) -> None:
    """The status is 1, also that of a second request, which suggests `--again`."""
    provision_pipeline(trained, [failure()])
    asked = ("retrain", trained.name, "--last", "2013-01-31", "--yes")
    told = command_line.json(*asked, "--wait")
    assert (told.status, told.document["status"]) == (1, "Failed")
    assert "look at it" in told.err
    second = command_line.json(*asked)
    assert (second.status, second.document["is_new"]) == (1, False)
    assert f"mlpipe retrain {trained.name} --again" in second.err


def test_retraining_needs_a_yes(
    trained: SmallModel, command_line: CommandLine, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A person sees the plan before the question; a program has to pass --yes."""
    provision_pipeline(trained, [condition("1")])
    asked = ("retrain", trained.name, "--last", "2013-01-31")
    monkeypatch.setattr(sys, "stdin", io.StringIO("y\n"))
    told = command_line(*asked)
    assert told.status == 1
    assert "--yes" in told.err

    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    monkeypatch.setattr(sys, "stdin", Terminal("no\n"))
    told = command_line(*asked)
    assert told.status == 1
    assert "2013-01-19 to 2013-01-28" in told.err
    assert "Nothing was started" in told.err
    monkeypatch.setattr(sys, "stdin", Terminal("yes\n"))
    assert command_line.json(*asked).document["is_new"] is True


def test_missing_training_or_pipeline_is_a_readable_error(
    small_model: SmallModel, command_line: CommandLine
) -> None:
    """The message asks for a declaration, or for provisioning."""
    command_line.declare(small_model.name, training=None, model={"from": "registry"})
    told = command_line("retrain", small_model.name, "--yes")
    assert told.status == 1
    assert "declares no training" in told.err
    command_line.declare(small_model.name, training={"window": 5, "held_out": 1})
    told = command_line("retrain", small_model.name, "--last", "2013-01-31", "--yes")
    assert told.status == 1
    assert "mlpipe up" in told.err

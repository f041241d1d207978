"""Tests of reading pipeline definitions: validation, references, conditions and retry policies."""

from __future__ import annotations

import json
from typing import Any

import pytest

from infra.definitions.retraining_definition import DEFINITION
from infra.local.job_executor.sagemaker.pipelines.conditions import ConditionError, holds
from infra.local.job_executor.sagemaker.pipelines.definition import DefinitionError, read_definition
from infra.local.job_executor.sagemaker.pipelines.parameters import ParameterError, values_of
from infra.local.job_executor.sagemaker.pipelines.pipeline_records import new_job_name
from infra.local.job_executor.sagemaker.pipelines.references import BadReferenceError
from infra.local.job_executor.sagemaker.pipelines.retry_policies import RetryPolicy
from infra.local.job_executor.sagemaker.pipelines.values import Values
from tests.infra.job_executor.pipeline_stack import (
    compare,
    condition_step,
    definition,
    fail_step,
    get,
    join,
    register_step,
    verdict,
)

OUTPUT = {"OutputName": "verdict", "S3Output": {"S3Uri": "s3://data/plans/7/"}}
FILE = {"PropertyFileName": "Verdict", "OutputName": "verdict", "FilePath": "verdict.json"}
JUDGE = {
    "Name": "JudgeModels",
    "Type": "Processing",
    "Arguments": {"ProcessingOutputConfig": {"Outputs": [OUTPUT]}},
    "PropertyFiles": [FILE],
}
TRAIN = {"Name": "TrainModel", "Type": "Training", "Arguments": {}}
SPEED = {"Name": "Speed", "Type": "Integer", "DefaultValue": 1}


def with_member(step: dict[str, Any], **members: Any) -> dict[str, Any]:
    """Return a step with some members replaced."""
    return {**step, **members}


def step_with(name: str, *words: Any, **members: Any) -> dict[str, Any]:
    """Return a processing step with arguments and further members."""
    arguments = {"AppSpecification": {"ContainerArguments": list(words)}}
    return {"Name": name, "Type": "Processing", "Arguments": arguments, **members}


def retried(**policy: Any) -> dict[str, Any]:
    """Return a step with a retry policy."""
    return step_with("A", RetryPolicies=[policy])


@pytest.mark.parametrize(
    ("steps", "words"),
    [
        ([], "1 to 50 steps"),
        ([fail_step("x", f"Step{number}") for number in range(51)], "1 to 50 steps"),
        ([fail_step("x", "A"), fail_step("x", "A")], "must be unique"),
        ([condition_step("A", [compare("Equals", 1, 1)], [fail_step("x", "A")], [])], "must be unique"),
        ([fail_step("x", "with blank")], "letters, digits"),
        ([{"Name": "A", "Type": "Lambda", "Arguments": {}}], "Lambda are not supported"),
        ([{"Name": "A", "Type": "Procesing", "Arguments": {}}], "Unknown type of step 'Procesing'"),
        ([{"Name": "A", "Type": "Processing"}], "Arguments of step A"),
        ([step_with("A", Dependson=["B"])], "Unknown members of step A: \\['Dependson'\\]"),
        ([{"Name": "A", "Type": "Processing", "Arguments": {"Enviroment": {}}}], "\\['Enviroment'\\]"),
        ([with_member(step_with("A"), Arguments={"ProcessingJobName": "x"})], "\\['ProcessingJobName'\\]"),
        ([step_with("A", DependsOn=["B"])], "unknown steps: \\['B'\\]"),
        ([step_with("A", DependsOn=[{"Step": "A", "Trigger": "Failed"}])], "Trigger is not supported"),
        ([step_with("A", DependsOn=["B"]), step_with("B", DependsOn=["A"])], "in a cycle"),
        ([step_with("A", get("Steps.B.ProcessingJobArn")), step_with("B", DependsOn=["A"])], "in a cycle"),
        ([step_with("A", get("Parameters.Sped"))], "unknown parameter Sped"),
        ([step_with("A", get("Execution.Id"))], "unknown reference Execution.Id"),
        ([step_with("A", get("Steps.B.ProcessingJobArn"))], "unknown steps"),
        ([JUDGE, step_with("A", get("Steps.JudgeModels.ProcessingJobArm"))], "Unknown property reference"),
        (
            [JUDGE, step_with("A", get("Steps.JudgeModels.PropertyFiles.Verdict"))],
            "Unknown property reference",
        ),
        ([TRAIN, step_with("A", get("Steps.TrainModel.ModelArtifacts"))], "not a single value"),
        ([fail_step("x", "B"), step_with("A", get("Steps.B.ErrorMessage"))], "type Fail has no properties"),
        ([step_with("A", {"Std:Json": {}})], "unknown function Std:Json"),
        ([step_with("A", {"Std:Join": {"Values": []}})], "argument of Std:Join is malformed"),
        ([step_with("A", {"Get": "Parameters.Speed", "Else": 1})], "must be the only member"),
        (
            [JUDGE, fail_step({"Std:JsonGet": {**verdict("x")["Std:JsonGet"], "Path": get("x")}})],
            "is malformed",
        ),
        ([step_with("JudgeModels"), fail_step(verdict("x"))], "no property file Verdict"),
        ([with_member(JUDGE, PropertyFiles=[FILE | {"OutputName": "plan"}])], "no output plan"),
        ([with_member(JUDGE, PropertyFiles=[FILE, FILE])], "two property files"),
        ([condition_step("A", [], [], [])], "no conditions"),
        ([condition_step("A", [compare("Equal", 1, 1)], [], [])], "condition is malformed"),
        ([condition_step("A", [{"Type": "Or", "Conditions": []}], [], [])], "non-empty list"),
        ([step_with("A", CacheConfig={"Enabled": True, "ExpireAfter": "T1H"})], "CacheConfig of step A"),
        ([retried(ExceptionType=["Job.FAILED"])], "ExceptionType"),
        ([retried(ExceptionType=["Step.THROTTLING"], MaxAttempts=21)], "MaxAttempts"),
        ([retried(ExceptionType=["Step.THROTTLING"], MaxAttempts=1, ExpireAfterMin=1)], "remove one"),
        ([retried(ExceptionType=["Step.THROTTLING"], IntervalSeconds=0)], "IntervalSeconds"),
        ([with_member(fail_step("x"), RetryPolicies=[])], "Unknown members"),
    ],
)
def test_invalid_definition_is_refused(steps: list[Any], words: str) -> None:
    """Each fault of a definition is found and named when the definition is read."""
    with pytest.raises(DefinitionError, match=words):
        read_definition(json.dumps(definition(steps, [SPEED])))


@pytest.mark.parametrize(
    ("parameters", "words"),
    [
        ([SPEED, SPEED], "two parameters"),
        ([{"Name": "A", "Type": "Long"}], "the type of parameter A"),
        ([{"Name": "A", "Type": "Integer", "DefaultValue": "1"}], "has type Integer, but '1' does not"),
        ([{"Name": "A", "Type": "Integer", "DefaultValue": True}], "has type Integer, but True does not"),
        ([{"Name": "A", "Type": "String", "DefaultValue": "c", "EnumValues": ["a", "b"]}], "not one of"),
        ([{"Name": "A", "Type": "String", "Default": "c"}], "members"),
    ],
)
def test_invalid_parameter_declaration_is_refused(parameters: list[Any], words: str) -> None:
    """A default must have the parameter's type and be allowed; names, types and members must be valid."""
    with pytest.raises(DefinitionError, match=words):
        read_definition(json.dumps(definition([fail_step("x")], parameters)))


@pytest.mark.parametrize("text", ["[]", "{", '{"Version": "2020-12-01", "Step": []}', '{"Version": "1"}'])
def test_malformed_definition_is_refused(text: str) -> None:
    """Text that is not JSON, other JSON and other versions are refused."""
    with pytest.raises(DefinitionError):
        read_definition(text)


def test_branch_steps_wait_for_their_conditions() -> None:
    """Each step knows which steps must succeed first and on which branch it is."""
    inner = condition_step(
        "Inner", [compare("Equals", verdict("better"), 1)], [register_step("Approved")], []
    )
    outer = condition_step("Outer", [compare("Equals", verdict("new"), 1)], [inner], [fail_step("x")])
    steps = read_definition(json.dumps(definition([outer, JUDGE, TRAIN]))).steps
    assert list(steps) == ["Outer", "Inner", "RegisterModel", "NeedsPerson", "JudgeModels", "TrainModel"]
    assert steps["Outer"].after == {"JudgeModels"}
    assert steps["Inner"].after == {"JudgeModels", "Outer"}
    assert steps["RegisterModel"].after == {"TrainModel", "Inner"}
    assert steps["RegisterModel"].branch == ("Inner", True)
    assert steps["NeedsPerson"].branch == ("Outer", False)
    assert steps["JudgeModels"].branch is None


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"Speed": "1.5", "Kind": "slow"}, "Speed must be of type Integer, not '1.5'"),
        ({"Speed": "", "Kind": "slow"}, "Speed must be of type Integer"),
        ({"Sped": "1"}, "Unknown parameters: \\['Sped'\\]"),
        ({"Kind": "fast"}, "Kind must be one of \\['slow', 'faster'\\], not 'fast'"),
        ({"Flag": "yes", "Kind": "slow"}, "Flag must be of type Boolean"),
        ({"Share": "much", "Kind": "slow"}, "Share must be of type Float"),
        ({}, "must be given: \\['Kind'\\]"),
    ],
)
def test_invalid_parameter_values_are_refused(given: dict[str, str], words: str) -> None:
    """Unknown, missing, wrongly typed and disallowed parameter values are refused."""
    kind = {"Name": "Kind", "Type": "String", "EnumValues": ["slow", "faster"]}
    others = [
        {"Name": "Flag", "Type": "Boolean", "DefaultValue": True},
        {"Name": "Share", "Type": "Float", "DefaultValue": 1},
    ]
    document = definition([fail_step("x")], [SPEED, kind, *others])
    parameters = read_definition(json.dumps(document)).parameters
    with pytest.raises(ParameterError, match=words):
        values_of(parameters, [{"Name": name, "Value": value} for name, value in given.items()])


@pytest.mark.parametrize(
    ("condition", "outcome"),
    [
        (compare("Equals", "a", "a"), True),
        (compare("Equals", "a", "b"), False),
        (compare("Equals", 1, 1.0), True),
        (compare("GreaterThan", 2, 2), False),
        (compare("GreaterThan", 3, 2), True),
        (compare("GreaterThanOrEqualTo", 2, 2), True),
        (compare("GreaterThanOrEqualTo", 1, 2), False),
        (compare("LessThan", 2, 2), False),
        (compare("LessThan", 1, 2), True),
        (compare("LessThanOrEqualTo", 2, 2), True),
        (compare("LessThanOrEqualTo", 3, 2), False),
        ({"Type": "In", "QueryValue": "b", "Values": ["a", "b"]}, True),
        ({"Type": "In", "QueryValue": "c", "Values": ["a", "b"]}, False),
        ({"Type": "Not", "Condition": compare("Equals", 1, 2)}, True),
        ({"Type": "Or", "Conditions": [compare("Equals", 1, 2), compare("Equals", 1, 1)]}, True),
        ({"Type": "Or", "Conditions": [compare("Equals", 1, 2)]}, False),
    ],
)
def test_conditions_are_evaluated(condition: dict[str, Any], outcome: bool) -> None:
    """Each kind of condition has the right outcome at its boundary."""
    assert holds(condition, lambda value: value) == outcome


@pytest.mark.parametrize(
    "condition",
    [
        compare("Equals", 1, "1"),
        compare("Equals", 1, True),
        compare("GreaterThan", "2", 1),
        compare("LessThan", True, False),
        {"Type": "In", "QueryValue": 1, "Values": [1, "b"]},
        {"Type": "Or", "Conditions": [compare("Equals", 1, 1), compare("Equals", 1, "1")]},
    ],
)
def test_unsuitable_types_are_not_compared(condition: dict[str, Any]) -> None:
    """A comparison of unsuitable types is an error, even beside a condition that holds."""
    with pytest.raises(ConditionError):
        holds(condition, lambda value: value)


def values(content: str) -> Values:
    """Return the values of an execution whose verdict file has the given content."""
    found = read_definition(json.dumps(definition([JUDGE])))
    return Values(
        steps=found.steps,
        parameters={"Flag": True, "Share": 0.5},
        variables={"PipelineExecutionId": "abc"},
        answers={"JudgeModels": JUDGE["Arguments"]},
        read={"s3://data/plans/7/verdict.json": content.encode()}.__getitem__,
    )


@pytest.mark.parametrize(
    ("document", "filled"),
    [
        (join("a", 1, get("Parameters.Flag"), get("Parameters.Share"), on="-"), "a-1-true-0.5"),
        ([{"x": get("Execution.PipelineExecutionId")}], [{"x": "abc"}]),
        (verdict("gain.lower"), 0.25),
        (verdict("slices[1]['one name']"), "x"),
        (join("by ", verdict("gain.lower")), "by 0.25"),
        (verdict("new"), True),
        ({"Std:JsonGet": {"S3Uri": join("s3://data/plans/7/", "verdict.json"), "Path": "gain.lower"}}, 0.25),
        (
            get("Steps.JudgeModels.ProcessingOutputConfig.Outputs['verdict'].S3Output.S3Uri"),
            "s3://data/plans/7/",
        ),
        (None, None),
    ],
)
def test_references_and_functions_are_resolved(document: Any, filled: Any) -> None:
    """References, joins and property file lookups are replaced by their values."""
    content = '{"gain": {"lower": 0.25}, "slices": [{}, {"one name": "x"}], "new": true}'
    assert values(content).filled(document) == filled


@pytest.mark.parametrize(
    ("content", "path", "words"),
    [
        ("{}", "gain", "no value exists at 'gain'"),
        ('{"gain": []}', "gain[0]", "no value exists at"),
        ('{"gain": {}}', "gain", "not a string, number or boolean"),
        ('{"gain": null}', "gain", "not a string, number or boolean"),
        ('{"gain": NaN}', "gain", "is not JSON"),
        ("gain", "gain", "is not JSON"),
    ],
)
def test_unusable_property_file_value_is_refused(content: str, path: str, words: str) -> None:
    """A value that is missing, not scalar or not JSON is an error and gets no default."""
    with pytest.raises(BadReferenceError, match=words):
        values(content).filled(verdict(path))


def test_retry_pauses_grow_until_the_limit() -> None:
    """Pauses grow until the policy's attempts, or its time since the step began, are used up."""
    by_number = RetryPolicy(frozenset(), interval_seconds=60, backoff=2, max_attempts=3)
    assert [by_number.pause(count, 99_999) for count in range(4)] == [60, 120, 240, None]
    by_time = RetryPolicy(frozenset(), interval_seconds=1, max_attempts=None, expire_minutes=10)
    assert by_time.pause(9, 9.9) == 512
    assert by_time.pause(0, 10) is None


@pytest.mark.parametrize("step", ["TrainModel", "train_model_", "x" * 64, "___"])
def test_job_names_of_steps_are_valid(step: str) -> None:
    """A step name with underscores or 64 characters still gives a valid job name."""
    name = new_job_name("a1b2c3d4e5f6", step)
    assert name.startswith("pipelines-a1b2c3d4e5f6-")
    assert len(name) <= 63
    assert "_" not in name
    assert "--" not in name


def test_retraining_definition_is_accepted() -> None:
    """The reviewed retraining definition can be read, and registration waits for training and judging."""
    steps = read_definition(DEFINITION.read_text()).steps
    judged = {name: step.branch for name, step in steps.items() if step.kind in {"RegisterModel", "Fail"}}
    assert judged == {
        "AskPerson": ("NeedsPerson", True),
        "RegisterModel": ("IsBetter", True),
        "RegisterRefused": ("IsBetter", False),
    }
    assert steps["TrainModel"].branch == ("HasWork", True)
    assert {"TrainModel", "JudgeModels"} <= steps["RegisterModel"].after

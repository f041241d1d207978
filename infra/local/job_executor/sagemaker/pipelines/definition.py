"""Reads pipeline definitions of version 2020-12-01: checks the whole, and returns a flat list of steps.

The published schema:

    https://aws-sagemaker-mlops.github.io/sagemaker-model-building-pipeline-definition-JSON-schema/

The schema refuses definitions that the SDK writes, so the executor has its own checks.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass, field
from graphlib import CycleError, TopologicalSorter
from typing import TYPE_CHECKING, Any

import botocore.session

from infra.local.job_executor.sagemaker.pipelines.conditions import ConditionError, check_condition
from infra.local.job_executor.sagemaker.pipelines.parameters import Parameter, ParameterError, read_parameters
from infra.local.job_executor.sagemaker.pipelines.references import (
    EXECUTION_VARIABLES,
    GET,
    BadReferenceError,
    check_described,
    check_function,
    functions_in,
    referenced_step,
)
from infra.local.job_executor.sagemaker.pipelines.retry_policies import (
    RetryPolicy,
    RetryPolicyError,
    read_policies,
)

if TYPE_CHECKING:
    from collections.abc import Iterator

    from infra.local.job_executor.sagemaker.pipelines.references import StepProperty

# For each step type its operation, and the request's member that the pipeline fills in.
CREATED_BY = {
    "Processing": ("CreateProcessingJob", "ProcessingJobName"),
    "Training": ("CreateTrainingJob", "TrainingJobName"),
    "RegisterModel": ("CreateModelPackage", "ClientToken"),
}
_SERVED = (*CREATED_BY, "Condition", "Fail", "Callback")
_NOT_SERVED = (
    "AutoML",
    "ClarifyCheck",
    "Cleanup",
    "EMR",
    "EMRServerless",
    "Endpoint",
    "EndpointConfig",
    "ForEach",
    "InferenceComponent",
    "Job",
    "Lambda",
    "Lineage",
    "Model",
    "QualityCheck",
    "Transform",
    "Tuning",
)
_DEFINITION = {"Version", "Metadata", "Parameters", "PipelineExperimentConfig", "MlflowConfig", "Steps"}
_STEP = {"Name", "Type", "Arguments", "DependsOn", "DisplayName", "Description"}
_STEP_MEMBERS = {
    "Processing": _STEP | {"CacheConfig", "RetryPolicies", "PropertyFiles"},
    "Training": _STEP | {"CacheConfig", "RetryPolicies"},
    "RegisterModel": _STEP | {"RetryPolicies"},
    "Callback": _STEP | {"CacheConfig", "SqsQueueUrl", "OutputParameters"},
    "Condition": _STEP,
    "Fail": _STEP,
}
_NAME = re.compile(r"[A-Za-z0-9_-]{1,64}")
# https://docs.aws.amazon.com/general/latest/gr/sagemaker.html: steps in a pipeline.
_MAX_STEPS = 50


class DefinitionError(ValueError):
    """A definition is malformed or uses a feature that the executor does not support."""


@dataclass(frozen=True, kw_only=True)
class Step:
    """One step.

    Args:
        name: The step's name, unique in the pipeline.
        kind: The step's type.
        arguments: The arguments as written, with functions. Those of a Condition step omit its branches.
        after: Steps that must succeed first: dependencies, referenced steps and the Condition step.
        branch: The Condition step and the outcome for which it runs; None for a step that always runs.
        property_files: OutputName and FilePath of each property file by name.
        retries: The retry policies.
        labels: DisplayName and Description, if given.
        queue_url: The queue for a Callback step's token.
        outputs: The types of a Callback step's output parameters by name.
    """

    name: str
    kind: str
    arguments: dict[str, Any]
    after: frozenset[str]
    branch: tuple[str, bool] | None = None
    property_files: dict[str, tuple[str, str]] = field(default_factory=dict)
    retries: tuple[RetryPolicy, ...] = ()
    labels: dict[str, str] = field(default_factory=dict)
    queue_url: Any = None
    outputs: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Definition:
    """A checked definition.

    Args:
        parameters: The parameters by name.
        steps: The steps by name in the document's order, a Condition step before the steps of its branches.
    """

    parameters: dict[str, Parameter]
    steps: dict[str, Step]


def read_definition(text: str) -> Definition:
    """Read a definition.

    Raises:
        DefinitionError: The definition is malformed, or uses features that the executor does not support.
    """
    try:
        document = json.loads(text)
    except ValueError as error:
        raise DefinitionError(f"The definition is not JSON: {error}") from error
    _check_members(document, _DEFINITION, "the definition")
    if document.get("Version") != "2020-12-01":
        raise DefinitionError(f"Version must be 2020-12-01, not {document.get('Version')!r}")
    try:
        parameters = read_parameters(document.get("Parameters") or [])
        steps = {step.name: step for step in _unique(_steps(document.get("Steps"), None))}
        _check_references(steps, parameters)
    except (ParameterError, BadReferenceError, ConditionError, RetryPolicyError) as error:
        raise DefinitionError(str(error)) from error
    return Definition(parameters, steps)


def _check_members(document: Any, known: set[str], what: str) -> None:
    if not isinstance(document, dict):
        raise DefinitionError(f"{what} is not an object")
    if unknown := set(document) - known:
        raise DefinitionError(f"Unknown members of {what}: {sorted(unknown)}")


def _unique(steps: Iterator[Step]) -> list[Step]:
    found = list(steps)
    names = [step.name for step in found]
    if not found or len(found) > _MAX_STEPS:
        raise DefinitionError(f"A pipeline has 1 to {_MAX_STEPS} steps, not {len(found)}")
    if twice := {name for name in names if names.count(name) > 1}:
        raise DefinitionError(f"Step names must be unique: {sorted(twice)}")
    return found


def _steps(documents: Any, branch: tuple[str, bool] | None) -> Iterator[Step]:
    if not isinstance(documents, list):
        raise DefinitionError("Steps must be a list")
    for document in documents:
        step = _step(document, branch)
        yield step
        if step.kind == "Condition":
            for member, outcome in (("IfSteps", True), ("ElseSteps", False)):
                yield from _steps(document["Arguments"].get(member) or [], (step.name, outcome))


def _step(document: Any, branch: tuple[str, bool] | None) -> Step:
    kind = document.get("Type") if isinstance(document, dict) else None
    if kind in _NOT_SERVED:
        raise DefinitionError(f"Steps of type {kind} are not supported by the local job executor")
    if kind not in _SERVED:
        raise DefinitionError(f"Unknown type of step {kind!r}")
    name = document.get("Name")
    if not isinstance(name, str) or not _NAME.fullmatch(name):
        raise DefinitionError(f"A step's name has 1 to 64 letters, digits, - and _, not {name!r}")
    what = f"step {name}"
    _check_members(document, _STEP_MEMBERS[kind], what)
    arguments = document.get("Arguments")
    if not isinstance(arguments, dict):
        raise DefinitionError(f"Arguments of {what} are not an object")
    if (document.get("CacheConfig") or {}).get("Enabled"):
        raise DefinitionError(f"CacheConfig of {what} is not supported by the local job executor")
    kept = {key: value for key, value in arguments.items() if key not in {"IfSteps", "ElseSteps"}}
    after = _depends_on(document.get("DependsOn") or [], what)
    for function, argument in functions_in([kept, document.get("SqsQueueUrl")]):
        check_function(function, argument)
        if (found := referenced_step(function, argument)) is not None:
            after.add(found.step)
    _check_arguments(kind, arguments, what)
    labels = {member: document[member] for member in ("DisplayName", "Description") if document.get(member)}
    return Step(
        name=name,
        kind=kind,
        arguments=kept,
        after=frozenset(after | ({branch[0]} if branch else set())),
        branch=branch,
        property_files=_property_files(document, what),
        retries=read_policies(document.get("RetryPolicies") or [], what),
        labels=labels,
        queue_url=document.get("SqsQueueUrl"),
        outputs=_outputs(document, what),
    )


def _depends_on(names: Any, what: str) -> set[str]:
    if not isinstance(names, list):
        raise DefinitionError(f"DependsOn of {what} must be a list")
    if any(isinstance(name, dict) for name in names):
        raise DefinitionError(f"{what}: a Trigger is not supported by the local job executor")
    return {str(name) for name in names}


def _check_arguments(kind: str, arguments: dict[str, Any], what: str) -> None:
    if kind == "Condition":
        _check_members(arguments, {"Conditions", "IfSteps", "ElseSteps"}, f"arguments of {what}")
        conditions = arguments.get("Conditions")
        if not isinstance(conditions, list) or not conditions:
            raise DefinitionError(f"{what} has no conditions")
        for condition in conditions:
            check_condition(condition)
    elif kind == "Fail":
        _check_members(arguments, {"ErrorMessage"}, f"arguments of {what}")
        if "ErrorMessage" not in arguments:
            raise DefinitionError(f"{what} has no ErrorMessage")
    elif kind in CREATED_BY:
        operation, filled_in = CREATED_BY[kind]
        model: Any = botocore.session.get_session().get_service_model("sagemaker")
        members = set(model.operation_model(operation).input_shape.members)
        _check_members(arguments, members - {filled_in}, f"arguments of {what}")


def _property_files(document: dict[str, Any], what: str) -> dict[str, tuple[str, str]]:
    files: dict[str, tuple[str, str]] = {}
    outputs = document["Arguments"].get("ProcessingOutputConfig", {}).get("Outputs", [])
    for item in document.get("PropertyFiles") or []:
        members = {"PropertyFileName", "OutputName", "FilePath"}
        if not isinstance(item, dict) or set(item) != members:
            raise DefinitionError(f"A property file of {what} must have the members {sorted(members)}")
        if item["PropertyFileName"] in files:
            raise DefinitionError(f"{what} has two property files {item['PropertyFileName']}")
        if item["OutputName"] not in [output.get("OutputName") for output in outputs]:
            raise DefinitionError(f"{what} has no output {item['OutputName']} for its property file")
        files[item["PropertyFileName"]] = (item["OutputName"], item["FilePath"])
    return files


def _outputs(document: dict[str, Any], what: str) -> dict[str, str]:
    found = {}
    for item in document.get("OutputParameters") or []:
        if not isinstance(item, dict) or set(item) != {"OutputName", "OutputType"}:
            raise DefinitionError(f"An output parameter of {what} must have OutputName and OutputType")
        found[item["OutputName"]] = item["OutputType"]
    if document["Type"] == "Callback" and not document.get("SqsQueueUrl"):
        raise DefinitionError(f"{what} has no SqsQueueUrl")
    return found


def _check_references(steps: dict[str, Step], parameters: dict[str, Parameter]) -> None:
    for step in steps.values():
        if unknown := {name for name in step.after if name not in steps}:
            raise BadReferenceError(f"step {step.name} refers to unknown steps: {sorted(unknown)}")
        for function, argument in functions_in([step.arguments, step.queue_url]):
            found = referenced_step(function, argument)
            if function == GET:
                _check_get(argument, found, steps, parameters)
            elif found is not None and found.property_file not in steps[found.step].property_files:
                raise BadReferenceError(f"step {found.step} has no property file {found.property_file}")
    try:
        TopologicalSorter({step.name: step.after for step in steps.values()}).prepare()
    except CycleError as error:
        raise BadReferenceError(
            f"steps depend on each other in a cycle: {' '.join(error.args[1])}"
        ) from error


def _check_get(
    reference: str, found: StepProperty | None, steps: dict[str, Step], parameters: dict[str, Parameter]
) -> None:
    head, _, rest = reference.partition(".")
    if found is not None:
        step = steps[found.step]
        if step.kind == "Callback" and found.callback_output not in step.outputs:
            raise BadReferenceError(f"step {step.name} does not have the output parameter of {reference}")
        if step.kind != "Callback":
            check_described(step.kind, found)
    elif head == "Parameters":
        if rest not in parameters:
            raise BadReferenceError(f"unknown parameter {rest}")
    elif head != "Execution" or rest not in EXECUTION_VARIABLES:
        raise BadReferenceError(f"unknown reference {reference}")

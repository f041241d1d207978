"""Lists the executions of a model's retraining pipeline in SageMaker."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from prediction_contract.errors import ContractError

SUCCEEDED = "Succeeded"
_ENDED = frozenset({SUCCEEDED, "Failed", "Stopped", "CompletedWithFailures"})
_PAGE = 100


class PipelineMissingError(ContractError):
    """The model's retraining pipeline does not exist or cannot be read."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ListedExecution:
    """One execution.

    Attributes:
        arn: The execution's ARN.
        name: The display name; empty if there is none.
        status: SageMaker's status, such as `Executing`, `Failed` or `Succeeded`.
        started_at: When it started.
        failure: Why it failed; empty if it did not.
    """

    arn: str
    name: str
    status: str
    started_at: datetime
    failure: str = ""

    @property
    def execution_id(self) -> str:
        """The execution's id, which is part of the keys of its plan and verdict."""
        return self.arn.rpartition("/")[2]

    @property
    def has_ended(self) -> bool:
        """Whether it is no longer running."""
        return self.status in _ENDED


def listed_executions(sagemaker: Any, pipeline: str) -> Iterator[ListedExecution]:
    """Yield the executions of a pipeline lazily, newest first.

    Args:
        sagemaker: A boto3 client.
        pipeline: The pipeline's name.

    Raises:
        PipelineMissingError: The pipeline does not exist or cannot be read.
    """
    pages = sagemaker.get_paginator("list_pipeline_executions").paginate(
        PipelineName=pipeline,
        SortBy="CreationTime",
        SortOrder="Descending",
        PaginationConfig={"PageSize": _PAGE},
    )
    try:
        for page in pages:
            for found in page["PipelineExecutionSummaries"]:
                yield ListedExecution(
                    arn=found["PipelineExecutionArn"],
                    name=found.get("PipelineExecutionDisplayName", ""),
                    status=found["PipelineExecutionStatus"],
                    started_at=found["StartTime"],
                    failure=found.get("PipelineExecutionFailureReason", ""),
                )
    except sagemaker.exceptions.ClientError as error:
        raise PipelineMissingError(
            f"The executions of pipeline {pipeline} cannot be listed: {error}",
            remedy="Provision it: `mlpipe up` locally, a deployment of the stacks on AWS",
        ) from error

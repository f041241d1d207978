"""Lists and describes a model's packages in SageMaker, and reads them as model versions."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from mlpipe_dagster.resources.data_bucket import DataBucket, ObjectMissingError
from prediction_contract.errors import ContractError, InvalidNameError
from prediction_contract.jobs.verdict import APPROVED, PENDING, REJECTED, InvalidVerdictError, Verdict
from prediction_contract.naming.batch import Partition
from prediction_contract.naming.resource_names import Deployment
from prediction_contract.naming.s3_layout import (
    VERDICT_NAME,
    candidates_prefix,
    retraining_prefix,
    validated_bucket,
    validated_key,
    validated_run_id,
)
from prediction_contract.printable_text import escape_unprintable
from prediction_contract.registry.version_records import ModelVersion, VersionState
from prediction_contract.text.utc_time import format_utc

# SageMaker lists at most 100 packages per page; no model keeps more than ten pages.
_PAGE, _MAX_PAGES = 100, 10
COMPLETED = "Completed"
# SageMaker's error codes for a package or group that does not exist.
_UNKNOWN = frozenset({"ResourceNotFound", "ValidationException"})
_STATES = {
    APPROVED: VersionState.APPROVED,
    PENDING: VersionState.CANDIDATE,
    REJECTED: VersionState.REFUSED,
}
# The approver of a version that was approved by its verdict.
RULE = "rule"
# The pipeline's placeholder for an empty value, which SageMaker does not accept.
_NOTHING = "none"
_DIGEST = re.compile("[0-9a-f]{16,64}")
_SHA256 = re.compile("[0-9a-f]{64}")
_WORD = re.compile(r"[A-Za-z0-9_.:/=+@-]{1,255}")
_NUMBER = re.compile("[0-9]{1,6}")
_ARTIFACT = re.compile("s3://([^/]+)/(.+)")
_LONGEST_TEXT = 500
_VERDICT_BYTES = 4_000_000


class ModelPackageError(ContractError):
    """A model package cannot be read as a version, or SageMaker does not list a model's packages."""


@dataclass(frozen=True, slots=True)
class PackageSummary:
    """A model package as a listing shows it.

    Attributes:
        version: Its number in the group.
        status: `Completed` once it can be read as a version.
        approval: SageMaker's approval status.
    """

    version: int
    status: str
    approval: str


@dataclass(frozen=True, slots=True)
class PackageListing:
    """The newest packages of a model's group.

    Attributes:
        packages: The packages by version.
        is_whole: Whether these are all packages of the group.
    """

    packages: Mapping[int, PackageSummary]
    is_whole: bool

    def covers(self, version: int) -> bool:
        """Return whether the listing would include a version if its package existed."""
        return self.is_whole or version >= min(self.packages, default=version + 1)


class ModelPackages:
    """The model packages of a deployment.

    Args:
        client: A boto3 SageMaker client.
        deployment: The deployment that the model package groups belong to.
        bucket: The data bucket, which holds the verdicts.
    """

    def __init__(self, client: Any, deployment: Deployment, bucket: DataBucket) -> None:
        self._client = client
        self._deployment = deployment
        self._bucket = bucket

    def listing(self, model: str) -> PackageListing:
        """Return the newest packages of a model.

        Raises:
            ModelPackageError: SageMaker does not know the group.
        """
        packages: dict[int, PackageSummary] = {}
        next_page: dict[str, str] = {}
        for _ in range(_MAX_PAGES):
            try:
                # Without a group, SageMaker lists packages that have no version. By default the oldest come
                # first.
                answer = self._client.list_model_packages(
                    ModelPackageGroupName=self._deployment.model_package_group(model),
                    SortBy="CreationTime",
                    SortOrder="Descending",
                    MaxResults=_PAGE,
                    **next_page,
                )
            except self._client.exceptions.ClientError as error:
                if error.response["Error"]["Code"] not in _UNKNOWN:
                    raise
                raise ModelPackageError(
                    f"SageMaker cannot list the model's packages: {error}",
                    remedy="Deploy the stage, or run `mlpipe up`: both create the model package group",
                    model=model,
                ) from error
            for found in answer["ModelPackageSummaryList"]:
                if version := found.get("ModelPackageVersion"):
                    packages[version] = PackageSummary(
                        version, found["ModelPackageStatus"], found.get("ModelApprovalStatus", PENDING)
                    )
            if not answer.get("NextToken"):
                return PackageListing(packages, is_whole=True)
            next_page = {"NextToken": answer["NextToken"]}
        return PackageListing(packages, is_whole=False)

    def arn(self, model: str, version: int) -> str:
        """Return the ARN of a model package."""
        group = self._deployment.model_package_group_arn(model)
        return f"{group.replace(':model-package-group/', ':model-package/')}/{version}"

    def describe(self, model: str, version: int) -> Mapping[str, Any] | None:
        """Return SageMaker's description of a package, or None if there is no such package."""
        try:
            answer: Mapping[str, Any] = self._client.describe_model_package(
                ModelPackageName=self.arn(model, version)
            )
        except self._client.exceptions.ClientError as error:
            if error.response["Error"]["Code"] not in _UNKNOWN:
                raise
            return None
        return answer

    def version(self, model: str, version: int) -> ModelVersion | None:
        """Return a package as a version, with the state that its approval implies; None if it does not exist.

        Raises:
            ModelPackageError: The package lacks data that a version needs.
        """
        described = self.describe(model, version)
        if described is None or described["ModelPackageStatus"] != COMPLETED:
            return None
        try:
            return self._as_version(model, version, described)
        except (InvalidNameError, InvalidVerdictError, KeyError, ValueError) as error:
            what = f"{error} is missing" if isinstance(error, KeyError) else str(error)
            raise ModelPackageError(
                f"Model package {version} cannot be used: {what}",
                remedy="Register versions by the retraining pipeline or by `mlpipe models register`",
                model=model,
            ) from error

    def _as_version(self, model: str, version: int, described: Mapping[str, Any]) -> ModelVersion:
        properties = {
            name: value
            for name, value in described.get("CustomerMetadataProperties", {}).items()
            if value != _NOTHING
        }
        verdict_key = _verdict_key(model, properties)
        bucket, key = self._artifact(model, properties, described)
        approval = described.get("ModelApprovalStatus", PENDING)
        digest = _matching(_DIGEST, properties["digest"], "digest")
        verdict = None if verdict_key is None else self.verdict(verdict_key)
        if verdict is not None and verdict.candidate_digest != digest:
            raise InvalidNameError(
                f"its verdict judged {verdict.candidate_digest}, but its digest is {digest}",
                remedy="Register it with its own verdict",
            )
        execution = properties.get("execution")
        trained_until = properties.get("trained_until")
        code_version = properties.get("code_version")
        return ModelVersion(
            model=model,
            version=version,
            state=_STATES[approval],
            digest=digest,
            artifact_key=key,
            artifact_sha256=_matching(_SHA256, properties["sha256"], "sha256"),
            artifact_bucket=None if bucket == self._bucket.name else bucket,
            codec=properties.get("codec"),
            package_arn=described["ModelPackageArn"],
            approval=approval,
            approved_by=_approver(described, verdict) if approval == APPROVED else None,
            created_at=format_utc(described["CreationTime"]),
            trained_until=None if trained_until is None else str(Partition(trained_until)),
            judged_against=int(_matching(_NUMBER, properties.get("judged_against", "0"), "judged_against")),
            verdict_key=verdict_key,
            execution_arn=None if execution is None else self.execution_arn(model, execution),
            code_version=None if code_version is None else _matching(_WORD, code_version, "code_version"),
            reason=_refusal(described, verdict) if approval == REJECTED else None,
        )

    def verdict(self, key: str) -> Verdict | None:
        """Return a verdict, or None if it was deleted.

        Raises:
            InvalidVerdictError: The document has another format.
        """
        try:
            content = self._bucket.read(key, most_bytes=_VERDICT_BYTES)
        except ObjectMissingError:
            return None
        return Verdict.parse(content)

    def execution_arn(self, model: str, execution: str) -> str:
        """Return the ARN of an execution of the model's retraining pipeline.

        Args:
            model: The model's name.
            execution: The execution's id or ARN.

        Raises:
            InvalidNameError: The text is neither.
        """
        execution_id = validated_run_id(execution.rpartition("/")[2])
        arn = f"{self._deployment.retraining_pipeline_arn(model)}/execution/{execution_id}"
        if execution not in {execution_id, arn}:
            raise InvalidNameError(
                f"{execution[:200]!r} is not an execution of the retraining pipeline of {model}",
                remedy=f"Name one that begins with {self._deployment.retraining_pipeline_arn(model)}",
            )
        return arn

    def _artifact(
        self, model: str, properties: Mapping[str, str], described: Mapping[str, Any]
    ) -> tuple[str, str]:
        """Return bucket and key of the trained model's archive.

        Raises:
            InvalidNameError: The address is not an S3 address, or not an archive from the model's own
                retraining.
        """
        (container, *_) = described["InferenceSpecification"]["Containers"]
        found = _ARTIFACT.fullmatch(container["ModelDataUrl"])
        if found is None:
            raise InvalidNameError(
                f"ModelDataUrl {container['ModelDataUrl'][:200]!r} is not an S3 address",
                remedy="Register the file's address",
            )
        bucket, key = validated_bucket(found[1]), validated_key(found[2])
        is_candidate = bucket == self._bucket.name and key.startswith(candidates_prefix(model))
        if "codec" not in properties and not is_candidate:
            raise InvalidNameError(
                f"s3://{bucket}/{key} is not below {candidates_prefix(model)} of the data bucket, "
                "where retraining writes its archives",
                remedy="Register a model that was trained elsewhere with its codec",
            )
        return bucket, key


def _verdict_key(model: str, properties: Mapping[str, str]) -> str | None:
    key = properties.get("verdict")
    if key is None:
        return None
    execution_id = key.removesuffix(f"/{VERDICT_NAME}").rpartition("/")[2]
    if key != f"{retraining_prefix(model, execution_id)}{VERDICT_NAME}":
        raise InvalidNameError(
            f"{key[:200]!r} is not the key of a verdict on {model}",
            remedy=f"Name the verdict of one of its executions: {retraining_prefix(model, 'execution')}...",
        )
    return key


def _approver(described: Mapping[str, Any], verdict: Verdict | None) -> str:
    """Return `rule` if the verdict approved the package, else the person that SageMaker names."""
    words = described.get("ApprovalDescription")
    if verdict is not None and verdict.approval == APPROVED and not words:
        return RULE
    changed_by = described.get("LastModifiedBy", {})
    who = changed_by.get("IamIdentity", {}).get("Arn") or changed_by.get("UserProfileName") or "a person"
    return _text(f"{who}: {words}" if words else who)


def _refusal(described: Mapping[str, Any], verdict: Verdict | None) -> str | None:
    words = described.get("ApprovalDescription") or (verdict.reason if verdict else None)
    return None if words is None else _text(words)


def _text(words: str) -> str:
    return escape_unprintable(words)[:_LONGEST_TEXT]


def _matching(pattern: re.Pattern[str], value: str, what: str) -> str:
    if not pattern.fullmatch(value):
        raise InvalidNameError(f"{what} {value[:80]!r} is invalid", remedy=f"Register a valid {what}")
    return value

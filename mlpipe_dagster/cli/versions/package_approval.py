"""Sets SageMaker's approval of a model package, which decides whether its version may score."""

from __future__ import annotations

from typing import Any

from prediction_contract.errors import ContractError
from prediction_contract.printable_text import escape_unprintable
from prediction_contract.registry.version_records import ModelVersion

# UpdateModelPackage's limit for ApprovalDescription.
_LONGEST_DESCRIPTION = 1024


class PackageApprovalError(ContractError):
    """SageMaker refused to change the approval of a model package."""


def set_approval(sagemaker: Any, version: ModelVersion, status: str, *, actor: str, reason: str) -> None:
    """Set the approval status of a version's package; setting it again changes nothing.

    Args:
        sagemaker: A boto3 client.
        version: The package's version.
        status: `Approved` or `Rejected`.
        actor: Who decided it.
        reason: Why.

    Raises:
        PackageApprovalError: The package is gone, or these credentials may not change it.
    """
    described = escape_unprintable(f"{actor}: {reason}" if reason else actor)
    try:
        sagemaker.update_model_package(
            ModelPackageArn=version.package_arn,
            ModelApprovalStatus=status,
            ApprovalDescription=described[:_LONGEST_DESCRIPTION],
        )
    except sagemaker.exceptions.ClientError as error:
        raise PackageApprovalError(
            f"The package of version {version.version} cannot be set to {status}: {error}",
            remedy="Check that the package exists, and that you may call sagemaker:UpdateModelPackage",
            model=version.model,
        ) from error

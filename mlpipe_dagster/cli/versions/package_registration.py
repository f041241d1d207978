"""Registers a model that was trained elsewhere as a model package that waits for approval."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from typing import Any

from prediction_contract.errors import ContractError
from prediction_contract.jobs.verdict import PENDING

# As many digits as in the digest of a model that was trained here.
_DIGEST_DIGITS = 16
_PIECE = 8 * 2**20
_TOKEN_CHARACTERS = 32


class RegistrationError(ContractError):
    """A model's file is missing or has another SHA-256, or SageMaker refused to register it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ExternalModelFile:
    """The file of a model that was trained elsewhere.

    Attributes:
        bucket: The file's bucket.
        key: The file's key.
        sha256: The file's SHA-256 in lower-case hex.
        codec: The name of the file's format.
    """

    bucket: str
    key: str
    sha256: str
    codec: str

    @property
    def address(self) -> str:
        """The file's S3 address."""
        return f"s3://{self.bucket}/{self.key}"


def require_file(s3: Any, file: ExternalModelFile) -> None:
    """Require that the file exists and has the stated SHA-256; it is read in pieces.

    Raises:
        RegistrationError: The file is missing, cannot be read, or has another SHA-256.
    """
    try:
        body = s3.get_object(Bucket=file.bucket, Key=file.key)["Body"]
    except s3.exceptions.ClientError as error:
        raise RegistrationError(
            f"{file.address} cannot be read: {error}",
            remedy="Check the path, the bucket and your permissions",
        ) from error
    digest = hashlib.sha256()
    for piece in body.iter_chunks(_PIECE):
        digest.update(piece)
    if digest.hexdigest() != file.sha256:
        raise RegistrationError(
            f"{file.address} has the SHA-256 {digest.hexdigest()}, not {file.sha256}",
            remedy="Pass the SHA-256 of the judged file, or upload that file",
        )


def register_file(
    sagemaker: Any,
    group: str,
    file: ExternalModelFile,
    *,
    model: str,
    image: str,
    bucket: str,
    description: str,
) -> str:
    """Register a file as a model package that waits for approval, and return the package's ARN.

    Registering the same file again changes nothing, as long as SageMaker remembers the request's token.

    Args:
        sagemaker: A boto3 client.
        group: The model's package group.
        file: The file.
        model: The model's name.
        image: The image that the model's jobs run in.
        bucket: The data bucket.
        description: Who registers it, and why.

    Raises:
        RegistrationError: SageMaker refused it.
    """
    properties = {
        "digest": file.sha256[:_DIGEST_DIGITS],
        "sha256": file.sha256,
        "codec": file.codec,
        **({} if file.bucket == bucket else {"bucket": file.bucket}),
    }
    token = hashlib.sha256(json.dumps([group, file.address, properties]).encode()).hexdigest()
    try:
        answer = sagemaker.create_model_package(
            ModelPackageGroupName=group,
            ModelPackageDescription=description,
            InferenceSpecification={"Containers": [{"Image": image, "ModelDataUrl": file.address}]},
            ModelApprovalStatus=PENDING,
            CustomerMetadataProperties=properties,
            SkipModelValidation="All",
            ClientToken=token[:_TOKEN_CHARACTERS],
        )
    except sagemaker.exceptions.ClientError as error:
        raise RegistrationError(
            f"SageMaker refused to register {file.address}: {error}",
            remedy="Check that the model's package group is provisioned, and that your credentials allow "
            "sagemaker:CreateModelPackage",
            model=model,
        ) from error
    return str(answer["ModelPackageArn"])

"""Compares the code that jobs run with this checkout's code: changes have no effect before their upload."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mlpipe_dagster.installed_platform import PLATFORM
from model_declaration.project import job_files
from prediction_contract.jobs.code_digest import code_version, deployed_digest, uploaded_digest

# The deployable that includes a project's package.
_PROJECT_CODE = "sagemaker_scripts"
UPLOAD_REMEDY = (
    "Run `mlpipe up`, then restart Dagster; `mlpipe dev` does both when it starts. "
    "On AWS run `mlpipe upload-code <stage>` and deploy"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class OutdatedUpload:
    """Uploaded code that differs from this checkout's code.

    Attributes:
        deployable: The package, for example `sagemaker_scripts`.
        uploaded: The code version that jobs run.
        checkout: The code version of this checkout.
    """

    deployable: str
    uploaded: str
    checkout: str

    @property
    def what(self) -> str:
        """A sentence with both versions, without a full stop."""
        return (
            f"Jobs run code version {self.uploaded} of {self.deployable}, "
            f"but this checkout has version {self.checkout}"
        )


def present_digest(deployable: str, package_folder: Path | None, platform: Path = PLATFORM) -> str | None:
    """Return the digest of a deployable's code in this checkout; None if the code is not here.

    Args:
        deployable: The package.
        package_folder: The folder of the project's package, which is part of SageMaker jobs' code; None if
            there is none.
        platform: The folder of the platform's code. A production image does not hold the code of jobs.
    """
    files = job_files(package_folder) if deployable == _PROJECT_CODE and package_folder is not None else {}
    return deployed_digest(deployable, platform, files)


def outdated_upload(
    deployable: str, key: str, package_folder: Path | None = None, platform: Path = PLATFORM
) -> OutdatedUpload | None:
    """Return how uploaded code differs from this checkout's; None if equal or not comparable.

    Args:
        deployable: The package.
        key: The S3 key or address from which jobs take the code.
        package_folder: See `present_digest`.
        platform: See `present_digest`.
    """
    uploaded = uploaded_digest(key)
    if uploaded is None:
        return None
    try:
        present = present_digest(deployable, package_folder, platform)
    except OSError:
        # An editor is replacing a file; a later call compares again.
        return None
    if present in {None, uploaded}:
        return None
    return OutdatedUpload(
        deployable=deployable, uploaded=code_version(uploaded), checkout=code_version(str(present))
    )


def load_code_address(glue: Any, job: str) -> str:
    """Return the address of the load job's code; empty if the job does not exist."""
    try:
        definition = glue.get_job(JobName=job)["Job"]
    except glue.exceptions.EntityNotFoundException:
        return ""
    return str(definition.get("DefaultArguments", {}).get("--extra-py-files", ""))


def warn_of_outdated_upload(
    deployable: str, key: str, warn: Callable[[str], None], package_folder: Path | None = None
) -> dict[str, Any]:
    """Warn if jobs run other code than this checkout's; return metadata for the materialization.

    Args:
        deployable: The package.
        key: The S3 key or address from which jobs take the code.
        warn: Logs the warning, for example in the run's log.
        package_folder: See `present_digest`.
    """
    outdated = outdated_upload(deployable, key, package_folder)
    if outdated is None:
        return {}
    text = f"{outdated.what}. {UPLOAD_REMEDY}."
    warn(text)
    return {"code_warning": text, "checkout_code_version": outdated.checkout}


def warn_of_outdated_load(glue: Any, job: str, warn: Callable[[str], None]) -> dict[str, Any]:
    """Warn like `warn_of_outdated_upload`, but about the load job; also warn if Glue cannot be read.

    Args:
        glue: A boto3 Glue client.
        job: The load job's name.
        warn: Logs the warning.
    """
    from botocore.exceptions import BotoCoreError, ClientError  # noqa: PLC0415  # definitions import no boto

    try:
        address = load_code_address(glue, job)
    except (BotoCoreError, ClientError) as error:
        warn(f"The load job's code could not be compared with this checkout's: {error}")
        return {}
    return warn_of_outdated_upload("glue_scripts", address, warn)

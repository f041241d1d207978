"""The code that jobs run beside the code of this checkout: an edit that was not uploaded has no effect."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mlpipe_dagster.installed_platform import PLATFORM
from model_declaration.project import job_files
from prediction_contract.jobs.code_digest import code_version, deployed_digest, uploaded_digest

# The deployable that a project's package comes with.
_PROJECT_CODE = "sagemaker_scripts"
UPLOAD_REMEDY = (
    "Run `mlpipe up`, then restart Dagster; `mlpipe dev` does both when it starts. "
    "On AWS run `mlpipe upload-code <stage>` and deploy"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class OutdatedUpload:
    """Uploaded code that differs from the checkout's.

    Attributes:
        deployable: The package, say `sagemaker_scripts`.
        uploaded: The code version that jobs run.
        checkout: The code version of the checkout.
    """

    deployable: str
    uploaded: str
    checkout: str

    @property
    def what(self) -> str:
        """Both versions in one sentence, without a full stop."""
        return (
            f"Jobs run code version {self.uploaded} of {self.deployable}, "
            f"but it has version {self.checkout} here, which is not uploaded"
        )


def present_digest(deployable: str, package_folder: Path | None, platform: Path = PLATFORM) -> str | None:
    """Return the digest of a deployable's code as it lies here; None if it is not here.

    Args:
        deployable: The package.
        package_folder: Of the project's package, which comes with the jobs of SageMaker; None for none.
        platform: The folder of the platform's code. A production image holds no code of jobs.
    """
    files = job_files(package_folder) if deployable == _PROJECT_CODE and package_folder is not None else {}
    return deployed_digest(deployable, platform, files)


def outdated_upload(
    deployable: str, key: str, package_folder: Path | None = None, platform: Path = PLATFORM
) -> OutdatedUpload | None:
    """Return how uploaded code differs from that which lies here; None if they agree or cannot be compared.

    Args:
        deployable: The package.
        key: The key or address that jobs take the code from.
        package_folder: As `present_digest` takes it.
        platform: As `present_digest` takes it.
    """
    uploaded = uploaded_digest(key)
    if uploaded is None:
        return None
    try:
        present = present_digest(deployable, package_folder, platform)
    except OSError:
        # An editor is replacing a file. The next job or look compares again.
        return None
    if present in {None, uploaded}:
        return None
    return OutdatedUpload(
        deployable=deployable, uploaded=code_version(uploaded), checkout=code_version(str(present))
    )


def load_code_address(glue: Any, job: str) -> str:
    """Return where the load job takes its code from, or nothing if the job does not exist."""
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
        key: The key or address that jobs take the code from.
        warn: Takes the warning, say the run's log.
        package_folder: As `present_digest` takes it.
    """
    outdated = outdated_upload(deployable, key, package_folder)
    if outdated is None:
        return {}
    text = f"{outdated.what}. {UPLOAD_REMEDY}."
    warn(text)
    return {"code_warning": text, "checkout_code_version": outdated.checkout}


def warn_of_outdated_load(glue: Any, job: str, warn: Callable[[str], None]) -> dict[str, Any]:
    """Warn as `warn_of_outdated_upload` does, of the load job's code; a look that fails is no failure.

    Args:
        glue: Its boto3 client.
        job: The load job.
        warn: Takes the warning.
    """
    from botocore.exceptions import BotoCoreError, ClientError  # noqa: PLC0415  # definitions import no boto

    try:
        address = load_code_address(glue, job)
    except (BotoCoreError, ClientError) as error:
        warn(f"The load job's code could not be compared with this checkout's: {error}")
        return {}
    return warn_of_outdated_upload("glue_scripts", address, warn)

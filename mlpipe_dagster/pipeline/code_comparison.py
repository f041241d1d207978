"""The code that jobs run beside the code of this checkout: an edit that was not uploaded has no effect."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from prediction_contract.jobs.code_digest import checkout_digest, code_version, uploaded_digest

CHECKOUT = Path(__file__).resolve().parents[2]
UPLOAD_REMEDY = (
    "Run `mlpipe up`, then restart Dagster; `mlpipe dev` does both when it starts. "
    "On AWS run `python -m infra.code_upload` and deploy"
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
            f"but this checkout has version {self.checkout}, which is not uploaded"
        )


def outdated_upload(deployable: str, key: str, checkout: Path = CHECKOUT) -> OutdatedUpload | None:
    """Return how uploaded code differs from a checkout's; None if they agree or cannot be compared.

    Args:
        deployable: The package.
        key: The key or address that jobs take the code from.
        checkout: The checkout's folder. A production image holds no code of jobs: nothing is compared.
    """
    uploaded = uploaded_digest(key)
    if uploaded is None:
        return None
    try:
        present = checkout_digest(deployable, checkout)
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


def warn_of_outdated_upload(deployable: str, key: str, warn: Callable[[str], None]) -> dict[str, Any]:
    """Warn if jobs run other code than this checkout's; return metadata for the materialization.

    Args:
        deployable: The package.
        key: The key or address that jobs take the code from.
        warn: Takes the warning, say the run's log.
    """
    outdated = outdated_upload(deployable, key)
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

"""The code that jobs run beside the code of this checkout: an edit that was not uploaded has no effect."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mlpipe_dagster.settings import Settings
from prediction_contract.code_digest import checkout_digest, code_version, uploaded_digest

CHECKOUT = Path(__file__).resolve().parents[1]
UPLOAD_REMEDY = (
    "Run `make up`, then restart Dagster; `make dev` does both when it starts. "
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


def warn_of_outdated_upload(settings: Settings, warn: Callable[[str], None]) -> dict[str, Any]:
    """Warn if SageMaker jobs run other code than this checkout's; return metadata for the materialization.

    Args:
        settings: They name the uploaded code.
        warn: Takes the warning, say the run's log.
    """
    outdated = outdated_upload("sagemaker_scripts", settings.code_prefix)
    if outdated is None:
        return {}
    text = f"{outdated.what}. {UPLOAD_REMEDY}."
    warn(text)
    return {"code_warning": text, "checkout_code_version": outdated.checkout}

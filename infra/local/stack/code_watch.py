"""What `make dev` tells of edits to the jobs' code that are not uploaded."""

from __future__ import annotations

from typing import TYPE_CHECKING

from prediction_contract.jobs.code_digest import checkout_digest, code_version, uploaded_digest

if TYPE_CHECKING:
    from pathlib import Path


class CodeWatch:
    """Compares the code that Dagster's jobs run with the checkout, and tells of each edit once.

    Args:
        code_prefix: Where the uploaded code lies.
        checkout: The checkout's folder.
    """

    def __init__(self, code_prefix: str, checkout: Path) -> None:
        self._uploaded = self._present = uploaded_digest(code_prefix)
        self._checkout = checkout

    def news(self) -> str:
        """Return what has changed since the last look as one line, or nothing."""
        try:
            present = checkout_digest("sagemaker_scripts", self._checkout)
        except OSError:
            # An editor is replacing a file: the next look sees it whole.
            return ""
        if present is None or self._uploaded is None or present == self._present:
            return ""
        self._present = present
        uploaded = code_version(self._uploaded)
        if present == self._uploaded:
            return f"The jobs' code in this checkout is the uploaded version {uploaded} again."
        return (
            f"The jobs' code was edited: this checkout has version {code_version(present)}, "
            f"jobs still run the uploaded version {uploaded}. Restart `make dev` to upload the edit."
        )

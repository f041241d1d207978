"""Dagster metadata of a model version: its approval, verdict and location."""

from __future__ import annotations

from typing import Any
from urllib.parse import quote

import dagster as dg

from mlpipe_dagster.job_clients.job_metadata import console_host
from mlpipe_dagster.markdown import markdown_image, markdown_table
from mlpipe_dagster.resources.platform import Platform
from mlpipe_dagster.versions.verdict_picture import comparison_svg
from prediction_contract.jobs.verdict import Verdict
from prediction_contract.registry.version_records import ModelVersion

# The model chooses its slices, and there may be very many.
_MAX_SLICES = 50


def version_metadata(platform: Platform, version: ModelVersion, verdict: Verdict | None) -> dict[str, Any]:
    """Return a version's metadata, with metrics as numbers so that Dagster plots them.

    Args:
        platform: The resources and settings.
        version: The registry's record.
        verdict: The version's verdict; None if it has none or it was deleted.
    """
    settings = platform.settings
    console = f"{console_host(settings.deployment.region)}/s3/object"
    bucket = version.artifact_bucket or settings.data_bucket
    shown: dict[str, Any] = {
        "version": version.version,
        "state": str(version.state),
        "model_version": version.digest,
        "model_package": version.package_arn,
        "approval": version.approval,
        "approved_by": version.approved_by,
        "reason": version.reason,
        "created_at": version.created_at,
        "trained_until": version.trained_until,
        "judged_against": version.judged_against or None,
        "code_version": version.code_version,
        "execution": version.execution_arn,
        "artifact": f"s3://{bucket}/{version.artifact_key}",
        "artifact_sha256": version.artifact_sha256,
        "artifact_page": dg.MetadataValue.url(
            f"{console}/{bucket}?region={settings.deployment.region}&prefix={quote(version.artifact_key)}"
        ),
    }
    return {name: value for name, value in shown.items() if value is not None} | verdict_metadata(verdict)


def verdict_metadata(verdict: Verdict | None) -> dict[str, Any]:
    """Return Dagster metadata of a verdict: reason, training, metrics as numbers, slices and a chart."""
    if verdict is None:
        return {}
    shown: dict[str, Any] = {"verdict": verdict.reason}
    if verdict.first_held_out is not None:
        shown["judged_on"] = f"{verdict.first_held_out} to {verdict.last_held_out}"
    if verdict.trained_rows is not None:
        shown["trained_rows"] = verdict.trained_rows
    if verdict.libraries:
        shown["libraries"] = ", ".join(f"{name} {found}" for name, found in verdict.libraries.items())
    for metric in verdict.metrics:
        figures = {
            metric.name: metric.candidate,
            f"{metric.name}_champion": metric.champion,
            f"{metric.name}_gain": metric.gain,
            f"{metric.name}_gain_low": metric.gain_low,
            **{f"{metric.name}_{name}": value for name, value in metric.baselines.items()},
        }
        shown |= {name: float(value) for name, value in figures.items() if value is not None}
    if verdict.metrics:
        shown["comparison"] = markdown_image(
            "Metrics of the candidate beside those of the champion", comparison_svg(verdict)
        )
    if verdict.slices:
        shown["slices"] = markdown_table(
            ("column", "value", "rows", "candidate", "champion", "worse"),
            [
                (each.column, each.value, each.rows, each.candidate, each.champion, "yes" * each.is_worse)
                for each in verdict.slices[:_MAX_SLICES]
            ],
        )
    return shown

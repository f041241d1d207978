"""Dagster metadata of a batch: drift, charts and sample rows, without values of sensitive columns."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import dagster as dg

from mlpipe_dagster.markdown import markdown_image, markdown_table
from mlpipe_dagster.pipeline.finding_level import Level
from mlpipe_dagster.quality.batch_examination import Examination, Examiner
from mlpipe_dagster.quality.distribution_picture import Series, distribution_svg
from prediction_contract.manifests.load_report import LoadReport
from prediction_contract.manifests.manifest import Manifest
from prediction_contract.registry.records import BatchRecord

SAMPLE_ROWS = 5
# Each takes about three kilobytes of the event log.
_MAX_PICTURES = 12


def batch_facts(
    manifest: Manifest,
    record: BatchRecord,
    report: LoadReport | None,
    costs: Mapping[str, float],
    links: Mapping[str, str],
) -> dict[str, Any]:
    """Return a verified batch's counts, bytes, durations, consumption, estimated cost and links."""
    metadata: dict[str, Any] = {
        "dagster/row_count": record.accepted_rows,
        "rows_quarantined": record.quarantined_rows,
        "bytes": sum(part.bytes for part in manifest.json_parts),
        "json_parts": len(manifest.json_parts),
        "model_version": manifest.model_version,
        "code_version": manifest.code_version,
        **{f"console_{name}": dg.MetadataValue.url(link) for name, link in links.items()},
    }
    if manifest.model_package is not None:
        metadata["model_package_version"] = manifest.model_package.version
    if report is not None:
        metadata["load_durations_ms"] = dg.MetadataValue.json(dict(report.durations))
        if report.dynamodb is not None:
            metadata["write_units"] = int(report.dynamodb.details.get("write_units", 0))
    if costs:
        metadata["estimated_cost_usd"] = round(sum(costs.values()), 6)
        metadata["estimated_costs_usd"] = dg.MetadataValue.json(dict(costs))
    return metadata


def drift_table(found: Examination) -> dict[str, Any]:
    """Return a table with each column's stability index and level, without values."""
    if not found.drift:
        return {}
    words = {Level.PASS: "", Level.WARN: "warn", Level.BLOCK: "block"}
    rows = [[each.column, f"{each.index:.3f}", words[each.level]] for each in found.drift]
    return {"drift": markdown_table(("column", "stability index", "verdict"), rows)}


def pictures(batch_id: str, found: Examination) -> dict[str, Any]:
    """Return a chart of each measured column that people may see, with the live batch's values."""
    visible = [each for each in found.pictures if each.column in found.visible_columns][:_MAX_PICTURES]
    return {
        f"distribution_{each.column}": markdown_image(
            f"Distribution of {each.column}",
            distribution_svg(
                each.column,
                each.ends,
                Series(f"batch {batch_id}", each.batch),
                Series(f"live {found.live_batch_id}", each.live) if each.live else None,
            ),
        )
        for each in visible
    }


def sample(examiner: Examiner, batch_id: str) -> dict[str, Any]:
    """Return a batch's first rows, without the columns that people may not see."""
    visible = examiner.visible_columns
    columns = [name for name in examiner.schema.names if name in visible]
    if not columns:
        return {}
    rows = examiner.sample(batch_id, columns, SAMPLE_ROWS)
    return {"sample_rows": markdown_table(columns, rows)}

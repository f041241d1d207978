"""The comparison of a challenger with the champion as Dagster metadata and as a check result."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import dagster as dg

from mlpipe_dagster.markdown import markdown_table
from mlpipe_dagster.pipeline.asset_names import CHALLENGER_COMPARES
from mlpipe_dagster.quality.quality_rules import drift_findings, drift_levels
from model_declaration.quality import Quality

_SHOWN = ("batch_id", "champion", "challenger", "challenger_digest", "rows_champion", "rows_challenger")


def comparison_metadata(found: Mapping[str, Any]) -> dict[str, Any]:
    """Return a comparison as metadata of the asset."""
    shown = {name: found[name] for name in _SHOWN if found[name] is not None}
    if found["columns"]:
        rows = [
            (
                each["column"],
                f"{each['stability_index']:.3f}",
                str(each["nulls_champion"]),
                str(each["nulls_challenger"]),
            )
            for each in found["columns"]
        ]
        header = ("column", "stability index", "nulls of champion", "nulls of challenger")
        shown["columns"] = markdown_table(header, rows)
    earlier = found["earlier"]
    if earlier:
        shown["judged_partition"] = earlier["partition"]
        rows = [
            (
                each["name"],
                str(each["rows"]),
                _format_metric(each["champion"]),
                _format_metric(each["challenger"]),
            )
            for each in earlier["metrics"]
        ]
        shown["metrics"] = markdown_table(("metric", "rows", "champion", "challenger"), rows)
    return shown


def comparison_result(asset: dg.AssetKey, quality: Quality, found: Mapping[str, Any]) -> dg.AssetCheckResult:
    """Return a comparison as a check result; a failure only warns, because a challenger is not served.

    Args:
        asset: The challenger's predictions.
        quality: The model's quality rules; their drift thresholds apply.
        found: The comparison document.
    """
    faults = list(_faults(quality, found))
    return dg.AssetCheckResult(
        asset_key=asset,
        check_name=CHALLENGER_COMPARES,
        passed=not faults,
        severity=dg.AssetCheckSeverity.WARN,
        description=". ".join(faults)
        or "The challenger's predictions are close to the champion's, and its metrics are not worse",
        metadata={"batch_id": found["batch_id"], "challenger": found["challenger"]},
    )


def _faults(quality: Quality, found: Mapping[str, Any]) -> Iterator[str]:
    if found["rows_challenger"] != found["rows_champion"]:
        yield (
            f"the challenger predicts {found['rows_challenger']} rows, "
            f"but the batch has {found['rows_champion']}"
        )
    indices = {each["column"]: each["stability_index"] for each in found["columns"]}
    yield from (finding.text for finding in drift_findings(drift_levels(quality, indices)))
    earlier = found["earlier"]
    for metric in earlier["metrics"] if earlier else ():
        champion, challenger = metric["champion"], metric["challenger"]
        if champion is None or challenger is None:
            continue
        if challenger > champion if metric["better"] == "lower" else challenger < champion:
            yield (
                f"the challenger is worse on {earlier['partition']}: its {metric['name']} is {challenger:g}, "
                f"the champion's is {champion:g}"
            )


def _format_metric(value: float | None) -> str:
    return "-" if value is None else f"{value:g}"

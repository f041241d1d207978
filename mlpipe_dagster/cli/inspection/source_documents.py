"""The source data of a batch's features, as the features job recorded it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from mlpipe_dagster.cli.command_output import Table
from mlpipe_dagster.cli.deployment_access import DeploymentAccess
from mlpipe_dagster.cli.inspection.job_documents import UNKNOWN
from mlpipe_dagster.resources.data_bucket import ObjectMissingError, ObjectUnreadableError
from prediction_contract.manifests.manifest import Manifest
from prediction_contract.text.canonical_json import InvalidJsonError, parse_json
from prediction_contract.text.json_members import member, members_of

_INDEX = "features.json"
# The recorded members of an object, a Delta table, or a query.
_RECORDED = ("bucket", "key", "size", "etag", "version", "query_id", "rows", "sha256")


def source_documents(access: DeploymentAccess, manifest: Manifest | None) -> list[dict[str, Any]] | None:
    """Return what was read from each source; None if there is no readable record.

    Args:
        access: The deployment, which holds the index of the features.
        manifest: The batch's manifest; None if it cannot be read.
    """
    if manifest is None or not manifest.inputs.features:
        return None
    folder = manifest.inputs.features[0].key.rpartition("/")[0]
    try:
        index = members_of(parse_json(access.bucket.read(f"{folder}/{_INDEX}")), _INDEX)
        return [_source(members_of(each, "a source")) for each in member(index, "sources", list)]
    except (ObjectMissingError, ObjectUnreadableError, InvalidJsonError, ValueError):
        return None


def _source(recorded: Mapping[str, Any]) -> dict[str, Any]:
    return {"source": member(recorded, "source", str), **{name: recorded.get(name) for name in _RECORDED}}


def source_table(sources: list[dict[str, Any]] | None) -> Table:
    """Return what was read from each source, as a table."""
    return Table(
        title="sources of the features",
        columns=("source", "what", "size", "version"),
        rows=[
            {
                "source": each["source"],
                "what": f"query {each['query_id']}"
                if each["key"] is None
                else f"s3://{each['bucket']}/{each['key']}",
                "size": f"{each['rows']} rows" if each["size"] is None else each["size"],
                "version": each["etag"] or each["sha256"] or each["version"],
            }
            for each in sources or ()
        ],
        whole=frozenset({"what", "version"}),
        empty=UNKNOWN if sources is None else "none",
    )

"""Put the project's sample data on the local stack's S3: `mlpipe data`.

All files go to the data bucket. A source's files also go to the bucket that the source names. Objects that
already have the same content are not written again.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from botocore.exceptions import BotoCoreError, ClientError

from infra.local.provisioning.clients import Clients
from infra.local.stack.command_line import say
from infra.local.stack.environment_file import read_environment_file
from infra.local.supervision.stack_state import StackError
from infra.provisioned_models import provisioned_models
from infra.source_access import keys_in_other_buckets
from model_declaration.project import Project
from model_declaration.sample_data import sample_data_folder
from prediction_contract.errors import ContractError

# A bucket is listed below the first folders of the keys, such as `raw/orders/`, not as a whole.
_LISTED_FOLDERS = 2


def upload_sample_data(project: Project, s3: Any, bucket: str) -> int:
    """Put a project's sample data on S3 and return how many objects were written; 0 without sample data.

    Args:
        project: The project.
        s3: A boto3 S3 client.
        bucket: The data bucket.

    Raises:
        SampleDataError: The project's generator fails.
    """
    if project.sample_data is None:
        return 0
    return _upload_folder(sample_data_folder(project), project, s3, bucket)


def _upload_folder(folder: Path, project: Project, s3: Any, bucket: str) -> int:
    places = {**keys_in_other_buckets(provisioned_models(project)), bucket: {""}}
    return sum(
        upload_objects(s3, place, _objects(folder, tuple(beginnings))) for place, beginnings in places.items()
    )


def upload_objects(s3: Any, bucket: str, objects: Iterable[tuple[str, bytes]]) -> int:
    """Write the objects that are missing on S3 or differ; return their number.

    Args:
        s3: A boto3 S3 client.
        bucket: The bucket.
        objects: The key and content of each object. Only one content is in memory at a time.
    """
    listed: dict[str, dict[str, int]] = {}
    written = 0
    for key, content in objects:
        prefix = "/".join(key.split("/")[:-1][:_LISTED_FOLDERS])
        if prefix not in listed:
            listed[prefix] = _sizes(s3, bucket, prefix)
        # The content is compared, because the ETag does not identify it.
        if (
            listed[prefix].get(key) != len(content)
            or s3.get_object(Bucket=bucket, Key=key)["Body"].read() != content
        ):
            s3.put_object(Bucket=bucket, Key=key, Body=content)
            written += 1
    return written


def _objects(folder: Path, beginnings: tuple[str, ...]) -> Iterator[tuple[str, bytes]]:
    for path in sorted(folder.rglob("*")):
        key = path.relative_to(folder).as_posix()
        # A beginning is a folder or a key: `raw/orders` does not match `raw/orders-secret/x.csv`.
        is_wanted = any(f"{key}/".startswith(f"{each.rstrip('/')}/" if each else "") for each in beginnings)
        if is_wanted and path.is_file():
            yield key, path.read_bytes()


def _sizes(s3: Any, bucket: str, prefix: str) -> dict[str, int]:
    pages = s3.get_paginator("list_objects_v2").paginate(Bucket=bucket, Prefix=prefix)
    return {item["Key"]: item["Size"] for page in pages for item in page.get("Contents", ())}


def _variables(environment_file: Path) -> dict[str, str]:
    found = read_environment_file(environment_file)
    if "AWS_ENDPOINT_URL" not in found:
        raise StackError(
            f"{environment_file} has no addresses of a local stack", remedy="Run `mlpipe up` first"
        )
    return found


def main(arguments: list[str] | None = None) -> int:
    """Write the sample data and upload what differs; return 0 on success."""
    parser = argparse.ArgumentParser(prog="python -m infra.local.sample_data", description=__doc__)
    parser.add_argument(
        "--env-file", type=Path, help="file that `mlpipe up` writes; default: .env in the project"
    )
    options = parser.parse_args(arguments)
    try:
        project = Project.find(os.environ, Path.cwd())
        folder = sample_data_folder(project)
        variables = _variables(options.env_file or project.environment_file)
        bucket = variables["MLPIPE_DATA_BUCKET"]
        written = _upload_folder(folder, project, Clients.of(variables).client("s3"), bucket)
    except (StackError, ContractError) as error:
        say(f"mlpipe data: {error}", stream=sys.stderr)
        return 1
    except (BotoCoreError, ClientError) as error:
        say(f"mlpipe data: {error}. Start the stack by `mlpipe up`, then run this again.", stream=sys.stderr)
        return 1
    say(f"{written} objects written to s3://{bucket} from {folder}")
    return 0


if __name__ == "__main__":
    sys.exit(main())

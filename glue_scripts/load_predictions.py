"""The script of the Glue job: loads one batch into DynamoDB and Snowflake, invisible until it is published.

A failed run raises `ClaimNotHeldError` (nothing was touched), `BatchRefusedError` or `LoadFailedError`. Glue
shows the error's name and message as the job run's error.
"""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING

from glue_scripts.aws_clients import client, use_region
from glue_scripts.claim import Claim
from glue_scripts.load_job import LoadJob
from glue_scripts.progress import open_progress
from glue_scripts.settings import LoadSettings
from prediction_contract.registry.table import RegistryTable

if TYPE_CHECKING:
    from collections.abc import Sequence

    from prediction_contract.manifests.load_report import LoadReport


def main(argv: Sequence[str]) -> LoadReport:
    """Load the batch that a command line names, if this job run holds its claim.

    Args:
        argv: The command line without the program: `LoadArguments` and Glue's own arguments.

    Returns:
        The report, which was also written to S3.

    Raises:
        JobArgumentsError: The command line is wrong; nothing was touched.
        ClaimNotHeldError: Another job run holds the claim; nothing was touched.
        BatchRefusedError: The batch is faulty and was refused.
        LoadFailedError: The load failed; the claim was released.
    """
    settings = LoadSettings.read(argv, os.environ)
    use_region(settings.region)
    registry = RegistryTable(client("dynamodb"), settings.arguments.registry_table)
    claim = Claim(registry, settings.arguments, settings.job_run_id)
    record = claim.confirm()
    with open_progress(settings, client("s3")) as progress:
        return LoadJob(settings, claim, record, progress).run()


if __name__ == "__main__":
    main(sys.argv[1:])

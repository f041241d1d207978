"""Log groups that SageMaker names, and that all jobs of an account share.

CloudFormation cannot own them: it refuses to create a group that another stage, or a job of another team, has
created already. SageMaker creates a missing one without a retention.
"""

from __future__ import annotations

from typing import Any

from prediction_contract.resource_names import PROCESSING_LOG_GROUP, TRAINING_LOG_GROUP

SHARED_LOG_GROUPS = (PROCESSING_LOG_GROUP, TRAINING_LOG_GROUP)
RETENTION_DAYS = 90


def create_shared_log_groups(logs: Any) -> tuple[str, ...]:
    """Create the groups that are missing, with a retention, and return those that keep every line for ever.

    A group that exists is left as it is, because a retention deletes what others may want to keep.

    Args:
        logs: A boto3 CloudWatch Logs client of the home region.

    Raises:
        botocore.exceptions.ClientError: CloudWatch Logs refuses.
    """
    endless = []
    for name in SHARED_LOG_GROUPS:
        found = logs.describe_log_groups(logGroupNamePrefix=name)["logGroups"]
        group = next((each for each in found if each["logGroupName"] == name), None)
        if group is None:
            logs.create_log_group(logGroupName=name)
            logs.put_retention_policy(logGroupName=name, retentionInDays=RETENTION_DAYS)
        elif "retentionInDays" not in group:
            endless.append(name)
    return tuple(endless)

"""Log groups that SageMaker names, and that all jobs of an account share.

CloudFormation cannot own them: it refuses to create a group that another stage, or a job of another team, has
created already. SageMaker creates a missing one without a retention.
"""

from __future__ import annotations

import contextlib
from typing import Any

from prediction_contract.naming.resource_names import PROCESSING_LOG_GROUP, TRAINING_LOG_GROUP

SHARED_LOG_GROUPS = (PROCESSING_LOG_GROUP, TRAINING_LOG_GROUP)
RETENTION_DAYS = 90
# A group has no retention for a moment after it is created. The tag says that it still has to get one.
CREATOR_TAG = ("mlpipe:created-by", "infra.code_upload")


def create_shared_log_groups(logs: Any) -> tuple[str, ...]:
    """Create the groups that are missing, with a retention, and return those that keep every line for ever.

    A group that somebody else created is left as it is: a retention deletes what they may want to keep.

    Args:
        logs: A boto3 CloudWatch Logs client of the home region.

    Raises:
        botocore.exceptions.ClientError: CloudWatch Logs refuses.
    """
    endless = []
    name_of_tag, creator = CREATOR_TAG
    for name in SHARED_LOG_GROUPS:
        with contextlib.suppress(logs.exceptions.ResourceAlreadyExistsException):
            logs.create_log_group(logGroupName=name, tags={name_of_tag: creator})
        found = logs.describe_log_groups(logGroupNamePrefix=name)["logGroups"]
        (group,) = (each for each in found if each["logGroupName"] == name)
        if "retentionInDays" in group:
            continue
        tags = logs.list_tags_for_resource(resourceArn=group["logGroupArn"])["tags"]
        if tags.get(name_of_tag) == creator:
            logs.put_retention_policy(logGroupName=name, retentionInDays=RETENTION_DAYS)
        else:
            endless.append(name)
    return tuple(endless)

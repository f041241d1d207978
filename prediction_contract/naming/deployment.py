"""A deployment: every resource name of one stage as seen from one region."""

from __future__ import annotations

from prediction_contract.errors import InvalidNameError
from prediction_contract.limits import MAX_BUCKET_NAME_CHARACTERS
from prediction_contract.naming.job_names import JobNames
from prediction_contract.naming.notice_names import NoticeNames
from prediction_contract.naming.orchestration_names import OrchestrationNames
from prediction_contract.naming.role_names import RoleNames
from prediction_contract.naming.serving_names import ServingNames
from prediction_contract.naming.storage_names import StorageNames
from prediction_contract.naming.warehouse_names import WarehouseNames


class Deployment(
    StorageNames, NoticeNames, JobNames, OrchestrationNames, RoleNames, ServingNames, WarehouseNames
):
    """One stage of the platform as seen from one region; every name and ARN is a property or method of it.

    Takes what a `Place` takes: stage, account, region and, unless it is the same, the home region.

    Raises:
        InvalidNameError: A part does not have its form, or the bucket's name grows beyond 63 characters.
    """

    __slots__ = ()

    def __post_init__(self) -> None:
        super().__post_init__()
        if len(self.data_bucket) > MAX_BUCKET_NAME_CHARACTERS:
            raise InvalidNameError(
                f"bucket name {self.data_bucket!r} is longer than S3's "
                f"{MAX_BUCKET_NAME_CHARACTERS} characters",
                remedy="Choose a shorter stage",
            )

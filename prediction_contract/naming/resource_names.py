"""Every resource name of the platform, from one place: product code, local provisioning and CDK agree by it.

Names are functions of the stage, the account, the region and, where there is one per model, the model's
name. Regional services carry the same name in every region, so a client finds its own region's table or
queue without being told; what shares one name space over all regions (buckets, roles) carries the region.
"""

from prediction_contract.errors import InvalidNameError
from prediction_contract.limits import MAX_BUCKET_NAME_CHARACTERS
from prediction_contract.naming.data_names import (
    PROCESSING_LOG_GROUP,
    SNOWFLAKE_SCHEMA,
    SNOWFLAKE_STAGE,
    TRAINING_LOG_GROUP,
    DataNames,
)
from prediction_contract.naming.deployment_scope import (
    PREFIX,
    STAGE_TAG,
    model_name_stem,
    require_distinct_model_names,
)
from prediction_contract.naming.service_names import READ_SCOPE, ServiceNames, validated_provider_name

__all__ = [
    "PREFIX",
    "PROCESSING_LOG_GROUP",
    "READ_SCOPE",
    "SNOWFLAKE_SCHEMA",
    "SNOWFLAKE_STAGE",
    "STAGE_TAG",
    "TRAINING_LOG_GROUP",
    "Deployment",
    "model_name_stem",
    "require_distinct_model_names",
    "validated_provider_name",
]


class Deployment(DataNames, ServiceNames):
    """One stage of the platform as seen from one region; every name and ARN is a property or method of it.

    Takes what a `DeploymentScope` takes: stage, account, region and, unless it is the same, the home region.

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

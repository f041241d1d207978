"""All resource names of the platform, shared by product code, local provisioning and CDK.

Names depend on the stage, the account, the region and, for resources per model, the model's name. Regional
resources have the same name in every region, so a client needs no configuration to find the table or queue of
its own region. Names that must be unique across regions (buckets, roles) contain the region.
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
    """One stage of the platform as seen from one region, with all its names and ARNs.

    Its arguments are those of `DeploymentScope`: stage, account, region and, if it differs, the home region.

    Raises:
        InvalidNameError: A part is invalid, or the bucket's name is longer than 63 characters.
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

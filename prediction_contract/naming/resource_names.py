"""Every resource name of the platform, from one place: product code, local provisioning and CDK agree by it.

Names are functions of the stage, the account, the region and, where there is one per model, the model's
name. Regional services carry the same name in every region, so a client finds its own region's table or
queue without being told; what shares one name space over all regions (buckets, roles) carries the region.
"""

from prediction_contract.naming.deployment import Deployment
from prediction_contract.naming.deployment_scope import (
    PREFIX,
    STAGE_TAG,
    model_name_stem,
    require_distinct_model_names,
    require_model_name,
)
from prediction_contract.naming.job_names import PROCESSING_LOG_GROUP, TRAINING_LOG_GROUP
from prediction_contract.naming.serving_names import READ_SCOPE, require_provider_name
from prediction_contract.naming.warehouse_names import SNOWFLAKE_SCHEMA, SNOWFLAKE_STAGE

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
    "require_model_name",
    "require_provider_name",
]

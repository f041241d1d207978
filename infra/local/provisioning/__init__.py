"""Create on the running local stack what CDK creates on AWS: same names, same schemas, same policies."""

from infra.local.provisioning.clients import ProvisioningError
from infra.local.provisioning.provisioned_stack import provision

__all__ = ["ProvisioningError", "provision"]

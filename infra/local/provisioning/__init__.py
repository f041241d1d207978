"""Create on the running local stack what CDK creates on AWS: same names, same schemas, same policies."""

from infra.local.provisioning.provisioned_stack import provision
from infra.local.provisioning.provisioning_error import ProvisioningError

__all__ = ["ProvisioningError", "provision"]

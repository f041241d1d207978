"""The roles, the images and the Glue job."""

from __future__ import annotations

import json
import logging
import urllib.error
import urllib.request
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote

from infra.local.provisioning.clients import ProvisioningError, none_on_error
from infra.permissions.policy_statements import POLICY_NAME

if TYPE_CHECKING:
    from infra.definitions.resource_definitions import GlueJobDefinition
    from infra.permissions.policy_statements import RoleDefinition

_LOG = logging.getLogger(__name__)
_ANSWER_SECONDS = 30


def local_trust(role: RoleDefinition, account_id: str) -> dict[str, Any]:
    """Return a role's trust policy, extended so that local stand-ins of the service can assume the role.

    No local client can call as `glue.amazonaws.com`: the job executor assumes roles with the root key.
    """
    policy = role.trust_policy()
    stand_in = {
        "Sid": "ServiceStandIn",
        "Effect": "Allow",
        "Principal": {"AWS": f"arn:aws:iam::{account_id}:root"},
        "Action": "sts:AssumeRole",
    }
    return {**policy, "Statement": [*policy["Statement"], stand_in]}


def ensure_role(iam: Any, role: RoleDefinition, account_id: str) -> None:
    """Create the role or update its trust and permissions to the definition."""
    trust = local_trust(role, account_id)
    current = none_on_error("NoSuchEntity", iam.get_role, RoleName=role.name)
    if current is None:
        iam.create_role(RoleName=role.name, AssumeRolePolicyDocument=json.dumps(trust))
        _LOG.info("created role %s", role.name)
    elif _document(current["Role"]["AssumeRolePolicyDocument"]) != trust:
        iam.update_assume_role_policy(RoleName=role.name, PolicyDocument=json.dumps(trust))
        _LOG.info("restored the trust policy of role %s", role.name)
    granted = none_on_error("NoSuchEntity", iam.get_role_policy, RoleName=role.name, PolicyName=POLICY_NAME)
    if granted is None or _document(granted["PolicyDocument"]) != role.policy():
        iam.put_role_policy(
            RoleName=role.name, PolicyName=POLICY_NAME, PolicyDocument=json.dumps(role.policy())
        )
        _LOG.info("set the permissions of role %s", role.name)


def _document(policy: Any) -> Any:
    # botocore decodes AWS's URL-quoted document, but an emulator may send a plain one.
    return json.loads(unquote(policy)) if isinstance(policy, str) else policy


def add_images(jobs_url: str, document: bytes) -> None:
    """Add images to those that the job executor knows.

    Args:
        jobs_url: The address of the job executor.
        document: The result of `images_document`.

    Raises:
        ProvisioningError: The job executor refuses them.
    """
    headers = {"Content-Type": "application/json"}
    request = urllib.request.Request(f"{jobs_url}/_executor/images", data=document, headers=headers)  # noqa: S310 -- loopback
    # A configured proxy cannot reach this machine's loopback interface.
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try:
        with opener.open(request, timeout=_ANSWER_SECONDS) as answer:
            answer.read()
    except urllib.error.HTTPError as error:
        raise ProvisioningError(
            f"The job executor refused the images: {error.read().decode(errors='replace')[:300]}",
            remedy="Run `mlpipe down`, then `mlpipe up`",
        ) from error
    except OSError as error:
        raise ProvisioningError(
            f"The job executor did not answer when images were added: {error}", remedy="See `mlpipe status`"
        ) from error


def ensure_glue_job(glue: Any, job: GlueJobDefinition) -> None:
    """Create the Glue job or restore its definition; job runs continue."""
    wanted = job.job_update()
    current = none_on_error("EntityNotFoundException", glue.get_job, JobName=job.name)
    if current is None:
        glue.create_job(Name=job.name, **wanted)
        _LOG.info("created Glue job %s", job.name)
        return
    drifted = sorted(name for name, value in wanted.items() if current["Job"].get(name) != value)
    if drifted:
        # UpdateJob replaces the whole definition, so send all of it.
        glue.update_job(JobName=job.name, JobUpdate=wanted)
        _LOG.info("restored %s of Glue job %s", ", ".join(drifted), job.name)

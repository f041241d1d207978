"""Roles and the jobs that run under them."""

from __future__ import annotations

import json
import logging
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote

from botocore.exceptions import ClientError

from infra.local.provisioning.clients import error_code
from infra.permissions.role_definitions import POLICY_NAME

if TYPE_CHECKING:
    from infra.definitions.resource_definitions import GlueJobDefinition
    from infra.permissions.role_definitions import RoleDefinition

_LOG = logging.getLogger(__name__)


def local_trust(role: RoleDefinition, account_id: str) -> dict[str, Any]:
    """Return a role's trust policy, and beside it that of whoever acts in its service's stead here.

    No local client can call as `glue.amazonaws.com`: the job executor takes a role on by the root key.
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
    """Create the role if it is missing and bring its trust and its permissions to the definition."""
    trust = local_trust(role, account_id)
    try:
        current = iam.get_role(RoleName=role.name)["Role"]["AssumeRolePolicyDocument"]
    except ClientError as error:
        if error_code(error) != "NoSuchEntity":
            raise
        iam.create_role(RoleName=role.name, AssumeRolePolicyDocument=json.dumps(trust))
        _LOG.info("created role %s", role.name)
    else:
        if _document(current) != trust:
            iam.update_assume_role_policy(RoleName=role.name, PolicyDocument=json.dumps(trust))
            _LOG.info("set the trust of role %s back", role.name)
    if _permissions(iam, role.name) != role.policy():
        iam.put_role_policy(
            RoleName=role.name, PolicyName=POLICY_NAME, PolicyDocument=json.dumps(role.policy())
        )
        _LOG.info("set the permissions of role %s", role.name)


def _permissions(iam: Any, role_name: str) -> dict[str, Any] | None:
    try:
        answer = iam.get_role_policy(RoleName=role_name, PolicyName=POLICY_NAME)
    except ClientError as error:
        if error_code(error) != "NoSuchEntity":
            raise
        return None
    return _document(answer["PolicyDocument"])


def _document(policy: Any) -> Any:
    # botocore decodes the URL-quoted document of AWS; an emulator may send it plain.
    return json.loads(unquote(policy)) if isinstance(policy, str) else policy


def ensure_glue_job(glue: Any, job: GlueJobDefinition) -> None:
    """Create the Glue job if it is missing and bring its definition back; job runs go on."""
    wanted = job.job_update()
    try:
        current = glue.get_job(JobName=job.name)["Job"]
    except ClientError as error:
        if error_code(error) != "EntityNotFoundException":
            raise
        glue.create_job(Name=job.name, **wanted)
        _LOG.info("created Glue job %s", job.name)
        return
    drifted = sorted(name for name, value in wanted.items() if current.get(name) != value)
    if drifted:
        # UpdateJob replaces the whole definition, so it always gets all of it.
        glue.update_job(JobName=job.name, JobUpdate=wanted)
        _LOG.info("set %s of Glue job %s back", ", ".join(drifted), job.name)

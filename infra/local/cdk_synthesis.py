"""Write the CloudFormation templates of stages and check them with cdk-nag and cfn-lint: `mlpipe synth`."""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
from pathlib import Path

from infra.environments.environment_cache import cache_folder
from infra.environments.platform_environments import import_path, make_platform_environment
from infra.local.stack.command_line import say
from infra.packaging import PLATFORM
from model_declaration.project import VARIABLE, Project
from prediction_contract.errors import ContractError


def main(arguments: list[str] | None = None) -> int:
    """Write the templates; return 0 if no rule has findings."""
    parser = argparse.ArgumentParser(prog="python -m infra.local.cdk_synthesis", description=__doc__)
    parser.add_argument("stages", nargs="*", help="stages of stages.yaml; default: all")
    stages = parser.parse_args(arguments).stages
    try:
        project = Project.find(os.environ, Path.cwd())
        project.make_state_folder()
        cache = cache_folder(os.environ)
        environment = make_platform_environment("cdk", cache, say=say)
    except ContractError as error:
        say(f"mlpipe synth: {error}", stream=sys.stderr)
        return 1
    variables = {**os.environ, VARIABLE: str(project.root), "PYTHONPATH": import_path(cache)}
    synthesis = [str(environment.python), "-m", "infra.app", *stages, "--out", str(project.templates)]
    status = subprocess.run(synthesis, cwd=PLATFORM, env=variables, check=False).returncode
    if status != 0:
        return status
    templates = sorted(str(path) for path in project.templates.glob("*/*.template.json"))
    return subprocess.run([str(environment.program("cfn-lint")), *templates], check=False).returncode


if __name__ == "__main__":
    sys.exit(main())

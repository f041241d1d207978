"""Deploy the CDK app to a temporary AWS emulator, test it and destroy it: `mlpipe deploy-local`.

The CDK's command line bootstraps and deploys every stack. Then `cdk diff` must find no difference, a request
must pass through load balancer and function to DynamoDB, and `cdk destroy` must leave nothing.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path
from typing import TYPE_CHECKING, Any

from infra.environments.environment_cache import cache_folder
from infra.environments.platform_environments import make_cdk_tools
from infra.local.access_token import obtain_token
from infra.local.cdk import ACCOUNT_ID, DOMAIN, REGION, STAGE
from infra.local.cdk.cdk_command import CdkCommand
from infra.local.provisioning.clients import Clients
from infra.local.stack.command_line import say
from infra.local.stack.stack_control import StackControl
from infra.local.supervision.stack_state import StackDirectory, StackError, read_ports
from model_declaration.project import Project
from prediction_contract.errors import ContractError
from prediction_contract.naming.resource_names import Deployment

if TYPE_CHECKING:
    from collections.abc import Callable

    from infra.environments.platform_environments import CdkTools

_STACK = f"mlpipe-{STAGE}"
_REQUEST_SECONDS = 30


class LocalDeployment:
    """The stage on a running emulator.

    Args:
        port: The emulator's port.
        folder: The folder for templates and logs.
        tools: The CDK's tools.
        say: Receives the lines of output.
    """

    def __init__(self, port: int, folder: Path, tools: CdkTools, say: Callable[[str], None]) -> None:
        self.deployment = Deployment(STAGE, ACCOUNT_ID, REGION)
        self.endpoint = f"http://127.0.0.1:{port}"
        self.clients = Clients(aws=self.endpoint, jobs=self.endpoint, region=REGION)
        self._cdk = CdkCommand(port, folder / "app", folder / "cdk.log", tools)
        self._outputs = folder / "outputs.json"
        self._say = say

    def deploy(self) -> None:
        """Deploy all stacks, first the one with the token issuer, since the API's settings need its ids.

        Raises:
            CdkCommandError: A command of the CDK failed.
        """
        zone = self._zone()
        self._cdk.synthesise("--hosted-zone", zone)
        self._cdk.run("bootstrap", f"aws://{ACCOUNT_ID}/{REGION}")
        self._deploy(f"{_STACK}-data")
        outputs = json.loads(self._outputs.read_text())[f"{_STACK}-data"]
        pool, client = outputs["TokenPoolId"], outputs["TokenClientId"]
        self._cdk.synthesise("--hosted-zone", zone, "--token-pool", pool, "--token-client", client)
        self._deploy("--all")
        self._keep_client_credentials(pool, client)
        self._register_target()

    def differences(self) -> str:
        """Return the output of `cdk diff`.

        Raises:
            CdkCommandError: There is a difference.
        """
        return self._cdk.run("diff", "--all", "--fail")

    def ask(self, path: str) -> Any:
        """Return the API's answer to a request with a token, through the load balancer.

        Raises:
            StackError: There is no answer, or its status is not 200.
        """
        request = urllib.request.Request(  # noqa: S310  # the emulator's own address
            f"{self.endpoint}/_alb/{self.deployment.api_load_balancer}{path}",
            # The emulator finds the listener by the port in `Host`, and does not speak TLS.
            headers={"Authorization": f"Bearer {self._token()}", "Host": "127.0.0.1:443"},
        )
        try:
            with urllib.request.urlopen(request, timeout=_REQUEST_SECONDS) as answer:  # noqa: S310
                return json.load(answer)
        except (urllib.error.URLError, ValueError) as error:
            raise StackError(
                f"GET {path} through the load balancer failed: {error}",
                remedy="See the emulator's log",
            ) from error

    def destroy(self) -> None:
        """Destroy all stacks.

        Raises:
            CdkCommandError: A command of the CDK failed.
            StackError: A stack or resource is left.
        """
        self._cdk.run("destroy", "--all", "--force")
        stacks = self.clients.client("cloudformation").describe_stacks()["Stacks"]
        names = {each["StackName"] for each in stacks if each["StackStatus"] != "DELETE_COMPLETE"}
        left = sorted(name for name in names if name.startswith(_STACK))
        tables = self.clients.client("dynamodb").list_tables()["TableNames"]
        buckets = [each["Name"] for each in self.clients.client("s3").list_buckets()["Buckets"]]
        left += [name for name in (*tables, *buckets) if name.startswith(_STACK)]
        if left:
            raise StackError(f"cdk destroy left {', '.join(left)}", remedy="See the CDK's log")

    def _deploy(self, *stacks: str) -> None:
        parameters = ("--parameters", f"{_STACK}-orchestration:DagsterImageTag=local")
        arguments = ("--require-approval", "never", "--outputs-file", str(self._outputs))
        self._cdk.run("deploy", *stacks, *arguments, *(parameters if "--all" in stacks else ()))
        self._say(f"deployed {' '.join(stacks)}")

    def _zone(self) -> str:
        """Create the hosted zone, which a company already has, and return its id."""
        route53 = self.clients.client("route53")
        made = route53.create_hosted_zone(Name=DOMAIN, CallerReference=str(time.time_ns()))
        return made["HostedZone"]["Id"].rpartition("/")[2]

    def _keep_client_credentials(self, pool: str, client: str) -> None:
        """Write the token client's credentials into the clients' secret, as a person does after deploying."""
        cognito = self.clients.client("cognito-idp")
        found = cognito.describe_user_pool_client(UserPoolId=pool, ClientId=client)["UserPoolClient"]
        document = {"client_id": client, "client_secret": found["ClientSecret"]}
        self.clients.client("secretsmanager").put_secret_value(
            SecretId=self.deployment.token_client_secret, SecretString=json.dumps(document)
        )

    def _register_target(self) -> None:
        """Register the function's alias, because the emulator drops a target group's targets."""
        balancing = self.clients.client("elbv2")
        group = balancing.describe_target_groups(Names=[self.deployment.api_load_balancer])["TargetGroups"][0]
        alias = f"{self.deployment.api_function_arn}:{self.deployment.api_alias}"
        balancing.register_targets(TargetGroupArn=group["TargetGroupArn"], Targets=[{"Id": alias}])

    def _token(self) -> str:
        return obtain_token(
            {
                "AWS_ENDPOINT_URL": self.endpoint,
                "AWS_REGION": REGION,
                "MLPIPE_TOKEN_URL": f"{self.endpoint}/oauth2/token",
                "MLPIPE_TOKEN_SCOPE": self.deployment.read_scope,
                "MLPIPE_TOKEN_CLIENT_SECRET_NAME": self.deployment.token_client_secret,
            }
        )


def main(arguments: list[str] | None = None) -> int:
    """Deploy, compare, send a request, destroy; return 0 if all of it succeeded."""
    parser = argparse.ArgumentParser(prog="python -m infra.local.cdk_deployment", description=__doc__)
    parser.add_argument("--folder", type=Path, help="work folder; default: .mlpipe/cdk-local in the project")
    options = parser.parse_args(arguments)
    try:
        project = Project.find(os.environ, Path.cwd())
        _deploy_and_destroy(project, (options.folder or project.state_folder / "cdk-local").resolve())
    except (StackError, ContractError) as error:
        sys.stderr.write(f"mlpipe deploy-local: {error}\n")
        return 1
    return 0


def _deploy_and_destroy(project: Project, folder: Path) -> None:
    tools = make_cdk_tools(cache_folder(os.environ), say=say)
    directory = StackDirectory(folder / "state")
    control = StackControl(
        directory, folder / "environment", project, say=say, names=["aws"], provisioned=False
    )
    if directory.root.exists():
        control.down()
        shutil.rmtree(folder)
    folder.mkdir(parents=True, exist_ok=True)
    control.up()
    try:
        _test_deployment(LocalDeployment(read_ports(directory)["aws"], folder, tools, say))
    finally:
        control.down()


def _test_deployment(local: LocalDeployment) -> None:
    began = time.monotonic()
    local.deploy()
    local.differences()
    say("cdk diff finds no difference")
    models = local.ask("/v1/models")["models"]
    say(f"GET /v1/models passed load balancer, function and DynamoDB: {len(models)} live models")
    local.destroy()
    say(f"destroyed everything; the whole test took {time.monotonic() - began:.0f} s")


if __name__ == "__main__":
    sys.exit(main())

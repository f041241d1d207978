"""Print a bearer token for the local API: `mlpipe token`.

Like every client, it reads its secret from Secrets Manager and requests a token with client credentials. Only
the token goes to standard output, so `$(mlpipe token)` can be used in a header.
"""

from __future__ import annotations

import argparse
import base64
import json
import os
import sys
import urllib.error
import urllib.parse
import urllib.request
from pathlib import Path

from botocore.exceptions import BotoCoreError, ClientError

from infra.local.provisioning.clients import Clients, require_loopback
from infra.local.stack.environment_file import read_environment_file
from infra.local.supervision.stack_state import StackError
from model_declaration.project import Project
from prediction_contract.errors import ContractError

_DEADLINE_SECONDS = 30
_NEEDED = (
    "AWS_ENDPOINT_URL",
    "AWS_REGION",
    "MLPIPE_TOKEN_URL",
    "MLPIPE_TOKEN_SCOPE",
    "MLPIPE_TOKEN_CLIENT_SECRET_NAME",
)


def read_variables(file: Path) -> dict[str, str]:
    """Read the variables that are needed for a token from `.env`.

    Raises:
        StackError: The file is unreadable or one of the variables is missing.
    """
    variables = read_environment_file(file)
    missing = [name for name in _NEEDED if not variables.get(name)]
    if missing:
        raise StackError(f"{file} lacks {', '.join(missing)}", remedy="Run `mlpipe up`, which writes it")
    return variables


def obtain_token(variables: dict[str, str]) -> str:
    """Return an access token with the read scope, valid for an hour.

    Args:
        variables: The variables from `.env`.

    Raises:
        StackError: The local stack does not answer, or refuses the request.
    """
    try:
        endpoint = require_loopback(variables["AWS_ENDPOINT_URL"], "address in AWS_ENDPOINT_URL")
        token_url = require_loopback(variables["MLPIPE_TOKEN_URL"], "address in MLPIPE_TOKEN_URL")
        secrets = Clients(endpoint, endpoint, variables["AWS_REGION"]).client("secretsmanager")
        answer = secrets.get_secret_value(SecretId=variables["MLPIPE_TOKEN_CLIENT_SECRET_NAME"])
        credentials = json.loads(answer["SecretString"])
        basic = f"{credentials['client_id']}:{credentials['client_secret']}"
    except (ClientError, BotoCoreError) as error:
        raise StackError(
            f"The token client's secret cannot be read: {error}", remedy="Run `mlpipe up`"
        ) from error
    except (ValueError, KeyError) as error:
        name = variables["MLPIPE_TOKEN_CLIENT_SECRET_NAME"]
        raise StackError(
            f"The secret {name} has no client_id and client_secret",
            remedy="Run `mlpipe up`, which rewrites it",
        ) from error
    form = {"grant_type": "client_credentials", "scope": variables["MLPIPE_TOKEN_SCOPE"]}
    request = urllib.request.Request(  # noqa: S310 -- checked above to be HTTP on this machine
        token_url,
        data=urllib.parse.urlencode(form).encode(),
        headers={"Authorization": f"Basic {base64.b64encode(basic.encode()).decode()}"},
    )
    # A configured proxy cannot reach this machine's loopback interface.
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try:
        with opener.open(request, timeout=_DEADLINE_SECONDS) as response:
            return str(json.loads(response.read())["access_token"])
    except urllib.error.HTTPError as error:
        reason = error.read().decode(errors="replace")[:200]
        raise StackError(
            f"{token_url} refused the token client: {error.code} {reason}",
            remedy="Run `mlpipe up`, which repairs the client",
        ) from error
    except (OSError, ValueError, KeyError) as error:
        raise StackError(f"{token_url} returned no token: {error}", remedy="Run `mlpipe up`") from error


def main(arguments: list[str] | None = None) -> int:
    """Print a token, or the reason why there is none."""
    parser = argparse.ArgumentParser(prog="python -m infra.local.access_token", description=__doc__)
    parser.add_argument(
        "--env-file", type=Path, help="file that `mlpipe up` writes; default: .env in the project"
    )
    options = parser.parse_args(arguments)
    try:
        file = options.env_file or Project.find(os.environ, Path.cwd()).environment_file
        token = obtain_token(read_variables(file))
    except (StackError, ContractError) as error:
        sys.stderr.write(f"{error}\n")
        return 1
    sys.stdout.write(f"{token}\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())

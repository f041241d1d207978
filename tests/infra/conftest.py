"""Fixtures: local-stack servers shared by a session's provisioning tests, and a checkout to package."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from infra import packaging
from infra.local.provisioning.clients import Clients
from tests.infra.local_servers import (
    REGION,
    LocalServers,
    aws_emulator,
    job_executor,
    provision_on,
    snowflake_stand_in,
)

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@pytest.fixture(scope="session")
def emulator(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Give the address of an AWS emulator that runs for the whole session."""
    with aws_emulator(tmp_path_factory.mktemp("emulator")) as url:
        yield url


@pytest.fixture(scope="session")
def local_servers(emulator: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalServers]:
    """Give the AWS emulator with a job executor and a Snowflake emulator."""
    with (
        job_executor(tmp_path_factory.mktemp("jobs"), emulator) as jobs,
        snowflake_stand_in(tmp_path_factory.mktemp("snowflake"), emulator) as port,
    ):
        yield LocalServers(emulator, jobs, port)


@pytest.fixture(scope="session")
def clients(
    local_servers: LocalServers,
    variables: dict[str, str],  # noqa: ARG001  # provisions the servers
) -> Clients:
    """Give clients of the provisioned servers."""
    return Clients(local_servers.aws, local_servers.jobs, REGION)


@pytest.fixture(scope="session")
def variables(local_servers: LocalServers) -> dict[str, str]:
    """Give the variables of the provisioned servers; a test that changes a resource must repair it."""
    return provision_on(local_servers)


@pytest.fixture
def checkout(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Give a small checkout, which packaging uses as the platform's."""
    root = tmp_path / "checkout"
    for package in (
        "prediction_contract",
        "prediction_batches",
        "aws_wire",
        "glue_scripts",
        "sagemaker_scripts",
    ):
        (root / package / "part").mkdir(parents=True)
        for name in ("__init__.py", "work.py", "part/__init__.py", "part/schema.json"):
            (root / package / name).write_text(f"# {package} {name}\n")
    (root / "glue_scripts" / "load_predictions.py").write_text("# the script\n")
    monkeypatch.setattr(packaging, "PLATFORM", root)
    return root

"""Servers of the local stack, one set per session, for the tests of provisioning."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

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


@pytest.fixture(scope="session")
def emulator(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Give the address of an AWS emulator that lives as long as the session."""
    with aws_emulator(tmp_path_factory.mktemp("emulator")) as url:
        yield url


@pytest.fixture(scope="session")
def local_servers(emulator: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalServers]:
    """Give the emulator together with a job executor and a Snowflake stand-in of its own."""
    with (
        job_executor(tmp_path_factory.mktemp("jobs"), emulator) as jobs,
        snowflake_stand_in(tmp_path_factory.mktemp("snowflake"), emulator) as port,
    ):
        yield LocalServers(emulator, jobs, port)


@pytest.fixture(scope="session")
def clients(local_servers: LocalServers) -> Clients:
    """Give clients of the session's servers."""
    return Clients(local_servers.aws, local_servers.jobs, REGION)


@pytest.fixture(scope="session")
def variables(local_servers: LocalServers) -> dict[str, str]:
    """Give the variables of the session's servers, provisioned once; who changes a resource repairs it."""
    return provision_on(local_servers)

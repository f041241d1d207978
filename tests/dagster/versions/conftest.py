"""Each test registers model versions on the local stack in its own stage."""

from __future__ import annotations

from typing import TYPE_CHECKING

import dagster as dg
import pytest

from tests.dagster.versions.registered_packages import RegisteredPackages

if TYPE_CHECKING:
    from collections.abc import Iterator

    from mlpipe_dagster.resources.platform import Platform
    from model_declaration.declaration import ModelDeclaration


@pytest.fixture
def registered(platform: Platform, model: ModelDeclaration) -> RegisteredPackages:
    """Return the model packages of a new model."""
    return RegisteredPackages(platform, model.name)


@pytest.fixture
def instance() -> Iterator[dg.DagsterInstance]:
    """Make an empty instance."""
    with dg.DagsterInstance.ephemeral() as made:
        yield made

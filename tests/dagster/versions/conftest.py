"""A model whose versions are registered on the local stack, each test with a stage of its own."""

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
    """The model packages of a model that no other test has."""
    return RegisteredPackages(platform, model.name)


@pytest.fixture
def instance() -> Iterator[dg.DagsterInstance]:
    """Holds runs and events."""
    with dg.DagsterInstance.ephemeral() as made:
        yield made

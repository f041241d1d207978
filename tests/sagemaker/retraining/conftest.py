"""Fixtures of a model that is retrained on an in-memory bucket."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.sagemaker.retraining.retrained_model import DAYS, FUNCTIONS, RetrainedModel, inputs_of
from tests.sagemaker.written_functions import function_writer

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path


@pytest.fixture
def make_model(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., RetrainedModel]:
    """Return a function that makes a model with delivered visits and the given functions."""
    write = function_writer(tmp_path, monkeypatch)

    def make(**functions: str) -> RetrainedModel:
        written = write(**FUNCTIONS | functions)
        folder = tmp_path / "trained"
        folder.mkdir()
        model = RetrainedModel(folder, inputs_of(written.inputs.functions))
        model.deliver(DAYS)
        return model

    return make


@pytest.fixture
def model(make_model: Callable[..., RetrainedModel]) -> RetrainedModel:
    """Give the model with its default functions."""
    return make_model()

"""The module `mlpipe`, which projects import, imports quickly and offers what `dg` needs."""

from __future__ import annotations

import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

import mlpipe
from mlpipe_dagster.components.prediction_pipeline import PredictionPipeline
from model_declaration.declaration_files import declaration_in
from tests.declaration.test_declaration_files import TEXT

if TYPE_CHECKING:
    from pathlib import Path


def test_import_loads_neither_dagster_nor_pydantic() -> None:
    """`dg` imports the module in every project of an environment, so it must be fast."""
    program = "import sys, mlpipe; print(dir(mlpipe), 'dagster' in sys.modules, 'pydantic' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout == "['PredictionPipeline', 'definitions'] False False\n"


def test_module_offers_exactly_its_listed_names() -> None:
    """Listed names exist, and any other name raises an AttributeError."""
    assert mlpipe.PredictionPipeline is PredictionPipeline
    assert all(callable(getattr(mlpipe, name)) for name in mlpipe.__all__)
    with pytest.raises(AttributeError, match="'mlpipe' has no attribute 'anything'"):
        mlpipe.anything  # noqa: B018  # asked for on purpose


def test_declarations_with_former_component_name_are_read(tmp_path: Path) -> None:
    """Earlier versions named the component by its full module path."""
    path = tmp_path / "defs" / "things" / "defs.yaml"
    path.parent.mkdir(parents=True)
    path.write_text(TEXT)
    declared = declaration_in(path)
    assert declared is not None
    module = PredictionPipeline.__module__
    path.write_text(TEXT.replace("mlpipe.PredictionPipeline", f"{module}.PredictionPipeline"))
    assert declaration_in(path) == declared

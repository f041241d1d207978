"""Write a model's functions into a new package."""

from __future__ import annotations

import itertools
import textwrap
from typing import TYPE_CHECKING, Any

from prediction_contract.jobs.model_inputs import ModelInputs
from sagemaker_scripts.functions.function_calls import ModelFunctions

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    import pytest

_NUMBERS = itertools.count()


def function_writer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., ModelFunctions]:
    """Return a function that writes modules of the given texts and returns the model that uses them."""

    def write(*, tables: str = "pandas", whole: bool = False, **functions: str) -> ModelFunctions:
        # Python caches imported modules, so each call needs a new package.
        package = f"acme_{next(_NUMBERS)}"
        folder = tmp_path / "src" / package / "defs" / "churn"
        folder.mkdir(parents=True)
        for name, text in functions.items():
            (folder / f"{name}.py").write_text(textwrap.dedent(text))
        monkeypatch.syspath_prepend(str(tmp_path / "src"))
        given: dict[str, Any] = {"functions": f"{package}.defs.churn", "tables": tables, "whole": whole}
        return ModelFunctions(ModelInputs(model="churn", **given))

    return write

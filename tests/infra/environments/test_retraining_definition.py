"""Test that the reviewed retraining definition equals what SageMaker's SDK generates."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from infra.environments.environment_cache import cache_folder
from infra.environments.platform_environments import make_platform_environment

ROOT = Path(__file__).resolve().parents[3]


@pytest.mark.slow
@pytest.mark.parametrize("seed", ["1", "2"])
def test_definition_equals_what_the_sdk_generates(seed: str) -> None:
    """The SDK generates the same definition with any hash seed, without credentials and without AWS."""
    python = make_platform_environment("sagemaker", cache_folder(os.environ), say=print).python
    variables = {name: os.environ[name] for name in ("HOME", "PATH") if name in os.environ}
    nowhere = {"HTTPS_PROXY": "http://127.0.0.1:9", "HTTP_PROXY": "http://127.0.0.1:9"}
    done = subprocess.run(
        [str(python), "-m", "infra.retraining_pipeline", "--check"],
        cwd=ROOT,
        env={**variables, **nowhere, "PYTHONHASHSEED": seed},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stderr

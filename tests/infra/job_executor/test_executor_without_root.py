"""Test of the executor without the right to mount, where scripts find their files by `MLPIPE_ML_ROOT`."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.infra.job_executor.job_stack import Aws, Executor, processing_request, sagemaker_end

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.stack


def test_jobs_run_without_private_mounts(
    aws: Aws, name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without `unshare`, files lie in the state directory, and `/opt/ml` in commands is mapped to it."""
    monkeypatch.setenv("PATH", "/nowhere")
    executor = Executor(aws.url, tmp_path / "state").start()
    try:
        script = """
            import os, pathlib, sys
            root = pathlib.Path(os.environ["MLPIPE_ML_ROOT"])
            print(root.is_relative_to(sys.argv[1]))
            print(pathlib.Path(sys.argv[2]).is_file(), pathlib.Path(sys.argv[2]).is_relative_to(root))
        """
        request = processing_request(aws, name, script)
        code = "/opt/ml/processing/input/code/script.py"
        request["AppSpecification"]["ContainerArguments"] = [str(tmp_path / "state"), code]
        executor.client("sagemaker").create_processing_job(**request)
        assert sagemaker_end(executor, "Processing", name)["ProcessingJobStatus"] == "Completed"
        assert aws.logs("/aws/sagemaker/ProcessingJobs", f"{name}/algo-1-") == ["True", "True True"]
    finally:
        assert executor.stop() == 0

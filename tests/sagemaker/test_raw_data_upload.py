"""Tests of the command that puts the raw data on the local stack."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from infra.local.raw_data import main
from infra.local.supervision.stack_state import StackError

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tests.stack_runs import LocalStack

DAYS = ["--first", "2013-03-01", "--last", "2013-03-02"]


@pytest.mark.stack
def test_a_second_upload_writes_only_what_differs(
    local_stack: LocalStack, aws_client: Callable[[str], Any], capsys: pytest.CaptureFixture[str]
) -> None:
    """Two days of two tables are four objects; what is there stays, and what was altered is restored."""
    file = local_stack.state_directory.with_name(f"{local_stack.state_directory.name}.env")
    bucket = local_stack.environment["MLPIPE_DATA_BUCKET"]
    said = []
    for _ in range(2):
        assert main([*DAYS, "--env-file", str(file)]) == 0
        said.append(capsys.readouterr().out.split(" ", 1)[0])
    assert said == ["4", "0"]
    s3 = aws_client("s3")
    key = "raw/nycflights13/weather/dt=2013-03-02/weather.csv.gz"
    s3.put_object(Bucket=bucket, Key=key, Body=b"altered")
    assert main([*DAYS, "--env-file", str(file)]) == 0
    assert capsys.readouterr().out.startswith("1 objects")
    assert s3.get_object(Bucket=bucket, Key=key)["Body"].read() != b"altered"


def test_without_a_stack_the_command_says_what_to_do(tmp_path: Path) -> None:
    """An environment file that `make up` did not write names no endpoint."""
    with pytest.raises(StackError, match="Run `mlpipe up` first"):
        main(["--env-file", str(tmp_path / "missing.env")])

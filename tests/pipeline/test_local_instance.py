"""The local instance's file is one that Dagster takes."""

from __future__ import annotations

from pathlib import Path

import dagster as dg

import mlpipe_dagster

LOCAL = Path(mlpipe_dagster.__file__).parent / "instances" / "local.yaml"


def test_dagster_takes_the_local_instance(tmp_path: Path) -> None:
    """Runs are limited to what two cores bear, and their slots come free when they end."""
    (tmp_path / "dagster.yaml").write_bytes(LOCAL.read_bytes())
    with dg.DagsterInstance.from_config(str(tmp_path)) as instance:
        queue = instance.get_concurrency_config().run_queue_config
        assert queue is not None
        assert queue.max_concurrent_runs == 2
        assert instance.run_monitoring_enabled
        assert instance.run_retries_enabled
        assert not instance.telemetry_enabled

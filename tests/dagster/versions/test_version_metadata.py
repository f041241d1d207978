"""The metadata of a version that Dagster shows."""

from __future__ import annotations

from dataclasses import replace

from mlpipe_dagster.versions.version_metadata import verdict_metadata
from tests.contract.test_retraining_documents import VERDICT


def test_version_shows_trained_rows_and_libraries() -> None:
    """A verdict that lacks them shows neither."""
    shown = verdict_metadata(replace(VERDICT, libraries={"sklearn": "1.9.1", "skops": "0.16.0"}))
    assert (shown["trained_rows"], shown["libraries"]) == (720, "sklearn 1.9.1, skops 0.16.0")
    silent = verdict_metadata(replace(VERDICT, trained_rows=None, libraries={}))
    assert not {"trained_rows", "libraries"} & set(silent)
